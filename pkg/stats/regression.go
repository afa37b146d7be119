package stats

import (
	"math"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat/distuv"
)

// T95 is the half-width of a 95 % interval in standard errors that were
// themselves estimated, with that many degrees of freedom: 12.7 with one, 1.96
// with many.
func T95(freedom float64) float64 {
	if freedom > 1e6 { // where the quantile below loses digits
		return distuv.UnitNormal.Quantile(0.975)
	}
	return distuv.StudentsT{Sigma: 1, Nu: freedom}.Quantile(0.975)
}

// FTail is the probability that an F-distributed quantity with those degrees of
// freedom exceeds f.
func FTail(f, above, below float64) float64 {
	return distuv.F{D1: above, D2: below}.Survival(f)
}

// Regression is a weighted least-squares fit of y by a sum of columns, each
// times its coefficient.
type Regression struct {
	Coefficients []float64
	Covariance   *mat.SymDense // of the coefficients, where the weights are one over the variances of y
	Residual     float64       // weighted sum of squared residuals
}

// Regress fits y by the columns, each as long as y. ok is false where the
// columns are not independent of one another to 8 digits.
func Regress(columns [][]float64, y, weights []float64) (r Regression, ok bool) {
	n, p := len(y), len(columns)
	if p == 0 || n < p {
		return r, false
	}
	// Columns scaled to the same length: whether they are independent is not a
	// matter of their units.
	design, right := mat.NewDense(n, p, nil), mat.NewVecDense(n, nil)
	length := make([]float64, p)
	scaled := make([]float64, n)
	for j, column := range columns {
		for i, v := range column {
			scaled[i] = v * math.Sqrt(weights[i])
		}
		if length[j] = floats.Norm(scaled, 2); !(length[j] > 0) || math.IsInf(length[j], 0) {
			return r, false
		}
		floats.Scale(1/length[j], scaled)
		design.SetCol(j, scaled)
	}
	for i, v := range y {
		right.SetVec(i, v*math.Sqrt(weights[i]))
	}
	var svd mat.SVD
	if !svd.Factorize(design, mat.SVDThin) || !(svd.Cond() < 1e8) {
		return r, false
	}
	var b, residual mat.VecDense
	svd.SolveVecTo(&b, right, p)
	residual.MulVec(design, &b)
	residual.SubVec(right, &residual)
	r.Residual = mat.Dot(&residual, &residual)
	var v mat.Dense
	svd.VTo(&v)
	values := svd.Values(nil)
	v.Apply(func(j, k int, v float64) float64 { return v / values[k] / length[j] }, &v)
	r.Covariance = mat.NewSymDense(p, nil)
	r.Covariance.SymOuterK(1, &v)
	r.Coefficients = b.RawVector().Data
	floats.Div(r.Coefficients, length)
	return r, true
}
