//go:build linux && cgo

package nvml

import (
	"errors"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
)

// Two processes, one that has no value for its memory, and one that ends.
func TestReadProcesses(t *testing.T) {
	own := int64(os.Getpid())
	name := gpu.ProcessName(own)
	if name == "" {
		t.Fatal("this process has no name")
	}
	for _, clockName := range []string{"realtime", "boottime", "monotonic"} {
		t.Run(clockName, func(t *testing.T) {
			line := func(pid int64, rest string) string {
				return strings.TrimSpace("process 0 " + strconv.FormatInt(pid, 10) + " " + rest)
			}
			script := []string{"processes 0 " + clockName + " 1", line(own, "63 20 1024.5"), line(4194305, "30 5 -")}
			s := newStub(t, script...)
			const ahead = int64(time.Hour) // sets this test's monotonic clock apart from the boot-time clock
			if clockName == "monotonic" {
				script = append(script, "processes_shift_s 0 3600")
				s.set(script...)
			}
			now := func() int64 { return clock.Now() + ahead }
			d, err := Open(Options{LibraryPath: s.library(), Clock: now})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			g := d.GPUs()[0]
			opened := now()
			if state := g.Info().Channels[gpu.Process]; state != "ok" {
				t.Errorf("channel process = %s", state)
			}
			time.Sleep(20 * time.Millisecond)
			var p gpu.ProcessBatch
			if err := g.ReadProcesses(&p); err != nil || p.Clock != clockName {
				t.Fatalf("%v, clock %q", err, p.Clock)
			}
			want := []record.Process{
				{PID: record.Some(own), SMUtil: record.Some(63.0), MemUtil: record.Some(20.0), Name: name, VRAMUsedMB: record.Some(1024.5)},
				{PID: record.Some(int64(4194305)), SMUtil: record.Some(30.0), MemUtil: record.Some(5.0)},
			}
			until := timesOff(t, p.Entries, opened-100e6, now())
			if !reflect.DeepEqual(p.Entries, want) {
				t.Errorf("\n got %+v\nwant %+v", p.Entries, want)
			}
			if until < opened {
				t.Errorf("until %d, before Open had ended at %d", until, opened)
			}

			s.set(append(script, line(own, "off"))...)
			time.Sleep(5 * time.Millisecond)
			p = gpu.ProcessBatch{}
			if err := g.ReadProcesses(&p); err != nil || len(p.Entries) != 1 || p.Entries[0].PID != record.Some(int64(4194305)) {
				t.Fatalf("%v, %+v; want the process that is left", err, p.Entries)
			}
			if p.Entries[0].StartNS != until {
				t.Errorf("it goes on from %d, want %d", p.Entries[0].StartNS, until)
			}
			until = p.Entries[0].TimeNS

			s.set("processes 0 "+clockName+" 1", line(4194305, "0 0 5"))
			p = gpu.ProcessBatch{}
			if err := g.ReadProcesses(&p); err != nil || len(p.Entries) != 0 {
				t.Fatalf("%v, %+v; want nothing new", err, p.Entries)
			}
			time.Sleep(time.Duration(resting) + 10*time.Millisecond)
			if err := g.ReadProcesses(&p); err != nil || len(p.Entries) != 1 || p.Entries[0].PID.OK || p.Entries[0].Error != "" {
				t.Fatalf("%v, %+v; want that none was at work", err, p.Entries)
			}
			if e := p.Entries[0]; e.StartNS != until || e.TimeNS < e.StartNS || e.TimeNS > now()-sampled {
				t.Errorf("from %d until %d, want from %d until %d", e.StartNS, e.TimeNS, until, now()-sampled)
			}
		})
	}
}

// timesOff takes the times off records, which all end together, and says when.
func timesOff(t *testing.T, list []record.Process, from, now int64) (until int64) {
	t.Helper()
	for i := range list {
		e := &list[i]
		if e.StartNS < from || e.TimeNS <= e.StartNS || e.TimeNS > now || i > 0 && e.TimeNS != until {
			t.Errorf("%+v: not from %d or later until %d or earlier", *e, from, now)
		}
		until = e.TimeNS
		e.StartNS, e.TimeNS = 0, 0
	}
	return until
}

