package thermal_test

import (
	"cmp"
	"flag"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"joulepipe/pkg/record"
	"joulepipe/pkg/thermal"
)

// run is a random GPU under a steady load: a time constant, noise of the
// sensor, and fans that change their speed at some moments.
type run struct {
	start, end float64 // °C
	tau        float64 // seconds
	noise      float64
	fans       []change // in time
}

// change is what fans take from the equilibrium from a moment on.
type change struct{ at, by float64 } // seconds, °C

// family is of the seeds that the runs are drawn from.
const family = 31

// fans are the ways in which they change their speed. The first two are
// what coverage is stated for; no figure of the predictions is of the others.
var fans = []struct {
	name string
	draw func(*rand.Rand) []change
}{
	{"steady", func(*rand.Rand) []change { return nil }},
	{"change once", func(rng *rand.Rand) []change {
		return []change{{60 + 900*rng.Float64(), 1 + 5*rng.Float64()}}
	}},
	{"change twice, by 0 to 8 °C", func(rng *rand.Rand) []change {
		out := []change{{1500 * rng.Float64(), 8 * rng.Float64()}, {1500 * rng.Float64(), 8 * rng.Float64()}}
		slices.SortFunc(out, func(a, b change) int { return cmp.Compare(a.at, b.at) })
		return out
	}},
	{"change early, by 0 to 8 °C", func(rng *rand.Rand) []change {
		return []change{{300 * rng.Float64(), 8 * rng.Float64()}}
	}},
	{"change once, either way", func(rng *rand.Rand) []change {
		return []change{{60 + 900*rng.Float64(), math.Copysign(1+5*rng.Float64(), rng.Float64()-0.5)}}
	}},
}

func draw(seed uint64, fan func(*rand.Rand) []change) run {
	rng := rand.New(rand.NewPCG(seed, family))
	r := run{start: 30 + 20*rng.Float64(), tau: 20 * math.Pow(20, rng.Float64()), noise: 0.3 * rng.Float64()}
	r.end = r.start + 5 + 30*rng.Float64()
	r.fans = fan(rng)
	return r
}

// goal is where the temperature goes at a moment.
func (r run) goal(t float64) float64 {
	goal := r.end
	for _, c := range r.fans {
		if t >= c.at {
			goal -= c.by
		}
	}
	return goal
}

// since is how long ago the fans last changed, +Inf when they have not.
func (r run) since(t float64) float64 {
	since := math.Inf(1)
	for _, c := range r.fans {
		if t >= c.at {
			since = t - c.at
		}
	}
	return since
}

func (r run) at(t float64) float64 {
	c := r.end - (r.end-r.start)*math.Exp(-t/r.tau)
	for _, f := range r.fans {
		if t >= f.at {
			c += f.by * math.Expm1(-(t-f.at)/r.tau)
		}
	}
	return c
}

// How many runs there are, where it is not the few that there are by default:
//
//	go test ./pkg/thermal -timeout 0 -run RandomRuns -v -args -runs 500
//
// and the seed of the first, for others than these.
var (
	howMany = flag.Int("runs", 0, "random runs")
	seed0   = flag.Uint64("seed", 0, "of the first random run")
)

// runs is how many there are, and how often they are judged: as often as by
// default, and less where time is short. The seed rule is wrong the more often
// the oftener it is asked, for it takes the first passing slope.
func runs() (n int, every time.Duration) {
	if *howMany > 0 {
		return *howMany, thermal.DefaultOptions().Every
	}
	return 36, 5 * time.Second
}

