package transformer

import (
	"errors"
	"fmt"
	"time"

	"joulepipe/pkg/cuda"
	"joulepipe/pkg/cuda/kernels"
)

// Options say how a model computes.
type Options struct {
	Type kernels.Type // of weights, activations and cache: bf16 or f16
	Seed uint64       // of weights and prompts
	BLAS *cuda.BLAS   // for products of more than a few rows; nil is own kernels
}

// New makes a model on a GPU. Where there is no room for its weights, the error
// has cuda.ErrOutOfMemory. Context and BLAS stay the caller's, to close after
// the model.
func New(c *cuda.Context, s Shape, o Options) (*Model, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	if o.Type != kernels.BF16 && o.Type != kernels.F16 {
		return nil, fmt.Errorf("no transformer in %q (bf16, f16)", o.Type)
	}
	d := &device{Context: c, shape: s, dtype: o.Type, blas: o.BLAS, kernels: cuda.NewLoader(c)}
	d.start = d.onGPU
	err := c.Do(func() (err error) {
		d.stream, err = c.NewStream()
		return err
	})
	if err != nil {
		return nil, err
	}
	m, err := newModel(d, s, o.Type, o.Seed)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return m, nil
}

// device is a machine on a GPU.
type device struct {
	*cuda.Context
	shape   Shape
	dtype   kernels.Type
	blas    *cuda.BLAS
	stream  cuda.Stream
	kernels *cuda.Loader
	start   func(l kernels.Launch, args []any) error // onGPU, but in tests
	failed  error                                    // the first failure
}

// Close gives back the stream. The modules are the context's.
func (d *device) Close() error {
	return d.Do(func() error { return d.DestroyStream(d.stream) })
}

// Upload waits for the copy, which is in the default stream and may otherwise be
// under way still when it is wanted in another.
func (d *device) Upload(dst cuda.Ptr, src []byte) error {
	return errors.Join(d.Context.Upload(dst, src), d.Context.Synchronize(0))
}

// Synchronize waits for the stream.
func (d *device) Synchronize() error {
	if d.failed != nil {
		return d.failed
	}
	return d.Context.Synchronize(d.stream)
}

// Capture makes a graph.
func (d *device) Capture(f func()) (replay, error) {
	g, err := d.Context.Capture(d.stream, func() error {
		f()
		return d.failed
	})
	if err != nil {
		return nil, err
	}
	return g, nil
}

func (d *device) launch(r replay) {
	if d.failed == nil {
		d.failed = r.(*cuda.Graph).Launch(d.stream)
	}
}

func (d *device) copy(dst, src cuda.Ptr, bytes int64) {
	if d.failed == nil {
		d.failed = d.CopyAsync(dst, src, bytes, d.stream)
	}
}

// run launches a kernel.
func (d *device) run(l kernels.Launch, args ...any) {
	if d.failed != nil {
		return
	}
	if err := d.start(l, args); err != nil {
		d.failed = fmt.Errorf("%s: %w", l.Kernel, err)
	}
}

// onGPU is how a kernel starts on a GPU.
func (d *device) onGPU(l kernels.Launch, args []any) error {
	f, err := d.kernels.Kernel(l.Module, l.Kernel, l.Shared)
	if err != nil {
		return err
	}
	return d.Launch(f, cuda.Dim(l.Grid), cuda.Dim(l.Block), l.Shared, d.stream, args...)
}

func (d *device) fill(out cuda.Ptr, n int64, seed uint64, halfWidth float32) {
	d.run(kernels.Fill(d.dtype, n), out, n, seed, halfWidth)
}

func (d *device) embed(x, table, positions, tokens, pos0 cuda.Ptr, batch, seq int) {
	d.run(kernels.Embed(d.dtype, batch, seq), x, table, positions, tokens, pos0, int32(seq), int32(d.shape.Width))
}

func (d *device) norm(y, x cuda.Ptr, p param, rows int) {
	width, eps := int32(d.shape.Width), float32(d.shape.Eps)
	if d.shape.Family == GPT2 {
		d.run(kernels.NormLayer(d.dtype, rows), y, x, p.w, p.bias, int32(rows), width, eps)
	} else {
		d.run(kernels.NormRMS(d.dtype, rows), y, x, p.w, int32(rows), width, eps)
	}
}

// Who multiplies. Up to ownRows rows, own kernels read the weights about as fast as
// cuBLAS does, and do at once what else is to be done with each result. With more
// it is cuBLAS where there is one; without, own kernels for few rows, which are computed at
// the memory's speed, or for many, at the tensor cores'.
const ownRows = 8

func (d *device) library(rows int) bool { return d.blas != nil && rows > ownRows }
func (d *device) few(rows int) bool     { return !d.library(rows) && rows <= kernels.GemvRows }

func (d *device) multiply(out, a, w cuda.Ptr, rows, n, k int) {
	d.product(out, a, param{w: w}, rows, n, k)
}

// product is multiply with a bias, which the library has not.
func (d *device) product(out, a cuda.Ptr, p param, rows, n, k int) {
	switch {
	case d.library(rows) && p.bias == 0:
		if d.failed == nil {
			d.failed = d.blas.Gemm(d.stream, blasType[d.dtype], rows, n, k, a, p.w, out, 1, 0)
		}
	case rows <= kernels.GemvRows:
		d.run(kernels.Gemv(d.dtype, rows, n), out, a, p.w, p.bias, int32(rows), int32(n), int32(k))
	default:
		d.run(kernels.Gemm(d.dtype, rows, n), out, cuda.Ptr(0), a, p.w, p.bias, int32(rows), int32(n), int32(k))
	}
}

