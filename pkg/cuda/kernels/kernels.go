// Package kernels is GPU programs as PTX, the assembly language that every
// driver since 2020 compiles for its GPU of compute capability 8.0 or later. They
// are written in CUDA C beside this file; `make ptx` compiles them.
//
// Each function of this package says how to launch one kernel, and its comment
// gives the C parameters in their order. All arrays are row-major and without
// gaps, begin at a multiple of 16 bytes, and have rows of a multiple of 8 numbers
// where nothing else is said. T is the 16 bit type that the
// kernel's name ends in, bf16 or f16; sums are made in 32 bits. Kernels work on
// what their parameters say only: they need no memory of their own, and can be
// captured in a graph.
package kernels

import (
	"embed"
	"fmt"
	"math"
)

//go:embed *.ptx
var files embed.FS

// Module is a unit of kernels that are compiled together.
type Module string

// The modules. What a program does not launch it need not load.
const (
	Elements Module = "elements" // number by number, and row by row
	Products Module = "products" // of matrices
	Attend   Module = "attend"   // attention
	Waves    Module = "waves"    // loads without another purpose
)

// Modules are all there are.
func Modules() []Module { return []Module{Elements, Products, Attend, Waves} }

// PTX is the module's text, as the driver takes it but for the zero byte at its end.
func (m Module) PTX() []byte {
	text, err := files.ReadFile(string(m) + ".ptx")
	if err != nil {
		panic(err) // not one of the constants above
	}
	return text
}

// Type is the type of the numbers in an array.
type Type string

// The types. Most kernels are for the first two only.
const (
	BF16 Type = "bf16"
	F16  Type = "f16"
	F32  Type = "f32"
)

// Dim is a number of blocks, or of threads, in three dimensions.
type Dim struct{ X, Y, Z int }

// Launch is how to launch a kernel.
type Launch struct {
	Module Module
	Kernel string
	Grid   Dim
	Block  Dim
	// Shared is the dynamic shared memory of a block in bytes. Above 48 KiB a kernel
	// must be allowed that much first.
	Shared int
}

// line is a launch of blocks in one dimension.
func line(m Module, kernel string, blocks, threads int) Launch {
	return Launch{Module: m, Kernel: kernel, Grid: Dim{blocks, 1, 1}, Block: Dim{threads, 1, 1}}
}

// parts is how many parts of that size make up n.
func parts[N int | int64](n, size N) int { return int((n + size - 1) / size) }

// flat is the launch of a kernel whose threads stride over n numbers.
func flat(kernel string, n int64) Launch {
	const threads, most = 256, 4096
	return line(Elements, kernel, max(1, min(most, parts(n, threads))), threads)
}

func named(kernel string, t Type) string { return fmt.Sprintf("%s_%s", kernel, t) }

// Fill draws n numbers from −half_width to half_width. Number i is
// T((2u − 1)·half_width) in 32 bits, where u = (mix(seed + (i+1)·0x9E3779B97F4A7C15) >> 40)/2²⁴
// and mix is the finaliser of splitmix64: the same numbers everywhere. For all
// three types.
//
//	fill_uniform_T(T *out, long n, unsigned long seed, float half_width)
func Fill(t Type, n int64) Launch { return flat(named("fill_uniform", t), n) }

// Embed looks up tokens: x[b,s,:] = table[tokens[b,s],:] + positions[*pos0 + s,:].
// Positions may be 0, for none.
//
//	embed_T(float *x, const T *table, const T *positions, const int *tokens, const int *pos0, int tokens_per_seq, int width)
func Embed(t Type, batch, seq int) Launch {
	l := line(Elements, named("embed", t), seq, 128)
	l.Grid.Y = batch
	return l
}

// Add is x += y + bias, where bias may be 0, for none: how a layer's result
// gets to the hidden state, which is float32.
//
//	add_T(float *x, const T *y, const T *bias, int rows, int width)
func Add(t Type, rows, width int) Launch {
	return flat(named("add", t), int64(rows)*int64(width)/8)
}

// SiluMul is SwiGLU: out = silu(gate)·up, where each row of gate_up is gate[ff]
// and then up[ff].
//
//	silu_mul_T(T *out, const T *gate_up, int rows, int ff)
func SiluMul(t Type, rows, ff int) Launch {
	return flat(named("silu_mul", t), int64(rows)*int64(ff)/8)
}

