package transformer

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"joulepipe/pkg/cuda"
	"joulepipe/pkg/cuda/kernels"
)

// small are shapes whose inference a test can follow.
func small() []Shape {
	g := gpt2("small gpt2", 2, 128, 2)
	g.Vocab, g.Window, g.FF, g.InitStd = 61, 24, 160, 0.2
	l := Shape{
		Name: "small llama", Family: Llama, Layers: 2, Width: 96, Heads: 4, KVHeads: 2, HeadDim: 64,
		FF: 128, Vocab: 53, Window: 40, Eps: 1e-5, InitStd: 0.2,
		Rotary: Rotary{Theta: 1000, Factor: 8, LowFreq: 1, HighFreq: 4, Original: 16},
	}
	q := l
	q.Name, q.Bias, q.Tied, q.KVHeads = "small qwen2", Bias{QKV: true}, true, 1
	b := l
	b.Name, b.Bias = "all biases", Bias{true, true, true}
	return []Shape{g, l, q, b}
}

// naive is the logits of all positions of a sequence, computed without cache
// and buffers: an independent telling of what a model is.
func naive(s Shape, seed uint64, tokens []int) [][]float64 {
	w := map[string][]float64{}
	for _, t := range s.Weights(seed) {
		v := make([]float64, t.Numbers())
		for i := range v {
			v[i] = 1
			if t.HalfWidth != 0 {
				v[i] = float64(uniform(t.Seed, int64(i), t.HalfWidth))
			}
		}
		w[t.Name] = v
	}
	linear := func(name string, x []float64) []float64 {
		m := w[name]
		out := make([]float64, len(m)/len(x))
		copy(out, w[name+".bias"])
		for j := range out {
			for i := range x {
				out[j] += m[j*len(x)+i] * x[i]
			}
		}
		return out
	}
	norm := func(name string, x []float64) []float64 {
		mean, square := 0.0, 0.0
		for _, v := range x {
			mean += v
			square += v * v
		}
		mean, square = mean/float64(len(x)), square/float64(len(x))
		if s.Family == Llama {
			mean = 0
		}
		out := make([]float64, len(x))
		copy(out, w[name+".bias"])
		for i, v := range x {
			out[i] += (v - mean) / math.Sqrt(square-mean*mean+s.Eps) * w[name][i]
		}
		return out
	}
	turn := func(v []float64, pos int) {
		if s.Family != Llama {
			return
		}
		f := s.Rotary.Frequencies(s.HeadDim)
		for k := range f {
			z := complex(v[k], v[k+len(f)]) * complex(math.Cos(float64(pos)*float64(f[k])), math.Sin(float64(pos)*float64(f[k])))
			v[k], v[k+len(f)] = real(z), imag(z)
		}
	}
	plus := func(x, y []float64) {
		for i := range x {
			x[i] += y[i]
		}
	}
	d, group := s.HeadDim, s.Heads/s.KVHeads
	x := make([][]float64, len(tokens))
	for p, t := range tokens {
		x[p] = append([]float64(nil), w[embedding][t*s.Width:(t+1)*s.Width]...)
		if s.Family == GPT2 {
			plus(x[p], w[positions][p*s.Width:])
		}
	}
	for layer := range s.Layers {
		in := func(name string) string { return inLayer(layer, name) }
		rows := make([][]float64, len(x))
		for p := range x {
			rows[p] = linear(in(attentionQKV), norm(in(attentionNorm), x[p]))
			for h := range s.Heads + s.KVHeads {
				turn(rows[p][h*d:(h+1)*d], p)
			}
		}
		for p := range x {
			var all []float64
			for h := range s.Heads {
				k0 := (s.Heads + h/group) * d
				v0 := k0 + s.KVHeads*d
				out, sum := make([]float64, d), 0.0
				for t := range p + 1 {
					score := 0.0
					for i := range d {
						score += rows[p][h*d+i] * rows[t][k0+i]
					}
					e := math.Exp(score / math.Sqrt(float64(d)))
					sum += e
					for i := range d {
						out[i] += e * rows[t][v0+i]
					}
				}
				for i := range out {
					out[i] /= sum
				}
				all = append(all, out...)
			}
			plus(x[p], linear(in(attentionOut), all))
			up := linear(in(mlpUp), norm(in(mlpNorm), x[p]))
			for i := range s.FF {
				if u := up[i]; s.Family == Llama {
					up[i] = u / (1 + math.Exp(-u)) * up[s.FF+i]
				} else {
					up[i] = u / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(u+0.044715*u*u*u)))
				}
			}
			plus(x[p], linear(in(mlpDown), up[:s.FF]))
		}
	}
	logits := make([][]float64, len(x))
	for p := range x {
		name := head
		if s.Tied {
			name = embedding
		}
		logits[p] = linear(name, norm(finalNorm, x[p]))
	}
	return logits
}

