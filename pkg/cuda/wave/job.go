package wave

import (
	"encoding/binary"
	"fmt"
	"math"

	"joulepipe/pkg/cuda"
	"joulepipe/pkg/cuda/kernels"
	"joulepipe/pkg/load"
)

// job is what a kernel computes, in pieces of equal size.
type job struct {
	kind     kernels.Type // of the numbers
	n        int          // rows and columns of matrices; numbers of a copy
	operands int64        // how many arrays it reads
	bytes    int64        // of each of them
	result   int64        // bytes of the result
	pieces   int
	flops    float64 // operations of a piece
	moved    float64 // bytes of memory that a piece is there to read and write
	launch   func(q *Queue, first, pieces int) error
	want     func(j *job, row, column int) float64 // a number of the result
}

const (
	mib       = 1 << 20
	rows      = 128 // of a product's piece
	copied    = 1 << 30
	halfWidth = 1
	stretch   = 64 // numbers of a row that are looked at
)

var jobs = map[load.Kernel]job{
	load.FP32:   product(kernels.F32, 4096, multiplyF32, func(j *job, row, column int) float64 { return j.dot(row*j.n, 1, column, j.n) }),
	load.BF16:   product(kernels.BF16, 8192, multiplyBF16, func(j *job, row, column int) float64 { return j.dot(row*j.n, 1, column*j.n, 1) }),
	load.Memory: copying(),
}

// product is one of two matrices of n rows and columns.
func product(t kernels.Type, n int, launch func(*Queue, int, int) error, want func(*job, int, int) float64) job {
	size := int64(n) * int64(n) * width(t)
	return job{
		kind: t, n: n, operands: 2, bytes: size, result: size, pieces: n / rows,
		flops: 2 * rows * float64(n) * float64(n), launch: launch, want: want,
	}
}

// copying is one of 1 GiB.
func copying() job {
	const pieces = 64
	return job{
		kind: kernels.F32, n: copied / 4, operands: 1, bytes: copied, result: copied, pieces: pieces, moved: 2 * copied / pieces,
		launch: copyPieces,
		want: func(_ *job, row, column int) float64 {
			return float64(uniform(1, uint64(row*(copied/4/pieces)+column)))
		},
	}
}

// width is the size of a number in bytes.
func width(t kernels.Type) int64 {
	if t == kernels.F32 {
		return 4
	}
	return 2
}

// take takes the job's memory, and fills its operands with the numbers of seeds 1
// and 2.
func (j *job) take(q *Queue) error {
	for i := range j.operands {
		p, err := q.alloc(j.bytes)
		if err != nil {
			return err
		}
		n := j.bytes / width(j.kind)
		if err := q.launch(kernels.Fill(j.kind, n), p, n, uint64(i+1), float32(halfWidth)); err != nil {
			return err
		}
	}
	_, err := q.alloc(j.result)
	return err
}

// in is an operand, and out the result.
func (j *job) in(q *Queue, i int) cuda.Ptr {
	return q.memory[len(q.memory)-1-int(j.operands)+i]
}

func (j *job) out(q *Queue) cuda.Ptr { return q.memory[len(q.memory)-1] }

func multiplyF32(q *Queue, first, pieces int) error {
	n := q.job.n
	at := cuda.Ptr(first * rows * n * 4)
	l := kernels.MatmulF32(n)
	l.Grid.X = l.Grid.X / q.job.pieces * pieces // blocks go through the result row by row of tiles
	return q.launch(l, q.job.out(q)+at, q.job.in(q, 0)+at, q.job.in(q, 1), int32(n))
}

func multiplyBF16(q *Queue, first, pieces int) error {
	n, m := q.job.n, pieces*rows
	at := cuda.Ptr(first * rows * n * 2)
	out, a, w := q.job.out(q)+at, q.job.in(q, 0)+at, q.job.in(q, 1)
	if b := q.options.BLAS; b != nil {
		return b.Gemm(q.stream, cuda.BF16, m, n, n, a, w, out, 1, 0)
	}
	return q.launch(kernels.Gemm(kernels.BF16, m, n), out, cuda.Ptr(0), a, w, cuda.Ptr(0), int32(m), int32(n), int32(n))
}

func copyPieces(q *Queue, first, pieces int) error {
	piece := q.job.result / int64(q.job.pieces)
	at := cuda.Ptr(int64(first) * piece)
	n := int64(pieces) * piece / 16
	return q.launch(kernels.Copy(n), q.job.out(q)+at, q.job.in(q, 0)+at, n)
}

// uniform is number i that a fill of that seed draws.
func uniform(seed, i uint64) float32 {
	z := seed + (i+1)*0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	z ^= z >> 31
	u := float32(z>>40) * (1.0 / (1 << 24))
	return (2*u - 1) * halfWidth
}

// operand is number i of an operand as the job has it.
func (j *job) operand(seed, i uint64) float64 {
	v := uniform(seed, i)
	if j.kind == kernels.BF16 {
		bits := math.Float32bits(v)
		v = math.Float32frombits((bits + 0x7fff + bits>>16&1) &^ 0xffff)
	}
	return float64(v)
}

// dot is the product of n numbers of each operand.
func (j *job) dot(a, stepA, b, stepB int) float64 {
	sum := 0.0
	for k := range j.n {
		sum += j.operand(1, uint64(a+k*stepA)) * j.operand(2, uint64(b+k*stepB))
	}
	return sum
}

// check looks at some numbers of the first and the last piece that was computed:
// a stretch of one row for being numbers at all, and a few for being right.
func (j *job) check(q *Queue) error {
	first, last := -1, 0
	for i, written := range q.written {
		if written {
			last = i
			if first < 0 {
				first = i
			}
		}
	}
	each, wide := rows, j.n // a piece has so many rows, of so many numbers
	if j.moved > 0 {
		each, wide = 1, j.n/j.pieces
	}
	line := make([]byte, stretch*width(j.kind))
	for _, row := range []int{first * each, last*each + each - 1} {
		for _, from := range []int{0, wide - stretch} {
			at := (int64(row)*int64(wide) + int64(from)) * width(j.kind)
			if err := q.on.Download(line, j.out(q)+cuda.Ptr(at)); err != nil {
				return err
			}
			for i := range stretch {
				got := j.number(line, i)
				if math.IsNaN(got) || math.IsInf(got, 0) {
					return fmt.Errorf("row %d, column %d is %v", row, from+i, got)
				}
			}
			for _, i := range []int{0, 1, stretch / 2, stretch - 1} {
				want, got := j.want(j, row, from+i), j.number(line, i)
				if math.Abs(got-want) > j.tolerance(want) {
					return fmt.Errorf("row %d, column %d is %v, and should be %v", row, from+i, got, want)
				}
			}
		}
	}
	return nil
}

// number is number i of some bytes.
func (j *job) number(b []byte, i int) float64 {
	if j.kind == kernels.F32 {
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:])))
	}
	return float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[2*i:])) << 16))
}

// tolerance is how far a number may be off: nothing where it is copied. Sums of n
// products of uniform numbers scatter by a third of √n.
func (j *job) tolerance(want float64) float64 {
	scatter := math.Sqrt(float64(j.n)) / 3 * halfWidth * halfWidth
	switch {
	case j.moved > 0:
		return 0
	case j.kind == kernels.F32:
		return 1e-3 * scatter
	}
	return 1e-2*scatter + math.Abs(want)/128
}
