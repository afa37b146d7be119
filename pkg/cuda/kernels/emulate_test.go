package kernels_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"joulepipe/pkg/cuda/kernels"
	"joulepipe/pkg/cuda/kernels/kernelstest"
)

func TestMain(m *testing.M) { os.Exit(kernelstest.Main(m)) }

// array is numbers in memory.
type array struct {
	typ kernels.Type // or "" for int32
	v   []float64
}

// random draws numbers that the type has exactly, of variance 1/3.
func random(rng *rand.Rand, typ kernels.Type, n int) *array {
	a := &array{typ, make([]float64, n)}
	for i := range a.v {
		a.v[i] = 2*rng.Float64() - 1
	}
	a.decode(a.encode())
	return a
}

// poisoned is room for what a kernel shall write.
func poisoned(typ kernels.Type, n int) *array {
	a := &array{typ, make([]float64, n)}
	for i := range a.v {
		a.v[i] = math.NaN()
	}
	return a
}

func integers(v ...int) *array {
	a := &array{v: make([]float64, len(v))}
	for i := range v {
		a.v[i] = float64(v[i])
	}
	return a
}

func (a *array) encode() []byte {
	var b []byte
	for _, v := range a.v {
		bits := math.Float32bits(float32(v))
		switch a.typ {
		case kernels.F32:
			b = binary.LittleEndian.AppendUint32(b, bits)
		case kernels.BF16: // ties to even
			b = binary.LittleEndian.AppendUint16(b, uint16((uint64(bits)+0x7fff+uint64(bits>>16&1))>>16))
		case kernels.F16:
			b = binary.LittleEndian.AppendUint16(b, half(v))
		default:
			b = binary.LittleEndian.AppendUint32(b, uint32(int32(v)))
		}
	}
	return b
}

func (a *array) decode(b []byte) {
	for i := range a.v {
		switch a.typ {
		case kernels.F32:
			a.v[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:])))
		case kernels.BF16:
			a.v[i] = float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[2*i:])) << 16))
		case kernels.F16:
			a.v[i] = unhalf(binary.LittleEndian.Uint16(b[2*i:]))
		default:
			a.v[i] = float64(int32(binary.LittleEndian.Uint32(b[4*i:])))
		}
	}
}

// half is the bits of the nearest number of 16 bits with 10 of fraction.
func half(v float64) uint16 {
	if math.IsNaN(v) {
		return 0x7e00
	}
	var sign uint16
	if math.Signbit(v) {
		sign = 0x8000
	}
	v = math.Abs(v)
	step := math.Exp2(math.Max(-14, math.Floor(math.Log2(v))) - 10)
	if v < math.Exp2(-14) {
		step = math.Exp2(-24)
	}
	n := math.RoundToEven(v / step) // of steps, in 0…2048
	return sign | uint16(n+1024*(math.Log2(step)+24))
}

func unhalf(bits uint16) float64 {
	exponent, fraction := int(bits>>10&31), float64(bits&1023)
	v := (1024 + fraction) * math.Exp2(float64(exponent-25))
	switch exponent {
	case 0:
		v = fraction * math.Exp2(-24)
	case 31:
		v = math.NaN()
	}
	if bits>>15 == 1 {
		v = -v
	}
	return v
}

// run launches a kernel; an argument is an array, nil for none, or a number.
func run(t *testing.T, l kernels.Launch, args ...any) {
	t.Helper()
	program := kernelstest.Emulator(t, ".")
	var in bytes.Buffer
	fmt.Fprintf(&in, "%s %d %d %d %d %d %d\n", l.Kernel, l.Grid.X, l.Grid.Y, l.Grid.Z, l.Block.X, l.Shared, len(args))
	for _, arg := range args {
		switch arg := arg.(type) {
		case *array:
			b := arg.encode()
			fmt.Fprintf(&in, "memory %d\n%s", len(b), b)
		case nil:
			fmt.Fprintf(&in, "value 8\n%s", make([]byte, 8))
		default:
			b, err := binary.Append(nil, binary.LittleEndian, arg)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&in, "value %d\n%s", len(b), b)
		}
	}
	cmd := exec.Command(program)
	cmd.Stdin = &in
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", l.Kernel, err, stderr.String())
	}
	for _, arg := range args {
		if a, ok := arg.(*array); ok {
			n := len(a.encode())
			a.decode(out[:n])
			out = out[n:]
		}
	}
}

