package load

import (
	"time"

	"joulepipe/pkg/transformer"
)

// Board is what a GPU can do at best, so far as the time of a computation
// depends on it.
type Board struct {
	FLOPS     float64 // 16 bit matrix products, dense, accumulated in 32 bits; operations/s
	Bandwidth float64 // of the memory, B/s
}

// What inference gets out of a simulated board. The first and the last are those
// of a recorded H200: Llama-3.1-8B's prefill of 4 × 16384 tokens in 2.3 s, and
// GPT-2's decode step in 4.8 ms, in which the GPU mostly waits for PyTorch to
// launch its kernels. The second is an assumption.
const (
	computeShare   = 0.52
	bandwidthShare = 0.75
	launch         = 400 * time.Microsecond // a layer
)

// run is the time of some work in which layers are launched, and what the
// board's units do meanwhile. The time is that of whatever takes longest:
// arithmetic, memory traffic, or launching.
func (b Board) run(w transformer.Work, layers int) (time.Duration, Level) {
	compute := w.FLOPs / (computeShare * b.FLOPS)
	memory := float64(w.Bytes()) / (bandwidthShare * b.Bandwidth)
	s := max(compute, memory, float64(layers)*launch.Seconds())
	return time.Duration(s * float64(time.Second)), Level{Compute: compute / s, Memory: memory / s, Context: true}
}
