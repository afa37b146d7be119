package transformer

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"

	"joulepipe/pkg/cuda"
	"joulepipe/pkg/cuda/kernels"
	"joulepipe/pkg/cuda/kernels/kernelstest"
)

// emulated is a GPU's machine whose kernels run on the processor, compiled from
// their sources by g++, one process each. What it shows is that they are started
// with what they want.
type emulated struct {
	*device
	t       *testing.T
	program string
	memory  map[cuda.Ptr][]byte
	next    cuda.Ptr
	capture *[]func()
	used    map[string]bool // kernels
}

func TestMain(m *testing.M) { os.Exit(kernelstest.Main(m)) }

func newEmulated(t *testing.T, s Shape, typ kernels.Type) *emulated {
	program := kernelstest.Emulator(t, "../cuda/kernels")
	e := &emulated{
		device: &device{shape: s, dtype: typ}, t: t, program: program,
		memory: map[cuda.Ptr][]byte{}, next: 1 << 20, used: map[string]bool{},
	}
	e.start = func(l kernels.Launch, args []any) error { return e.step(func() error { return e.run(l, args) }) }
	return e
}

func (e *emulated) step(f func() error) error {
	if e.capture != nil {
		*e.capture = append(*e.capture, func() {
			if e.failed == nil {
				e.failed = f()
			}
		})
		return nil
	}
	return f()
}

// most is more than an array of the small shapes has, in bytes.
const most = 128 << 10

// rest is an allocation's memory from an address on, as far as an array reaches.
func (e *emulated) rest(p cuda.Ptr) []byte {
	for at, b := range e.memory {
		if p >= at && p < at+cuda.Ptr(len(b)) {
			b = b[p-at:]
			return b[:min(len(b), most)]
		}
	}
	e.t.Fatalf("no memory at %#x", p)
	return nil
}

// run starts a kernel. It gets a copy of all memory behind each address, and
// what it changes there is changed here.
func (e *emulated) run(l kernels.Launch, args []any) error {
	e.used[l.Kernel] = true
	var in bytes.Buffer
	fmt.Fprintf(&in, "%s %d %d %d %d %d %d\n", l.Kernel, l.Grid.X, l.Grid.Y, l.Grid.Z, l.Block.X, l.Shared, len(args))
	var behind [][]byte
	for _, arg := range args {
		if p, ok := arg.(cuda.Ptr); ok && p != 0 {
			b := e.rest(p)
			behind = append(behind, b)
			fmt.Fprintf(&in, "memory %d\n%s", len(b), b)
			continue
		}
		b, err := binary.Append(nil, binary.LittleEndian, arg)
		if err != nil {
			return err
		}
		fmt.Fprintf(&in, "value %d\n%s", len(b), b)
	}
	cmd := exec.Command(e.program)
	cmd.Stdin = &in
	var stderr strings.Builder
	cmd.Stderr = &stderr
	before := make([][]byte, len(behind))
	for i, b := range behind {
		before[i] = bytes.Clone(b)
	}
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%w: %s", err, stderr.String())
	}
	for i, b := range behind {
		for k := range b {
			if out[k] != before[i][k] {
				b[k] = out[k]
			}
		}
		out = out[len(b):]
	}
	return nil
}

func (e *emulated) Do(f func() error) error { return f() }

func (e *emulated) Alloc(n int64) (cuda.Ptr, error) {
	p := e.next
	e.next += cuda.Ptr(aligned(n)) + align
	e.memory[p] = bytes.Repeat([]byte{0xff}, int(n)) // not a number, in any type
	return p, nil
}

func (e *emulated) Free(p cuda.Ptr) error {
	delete(e.memory, p)
	return nil
}

func (e *emulated) Upload(dst cuda.Ptr, src []byte) error {
	copy(e.rest(dst), src)
	return nil
}

func (e *emulated) Download(dst []byte, src cuda.Ptr) error {
	copy(dst, e.rest(src))
	return nil
}

func (e *emulated) Synchronize() error { return e.failed }
func (e *emulated) Close() error       { return nil }

func (e *emulated) Capture(f func()) (replay, error) {
	e.capture = new([]func())
	f()
	p := program(*e.capture)
	e.capture = nil
	return p, e.failed
}

func (e *emulated) launch(r replay) {
	for _, f := range r.(program) {
		f()
	}
}

func (e *emulated) copy(dst, src cuda.Ptr, n int64) {
	_ = e.step(func() error { return e.Upload(dst, bytes.Clone(e.rest(src)[:n])) })
}

