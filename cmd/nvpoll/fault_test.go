//go:build linux && cgo

package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/gpu/nvml/nvmltest"
	"joulepipe/pkg/record"
	"joulepipe/pkg/stream"
)

// holes are the ticks that are missing between samples, which are in order and
// none of them early.
func holes(t *testing.T, samples []record.Sample) (lost int64) {
	t.Helper()
	for i := 1; i < len(samples); i++ {
		before, after := samples[i-1], samples[i]
		if after.Tick.V <= before.Tick.V {
			t.Errorf("tick %d after tick %d", after.Tick.V, before.Tick.V)
		}
		lost += after.Tick.V - before.Tick.V - 1
		if after.LateUS.V < 0 {
			t.Errorf("tick %d was read %v µs early", after.Tick.V, -after.LateUS.V)
		}
	}
	return lost
}

// Readings of 240 ms, as while another process makes a context: ticks are lost,
// counted and explained, no other reading comes early to make up for them, and
// the other GPU does not notice.
func TestSlowReadings(t *testing.T) {
	t.Parallel()
	tr, stderr := pollStub(t, []string{
		"gpus 2",
		"delay_ms nvmlDeviceGetPowerUsage 0 0",
		"@0.5 delay_ms nvmlDeviceGetPowerUsage 0 240",
		"@1.5 delay_ms nvmlDeviceGetPowerUsage 0 0",
	}, "--duration", "3s", "--channels", "sample")
	if stderr != "" {
		t.Errorf("stderr: %s", stderr)
	}
	slow := 0
	for _, s := range tr.samples[0] {
		if !s.ReadOK {
			t.Errorf("%+v", s)
		}
		if s.ReadUS.V >= 240e3 {
			slow++
		}
	}
	if slow < 2 || slow > 5 {
		t.Errorf("%d readings of 240 ms in a second", slow)
	}
	for gpu, samples := range tr.samples {
		lost, stats := holes(t, samples), tr.end.Poller.GPUs[gpu]
		if stats.DroppedTicks < lost || stats.DroppedTicks+int64(len(samples)) != 30 {
			t.Errorf("GPU %d: %d samples, %d ticks in holes and %d dropped of 30", gpu, len(samples), lost, stats.DroppedTicks)
		}
	}
	if lost := holes(t, tr.samples[0]); lost < int64(2*slow-2) {
		t.Errorf("%d readings of 240 ms cost %d ticks of 100 ms", slow, lost)
	}
	if a, b := len(tr.samples[0]), len(tr.samples[1]); b <= a {
		t.Errorf("%d samples of the slow GPU, %d of the other", a, b)
	}
}

// A reading that hangs for seconds: the other GPU and the GPU's own counter go
// on, and the ticks it cost are a gap in the account.
func TestHungReading(t *testing.T) {
	t.Parallel()
	tr, _ := pollStub(t, []string{
		"gpus 2",
		"delay_ms nvmlDeviceGetPowerUsage 0 0",
		"@0.5 delay_ms nvmlDeviceGetPowerUsage 0 2000",
		"@0.9 delay_ms nvmlDeviceGetPowerUsage 0 0",
	}, "--duration", "4s", "--channels", "sample,counter")
	mine, stats := tr.samples[0], tr.end.Poller.GPUs[0]
	holes(t, mine)
	if int64(len(mine))+stats.DroppedTicks != 40 || stats.DroppedTicks < 19 || stats.GapCount < 1 || stats.ContinuityQuality != "degraded" {
		t.Errorf("%d samples, account %+v", len(mine), stats)
	}
	if last := mine[len(mine)-1]; last.Tick.V < 30 {
		t.Errorf("the last sample is of tick %d: it did not go on", last.Tick.V)
	}
	if n := len(tr.samples[1]); n <= len(mine) {
		t.Errorf("%d samples of GPU 1, which does not hang, %d of GPU 0", n, len(mine))
	}
	i := slices.IndexFunc(mine, func(s record.Sample) bool { return s.ReadUS.V >= 2e6 })
	if i < 0 {
		t.Fatal("no reading of 2 s")
	}
	meanwhile := 0 // the sample's time is the middle of the call
	for _, c := range tr.counters[0] {
		if d := c.TimeNS - mine[i].TimeNS; -900e6 < d && d < 900e6 {
			meanwhile++
		}
	}
	if meanwhile < 5 {
		t.Errorf("%d counter readings while the sample hung", meanwhile)
	}
}

func TestImplausibleReadings(t *testing.T) {
	t.Parallel()
	for _, mw := range []int64{0, 4294967295, 1400001} {
		t.Run(fmt.Sprint(mw), func(t *testing.T) {
			t.Parallel()
			tr, _ := pollStub(t, []string{fmt.Sprintf("power_mw 0 %d", mw), "instant_mw 0 79000", "average_mw 0 79000"},
				"--duration", "300ms", "--channels", "sample")
			for _, s := range tr.samples[0] {
				if s.ReadOK || s.Error != "IMPLAUSIBLE" || s.PowerW != record.Some(float64(mw)/1000) || s.PowerInstantW != record.Some(79.0) {
					t.Errorf("%+v", s)
				}
			}
			n := int64(len(tr.samples[0]))
			if a := tr.end.Poller.GPUs[0]; n == 0 || a.SamplesValid != 0 || a.ReadErrors != n || a.Errors["IMPLAUSIBLE"] != n || a.FloorSuspect != 0 {
				t.Errorf("%d samples, account %+v", n, a)
			}
		})
	}
}