// What a model says token by token is what the whole sequence makes of it at
// once, for each sequence of a batch.
func TestInference(t *testing.T) {
	if testing.Short() {
		t.Skip("much arithmetic, in which nothing runs at the same time")
	}
	t.Parallel()
	for _, s := range small() {
		t.Run(s.Name, func(t *testing.T) {
			t.Parallel()
			const size, prompt, gen = 2, 7, 5
			h := newHost(t, s)
			m, err := newModel(h, s, kernels.BF16, 7)
			if err != nil {
				t.Fatal(err)
			}
			m.rows = 6 // so that a prompt goes in three pieces
			if err := m.Prepare(size, prompt, gen); err != nil {
				t.Fatal(err)
			}
			var all [size][]int
			for i, p := range m.prompts(m.batch) {
				for _, token := range p {
					all[i] = append(all[i], int(token))
				}
			}
			next := func() {
				b := make([]byte, 4*size)
				if err := h.Download(b, m.batch.next); err != nil {
					t.Fatal(err)
				}
				for i := range all {
					all[i] = append(all[i], int(binary.LittleEndian.Uint32(b[4*i:])))
				}
			}
			check := func() {
				t.Helper()
				for i := range all {
					want := naive(s, 7, all[i])
					last := want[len(want)-1]
					for k, got := range h.row(m.batch.logits+cuda.Ptr(2*s.Vocab*i), s.Vocab) {
						if !(math.Abs(got-last[k]) <= 1e-9*(1+math.Abs(last[k]))) {
							t.Fatalf("sequence %d after %d tokens: logit %d is %v, want %v", i, len(all[i]), k, got, last[k])
						}
					}
				}
			}
			if err := m.Prefill(context.Background()); err != nil {
				t.Fatal(err)
			}
			check()
			for range gen {
				next()
				h.launch(m.batch.step)
				check()
			}
			// Again, and all at once, it ends the same.
			var before [size]int
			next()
			for i := range all {
				before[i] = all[i][len(all[i])-1]
			}
			if err := errors.Join(m.Prefill(context.Background()), m.Decode(context.Background())); err != nil {
				t.Fatal(err)
			}
			next()
			for i := range all {
				if got := all[i][len(all[i])-1]; got != before[i] {
					t.Errorf("sequence %d ends with token %d, step by step with %d", i, got, before[i])
				}
			}
			// A decode after another is of the same positions.
			if err := m.Decode(context.Background()); err != nil || h.int32(m.batch.pos) != prompt+gen {
				t.Errorf("%v, at position %d", err, h.int32(m.batch.pos))
			}
			if err := m.Close(); err != nil || len(h.live) != 0 {
				t.Errorf("%v, and %d allocations are left", err, len(h.live))
			}
		})
	}
}

// Where there is no room, or the GPU fails, the error says so and memory is
// given back.
func TestFailures(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	s := small()[0]
	h := newHost(t, s)
	h.room = s.weightBytes() - 1
	if _, err := newModel(h, s, kernels.F16, 1); !errors.Is(err, errFull) {
		t.Errorf("weights without room: %v", err)
	}
	need := s.Memory(2, 5, 3)
	h = newHost(t, s)
	h.room = need.Total() - 1
	m, err := newModel(h, s, kernels.F16, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.Prefill(ctx), m.Decode(ctx)); !errors.Is(err, errUnprepared) {
		t.Errorf("nothing is prepared: %v", err)
	}
	if err := m.Prepare(2, 5, 3); !errors.Is(err, errFull) {
		t.Errorf("a cache without room: %v", err)
	}
	h.room++
	if err := m.Prepare(2, 5, 3); err != nil || h.room != 0 {
		t.Errorf("%v, and %d bytes are free of exactly what is needed", err, h.room)
	}
	if err := m.Prepare(2, 5, 2); err != nil {
		t.Errorf("a smaller batch after that: %v", err)
	}
	for _, bad := range [][3]int{{0, 5, 3}, {1, 0, 3}, {1, 5, -1}, {1, s.Window, 1}} {
		if err := m.Prepare(bad[0], bad[1], bad[2]); err == nil {
			t.Errorf("%v is prepared", bad)
		}
	}
	// Prompts without answers; a token behind them would have no room.
	if err := errors.Join(m.Prepare(2, 5, 0), m.Prefill(ctx), m.Decode(ctx)); err != nil {
		t.Error(err)
	}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	if err := m.Prepare(1, 5, 3); err != nil {
		t.Fatal(err)
	}
	for name, do := range map[string]func(context.Context) error{"prefill": m.Prefill, "decode": m.Decode} {
		if err := do(cancelled); !errors.Is(err, context.Canceled) {
			t.Errorf("%s after the end: %v", name, err)
		}
	}
	h.refuse = "attendToken"
	if err := errors.Join(m.Prefill(ctx)); err != nil {
		t.Error(err)
	}
	if err := m.Decode(ctx); err == nil {
		t.Error("a step fails, and the decode does not")
	}
	if err := m.Close(); err != nil || len(h.live) != 0 {
		t.Errorf("%v, %d allocations are left", err, len(h.live))
	}
}
