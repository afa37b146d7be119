package baseline_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"joulepipe/pkg/baseline"
	"joulepipe/pkg/record"
)

// noise is idle power of a known kind: autoregressive of order 1 around a mean.
type noise struct {
	mean, sd, r float64
	seconds     float64
	period      float64 // of the poller, seconds; 0 is 0.1
	counter     bool    // the energy counter is there, and shows the power that is real
	// shape changes a tick: the power that is real, and the one that is read.
	shape func(rng *rand.Rand, at, watts float64, s *record.Sample) (real, read float64)
}

func (x noise) records(seed uint64) []record.Record {
	rng := rand.New(rand.NewPCG(seed, 11))
	period := x.period
	if period == 0 {
		period = 0.1
	}
	var out []record.Record
	v, mJ := rng.NormFloat64(), 0.0
	held := 0.0
	for k := range int(x.seconds / period) {
		at := float64(k) * period
		s := &record.Sample{
			TimeNS: int64(at * second), ReadOK: true, TempC: record.Some(40.0),
			SMClockMHz: record.Some(int64(345)), UtilGPU: record.Some(int64(0)), VRAMUsedMB: record.Some(615.0),
		}
		if updates := math.Floor(at/0.1+1e-9) != math.Floor((at-period)/0.1+1e-9); updates || k == 0 {
			held = x.mean + x.sd*v
			v = x.r*v + math.Sqrt(1-x.r*x.r)*rng.NormFloat64()
		}
		real, read := held, held
		if x.shape != nil {
			real, read = x.shape(rng, at, held, s)
		}
		s.PowerW = record.Some(math.Round(read*1e3) / 1e3)
		out = append(out, s)
		mJ += real * period * 1e3
		if x.counter {
			out = append(out, &record.Counter{BeforeNS: s.TimeNS, TimeNS: s.TimeNS + 1e6, EnergyMilliJ: record.Some(int64(mJ))})
		}
	}
	return out
}

func (x noise) measure(t *testing.T, seed uint64) baseline.Idle {
	t.Helper()
	o := baseline.DefaultOptions()
	o.Settle = 0
	got, without, _ := measure(t, o, x.records(seed)...)
	if len(got) != 1 {
		t.Fatalf("seed %d: %v", seed, without)
	}
	return got[0]
}

// Idle power that is noisy, correlated, cooling, or rounded is no fake.
func TestNoisyIdle(t *testing.T) {
	if testing.Short() {
		t.Skip("statistics over many runs")
	}
	t.Parallel()
	for _, x := range []struct {
		name string
		noise
	}{
		{"independent, 1 %", noise{mean: 100, sd: 1}},
		{"a 1 s mean, 0.2 %", noise{mean: 80, sd: 0.16, r: 0.9, counter: true}},
		{"slow, 1 %", noise{mean: 20, sd: 0.2, r: 0.95}},
		{"noisy, 5 %", noise{mean: 20, sd: 1, r: 0.5, counter: true}},
		{"cooling by 0.5 %", noise{mean: 120, sd: 0.1, r: 0.9, shape: func(_ *rand.Rand, at, w float64, _ *record.Sample) (float64, float64) {
			w -= 0.6 * at / 180
			return w, w
		}}},
		{"in whole watts", noise{mean: 15.3, sd: 0.4, r: 0.5, shape: func(_ *rand.Rand, _, w float64, _ *record.Sample) (float64, float64) {
			return w, math.Round(w)
		}}},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			x.seconds = 180
			fake := 0
			var reasons []string
			const seeds = 200
			for seed := range uint64(seeds) {
				if i := x.noise.measure(t, seed); i.FakeIdle {
					fake++
					reasons = append(reasons, i.FakeIdleReasons...)
				}
			}
			t.Logf("%-20s called fake: %.1f %% of %d; %.200q", x.name, 100*float64(fake)/seeds, seeds, reasons)
			if fake*20 > seeds {
				t.Errorf("%d of %d: %q", fake, seeds, reasons)
			}
		})
	}
}