func TestFloorReadings(t *testing.T) {
	t.Parallel()
	tr, stderr := pollStub(t, []string{"power_mw 0 1200"}, "--duration", "300ms", "--channels", "sample")
	n := int64(len(tr.samples[0]))
	if a := tr.end.Poller.GPUs[0]; n == 0 || a.SamplesValid != n || a.FloorSuspect != n || a.ReadErrors != 0 || stderr != "" {
		t.Errorf("%d samples, account %+v, stderr %s", n, a, stderr)
	}
	if s := tr.samples[0][0]; !s.ReadOK || s.Error != "" || s.PowerW != record.Some(1.2) {
		t.Errorf("%+v", s)
	}
}

func TestCounterReset(t *testing.T) {
	t.Parallel()
	tr, stderr := pollStub(t, []string{"energy_mj 0 900000", "@0.6 energy_mj 0 1000"}, "--duration", "1200ms", "--channels", "sample,counter")
	values := map[int64]int{}
	for _, c := range tr.counters[0] {
		values[c.EnergyMilliJ.V]++
	}
	if len(values) != 2 || values[900000] == 0 || values[1000] == 0 {
		t.Errorf("readings %v, want both values as they were read", values)
	}
	if c := tr.end.Poller.GPUs[0].Channels["counter"]; c.Gaps != 1 || strings.Count(stderr, "GPU 0: the energy counter went back 1 time: it was reset") != 1 {
		t.Errorf("channel %+v, stderr %s", c, stderr)
	}
}

// Entries that the driver has overwritten between two harvests are a gap.
func TestBufferOverflow(t *testing.T) {
	t.Parallel()
	tr, stderr := pollStub(t, []string{"samples 0 realtime 20 10"}, "--duration", "1500ms", "--channels", "sample,power", "--power-period", "500ms")
	c := tr.end.Poller.GPUs[0].Channels["power"]
	if c.Gaps < 1 || c.Clock != "realtime" || len(tr.powers[0]) == 0 || int64(len(tr.powers[0])) != c.Records {
		t.Errorf("%d power records, channel %+v", len(tr.powers[0]), c)
	}
	if want := fmt.Sprintf("GPU 0: the driver's power samples have %s", count(int(c.Gaps), "gap")); !strings.Contains(stderr, want) {
		t.Errorf("stderr %q does not say %q", stderr, want)
	}
}

// Stamps that fit no clock are not guessed at: there are no entries, and that is
// counted and said.
func TestStampsOfNoClock(t *testing.T) {
	t.Parallel()
	tr, stderr := pollStub(t, []string{"samples_shift_s 0 -86400"}, "--duration", "300ms", "--channels", "sample,power")
	if c := tr.end.Poller.GPUs[0].Channels["power"]; c.Errors["UNKNOWN_CLOCK"] != c.Calls || c.Calls == 0 || len(tr.powers[0]) > 0 {
		t.Errorf("channel %+v, %d power records", c, len(tr.powers[0]))
	}
	if want := "GPU 0: channel power gave nothing but UNKNOWN_CLOCK"; !strings.Contains(stderr, want) {
		t.Errorf("stderr %q does not say %q", stderr, want)
	}
}

// A driver may hang in any call; a signal still ends the trace.
func TestInterruptWhileHung(t *testing.T) {
	t.Parallel()
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			p := startStub(t, []string{"gpus 2", "@0.3 delay_ms nvmlDeviceGetPowerUsage 0 600000"}, "--channels", "sample")
			// Long after 0.3 s, when GPU 0 hangs.
			p.wait(func(text []byte) bool { return bytes.Count(text, []byte(`"gpu":1,"tick"`)) > 20 })
			p.cmd.Process.Signal(sig)
			if err := p.cmd.Wait(); err != nil {
				t.Errorf("%v\n%s", err, p.stderr.String())
			}
			if !strings.Contains(p.stderr.String(), "no answer within 1s from the driver for GPU 0 sample") {
				t.Errorf("stderr: %s", p.stderr.String())
			}
			samples, end, err := p.read()
			if samples < 10 || !end || err != nil {
				t.Errorf("%d samples, end %v, error %v", samples, end, err)
			}
		})
	}
}

