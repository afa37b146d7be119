package stats_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"joulepipe/pkg/stats"
)

// ar1 is an autoregressive series of order 1, whose integrated autocorrelation
// time is (1+r)/(1−r).
func ar1(seed uint64, n int, r float64) []float64 {
	rng := rand.New(rand.NewPCG(seed, 1))
	x := make([]float64, n)
	v := rng.NormFloat64()
	for i := range x {
		x[i] = v
		v = r*v + math.Sqrt(1-r*r)*rng.NormFloat64()
	}
	return x
}

func TestTau(t *testing.T) {
	t.Parallel()
	for _, r := range []float64{0, 0.5, 0.9} {
		sum := 0.0
		for seed := range uint64(20) {
			sum += stats.Tau(ar1(seed, 5000, r))
		}
		got, want := sum/20, (1+r)/(1-r)
		if math.Abs(got/want-1) > 0.12 {
			t.Errorf("r = %g: %.2f, want %.2f", r, got, want)
		}
	}
	if got := stats.Tau([]float64{4, 4, 4, 4}); got != 1 {
		t.Errorf("constant: %g, want 1", got)
	}
}

func TestFitLineExact(t *testing.T) {
	t.Parallel()
	l, ok := stats.FitLine([]float64{0, 1, 2, 3}, []float64{5, 3, 1, -1})
	if !ok || math.Abs(l.Slope+2) > 1e-12 || math.Abs(l.Intercept-5) > 1e-12 || l.SlopeSE > 1e-12 {
		t.Errorf("got %+v %v", l, ok)
	}
	for name, x := range map[string][]float64{"two points": {0, 1}, "one x": {2, 2, 2}} {
		if _, ok := stats.FitLine(x, x); ok {
			t.Errorf("%s: a line", name)
		}
	}
}

// The interval of ±1.96 standard errors has to hold the true slope in about
// 95 % of series whose noise is correlated, where that of independent points
// holds it in 60 %.
func TestFitLineCoverage(t *testing.T) {
	t.Parallel()
	const n, series, slope = 300, 400, 0.01
	x := make([]float64, n)
	for i := range x {
		x[i] = float64(i)
	}
	inside := 0
	for seed := range uint64(series) {
		y := ar1(seed, n, 0.8)
		for i := range y {
			y[i] += slope * x[i]
		}
		l, ok := stats.FitLine(x, y)
		if !ok {
			t.Fatal("no fit")
		}
		if math.Abs(l.Slope-slope) <= stats.Z95*l.SlopeSE {
			inside++
		}
	}
	if share := float64(inside) / series; share < 0.88 || share > 0.99 {
		t.Errorf("the interval holds the slope in %.1f %% of series", 100*share)
	}
}