// The mean's interval has to hold the true mean, which that of independent
// readings does not; and the noise of the energy is that of theory.
func TestCertainty(t *testing.T) {
	if testing.Short() {
		t.Skip("statistics over many runs")
	}
	t.Parallel()
	for _, r := range []float64{0, 0.5, 0.9} {
		x := noise{mean: 100, sd: 1, r: r, seconds: 300}
		const seeds, n = 100, 3000
		held, naive, count := 0, 0, 0.0
		ratio := map[float64]float64{}
		for seed := range uint64(seeds) {
			i := x.measure(t, seed)
			count += i.NEff.V / seeds
			w, _ := i.Watts()
			if math.Abs(w-100) < 1.96*i.SEMEffW.V {
				held++
			}
			if math.Abs(w-100) < 1.96*i.SEMW.V {
				naive++
			}
			for _, e := range i.Noise {
				k := int(math.Round(e.Seconds / 0.1))
				variance := 0.0
				for l := -k + 1; l < k; l++ {
					variance += float64(k-max(l, -l)) * math.Pow(r, math.Abs(float64(l))) * 0.01
				}
				ratio[e.Seconds] += e.MeasuredJ / math.Sqrt(variance) / seeds
				if r == 0 && e.Seconds <= 3 && math.Abs(e.MeasuredJ/e.RootJ-1) > 0.35 {
					t.Errorf("seed %d, independent: %+v", seed, e)
				}
			}
		}
		theory := n * (1 - r) / (1 + r)
		t.Logf("r %.1f: n_eff %.0f of %d, theory %.0f; the 95 %% interval holds the mean in %d %%, the naive one in %d %%; σ_E over theory by seconds %.2f", r, count, n, theory, held, naive, ratio)
		if count > 1.05*theory || count < 0.55*theory {
			t.Errorf("r %g: n_eff %.0f, theory %.0f", r, count, theory)
		}
		if held < 88 || r == 0.9 && naive > 60 {
			t.Errorf("r %g: held in %d of 100, naive %d", r, held, naive)
		}
		for _, s := range []float64{0.1, 1, 10} {
			if q := ratio[s]; math.Abs(q-1) > 0.08 {
				t.Errorf("r %g: σ_E(%g s) is %.3f of theory", r, s, q)
			}
		}
	}
}

// A poller that is ten times as fast as the sensor learns no more.
func TestHeldReadings(t *testing.T) {
	t.Parallel()
	slow := noise{mean: 100, sd: 1, seconds: 180}.measure(t, 1)
	fast := noise{mean: 100, sd: 1, seconds: 180, period: 0.01}.measure(t, 1)
	if slow.Ticks.V != 1800 || math.Abs(float64(fast.Ticks.V-1800)) > 5 || fast.Samples.V != 18000 {
		t.Errorf("ticks: %d of %d samples, %d of %d", slow.Ticks.V, slow.Samples.V, fast.Ticks.V, fast.Samples.V)
	}
	if math.Abs(fast.UpdateS.V-0.1) > 0.001 || math.Abs(fast.NEff.V/slow.NEff.V-1) > 0.05 || fast.SEMW.V > 0.4*fast.SEMEffW.V {
		t.Errorf("update %g s, n_eff %.0f and %.0f, SEM %g and %g", fast.UpdateS.V, slow.NEff.V, fast.NEff.V, fast.SEMW.V, fast.SEMEffW.V)
	}
}