// compare fails where got is farther from want than limit, as a part of want.
func compare(t *testing.T, got *array, want []float64, limit float64) {
	t.Helper()
	if len(got.v) != len(want) {
		t.Fatalf("%d numbers, want %d", len(got.v), len(want))
	}
	var off, all, worst float64
	at := 0
	for i := range want {
		d := math.Abs(got.v[i] - want[i])
		off += d * d
		all += want[i] * want[i]
		if !(d <= worst) {
			worst, at = d, i
		}
	}
	if e := math.Sqrt(off / all); off > 0 && !(e <= limit) || math.IsNaN(off) {
		t.Errorf("off by %.3g of the whole, want %.3g; worst is number %d, %v instead of %v", e, limit, at, got.v[at], want[at])
	}
}

// rounding is the limit for results whose only error is that they are rounded to
// the type, and working that for ones with rounded numbers between.
var (
	rounding = map[kernels.Type]float64{kernels.BF16: 1. / 256, kernels.F16: 1. / 2048, kernels.F32: 3e-6}
	working  = map[kernels.Type]float64{kernels.BF16: 6e-3, kernels.F16: 8e-4}
)

// each runs a test for both 16 bit types with random numbers of its own.
func each(t *testing.T, f func(t *testing.T, typ kernels.Type, rng *rand.Rand)) {
	for _, typ := range []kernels.Type{kernels.BF16, kernels.F16} {
		t.Run(string(typ), func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}()
			f(t, typ, rand.New(rand.NewPCG(seed, 1)))
		})
	}
}

func TestFill(t *testing.T) {
	t.Parallel()
	const n, seed, width = 5000, 0xfedcba9876543210, 0.07
	for _, typ := range []kernels.Type{kernels.BF16, kernels.F16, kernels.F32} {
		want := &array{typ, make([]float64, n)}
		for i := range want.v {
			z := seed + uint64(i+1)*0x9E3779B97F4A7C15&math.MaxUint64
			z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
			z = (z ^ z>>27) * 0x94D049BB133111EB
			u := float32((z^z>>31)>>40) / (1 << 24)
			want.v[i] = float64((2*u - 1) * float32(width))
		}
		want.decode(want.encode())
		got := poisoned(typ, n)
		run(t, kernels.Fill(typ, n), got, int64(n), uint64(seed), float32(width))
		compare(t, got, want.v, 0)
	}
}

func TestElements(t *testing.T) {
	const rows, width = 7, 200
	silu := func(x float64) float64 { return x / (1 + math.Exp(-x)) }
	gelu := func(x float64) float64 { return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x))) }
	each(t, func(t *testing.T, typ kernels.Type, rng *rand.Rand) {
		want := make([]float64, rows*width)
		x, y, bias := random(rng, kernels.F32, rows*width), random(rng, typ, rows*width), random(rng, typ, width)
		for i := range want {
			want[i] = x.v[i] + y.v[i] + bias.v[i%width]
		}
		run(t, kernels.Add(typ, rows, width), x, y, bias, int32(rows), int32(width))
		compare(t, x, want, rounding[kernels.F32])
		for i := range want {
			want[i] = x.v[i] + y.v[i]
		}
		run(t, kernels.Add(typ, rows, width), x, y, nil, int32(rows), int32(width))
		compare(t, x, want, rounding[kernels.F32])

		for i := range want {
			want[i] = gelu(y.v[i] + bias.v[i%width])
		}
		run(t, kernels.Gelu(typ, rows, width), y, bias, int32(rows), int32(width))
		compare(t, y, want, rounding[typ])

		both, out := random(rng, typ, rows*2*width), poisoned(typ, rows*width)
		for i := range want {
			from := i/width*2*width + i%width
			want[i] = silu(both.v[from]) * both.v[from+width]
		}
		run(t, kernels.SiluMul(typ, rows, width), out, both, int32(rows), int32(width))
		compare(t, out, want, rounding[typ])

		pos := integers(17)
		run(t, kernels.Advance(), pos, int32(-3))
		compare(t, pos, []float64{14}, 0)
	})
}

