package stats

import (
	"math"

	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/mat"
)

// Band is a symmetric positive definite matrix whose entries vanish further
// than a width from the diagonal, as those of normal equations do whose
// unknowns are in the order of time. Its storage is kept from one use to the
// next.
//
// Its rows are short, some ten entries: a general library spends more on its
// calls than on the arithmetic. Rows that end before the width are not filled
// up to it.
type Band struct {
	n, width int
	data     []float64 // row i holds (i, i) … (i, i+width)
	reach    []int     // of each row, the entry after its last
	inverse  []float64 // of the factor's pivots
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
	if cap(b.reach) < n {
		b.reach, b.inverse = make([]int, n), make([]float64, n)
	}
	b.reach, b.inverse = b.reach[:n], b.inverse[:n]
	for i := range b.reach {
		b.reach[i] = 1
	}
}

// Add adds v to the entries (i, j) and (j, i), which are one where i is j.
func (b *Band) Add(i, j int, v float64) {
	if i > j {
		i, j = j, i
	}
	b.data[i*(b.width+1)+j-i] += v
	b.reach[i] = max(b.reach[i], j-i+1)
}

// AddDifference adds v times the square of the difference of the unknowns i-1
// and i.
func (b *Band) AddDifference(i int, v float64) {
	w := b.width + 1
	row := b.data[(i-1)*w : i*w+1]
	row[0] += v
	row[1] -= v
	row[w] += v
	b.reach[i-1] = max(b.reach[i-1], 2)
}

// AddOuter adds scale · x·xᵀ, x beginning at the matrix' entry (at, at).
func (b *Band) AddOuter(at int, x []float64, scale float64) {
	w := b.width + 1
	if len(x) > 0 {
		b.reach[at] = max(b.reach[at], len(x))
	}
	i := 0
	for ; i < len(x)-long; i++ {
		addLong(b.data[(at+i)*w:], x[i:], scale*x[i])
	}
	for ; i < len(x); i++ {
		add(b.data[(at+i)*w:], x[i:], scale*x[i])
	}
}

// Factorize prepares Solve and LogDet, and uses the matrix up for it; ok is
// false where it is not positive definite.
func (b *Band) Factorize() (ok bool) {
	w := b.width + 1
	k := 1
	for i := range b.n {
		// What is eliminated reaches as far as the rows before.
		k = min(max(k-1, b.reach[i]), b.n-i)
		b.reach[i] = k
		row := b.data[i*w : i*w+k]
		pivot := row[0]
		if !(pivot > 0) {
			return false
		}
		pivot = 1 / pivot
		b.inverse[i] = pivot
		j := 1
		for ; j < len(row)-long; j++ {
			u := row[j] * pivot
			addLong(b.data[(i+j)*w:], row[j:], -u)
			row[j] = u
		}
		for ; j < len(row); j++ {
			u := row[j] * pivot
			add(b.data[(i+j)*w:], row[j:], -u)
			row[j] = u
		}
	}
	return true
}

// add adds x, so many times, to y.
func add(y, x []float64, times float64) {
	y = y[:len(x)]
	for i, v := range x {
		y[i] += times * v
	}
}

// addLong is add for rows for which a call of the library is no more than the
// arithmetic.
func addLong(y, x []float64, times float64) { blas64.Implementation().Daxpy(len(x), times, x, 1, y, 1) }

const long = 16

// LogDet is the logarithm of the determinant.
func (b *Band) LogDet() float64 {
	sum := 0.0
	for i := range b.n {
		sum += math.Log(b.data[i*(b.width+1)])
	}
	return sum
}

// Solve replaces each column of x, n rows of columns values, by the solution
// of the matrix times it.
func (b *Band) Solve(x []float64, columns int) {
	if columns == 1 {
		b.solve(x[:b.n])
		return
	}
	w := b.width + 1
	for i, k := range b.reach {
		at := x[i*columns : (i+1)*columns]
		for j, u := range b.data[i*w+1 : i*w+k] {
			add(x[(i+1+j)*columns:], at, -u)
		}
	}
	for i := b.n - 1; i >= 0; i-- {
		at := x[i*columns : (i+1)*columns]
		for c := range at {
			at[c] *= b.inverse[i]
		}
		for j, u := range b.data[i*w+1 : i*w+b.reach[i]] {
			add(at, x[(i+1+j)*columns:(i+2+j)*columns], -u)
		}
	}
}

// solve is Solve for one column.
func (b *Band) solve(x []float64) {
	w := b.width + 1
	for i, k := range b.reach {
		add(x[i+1:], b.data[i*w+1:i*w+k], -x[i])
	}
	for i := b.n - 1; i >= 0; i-- {
		row := b.data[i*w+1 : i*w+b.reach[i]]
		after := x[i+1:]
		after = after[:len(row)]
		sum := x[i] * b.inverse[i]
		for j, u := range row {
			sum -= u * after[j]
		}
		x[i] = sum
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
