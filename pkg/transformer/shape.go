// Package transformer is a decoder-only language model with random weights on
// a GPU: its shape, what it takes of memory and arithmetic, and its inference,
// prefill and greedy decode with a cache of keys and values. The arithmetic is
// that of a trained model of the same shape, and so is what it costs; what it
// says means nothing. It is no library to use a trained model with.
package transformer

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// Family is a way of building a layer.
type Family string

// The families. GPT2 has LayerNorm, learnt positions and a GELU between two
// matrices; Llama has RMSNorm, rotary positions and SwiGLU, and Mistral and
// Qwen2 are of it.
const (
	GPT2  Family = "gpt2"
	Llama Family = "llama"
)

// Shape is what a model is made of.
type Shape struct {
	Name    string
	Family  Family
	Layers  int
	Width   int // of the hidden state
	Heads   int // of queries
	KVHeads int // of keys, and of values; each serves Heads/KVHeads of queries
	HeadDim int // numbers in a head
	FF      int // numbers between the two halves of a layer's MLP
	Vocab   int
	Window  int     // tokens at most, prompt and answer
	Eps     float64 // in the norms' roots
	InitStd float64 // standard deviation of the weights
	Tied    bool    // the head is the table of embeddings
	Bias    Bias
	Rotary  Rotary // of Llama's positions
}

// Bias says which products a vector is added to.
type Bias struct{ QKV, Out, MLP bool }

// Rotary are the angles by which queries and keys are turned: position × θ^(−2i/d)
// in the i-th plane, with frequencies scaled as Llama 3.1 does where Factor is
// not 0.
type Rotary struct {
	Theta    float64
	Factor   float64 // low frequencies are divided by it
	LowFreq  float64 // wavelengths longer than Original/LowFreq are low
	HighFreq float64 // those shorter than Original/HighFreq stay as they are
	Original int     // tokens of the window that the model was first trained for
}

// Frequencies are the angles per position in radians for heads of d numbers,
// d/2 of them.
func (r Rotary) Frequencies(d int) []float32 {
	f := make([]float32, d/2)
	for i := range f {
		v := math.Pow(r.Theta, -2*float64(i)/float64(d))
		if r.Factor != 0 {
			turns := float64(r.Original) * v / (2 * math.Pi) // in the original window
			share := (turns - r.LowFreq) / (r.HighFreq - r.LowFreq)
			share = min(max(share, 0), 1)
			v *= share + (1-share)/r.Factor
		}
		f[i] = float32(v)
	}
	return f
}

func gpt2(name string, layers, width, heads int) Shape {
	return Shape{
		Name: name, Family: GPT2, Layers: layers, Width: width,
		Heads: heads, KVHeads: heads, HeadDim: width / heads, FF: 4 * width,
		Vocab: 50257, Window: 1024, Eps: 1e-5, InitStd: 0.02, Tied: true,
		Bias: Bias{QKV: true, Out: true, MLP: true},
	}
}

// presets are the shapes that are known by name.
var presets = []Shape{
	gpt2("gpt2", 12, 768, 12),
	gpt2("gpt2-medium", 24, 1024, 16),
	gpt2("gpt2-large", 36, 1280, 20),
	gpt2("gpt2-xl", 48, 1600, 25),
	{
		Name: "llama-3.1-8b", Family: Llama, Layers: 32, Width: 4096,
		Heads: 32, KVHeads: 8, HeadDim: 128, FF: 14336,
		Vocab: 128256, Window: 131072, Eps: 1e-5, InitStd: 0.02,
		Rotary: Rotary{Theta: 500000, Factor: 8, LowFreq: 1, HighFreq: 4, Original: 8192},
	},
}

// Names are the names of the shapes that are known.
func Names() []string {
	var names []string
	for _, s := range presets {
		names = append(names, s.Name)
	}
	return names
}

// Find is the shape of that name.
func Find(name string) (Shape, error) {
	for _, s := range presets {
		if s.Name == name {
			return s, nil
		}
	}
	return Shape{}, fmt.Errorf("no model %q (%s)", name, strings.Join(Names(), ", "))
}

// check says why no model can be of this shape here.
func (s *Shape) check() error {
	for _, n := range []struct {
		name  string
		value int
	}{
		{"layers", s.Layers}, {"width", s.Width}, {"heads", s.Heads}, {"heads of keys and values", s.KVHeads},
		{"numbers in the MLP", s.FF}, {"tokens in the vocabulary", s.Vocab}, {"tokens in the window", s.Window},
	} {
		if n.value < 1 || n.value > 1<<24 {
			return fmt.Errorf("%d %s: want 1 to %d", n.value, n.name, 1<<24)
		}
	}
	switch {
	case s.Heads%s.KVHeads != 0:
		return fmt.Errorf("%d heads share %d heads of keys and values: want a multiple", s.Heads, s.KVHeads)
	case s.Heads/s.KVHeads > 16:
		return fmt.Errorf("%d heads share one of keys and values: want 16 at most", s.Heads/s.KVHeads)
	case s.HeadDim != 64 && s.HeadDim != 128:
		return fmt.Errorf("heads of %d numbers: only 64 and 128 are supported", s.HeadDim)
	case s.Width%32 != 0 || s.FF%32 != 0:
		return fmt.Errorf("a width of %d and an MLP of %d: want multiples of 32", s.Width, s.FF)
	case !(s.Eps > 0 && s.Eps < 1):
		return fmt.Errorf("an epsilon of %v: want more than 0 and less than 1", s.Eps)
	case !(s.InitStd > 0 && s.InitStd < 10):
		return fmt.Errorf("weights of standard deviation %v: want more than 0", s.InitStd)
	case s.Family == Llama && !(s.Rotary.Theta > 1 && s.Rotary.Theta < math.Inf(1)):
		return fmt.Errorf("a rotary base of %v: want more than 1", s.Rotary.Theta)
	case s.Rotary.Factor != 0 && !(s.Rotary.Factor > 0 && s.Rotary.HighFreq > s.Rotary.LowFreq && s.Rotary.Original > 0):
		return errors.New("a scaling of the rotary frequencies that has no meaning: want factor > 0 and high_freq_factor > low_freq_factor")
	}
	return nil
}

// qkv is how many numbers a token's queries, keys and values are together.
func (s *Shape) qkv() int { return (s.Heads + 2*s.KVHeads) * s.HeadDim }

// up is how many numbers the first half of the MLP makes.
func (s *Shape) up() int {
	if s.Family == Llama {
		return 2 * s.FF // gate and up
	}
	return s.FF
}
