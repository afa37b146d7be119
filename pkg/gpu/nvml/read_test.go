//go:build linux && cgo

package nvml

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	nv "github.com/NVIDIA/go-nvml/pkg/nvml"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/gpu"
	"joulepipe/pkg/record"
)

func TestReadSample(t *testing.T) {
	_, g := openGPU(t,
		"power_mw 0 123456", "instant_mw 0 234567", "average_mw 0 345678", "temp_c 0 61", "mem_temp_c 0 67",
		"sm_mhz 0 1980", "mem_mhz 0 3201", "util_gpu 0 98", "util_mem 0 43", "vram_used_mib 0 70000.5",
		"reasons 0 68", "pstate 0 2")
	s := record.Sample{
		Tick: record.Some[int64](7), DtS: record.Some(0.1), LateUS: record.Some(50.0), // the poller's
		Error: "old", TempC: record.Some(1.0),
	}
	before := clock.Now()
	g.ReadSample(&s)
	after := clock.Now()
	if s.TimeNS < before || s.TimeNS > after {
		t.Errorf("time %d is not between %d and %d", s.TimeNS, before, after)
	}
	if us, ok := s.ReadUS.Get(); !ok || us <= 0 || us > float64(after-before)/1e3 {
		t.Errorf("read_us = %v of %v", us, float64(after-before)/1e3)
	}
	s.TimeNS, s.ReadUS = 0, record.Opt[float64]{}
	want := record.Sample{
		Tick: record.Some[int64](7), DtS: record.Some(0.1), LateUS: record.Some(50.0),
		PowerW: record.Some(123.456), PowerInstantW: record.Some(234.567), PowerAverageW: record.Some(345.678),
		TempC: record.Some(61.0), MemTempC: record.Some(67.0), SMClockMHz: record.Some[int64](1980), MemClockMHz: record.Some[int64](3201),
		UtilGPU: record.Some[int64](98), UtilMem: record.Some[int64](43), VRAMUsedMB: record.Some(70000.5),
		ThrottleReasons: record.Some[uint64](68), PState: record.Some[int64](2), ReadOK: true,
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("sample:\n got %+v\nwant %+v", s, want)
	}
}

// The time of a sample is the power's, however long the rest takes.
func TestSampleTimeIsThePowers(t *testing.T) {
	s, g := openGPU(t)
	s.set("delay_ms nvmlDeviceGetMemoryInfo 0 50")
	var r record.Sample
	before := clock.Now()
	g.ReadSample(&r)
	after := clock.Now()
	if r.TimeNS > after-50e6 || r.TimeNS < before {
		t.Errorf("stamped %.1f ms into a read of %.1f ms whose last 50 ms were not power",
			float64(r.TimeNS-before)/1e6, float64(after-before)/1e6)
	}
	if r.ReadUS.Or(0) < 50e3 {
		t.Errorf("read_us = %v, want 50 ms or more", r.ReadUS)
	}
}

