package load

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/gpu"
	"joulepipe/pkg/gpu/sim"
	"joulepipe/pkg/record"
	"joulepipe/pkg/sensor"
)

// The load of the test does what it is for: the sensors of a simulated board
// come out as they were made.
func TestResponseTellsTheSensors(t *testing.T) {
	if testing.Short() {
		t.Skip("arithmetic on one thread")
	}
	t.Parallel()
	file := filepath.Join(t.TempDir(), "gpu.sim")
	l, err := sim.OpenLoad(file, sim.Setup{Profile: "h200", OriginNS: 1e9, GPUs: 1})
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	c := clock.NewFake(10e9)
	dev, err := OpenSim(sim.Options{File: file, Clock: c}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var events []record.Record
	plan := Response{Steps: 3, Update: 100 * time.Millisecond, Seed: 3, Kernel: FP32}.Plan()
	if err := Play(context.Background(), c, dev, plan, func(r record.Record) error {
		e := *r.(*record.Event)
		events = append(events, &e)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := dev.Close(); err != nil {
		t.Fatal(err)
	}

	// The sensors are read by a clock of their own, through the same time.
	end := c.Now()
	c = clock.NewFake(10e9)
	watched, err := sim.Open(sim.Options{File: file, Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	defer watched.Close()
	f := sensor.NewFitter()
	board := watched.GPUs()[0]
	counter, batch := new(record.Counter), new(gpu.PowerBatch)
	for tick := 0; c.Now() < end; tick++ {
		s := new(record.Sample)
		board.ReadSample(s)
		f.Observe(s)
		if tick%2 == 0 {
			board.ReadCounter(counter)
			f.Observe(counter)
		}
		if tick%100 == 0 {
			if err := board.ReadPower(batch); err != nil {
				t.Fatal(err)
			}
			for i := range batch.Entries {
				f.Observe(&batch.Entries[i])
			}
			batch.Entries = batch.Entries[:0]
		}
		c.Advance(int64(9+tick%3) * ms)
	}
	for _, e := range events {
		f.ObserveLoad(e)
	}
	found, err := f.Finish()
	if err != nil {
		t.Fatal(err)
	}
	channel := func(name string) *sensor.Channel {
		ch := found.Channel(0, name)
		if ch == nil {
			t.Fatalf("no channel %s", name)
		}
		return ch
	}
	for _, want := range []struct {
		name                     string
		update, window, coverage float64
		class                    sensor.Class
	}{
		{record.ChannelInstant, 100, 20, 0.2, sensor.Instant},
		{record.ChannelAverage, 100, 1000, 1, sensor.Averaged},
		{record.ChannelDriver, 20, 20, 1, sensor.Instant},
		{record.ChannelCounter, 100, 100, 1, sensor.Integrator},
	} {
		got := channel(want.name)
		near := func(what string, v record.Opt[float64], want, tolerance float64) {
			if !v.OK || math.Abs(v.V-want) > tolerance {
				t.Errorf("%s is %v, want %v", what, v, want)
			}
		}
		near(want.name+" update", got.UpdateMS, want.update, 0.01*want.update)
		near(want.name+" window", got.WindowMS, want.window, 0.05*want.window)
		near(want.name+" coverage", got.Coverage, want.coverage, 0.05*want.coverage)
		if got.Class != want.class {
			t.Errorf("%s is %s, want %s: %v", want.name, got.Class, want.class, got.Reasons)
		}
		if ci := got.WindowCI95MS; ci[0] > want.window*1.005 || ci[1] < want.window*0.995 {
			t.Errorf("%s: the window lies in %v, want %v", want.name, ci, want.window)
		}
	}
	if same := channel(record.ChannelPower).SameAs; same != record.ChannelAverage {
		t.Errorf("power is the same as %q", same)
	}
	if channel(record.ChannelAverage).Pass.V || !channel(record.ChannelInstant).Pass.V || found.GPUs[0].Use != record.ChannelDriver {
		t.Errorf("%+v", found.GPUs[0])
	}
}

// A maximal sequence of nine bits has every state but zero once: 256 ones, 255
// zeros, and half of its runs are of one chip.
func TestRuns(t *testing.T) {
	var lengths [2][]int
	on := true
	for high, n := range runs(511) {
		if high != on {
			t.Fatal("runs do not alternate")
		}
		on = !on
		which := 0
		if high {
			which = 1
		}
		lengths[which] = append(lengths[which], n)
	}
	sum := func(x []int) (s int) {
		for _, v := range x {
			s += v
		}
		return s
	}
	if sum(lengths[1]) != 256 || sum(lengths[0]) != 255 {
		t.Errorf("%d chips on, %d off", sum(lengths[1]), sum(lengths[0]))
	}
	if n := len(lengths[0]) + len(lengths[1]); n < 255 || n > 257 || slices.Max(lengths[1]) != 9 {
		t.Errorf("%d runs, the longest of %d chips", n, slices.Max(lengths[1]))
	}
}

// The plan is the same each time it is gone through, and another with another
// seed.
func TestResponsePlan(t *testing.T) {
	total := func(seed uint64) (d time.Duration, n int) {
		for s := range (Response{Steps: 6, Update: 100 * time.Millisecond, Seed: seed, Kernel: FP32}).Plan() {
			if s.Duration <= 0 {
				t.Fatalf("a step of %v", s.Duration)
			}
			d += s.Duration
			if s.Event != nil {
				n++
			}
		}
		return d, n
	}
	d, n := total(1)
	if again, _ := total(1); again != d {
		t.Errorf("it takes %v, then %v", d, again)
	}
	if other, _ := total(2); other == d {
		t.Error("the seed changes nothing")
	}
	if d < 70*time.Second || d > 95*time.Second || n < 200 {
		t.Errorf("%d loads in %v", n, d)
	}
}
