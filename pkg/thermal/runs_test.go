package thermal_test

import (
	"flag"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"joulepipe/pkg/record"
	"joulepipe/pkg/thermal"
)

// run is a random GPU under a steady load: one or two time constants, noise of
// the sensor, and fans that change their speed at some moment.
type run struct {
	seed       uint64
	start, end float64 // °C
	tau        float64 // seconds
	noise      float64
	fanAt      float64 // seconds; beyond the run: never
	fanBy      float64 // °C that it takes from the end
	cooled     float64 // °C at fanAt
}

// family is of the seeds that the runs are drawn from.
const family = 31

func draw(seed uint64, fan bool) run {
	rng := rand.New(rand.NewPCG(seed, family))
	r := run{
		seed: seed, start: 30 + 20*rng.Float64(), tau: 20 * math.Pow(20, rng.Float64()),
		noise: 0.3 * rng.Float64(), fanAt: math.Inf(1),
	}
	r.end = r.start + 5 + 30*rng.Float64()
	if fan {
		r.fanAt, r.fanBy = 60+900*rng.Float64(), 1+5*rng.Float64()
		r.cooled = r.end - (r.end-r.start)*math.Exp(-r.fanAt/r.tau)
	}
	return r
}

// goal is where the temperature goes at a moment.
func (r run) goal(t float64) float64 {
	if t >= r.fanAt {
		return r.end - r.fanBy
	}
	return r.end
}

func (r run) at(t float64) float64 {
	if t >= r.fanAt {
		return r.goal(t) - (r.goal(t)-r.cooled)*math.Exp(-(t-r.fanAt)/r.tau)
	}
	return r.end - (r.end-r.start)*math.Exp(-t/r.tau)
}

// How many runs there are, where it is not the few that there are by default:
//
//	go test ./pkg/thermal -run RandomRuns -v -args -runs 500
var howMany = flag.Int("runs", 0, "random runs")

// runs is how many there are, and how often they are judged: as often as by
// default, and less where time is short. The seed rule is wrong the more often
// the oftener it is asked, for it takes the first passing slope.
func runs() (n int, every time.Duration) {
	if *howMany > 0 {
		return *howMany, thermal.DefaultOptions().Every
	}
	return 60, 5 * time.Second
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
		r := draw(seed, seed%2 == 1)
		// Judged to the end: no rule may end it.
		o := thermal.DefaultOptions()
		o.Rule, o.Max, o.TripC, o.Every = thermal.Settled, 1e15, 200, every
		s, err := thermal.New(o)
		if err != nil {
			t.Fatal(err)
		}
		until := min(r.fanAt, 1e3) + 6*r.tau + 900
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

// The interval of the first prediction of a run, and of those after it, holds
// the temperature that the run goes to, as its fans are then.
func TestPredictionsOfRandomRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic, in which nothing runs at the same time")
	}
	t.Parallel()
	for _, fan := range []bool{false, true} {
		made, held, first, early := 0, 0, 0, 0
		shown, heldShown := 0, 0 // those that could know of the fans
		n, every := runs()
		width, share := 0.0, 0.0
		for seed := range uint64(n) {
			r := draw(seed, fan)
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
				if since := step.DurationS - r.fanAt; since < 0 || since > unseen {
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
					share += (r.at(step.DurationS) - r.start) / (goal - r.start)
					if ok {
						early++
					}
				}
			}
		}
		t.Logf("fans change %v: %d predictions of %d runs, %.1f %% held, ± %.2f °C in the mean; the first of each, after %.0f %% of the rise, in %.1f %%",
			fan, made, first, 100*float64(held)/float64(made), width/2/float64(made), 100*share/float64(first), 100*float64(early)/float64(first))
		if fan {
			t.Logf("fans change true: without the %d predictions of the first %d s after a change, which shows in no reading yet, %.1f %% held", made-shown, unseen, 100*float64(heldShown)/float64(shown))
			if 100*heldShown < 91*shown || 100*held < 84*made {
				t.Errorf("fans change: %d of %d held, and %d of %d of those that could know of it", held, made, heldShown, shown)
			}
		}
		if first < n*9/10 {
			t.Errorf("a prediction in %d of %d runs", first, n)
		}
		if !fan && (100*held < 92*made || 100*early < 90*first) {
			t.Errorf("%d of %d held, %d of %d early ones", held, made, early, first)
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
