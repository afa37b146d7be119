package stats_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"joulepipe/pkg/stats"
)

// Each of the counts is near what theory has for an autoregressive series, and the
// least of them nearest where the series is short for its correlation.
func TestCountIndependent(t *testing.T) {
	if testing.Short() {
		t.Skip("statistics over many runs")
	}
	t.Parallel()
	const n, series = 2000, 100
	for _, r := range []float64{0, 0.5, 0.9, 0.97} {
		theory := n * (1 - r) / (1 + r)
		var sum stats.Independent
		least := 0.0
		for seed := range uint64(series) {
			c := stats.CountIndependent(ar1(seed, n, r))
			sum.Geyer += c.Geyer / series
			sum.BatchMeans += c.BatchMeans / series
			sum.Bootstrap += c.Bootstrap / series
			least += c.Least() / series
		}
		t.Logf("r %.2f: theory %6.1f, Geyer %6.1f, batch means %6.1f, block bootstrap %6.1f, least %6.1f", r, theory, sum.Geyer, sum.BatchMeans, sum.Bootstrap, least)
		for name, got := range map[string]float64{"Geyer": sum.Geyer, "batch means": sum.BatchMeans, "bootstrap": sum.Bootstrap} {
			// Batches of 44 are short against the 66 spacings of r = 0.97.
			if q := got / theory; q < 0.9 || q > 2.5 || r < 0.95 && q > 1.45 {
				t.Errorf("r %g: %s counts %.1f, theory %.1f", r, name, got, theory)
			}
		}
		// From a series that is worth 30 all counts come out high.
		if least > 1.25*theory || theory > 100 && (least > 1.1*theory || least < 0.85*theory) {
			t.Errorf("r %g: the least is %.1f, theory %.1f", r, least, theory)
		}
	}
	if c := stats.CountIndependent([]float64{3, 3, 3}); c.Least() != 3 {
		t.Errorf("constant: %+v", c)
	}
	for _, x := range [][]float64{{1}, {1, 2}, {1, 2, 4}} {
		if c := stats.CountIndependent(x).Least(); !(c >= 1 && c <= float64(len(x))) {
			t.Errorf("%v: %g", x, c)
		}
	}
}