func TestEmbed(t *testing.T) {
	const batch, seq, width, vocab, window, start = 2, 3, 1032, 11, 9, 4
	each(t, func(t *testing.T, typ kernels.Type, rng *rand.Rand) {
		table, positions := random(rng, typ, vocab*width), random(rng, typ, window*width)
		tokens, pos := integers(10, 0, 3, 3, 9, 1), integers(start)
		want := make([]float64, batch*seq*width)
		for learnt, p := range []any{nil, positions} {
			for i := range want {
				row := i / width
				want[i] = table.v[int(tokens.v[row])*width+i%width] + float64(learnt)*positions.v[(start+row%seq)*width+i%width]
			}
			x := poisoned(kernels.F32, len(want))
			run(t, kernels.Embed(typ, batch, seq), x, table, p, tokens, pos, int32(seq), int32(width))
			compare(t, x, want, rounding[kernels.F32])
		}
	})
}

func TestNorm(t *testing.T) {
	const rows, eps = 3, 1e-2
	each(t, func(t *testing.T, typ kernels.Type, rng *rand.Rand) {
		for _, width := range []int{8, 1600, 4104} {
			x, weight, bias := random(rng, kernels.F32, rows*width), random(rng, typ, width), random(rng, typ, width)
			for i := range x.v {
				x.v[i] += 3
			}
			x.decode(x.encode())
			rms, layer := make([]float64, rows*width), make([]float64, rows*width)
			for r := range rows {
				var sum, squares, deviations float64
				row := x.v[r*width:][:width]
				for _, v := range row {
					sum += v
					squares += v * v
				}
				mean := sum / float64(width)
				for _, v := range row {
					deviations += (v - mean) * (v - mean)
				}
				for i, v := range row {
					rms[r*width+i] = v / math.Sqrt(squares/float64(width)+eps) * weight.v[i]
					layer[r*width+i] = (v-mean)/math.Sqrt(deviations/float64(width)+eps)*weight.v[i] + bias.v[i]
				}
			}
			y := poisoned(typ, rows*width)
			run(t, kernels.NormRMS(typ, rows), y, x, weight, int32(rows), int32(width), float32(eps))
			compare(t, y, rms, rounding[typ])
			y = poisoned(typ, rows*width)
			run(t, kernels.NormLayer(typ, rows), y, x, weight, bias, int32(rows), int32(width), float32(eps))
			compare(t, y, layer, rounding[typ])
		}
	})
}

func TestArgmax(t *testing.T) {
	const rows = 5
	each(t, func(t *testing.T, typ kernels.Type, rng *rand.Rand) {
		for _, vocab := range []int{1, 3, 1000, 20001} { // the type has few numbers: many are equal
			logits, want := random(rng, typ, rows*vocab), make([]float64, rows)
			for r := range rows {
				for i, v := range logits.v[r*vocab:][:vocab] {
					if v > logits.v[r*vocab+int(want[r])] {
						want[r] = float64(i)
					}
				}
			}
			token := integers(-1, -1, -1, -1, -1)
			run(t, kernels.Argmax(typ, rows), token, logits, int32(rows), int32(vocab))
			compare(t, token, want, 0)
		}
	})
}