// Readings near 0 are a stale sensor or a board that sleeps. The energy counter
// knows; without it there is how they look.
func TestFloor(t *testing.T) {
	t.Parallel()
	// Single ticks, or sleeps of 4 to 8 s.
	brief := func(rng *rand.Rand, at float64) bool {
		return rand.New(rand.NewPCG(uint64(math.Round(at*10)), 5)).Float64() < 0.05
	}
	long := func(rng *rand.Rand, at float64) bool { return math.Mod(at, 20) > 14 }
	for _, tt := range []struct {
		name    string
		low     func(rng *rand.Rand, at float64) bool
		real    bool // the board draws 1.2 W then
		vary    bool // the low readings differ from one another
		sleep   bool // its clocks go down then
		counter bool
		weight  float64
		verdict string
		which   string
		watts   float64
		doubt   bool
	}{
		{"stale, counter", brief, false, false, false, true, 0.05, baseline.FloorArtefact, baseline.Robust, 20, false},
		{"long and stale, counter", long, false, true, false, true, 0.3, baseline.FloorArtefact, baseline.Robust, 20, false},
		{"sleep, counter", long, true, true, false, true, 0.3, baseline.LowPowerState, baseline.Mean, 14.36, false},
		{"sleep as alike as stale, counter", long, true, false, false, true, 0.3, baseline.LowPowerState, baseline.Mean, 14.36, false},
		{"single ticks, no counter", brief, false, true, false, false, 0.05, baseline.FloorArtefact, baseline.Robust, 20, false},
		{"long and alike, no counter", long, false, false, false, false, 0.3, baseline.FloorArtefact, baseline.Robust, 20, false},
		{"sleep with clocks, no counter", long, true, true, true, false, 0.3, baseline.LowPowerState, baseline.Mean, 14.36, false},
		{"neither, no counter", long, false, true, false, false, 0.3, baseline.Undecided, baseline.Mean, 14.36, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := noise{mean: 20, sd: 0.3, r: 0.5, seconds: 180, counter: tt.counter, shape: func(rng *rand.Rand, at, w float64, s *record.Sample) (float64, float64) {
				if !tt.low(rng, at) {
					return w, w
				}
				low := 1.2
				if tt.vary {
					low += 0.05 * rng.NormFloat64()
				}
				if tt.sleep {
					s.PState, s.SMClockMHz = record.Some(int64(8)), record.Some(int64(210))
				}
				if tt.real {
					return low, low
				}
				return w, low
			}}
			for seed := range uint64(10) {
				i := x.measure(t, seed)
				m := i.Mixture
				w, se := i.Watts()
				if m == nil {
					t.Fatal("one level")
				}
				if seed == 0 {
					t.Logf("%s: weight %.3f ± %.3f, %s: %s; subtracts the %s, %.2f ± %.2f W", tt.name, m.LowWeight, m.LowWeightSE, m.Verdict, m.Why, i.Subtract.Which, w, se)
				}
				ambiguous := strings.Contains(fmt.Sprint(i.Doubts), "ambiguous")
				if m.Verdict != tt.verdict || i.Subtract.Which != tt.which || math.Abs(w-tt.watts) > 0.25 || ambiguous != tt.doubt {
					t.Errorf("seed %d: %+v, %+v, doubts %q", seed, *m, *i.Subtract, i.Doubts)
				}
				if math.Abs(m.LowWeight-tt.weight) > 0.02 || math.Abs(m.LowW-1.2) > 0.05 || math.Abs(m.HighW-20) > 0.25 {
					t.Errorf("seed %d: %+v", seed, *m)
				}
				if tt.doubt && se < 2.5 {
					t.Errorf("seed %d: ambiguous by ±%.2f W only", seed, se)
				}
			}
		})
	}
}

// Two plausible levels are told with their weight, its standard error, and not
// where there is one.
func TestMixture(t *testing.T) {
	if testing.Short() {
		t.Skip("statistics over many runs")
	}
	t.Parallel()
	held, none := 0, 0
	const seeds = 100
	for seed := range uint64(seeds) {
		high := false
		x := noise{mean: 20, sd: 0.3, seconds: 300, shape: func(rng *rand.Rand, _, w float64, _ *record.Sample) (float64, float64) {
			if rng.Float64() < 0.1 {
				high = rng.Float64() < 0.3
			}
			if high {
				w += 6
			}
			return w, w
		}}
		i := x.measure(t, seed)
		if m := i.Mixture; m == nil || m.Verdict != baseline.TwoLevels || math.Abs(m.LowW-20) > 0.1 || math.Abs(m.HighW-26) > 0.1 {
			t.Errorf("seed %d: %+v", seed, m)
		} else if math.Abs(m.LowWeight-0.7) < 1.96*m.LowWeightSE {
			held++
		}
		x.shape = nil
		if x.measure(t, seed).Mixture == nil {
			none++
		}
	}
	t.Logf("the weight's 95 %% interval holds it in %d of %d; one level is one in %d of %d", held, seeds, none, seeds)
	if held < 88 || none < 97 {
		t.Errorf("held %d, one level %d of %d", held, none, seeds)
	}
}