// The kernels make of a shape what a shape is, whether there are many rows or
// few of them.
func TestKernels(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic, in which nothing runs at the same time")
	}
	t.Parallel()
	shapes := small()
	for i := range shapes {
		shapes[i].Layers = 1 // the layers' order is TestInference's
	}
	for _, c := range []struct {
		name              string
		shape             Shape
		typ               kernels.Type
		size, prompt, gen int
		used              string
	}{
		{"gpt2", shapes[0], kernels.F16, 2, 20, 1, "gemm_f16_small gemv_add_f16 gemv_gelu_f16 gelu_f16 norm_layer_f16"},
		{"llama", shapes[1], kernels.BF16, 2, 20, 1, "gemm_bf16_small silu_mul_bf16 gemv_silu_bf16 gemv_add_bf16 norm_rms_bf16"},
		{"biases", shapes[3], kernels.F16, 3, 3, 1, "gemv_f16_wide silu_mul_f16 attend_decode_f16_64"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := newEmulated(t, c.shape, c.typ)
			m, err := newModel(e, c.shape, c.typ, 5)
			if err != nil {
				t.Fatal(err)
			}
			m.rows = 20 // so that the longer prompts go in two pieces, of more rows than are few
			if err := m.Prepare(c.size, c.prompt, c.gen); err != nil {
				t.Fatal(err)
			}
			var all [][]int
			for _, p := range m.prompts(m.batch) {
				var tokens []int
				for _, token := range p {
					tokens = append(tokens, int(token))
				}
				all = append(all, tokens)
			}
			if err := m.Prefill(context.Background()); err != nil {
				t.Fatal(err)
			}
			for step := range 1 + c.gen {
				var off, sum float64
				for i := range all {
					want := naive(c.shape, 5, all[i])
					for k, want := range want[len(want)-1] {
						bits := binary.LittleEndian.Uint16(e.rest(m.batch.logits + cuda.Ptr(2*(c.shape.Vocab*i+k))))
						off += math.Pow(number(c.typ, bits)-want, 2)
						sum += want * want
					}
				}
				limit := map[kernels.Type]float64{kernels.BF16: 3e-2, kernels.F16: 4e-3}[c.typ]
				got := math.Sqrt(off / sum)
				t.Logf("after %d tokens logits are off by %.2g of them", step, got)
				if !(got <= limit) {
					t.Fatalf("want %g", limit)
				}
				if step == c.gen {
					break // there is no room for more
				}
				for i := range all {
					all[i] = append(all[i], int(binary.LittleEndian.Uint32(e.rest(m.batch.next+cuda.Ptr(4*i)))))
				}
				e.launch(m.batch.step)
				if e.failed != nil {
					t.Fatal(e.failed)
				}
			}
			for _, name := range strings.Fields(c.used) {
				if !e.used[name] {
					t.Errorf("%s was never started, only %v", name, e.used)
				}
			}
		})
	}
}

// number is what 16 bits stand for.
func number(t kernels.Type, bits uint16) float64 {
	if t == kernels.BF16 {
		return float64(math.Float32frombits(uint32(bits) << 16))
	}
	v := math.Ldexp(float64(1024+bits&1023), int(bits>>10&31)-25)
	if bits>>10&31 == 0 {
		v = math.Ldexp(float64(bits&1023), -24)
	}
	if bits>>15 == 1 {
		return -v
	}
	return v
}

// Own kernels multiply few rows, and all where there is no library.
func TestWhoMultiplies(t *testing.T) {
	own, with := &device{}, &device{blas: new(cuda.BLAS)}
	for _, c := range []struct {
		rows               int
		few, library, both bool // own kernels for few rows, cuBLAS; those for few where there is cuBLAS
	}{{1, true, false, true}, {ownRows, true, false, true}, {ownRows + 1, true, true, false}, {kernels.GemvRows, true, true, false}, {kernels.GemvRows + 1, false, true, false}} {
		if own.few(c.rows) != c.few || own.library(c.rows) {
			t.Errorf("%d rows without cuBLAS: few %v, library %v", c.rows, own.few(c.rows), own.library(c.rows))
		}
		if with.few(c.rows) != c.both || with.library(c.rows) != c.library {
			t.Errorf("%d rows with cuBLAS: few %v, library %v", c.rows, with.few(c.rows), with.library(c.rows))
		}
	}
}
