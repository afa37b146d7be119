//go:build linux && cgo

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"joulepipe/pkg/gpu/nvml/nvmltest"
	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
)

// trace is what nvpoll wrote, by kind.
type trace struct {
	header    record.Header
	samples   map[int][]record.Sample
	counters  map[int][]record.Counter
	powers    map[int][]record.Power
	processes []record.Process
	end       record.End
}

// pollStub runs nvpoll on the stub library with this script and reads its
// output.
func pollStub(t *testing.T, script []string, args ...string) (tr trace, stderr string) {
	t.Helper()
	dir := nvmltest.Build(t)
	nvmltest.Script(t, filepath.Join(dir, nvmltest.ScriptName), script...)
	cmd := exec.Command("nvpoll", append([]string{"--nvml-library", filepath.Join(dir, nvmltest.Library)}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, errs.String())
	}
	tr.samples, tr.counters, tr.powers = map[int][]record.Sample{}, map[int][]record.Counter{}, map[int][]record.Power{}
	in := stream.NewReader(&out, "trace")
	for in.Scan() {
		switch r := in.Record().(type) {
		case *record.Header:
			tr.header = *r
		case *record.Sample:
			tr.samples[r.GPU] = append(tr.samples[r.GPU], *r)
		case *record.Counter:
			tr.counters[r.GPU] = append(tr.counters[r.GPU], *r)
		case *record.Power:
			tr.powers[r.GPU] = append(tr.powers[r.GPU], *r)
		case *record.Process:
			tr.processes = append(tr.processes, *r)
		case *record.End:
			tr.end = *r
		default:
			t.Errorf("a record of kind %s", r.Kind())
		}
	}
	if err := in.Err(); err != nil {
		t.Fatal(err)
	}
	return tr, errs.String()
}

func TestNVML(t *testing.T) {
	t.Parallel()
	tr, stderr := pollStub(t, []string{
		"gpus 2",
		"power_mw 0 124000",
		"power_mw 1 80000",
		"temp_c 1 41",
		"delay_ms nvmlDeviceGetTotalEnergyConsumption 0 300",
		"error field:186 1 NVML_ERROR_NOT_SUPPORTED",
	}, "--duration", "1500ms", "--counter-period", "50ms")
	if stderr != "" {
		t.Errorf("stderr: %s", stderr)
	}
	if len(tr.header.GPUs) != 2 || tr.header.GPUs[1].Index != 1 || tr.header.GPUs[0].Channels["sample"] != "ok" {
		t.Errorf("header: %+v", tr.header)
	}
	for gpu, watts := range []float64{124, 80} {
		samples, stats := tr.samples[gpu], tr.end.Poller.GPUs[gpu]
		if n := int64(len(samples)); n+stats.DroppedTicks != 15 || n < 3 || stats.SamplesTotal != n {
			t.Errorf("GPU %d: %d samples and %d dropped of 15 ticks", gpu, n, stats.DroppedTicks)
		}
		for i, s := range samples {
			if s.PowerW != record.Some(watts) || !s.ReadOK || s.PowerInstantW.OK != (gpu == 0) || gpu == 1 && s.TempC.V != 41 {
				t.Errorf("GPU %d: %+v", gpu, s)
			}
			if i > 0 && (s.Tick.V <= samples[i-1].Tick.V || s.TimeNS <= samples[i-1].TimeNS) {
				t.Errorf("GPU %d: tick %d at %d after tick %d at %d", gpu, s.Tick.V, s.TimeNS, samples[i-1].Tick.V, samples[i-1].TimeNS)
			}
		}
		if len(tr.powers[gpu]) == 0 {
			t.Errorf("GPU %d: no power records", gpu)
		}
	}
	// Calls of 300 ms: six fit into the time, and the last one at its end.
	if n := len(tr.counters[0]); n == 0 || n > 7 {
		t.Errorf("GPU 0: %d counter records of calls that take 300 ms", n)
	}
	if c := tr.end.Poller.GPUs[0].Channels["counter"]; c.CallP50MS.V < 300 {
		t.Errorf("GPU 0: counter calls of %v ms", c.CallP50MS.V)
	}
	if len(tr.counters[1]) <= len(tr.counters[0]) {
		t.Errorf("GPU 1: %d counter records, held up by GPU 0", len(tr.counters[1]))
	}
}