// Killed without warning, nvpoll leaves all but the last batch readable.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file  string
		flush time.Duration
	}{
		{"", 200 * time.Millisecond}, // standard output
		{"trace.ndjson", time.Second},
		{"trace.ndjson.zst", time.Second},
		{"trace.arrow", time.Second},
		{"trace.csv", time.Second},
	} {
		t.Run("to "+c.file, func(t *testing.T) {
			t.Parallel()
			args := []string{"--period", "20ms"}
			if c.file != "" {
				args = append(args, "-o", filepath.Join(t.TempDir(), c.file))
			}
			p := startStub(t, nil, args...)
			if c.file != "" {
				p.file = args[len(args)-1] + ".partial"
			}
			p.wait(func(text []byte) bool { return len(text) > 0 })
			time.Sleep(4*c.flush + time.Second) // so that one batch would not do
			killed := clock.Now()
			p.cmd.Process.Kill()
			p.cmd.Wait()
			samples, end, err := p.read()
			var cut *stream.TruncatedError
			if samples < 10 || end || !errors.As(err, &cut) {
				t.Errorf("%d samples, end %v, error %v; want a cut stream", samples, end, err)
			}
			// The batch under way, and one more for a machine that is busy.
			if age := time.Duration(killed - p.last); age > 2*c.flush+700*time.Millisecond {
				t.Errorf("the last sample is %v older than the kill, with a flush every %v", age, c.flush)
			}
			if p.errors > 1 {
				t.Errorf("%d bad lines, want the torn one at most", p.errors)
			}
		})
	}
}

// process is an nvpoll on a stub library, and what it has written.
type process struct {
	*testing.T
	cmd    *exec.Cmd
	stderr bytes.Buffer
	file   string
	last   int64 // time of the last sample read
	errors int   // bad lines
}

func startStub(t *testing.T, script []string, args ...string) *process {
	t.Helper()
	dir := nvmltest.Build(t)
	nvmltest.Script(t, filepath.Join(dir, nvmltest.ScriptName), script...)
	p := &process{T: t, file: filepath.Join(dir, "trace")}
	out, err := os.Create(p.file)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p.cmd = exec.Command("nvpoll", append([]string{"--nvml-library", filepath.Join(dir, nvmltest.Library)}, args...)...)
	p.cmd.Stdout, p.cmd.Stderr = out, &p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill() })
	return p
}

// wait waits until the file is as wanted.
func (p *process) wait(ok func(text []byte) bool) {
	p.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if text, err := os.ReadFile(p.file); err == nil && ok(text) {
			return
		}
		if time.Now().After(end) {
			p.cmd.Process.Kill()
			p.Fatalf("waited 30 s for the trace\n%s", p.stderr.String())
		}
	}
}

// read counts the samples in the file.
func (p *process) read() (samples int, end bool, err error) {
	p.Helper()
	f, err := os.Open(p.file)
	if err != nil {
		p.Fatal(err)
	}
	defer f.Close()
	in := stream.NewReader(f, p.file)
	for in.Scan() {
		switch r := in.Record().(type) {
		case *record.Sample:
			samples++
			p.last = r.TimeNS
		case *record.End:
			end = true
		case *record.SyntaxError:
			p.errors++
		}
	}
	return samples, end, in.Err()
}

// The table of the GPUs says of each channel why it is missing, and what the
// power of the board is the power of.
func TestDevicesOfAModule(t *testing.T) {
	t.Parallel()
	dir := nvmltest.Build(t)
	nvmltest.Script(t, filepath.Join(dir, nvmltest.ScriptName), "gpus 2", "mig 1 1", "module_mw 0 500000",
		"error nvmlDeviceGetTotalEnergyConsumption 0 NVML_ERROR_NOT_SUPPORTED", "error field:185 1 NVML_ERROR_NOT_SUPPORTED", "error nvmlDeviceGetMemoryInfo 1 NVML_ERROR_NO_PERMISSION")
	out, err := exec.Command("nvpoll", "devices", "--nvml-library", filepath.Join(dir, nvmltest.Library)).Output()
	if err != nil {
		t.Fatal(err)
	}
	states := map[string]string{} // "GPU channel"
	gpu := ""
	for line := range strings.Lines(string(out)) {
		if line[0] != ' ' {
			gpu = line[:1]
		}
		for _, channel := range []string{"sample", "power", "counter", "gpm", "instant", "average", "module", "mig", "vram_used_mb"} {
			if _, state, ok := strings.Cut(line, "  "+channel+" "); ok {
				states[gpu+" "+channel] = strings.TrimSpace(state)
			}
		}
	}
	want := map[string]string{
		"0 sample": "ok", "0 power": "ok", "0 counter": "NVML_ERROR_NOT_SUPPORTED", "0 gpm": "ok", "0 instant": "ok", "0 average": "ok",
		"0 module": "the board measures a module too; samples are of the GPU alone",
		"1 sample": "ok", "1 power": "ok", "1 counter": "ok", "1 gpm": "ok", "1 instant": "ok", "1 average": "NVML_ERROR_NOT_SUPPORTED",
		"1 mig": "on: power and energy are of the whole board", "1 vram_used_mb": "NVML_ERROR_NO_PERMISSION",
	}
	if !maps.Equal(states, want) {
		t.Errorf("states:\n got %v\nwant %v\n%s", states, want, out)
	}
}