// Gelu is x = gelu(x + bias) in place, in GPT-2's form with tanh; bias may be 0,
// for none.
//
//	gelu_T(T *x, const T *bias, int rows, int width)
func Gelu(t Type, rows, width int) Launch {
	return flat(named("gelu", t), int64(rows)*int64(width)/8)
}

// SplitQKV takes apart what comes of a layer's first product, and turns queries
// and keys by their positions. qkv is [batch,seq,(h+2·hkv)·d]: queries, keys and
// values; bias, of one such row, may be 0, for none. q is [batch,h,seq,d]. Keys and
// values go to positions *pos0 … *pos0+seq−1 of the caches [batch,hkv,max,d].
// frequencies are the d/2 angles of a position's rotation in radians, or 0, for
// none; dimension i is rotated with i + d/2. d is a multiple of 4; heads is h+2·hkv.
//
//	split_qkv_T(T *q, T *kcache, T *vcache, const T *qkv, const T *bias, const int *pos0, const float *frequencies,
//	            int seq, int h, int hkv, int d, int max)
func SplitQKV(t Type, batch, seq, heads int) Launch {
	l := line(Elements, named("split_qkv", t), seq, 256)
	l.Grid.Y, l.Grid.Z = batch, parts(heads, 8)
	return l
}

// NormRMS is y = x/√(mean(x²) + eps)·weight of each row.
//
//	norm_rms_T(T *y, const float *x, const T *weight, int rows, int width, float eps)
func NormRMS(t Type, rows int) Launch { return line(Elements, named("norm_rms", t), rows, 512) }

// NormLayer is y = (x − mean)/√(variance + eps)·weight + bias of each row.
//
//	norm_layer_T(T *y, const float *x, const T *weight, const T *bias, int rows, int width, float eps)
func NormLayer(t Type, rows int) Launch { return line(Elements, named("norm_layer", t), rows, 512) }

// Argmax is the index of the largest number in each row, the first of equals. Any
// vocab will do.
//
//	argmax_T(int *token, const T *logits, int rows, int vocab)
func Argmax(t Type, rows int) Launch { return line(Elements, named("argmax", t), rows, 1024) }

// Advance is *pos += by.
//
//	advance(int *pos, int by)
func Advance() Launch { return line(Elements, "advance", 1, 1) }

// Gemm is out[m,n] = a[m,k]·w[n,k]ᵀ + bias[n] on tensor cores, or x[m,n] += the same
// where x is not 0. bias may be 0, for none. k is a multiple of 8; m and n are any.
//
//	gemm_T(T *out, float *x, const T *a, const T *w, const T *bias, int m, int n, int k)
//
// Blocks make tiles of 128 by 256 numbers or, in the kernels whose names end in
// _middle and _small, of 128 by 192 and 64 by 64: smaller ones where there are too few
// of the larger for all multiprocessors, or just more than they take at once.
func Gemm(t Type, m, n int) Launch {
	const stages, depth, bytes = 3, 64, 2
	var best Launch
	least := math.MaxInt
	for _, tile := range []struct {
		suffix        string
		high, wide    int
		threads, time int
	}{
		// The times are what a multiprocessor takes for each, beside each other: those of
		// smaller tiles read more from the cache for each number.
		{"", 128, 256, 256, 256},
		{"_middle", 128, 192, 256, 211},
		{"_small", 64, 64, 128, 74},
	} {
		l := line(Products, named("gemm", t)+tile.suffix, parts(m, tile.high)*parts(n, tile.wide), tile.threads)
		l.Shared = stages * (tile.high + tile.wide) * depth * bytes
		if time := parts(l.Grid.X, multiprocessors) * tile.time; time < least {
			best, least = l, time
		}
	}
	return best
}

// multiprocessors is how many the sizes of blocks are meant for, those of a Hopper
// GPU. With another number of them the results are the same, and take longer.
const multiprocessors = 132

// GemvRows is the most rows that [Gemv] and its kin take.
const GemvRows = 16

// Gemv is [Gemm] for up to [GemvRows] rows: it reads w once, at the memory's
// speed. k is a multiple of 8.
//
//	gemv_T(T *out, const T *a, const T *w, const T *bias, int m, int n, int k)
func Gemv(t Type, m, n int) Launch { return gemv(named("gemv", t), m, n) }