// What the driver may answer to a call.
func TestReadProcessesFails(t *testing.T) {
	s, g := openGPU(t, "processes 0 realtime 1", "process 0 4711 50 10")
	const call = "error nvmlDeviceGetProcessUtilization 0 "
	s.set(call + "NVML_ERROR_UNKNOWN")
	checkErr(t, "unknown", g.ReadProcesses(new(gpu.ProcessBatch)), "NVML_ERROR_UNKNOWN")
	var p gpu.ProcessBatch
	s.set(call + "NVML_ERROR_NOT_FOUND")
	checkErr(t, "nothing new", g.ReadProcesses(&p), "")
	if len(p.Entries) != 0 {
		t.Errorf("%+v of nothing new", p.Entries)
	}
	s.set("processes 0 realtime 1", "process 0 4711 50 10", "error nvmlDeviceGetComputeRunningProcesses_v3 0 NVML_ERROR_UNKNOWN")
	time.Sleep(5 * time.Millisecond)
	p = gpu.ProcessBatch{}
	checkErr(t, "no memory", g.ReadProcesses(&p), "")
	if len(p.Entries) != 1 || p.Entries[0].SMUtil != record.Some(50.0) || p.Entries[0].VRAMUsedMB.OK {
		t.Errorf("%+v; want one without its memory", p.Entries)
	}
	s.set("processes 0 realtime 1", "process 0 4711 101 10")
	time.Sleep(5 * time.Millisecond)
	p = gpu.ProcessBatch{}
	checkErr(t, "implausible", g.ReadProcesses(&p), "")
	if len(p.Entries) != 1 || p.Entries[0].SMUtil.OK || p.Entries[0].Error != "IMPLAUSIBLE" || p.Entries[0].PID != record.Some(int64(4711)) {
		t.Errorf("%+v; want a value that is not believed", p.Entries)
	}
	// A process more when they are read than when they were counted, each time.
	s.set("processes 0 realtime 1", "process 0 4711 50 10", "process 0 4712 50 10", "processes_race 0 1")
	time.Sleep(5 * time.Millisecond)
	checkErr(t, "more and more", g.ReadProcesses(new(gpu.ProcessBatch)), "NVML_ERROR_INSUFFICIENT_SIZE")
	s.set("processes 0 realtime 1", "process 0 4711 50 10", "processes_shift_s 0 -86400")
	time.Sleep(5 * time.Millisecond)
	checkErr(t, "stamps of the past are not new", g.ReadProcesses(new(gpu.ProcessBatch)), "")

	_, g = openGPU(t, "error nvmlDeviceGetProcessUtilization 0 NVML_ERROR_NOT_SUPPORTED")
	if state := g.Info().Channels[gpu.Process]; state != "NVML_ERROR_NOT_SUPPORTED" {
		t.Errorf("channel process = %s", state)
	}
	checkErr(t, "not supported", g.ReadProcesses(new(gpu.ProcessBatch)), "NVML_ERROR_NOT_SUPPORTED")
}

