package thermal_test

import (
	"cmp"
	"flag"
	"fmt"
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
	fans       []change  // in time
	slow       float64   // share of the rise that a second stage has
	slowTau    float64   // seconds
	air        []float64 // °C that the air adds to where the temperature goes, each second
	drift      []float64 // °C that it adds to the temperature
	quick      bool      // a die that follows its load in seconds, above a slow stage
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

// quicken makes of a run one of a die that follows its load in seconds, as those
// of the recordings do.
func (r run) quicken(seed uint64) run {
	r.tau, r.quick = 2+4*rand.New(rand.NewPCG(seed, family+2)).Float64(), true
	return r
}

// wander gives a share of the coolers, and all below a quick die, a second stage,
// with 5 to 30 % of the rise in 1 to 8 minutes, and a share of the rooms air that wanders, by 0.5 to 1 °C
// with a memory of 1 to 3 minutes (an Ornstein-Uhlenbeck process). It follows
// what is drawn without, so that one run is the same with it and without.
func (r run) wander(seed uint64, until float64) run {
	rng := rand.New(rand.NewPCG(seed, family+1))
	if rng.Float64() < twoStages || r.quick {
		r.slow, r.slowTau = 0.05+0.25*rng.Float64(), 60*math.Pow(8, rng.Float64())
	}
	if rng.Float64() >= wandering {
		return r
	}
	sd, memory := 0.5+0.5*rng.Float64(), 60+120*rng.Float64()
	keep := math.Exp(-1 / memory)
	a := sd * rng.NormFloat64()
	drift := 0.0
	for range int(until) + ahead + 2 {
		r.air, r.drift = append(r.air, a), append(r.drift, drift)
		a = keep*a + sd*math.Sqrt(1-keep*keep)*rng.NormFloat64()
		drift += (a - drift) * -math.Expm1(-1/r.tau)
	}
	return r
}

// ahead is the time over which the mean of wandering air is what it goes to, s.
const ahead = 300

const (
	twoStages = 0.5 // of the coolers
	wandering = 0.5 // of the rooms
)

// goal is where the temperature goes at a moment, with all stages warm, with the
// fans as they are then and with the mean that the air has in the five minutes
// that follow.
func (r run) goal(t float64) float64 {
	goal := r.end
	for _, c := range r.fans {
		if t >= c.at {
			goal -= c.by
		}
	}
	if r.air != nil {
		mean := 0.0
		for _, a := range r.air[int(t) : int(t)+ahead] {
			mean += a / ahead
		}
		goal += mean
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
	c := r.end - (r.end-r.start)*(1-r.slow)*math.Exp(-t/r.tau)
	if r.slow > 0 {
		c -= (r.end - r.start) * r.slow * math.Exp(-t/r.slowTau)
	}
	if r.drift != nil {
		c += r.drift[int(t)]
	}
	for _, f := range r.fans {
		if t >= f.at {
			c += f.by * math.Expm1(-(t-f.at)/r.tau)
		}
	}
	return c
}

// How many runs there are, where it is not the few that there are by default:
//
//	go test ./pkg/thermal -timeout 0 -run RandomRuns -v -args -runs 500 -others
//
// and the seed of the first, for others than these.
var (
	howMany = flag.Int("runs", 0, "random runs")
	seed0   = flag.Uint64("seed", 0, "of the first random run")
	others  = flag.Bool("others", false, "also with fans that no figure is of")
)

// runs is how many there are, and how often they are judged: as often as by
// default, and less where time is short. The seed rule is wrong the more often
// the oftener it is asked, for it takes the first passing slope.
func runs() (n int, every time.Duration) {
	if *howMany > 0 {
		return *howMany, thermal.DefaultOptions().Every
	}
	return 24, 5 * time.Second
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
// to (see goal).
func TestPredictionsOfRandomRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic, in which nothing runs at the same time")
	}
	t.Parallel()
	type setting struct {
		fan           int
		nature, quick bool
	}
	settings := []setting{{0, false, false}, {1, false, false}, {0, true, false}, {1, true, false}, {0, true, true}, {1, true, true}}
	if *others {
		for fan := 2; fan < len(fans); fan++ {
			settings = append(settings, setting{fan, false, false}, setting{fan, true, false})
		}
	}
	mix := &coverage{}
	for _, x := range settings {
		n, every := runs()
		if *howMany == 0 {
			n, every = 12, 60*time.Second
		}
		c := &coverage{}
		for seed := range uint64(n) {
			seed += *seed0
			r := draw(seed, fans[x.fan].draw)
			if x.quick {
				r = r.quicken(seed)
			}
			if x.nature {
				r = r.wander(seed, lasting)
			}
			c.soak(t, r, seed, every)
		}
		name := fans[x.fan].name + ", one stage and still air"
		if x.nature {
			name = fans[x.fan].name + ", nature"
		}
		if x.quick {
			name += " below a quick die"
		}
		t.Logf("fans %s: %s", name, c)
		if x.nature && !x.quick && x.fan < 2 {
			mix.add(c)
		}
		least, late, early := 95, 97, 90
		switch {
		case x.fan > 1:
			least, late, early = 85, 0, 0
		case x.quick:
			// The first is after a minute, when a stage that takes more than most do
			// has not begun to show.
			least, late, early = 93, 93, 80
		case x.nature:
			least = 93
		}
		if *howMany == 0 { // a share of few
			least, late = least-3, late-3
		}
		if 100*c.held < least*c.made || 100*c.heldShown < late*c.shown || 100*c.early < early*c.first {
			t.Errorf("fans %s: %d of %d held, %d of %d of those that could know of a change, %d of %d first ones", name, c.held, c.made, c.heldShown, c.shown, c.early, c.first)
		}
		if x.fan < 2 && c.first < n*9/10 {
			t.Errorf("fans %s: a prediction in %d of %d runs", name, c.first, n)
		}
		if half := c.width / 2 / float64(c.made); half > 2.8 {
			t.Errorf("fans %s: ± %.2f °C", name, half)
		}
	}
	t.Logf("nature's mix: %s", mix)
	if 100*mix.held < 93*mix.made {
		t.Errorf("nature's mix: %d of %d held", mix.held, mix.made)
	}
}

// lasting is how long a run is followed, s.
const lasting = 1500

// coverage is how often predictions were made and held.
type coverage struct {
	asked, made, held int // predictions, one a minute
	shown, heldShown  int // those that could know of the fans
	first, early      int // the first ones of runs, and those of them that held
	width, share      float64
}

func (c *coverage) add(o *coverage) {
	c.asked, c.made, c.held = c.asked+o.asked, c.made+o.made, c.held+o.held
	c.shown, c.heldShown = c.shown+o.shown, c.heldShown+o.heldShown
	c.first, c.early = c.first+o.first, c.early+o.early
	c.width, c.share = c.width+o.width, c.share+o.share
}

func (c *coverage) String() string {
	of := func(part, whole int) float64 { return 100 * float64(part) / float64(whole) }
	return fmt.Sprintf("%d predictions of %d runs, in %.0f %% of the minutes, %.1f %% held, ± %.2f °C in the mean; the first of each, after %.0f %% of the rise, in %.1f %%; without the %d of the first %d s after a change %.1f %%",
		c.made, c.first, of(c.made, c.asked), of(c.held, c.made), c.width/2/float64(c.made), 100*c.share/float64(c.first), of(c.early, c.first),
		c.made-c.shown, unseen, of(c.heldShown, c.shown))
}

// soak takes in the predictions of a run.
func (c *coverage) soak(t *testing.T, r run, seed uint64, every time.Duration) {
	t.Helper()
	o := thermal.DefaultOptions()
	o.Rule, o.TripC, o.Every = thermal.Settled, 200, every
	s, err := thermal.New(o)
	if err != nil {
		t.Fatal(err)
	}
	seen := false
	for _, x := range (sensor{seed: seed, noise: r.noise, true: r.at}).sparse(lasting) {
		step := s.Observe(x)
		if step == nil || int(step.DurationS)%60 != 0 || step.DurationS == 0 {
			continue
		}
		if c.asked++; !step.PredictedC.OK {
			continue
		}
		goal := r.goal(step.DurationS)
		ok := step.PredictedLowC.V <= goal && goal <= step.PredictedHighC.V
		c.made++
		c.width += step.PredictedHighC.V - step.PredictedLowC.V
		if ok {
			c.held++
		}
		if r.since(step.DurationS) > unseen {
			c.shown++
			if ok {
				c.heldShown++
			}
		}
		if !seen {
			seen = true
			c.first++
			c.share += (r.at(step.DurationS) - r.start) / (r.end - r.start)
			if ok {
				c.early++
			}
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