// GemvAdd is x[m,n] += a[m,k]·w[n,k]ᵀ + bias[n]; all else is as for [Gemv].
//
//	gemv_add_T(float *x, const T *a, const T *w, const T *bias, int m, int n, int k)
func GemvAdd(t Type, m, n int) Launch { return gemv(named("gemv_add", t), m, n) }

// GemvSilu is [Gemv] and [SiluMul] at once: out[m,ff] of w[2·ff,k].
//
//	gemv_silu_T(T *out, const T *a, const T *w, int m, int ff, int k)
func GemvSilu(t Type, m, ff int) Launch { return gemv(named("gemv_silu", t), m, 2*ff) }

// GemvGelu is [Gemv] and [Gelu] at once.
//
//	gemv_gelu_T(T *out, const T *a, const T *w, const T *bias, int m, int n, int k)
func GemvGelu(t Type, m, n int) Launch { return gemv(named("gemv_gelu", t), m, n) }

// gemv has two kernels: what a block reads of a, it shall be less than of w.
func gemv(kernel string, m, n int) Launch {
	const warps, lineBytes = 8, 128
	rows, stages := 16, 4 // of w, and of each warp's ring
	if m > 8 {
		kernel += "_wide"
		rows, stages = 32, 3
	}
	l := line(Products, kernel, parts(n, rows), 32*warps)
	l.Shared = warps * stages * rows * lineBytes
	return l
}

// AttendPrefill is causal attention of seq queries in each sequence, the first of
// them at position *pos0, to the keys and values up to their own. q is
// [batch,h,seq,d], the caches are [batch,hkv,max,d], out is [batch,seq,h·d]. d is 64 or 128; h is
// a multiple of hkv.
//
//	attend_prefill_T(T *out, const T *q, const T *kcache, const T *vcache, const int *pos0, int seq, int h, int hkv, int max)
//
// The kernel's name ends in _64 or _128 besides, for d.
func AttendPrefill(t Type, batch, seq, h, d int) Launch {
	l := line(Attend, fmt.Sprintf("attend_prefill_%s_%d", t, d), parts(seq, 64), 128)
	l.Grid.Y, l.Grid.Z = h, batch
	l.Shared = 2 * 2 * 64 * d * 2 // two stages of 64 keys and values
	return l
}

// Splits is into how many parts [AttendDecode] takes the positions, for caches
// with room for max of them.
func Splits(max int) int { return min(64, parts(max, 64)) }

// Partial is how many float32 numbers AttendDecode leaves for [AttendReduce].
func Partial(batch, h, d, max int) int { return batch * h * Splits(max) * (d + 2) }

// AttendDecode is attention of one query in each sequence, which is at position
// *pos, in parts that [AttendReduce] puts together. q is [batch,h,1,d]; the caches are as
// in [AttendPrefill]. There are up to 16 queries for each of the hkv heads; d is 64 or 128.
//
//	attend_decode_T(float *partial, const T *q, const T *kcache, const T *vcache, const int *pos, int h, int hkv, int max)
//
// The kernel's name ends in _64 or _128 besides, for d.
func AttendDecode(t Type, batch, hkv, d, max int) Launch {
	l := line(Attend, fmt.Sprintf("attend_decode_%s_%d", t, d), Splits(max), 128)
	l.Grid.Y, l.Grid.Z = hkv, batch
	l.Shared = 4 * 3 * 2 * 16 * d * 2 // four warps' rings of three stages, each 16 keys and values
	return l
}

// AttendReduce makes out[batch,h·d] of what [AttendDecode] left; splits is [Splits].
//
//	attend_reduce_T(T *out, const float *partial, int splits, int d)
func AttendReduce(t Type, batch, h int) Launch {
	return line(Attend, named("attend_reduce", t), batch*h, 256)
}

// MatmulTile is what n is a multiple of in [MatmulF32].
const MatmulTile = 128

// MatmulF32 is c = a·b of n×n numbers, on the ordinary cores. n is a multiple of [MatmulTile].
//
//	matmul_f32(float *c, const float *a, const float *b, int n)
func MatmulF32(n int) Launch {
	tiles := parts(n, MatmulTile)
	return line(Waves, "matmul_f32", tiles*tiles, 256)
}

// Copy copies n units of 16 bytes.
//
//	copy(uint4 *out, const uint4 *in, long n)
func Copy(n int64) Launch { return line(Waves, "copy", max(1, parts(n, 256*4)), 256) }
