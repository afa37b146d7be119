package stats

import (
	"math"

	"gonum.org/v1/gonum/dsp/fourier"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/stat"
)

// covariances are the sums Σ (x_i − m)·(x_{i+lag} − m) of the values' deviations
// from their mean, by lag. Few lags of a long series cost less one by one, all of
// them by Fourier transform: after so many the rest is had at once.
type covariances struct {
	deviation []float64
	all       []float64
}

const lagsOneByOne = 128

func newCovariances(x []float64) *covariances {
	c := &covariances{deviation: append([]float64(nil), x...)}
	floats.AddConst(-stat.Mean(x, nil), c.deviation)
	return c
}

func (c *covariances) at(lag int) float64 {
	n := len(c.deviation)
	switch {
	case lag >= n:
		return 0
	case c.all == nil && lag < lagsOneByOne:
		return floats.Dot(c.deviation[:n-lag], c.deviation[lag:])
	case c.all == nil:
		size := 1
		for size < 2*n {
			size *= 2
		}
		padded := make([]float64, size)
		copy(padded, c.deviation)
		fft := fourier.NewFFT(size)
		spectrum := fft.Coefficients(nil, padded)
		for i, s := range spectrum {
			spectrum[i] = complex(real(s)*real(s)+imag(s)*imag(s), 0)
		}
		c.all = fft.Sequence(padded, spectrum)
		floats.Scale(1/float64(size), c.all)
	}
	return c.all[lag]
}

// Independent is how many independent values a series of evenly spaced,
// correlated ones is worth when its mean is taken, by three methods that fail
// differently. None is more than the number of values, nor less than 1.
type Independent struct {
	Geyer      float64 // number over [Tau]
	BatchMeans float64 // by the scatter of the means of √n neighbours
	Bootstrap  float64 // moving blocks of twice Tau: the exact variance, not a random draw of it
}

// CountIndependent counts them. A series that does not vary has no answer: all
// are its length.
func CountIndependent(x []float64) Independent {
	n := float64(len(x))
	tau := Tau(x)
	variance := stat.PopVariance(x, nil)
	if !(variance > 0) {
		return Independent{n, n, n}
	}
	worth := func(varianceOfMean float64) float64 {
		if !(varianceOfMean > 0) {
			return n
		}
		return min(max(1, variance/varianceOfMean), n)
	}
	i := Independent{Geyer: max(1, n/tau), BatchMeans: n, Bootstrap: n}
	if size := int(math.Sqrt(n)); size >= 2 {
		var means []float64
		for len(x) >= (len(means)+1)*size {
			from := len(means) * size
			means = append(means, stat.Mean(x[from:from+size], nil))
		}
		i.BatchMeans = worth(stat.Variance(means, nil) / float64(len(means)))
	}
	if size := min(int(math.Ceil(2*tau)), len(x)/2); size >= 1 {
		means := slidingMeans(x, size)
		i.Bootstrap = worth(stat.PopVariance(means, nil) * float64(size) / n)
	}
	return i
}

// Least is the smallest of the three counts.
func (i Independent) Least() float64 { return min(i.Geyer, i.BatchMeans, i.Bootstrap) }

// slidingMeans are the means of all stretches of so many neighbours.
func slidingMeans(x []float64, size int) []float64 {
	means := make([]float64, 0, len(x)-size+1)
	sum := floats.Sum(x[:size])
	means = append(means, sum/float64(size))
	for i := size; i < len(x); i++ {
		sum += x[i] - x[i-size]
		means = append(means, sum/float64(size))
	}
	return means
}

// Changes divides a series into stretches of constant mean: the indices at
// which a new one begins, none for a series of one. Each stretch has least
// values or more, and each change lowers the sum of squared residuals by more
// than penalty. It is the optimal partition, found with the pruning of PELT
// (Killick, Fearnhead and Eckley 2012).
func Changes(x []float64, penalty float64, least int) []int {
	n := len(x)
	least = max(1, least)
	if n < 2*least {
		return nil
	}
	shift := x[0] // squares of large numbers lose the small ones
	sum, sq := make([]float64, n+1), make([]float64, n+1)
	for i, v := range x {
		v -= shift
		sum[i+1], sq[i+1] = sum[i]+v, sq[i]+v*v
	}
	cost := func(from, until int) float64 {
		s := sum[until] - sum[from]
		return max(0, sq[until]-sq[from]-s*s/float64(until-from))
	}
	best, last := make([]float64, n+1), make([]int, n+1)
	best[0] = -penalty
	candidates := []int{0}
	for until := least; until <= n; until++ {
		best[until] = math.Inf(1)
		for _, from := range candidates {
			if until-from < least {
				continue
			}
			if total := best[from] + cost(from, until) + penalty; total < best[until] {
				best[until], last[until] = total, from
			}
		}
		kept := candidates[:0]
		for _, from := range candidates {
			if until-from < least || best[from]+cost(from, until) <= best[until] {
				kept = append(kept, from)
			}
		}
		candidates = kept
		if next := until - least + 1; next >= least && next <= n-least {
			candidates = append(candidates, next)
		}
	}
	var changes []int
	for at := last[n]; at > 0; at = last[at] {
		changes = append(changes, at)
	}
	for i, j := 0, len(changes)-1; i < j; i, j = i+1, j-1 {
		changes[i], changes[j] = changes[j], changes[i]
	}
	return changes
}