// product is a[m,k]·w[n,k]ᵀ + bias[n].
func product(a, w, bias *array, m, n, k int) []float64 {
	out := make([]float64, m*n)
	for r := range m {
		for c := range n {
			var sum float64
			for i := range k {
				sum += a.v[r*k+i] * w.v[c*k+i]
			}
			if bias != nil {
				sum += bias.v[c]
			}
			out[r*n+c] = sum
		}
	}
	return out
}

func TestGemm(t *testing.T) {
	each(t, func(t *testing.T, typ kernels.Type, rng *rand.Rand) {
		for _, size := range []struct{ m, n, k, wide int }{
			{1, 1, 8, 64}, {17, 72, 136, 64}, {65, 129, 64, 64}, {70, 65, 320, 64},
			{130, 257, 136, 256}, {3, 304, 64, 256}, {129, 200, 136, 192}, {5, 99, 72, 192},
		} {
			m, n, k := size.m, size.n, size.k
			a, w, bias := random(rng, typ, m*k), random(rng, typ, n*k), random(rng, typ, n)
			l := kernels.Gemm(typ, m, n)
			if size.wide > 64 { // as if there were many more tiles
				l = kernels.Gemm(typ, 1024, map[int]int{256: 8192, 192: 6144}[size.wide])
				if want := 1024 / 128 * (map[int]int{256: 8192, 192: 6144}[size.wide] / size.wide); l.Grid.X != want {
					t.Fatalf("%s has %d blocks, want %d", l.Kernel, l.Grid.X, want)
				}
				l.Grid.X = (m + 127) / 128 * ((n + size.wide - 1) / size.wide)
			}
			out := poisoned(typ, m*n)
			run(t, l, out, nil, a, w, bias, int32(m), int32(n), int32(k))
			compare(t, out, product(a, w, bias, m, n, k), rounding[typ])

			want, x := product(a, w, nil, m, n, k), random(rng, kernels.F32, m*n)
			for i := range want {
				want[i] += x.v[i]
			}
			run(t, l, nil, x, a, w, nil, int32(m), int32(n), int32(k))
			compare(t, x, want, rounding[kernels.F32])
		}
	})
}

// TestGemmTiles has so many tiles that their order matters.
func TestGemmTiles(t *testing.T) {
	const m, n, k, typ = 640, 320, 8, kernels.BF16
	rng := rand.New(rand.NewPCG(rand.Uint64(), 2))
	a, w, out := random(rng, typ, m*k), random(rng, typ, n*k), poisoned(typ, m*n)
	run(t, kernels.Gemm(typ, m, n), out, nil, a, w, nil, int32(m), int32(n), int32(k))
	compare(t, out, product(a, w, nil, m, n, k), rounding[typ])
}

func TestGemv(t *testing.T) {
	gelu := func(x float64) float64 { return x / 2 * (1 + math.Tanh(math.Sqrt(2/math.Pi)*(x+0.044715*x*x*x))) }
	each(t, func(t *testing.T, typ kernels.Type, rng *rand.Rand) {
		for _, size := range [][3]int{{1, 1, 8}, {1, 37, 1160}, {3, 16, 40}, {4, 9, 1024}, {5, 33, 2056}, {8, 5, 520}, {13, 20, 768}, {16, 40, 1600}} {
			m, n, k := size[0], size[1], size[2]
			a, w, bias := random(rng, typ, m*k), random(rng, typ, n*k), random(rng, typ, n)
			want, out := product(a, w, bias, m, n, k), poisoned(typ, m*n)
			run(t, kernels.Gemv(typ, m, n), out, a, w, bias, int32(m), int32(n), int32(k))
			compare(t, out, want, rounding[typ])
			run(t, kernels.Gemv(typ, m, n), out, a, w, nil, int32(m), int32(n), int32(k))
			compare(t, out, product(a, w, nil, m, n, k), rounding[typ])

			x := random(rng, kernels.F32, m*n)
			sum := make([]float64, m*n)
			for i := range sum {
				sum[i] = x.v[i] + want[i]
			}
			run(t, kernels.GemvAdd(typ, m, n), x, a, w, bias, int32(m), int32(n), int32(k))
			compare(t, x, sum, rounding[kernels.F32])

			for i := range want {
				want[i] = gelu(want[i])
			}
			out = poisoned(typ, m*n)
			run(t, kernels.GemvGelu(typ, m, n), out, a, w, bias, int32(m), int32(n), int32(k))
			compare(t, out, want, rounding[typ])

			w = random(rng, typ, 2*n*k)
			both := product(a, w, nil, m, 2*n, k)
			for i := range want {
				gate, up := both[i/n*2*n+i%n], both[i/n*2*n+n+i%n]
				want[i] = gate / (1 + math.Exp(-gate)) * up
			}
			out = poisoned(typ, m*n)
			run(t, kernels.GemvSilu(typ, m, n), out, a, w, int32(m), int32(n), int32(k))
			compare(t, out, want, rounding[typ])
		}
	})
}