// Faults of a reading, from a GPU that was in order when it was opened.
func TestSampleFaults(t *testing.T) {
	const (
		usage  = "error nvmlDeviceGetPowerUsage 0 "
		fields = "error nvmlDeviceGetFieldValues 0 "
	)
	for _, tt := range []struct {
		name    string
		script  []string
		ok      bool
		err     string
		power   record.Opt[float64]
		instant record.Opt[float64]
	}{
		{"zero", []string{"power_mw 0 0", "instant_mw 0 79000"}, false, "IMPLAUSIBLE", record.Some(0.0), record.Some(79.0)},
		{"zero field", []string{"instant_mw 0 0"}, false, "IMPLAUSIBLE", record.Some(79.0), record.Some(0.0)},
		{"a floor reading", []string{"power_mw 0 1200", "instant_mw 0 79000"}, true, "", record.Some(1.2), record.Some(79.0)},
		{"usage", []string{usage + "NVML_ERROR_UNKNOWN"}, true, "NVML_ERROR_UNKNOWN", record.Opt[float64]{}, record.Some(79.0)},
		{"usage times out", []string{usage + "NVML_ERROR_TIMEOUT"}, true, "NVML_ERROR_TIMEOUT", record.Opt[float64]{}, record.Some(79.0)},
		{"all fields", []string{fields + "NVML_ERROR_UNKNOWN"}, true, "NVML_ERROR_UNKNOWN", record.Some(79.0), record.Opt[float64]{}},
		{"one field", []string{"error field:186 0 NVML_ERROR_NO_DATA"}, true, "NVML_ERROR_NO_DATA", record.Some(79.0), record.Opt[float64]{}},
		{"a field is not found", []string{"error field:186 0 NVML_ERROR_NOT_FOUND"}, true, "NVML_ERROR_NOT_FOUND", record.Some(79.0), record.Opt[float64]{}},
		{"no power", []string{usage + "NVML_ERROR_TIMEOUT", fields + "NVML_ERROR_UNKNOWN"}, false, "NVML_ERROR_TIMEOUT", record.Opt[float64]{}, record.Opt[float64]{}},
		{"a code from the future", []string{usage + "77"}, true, "NVML_ERROR_77", record.Opt[float64]{}, record.Some(79.0)},
		{"temperature", []string{"error nvmlDeviceGetTemperature 0 NVML_ERROR_UNKNOWN"}, true, "NVML_ERROR_UNKNOWN", record.Some(79.0), record.Some(79.0)},
		{"the first of two", []string{"error nvmlDeviceGetMemoryInfo 0 NVML_ERROR_TIMEOUT", "error nvmlDeviceGetPerformanceState 0 NVML_ERROR_UNKNOWN"},
			true, "NVML_ERROR_TIMEOUT", record.Some(79.0), record.Some(79.0)},
		{"all ones", []string{"power_mw 0 4294967295", "instant_mw 0 79000"}, false, "IMPLAUSIBLE", record.Some(4294967.295), record.Some(79.0)},
		{"above twice the limit", []string{"power_mw 0 1400001", "instant_mw 0 79000"}, false, "IMPLAUSIBLE", record.Some(1400.001), record.Some(79.0)},
		{"at twice the limit", []string{"power_mw 0 1400000", "instant_mw 0 79000"}, true, "", record.Some(1400.0), record.Some(79.0)},
		{"implausible field", []string{"instant_mw 0 4294967295"}, false, "IMPLAUSIBLE", record.Some(79.0), record.Some(4294967.295)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, g := openGPU(t)
			s.set(tt.script...)
			var r record.Sample
			g.ReadSample(&r)
			if r.ReadOK != tt.ok || r.Error != tt.err {
				t.Errorf("read_ok %v, error %q; want %v, %q", r.ReadOK, r.Error, tt.ok, tt.err)
			}
			if r.PowerW != tt.power || r.PowerInstantW != tt.instant {
				t.Errorf("power %v, instant %v; want %v, %v", r.PowerW, r.PowerInstantW, tt.power, tt.instant)
			}
			if tt.name == "temperature" && r.TempC.OK {
				t.Error("a temperature that was not read")
			}
			s.set()
			g.ReadSample(&r)
			if !r.ReadOK || r.Error != "" || r.PowerW != record.Some(79.0) || !r.TempC.OK || !r.PowerInstantW.OK {
				t.Errorf("it did not recover: %+v", r)
			}
		})
	}
}

