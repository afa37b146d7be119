package sensor_test

import (
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"joulepipe/pkg/record"
	"joulepipe/pkg/sensor"
	"joulepipe/pkg/stream"
)

// data is a file of the reference recordings, which are not part of the
// project; without them the test is skipped.
func data(t *testing.T, name ...string) string {
	t.Helper()
	root := os.Getenv("JOULEPIPE_DATA")
	if root == "" {
		root = filepath.Join("..", "..", "..", "shared", "data")
	}
	file := filepath.Join(append([]string{root}, name...)...)
	if _, err := os.Stat(file); err != nil {
		t.Skip("no reference recordings; JOULEPIPE_DATA says where they are")
	}
	return file
}

// scan hands the records of a file to a function.
func scan(t *testing.T, file string, to func(record.Record)) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := stream.NewReader(f, filepath.Base(file))
	for r.Scan() {
		to(r.Record())
	}
	if r.Err() != nil {
		t.Fatal(r.Err())
	}
}

// table hands the rows of a gzipped or plain CSV of whole numbers to a function.
func table(t *testing.T, file string, to func(row []string)) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var in io.Reader = f
	if filepath.Ext(file) == ".gz" {
		if in, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := csv.NewReader(in).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows[1:] {
		to(r)
	}
}

func number(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func finish(t *testing.T, f *sensor.Fitter) sensor.GPU {
	t.Helper()
	s, err := f.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if b, err := json.MarshalIndent(s, "", " "); err == nil && testing.Verbose() {
		t.Logf("%s", b)
	}
	return s.GPUs[0]
}

// within asserts that a value is there and near.
func within(t *testing.T, what string, got record.Opt[float64], lo, hi float64) {
	t.Helper()
	if v, ok := got.Get(); !ok || v < lo || v > hi {
		t.Errorf("%s is %v, want one from %g to %g", what, got, lo, hi)
	}
}

// holds asserts that an interval has a value in it.
func holds(t *testing.T, what string, ci []float64, v float64) {
	t.Helper()
	if len(ci) != 2 || ci[0] > v || ci[1] < v {
		t.Errorf("%s lies in %v, want %g in it", what, ci, v)
	}
}

func toggle(t *testing.T, f *sensor.Fitter, board string) {
	t.Helper()
	table(t, data(t, "external-meter", board, "load_toggles.csv"), func(row []string) { f.Toggle(number(t, row[0])) })
}

// board is a board with an external meter, from what NVML showed alone.
func board(t *testing.T, name string) sensor.GPU {
	t.Helper()
	f := sensor.NewFitter()
	scan(t, data(t, "external-meter", name, "nvml.csv.gz"), f.Observe)
	toggle(t, f, name)
	return finish(t, f)
}

// metered is the same with the external meter, in bins of 5 ms, in the place
// of the driver's buffer.
func metered(t *testing.T, name string) sensor.GPU {
	t.Helper()
	f := sensor.NewFitter()
	var bin, n int64
	sum := 0.0
	scan(t, data(t, "external-meter", name, "meter.csv.gz"), func(r record.Record) {
		s, ok := r.(*record.Sample)
		if !ok {
			return
		}
		if b := s.TimeNS / 5e6; b != bin {
			if n > 0 {
				f.Observe(&record.Power{TimeNS: (bin + 1) * 5e6, PowerW: sum / float64(n)})
			}
			bin, n, sum = b, 0, 0
		}
		n++
		sum += s.PowerW.V
	})
	scan(t, data(t, "external-meter", name, "nvml.csv.gz"), f.Observe)
	toggle(t, f, name)
	return finish(t, f)
}

// Two edges bound the instant channel's window and do not tell it: the board
// takes the load in two stages, and the load's own times are no more exact.
// The average is of the eleven last values of the instant channel, each of
// which stands for 100 ms.
func TestRTX3090Steps(t *testing.T) {
	t.Parallel()
	g := board(t, "rtx3090-steps")
	instant, average, power := g.Channels["instant"], g.Channels["average"], g.Channels["power"]
	within(t, "instant update", instant.UpdateMS, 99.86, 100.06)
	within(t, "average update", average.UpdateMS, 99.86, 100.06)
	holds(t, "instant window", instant.WindowCI95MS, 100)
	within(t, "instant rise", instant.RiseMS, 200, 270)
	within(t, "average rise", average.RiseMS, 880, 960)
	within(t, "average window", average.WindowMS, 1050, 1150)
	holds(t, "average window", average.WindowCI95MS, 1100)
	within(t, "steps", instant.DeltaWatts, 260, 295)
	if average.Class != sensor.Averaged || average.Pass.V || !instant.Pass.V || power.SameAs != "average" {
		t.Errorf("average %s pass %v, instant pass %v, power same as %q", average.Class, average.Pass, instant.Pass, power.SameAs)
	}
}

// A load whose period is the sensor's cannot tell windows apart without a
// level to pin the amplitude to: no window may be named that is not the true
// one.
func TestRTX3090Square(t *testing.T) {
	t.Parallel()
	g := board(t, "rtx3090-square")
	instant := g.Channels["instant"]
	within(t, "instant update", instant.UpdateMS, 99.66, 100.26)
	if instant.Ambiguous == nil {
		holds(t, "instant window", instant.WindowCI95MS, 100)
		if w, ok := instant.WindowMS.Get(); ok && (w < 95 || w > 105) {
			t.Errorf("the window is told as %g ms", w)
		}
	} else if !slices.ContainsFunc(instant.Ambiguous, func(w float64) bool { return w > 95 && w < 105 }) {
		t.Errorf("the window is %v or one of %g ms", instant.WindowMS, instant.Ambiguous)
	}
	holds(t, "average window", g.Channels["average"].WindowCI95MS, 1100)
	if c := g.Channels["average"].Class; c != sensor.Averaged {
		t.Errorf("average is %s", c)
	}
}

// Steps pin the height of the square wave, and that its readings are flat then
// tells the window.
func TestRTX3090Both(t *testing.T) {
	if testing.Short() {
		t.Skip("long, and with nothing in it that runs at the same time")
	}
	t.Parallel()
	f := sensor.NewFitter()
	later := func(ns int64) int64 { return ns + 30e9 }
	scan(t, data(t, "external-meter", "rtx3090-steps", "nvml.csv.gz"), f.Observe)
	toggles := 0
	table(t, data(t, "external-meter", "rtx3090-steps", "load_toggles.csv"), func(row []string) {
		if toggles++; toggles <= 4 { // not the end, for the other goes on
			f.Toggle(number(t, row[0]))
		}
	})
	scan(t, data(t, "external-meter", "rtx3090-square", "nvml.csv.gz"), func(r record.Record) {
		if s, ok := r.(*record.Sample); ok {
			s.TimeNS = later(s.TimeNS)
			f.Observe(s)
		}
	})
	table(t, data(t, "external-meter", "rtx3090-square", "load_toggles.csv"), func(row []string) { f.Toggle(later(number(t, row[0]))) })
	instant := finish(t, f).Channels["instant"]
	within(t, "window", instant.WindowMS, 95, 105)
	holds(t, "window", instant.WindowCI95MS, 100)
}

// No update fell inside an edge of this recording.
func TestA100Steps(t *testing.T) {
	t.Parallel()
	g := board(t, "a100-steps")
	c := g.Channels["power"]
	within(t, "update", c.UpdateMS, 101.1, 101.3)
	holds(t, "window", c.WindowCI95MS, 25)
	if w, ok := c.WindowMS.Get(); ok && c.Ambiguous == nil && (w < 20 || w > 35) {
		t.Errorf("the window is told as %g ms", w)
	}
	if c.SameAs != "instant" || c.Class != sensor.Instant || !c.Pass.V || len(c.Reasons) == 0 {
		t.Errorf("got %+v", *c)
	}
}

// What the fit makes of the load alone has to hold against the external meter.
func TestMeter(t *testing.T) {
	if testing.Short() {
		t.Skip("long, and with nothing in it that runs at the same time")
	}
	t.Parallel()
	average := metered(t, "rtx3090-steps").Channels["average"]
	holds(t, "RTX 3090 average window", average.WindowCI95MS, 1100)
	within(t, "RTX 3090 average window", average.WindowMS, 1050, 1180)
	a100 := metered(t, "a100-steps").Channels["instant"]
	holds(t, "A100 window", a100.WindowCI95MS, 25)
	if len(a100.WindowCI95MS) == 2 && a100.WindowCI95MS[1] > 80 {
		t.Errorf("the A100's window may be as long as %g ms", a100.WindowCI95MS[1])
	}
}

// The driver's buffer, the counter and the instant channel see the same power
// through the same 14 ms of the board and its regulators: the buffer samples
// that every 20 ms, the counter integrates it and moves every 100 ms, the
// instant channel shows one sample in five.
func TestH200(t *testing.T) {
	if testing.Short() {
		t.Skip("long, and with nothing in it that runs at the same time")
	}
	t.Parallel()
	f := sensor.NewFitter()
	scan(t, data(t, "h200", "poll_5ms.csv.gz"), f.Observe)
	scan(t, data(t, "h200", "driver_samples.csv.gz"), func(r record.Record) {
		if s, ok := r.(*record.Sample); ok {
			f.Observe(&record.Power{TimeNS: s.TimeNS, PowerW: s.PowerW.V})
		}
	})
	table(t, data(t, "h200", "energy_counter.csv.gz"), func(row []string) {
		f.Observe(&record.Counter{BeforeNS: number(t, row[0]), TimeNS: number(t, row[1]), EnergyMilliJ: record.Some(number(t, row[2]))})
	})
	scan(t, data(t, "h200", "events.jsonl"), f.ObserveLoad)
	g := finish(t, f)
	slow(t, g)
	instant := g.Channels["instant"]
	within(t, "instant update", instant.UpdateMS, 99.9, 100.1)
	within(t, "instant coverage", instant.Coverage, 0.18, 0.3)
	within(t, "instant rise", instant.RiseMS, 50, 130)
	within(t, "instant gain", instant.Gain, 0.99, 1.01)
	within(t, "average update", g.Channels["power"].UpdateMS, 99.9, 100.1)
	if instant.Class != sensor.Instant || instant.WindowCI95MS[1] > 30 {
		t.Errorf("instant is %s with a window in %v", instant.Class, instant.WindowCI95MS)
	}
}

// A poller at 100 ms keeps all of the buffer and the counter, and one read of
// each update of the others: their clocks and short windows are not to be had.
func TestH200Trimmed(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic, in which nothing runs at the same time")
	}
	t.Parallel()
	f := sensor.NewFitter()
	dir := filepath.Join("..", "..", "testdata", "h200")
	scan(t, filepath.Join(dir, "trace.ndjson.zst"), f.Observe)
	scan(t, filepath.Join(dir, "events.ndjson"), f.ObserveLoad)
	g := finish(t, f)
	slow(t, g)
	instant := g.Channels["instant"]
	if instant.UpdateMS.OK || instant.WindowMS.OK || instant.Coverage.OK || len(instant.Reasons) == 0 {
		t.Errorf("instant, polled at its own pace: %+v", *instant)
	}
	if g.Name != "NVIDIA H200" || g.Driver == "" {
		t.Errorf("name %q, driver %q", g.Name, g.Driver)
	}
}

