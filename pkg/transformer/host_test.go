package transformer

import (
	"encoding/binary"
	"fmt"
	"math"
	"testing"

	"joulepipe/pkg/cuda"
	"joulepipe/pkg/cuda/kernels"
)

// host is a machine of the processor: numbers of all types are float64, so that
// what is compared with it differs by mistakes alone. An address stands for a
// byte; a number is at the first of its bytes.
type host struct {
	t       *testing.T
	shape   Shape
	numbers map[cuda.Ptr]float64
	sizes   map[cuda.Ptr]int     // of a number, in bytes
	words   map[cuda.Ptr][4]byte // as uploaded, until a number is there
	next    cuda.Ptr
	live    map[cuda.Ptr]int64
	room    int64
	program *[]func() // being captured
	refuse  string    // a step that fails
	failed  error
}

func newHost(t *testing.T, s Shape) *host {
	return &host{t: t, shape: s, numbers: map[cuda.Ptr]float64{}, sizes: map[cuda.Ptr]int{}, words: map[cuda.Ptr][4]byte{}, next: 1 << 20, live: map[cuda.Ptr]int64{}, room: 1 << 40}
}

func (h *host) Do(f func() error) error { return f() }

func (h *host) Alloc(bytes int64) (cuda.Ptr, error) {
	if bytes > h.room {
		return 0, errFull
	}
	h.room -= bytes
	p := h.next
	h.next += cuda.Ptr(aligned(bytes)) + align // what is written past the end shows
	h.live[p] = bytes
	return p, nil
}

var errFull = fmt.Errorf("no room")

func (h *host) Free(p cuda.Ptr) error {
	bytes, ok := h.live[p]
	if !ok {
		return fmt.Errorf("%#x is not allocated", p)
	}
	h.room += bytes
	delete(h.live, p)
	for i := range cuda.Ptr(bytes) {
		delete(h.numbers, p+i)
		delete(h.words, p+i)
	}
	return nil
}

// check is that n bytes are of one allocation.
func (h *host) check(p cuda.Ptr, n int64) {
	for at, bytes := range h.live {
		if p >= at && int64(p-at)+n <= bytes {
			return
		}
	}
	h.t.Helper()
	h.t.Fatalf("%d bytes at %#x are not allocated", n, p)
}

func (h *host) Upload(dst cuda.Ptr, src []byte) error {
	h.check(dst, int64(len(src)))
	for i := 0; i < len(src); i += 2 {
		delete(h.numbers, dst+cuda.Ptr(i))
		var w [4]byte
		copy(w[:], src[i:])
		h.words[dst+cuda.Ptr(i)] = w
	}
	return nil
}

func (h *host) Download(dst []byte, src cuda.Ptr) error {
	h.check(src, int64(len(dst)))
	for i := 0; i < len(dst); {
		p := src + cuda.Ptr(i)
		if h.sizes[p] == 4 { // tokens are all that is wanted of this size
			binary.LittleEndian.PutUint32(dst[i:], uint32(h.int32(p)))
			i += 4
		} else {
			binary.LittleEndian.PutUint16(dst[i:], uint16(math.Float32bits(float32(h.get(p)))>>16))
			i += 2
		}
	}
	return nil
}

func (h *host) Synchronize() error      { return h.failed }
func (h *host) Close() error            { return nil }
func (h *host) measure() (Speed, error) { return Speed{}, h.failed }

type program []func()

func (program) Close() error { return nil }

func (h *host) Capture(f func()) (replay, error) {
	h.program = new([]func())
	f()
	p := program(*h.program)
	h.program = nil
	return p, h.failed
}

func (h *host) launch(r replay) {
	h.step("launch", func() {
		for _, f := range r.(program) {
			f()
		}
	})
}

func (h *host) step(name string, f func()) {
	if h.program != nil {
		*h.program = append(*h.program, func() { h.step(name, f) })
		return
	}
	if h.refuse == name && h.failed == nil {
		h.failed = fmt.Errorf("%s failed", name)
	}
	if h.failed == nil {
		f()
	}
}

// get is a number of 16 bits, or of 32 where it is the hidden state.
func (h *host) get(p cuda.Ptr) float64 {
	v, ok := h.numbers[p]
	if w, raw := h.words[p]; !ok && raw {
		return float64(math.Float32frombits(uint32(w[0])<<16 | uint32(w[1])<<24)) // bf16
	}
	if !ok {
		h.t.Helper()
		h.t.Fatalf("the number at %#x was never written", p)
	}
	return v
}

func (h *host) float32(p cuda.Ptr) float64 {
	w, ok := h.words[p]
	if !ok {
		h.t.Fatalf("no frequency at %#x", p)
	}
	return float64(math.Float32frombits(binary.LittleEndian.Uint32(w[:])))
}