// Whatever NVML answers, the sample has its name, and the GPU is read again: at
// once, or when it is found again.
func TestEveryError(t *testing.T) {
	s := newStub(t)
	now := clock.NewFake(time.Now().UnixNano())
	d, err := Open(Options{LibraryPath: s.library(), Clock: now.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	g := d.GPUs()[0]
	if len(names) < 28 {
		t.Fatalf("only %d errors are known", len(names))
	}
	for code, want := range names {
		line := fmt.Sprintf(" 0 %d", code)
		s.set("error nvmlDeviceGetPowerUsage"+line, "error nvmlDeviceGetFieldValues"+line,
			"error nvmlDeviceGetTotalEnergyConsumption"+line, "error nvmlDeviceGetSamples"+line)
		var c record.Counter
		g.ReadCounter(&c)
		if c.EnergyMilliJ.OK || c.Error != string(want) {
			t.Errorf("%s: counter %+v", want, c)
		}
		if code != nv.ERROR_NOT_FOUND { // here it means that there is nothing new
			checkErr(t, "ReadPower", g.ReadPower(new(gpu.PowerBatch)), string(want))
		}
		var r record.Sample
		for range 2 {
			g.ReadSample(&r)
			if r.ReadOK || r.Error != string(want) || r.PowerW.OK || r.PowerInstantW.OK || r.TempC.OK != !gone(code) {
				t.Errorf("%s: %+v", want, r)
			}
		}
		s.set()
		if gone(code) {
			now.Advance(2e9)
			g.ReadSample(&r)
			d.finders.Wait()
		}
		g.ReadSample(&r)
		g.ReadCounter(&c)
		if !r.ReadOK || r.Error != "" || !r.PowerW.OK || !r.PowerInstantW.OK || !c.EnergyMilliJ.OK {
			t.Errorf("after %s: %+v, %+v", want, r, c)
		}
		now.Advance(2e9)
	}
}

// A board of a module (GH200) is one GPU: its samples are of scope GPU, and that
// it could tell the module's power is said.
func TestModulePower(t *testing.T) {
	_, g := openGPU(t, "name 0 NVIDIA GH200 480GB", "power_mw 0 300000", "module_mw 0 500000")
	if got := g.Info().Channels[Module]; got != "ok" {
		t.Errorf("channel module = %q", got)
	}
	var r record.Sample
	g.ReadSample(&r)
	for _, w := range []record.Opt[float64]{r.PowerW, r.PowerInstantW, r.PowerAverageW} {
		if w != record.Some(300.0) {
			t.Errorf("a power of %v, want the GPU's 300 W alone", w)
		}
	}
	_, g = openGPU(t)
	if got, ok := g.Info().Channels[Module]; ok {
		t.Errorf("a board without one has channel module = %q", got)
	}
}

// A GPU that MIG has split up is one GPU still, whose power is the board's.
func TestMIGIsOneGPU(t *testing.T) {
	s := newStub(t, "mig 0 1", "error nvmlDeviceGetUtilizationRates 0 NVML_ERROR_NOT_SUPPORTED")
	gpus := s.open().GPUs()
	if len(gpus) != 1 || gpus[0].Info().MIG != record.Some(true) {
		t.Fatalf("%d GPUs, the first %+v", len(gpus), gpus[0].Info())
	}
	var r record.Sample
	gpus[0].ReadSample(&r)
	if !r.ReadOK || r.Error != "" || r.UtilGPU.OK || r.PowerW != record.Some(79.0) {
		t.Errorf("%+v", r)
	}
}

func TestUnknownPStateIsAbsent(t *testing.T) {
	_, g := openGPU(t, "pstate 0 32")
	var r record.Sample
	g.ReadSample(&r)
	if r.PState.OK || r.Error != "" || !r.ReadOK {
		t.Errorf("%+v", r)
	}
}

// What is not supported is asked for once; what failed for the moment is asked
// for again, until the answer is that it is not supported.
func TestProbedOnce(t *testing.T) {
	s := newStub(t)
	script := []string{
		"log " + s.log,
		"error nvmlDeviceGetUtilizationRates 0 NVML_ERROR_NOT_SUPPORTED",
		"error nvmlDeviceGetTotalEnergyConsumption 0 NVML_ERROR_NOT_SUPPORTED",
		"error field:185 0 NVML_ERROR_NOT_SUPPORTED",
		"error nvmlDeviceGetTemperature 0 NVML_ERROR_TIMEOUT",
		"gpm_supported 0 0",
	}
	s.set(script...)
	g := s.open().GPUs()[0]
	channels := g.Info().Channels
	for ch, want := range map[string]string{
		"util_gpu": "NVML_ERROR_NOT_SUPPORTED", "counter": "NVML_ERROR_NOT_SUPPORTED", "average": "NVML_ERROR_NOT_SUPPORTED",
		"gpm": "NVML_ERROR_NOT_SUPPORTED", "temp_c": "NVML_ERROR_TIMEOUT", "sample": "ok", "instant": "ok",
	} {
		if channels[ch] != want {
			t.Errorf("channel %s = %q, want %q", ch, channels[ch], want)
		}
	}
	read := func() (r record.Sample) {
		t.Helper()
		g.ReadSample(&r)
		var c record.Counter
		g.ReadCounter(&c)
		if c.EnergyMilliJ.OK || c.Error != "NVML_ERROR_NOT_SUPPORTED" {
			t.Errorf("counter: %+v", c)
		}
		_, err := g.ReadGPM(new(record.GPM))
		checkErr(t, "ReadGPM", err, "NVML_ERROR_NOT_SUPPORTED")
		return r
	}
	for range 3 {
		if r := read(); !r.ReadOK || r.Error != "NVML_ERROR_TIMEOUT" || r.PowerAverageW.OK || r.UtilGPU.OK {
			t.Errorf("sample: %+v", r)
		}
	}
	script[4] = "error nvmlDeviceGetTemperature 0 NVML_ERROR_NOT_SUPPORTED"
	s.set(script...)
	read()
	if r := read(); r.Error != "" {
		t.Errorf("error %q after temperature turned out not to be supported", r.Error)
	}
	n := s.calls()
	for call, want := range map[string]int{
		"nvmlDeviceGetUtilizationRates": 1, "nvmlDeviceGetTotalEnergyConsumption": 1, "nvmlGpmQueryDeviceSupport": 1,
		"nvmlGpmSampleGet": 0, "nvmlDeviceGetTemperature": 5, "nvmlDeviceGetPowerUsage": 6, "nvmlDeviceGetFieldValues": 13, // twice a sample, and once for the module's power
	} {
		if n[call] != want {
			t.Errorf("%d calls of %s, want %d", n[call], call, want)
		}
	}
}

// A board without any power reading says at each tick why.
func TestNoPowerAtAll(t *testing.T) {
	_, g := openGPU(t, "error nvmlDeviceGetPowerUsage 0 NVML_ERROR_NOT_SUPPORTED", "error nvmlDeviceGetFieldValues 0 NVML_ERROR_NOT_SUPPORTED")
	if got := g.Info().Channels["sample"]; got != "NVML_ERROR_NOT_SUPPORTED" {
		t.Errorf("channel sample = %s", got)
	}
	var r record.Sample
	g.ReadSample(&r)
	if r.ReadOK || r.Error != "NVML_ERROR_NOT_SUPPORTED" || !r.TempC.OK {
		t.Errorf("%+v", r)
	}
}

func TestReadCounter(t *testing.T) {
	s, g := openGPU(t, "energy_mj 0 9007199254740991")
	var c record.Counter
	before := clock.Now()
	g.ReadCounter(&c)
	after := clock.Now()
	if c.EnergyMilliJ != record.Some[int64](9007199254740991) || c.Error != "" {
		t.Errorf("%+v", c)
	}
	if c.BeforeNS < before || c.TimeNS < c.BeforeNS || c.TimeNS > after {
		t.Errorf("bracket %d, %d of %d, %d", c.BeforeNS, c.TimeNS, before, after)
	}
	s.set("energy_mj 0 18446744073709549568")
	g.ReadCounter(&c)
	if c.EnergyMilliJ.OK || c.Error != "IMPLAUSIBLE" {
		t.Errorf("beyond all counters: %+v", c)
	}
	s.set("energy_mj 0 5") // reset, as at a reload of the driver: the value is the value
	g.ReadCounter(&c)
	if c.EnergyMilliJ != record.Some[int64](5) || c.Error != "" {
		t.Errorf("after a reset: %+v", c)
	}
	s.set("error nvmlDeviceGetTotalEnergyConsumption 0 NVML_ERROR_UNKNOWN", "delay_ms nvmlDeviceGetTotalEnergyConsumption 0 20")
	g.ReadCounter(&c)
	if c.EnergyMilliJ.OK || c.Error != "NVML_ERROR_UNKNOWN" || c.TimeNS-c.BeforeNS < 20e6 {
		t.Errorf("failed read: %+v", c)
	}
}

// In the middle of a counter call samples are read: they do not wait for it.
func TestSlowCounterDoesNotDelaySamples(t *testing.T) {
	const slow, edge = 200e6, 50e6 // ns
	s, g := openGPU(t)
	s.set("delay_ms nvmlDeviceGetTotalEnergyConsumption 0 200")
	done := make(chan record.Counter)
	go func() {
		var c record.Counter
		g.ReadCounter(&c)
		done <- c
	}()
	var times []int64
	for {
		var r record.Sample
		g.ReadSample(&r)
		times = append(times, r.TimeNS)
		select {
		case c := <-done:
			if c.TimeNS-c.BeforeNS < slow {
				t.Fatalf("the counter took %d ns, not 200 ms: nothing was tried", c.TimeNS-c.BeforeNS)
			}
			if !slices.ContainsFunc(times, func(ns int64) bool { return c.BeforeNS+edge < ns && ns < c.TimeNS-edge }) {
				t.Errorf("no sample of %d is from the middle of the counter call", len(times))
			}
			return
		default:
		}
	}
}

func TestReadGPM(t *testing.T) {
	s := newStub(t, "gpm_1 0 99", "gpm_2 0 88.5", "gpm_3 0 40", "gpm_5 0 70", "gpm_10 0 30", "gpm_20 0 1000", "gpm_21 0 0")
	now := clock.NewFake(1e9)
	d, err := Open(Options{LibraryPath: s.library(), Clock: now.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	g := d.GPUs()[0]
	var r record.GPM
	read := func(what string, want bool) {
		t.Helper()
		if ok, err := g.ReadGPM(&r); ok != want || err != nil {
			t.Fatalf("%s: %v, %v; want %v", what, ok, err, want)
		}
	}
	wait := func() {
		now.Advance(100e6)
		time.Sleep(100 * time.Millisecond) // the stub's clock is the real one
	}
	read("first", false)
	now.Advance(100e6 - 1)
	time.Sleep(100 * time.Millisecond)
	read("too soon", false)
	now.Advance(1)
	read("second", true)
	want := record.GPM{
		StartNS: 1e9, TimeNS: 1.1e9,
		GraphicsUtil: record.Some(99.0), SMUtil: record.Some(88.5), SMOccupancy: record.Some(40.0), TensorUtil: record.Some(70.0),
		DRAMBWUtil: record.Some(30.0), PCIeTxMiBs: record.Some(1000.0), PCIeRxMiBs: record.Some(0.0),
	}
	if r != want {
		t.Errorf("\n got %+v\nwant %+v", r, want)
	}

	s.set("gpm_2 0 5") // the others are not supported any more
	wait()
	read("third", true)
	if want := (record.GPM{StartNS: 1.1e9, TimeNS: 1.2e9, SMUtil: record.Some(5.0)}); r != want {
		t.Errorf("\n got %+v\nwant %+v", r, want)
	}

	s.set()
	wait()
	_, err = g.ReadGPM(&r)
	checkErr(t, "no metric", err, "NVML_ERROR_NOT_SUPPORTED")

	s.set("error nvmlGpmSampleGet 0 NVML_ERROR_UNKNOWN")
	wait()
	_, err = g.ReadGPM(&r)
	checkErr(t, "no sample", err, "NVML_ERROR_UNKNOWN")
	s.set("gpm_2 0 5")
	read("after a failure", false)
}

// A lost GPU is looked for by UUID, not more than once a second, and read on.
func TestLostAndFound(t *testing.T) {
	s := newStub(t, "gpm_2 0 1")
	now := clock.NewFake(time.Now().UnixNano())
	d, err := Open(Options{LibraryPath: s.library(), Clock: now.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	g := d.GPUs()[0]
	if ok, err := g.ReadGPM(new(record.GPM)); ok || err != nil {
		t.Errorf("ReadGPM: %v, %v", ok, err)
	}
	s.set("lost 0", "log "+s.log)
	var r record.Sample
	for range 50 {
		g.ReadSample(&r)
		if r.ReadOK || r.Error != "NVML_ERROR_GPU_IS_LOST" || r.PowerW.OK || r.TempC.OK || !r.ReadUS.OK {
			t.Fatalf("lost: %+v", r)
		}
	}
	var c record.Counter
	g.ReadCounter(&c)
	if c.EnergyMilliJ.OK || c.Error != "NVML_ERROR_GPU_IS_LOST" {
		t.Errorf("counter: %+v", c)
	}
	checkErr(t, "ReadPower", g.ReadPower(new(gpu.PowerBatch)), "NVML_ERROR_GPU_IS_LOST")
	_, err = g.ReadGPM(new(record.GPM))
	checkErr(t, "ReadGPM", err, "NVML_ERROR_GPU_IS_LOST")
	d.finders.Wait()
	if n := s.calls(); n["nvmlDeviceGetHandleByUUID"] != 1 || n["nvmlDeviceGetPowerUsage"] != 1 {
		t.Errorf("calls %v: want one search, and no read after the first", n)
	}

	s.set("log "+s.log, "power_mw 0 200000", "gpm_2 0 1")
	now.Advance(1e9 - 1)
	g.ReadSample(&r)
	d.finders.Wait()
	g.ReadSample(&r)
	if r.ReadOK {
		t.Error("searched twice within a second")
	}
	now.Advance(1)
	g.ReadSample(&r)
	d.finders.Wait()
	g.ReadSample(&r)
	if !r.ReadOK || r.Error != "" || r.PowerW != record.Some(200.0) {
		t.Errorf("found: %+v", r)
	}
	if n := s.calls(); n["nvmlDeviceGetHandleByUUID"] != 2 {
		t.Errorf("%d searches, want 2", n["nvmlDeviceGetHandleByUUID"])
	}
	g.ReadCounter(&c)
	if !c.EnergyMilliJ.OK {
		t.Errorf("counter: %+v", c)
	}
	// The driver's clock is the real one, which the fake one did not keep up with.
	checkErr(t, "ReadPower", g.ReadPower(new(gpu.PowerBatch)), "CLOCK_SET")
	if ok, err := g.ReadGPM(new(record.GPM)); ok || err != nil {
		t.Errorf("ReadGPM: %v, %v; want a new first half", ok, err)
	}
}

// A handle that comes back dead is a lost GPU still.
func TestFoundDead(t *testing.T) {
	s, g := openGPU(t)
	s.set("error nvmlDeviceGetPowerUsage 0 NVML_ERROR_GPU_IS_LOST")
	var r record.Sample
	for range 3 {
		g.ReadSample(&r)
		g.(*board).dev.finders.Wait()
		if r.ReadOK || r.Error != "NVML_ERROR_GPU_IS_LOST" {
			t.Errorf("%+v", r)
		}
	}
}

// All channels at once, while the GPU comes and goes: for the race detector.
func TestChannelsTogether(t *testing.T) {
	s, g := openGPU(t, "gpm_2 0 1")
	var last int64
	channels := []struct {
		name string
		read func() bool
	}{
		{"sample", func() bool {
			var r record.Sample
			g.ReadSample(&r)
			return r.ReadOK
		}},
		{"counter", func() bool {
			var c record.Counter
			g.ReadCounter(&c)
			return c.EnergyMilliJ.OK
		}},
		{"power", func() bool {
			var p gpu.PowerBatch
			g.ReadPower(&p)
			for _, e := range p.Entries {
				if e.TimeNS <= last {
					t.Errorf("entry at %d after one at %d", e.TimeNS, last)
				}
				last = e.TimeNS
			}
			return len(p.Entries) > 0
		}},
		{"gpm", func() bool {
			ok, _ := g.ReadGPM(new(record.GPM))
			return ok
		}},
		{"process", func() bool {
			return g.ReadProcesses(new(gpu.ProcessBatch)) == nil
		}},
	}
	var stop atomic.Bool
	var running sync.WaitGroup
	good, bad := make([]atomic.Int64, len(channels)), make([]atomic.Int64, len(channels))
	for i, ch := range channels {
		running.Go(func() {
			for !stop.Load() {
				if ch.read() {
					good[i].Add(1)
				} else {
					bad[i].Add(1)
				}
			}
		})
	}
	defer running.Wait()
	defer stop.Store(true)
	more := func(what string, counts []atomic.Int64) {
		t.Helper()
		for i, ch := range channels {
			before := counts[i].Load()
			eventually(t, ch.name+" "+what, func() bool { return counts[i].Load() > before })
		}
	}
	more("to be read", good)
	s.set("lost 0")
	more("to fail", bad)
	s.set("gpm_2 0 1")
	more("to be read again", good)
}

// The stub's buffer is on each clock in turn; what comes out is monotonic.
func TestReadPower(t *testing.T) {
	const ahead = int64(time.Hour) // sets this test's monotonic clock apart from the boot-time clock
	for _, tt := range []struct {
		name   string
		script string
		want   string
	}{
		{"realtime", "samples 0 realtime 20 119", "realtime"},
		{"boottime", "samples 0 boottime 20 119", "boottime"},
		{"monotonic", "samples 0 monotonic 20 119\nsamples_shift_s 0 3600", "monotonic"},
		{"none", "samples 0 realtime 20 119\nsamples_shift_s 0 -86400", ""},
		{"too old", "samples 0 realtime 20 119\nsamples_shift_s 0 -3.5", ""},
		{"in the future", "samples 0 realtime 20 119\nsamples_shift_s 0 1", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStub(t, tt.script, "power_mw 0 150000")
			now := func() int64 { return clock.Now() + ahead }
			opening := now()
			d, err := Open(Options{LibraryPath: s.library(), Clock: now})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			g := d.GPUs()[0]
			if got := g.Info().Channels["power"]; got != "ok" {
				t.Errorf("channel power = %s", got)
			}
			clock.System().SleepUntil(clock.Now() + 100e6)
			var p gpu.PowerBatch
			err = g.ReadPower(&p)
			if tt.want == "" {
				if !errors.Is(err, ErrUnknownClock) || len(p.Entries) > 0 {
					t.Errorf("%v, %d entries; want %v", err, len(p.Entries), ErrUnknownClock)
				}
				return
			}
			if err != nil || p.Clock != tt.want || p.Overflow {
				t.Fatalf("error %v, clock %q, overflow %v; want %q", err, p.Clock, p.Overflow, tt.want)
			}
			if n := len(p.Entries); n < 4 || n > 119 {
				t.Fatalf("%d entries in 100 ms or a little more, want 5 or so", n)
			}
			first, last := p.Entries[0].TimeNS, p.Entries[len(p.Entries)-1].TimeNS
			if first < opening-21e6 || last > now() || last < now()-5e9 {
				t.Errorf("from %d to %d ns after Open began, now %d", first-opening, last-opening, now()-opening)
			}
			for i, e := range p.Entries {
				if e.GPU != 0 || e.PowerW != 150 {
					t.Errorf("entry %d: %+v", i, e)
				}
				if i > 0 {
					if dt := e.TimeNS - p.Entries[i-1].TimeNS; dt != 20e6 {
						t.Errorf("spacing %d ns, want 20 ms", dt)
					}
				}
			}
		})
	}
}

// A driver that hands out everything each time is read once, and one that has
// nothing new is in order.
func TestReadPowerRepeats(t *testing.T) {
	for _, line := range []string{"samples_repeat 0 1", ""} {
		_, g := openGPU(t, "samples 0 realtime 20 119", line)
		var all []record.Power
		for range 40 {
			var p gpu.PowerBatch
			if err := g.ReadPower(&p); err != nil || p.Overflow {
				t.Fatalf("error %v, overflow %v", err, p.Overflow)
			}
			all = append(all, p.Entries...)
			time.Sleep(2 * time.Millisecond)
		}
		if len(all) < 3 {
			t.Fatalf("%d entries in 80 ms", len(all))
		}
		for i := 1; i < len(all); i++ {
			if dt := all[i].TimeNS - all[i-1].TimeNS; dt < 15e6 || dt > 25e6 {
				t.Errorf("%q: spacing %d ns at %d, want 20 ms", line, dt, i)
			}
		}
	}
}

// Five entries of 20 ms are kept; after 200 ms some are missing.
func TestReadPowerOverflow(t *testing.T) {
	_, g := openGPU(t, "samples 0 realtime 20 5")
	time.Sleep(200 * time.Millisecond)
	var p gpu.PowerBatch
	if err := g.ReadPower(&p); err != nil || !p.Overflow || len(p.Entries) != 5 {
		t.Errorf("error %v, overflow %v, %d entries; want an overflow and 5", err, p.Overflow, len(p.Entries))
	}
}

func TestReadPowerFails(t *testing.T) {
	s, g := openGPU(t)
	s.set("error nvmlDeviceGetSamples 0 NVML_ERROR_UNKNOWN")
	checkErr(t, "ReadPower", g.ReadPower(new(gpu.PowerBatch)), "NVML_ERROR_UNKNOWN")
	s.set("error nvmlDeviceGetSamples 0 NVML_ERROR_NOT_FOUND")
	checkErr(t, "nothing new", g.ReadPower(new(gpu.PowerBatch)), "")
	s.set()
	checkErr(t, "ReadPower", g.ReadPower(new(gpu.PowerBatch)), "")
}

// The rules of a harvest, on stamps in milliseconds of a clock that is 100 s
// ahead of the monotonic one.
func TestHarvest(t *testing.T) {
	const ahead = 100_000 // ms
	type harvest struct {
		now      int64 // ms, monotonic
		ahead    int64 // ms, of the driver's clock
		stamps   []int64
		want     []int64 // ms, monotonic
		overflow bool
		err      error
	}
	run := func(from, to, step int64) (s []int64) {
		for ; from <= to; from += step {
			s = append(s, from)
		}
		return s
	}
	for _, tt := range []struct {
		name     string
		harvests []harvest
	}{
		{"only the new", []harvest{
			{1000, ahead, run(100_900, 101_000, 20), run(900, 1000, 20), false, nil},
			{1040, ahead, run(100_900, 101_040, 20), run(1020, 1040, 20), false, nil},
			{1041, ahead, run(100_900, 101_040, 20), nil, false, nil},
		}},
		{"no order", []harvest{
			{1000, ahead, []int64{101_000, 100_960, 0, 100_980}, []int64{960, 980, 1000}, false, nil},
		}},
		{"overflow", []harvest{
			{1000, ahead, run(100_900, 101_000, 20), run(900, 1000, 20), false, nil},
			{2000, ahead, run(101_900, 102_000, 20), run(1900, 2000, 20), true, nil},
		}},
		{"a stall of the driver is no overflow", []harvest{
			{1000, ahead, run(100_900, 101_000, 20), run(900, 1000, 20), false, nil},
			{2000, ahead, run(101_960, 102_000, 20), run(1960, 2000, 20), false, nil},
		}},
		{"a full buffer without a hole is no overflow", []harvest{
			{1000, ahead, run(100_900, 101_000, 20), run(900, 1000, 20), false, nil},
			{1125, ahead, run(101_025, 101_125, 20), run(1025, 1125, 20), false, nil},
		}},
		{"the clock is set back", []harvest{
			{1000, ahead, run(100_900, 101_000, 20), run(900, 1000, 20), false, nil},
			{1100, ahead - 50_000, append(run(100_920, 101_000, 20), 51_100), nil, false, ErrClockSet},
			{4000, ahead - 50_000, run(53_900, 54_000, 20), nil, false, ErrClockSet},
			{4200, ahead - 50_000, run(54_100, 54_200, 20), run(4100, 4200, 20), true, nil},
			{4240, ahead - 50_000, run(54_140, 54_240, 20), run(4220, 4240, 20), false, nil},
		}},
		{"the clock is set back a little", []harvest{ // entries of before lie among those of after
			{1000, ahead, run(100_900, 101_000, 20), run(900, 1000, 20), false, nil},
			{1200, ahead - 150, run(100_960, 101_080, 10), nil, false, ErrClockSet},
			{4100, ahead - 150, run(103_000, 103_950, 20), nil, false, ErrClockSet},
			{4300, ahead - 150, run(104_050, 104_150, 20), run(4200, 4300, 20), true, nil},
		}},
		{"the clock is set forward", []harvest{ // the first two are of before
			{1000, ahead, run(100_900, 101_000, 20), run(900, 1000, 20), false, nil},
			{1100, ahead + 500, []int64{101_020, 101_040, 101_560, 101_580, 101_600}, nil, false, ErrClockSet},
			{4200, ahead + 500, run(104_600, 104_700, 20), run(4100, 4200, 20), true, nil},
		}},
		{"a long buffer is waited for longer", []harvest{
			{9000, ahead, run(101_000, 109_000, 100), run(1000, 9000, 100), false, nil},
			{9100, ahead + 500, nil, nil, false, ErrClockSet},
			{17_000, ahead + 500, run(109_000, 117_500, 100), nil, false, ErrClockSet},
			{17_200, ahead + 500, run(109_700, 117_700, 100), run(9200, 17_200, 100), true, nil},
		}},
		{"a disciplined clock is not set", []harvest{
			{1000, ahead, run(100_900, 101_000, 20), run(900, 1000, 20), false, nil},
			{1100, ahead + 9, run(101_029, 101_109, 20), run(1020, 1100, 20), false, nil},
			{1200, ahead + 18, run(101_138, 101_218, 20), run(1120, 1200, 20), false, nil},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := new(board)
			for i, h := range tt.harvests {
				clocks := [3]instant{{"realtime", (h.now + h.ahead) * 1e6}, {"boottime", 1e18}, {"monotonic", h.now * 1e6}}
				b.power.since(clocks)
				var samples []nv.Sample
				for _, ms := range h.stamps {
					samples = append(samples, sample(ms*1000, 50_000))
				}
				var p gpu.PowerBatch
				err := b.harvest(&p, nv.VALUE_TYPE_UNSIGNED_INT, samples, clocks)
				var got []int64
				for _, e := range p.Entries {
					got = append(got, e.TimeNS/1e6)
				}
				if !slices.Equal(got, h.want) || p.Overflow != h.overflow || err != h.err {
					t.Errorf("harvest %d: %v, overflow %v, error %v\nwant %v, %v, %v", i, got, p.Overflow, err, h.want, h.overflow, h.err)
				}
			}
		})
	}
}

func sample(us int64, mw uint32) nv.Sample {
	s := nv.Sample{TimeStamp: uint64(us)}
	binary.NativeEndian.PutUint32(s.SampleValue[:], mw)
	return s
}

// An entry that cannot be is left out, and said; the others stand.
func TestHarvestImplausible(t *testing.T) {
	b := new(board)
	b.info.PowerLimitDefaultW = record.Some(700.0)
	clocks := [3]instant{{"realtime", 2e9}, {"boottime", 1e18}, {"monotonic", 1e9}}
	samples := []nv.Sample{sample(1_960_000, 100_000), sample(1_980_000, math.MaxUint32), sample(2_000_000, 1_500_000)}
	var p gpu.PowerBatch
	err := b.harvest(&p, nv.VALUE_TYPE_UNSIGNED_INT, samples, clocks)
	if !errors.Is(err, gpu.ErrImplausible) || len(p.Entries) != 1 || p.Entries[0] != (record.Power{TimeNS: 960e6, PowerW: 100}) {
		t.Errorf("%v, %+v", err, p.Entries)
	}
	if err := b.harvest(&p, nv.VALUE_TYPE_COUNT, []nv.Sample{sample(2_020_000, 1)}, [3]instant{{"realtime", 2.02e9}, {}, {"monotonic", 1.02e9}}); !errors.Is(err, gpu.ErrImplausible) {
		t.Errorf("a value of no known type: %v", err)
	}
}

func TestNumber(t *testing.T) {
	bits := func(u uint64) (v [8]byte) {
		binary.NativeEndian.PutUint64(v[:], u)
		return v
	}
	for _, tt := range []struct {
		name string
		v    [8]byte
		typ  nv.ValueType
		want float64
		ok   bool
	}{
		{"double", bits(math.Float64bits(1.5)), nv.VALUE_TYPE_DOUBLE, 1.5, true},
		{"unsigned int", sample(0, 4294967295).SampleValue, nv.VALUE_TYPE_UNSIGNED_INT, 4294967295, true},
		{"unsigned long", bits(1 << 40), nv.VALUE_TYPE_UNSIGNED_LONG, 1 << 40, true},
		{"unsigned long long", bits(1 << 41), nv.VALUE_TYPE_UNSIGNED_LONG_LONG, 1 << 41, true},
		{"signed long long", bits(math.MaxUint64), nv.VALUE_TYPE_SIGNED_LONG_LONG, -1, true},
		{"signed int", sample(0, math.MaxUint32).SampleValue, nv.VALUE_TYPE_SIGNED_INT, -1, true},
		{"unsigned short", [8]byte{0xff, 0xff, 1}, nv.VALUE_TYPE_UNSIGNED_SHORT, 65535, true},
		{"unknown", bits(1), nv.VALUE_TYPE_COUNT, 0, false},
	} {
		if got, ok := number(tt.v, tt.typ); got != tt.want || ok != tt.ok {
			t.Errorf("%s: %v, %v; want %v, %v", tt.name, got, ok, tt.want, tt.ok)
		}
	}
}

func BenchmarkReadSample(b *testing.B) {
	_, g := openGPU(b, "static")
	var s record.Sample
	b.ReportAllocs()
	for b.Loop() {
		g.ReadSample(&s)
	}
	if !s.ReadOK {
		b.Fatalf("%+v", s)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
