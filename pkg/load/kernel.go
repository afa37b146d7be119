package load

import (
	"fmt"
	"slices"
	"strings"
)

// Kernel names what a load computes.
type Kernel string

// The kernels: products of matrices in one or the other precision, and copies
// from memory to memory.
const (
	FP32   Kernel = "fp32"
	BF16   Kernel = "bf16"
	Memory Kernel = "memory"
)

// Kernels are all of them, the default first.
func Kernels() []string { return []string{string(FP32), string(BF16), string(Memory)} }

// ParseKernel is the kernel of that name.
func ParseKernel(name string) (Kernel, error) {
	if !slices.Contains(Kernels(), name) {
		return "", fmt.Errorf("no kernel %q (%s)", name, strings.Join(Kernels(), ", "))
	}
	return Kernel(name), nil
}

// Level is the kernel's at an intensity from 0 to 1. At 0 only its context and
// its memory remain.
func (k Kernel) Level(intensity float64) Level {
	l := Level{Compute: 1, VRAMMB: 192} // three matrices of 4096 × 4096 floats
	switch k {
	case BF16:
		// Tensor cores take their operands so fast that the memory is busy too.
		l = Level{Compute: 1, Memory: 0.2, VRAMMB: 384} // 8192 × 8192
	case Memory:
		l = Level{Compute: 0.05, Memory: 1, VRAMMB: 2048} // 1 GiB here and there
	}
	l.Compute *= intensity
	l.Memory *= intensity
	l.Context, l.Kernel, l.Share = true, k, intensity
	return l
}
