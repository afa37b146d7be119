package load

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"testing"
	"time"

	"joulepipe/pkg/clock"
	"joulepipe/pkg/gpu"
	"joulepipe/pkg/gpu/sim"
	"joulepipe/pkg/record"
)

// simulated is a simulated board that was switched on at second 1, a load on
// it, and its truth, all at second 10.
func simulated(t *testing.T, profile string) (*clock.Fake, *Sim, *sim.Device) {
	t.Helper()
	c := clock.NewFake(10e9)
	file := filepath.Join(t.TempDir(), "gpu.sim")
	l, err := sim.OpenLoad(file, sim.Setup{Profile: profile, OriginNS: 1e9, GPUs: 2})
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	dev, err := OpenSim(sim.Options{File: file, Clock: c}, []string{"1"})
	if err != nil {
		t.Fatal(err)
	}
	truth, err := sim.Open(sim.Options{File: file, Clock: c})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(dev.Close(), truth.Close()); err != nil {
			t.Error(err)
		}
	})
	return c, dev, truth
}

func joules(t *testing.T, truth *sim.Device, gpu int, from, until int64) float64 {
	t.Helper()
	e, err := truth.Energy(gpu, from, until)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// The GPU draws the load's energy in the events and nowhere else, by the truth
// of the simulation, and the events' energies add up to that of the whole.
func TestTruthOfSquare(t *testing.T) {
	t.Parallel()
	for profile, swing := range map[string]struct{ low, high float64 }{"h200": {124, 665}, "rtx4080-laptop": {27.5, 143}} {
		c, dev, truth := simulated(t, profile)
		var events []*record.Event
		plan := Square{Low: 3 * time.Second, High: 3 * time.Second, Cycles: 3, Kernel: FP32}.Plan()
		err := Play(context.Background(), c, dev, plan, func(r record.Record) error {
			events = append(events, r.(*record.Event))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		c.Advance(5e9)
		sum := 0.0
		for i, e := range events {
			if i > 0 && e.StartNS != events[i-1].EndNS {
				t.Errorf("%s: %s does not begin where %s ends", profile, e.ID, events[i-1].ID)
			}
			j := joules(t, truth, 1, e.StartNS, e.EndNS)
			sum += j
			// The last second, at which the board has settled after the step.
			w := joules(t, truth, 1, e.EndNS-1e9, e.EndNS)
			want := swing.low
			if e.Phase == "square_high" {
				want = swing.high
			} else if profile != "h200" && i > 0 {
				continue // a board that lingers awake
			}
			if math.Abs(w-want) > 0.05*want {
				t.Errorf("%s: %s draws %.1f W: want about %.0f", profile, e.ID, w, want)
			}
		}
		first, last := events[0], events[len(events)-1]
		whole := joules(t, truth, 1, first.StartNS, last.EndNS)
		if math.Abs(sum-whole) > 1e-6*whole {
			t.Errorf("%s: the events come to %.6f J, the time from first to last to %.6f J", profile, sum, whole)
		}
		if all := joules(t, truth, 1, first.StartNS-5e9, first.StartNS); all > 5*1.05*80 {
			t.Errorf("%s: %.1f J in the 5 s before", profile, all)
		}
		// Only the board's own decay lies behind the last event, none of the load.
		behind := joules(t, truth, 1, last.EndNS+1e9, last.EndNS+2e9)
		if high := joules(t, truth, 1, last.EndNS-1e9, last.EndNS); behind > high/2 {
			t.Errorf("%s: %.1f J in the second second after the load, %.1f in its last", profile, behind, high)
		}
		if other := joules(t, truth, 0, first.StartNS, last.EndNS); other > whole/2 {
			t.Errorf("%s: the other GPU draws %.1f J", profile, other)
		}
	}
}

func TestIntensity(t *testing.T) {
	t.Parallel()
	c, dev, truth := simulated(t, "h200")
	before := 0.0
	for _, share := range []float64{0, 0.25, 0.5, 1} {
		var event *record.Event
		plan := Steady{Duration: 2 * time.Second, Level: BF16.Level(share), Event: record.Event{Phase: "soak"}}.Plan()
		if err := Play(context.Background(), c, dev, plan, func(r record.Record) error { event = r.(*record.Event); return nil }); err != nil {
			t.Fatal(err)
		}
		j := joules(t, truth, 1, event.StartNS, event.EndNS)
		if j < before+50 {
			t.Errorf("intensity %v takes %.1f J, the one before %.1f", share, j, before)
		}
		before = j
	}
}

func TestEveryBoardIsKnown(t *testing.T) {
	t.Parallel()
	for _, name := range sim.Profiles() {
		if b := boards[name]; !(b.FLOPS > 0 && b.Bandwidth > 0) {
			t.Errorf("%s is %+v", name, b)
		}
		_, dev, _ := simulated(t, name)
		if dev.VRAM() < 8000 || dev.Board() != boards[name] || len(dev.Info()) != 1 || dev.Info()[0].Index != 1 {
			t.Errorf("%s: %v MiB, %+v, %+v", name, dev.VRAM(), dev.Board(), dev.Info())
		}
	}
}

func TestNoSuchGPU(t *testing.T) {
	t.Parallel()
	_, err := OpenSim(sim.Options{File: filepath.Join(t.TempDir(), "gpu.sim")}, []string{"3"})
	var missing *gpu.UnavailableError
	if !errors.As(err, &missing) {
		t.Errorf("%v", err)
	}
}

func TestFits(t *testing.T) {
	t.Parallel()
	_, laptop, _ := simulated(t, "rtx4080-laptop")
	_, h200, _ := simulated(t, "h200")
	llama := Infer{Shape: shape(t, "llama-3.1-8b"), Batches: []int{1}, Prompts: []int{1024}, Gens: []int{64}, Reps: 1}.Plan(laptop.Board())
	if err := Fits(laptop, llama); err == nil {
		t.Error("16 GB of weights fit into 12 GB")
	}
	if err := Fits(h200, llama); err != nil {
		t.Error(err)
	}
	if err := Fits(Idle{}, Steady{Duration: 1}.Plan()); err != nil {
		t.Error(err)
	}
}
