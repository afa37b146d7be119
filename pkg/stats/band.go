package stats

import (
	"math"

	"gonum.org/v1/gonum/mat"
)

// Band is a symmetric positive definite matrix whose entries vanish further
// than a width from the diagonal, as those of normal equations do whose
// unknowns are in the order of time. Its storage is kept from one use to the
// next.
type Band struct {
	n, width int
	data     []float64 // row i holds (i, i) … (i, i+width)
	chol     mat.BandCholesky
}

// Reset makes it n × n, zero, with entries up to width from the diagonal.
func (b *Band) Reset(n, width int) {
	b.n, b.width = n, min(width, n-1)
	size := n * (b.width + 1)
	if cap(b.data) < size {
		b.data = make([]float64, size)
	}
	b.data = b.data[:size]
	clear(b.data)
}

// Add adds v to the entries (i, j) and (j, i), which are one where i is j.
func (b *Band) Add(i, j int, v float64) {
	if i > j {
		i, j = j, i
	}
	b.data[i*(b.width+1)+j-i] += v
}

// AddOuter adds scale · x·xᵀ, x beginning at the matrix' entry (at, at).
func (b *Band) AddOuter(at int, x []float64, scale float64) {
	w := b.width + 1
	for i, xi := range x {
		row := b.data[(at+i)*w:]
		s := scale * xi
		for j, xj := range x[i:] {
			row[j] += s * xj
		}
	}
}

// Factorize prepares Solve and LogDet; ok is false where the matrix is not
// positive definite.
func (b *Band) Factorize() (ok bool) {
	return b.chol.Factorize(mat.NewSymBandDense(b.n, b.width, b.data))
}

// LogDet is the logarithm of the determinant.
func (b *Band) LogDet() float64 { return b.chol.LogDet() }

// Solve replaces each column of x, n rows of columns values, by the solution
// of the matrix times it. It is NaN where that cannot be had.
func (b *Band) Solve(x []float64, columns int) {
	m := mat.NewDense(b.n, columns, x)
	if err := b.chol.SolveTo(m, m); err != nil {
		if _, bad := err.(mat.Condition); !bad {
			for i := range x {
				x[i] = math.NaN()
			}
		}
	}
}

// Invert is the inverse of a symmetric positive definite matrix of n rows. ok
// is false where it is not of full rank.
func Invert(a []float64, n int) (inverse []float64, ok bool) {
	var c mat.Cholesky
	if !c.Factorize(mat.NewSymDense(n, a)) || c.Cond() > 1e14 {
		return nil, false
	}
	var s mat.SymDense
	if c.InverseTo(&s) != nil {
		return nil, false
	}
	inverse = make([]float64, n*n)
	for i := range n {
		for j := range n {
			inverse[i*n+j] = s.At(i, j)
		}
	}
	return inverse, true
}