func (h *host) int32(p cuda.Ptr) int {
	if v, ok := h.numbers[p]; ok {
		return int(v)
	}
	w, ok := h.words[p]
	if !ok {
		h.t.Fatalf("no integer at %#x", p)
	}
	return int(int32(binary.LittleEndian.Uint32(w[:])))
}

// row is n numbers of 16 bits, wide of 32.
func (h *host) row(p cuda.Ptr, n int) []float64  { return h.array(p, n, 2) }
func (h *host) wide(p cuda.Ptr, n int) []float64 { return h.array(p, n, 4) }

func (h *host) array(p cuda.Ptr, n, size int) []float64 {
	h.t.Helper()
	h.check(p, int64(n*size))
	v := make([]float64, n)
	for i := range v {
		v[i] = h.get(p + cuda.Ptr(size*i))
	}
	return v
}

func (h *host) put(p cuda.Ptr, size int, v ...float64) {
	h.t.Helper()
	h.check(p, int64(size*len(v)))
	for i, v := range v {
		h.numbers[p+cuda.Ptr(size*i)], h.sizes[p+cuda.Ptr(size*i)] = v, size
	}
}

func (h *host) copy(dst, src cuda.Ptr, bytes int64) {
	h.step("copy", func() {
		for i := int64(0); i < bytes; i += 4 {
			h.put(dst+cuda.Ptr(i), 4, float64(h.int32(src+cuda.Ptr(i))))
		}
	})
}

func (h *host) fill(out cuda.Ptr, n int64, seed uint64, halfWidth float32) {
	h.step("fill", func() {
		for i := range n {
			h.put(out+cuda.Ptr(2*i), 2, float64(uniform(seed, i, halfWidth)))
		}
	})
}

// uniform is number i that fill draws.
func uniform(seed uint64, i int64, halfWidth float32) float32 {
	z := seed + uint64(i+1)*0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	z ^= z >> 31
	return (2*float32(z>>40)/(1<<24) - 1) * halfWidth
}

func (h *host) embed(x, table, positions, tokens, pos0 cuda.Ptr, batch, seq int) {
	h.step("embed", func() {
		w := h.shape.Width
		for r := range batch * seq {
			e := h.row(table+cuda.Ptr(2*w*h.int32(tokens+cuda.Ptr(4*r))), w)
			if positions != 0 {
				for i, v := range h.row(positions+cuda.Ptr(2*w*(h.int32(pos0)+r%seq)), w) {
					e[i] += v
				}
			}
			h.put(x+cuda.Ptr(4*w*r), 4, e...)
		}
	})
}

func (h *host) norm(y, x cuda.Ptr, p param, rows int) {
	h.step("norm", func() {
		w := h.shape.Width
		weight := h.row(p.w, w)
		for r := range rows {
			v := h.wide(x+cuda.Ptr(4*w*r), w)
			var mean, square float64
			if h.shape.Family == GPT2 {
				for _, v := range v {
					mean += v / float64(w)
				}
			}
			for _, v := range v {
				square += (v - mean) * (v - mean) / float64(w)
			}
			for i := range v {
				v[i] = (v[i] - mean) / math.Sqrt(square+h.shape.Eps) * weight[i]
			}
			if h.shape.Family == GPT2 {
				for i, b := range h.row(p.bias, w) {
					v[i] += b
				}
			}
			h.put(y+cuda.Ptr(2*w*r), 2, v...)
		}
	})
}

// product is a row of a · wᵀ + bias.
func (h *host) product(a []float64, p param, n int) []float64 {
	k := len(a)
	v := make([]float64, n)
	if p.bias != 0 {
		v = h.row(p.bias, n)
	}
	w := h.row(p.w, n*k)
	for j := range v {
		for i := range a {
			v[j] += a[i] * w[j*k+i]
		}
	}
	return v
}

func (h *host) multiply(out, a, w cuda.Ptr, rows, n, k int) {
	h.step("multiply", func() {
		for r := range rows {
			h.put(out+cuda.Ptr(2*n*r), 2, h.product(h.row(a+cuda.Ptr(2*k*r), k), param{w: w}, n)...)
		}
	})
}

func (h *host) multiplyAdd(x, a cuda.Ptr, p param, scratch cuda.Ptr, rows, k int) {
	h.step("multiplyAdd", func() {
		w := h.shape.Width
		h.spoil(scratch, rows*w)
		for r := range rows {
			v := h.wide(x+cuda.Ptr(4*w*r), w)
			for i, d := range h.product(h.row(a+cuda.Ptr(2*k*r), k), p, w) {
				v[i] += d
			}
			h.put(x+cuda.Ptr(4*w*r), 4, v...)
		}
	})
}