// A verdict is wrong when it is given while the true temperature still moves by
// 0.5 °C/min or more over the window that it was given on, and when it is not
// given by the end of a run in which nothing has moved for two windows.
func TestVerdictsOfRandomRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic, in which nothing runs at the same time")
	}
	t.Parallel()
	n, every := runs()
	wrong, far, never := map[string]int{}, map[string]int{}, map[string]int{}
	delay, left := map[string]float64{}, map[string]float64{}
	for seed := range uint64(n) {
		seed += *seed0
		r := draw(seed, fans[seed%2].draw)
		// Judged to the end: no rule may end it.
		o := thermal.DefaultOptions()
		o.Rule, o.Max, o.TripC, o.Every = thermal.Settled, 1e15, 200, every
		s, err := thermal.New(o)
		if err != nil {
			t.Fatal(err)
		}
		until := 1e3 + 6*r.tau + 900
		for _, c := range r.fans {
			until = c.at + 6*r.tau + 900
		}
		true0 := math.Inf(1)
		passed := map[string]float64{}
		for _, x := range (sensor{seed: seed, noise: r.noise, true: r.at}).sparse(until) {
			step := s.Observe(x)
			if step == nil {
				continue
			}
			at := step.DurationS
			if at >= 300 && math.IsInf(true0, 1) && math.Abs(leastSquares(r.at, at)) < 0.5 {
				true0 = at
			}
			for rule, ok := range s.Verdict(0) {
				if _, before := passed[rule]; ok && !before {
					passed[rule] = at
				}
			}
			if s.Over() {
				break
			}
		}
		for _, rule := range thermal.Rules() {
			at, ok := passed[rule]
			if !ok {
				never[rule]++
				wrong[rule]++
				continue
			}
			slope := math.Abs(leastSquares(r.at, at))
			if slope >= 0.5 {
				wrong[rule]++
			}
			if slope >= 0.55 {
				far[rule]++
			}
			delay[rule] += (at - true0) / float64(n)
			left[rule] += math.Abs(r.goal(at)-r.at(at)) / float64(n)
		}
	}
	for _, rule := range thermal.Rules() {
		t.Logf("%-8s wrong in %d of %d (%.1f %%), by a tenth of the threshold in %d, never given in %d; %.0f s after the truth and %.2f °C from the end in the mean",
			rule, wrong[rule], n, 100*float64(wrong[rule])/float64(n), far[rule], never[rule], delay[rule], left[rule])
	}
	if 50*wrong[thermal.Rigorous] >= n {
		t.Errorf("rigorous is wrong in %d of %d", wrong[thermal.Rigorous], n)
	}
	// This one may also refuse: not every run bounds where it goes.
	if given := wrong[thermal.Settled] - never[thermal.Settled]; 50*given >= n || 10*never[thermal.Settled] >= n {
		t.Errorf("settled is wrongly given in %d of %d, and never in %d", given, n, never[thermal.Settled])
	}
	if wrong[thermal.Seed] <= wrong[thermal.Rigorous] {
		t.Errorf("the seed rule is wrong in %d, the rigorous in %d: the runs do not tell them apart", wrong[thermal.Seed], wrong[thermal.Rigorous])
	}
}

// unseen is for how long after a fan has changed its speed no reading of whole
// degrees shows it, s.
const unseen = 60

// The intervals of a run's predictions hold the temperature that the run goes
// to, as its fans are then.
func TestPredictionsOfRandomRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic, in which nothing runs at the same time")
	}
	t.Parallel()
	for i, fan := range fans {
		made, held, first, early := 0, 0, 0, 0
		shown, heldShown := 0, 0 // those that could know of the fans
		n, every := runs()
		if *howMany == 0 {
			if i > 1 {
				break // much more of the same arithmetic
			}
			every = 30 * time.Second
		}
		width, share := 0.0, 0.0
		for seed := range uint64(n) {
			seed += *seed0
			r := draw(seed, fan.draw)
			o := thermal.DefaultOptions()
			o.Rule, o.TripC, o.Every = thermal.Settled, 200, every
			s, err := thermal.New(o)
			if err != nil {
				t.Fatal(err)
			}
			seen := false
			for _, x := range (sensor{seed: seed, noise: r.noise, true: r.at}).sparse(1500) {
				step := s.Observe(x)
				if step == nil || !step.PredictedC.OK || int(step.DurationS)%60 != 0 {
					continue
				}
				goal := r.goal(step.DurationS)
				ok := step.PredictedLowC.V <= goal && goal <= step.PredictedHighC.V
				made++
				if r.since(step.DurationS) > unseen {
					shown++
					if ok {
						heldShown++
					}
				}
				width += step.PredictedHighC.V - step.PredictedLowC.V
				if ok {
					held++
				}
				if !seen {
					seen = true
					first++
					share += (r.at(step.DurationS) - r.start) / (r.end - r.start)
					if ok {
						early++
					}
				}
			}
		}
		t.Logf("fans %s: %d predictions of %d runs, %.1f %% held, ± %.2f °C in the mean; the first of each, after %.0f %% of the rise, in %.1f %%; without the %d of the first %d s after a change %.1f %%",
			fan.name, made, first, 100*float64(held)/float64(made), width/2/float64(made), 100*share/float64(first), 100*float64(early)/float64(first),
			made-shown, unseen, 100*float64(heldShown)/float64(shown))
		if i > 1 {
			if 100*held < 85*made {
				t.Errorf("fans %s: %d of %d held", fan.name, held, made)
			}
			continue
		}
		if 100*held < 95*made || 100*heldShown < 97*shown || 100*early < 90*first {
			t.Errorf("fans %s: %d of %d held, %d of %d of those that could know of a change, %d of %d first ones", fan.name, held, made, heldShown, shown, early, first)
		}
		if first < n*9/10 {
			t.Errorf("fans %s: a prediction in %d of %d runs", fan.name, first, n)
		}
		if half := width / 2 / float64(made); half > 2 {
			t.Errorf("fans %s: ± %.2f °C", fan.name, half)
		}
	}
}

// sparse is two samples a second.
func (x sensor) sparse(until float64) (out []*record.Sample) {
	for i, s := range x.samples(0, until) {
		if i%5 == 0 {
			out = append(out, s)
		}
	}
	return out
}