var blasType = map[kernels.Type]cuda.Type{kernels.BF16: cuda.BF16, kernels.F16: cuda.F16}

func (d *device) multiplyAdd(x, a cuda.Ptr, p param, scratch cuda.Ptr, rows, k int) {
	m, n := int32(rows), d.shape.Width
	switch {
	case d.few(rows):
		d.run(kernels.GemvAdd(d.dtype, rows, n), x, a, p.w, p.bias, m, int32(n), int32(k))
	case d.library(rows):
		d.multiply(scratch, a, p.w, rows, n, k)
		d.run(kernels.Add(d.dtype, rows, n), x, scratch, p.bias, m, int32(n))
	default:
		d.run(kernels.Gemm(d.dtype, rows, n), cuda.Ptr(0), x, a, p.w, p.bias, m, int32(n), int32(k))
	}
}

func (d *device) activate(out, a cuda.Ptr, p param, scratch cuda.Ptr, rows int) {
	m, ff, k := int32(rows), int32(d.shape.FF), int32(d.shape.Width)
	gated := d.shape.Family == Llama
	switch {
	case d.few(rows) && gated && p.bias == 0:
		d.run(kernels.GemvSilu(d.dtype, rows, d.shape.FF), out, a, p.w, m, ff, k)
	case d.few(rows) && !gated:
		d.run(kernels.GemvGelu(d.dtype, rows, d.shape.FF), out, a, p.w, p.bias, m, ff, k)
	case gated:
		d.product(scratch, a, p, rows, d.shape.up(), d.shape.Width)
		d.run(kernels.SiluMul(d.dtype, rows, d.shape.FF), out, scratch, m, ff)
	default:
		d.multiply(out, a, p.w, rows, d.shape.FF, d.shape.Width)
		d.run(kernels.Gelu(d.dtype, rows, d.shape.FF), out, p.bias, m, ff)
	}
}

func (d *device) split(q cuda.Ptr, c cache, qkv, bias, pos0, frequencies cuda.Ptr, batch, seq int) {
	s := &d.shape
	d.run(kernels.SplitQKV(d.dtype, batch, seq, s.Heads+2*s.KVHeads), q, c.k, c.v, qkv, bias, pos0, frequencies,
		int32(seq), int32(s.Heads), int32(s.KVHeads), int32(s.HeadDim), int32(c.window))
}

func (d *device) attendPrompt(out, q cuda.Ptr, c cache, pos0 cuda.Ptr, batch, seq int) {
	s := &d.shape
	d.run(kernels.AttendPrefill(d.dtype, batch, seq, s.Heads, s.HeadDim), out, q, c.k, c.v, pos0,
		int32(seq), int32(s.Heads), int32(s.KVHeads), int32(c.window))
}

func (d *device) attendToken(out, q cuda.Ptr, c cache, pos, partial cuda.Ptr, batch int) {
	s := &d.shape
	d.run(kernels.AttendDecode(d.dtype, batch, s.KVHeads, s.HeadDim, c.window), partial, q, c.k, c.v, pos,
		int32(s.Heads), int32(s.KVHeads), int32(c.window))
	d.run(kernels.AttendReduce(d.dtype, batch, s.Heads), out, partial, int32(kernels.Splits(c.window)), int32(s.HeadDim))
}

func (d *device) argmax(token, logits cuda.Ptr, rows int) {
	d.run(kernels.Argmax(d.dtype, rows), token, logits, int32(rows), int32(d.shape.Vocab))
}

func (d *device) advance(pos cuda.Ptr, by int) { d.run(kernels.Advance(), pos, int32(by)) }

// measure copies half a GiB within another, and multiplies matrices of 8192².
func (d *device) measure() (s Speed, err error) {
	const half, n, times = 512 << 20, 8192, 20
	memory, err := d.Alloc(2 * half)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, d.Free(memory)) }()
	a, w, out := memory, memory+2*n*n, memory+4*n*n
	d.fill(a, n*n, 1, 1)
	d.fill(w, n*n, 2, 1)
	product, err := d.time(times, func() { d.multiply(out, a, w, n, n, n) })
	if err != nil {
		return s, err
	}
	copying, err := d.time(times, func() { d.run(kernels.Copy(half/16), memory+half, memory, int64(half/16)) })
	if err != nil {
		return s, err
	}
	return Speed{Copy: 2 * half / copying.Seconds(), Matmul: 2 * n * n * n / product.Seconds()}, nil
}

// time is how long f takes when it is done over and over, after as many times
// for nothing, in which the clocks rise.
func (d *device) time(times int, f func()) (took time.Duration, failed error) {
	var marks [2]cuda.Event
	for i := range marks {
		var err error
		if marks[i], err = d.NewEvent(); err != nil {
			return 0, err
		}
		defer func() { failed = errors.Join(failed, d.DestroyEvent(marks[i])) }()
	}
	for i := range 2 * times {
		if i == times && d.failed == nil {
			d.failed = d.Record(marks[0], d.stream)
		}
		f()
	}
	if d.failed == nil {
		d.failed = d.Record(marks[1], d.stream)
	}
	if err := d.Synchronize(); err != nil {
		return 0, err
	}
	all, err := d.Elapsed(marks[0], marks[1])
	return all / time.Duration(times), err
}
