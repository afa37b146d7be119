package stats

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/stat"
)

// Median is the middle of the values, the mean of the middle two of an even
// number; NaN of none.
func Median(x []float64) float64 {
	n := len(x)
	if n == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(x))
	return (s[(n-1)/2] + s[n/2]) / 2
}

// Scatter is a standard deviation that up to half of the values cannot spoil:
// 1.4826 times the median distance from the median, which is the standard
// deviation of a normal distribution. Where more than half of the values are the
// same, as coarse readings can be, it is by the mean distance instead.
func Scatter(x []float64) float64 {
	m := Median(x)
	distance := make([]float64, len(x))
	for i, v := range x {
		distance[i] = math.Abs(v - m)
	}
	if s := Median(distance); !(s == 0) {
		return 1.4826 * s
	}
	return math.Sqrt(math.Pi/2) * stat.Mean(distance, nil)
}

// Huber is Huber's mean: values further than k = 1.345 times the [Scatter] from
// it count as if they were no further. On normal values it has 95 % of the
// mean's efficiency. NaN of none.
func Huber(x []float64) float64 {
	const k = 1.345
	at, scatter := Median(x), Scatter(x)
	if !(scatter > 0) {
		return at
	}
	for range 50 {
		sum := 0.0
		for _, v := range x {
			sum += min(max(v-at, -k*scatter), k*scatter)
		}
		step := sum / float64(len(x))
		at += step
		if math.Abs(step) < 1e-9*scatter {
			break
		}
	}
	return at
}

// Normal is one component of a [Mixture].
type Normal struct{ Mean, SD float64 }

// Mixture is two normal distributions that values come from, the lower first.
type Mixture struct {
	Low, High Normal
	Weight    float64   // of the lower one, 0 to 1
	Share     []float64 // of each value: the probability that it is of the lower one
	Gain      float64   // log likelihood above that of one normal distribution
}

// FitMixture fits two components by expectation and maximisation, beginning
// with the values below split as the lower one. Neither gets a deviation of less
// than narrowest. ok is false where a component is left without values.
func FitMixture(x []float64, split, narrowest float64) (m Mixture, ok bool) {
	n := float64(len(x))
	m.Share = make([]float64, len(x))
	for i, v := range x {
		if v < split {
			m.Share[i] = 1
		}
	}
	density := func(c Normal, v float64) float64 {
		z := (v - c.Mean) / c.SD
		return math.Exp(-z*z/2) / c.SD
	}
	low, high := make([]float64, len(x)), make([]float64, len(x))
	before := math.Inf(1)
	for range 60 {
		total := 0.0
		for i, s := range m.Share {
			low[i], high[i] = s, 1-s
			total += s
		}
		if total < 1e-9*n || total > n*(1-1e-9) {
			return m, false
		}
		m.Low, m.High = weighted(x, low, narrowest), weighted(x, high, narrowest)
		m.Weight = total / n
		if math.Abs(m.Weight-before) < 1e-5 {
			break
		}
		before = m.Weight
		for i, v := range x {
			a, b := m.Weight*density(m.Low, v), (1-m.Weight)*density(m.High, v)
			switch {
			case a+b > 0:
				m.Share[i] = a / (a + b)
			case math.Abs(v-m.Low.Mean)/m.Low.SD < math.Abs(v-m.High.Mean)/m.High.SD: // beyond both: of the nearer one
				m.Share[i] = 1
			default:
				m.Share[i] = 0
			}
		}
	}
	likelihood := 0.0
	for _, v := range x {
		likelihood += math.Log(max(m.Weight*density(m.Low, v)+(1-m.Weight)*density(m.High, v), math.SmallestNonzeroFloat64))
	}
	one := weighted(x, nil, narrowest)
	for _, v := range x {
		z := (v - one.Mean) / one.SD
		likelihood += z*z/2 + math.Log(one.SD)
	}
	m.Gain = likelihood
	return m, m.Low.Mean < m.High.Mean
}

func weighted(x, weights []float64, narrowest float64) Normal {
	mean, variance := stat.PopMeanVariance(x, weights)
	return Normal{mean, max(narrowest, math.Sqrt(max(0, variance)))}
}
