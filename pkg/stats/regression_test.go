package stats_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"joulepipe/pkg/stats"
)

// The values are those of the tables in print, e.g. Student's t in Fisher and
// Yates, F in Merrington and Thompson (Biometrika 33, 1943).
func TestQuantiles(t *testing.T) {
	t.Parallel()
	for freedom, want := range map[float64]float64{
		1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228,
		15: 2.131, 29: 2.045, 30: 2.042, 60: 2.000, 120: 1.980, 1e5: 1.960, 1e12: 1.960, 1e15: 1.960,
	} {
		if got := stats.T95(freedom); math.Abs(got-want) > 6e-4 {
			t.Errorf("t with %g degrees of freedom: %.4f, want %.3f", freedom, got, want)
		}
	}
	for _, c := range []struct{ f, above, below, want float64 }{
		{4.96, 1, 10, 0.05}, {10.04, 1, 10, 0.01}, {3.71, 3, 10, 0.05},
		{4.94, 3, 20, 0.01}, {2.54, 10, 15, 0.05}, {3.80, 10, 15, 0.01}, {0, 3, 10, 1},
	} {
		if got := stats.FTail(c.f, c.above, c.below); math.Abs(got-c.want) > 0.03*c.want {
			t.Errorf("F(%g, %g) above %g: %.4f, want %.2f", c.above, c.below, c.f, got, c.want)
		}
	}
}

// Two points of weight 1 and 3 by hand, then columns of very
// different sizes whose coefficients are known.
func TestRegressExact(t *testing.T) {
	t.Parallel()
	r, ok := stats.Regress([][]float64{{1, 1}}, []float64{2, 6}, []float64{1, 3})
	if !ok || math.Abs(r.Coefficients[0]-5) > 1e-12 || math.Abs(r.Residual-12) > 1e-12 || math.Abs(r.Covariance.At(0, 0)-0.25) > 1e-12 {
		t.Errorf("weighted mean of 2 and 6: %+v %v", r, ok)
	}
	want := []float64{-3, 0.004, 2e-9}
	columns := make([][]float64, 3)
	var y, weights []float64
	for i := range 20 {
		x := float64(1000 + 17*i)
		row := []float64{1, x, x * x * 1e3}
		sum := 0.0
		for j, v := range row {
			columns[j] = append(columns[j], v)
			sum += want[j] * v
		}
		y, weights = append(y, sum), append(weights, 1+float64(i%3))
	}
	r, ok = stats.Regress(columns, y, weights)
	if !ok {
		t.Fatal("no fit")
	}
	for j := range want {
		if math.Abs(r.Coefficients[j]/want[j]-1) > 1e-8 {
			t.Errorf("coefficient %d: %.12g, want %g", j, r.Coefficients[j], want[j])
		}
	}
}

// The covariance has to be that of the coefficients over many noises.
func TestRegressCovariance(t *testing.T) {
	t.Parallel()
	x := []float64{1, 2, 3, 5, 8, 13}
	one := []float64{1, 1, 1, 1, 1, 1}
	sd := []float64{1, 1, 2, 2, 0.5, 4}
	weights := make([]float64, len(sd))
	for i, s := range sd {
		weights[i] = 1 / (s * s)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	const series = 20000
	var moments [2][2]float64
	var r stats.Regression
	for range series {
		y := make([]float64, len(x))
		for i := range y {
			y[i] = sd[i] * rng.NormFloat64()
		}
		r, _ = stats.Regress([][]float64{one, x}, y, weights)
		for j, a := range r.Coefficients {
			for k, b := range r.Coefficients {
				moments[j][k] += a * b / series
			}
		}
	}
	for j := range 2 {
		for k := range 2 {
			if got, want := r.Covariance.At(j, k), moments[j][k]; math.Abs(got/want-1) > 0.05 {
				t.Errorf("covariance %d %d: %g, over %d fits %g", j, k, got, series, want)
			}
		}
	}
}

func TestRegressRefuses(t *testing.T) {
	t.Parallel()
	one := []float64{1, 1, 1, 1}
	for name, columns := range map[string][][]float64{
		"no column":        {},
		"the same twice":   {one, {2, 2, 2, 2}},
		"a sum of others":  {one, {1, 2, 3, 4}, {3, 5, 7, 9}},
		"nothing but 0":    {one, {0, 0, 0, 0}},
		"more than points": {one, {1, 0, 0, 0}, {0, 1, 0, 0}, {0, 0, 1, 0}, {0, 0, 0, 1}},
	} {
		if r, ok := stats.Regress(columns, []float64{1, 2, 3, 5}, one); ok {
			t.Errorf("%s: %+v", name, r)
		}
	}
}