func TestDrift(t *testing.T) {
	if testing.Short() {
		t.Skip("statistics over many runs")
	}
	t.Parallel()
	held, shown := 0, 0
	const seeds = 100
	for seed := range uint64(seeds) {
		x := noise{mean: 100, sd: 0.2, r: 0.8, seconds: 240, shape: func(_ *rand.Rand, at, w float64, _ *record.Sample) (float64, float64) {
			w -= 12 * at / 3600
			return w, w
		}}
		i := x.measure(t, seed)
		if math.Abs(i.Drift.WattsPerHour+12) < 1.96*i.Drift.SE {
			held++
		}
		if _, se := i.Watts(); i.Drift.Shown && se < 0.35 {
			t.Errorf("seed %d: drift %+v is not in ±%.2f W", seed, *i.Drift, se)
		}
		if len(i.Segments) != 1 {
			t.Errorf("seed %d: a drift is %d segments: %+v", seed, len(i.Segments), i.Segments)
		}
		x.shape = nil
		if x.measure(t, seed).Drift.Shown {
			shown++
		}
	}
	t.Logf("the slope's 95 %% interval holds it in %d of %d; a drift is seen where there is none in %d", held, seeds, shown)
	if held < 88 || shown > 12 {
		t.Errorf("held %d, shown where there is none %d", held, shown)
	}
}

// Segments are by clocks first, and by power where clocks stand still.
func TestSegments(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		i := noise{mean: 20, sd: 0.2, r: 0.5, seconds: 180, shape: func(_ *rand.Rand, at, w float64, s *record.Sample) (float64, float64) {
			s.PState = record.Some(int64(0))
			switch {
			case at >= 110:
				s.PState, w = record.Some(int64(8)), w-10
			case at >= 60:
				w += 1.5
			}
			return w, w
		}}.measure(t, seed)
		if len(i.Segments) != 3 {
			t.Fatalf("seed %d: %+v", seed, i.Segments)
		}
		for k, want := range []baseline.Segment{{FromS: 0, Watts: 20}, {FromS: 60, Watts: 21.5, Began: "power"}, {FromS: 110, Watts: 10, Began: "settings"}} {
			if s := i.Segments[k]; math.Abs(s.FromS-want.FromS) > 1.1 || math.Abs(s.Watts-want.Watts) > 0.3 || s.Began != want.Began {
				t.Errorf("seed %d: %+v, want %+v", seed, s, want)
			}
		}
	}
}

// Few independent readings are doubted, unless they differ by next to nothing.
func TestFewIndependent(t *testing.T) {
	t.Parallel()
	for sd, want := range map[float64]bool{10: true, 0.05: false} {
		i := noise{mean: 100, sd: sd, r: 0.999, seconds: 150}.measure(t, 3)
		if got := strings.Contains(fmt.Sprint(i.Doubts), "independent ones, 20 is the least"); got != want {
			t.Errorf("σ %g W: n_eff %.1f, %q", sd, i.NEff.V, i.Doubts)
		}
	}
}

func TestWatts(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		idle  baseline.Idle
		w, se float64
	}{
		{"TR122", baseline.Idle{MeanW: 20.7, StdW: record.Some(9.97)}, 20.7, 9.97},
		{"older", baseline.Idle{MeanW: 80, StdW: record.Some(1.0), SEMW: record.Some(0.1)}, 80, 0.1},
		{"said", baseline.Idle{MeanW: 19, SEMW: record.Some(0.1), Subtract: &baseline.Subtract{Which: baseline.Robust, Watts: 20, SE: 0.3}}, 20, 0.3},
		{"bare", baseline.Idle{MeanW: 7}, 7, 0},
	} {
		if w, se := tt.idle.Watts(); w != tt.w || se != tt.se {
			t.Errorf("%s: %g ± %g", tt.name, w, se)
		}
	}
}