func TestSplitQKV(t *testing.T) {
	const batch, seq, h, hkv, d, window, start = 2, 3, 6, 2, 20, 3011, 3000
	each(t, func(t *testing.T, typ kernels.Type, rng *rand.Rand) {
		const heads = h + 2*hkv
		qkv, bias, pos := random(rng, typ, batch*seq*heads*d), random(rng, typ, heads*d), integers(start)
		frequencies := random(rng, kernels.F32, d/2)
		cached := batch * hkv * window * d
		for _, turned := range []bool{true, false} {
			q, k, v := poisoned(typ, batch*h*seq*d), random(rng, typ, cached), random(rng, typ, cached)
			wantQ, wantK, wantV := make([]float64, len(q.v)), append([]float64(nil), k.v...), append([]float64(nil), v.v...)
			for i := range qkv.v {
				b, s, head, e := i/(seq*heads*d), i/(heads*d)%seq, i/d%heads, i%d
				number := func(e int) float64 { return qkv.v[i/d*d+e] + bias.v[head*d+e] }
				x := number(e)
				if turned && head < h+hkv {
					// The product is made in 32 bits, as the angle is where PyTorch makes it.
					sin, cos := math.Sincos(float64(float32(start+s) * float32(frequencies.v[e%(d/2)])))
					if e < d/2 {
						x = x*cos - number(e+d/2)*sin
					} else {
						x = x*cos + number(e-d/2)*sin
					}
				}
				switch at := (start+s)*d + e; {
				case head < h:
					wantQ[((b*h+head)*seq+s)*d+e] = x
				case head < h+hkv:
					wantK[(b*hkv+head-h)*window*d+at] = x
				default:
					wantV[(b*hkv+head-h-hkv)*window*d+at] = x
				}
			}
			var table any
			if turned {
				table = frequencies
			}
			run(t, kernels.SplitQKV(typ, batch, seq, heads), q, k, v, qkv, bias, pos, table, int32(seq), int32(h), int32(hkv), int32(d), int32(window))
			compare(t, q, wantQ, rounding[typ])
			compare(t, k, wantK, rounding[typ])
			compare(t, v, wantV, rounding[typ])
		}
	})
}

// attention is that of seq queries in each sequence, the first at position start, as
// [batch,seq,h·d].
func attention(q, k, v *array, batch, seq, start, h, hkv, d, window int) []float64 {
	out := make([]float64, batch*seq*h*d)
	for b := range batch {
		for head := range h {
			cache := (b*hkv + head/(h/hkv)) * window * d
			for s := range seq {
				query := q.v[((b*h+head)*seq+s)*d:][:d]
				to := out[((b*seq+s)*h+head)*d:][:d]
				var whole float64
				for p := range start + s + 1 {
					var score float64
					for i := range d {
						score += query[i] * k.v[cache+p*d+i]
					}
					weight := math.Exp(score / math.Sqrt(float64(d)))
					whole += weight
					for i := range d {
						to[i] += weight * v.v[cache+p*d+i]
					}
				}
				for i := range to {
					to[i] /= whole
				}
			}
		}
	}
	return out
}

