package stats

import (
	"cmp"
	"math"
	"slices"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/optimize"
	"gonum.org/v1/gonum/stat"
	"gonum.org/v1/gonum/stat/distuv"
)

// Solve is x of a·x = b for a symmetric positive definite a, given by rows, as
// normal equations are. ok is false where a is not of full rank.
func Solve(a, b []float64) (x []float64, ok bool) {
	var c mat.Cholesky
	if !c.Factorize(mat.NewSymDense(len(b), a)) || c.Cond() > 1e12 {
		return nil, false
	}
	var v mat.VecDense
	if c.SolveVecTo(&v, mat.NewVecDense(len(b), b)) != nil {
		return nil, false
	}
	return v.RawVector().Data, true
}

// F95 is the value that the square of a t-distributed quantity with that many
// degrees of freedom exceeds in 5 % of cases; with many, 3.84.
func F95(freedom float64) float64 {
	return distuv.F{D1: 1, D2: freedom}.Quantile(0.95)
}

// Minimize looks for the least of f near x by the simplex of Nelder and Mead,
// whose first edges are step, one for each coordinate. f need not be smooth;
// where it is +Inf is out of bounds.
func Minimize(f func([]float64) float64, x, step []float64) (at []float64, least float64) {
	u := make([]float64, len(x))
	scaled := func(v []float64) float64 {
		for i := range v {
			u[i] = x[i] + v[i]*step[i]
		}
		return finite(f(u))
	}
	result, err := optimize.Minimize(optimize.Problem{Func: scaled}, make([]float64, len(x)), &optimize.Settings{
		Converger: &optimize.FunctionConverge{Relative: 1e-6, Iterations: 12 * len(x)},
	}, &optimize.NelderMead{SimplexSize: 1})
	if err != nil && result == nil {
		return append([]float64(nil), x...), f(x)
	}
	at = make([]float64, len(x))
	for i := range at {
		at[i] = x[i] + result.X[i]*step[i]
	}
	return at, result.F
}

// A Profile is how the least of a function grows as one of its coordinates is
// held away from the best.
type Profile struct {
	F     func([]float64) float64
	At    []float64 // where F is least
	Step  []float64 // size of a first move of each coordinate
	Least float64   // F(At)
}

// Interval is between which values of a coordinate the least of F over all
// others stays within rise of Least, looked for no farther than from lo to hi;
// an end that is not found there is lo or hi. For a sum of squares and rise =
// F95·variance it is the coordinate's 95 % interval, curved as it may be.
func (p Profile) Interval(coordinate int, rise, lo, hi float64) (from, until float64) {
	return p.end(coordinate, rise, lo), p.end(coordinate, rise, hi)
}

func (p Profile) end(coordinate int, rise, limit float64) float64 {
	others := make([]float64, 0, len(p.At))
	step := make([]float64, 0, len(p.At))
	for i := range p.At {
		if i != coordinate {
			others, step = append(others, p.At[i]), append(step, p.Step[i])
		}
	}
	full := make([]float64, len(p.At))
	// within says whether F stays low enough at v, and moves others there.
	within := func(v float64) bool {
		held := func(o []float64) float64 {
			copy(full, o[:coordinate])
			full[coordinate] = v
			copy(full[coordinate+1:], o[coordinate:])
			return finite(p.F(full))
		}
		if len(others) == 0 {
			return held(others) <= p.Least+rise
		}
		at, least := Minimize(held, others, step)
		if least > p.Least+rise {
			return false
		}
		others = at
		return true
	}
	best := p.At[coordinate]
	inside, outside := best, limit
	for reach := p.Step[coordinate] / 8; ; reach *= 2 {
		v := best + math.Copysign(reach, limit-best)
		if math.Abs(v-best) >= math.Abs(limit-best) {
			if within(limit) {
				return limit
			}
			break
		}
		if !within(v) {
			outside = v
			break
		}
		inside = v
	}
	for range 8 {
		if v := (inside + outside) / 2; within(v) {
			inside = v
		} else {
			outside = v
		}
	}
	return (inside + outside) / 2
}

// finite keeps what is not a number from being taken for a minimum.
func finite(v float64) float64 {
	if math.IsNaN(v) {
		return math.Inf(1)
	}
	return v
}

// Orthogonal is what of a vector the others have no part in: the residuals of
// its least-squares fit by them.
func Orthogonal(vectors [][]float64, which int) []float64 {
	own := append([]float64(nil), vectors[which]...)
	var others [][]float64
	for i, v := range vectors {
		if i != which && floats.Norm(v, 2) > 0 {
			others = append(others, v)
		}
	}
	n := len(others)
	if n == 0 {
		return own
	}
	normal, right := make([]float64, n*n), make([]float64, n)
	for i, a := range others {
		right[i] = floats.Dot(a, own)
		for j, b := range others {
			normal[i*n+j] = floats.Dot(a, b)
		}
	}
	if x, ok := Solve(normal, right); ok {
		for i, v := range others {
			floats.AddScaled(own, -x[i], v)
		}
	}
	return own
}

// Isotonic is the non-decreasing y nearest to the points in least squares, by
// the pooling of neighbours that go down; x comes out sorted, one for each
// pool, at its mean.
func Isotonic(x, y []float64) (atX, atY []float64) {
	order := make([]int, len(x))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(x[a], x[b]) })
	var n []float64
	for _, i := range order {
		atX, atY, n = append(atX, x[i]), append(atY, y[i]), append(n, 1)
		for k := len(atY) - 1; k > 0 && atY[k] <= atY[k-1]; k-- {
			both := n[k] + n[k-1]
			atX[k-1] = (atX[k-1]*n[k-1] + atX[k]*n[k]) / both
			atY[k-1] = (atY[k-1]*n[k-1] + atY[k]*n[k]) / both
			n[k-1] = both
			atX, atY, n = atX[:k], atY[:k], n[:k]
		}
	}
	return atX, atY
}

// MeanSD is the mean of values and their standard deviation.
func MeanSD(x []float64) (mean, sd float64) { return stat.MeanStdDev(x, nil) }

// Quantile is the least of the values that a share q of them does not exceed;
// NaN of none.
func Quantile(x []float64, q float64) float64 {
	if len(x) == 0 {
		return math.NaN()
	}
	return stat.Quantile(q, stat.Empirical, slices.Sorted(slices.Values(x)), nil)
}
