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
// up to it, but those of a narrow matrix are: what is done to a row of eight is
// then written out, and the processor need not find out where the row ends.
type Band struct {
	n       int
	stride  int       // from row to row
	data    []float64 // row i holds (i, i) … (i, i+stride-1)
	reach   []int     // of each row, the entry after its last
	inverse []float64 // of the factor's pivots
}

// narrow is the stride of matrices of which a row has no more entries.
const narrow = 8

// Reset makes it n × n, zero, with entries up to width from the diagonal.
func (b *Band) Reset(n, width int) {
	b.n, b.stride = n, max(narrow, min(width+1, n))
	size := (n + narrow) * b.stride // rows that end beyond the last are zero there
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
	b.data[i*b.stride+j-i] += v
	b.reach[i] = max(b.reach[i], j-i+1)
}

// AddDifference adds v times the square of the difference of the unknowns i-1
// and i.
func (b *Band) AddDifference(i int, v float64) {
	row := b.data[(i-1)*b.stride : i*b.stride+1]
	row[0] += v
	row[1] -= v
	row[b.stride] += v
	b.reach[i-1] = max(b.reach[i-1], 2)
}

// AddOuter adds scale · x·xᵀ, x beginning at the matrix' entry (at, at).
func (b *Band) AddOuter(at int, x []float64, scale float64) {
	if len(x) > 0 {
		b.reach[at] = max(b.reach[at], len(x))
	}
	i := 0
	for ; i < len(x)-long; i++ {
		addLong(b.data[(at+i)*b.stride:], x[i:], scale*x[i])
	}
	for ; i < len(x); i++ {
		add(b.data[(at+i)*b.stride:], x[i:], scale*x[i])
	}
}

// Factorize prepares Solve and LogDet, and uses the matrix up for it; ok is
// false where it is not positive definite.
func (b *Band) Factorize() (ok bool) {
	if b.stride == narrow {
		return b.factorizeNarrow()
	}
	k := 1
	for i := range b.n {
		// What is eliminated reaches as far as the rows before.
		k = min(max(k-1, b.reach[i]), b.n-i)
		b.reach[i] = k
		row := b.data[i*b.stride:][:k]
		pivot := row[0]
		if !(pivot > 0) {
			return false
		}
		pivot = 1 / pivot
		b.inverse[i] = pivot
		j := 1
		for ; j < len(row)-long; j++ {
			u := row[j] * pivot
			addLong(b.data[(i+j)*b.stride:], row[j:], -u)
			row[j] = u
		}
		for ; j < len(row); j++ {
			u := row[j] * pivot
			add(b.data[(i+j)*b.stride:], row[j:], -u)
			row[j] = u
		}
	}
	return true
}

// factorizeNarrow is Factorize for rows of eight.
func (b *Band) factorizeNarrow() (ok bool) {
	for i := range b.n {
		rows := (*[narrow * narrow]float64)(b.data[i*narrow:])
		r1, r2, r3, r4, r5, r6, r7 := rows[1], rows[2], rows[3], rows[4], rows[5], rows[6], rows[7]
		if !(rows[0] > 0) {
			return false
		}
		pivot := 1 / rows[0]
		b.inverse[i] = pivot
		u := r1 * pivot
		rows[1] = u
		rows[8] -= u * r1
		rows[9] -= u * r2
		rows[10] -= u * r3
		rows[11] -= u * r4
		rows[12] -= u * r5
		rows[13] -= u * r6
		rows[14] -= u * r7
		u = r2 * pivot
		rows[2] = u
		rows[16] -= u * r2
		rows[17] -= u * r3
		rows[18] -= u * r4
		rows[19] -= u * r5
		rows[20] -= u * r6
		rows[21] -= u * r7
		u = r3 * pivot
		rows[3] = u
		rows[24] -= u * r3
		rows[25] -= u * r4
		rows[26] -= u * r5
		rows[27] -= u * r6
		rows[28] -= u * r7
		u = r4 * pivot
		rows[4] = u
		rows[32] -= u * r4
		rows[33] -= u * r5
		rows[34] -= u * r6
		rows[35] -= u * r7
		u = r5 * pivot
		rows[5] = u
		rows[40] -= u * r5
		rows[41] -= u * r6
		rows[42] -= u * r7
		u = r6 * pivot
		rows[6] = u
		rows[48] -= u * r6
		rows[49] -= u * r7
		u = r7 * pivot
		rows[7] = u
		rows[56] -= u * r7
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
	var det Product
	for i := range b.n {
		det.Times(b.data[i*b.stride])
	}
	return det.Log()
}

// Product is a product of any size of which the logarithm is wanted: that is taken now and
// then, and not of each factor. Its zero value is the product of nothing, which is 1.
type Product struct {
	log, rest float64 // it is rest · exp(log), but where rest is 0 nothing has come yet
}

// Times multiplies it by a factor from 1e-100 to 1e100.
func (p *Product) Times(x float64) {
	if p.rest == 0 {
		p.rest = 1
	}
	p.rest *= x
	if !(p.rest > 1e-200 && p.rest < 1e200) {
		p.log, p.rest = p.log+math.Log(p.rest), 1
	}
}

// Log is its logarithm.
func (p *Product) Log() float64 {
	if p.rest == 0 {
		return p.log
	}
	return p.log + math.Log(p.rest)
}

// Solve replaces x by the solution of the matrix times it.
func (b *Band) Solve(x []float64) {
	x = x[:b.n]
	i := 0
	if b.stride == narrow {
		for ; i+narrow <= len(x); i++ {
			row, x := (*[narrow]float64)(b.data[i*narrow:]), (*[narrow]float64)(x[i:])
			v := x[0]
			x[1] -= row[1] * v
			x[2] -= row[2] * v
			x[3] -= row[3] * v
			x[4] -= row[4] * v
			x[5] -= row[5] * v
			x[6] -= row[6] * v
			x[7] -= row[7] * v
		}
	}
	for last := len(x); i < last; i++ {
		add(x[i+1:], b.row(i), -x[i])
	}
	for i--; i >= 0 && (b.stride != narrow || i+narrow > len(x)); i-- {
		row := b.row(i)
		after := x[i+1:][:len(row)]
		sum := x[i] * b.inverse[i]
		for j := len(row) - 1; j >= 0; j-- {
			sum -= row[j] * after[j]
		}
		x[i] = sum
	}
	// What was found last comes last: the rest need not wait for it.
	for ; i >= 0; i-- {
		row, x := (*[narrow]float64)(b.data[i*narrow:]), (*[narrow]float64)(x[i:])
		x[0] = x[0]*b.inverse[i] - row[7]*x[7] - row[6]*x[6] - row[5]*x[5] - row[4]*x[4] - row[3]*x[3] - row[2]*x[2] - row[1]*x[1]
	}
}

// row is what is beside the diagonal, of the factor.
func (b *Band) row(i int) []float64 {
	k := b.reach[i]
	if b.stride == narrow {
		k = min(narrow, b.n-i)
	}
	return b.data[i*b.stride+1 : i*b.stride+k]
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
