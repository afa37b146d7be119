package energy_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"joulepipe/pkg/energy"
	"joulepipe/pkg/record"
	"joulepipe/pkg/sensor"
)

// shown is a simulated channel: what it is told to be, and how it is read.
type shown struct {
	name           string
	channel        string
	update, window float64 // ms
	poll           float64 // ms; 0: the channel stamps its readings itself
	rms            float64 // share by which events may be off, one standard deviation
}

// outcome is how the events of one phase came out.
type outcome struct {
	phase                   string
	n, inside, far, refused int
	squares                 float64
}

// TestCoverage is simulated sensors, with the exact energy as the truth: 95 %
// intervals must hold it in about 95 % of the cases. JOULEPIPE_LONG has 1000
// seeds of each.
func TestCoverage(t *testing.T) {
	if testing.Short() {
		t.Skip("statistics over many runs")
	}
	t.Parallel()
	seeds := 6
	if os.Getenv("JOULEPIPE_LONG") != "" {
		seeds = 1000
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-26s %-8s %6s %8s %7s %7s %7s\n", "sensor", "phase", "events", "refused", "inside", "|z|>4", "rms")
	for _, s := range []shown{
		{"20/20, stamped", energy.Driver, 20, 20, 0, 0.005},
		{"100/100, read each 20", energy.Instant, 100, 100, 20, 0.01},
		{"100/100, read each 100", energy.Instant, 100, 100, 100, 0.04},
		{"1000/100, read each 20", energy.Average, 100, 1000, 20, 0.025},
		{"25/100, read each 20", energy.Instant, 100, 25, 20, 0.015},
		{"500/500, read each 50", energy.Average, 500, 500, 50, 0.07},
	} {
		total := outcome{phase: "all"}
		byPhase := map[string]*outcome{}
		for seed := range seeds {
			simulate(t, s, uint64(seed), func(e *record.Event, truth float64) {
				o := byPhase[e.Phase]
				if o == nil {
					o = &outcome{phase: e.Phase}
					byPhase[e.Phase] = o
				}
				o.add(e, truth)
				total.add(e, truth)
			})
		}
		for _, o := range []*outcome{byPhase["prefill"], byPhase["decode"], byPhase["idle"], &total} {
			n := float64(o.n)
			fmt.Fprintf(&b, "%-26s %-8s %6d %8d %6.1f%% %6.2f%% %6.2f%%\n", s.name, o.phase, o.n, o.refused, 100*float64(o.inside)/n, 100*float64(o.far)/n, 100*math.Sqrt(o.squares/n))
		}
		// With few seeds delays and noise are found from few events; each run
		// shares what it found wrongly.
		inside, far := float64(total.inside)/float64(total.n), float64(total.far)/float64(total.n)
		lo, most := 0.88, 0.015
		if seeds > 100 {
			lo, most = 0.92, 0.012
		}
		if inside < lo {
			t.Errorf("%s: %.1f %% of the truths lie inside the 95 %% intervals, want %.0f", s.name, 100*inside, 100*lo)
		}
		if far > most {
			t.Errorf("%s: %.2f %% are off by more than four standard deviations, want %.2f at most", s.name, 100*far, 100*most)
		}
		if rms := math.Sqrt(total.squares / float64(total.n)); rms > s.rms {
			t.Errorf("%s: off by %.2f %% rms, want %.2f", s.name, 100*rms, 100*s.rms)
		}
	}
	t.Log("\n" + b.String())
}

func (o *outcome) add(e *record.Event, truth float64) {
	j, ok := e.Energy.Joules.Get()
	if !ok || e.Energy.Tier == energy.Refused {
		o.refused++
		if !ok {
			return
		}
	}
	z := (j - truth) / (e.Energy.CI95J.V / 1.96)
	o.n++
	if math.Abs(z) < 1.96 {
		o.inside++
	}
	if math.Abs(z) > 4 {
		o.far++
	}
	o.squares += (j/truth - 1) * (j/truth - 1)
}

// simulate is 40 requests, each a prefill and a decode whose power differs by
// 3 % from one to the next, and some stretches of idle, as a sensor shows them.
func simulate(t *testing.T, s shown, seed uint64, finish func(e *record.Event, truth float64)) {
	rng := rand.New(rand.NewPCG(seed, 7))
	var power sensor.Curve
	var events []*record.Event
	truth := map[string]float64{}
	now := int64(0)
	work := func(phase string, seconds, watts float64) {
		d := int64(seconds * 1e9)
		if phase != "" {
			e := &record.Event{ID: fmt.Sprint(len(events)), Phase: phase, StartNS: now, EndNS: now + d, GPUs: []int{0}}
			events = append(events, e)
			truth[e.ID] = watts * float64(d) / 1e9
		}
		now += d
		power.Until(now, watts)
	}
	work("", 15, 60)
	for i := range 40 {
		work("prefill", 0.08+0.3*rng.Float64(), 300*(1+0.03*rng.NormFloat64()))
		work("decode", 0.3+1.5*rng.Float64(), 180*(1+0.03*rng.NormFloat64()))
		work("", 0.2+rng.Float64(), 60)
		if i%4 == 0 {
			work("idle", 0.3+rng.Float64(), 60)
			work("", 0.5+rng.Float64(), 60)
		}
	}
	work("", 12, 60)

	told := &sensor.Channel{
		UpdateMS: record.Some(s.update), WindowMS: record.Some(s.window), WindowCI95MS: []float64{0.99 * s.window, 1.01 * s.window},
		LagMS: record.Some(0.0), LagCI95MS: []float64{-1, 1}, Coverage: record.Some(min(1, s.window/s.update)),
	}
	a, err := energy.New(energy.Options{Sensors: &sensor.Sensors{GPUs: []sensor.GPU{{Channels: map[string]*sensor.Channel{s.channel: told}}}}},
		func(e *record.Event) error {
			finish(e, truth[e.ID])
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	ms := func(v float64) time.Duration { return time.Duration(v * 1e6) }
	model := sensor.Model{Update: ms(s.update), Window: ms(s.window), Phase: ms(rng.Float64() * s.update)}
	next := 0
	observe := func(r record.Record, ns int64) {
		for ; next < len(events) && events[next].StartNS <= ns; next++ {
			if err := a.Event(events[next]); err != nil {
				t.Fatal(err)
			}
		}
		if err := a.Observe(r); err != nil {
			t.Fatal(err)
		}
	}
	update, phase := int64(model.Update), int64(model.Phase)
	if s.poll == 0 {
		for ns := phase; ns < now; ns += update {
			observe(&record.Power{TimeNS: ns, PowerW: model.Reading(&power, ns) + 0.5*rng.NormFloat64()}, ns)
		}
	} else {
		last, value := int64(-1), 0.0
		for k := int64(1); k*int64(ms(s.poll)) < now; k++ {
			ns := k*int64(ms(s.poll)) + int64(3e5*rng.NormFloat64())
			if tick := (ns - phase + update) / update; tick != last {
				last, value = tick, model.Reading(&power, ns)+0.5*rng.NormFloat64()
			}
			r := &record.Sample{TimeNS: ns, ReadOK: true}
			if s.channel == energy.Instant {
				r.PowerInstantW = record.Some(value)
			} else {
				r.PowerAverageW = record.Some(value)
			}
			observe(r, ns)
		}
	}
	if err := a.Finish(); err != nil {
		t.Fatal(err)
	}
}