// What becomes of samples, on stamps in milliseconds of a clock that is 100 s
// ahead of the monotonic one.
func TestTakeProcesses(t *testing.T) {
	const ahead = 100_000 // ms
	type seen struct {
		pid   uint32
		stamp int64 // ms, on the driver's clock
	}
	type told struct{ pid, from, until int64 } // ms, monotonic; pid 0: none at work
	type call struct {
		now, ahead int64 // ms
		samples    []seen
		want       []told
		err        error
	}
	for _, tt := range []struct {
		name  string
		calls []call
	}{
		{"two that go on", []call{
			{1000, ahead, []seen{{7, 100_900}, {8, 100_950}}, nil, nil},
			{2000, ahead, []seen{{8, 101_900}, {7, 101_950}}, []told{{7, 900, 1950}, {8, 950, 1900}}, nil},
			{3000, ahead, []seen{{7, 102_900}, {8, 101_900}}, []told{{7, 1950, 2900}}, nil},
			// 8 had rested, at least since the newest that was told of then.
			{4000, ahead, []seen{{7, 103_900}, {8, 103_900}}, []told{{7, 2900, 3900}, {8, 2900, 3900}}, nil},
		}},
		{"asked more often than there are samples, of each in its own time", []call{
			{1000, ahead, []seen{{7, 100_900}, {8, 100_500}}, nil, nil},
			{1200, ahead, nil, nil, nil},
			{1600, ahead, []seen{{8, 101_500}}, []told{{8, 500, 1500}}, nil},
			{1800, ahead, nil, nil, nil},
			{2000, ahead, []seen{{7, 101_900}}, []told{{7, 900, 1900}}, nil},
			{2600, ahead, []seen{{8, 102_500}}, []told{{8, 1500, 2500}}, nil},
		}},
		{"several of one in a call", []call{
			{1000, ahead, []seen{{7, 100_900}}, nil, nil},
			{2000, ahead, []seen{{7, 101_500}, {7, 101_200}, {8, 101_500}}, []told{{7, 900, 1200}, {8, 900, 1500}, {7, 1200, 1500}}, nil},
		}},
		// It is sure a second later, when there would have been a sample of it.
		{"none, one, none", []call{
			{1000, ahead, nil, nil, nil},
			{2000, ahead, nil, nil, nil},
			{3000, ahead, nil, []told{{0, 1000, 2000}}, nil},
			{4000, ahead, []seen{{7, 103_800}}, []told{{7, 2000, 3800}}, nil},
			{5000, ahead, []seen{{7, 103_800}}, nil, nil},
			{6000, ahead, []seen{{7, 103_800}}, []told{{0, 3800, 5000}}, nil},
			{7000, ahead, []seen{{0, 106_000}, {7, 106_900}}, []told{{7, 5000, 6900}}, nil},
		}},
		{"long over when first asked", []call{
			{1000, ahead, []seen{{7, 50_000}}, nil, nil},
			{3000, ahead, []seen{{7, 50_000}}, []told{{0, 1000, 2000}}, nil},
		}},
		{"asked again after a minute", []call{
			{1000, ahead, []seen{{7, 100_900}}, nil, nil},
			{61_000, ahead, []seen{{7, 110_000}}, []told{{7, 900, 10_000}}, nil},
			{121_000, ahead, nil, []told{{0, 10_000, 120_000}}, nil},
		}},
		{"of no clock", []call{
			{1000, ahead, []seen{{7, 100_900}}, nil, nil},
			{2000, ahead, []seen{{7, 105_000}}, nil, ErrUnknownClock},
			{3000, ahead, []seen{{7, 102_900}}, []told{{7, 900, 2900}}, nil},
		}},
		{"the clock is set back", []call{
			{1000, ahead, []seen{{7, 100_900}}, nil, nil},
			{2000, ahead - 50_000, []seen{{7, 51_900}}, nil, ErrClockSet},
			{4900, ahead - 50_000, []seen{{7, 54_800}}, nil, ErrClockSet},
			{5100, ahead - 50_000, []seen{{7, 55_000}}, []told{{7, 900, 5000}}, nil},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p processes
			for i, c := range tt.calls {
				clocks := [3]instant{{"realtime", (c.now + c.ahead) * 1e6}, {"boottime", 1e18}, {"monotonic", c.now * 1e6}}
				since := p.since(clocks)
				var samples []nv.ProcessUtilizationSample
				for _, s := range c.samples {
					if stamp := uint64(s.stamp) * 1000; stamp > since {
						samples = append(samples, nv.ProcessUtilizationSample{Pid: s.pid, TimeStamp: stamp, SmUtil: 50})
					}
				}
				entries, err := p.take(samples, clocks, 3)
				if !errors.Is(err, c.err) {
					t.Errorf("call %d: error %v, want %v", i, err, c.err)
				}
				var got []told
				for _, e := range entries {
					if e.GPU != 3 || e.PID.OK != e.SMUtil.OK {
						t.Errorf("call %d: %+v", i, e)
					}
					got = append(got, told{e.PID.V, e.StartNS / 1e6, e.TimeNS / 1e6})
				}
				if !reflect.DeepEqual(got, c.want) {
					t.Errorf("call %d:\n got %v\nwant %v", i, got, c.want)
				}
			}
		})
	}
}