// caches are keys and values of which those after the last are poison; keys are large,
// so that few of them count.
func caches(rng *rand.Rand, typ kernels.Type, heads, length, window, d int) (k, v *array) {
	k, v = random(rng, typ, heads*window*d), random(rng, typ, heads*window*d)
	for i := range k.v {
		k.v[i] *= 4
		if i/d%window >= length {
			k.v[i], v.v[i] = math.NaN(), math.NaN()
		}
	}
	return k, v
}

func TestAttendPrefill(t *testing.T) {
	each(t, func(t *testing.T, typ kernels.Type, rng *rand.Rand) {
		for _, c := range []struct{ batch, seq, start, h, hkv, d, window int }{
			{1, 1, 0, 1, 1, 64, 1}, {2, 17, 0, 4, 2, 64, 20}, {1, 70, 131, 2, 1, 64, 300}, {1, 200, 0, 1, 1, 128, 200}, {2, 64, 64, 2, 2, 128, 129},
		} {
			q := random(rng, typ, c.batch*c.h*c.seq*c.d)
			k, v := caches(rng, typ, c.batch*c.hkv, c.start+c.seq, c.window, c.d)
			out := poisoned(typ, len(q.v))
			run(t, kernels.AttendPrefill(typ, c.batch, c.seq, c.h, c.d), out, q, k, v, integers(c.start), int32(c.seq), int32(c.h), int32(c.hkv), int32(c.window))
			compare(t, out, attention(q, k, v, c.batch, c.seq, c.start, c.h, c.hkv, c.d, c.window), working[typ])
		}
	})
}

func TestAttendDecode(t *testing.T) {
	each(t, func(t *testing.T, typ kernels.Type, rng *rand.Rand) {
		for _, c := range []struct{ batch, pos, h, hkv, d, window int }{
			{1, 0, 1, 1, 64, 1}, {2, 66, 4, 2, 64, 70}, {1, 300, 16, 1, 64, 1000}, {1, 511, 8, 2, 128, 5000}, {1, 4999, 2, 1, 128, 5000}, {3, 15, 3, 3, 128, 16},
		} {
			q := random(rng, typ, c.batch*c.h*c.d)
			k, v := caches(rng, typ, c.batch*c.hkv, c.pos+1, c.window, c.d)
			partial, out := poisoned(kernels.F32, kernels.Partial(c.batch, c.h, c.d, c.window)), poisoned(typ, len(q.v))
			run(t, kernels.AttendDecode(typ, c.batch, c.hkv, c.d, c.window), partial, q, k, v, integers(c.pos), int32(c.h), int32(c.hkv), int32(c.window))
			run(t, kernels.AttendReduce(typ, c.batch, c.h), out, partial, int32(kernels.Splits(c.window)), int32(c.d))
			compare(t, out, attention(q, k, v, c.batch, 1, c.pos, c.h, c.hkv, c.d, c.window), working[typ])
		}
	})
}

func TestWaves(t *testing.T) {
	t.Parallel()
	const n = 2 * kernels.MatmulTile
	rng := rand.New(rand.NewPCG(rand.Uint64(), 3))
	a, b, c := random(rng, kernels.F32, n*n), random(rng, kernels.F32, n*n), poisoned(kernels.F32, n*n)
	turned := &array{kernels.F32, make([]float64, n*n)}
	for i := range b.v {
		turned.v[i%n*n+i/n] = b.v[i]
	}
	run(t, kernels.MatmulF32(n), c, a, b, int32(n))
	compare(t, c, product(a, turned, nil, n, n, n), rounding[kernels.F32])

	const units = 2500
	in, out := random(rng, kernels.F32, units*4), poisoned(kernels.F32, units*4)
	run(t, kernels.Copy(units), out, in, int64(units))
	compare(t, out, in.v, 0)
}
