package stats

import (
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/lapack/lapack64"
	"gonum.org/v1/gonum/mat"
)

// Band is a symmetric positive definite matrix whose entries vanish further
// than a width from the diagonal, as those of normal equations do whose
// unknowns are in the order of time. Its storage is kept from one use to the
// next.
type Band struct {
	n, width int
	data     []float64 // row i holds (i, i) … (i, i+width)
	factor   blas64.TriangularBand
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

// Factorize prepares Solve and LogDet, and uses the matrix up for it; ok is
// false where it is not positive definite.
func (b *Band) Factorize() (ok bool) {
	b.factor, ok = lapack64.Pbtrf(blas64.SymmetricBand{Uplo: blas.Upper, N: b.n, K: b.width, Data: b.data, Stride: b.width + 1})
	return ok
}

// LogDet is the logarithm of the determinant.
func (b *Band) LogDet() float64 {
	sum := 0.0
	for i := range b.n {
		sum += math.Log(b.factor.Data[i*b.factor.Stride])
	}
	return 2 * sum
}

// Solve replaces each column of x, n rows of columns values, by the solution
// of the matrix times it.
func (b *Band) Solve(x []float64, columns int) {
	lapack64.Pbtrs(b.factor, blas64.General{Rows: b.n, Cols: columns, Data: x, Stride: columns})
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