// Long correlation is counted by Fourier transform: it must be what the lags
// one by one are.
func TestTauOfLongCorrelation(t *testing.T) {
	t.Parallel()
	x := ar1(7, 20000, 0.999)
	sum, last, n := 0.0, math.Inf(1), len(x)
	mean := 0.0
	for _, v := range x {
		mean += v / float64(n)
	}
	cov := func(lag int) (s float64) {
		for i := lag; i < n; i++ {
			s += (x[i] - mean) * (x[i-lag] - mean)
		}
		return s
	}
	for lag := 0; lag+1 < n; lag += 2 {
		pair := cov(lag) + cov(lag+1)
		if pair <= 0 {
			break
		}
		last = min(last, pair)
		sum += last
	}
	want := 2*sum/cov(0) - 1
	if got := stats.Tau(x); want < 500 || math.Abs(got/want-1) > 1e-9 {
		t.Errorf("got %g, want %g", got, want)
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	levels := func(levels ...float64) (x []float64) {
		for _, l := range levels {
			for range 50 {
				x = append(x, l+0.1*rng.NormFloat64())
			}
		}
		return x
	}
	for _, tt := range []struct {
		name string
		x    []float64
		want []int
	}{
		{"none", levels(5, 5, 5), nil},
		{"one", levels(5, 6), []int{50}},
		{"three", levels(5, 6, 4, 9), []int{50, 100, 150}},
		{"a short one takes its neighbours in", append(levels(5), 9, 9), []int{47}},
		{"few", []float64{1, 9}, nil},
		{"large numbers", levels(1e9, 1e9+1), []int{50}},
	} {
		if got := stats.Changes(tt.x, 3*0.01*math.Log(float64(len(tt.x))), 5); fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	// No partition is better than the one that was found: all are tried.
	x := []float64{1, 2, 1, 5, 6, 5, 2, 2, 1, 1, 7}
	const penalty = 2.0
	cost := func(at []int) (total float64) {
		from := 0
		for _, until := range append(append([]int(nil), at...), len(x)) {
			m := 0.0
			for _, v := range x[from:until] {
				m += v / float64(until-from)
			}
			for _, v := range x[from:until] {
				total += (v - m) * (v - m)
			}
			from = until
		}
		return total + penalty*float64(len(at))
	}
	best := math.Inf(1)
	for mask := range 1 << (len(x) - 1) {
		var at []int
		short, from := false, 0
		for i := 1; i < len(x); i++ {
			if mask>>(i-1)&1 == 1 {
				short = short || i-from < 2
				from = i
				at = append(at, i)
			}
		}
		if !short && len(x)-from >= 2 {
			best = min(best, cost(at))
		}
	}
	if got := cost(stats.Changes(x, penalty, 2)); math.Abs(got-best) > 1e-9 {
		t.Errorf("cost %g, the best has %g", got, best)
	}
}

func TestRobust(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(3, 4))
	x := make([]float64, 2000)
	for i := range x {
		x[i] = 10 + rng.NormFloat64()
	}
	if h, s := stats.Huber(x), stats.Scatter(x); math.Abs(h-10) > 0.08 || math.Abs(s-1) > 0.06 {
		t.Errorf("normal: %g, %g", h, s)
	}
	for i := range 100 {
		x[i] = 1e6
	}
	if h := stats.Huber(x); math.Abs(h-10) > 0.15 {
		t.Errorf("a twentieth far off: %g", h)
	}
	for _, tt := range []struct {
		x                      []float64
		median, scatter, huber float64
	}{
		{[]float64{4}, 4, 0, 4},
		{[]float64{1, 2, 3, 10}, 2.5, 1.4826, (1 + 2 + 3 + 1.345*1.4826) / 3},
		{[]float64{5, 5, 5, 5, 9}, 5, math.Sqrt(math.Pi/2) * 0.8, 0},
	} {
		if m, s := stats.Median(tt.x), stats.Scatter(tt.x); m != tt.median || math.Abs(s-tt.scatter) > 1e-9 {
			t.Errorf("%v: median %g, scatter %g", tt.x, m, s)
		}
		if h := stats.Huber(tt.x); tt.huber != 0 && math.Abs(h-tt.huber) > 1e-6 {
			t.Errorf("%v: Huber's mean %g", tt.x, h)
		}
	}
	if !math.IsNaN(stats.Median(nil)) || !math.IsNaN(stats.Huber(nil)) {
		t.Error("none has a middle")
	}
}

func TestFitMixture(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(5, 6))
	x := make([]float64, 3000)
	for i := range x {
		x[i] = 20 + rng.NormFloat64()
		if rng.Float64() < 0.2 {
			x[i] = 10 + 0.5*rng.NormFloat64()
		}
	}
	m, ok := stats.FitMixture(x, 12, 1e-3)
	if !ok || math.Abs(m.Weight-0.2) > 0.03 || math.Abs(m.Low.Mean-10) > 0.1 || math.Abs(m.High.Mean-20) > 0.1 || math.Abs(m.Low.SD-0.5) > 0.05 || m.Gain < 500 {
		t.Errorf("%+v, %v", stats.Mixture{Low: m.Low, High: m.High, Weight: m.Weight, Gain: m.Gain}, ok)
	}
	for i := range x {
		x[i] = 20 + rng.NormFloat64()
	}
	if m, ok := stats.FitMixture(x, 20, 0.05); ok && m.Gain > 20 {
		t.Errorf("one component is two: gain %g", m.Gain)
	}
	if _, ok := stats.FitMixture(x, 0, 0.05); ok {
		t.Error("a component without values")
	}
}