// Two processes on a GPU, of which one ends, and a driver that does not answer
// for some time.
func TestProcesses(t *testing.T) {
	t.Parallel()
	tr, stderr := pollStub(t, []string{
		"processes 0 realtime 20",
		"process 0 4194301 60 30 512",
		"process 0 4194302 20 10 -",
		"@0.5 process 0 4194302 off",
		"@0.7 error nvmlDeviceGetProcessUtilization 0 NVML_ERROR_UNKNOWN",
		"@0.9 error nvmlDeviceGetProcessUtilization 0 NVML_SUCCESS",
		"@1.1 process 0 4194301 off",
	}, "--duration", "3s", "--channels", "sample,process", "--process-period", "50ms")
	if stderr != "" {
		t.Errorf("stderr: %s", stderr)
	}
	last := map[int64]int64{} // until when each was told of
	n := map[int64]int{}
	failed, idle, failedAt, idleFrom := 0, 0, int64(0), int64(0)
	for _, p := range tr.processes {
		pid, ok := p.PID.Get()
		switch {
		case p.Error != "":
			failed++
			failedAt = p.TimeNS
			if ok || p.SMUtil.OK || p.Error != "NVML_ERROR_UNKNOWN" || p.TimeNS <= p.StartNS {
				t.Errorf("a call that failed: %+v", p)
			}
			continue
		case !ok:
			if idle++; idle == 1 {
				idleFrom = p.StartNS
			}
			continue
		}
		want := record.Process{
			StartNS: p.StartNS, TimeNS: p.TimeNS, PID: record.Some(int64(4194301)),
			SMUtil: record.Some(60.0), MemUtil: record.Some(30.0), VRAMUsedMB: record.Some(512.0),
		}
		if pid == 4194302 {
			want.PID.V, want.SMUtil.V, want.MemUtil.V, want.VRAMUsedMB = pid, 20, 10, record.Opt[float64]{}
		}
		if p != want {
			t.Errorf("\n got %+v\nwant %+v", p, want)
		}
		if n[pid] > 0 && p.StartNS != last[pid] {
			t.Errorf("process %d goes on from %d, had come to %d", pid, p.StartNS, last[pid])
		}
		last[pid] = p.TimeNS
		n[pid]++
	}
	if n[4194301] < 5 || n[4194302] < 2 || failed == 0 || idle == 0 {
		t.Errorf("%v records of processes, %d calls that failed, %d that told of none", n, failed, idle)
	}
	if idleFrom < failedAt || idleFrom < last[4194301]-1 {
		t.Errorf("none at work from %d; the call that failed last was at %d, the last process worked until %d", idleFrom, failedAt, last[4194301])
	}
	c := tr.end.Poller.GPUs[0].Channels["process"]
	if c.Records != int64(len(tr.processes)) || c.Errors["NVML_ERROR_UNKNOWN"] != int64(failed) || c.Clock != "realtime" {
		t.Errorf("account %+v of %d records, %d failures", c, len(tr.processes), failed)
	}
	// Nobody asks for them unasked.
	tr, _ = pollStub(t, []string{"process 0 4194301 60 30"}, "--duration", "200ms")
	if len(tr.processes) != 0 || tr.header.GPUs[0].Channels["process"] != "ok" {
		t.Errorf("%d records that nobody asked for; header %+v", len(tr.processes), tr.header.GPUs[0])
	}
}

func TestLostGPU(t *testing.T) {
	t.Parallel()
	tr, stderr := pollStub(t, []string{
		"gpus 2",
		"@0.5 lost 1",
		"@1 lost 1 off",
	}, "--duration", "4s", "--channels", "sample")
	var failed, after int
	for _, s := range tr.samples[1] {
		switch {
		case !s.ReadOK:
			failed++
			if s.Error != "NVML_ERROR_GPU_IS_LOST" || s.PowerW.OK {
				t.Errorf("failed reading: %+v", s)
			}
		case failed > 0:
			after++
		}
	}
	if failed == 0 || after == 0 {
		t.Errorf("%d readings failed, %d succeeded after that", failed, after)
	}
	for _, s := range tr.samples[0] {
		if !s.ReadOK {
			t.Errorf("GPU 0: %+v", s)
		}
	}
	if strings.Count(stderr, "GPU 1 is lost") != 1 || strings.Count(stderr, "GPU 1 is back") != 1 {
		t.Errorf("stderr: %s", stderr)
	}
	if n := tr.end.Poller.GPUs[1].Errors["NVML_ERROR_GPU_IS_LOST"]; n != int64(failed) {
		t.Errorf("%d readings failed, the account has %d", failed, n)
	}
}

func TestHungDriver(t *testing.T) {
	t.Parallel()
	tr, stderr := pollStub(t, []string{
		"gpus 2",
		"delay_ms nvmlDeviceGetTotalEnergyConsumption 0 4000", // the opening asks once, too
	}, "--duration", "500ms", "--channels", "sample,counter")
	if !strings.Contains(stderr, "no answer within 1s from the driver for GPU 0 counter") {
		t.Errorf("stderr: %s", stderr)
	}
	if len(tr.samples[0]) == 0 || len(tr.counters[1]) == 0 || tr.end.Poller == nil {
		t.Errorf("%d samples, %d counter records, end %+v", len(tr.samples[0]), len(tr.counters[1]), tr.end)
	}
}

func TestMissingChannels(t *testing.T) {
	t.Parallel()
	script := []string{"error nvmlDeviceGetTotalEnergyConsumption * NVML_ERROR_NOT_SUPPORTED"}
	tr, stderr := pollStub(t, script, "--duration", "200ms", "--channels", "sample,counter")
	if want := "GPU 0 has no channel counter: NVML_ERROR_NOT_SUPPORTED"; !strings.Contains(stderr, want) {
		t.Errorf("stderr %q does not say %q", stderr, want)
	}
	if tr.header.GPUs[0].Channels["counter"] != "NVML_ERROR_NOT_SUPPORTED" || len(tr.samples[0]) == 0 {
		t.Errorf("header %+v, %d samples", tr.header, len(tr.samples[0]))
	}

	dir := nvmltest.Build(t)
	nvmltest.Script(t, filepath.Join(dir, nvmltest.ScriptName), script...)
	cmd := exec.Command("nvpoll", "--nvml-library", filepath.Join(dir, nvmltest.Library), "--channels", "counter", "-o", filepath.Join(dir, "trace"))
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != 4 || !strings.Contains(string(out), "nothing to poll: GPU 0 has no channel counter") {
		t.Errorf("%v: exit status %d (%v)\n%s", cmd.Args, code, err, out)
	}
	if _, err := os.Stat(filepath.Join(dir, "trace")); err == nil {
		t.Error("a trace was created with nothing to poll")
	}
}