// slow asserts what a poller at 100 ms finds of the H200, too.
func slow(t *testing.T, g sensor.GPU) {
	t.Helper()
	driver, counter, power := g.Channels["driver"], g.Channels["counter"], g.Channels["power"]
	within(t, "driver update", driver.UpdateMS, 19.9, 20.2)
	within(t, "driver coverage", driver.Coverage, 0.95, 1)
	within(t, "driver gain", driver.Gain, 0.995, 1.005)
	within(t, "driver rise", driver.RiseMS, 30, 90)
	within(t, "steps", driver.DeltaWatts, 540, 590)
	within(t, "counter update", counter.UpdateMS, 99.99, 100.01)
	within(t, "counter window", counter.WindowMS, 97, 103)
	within(t, "power window", power.WindowMS, 980, 1030)
	within(t, "power rise", power.RiseMS, 780, 850)
	if counter.Class != sensor.Integrator || power.Class != sensor.Averaged || power.Pass.V || g.Use != "driver" {
		t.Errorf("counter is %s, power %s pass %v, use %q", counter.Class, power.Class, power.Pass, g.Use)
	}
	// The step as it was measured apart: idle 123 W at 2 ms, then 665 W.
	chain, ok := driver.Chain()
	if !ok {
		t.Fatal("the driver's buffer has no chain")
	}
	for age, watts := range map[float64]float64{2: 123, 22: 476, 42: 623, 62: 651} {
		if got := 123 + (665-123)*chain.Answer(age); math.Abs(got-watts) > 45 {
			t.Errorf("%g ms after the step the model shows %.0f W, the driver showed %g W", age, got, watts)
		}
	}
}
