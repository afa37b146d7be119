package stats

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/mat"
)

// TestBand compares bands, filled as normal equations are, with the same matrix
// kept whole.
func TestBand(t *testing.T) {
	var b Band // its storage is used again
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		n := 1 + rng.IntN(40)
		width := rng.IntN(n + 3)
		b.Reset(n, width)
		whole := mat.NewSymDense(n, nil)
		for i := range n {
			b.Add(i, i, 0.5)
			whole.SetSym(i, i, whole.At(i, i)+0.5)
		}
		for range n {
			x := make([]float64, 1+rng.IntN(min(width, n-1)+1))
			for i := range x {
				x[i] = rng.NormFloat64()
			}
			at, scale := rng.IntN(n-len(x)+1), 3*rng.Float64()
			b.AddOuter(at, x, scale)
			for i := range x {
				for j := i; j < len(x); j++ {
					whole.SetSym(at+i, at+j, whole.At(at+i, at+j)+scale*x[i]*x[j])
				}
			}
		}
		if n > 1 && width > 0 {
			b.Add(1, 0, 0.1)
			whole.SetSym(0, 1, whole.At(0, 1)+0.1)
			b.AddDifference(1, 0.7)
			whole.SetSym(0, 0, whole.At(0, 0)+0.7)
			whole.SetSym(1, 1, whole.At(1, 1)+0.7)
			whole.SetSym(0, 1, whole.At(0, 1)-0.7)
		}
		var c mat.Cholesky
		if !c.Factorize(whole) || !b.Factorize() {
			t.Fatalf("seed %d: not positive definite", seed)
		}
		if math.Abs(b.LogDet()-c.LogDet()) > 1e-9 {
			t.Errorf("seed %d: log determinant %g, want %g", seed, b.LogDet(), c.LogDet())
		}
		right := make([]float64, n)
		for i := range right {
			right[i] = rng.NormFloat64()
		}
		var want mat.VecDense
		if err := c.SolveVecTo(&want, mat.NewVecDense(n, append([]float64(nil), right...))); err != nil {
			t.Fatal(err)
		}
		b.Solve(right)
		for i, v := range right {
			if w := want.AtVec(i); math.Abs(v-w) > 1e-9*(1+math.Abs(w)) {
				t.Errorf("seed %d: x[%d] is %g, want %g", seed, i, v, w)
			}
		}
	}
}

func TestBandNotPositive(t *testing.T) {
	for name, v := range map[string]float64{"indefinite": 2, "not a number": math.NaN()} {
		var b Band
		b.Reset(2, 1)
		b.Add(0, 0, 1)
		b.Add(1, 1, 1)
		b.Add(0, 1, v)
		if b.Factorize() {
			t.Errorf("%s: factorized", name)
		}
	}
}

// A product of any size has the logarithm that its factors' add up to.
func TestProduct(t *testing.T) {
	var p Product
	want := 0.0
	if p.Log() != 0 {
		t.Errorf("the logarithm of nothing's product is %v", p.Log())
	}
	for i := range 1000 {
		x := math.Pow(10, float64(i%41)-25) // 1e-25 to 1e15: 1e-5000 together
		p.Times(x)
		want += math.Log(x)
		if got := p.Log(); math.Abs(got-want) > 1e-12*math.Abs(want)+1e-12 {
			t.Fatalf("of %d factors the logarithm is %v, want %v", i+1, got, want)
		}
	}
	for _, x := range []float64{0, math.Inf(1), math.NaN()} {
		var p Product
		p.Times(x)
		if got, want := p.Log(), math.Log(x); got != want && !(math.IsNaN(got) && math.IsNaN(want)) {
			t.Errorf("the logarithm of %v is %v", x, got)
		}
	}
}
