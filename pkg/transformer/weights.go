package transformer

import (
	"fmt"
	"math"
)

// Tensor is one of the arrays that a model's weights are. Its numbers are drawn
// uniformly from ± HalfWidth: number i, from 0, is that of
//
//	u = (mix(Seed + (i+1) × 0x9E3779B97F4A7C15) >> 40) / 2²⁴
//	value = (2u − 1) × HalfWidth
//
// in 32 bit arithmetic, rounded to the model's type, where mix is the finaliser
// of splitmix64. Where HalfWidth is 0 all numbers are 1.
type Tensor struct {
	Name       string
	Rows, Cols int // row-major; a vector has one row
	HalfWidth  float32
	Seed       uint64
}

// Numbers is how many the tensor has.
func (t *Tensor) Numbers() int64 { return int64(t.Rows) * int64(t.Cols) }

// Weights are the tensors of a model in their order in memory. Matrices are
// [outputs, inputs]; those of the queries, keys and values are one above the
// other, as are gate and up of Llama's MLP. Matrices, embeddings and biases have
// the standard deviation of the shape's InitStd, norms' weights are 1. The seed
// of tensor i is seed × 2³² + i.
func (s *Shape) Weights(seed uint64) []Tensor {
	var all []Tensor
	half := float32(s.InitStd * math.Sqrt(3))
	add := func(name string, rows, cols int) {
		all = append(all, Tensor{name, rows, cols, half, seed<<32 + uint64(len(all))})
	}
	matrix := func(name string, out, in int, bias bool) {
		add(name, out, in)
		if bias {
			add(name+".bias", 1, out)
		}
	}
	norm := func(name string) {
		add(name, 1, s.Width)
		all[len(all)-1].HalfWidth = 0
		if s.Family == GPT2 {
			add(name+".bias", 1, s.Width)
		}
	}
	add(embedding, s.Vocab, s.Width)
	if s.Family == GPT2 {
		add(positions, s.Window, s.Width)
	}
	for i := range s.Layers {
		norm(inLayer(i, attentionNorm))
		matrix(inLayer(i, attentionQKV), s.qkv(), s.Width, s.Bias.QKV)
		matrix(inLayer(i, attentionOut), s.Width, s.Heads*s.HeadDim, s.Bias.Out)
		norm(inLayer(i, mlpNorm))
		matrix(inLayer(i, mlpUp), s.up(), s.Width, s.Bias.MLP)
		matrix(inLayer(i, mlpDown), s.Width, s.FF, s.Bias.MLP)
	}
	norm(finalNorm)
	if !s.Tied {
		add(head, s.Vocab, s.Width)
	}
	return all
}

// The names of tensors; those of a layer begin with "layer N ".
const (
	embedding     = "embedding"
	positions     = "positions"
	attentionNorm = "attention norm"
	attentionQKV  = "attention qkv"
	attentionOut  = "attention out"
	mlpNorm       = "mlp norm"
	mlpUp         = "mlp up"
	mlpDown       = "mlp down"
	finalNorm     = "final norm"
	head          = "head"
)

func inLayer(i int, name string) string { return fmt.Sprintf("layer %d %s", i, name) }

// Params is the number of weights.
func (s *Shape) Params() int64 {
	var n int64
	for _, t := range s.Weights(0) {
		n += t.Numbers()
	}
	return n
}
