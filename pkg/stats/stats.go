// Package stats is the statistics that the analyses share: fits whose errors
// know that neighbouring readings are not independent. What gonum has is
// gonum's.
package stats

import (
	"math"

	"gonum.org/v1/gonum/stat"
)

// Z95 is the half-width of a 95 % interval in standard errors of a normal
// distribution.
const Z95 = 1.96

// Line is a least-squares line y = Intercept + Slope·x.
type Line struct {
	Intercept, Slope     float64
	InterceptSE, SlopeSE float64 // standard errors, with NEff
	Residual             float64 // sum of squared residuals
	NEff                 float64 // independent points that the residuals are worth, at most their number
}

// FitLine fits a line to points in the order of x. The standard errors are
// those of independent points times the root of the residuals' [Tau]. ok is
// false below 3 points and where x does not vary.
func FitLine(x, y []float64) (l Line, ok bool) {
	n := float64(len(x))
	if n < 3 {
		return l, false
	}
	mean, variance := stat.PopMeanVariance(x, nil)
	if !(variance > 0) {
		return l, false
	}
	l.Intercept, l.Slope = stat.LinearRegression(x, y, nil, false)
	residuals := make([]float64, len(x))
	for i := range x {
		residuals[i] = y[i] - l.Intercept - l.Slope*x[i]
		l.Residual += residuals[i] * residuals[i]
	}
	tau := Tau(residuals)
	l.NEff = n / tau
	l.SlopeSE = math.Sqrt(l.Residual / (n - 2) * tau / (n * variance))
	l.InterceptSE = l.SlopeSE * math.Sqrt(variance+mean*mean)
	return l, true
}

// Tau is the integrated autocorrelation time of evenly spaced values, in
// spacings: how many of them carry as much about the mean as one independent
// value. It is 1 or more, and no more than a third of the values: longer times
// than that cannot be told from so few.
//
// It is Geyer's initial monotone sequence (Practical Markov Chain Monte Carlo,
// 1992): sums of neighbouring pairs of the autocovariance are added as long as
// they are positive, none greater than the one before it. The quick form
// (1+r)/(1−r) takes the decay to be exponential, which that of rounded
// readings is not.
func Tau(x []float64) float64 {
	cov := newCovariances(x).at
	variance := cov(0)
	if !(variance > 0) {
		return 1
	}
	sum, last := 0.0, math.Inf(1)
	for lag := 0; lag+1 < len(x); lag += 2 {
		pair := cov(lag) + cov(lag+1)
		if pair <= 0 {
			break
		}
		last = min(last, pair)
		sum += last
	}
	return min(max(1, 2*sum/variance-1), max(1, float64(len(x))/3))
}