// spoil makes numbers useless.
func (h *host) spoil(p cuda.Ptr, n int) {
	h.check(p, int64(2*n))
	for i := range n {
		h.numbers[p+cuda.Ptr(2*i)] = math.NaN()
	}
}

func (h *host) activate(out, a cuda.Ptr, p param, scratch cuda.Ptr, rows int) {
	h.step("activate", func() {
		s := &h.shape
		for r := range rows {
			v := h.product(h.row(a+cuda.Ptr(2*s.Width*r), s.Width), p, s.up())
			for i := range s.FF {
				if x := v[i]; s.Family == Llama {
					v[i] = x / (1 + math.Exp(-x)) * v[s.FF+i]
				} else {
					v[i] = x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x)))
				}
			}
			h.put(out+cuda.Ptr(2*s.FF*r), 2, v[:s.FF]...)
		}
		h.spoil(scratch, rows*s.up())
	})
}

func (h *host) split(q cuda.Ptr, c cache, qkv, bias, pos0, frequencies cuda.Ptr, batch, seq int) {
	h.step("split", func() {
		s := &h.shape
		d := s.HeadDim
		for r := range batch * seq {
			b, i := r/seq, r%seq
			pos := h.int32(pos0) + i
			if pos >= c.window {
				h.t.Fatalf("no room for position %d in a cache of %d", pos, c.window)
			}
			row := h.row(qkv+cuda.Ptr(2*s.qkv()*r), s.qkv())
			if bias != 0 {
				for k, v := range h.row(bias, len(row)) {
					row[k] += v
				}
			}
			for head := range s.Heads + 2*s.KVHeads {
				v := row[head*d : (head+1)*d]
				if frequencies != 0 && head < s.Heads+s.KVHeads {
					for k := range d / 2 {
						sin, cos := math.Sincos(float64(pos) * h.float32(frequencies+cuda.Ptr(4*k)))
						v[k], v[k+d/2] = v[k]*cos-v[k+d/2]*sin, v[k+d/2]*cos+v[k]*sin
					}
				}
				switch kv := head - s.Heads; {
				case kv < 0:
					h.put(q+cuda.Ptr(2*d*((b*s.Heads+head)*seq+i)), 2, v...)
				case kv < s.KVHeads:
					h.put(c.k+cuda.Ptr(2*d*((b*s.KVHeads+kv)*c.window+pos)), 2, v...)
				default:
					h.put(c.v+cuda.Ptr(2*d*((b*s.KVHeads+kv-s.KVHeads)*c.window+pos)), 2, v...)
				}
			}
		}
	})
}

func (h *host) attendPrompt(out, q cuda.Ptr, c cache, pos0 cuda.Ptr, batch, seq int) {
	h.step("attendPrompt", func() { h.attend(out, q, c, h.int32(pos0), batch, seq) })
}

func (h *host) attendToken(out, q cuda.Ptr, c cache, pos, partial cuda.Ptr, batch int) {
	h.step("attendToken", func() {
		h.check(partial, 4*int64(kernels.Partial(batch, h.shape.Heads, h.shape.HeadDim, c.window)))
		h.attend(out, q, c, h.int32(pos), batch, 1)
	})
}

func (h *host) attend(out, q cuda.Ptr, c cache, pos0, batch, seq int) {
	s := &h.shape
	d := s.HeadDim
	for b := range batch {
		for head := range s.Heads {
			kv := cuda.Ptr(2 * d * c.window * (b*s.KVHeads + head/(s.Heads/s.KVHeads)))
			for i := range seq {
				query := h.row(q+cuda.Ptr(2*d*((b*s.Heads+head)*seq+i)), d)
				seen := pos0 + i + 1
				keys, values := h.row(c.k+kv, seen*d), h.row(c.v+kv, seen*d)
				sum, o := 0.0, make([]float64, d)
				for t := range seen {
					score := 0.0
					for k := range d {
						score += query[k] * keys[t*d+k]
					}
					e := math.Exp(score / math.Sqrt(float64(d)))
					sum += e
					for k := range d {
						o[k] += e * values[t*d+k]
					}
				}
				for k := range o {
					o[k] /= sum
				}
				h.put(out+cuda.Ptr(2*d*((b*seq+i)*s.Heads+head)), 2, o...)
			}
		}
	}
}

func (h *host) argmax(token, logits cuda.Ptr, rows int) {
	h.step("argmax", func() {
		for r := range rows {
			best, at := math.Inf(-1), 0
			for i, v := range h.row(logits+cuda.Ptr(2*h.shape.Vocab*r), h.shape.Vocab) {
				if v > best {
					best, at = v, i
				}
			}
			h.put(token+cuda.Ptr(4*r), 4, float64(at))
		}
	})
}

func (h *host) advance(pos cuda.Ptr, by int) {
	h.step("advance", func() { h.put(pos, 4, float64(h.int32(pos)+by)) })
}