// The first that is told of a process is of the time since the last call, and
// not of all that the driver keeps.
func TestFirstProcess(t *testing.T) {
	s, g := openGPU(t)
	s.set("processes 0 realtime 1", "process 0 4711 50 10", "log "+s.log)
	time.Sleep(5 * time.Millisecond)
	for range 2 {
		var p gpu.ProcessBatch
		if err := g.ReadProcesses(&p); err != nil || len(p.Entries) != 1 || !p.Entries[0].PID.OK {
			t.Fatalf("%v, %+v", err, p.Entries)
		}
		time.Sleep(5 * time.Millisecond)
	}
	// Twice each time, for the number and the samples, and once more at first.
	if n := s.calls()["nvmlDeviceGetProcessUtilization"]; n != 6 {
		t.Errorf("%d calls, want 6", n)
	}
}

func BenchmarkReadProcesses(b *testing.B) {
	_, g := openGPU(b, "static", "processes 0 realtime 0.001", "process 0 4711 50 10 100", "process 0 4712 30 10 100")
	var p gpu.ProcessBatch
	b.ReportAllocs()
	for b.Loop() {
		p.Entries = p.Entries[:0]
		if err := g.ReadProcesses(&p); err != nil {
			b.Fatal(err)
		}
	}
}

// scripted is a device that answers one call after the other.
type scripted struct {
	nv.Device
	answers []func() ([]nv.ProcessUtilizationSample, nv.Return)
}

func (s *scripted) GetProcessUtilization(uint64) ([]nv.ProcessUtilizationSample, nv.Return) {
	answer := s.answers[0]
	s.answers = s.answers[1:]
	return answer()
}

// What go-nvml makes of a list that changes between its two calls.
func TestUtilization(t *testing.T) {
	type answer = func() ([]nv.ProcessUtilizationSample, nv.Return)
	one := make([]nv.ProcessUtilizationSample, 1)
	var (
		good  answer = func() ([]nv.ProcessUtilizationSample, nv.Return) { return one, nv.SUCCESS }
		more  answer = func() ([]nv.ProcessUtilizationSample, nv.Return) { n := 2; return one[:n], nv.ERROR_INSUFFICIENT_SIZE }
		short answer = func() ([]nv.ProcessUtilizationSample, nv.Return) { return one, nv.ERROR_INSUFFICIENT_SIZE }
		none  answer = func() ([]nv.ProcessUtilizationSample, nv.Return) { return one[:0], nv.ERROR_INSUFFICIENT_SIZE }
		lost  answer = func() ([]nv.ProcessUtilizationSample, nv.Return) { return nil, nv.ERROR_GPU_IS_LOST }
	)
	for _, tt := range []struct {
		name    string
		answers []answer
		want    nv.Return
		n, left int
	}{
		{"good", []answer{good, good}, nv.SUCCESS, 1, 1},
		{"twice more than there was room for", []answer{more, short, good, good}, nv.SUCCESS, 1, 1},
		{"always more", []answer{more, more, more, good}, nv.ERROR_INSUFFICIENT_SIZE, 0, 1},
		{"room for none is enough", []answer{none, good}, nv.ERROR_NOT_FOUND, 0, 1},
		{"lost", []answer{lost, good}, nv.ERROR_GPU_IS_LOST, 0, 1},
	} {
		d := &scripted{answers: tt.answers}
		samples, ret := utilization(d, 0)
		if ret != tt.want || len(samples) != tt.n || len(d.answers) != tt.left {
			t.Errorf("%s: %d samples, %v, %d answers left; want %d, %v, %d", tt.name, len(samples), name(ret), len(d.answers), tt.n, name(tt.want), tt.left)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a panic of another kind was taken for a longer list")
		}
	}()
	utilization(&scripted{answers: []answer{func() ([]nv.ProcessUtilizationSample, nv.Return) { panic("other") }}}, 0)
}