// Two baselines of the same power show no difference in 95 % of the cases, and
// half a watt in most; other conditions are told.
func TestCompare(t *testing.T) {
	t.Parallel()
	const seeds = 100
	false, true := 0, 0
	for seed := range uint64(seeds) {
		x := noise{mean: 100, sd: 0.5, r: 0.9, seconds: 180}
		a := x.measure(t, seed)
		if baseline.Compare(a, x.measure(t, seed+1000)).Shown {
			false++
		}
		x.mean += 1
		if baseline.Compare(a, x.measure(t, seed+2000)).Shown {
			true++
		}
	}
	t.Logf("shown where there is none: %d of %d; 1 W: %d", false, seeds, true)
	if false > 8 || true < 95 {
		t.Errorf("none: %d, 1 W: %d", false, true)
	}
	a := baseline.Idle{UUID: "GPU-1", State: baseline.Context, Conditions: &baseline.Conditions{Driver: "580", PowerLimitW: record.Some(700.0)}}
	b := baseline.Idle{UUID: "GPU-1", State: baseline.NoContext, Conditions: &baseline.Conditions{Driver: "581", PowerLimitW: record.Some(600.0)}}
	if got := baseline.Differ(a, b); fmt.Sprint(got) != "[driver 580 and 581 state context and no_context power limit 700 W and 600 W]" {
		t.Errorf("%q", got)
	}
	if got := baseline.Differ(a, baseline.Idle{MeanW: 1}); got != nil {
		t.Errorf("what is not known differs: %q", got)
	}
}

// A live GPU is waited for: the settle time begins anew when it is used or its
// clocks change, and the measurement goes on until it is worth enough.
func TestProgress(t *testing.T) {
	t.Parallel()
	o := baseline.DefaultOptions()
	o.Wait, o.Settle, o.MinDuration = true, 10*time.Second, 30*time.Second
	m, err := baseline.NewMeter(o)
	if err != nil {
		t.Fatal(err)
	}
	x := noise{mean: 100, sd: 5, r: 0.98, seconds: 300, shape: func(_ *rand.Rand, at, w float64, s *record.Sample) (float64, float64) {
		switch {
		case at < 20 || at > 28 && at < 30:
			s.UtilGPU = record.Some(int64(40))
		case at < 35:
			s.SMClockMHz = record.Some(int64(1980))
		}
		return w, w
	}}
	saw := map[string]float64{}
	for _, r := range x.records(1) {
		m.Observe(r)
		ns, _ := r.When()
		if ns%second != 0 {
			continue
		}
		p := m.Progress()[0]
		stage := "measuring"
		switch {
		case p.Enough:
			stage = "enough"
		case strings.Contains(p.Says, "utilisation is 40 %"):
			stage = "busy"
		case strings.Contains(p.Says, "SM clock went from 1980 to 345 MHz"):
			stage = "clocks"
		case !p.Settled:
			stage = "settling"
		case strings.Contains(p.Says, "are wanted"):
			stage = "extending"
		}
		saw[stage] = float64(ns) / second
		if p.Enough {
			break
		}
	}
	i, _ := m.Result()
	if saw["busy"] != 29 || saw["clocks"] != 44 || saw["measuring"] < 74 || saw["extending"] < 80 || saw["enough"] < 90 || i[0].NEff.V < 20 {
		t.Errorf("%v, n_eff %v, %q", saw, i[0].NEff.V, i[0].FakeIdleReasons)
	}
}

// Bursts that fall between the readings are in the energy counter alone.
func TestCounterSeesMore(t *testing.T) {
	t.Parallel()
	for more, want := range map[float64]bool{1: false, 1.01: false, 1.06: true} {
		for seed := range uint64(20) {
			i := noise{mean: 100, sd: 0.5, r: 0.9, seconds: 150, counter: true, shape: func(_ *rand.Rand, _, w float64, _ *record.Sample) (float64, float64) {
				return more * w, w
			}}.measure(t, seed)
			if got := strings.Contains(fmt.Sprint(i.FakeIdleReasons), "bursts between the readings"); got != want || i.FakeIdle != want {
				t.Errorf("counter × %g, seed %d: %q", more, seed, i.FakeIdleReasons)
			}
		}
	}
}

// Next to no readings are a baseline, if a doubtful one, that can be written.
func TestFewReadings(t *testing.T) {
	t.Parallel()
	for n := 1; n < 40; n++ {
		o := baseline.DefaultOptions()
		o.Settle = 0
		got, without, _ := measure(t, o, noise{mean: 20, sd: 1, seconds: 60}.records(1)[:n]...)
		if len(got) != 1 || len(got[0].Doubts) == 0 {
			t.Fatalf("%d readings: %+v, %v", n, got, without)
		}
		if _, err := json.Marshal(baseline.Document(got)); err != nil {
			t.Errorf("%d readings: %v", n, err)
		}
	}
}
