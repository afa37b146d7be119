package load

import (
	"fmt"
	"strings"
	"time"
)

// Board is what a GPU can do at best, so far as the time of a computation
// depends on it.
type Board struct {
	FLOPS     float64 // 16 bit matrix products, dense, accumulated in 32 bits; operations/s
	Bandwidth float64 // of the memory, B/s
}

// What inference gets out of a board. The first and the last are those of a
// recorded H200: Llama-3.1-8B's prefill of 4 × 16384 tokens in 2.3 s, and
// GPT-2's decode step in 4.8 ms, in which the GPU mostly waits for PyTorch to
// launch its kernels. The second is an assumption.
const (
	computeShare   = 0.58
	bandwidthShare = 0.75
	launch         = 400 * time.Microsecond // a layer
)

// Model is a transformer, so far as the time of its inference depends on it.
type Model struct {
	Name    string
	Params  float64 // weights, 16 bit each
	Layers  int
	Width   int // of the hidden state
	KVWidth int // of the keys, and of the values
	Window  int // tokens at most, prompt and answer
}

var models = []Model{
	{"gpt2", 124.4e6, 12, 768, 768, 1024},
	{"gpt2-xl", 1.558e9, 48, 1600, 1600, 1024},
	{"llama-3.1-8b", 8.03e9, 32, 4096, 1024, 131072},
}

// Models are the names of the models that are known.
func Models() []string {
	var names []string
	for _, m := range models {
		names = append(names, m.Name)
	}
	return names
}

// FindModel is the model of that name.
func FindModel(name string) (Model, error) {
	for _, m := range models {
		if m.Name == name {
			return m, nil
		}
	}
	return Model{}, fmt.Errorf("no model %q (%s)", name, strings.Join(Models(), ", "))
}

const bytesPerNumber = 2

// kvBytes is what a token takes in the cache of keys and values.
func (m *Model) kvBytes() float64 { return bytesPerNumber * 2 * float64(m.Layers*m.KVWidth) }

// vram is the memory in MiB that the weights take and the cache of batch
// sequences of that many tokens.
func (m *Model) vram(batch, tokens int) float64 {
	return (bytesPerNumber*m.Params + float64(batch*tokens)*m.kvBytes()) / (1 << 20)
}

// pass is the time of one pass through the model with new tokens for each of
// batch sequences, which see attended tokens on average and have cached of them
// in memory, and what the board's units do in it. The time is that of whatever
// takes longest: arithmetic, memory traffic, or launching the kernels.
func (m *Model) pass(b Board, batch, tokens int, attended, cached float64) (time.Duration, Level) {
	work := float64(batch*tokens) * (2*m.Params + 4*float64(m.Layers*m.Width)*attended)
	traffic := bytesPerNumber*m.Params + float64(batch)*cached*m.kvBytes()
	compute := work / (computeShare * b.FLOPS)
	memory := traffic / (bandwidthShare * b.Bandwidth)
	s := max(compute, memory, float64(m.Layers)*launch.Seconds())
	return time.Duration(s * float64(time.Second)), Level{Compute: compute / s, Memory: memory / s, Context: true}
}
