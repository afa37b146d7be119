// What the kernels ask of the compiler and of the GPU. Clang compiles them
// without NVIDIA's toolkit or headers, so all that its headers would define is here;
// nvcc compiles the same. With EMULATED defined they are C++ for the CPU instead,
// and emulator/emulate.h has all of this again.
#pragma once

typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;

// The 16 bit types, and 16 bytes of anything.
struct bf16 { u16 bits; };
struct f16 { u16 bits; };
struct alignas(16) Quad { u32 x, y, z, w; };
struct alignas(16) Float4 { float x, y, z, w; };
struct alignas(8) Pair { float x, y; };

#ifdef EMULATED
#include "emulator/emulate.h"
#else

#ifdef __clang__
#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __shared__ __attribute__((shared))
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))
#define THREAD_X __nvvm_read_ptx_sreg_tid_x()
#define BLOCK_X __nvvm_read_ptx_sreg_ctaid_x()
#define BLOCK_Y __nvvm_read_ptx_sreg_ctaid_y()
#define BLOCK_Z __nvvm_read_ptx_sreg_ctaid_z()
#define BLOCKS_X __nvvm_read_ptx_sreg_nctaid_x()
#else
#define THREAD_X threadIdx.x
#define BLOCK_X blockIdx.x
#define BLOCK_Y blockIdx.y
#define BLOCK_Z blockIdx.z
#define BLOCKS_X gridDim.x
#endif

#define DEVICE static __device__ inline __attribute__((always_inline))

// KERNEL(threads, name, (parameters)) { … } is a kernel for blocks of so many threads.
#define KERNEL(threads, name, parameters) extern "C" __global__ void __launch_bounds__(threads) name parameters

DEVICE int thread() { return THREAD_X; }
DEVICE int block_x() { return BLOCK_X; }
DEVICE int block_y() { return BLOCK_Y; }
DEVICE int block_z() { return BLOCK_Z; }
DEVICE int blocks_x() { return BLOCKS_X; }

// Shared is an address in shared memory.
typedef u32 Shared;
DEVICE Shared shared(const void *p) {
  Shared s;
  asm("{ .reg .u64 a; cvta.to.shared.u64 a, %1; cvt.u32.u64 %0, a; }" : "=r"(s) : "l"(p));
  return s;
}
// dynamic is the shared memory of which the launch says the size.
DEVICE Shared dynamic() {
  extern __shared__ Quad memory[];
  return shared(memory);
}

DEVICE void barrier() { asm volatile("bar.sync 0;" ::: "memory"); }
DEVICE void warp_barrier() { asm volatile("bar.warp.sync 0xffffffff;" ::: "memory"); }

// Arithmetic that C has no operators for. Approximate ones err by about 2⁻²².
DEVICE float multiply_add(float a, float b, float c) {
  asm("fma.rn.f32 %0, %1, %2, %0;" : "+f"(c) : "f"(a), "f"(b));
  return c;
}
DEVICE float product(float a, float b) { // never part of an fma
  float r;
  asm("mul.rn.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
  return r;
}
DEVICE float quotient(float a, float b) {
  float r;
  asm("div.full.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
  return r;
}
DEVICE float larger(float a, float b) {
  float r;
  asm("max.f32 %0, %1, %2;" : "=f"(r) : "f"(a), "f"(b));
  return r;
}
DEVICE float power2(float x) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
DEVICE float inverse_root(float x) {
  float r;
  asm("rsqrt.approx.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
DEVICE float nearest(float x) { // to a whole number
  float r;
  asm("cvt.rni.f32.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
DEVICE float sin_small(float x) { // |x| ≤ π
  float r;
  asm("sin.approx.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
DEVICE float cos_small(float x) {
  float r;
  asm("cos.approx.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
}
DEVICE float infinity() { return __builtin_huge_valf(); }

// Two 16 bit numbers of a register, the first in its lower half.
DEVICE u32 pack(bf16, float lo, float hi) {
  u32 r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}
DEVICE u32 pack(f16, float lo, float hi) {
  u32 r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
  return r;
}
DEVICE float low(bf16, u32 v) {
  float r;
  asm("mov.b32 %0, %1;" : "=f"(r) : "r"(v << 16));
  return r;
}
DEVICE float high(bf16, u32 v) {
  float r;
  asm("mov.b32 %0, %1;" : "=f"(r) : "r"(v & 0xffff0000u));
  return r;
}
DEVICE float low(f16, u32 v) {
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"((u16)v));
  return r;
}
DEVICE float high(f16, u32 v) { return low(f16{}, v >> 16); }

// whole is the same address, which the compiler cannot take apart: constants that
// are added to it stay constants of each read.
DEVICE Shared whole(Shared p) {
  Shared r;
  asm("mov.u32 %0, %1;" : "=r"(r) : "r"(p));
  return r;
}
// further is an address so many bytes on. What a loop adds to thus stays 32 bits,
// of which the compiler would make 64 beforehand, and take two registers for each.
DEVICE const void *further(const void *p, u32 bytes) {
  const void *r;
  asm("{ .reg .u64 b; cvt.u64.u32 b, %2; add.s64 %0, %1, b; }" : "=l"(r) : "l"(p), "r"(bytes));
  return r;
}

// load reads what no thread writes while the kernel runs; it is zeros unless there.
DEVICE Quad load(const void *p) {
  Quad v;
  asm("ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
  return v;
}
DEVICE Quad load(const void *p, bool there) { // without a branch, of which the compiler would make one for each
  Quad v = {};
  asm("{ .reg .pred there; setp.ne.u32 there, %5, 0; @there ld.global.nc.v4.u32 {%0, %1, %2, %3}, [%4]; }"
      : "+r"(v.x), "+r"(v.y), "+r"(v.z), "+r"(v.w) : "l"(p), "r"((u32)there));
  return v;
}
DEVICE Float4 load_floats(const float *p) {
  Float4 v;
  asm("ld.global.nc.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "l"(p));
  return v;
}
DEVICE void prefetch(const void *p) { asm volatile("prefetch.global.L1 [%0];" ::"l"(p)); }
DEVICE u32 load_word(const void *p, bool there) {
  u32 v = 0;
  asm("{ .reg .pred there; setp.ne.u32 there, %2, 0; @there ld.global.nc.u32 %0, [%1]; }" : "+r"(v) : "l"(p), "r"((u32)there));
  return v;
}
DEVICE Pair load_pair(const float *p, bool there) {
  Pair v = {};
  asm("{ .reg .pred there; setp.ne.u32 there, %3, 0; @there ld.global.nc.v2.f32 {%0, %1}, [%2]; }"
      : "+f"(v.x), "+f"(v.y) : "l"(p), "r"((u32)there));
  return v;
}
DEVICE void store(void *p, Quad v) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}
DEVICE Quad read(Shared p) {
  Quad v;
  asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(p) : "memory");
  return v;
}
DEVICE float read_float(Shared p) {
  float v;
  asm volatile("ld.shared.f32 %0, [%1];" : "=f"(v) : "r"(p) : "memory");
  return v;
}
DEVICE Float4 read_floats(Shared p) {
  Float4 v;
  asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "r"(p) : "memory");
  return v;
}
DEVICE void write(Shared p, Pair v) { asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(p), "f"(v.x), "f"(v.y) : "memory"); }
DEVICE void write(Shared p, float v) { asm volatile("st.shared.f32 [%0], %1;" ::"r"(p), "f"(v) : "memory"); }

// from_lane is the value of the lane whose number differs in these bits.
DEVICE float from_lane(float v, int bits) {
  float r;
  asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 0x1f, 0xffffffff;" : "=f"(r) : "f"(v), "r"(bits));
  return r;
}
DEVICE int from_lane(int v, int bits) {
  int r;
  asm volatile("shfl.sync.bfly.b32 %0, %1, %2, 0x1f, 0xffffffff;" : "=r"(r) : "r"(v), "r"(bits));
  return r;
}

// copy_async begins a copy of 16 bytes to shared memory, or of zeros unless there;
// commit closes a group of copies, and wait<N> waits for all groups but the last N.
DEVICE void copy_async(Shared to, const void *from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}
DEVICE void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> DEVICE void wait() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

// read_tiles gives each lane its two numbers of each of four tiles of 8 by 8
// numbers: row lane/4, columns lane%4·2 and the next. Lane i brings the address
// of row i%8 of tile i/8. read_turned gives it them of the transposed tiles.
DEVICE void read_tiles(u32 (&r)[4], Shared row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(row) : "memory");
}
DEVICE void read_turned(u32 (&r)[4], Shared row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(row) : "memory");
}

// multiply is c += a·b of 16×16 and 16×8 numbers on a warp's tensor core. With
// g = lane/4 and t = lane%4, a lane has of c the rows g (c[0], c[1]) and g+8 at columns
// 2t and 2t+1; of a, rows g and g+8 at columns 2t, 2t+1 (a0, a1), and at 2t+8, 2t+9 (a2,
// a3); of b, column g at rows 2t, 2t+1 (b0) and 2t+8, 2t+9 (b1).
#define MULTIPLY(T, name)                                                                              \
  DEVICE void multiply(T, float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {            \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." name "." name ".f32 {%0, %1, %2, %3}, "       \
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                                        \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                      \
                 : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));                              \
  }
MULTIPLY(bf16, "bf16")
MULTIPLY(f16, "f16")
#undef MULTIPLY

#endif

DEVICE float number(bf16 v) { return low(v, v.bits); }
DEVICE float number(f16 v) { return low(v, v.bits); }
template <class T> DEVICE T rounded(float v) { return T{(u16)pack(T{}, v, 0)}; }

// Eight 16 bit numbers, which lie side by side.
template <class T> DEVICE void unpack(float (&f)[8], Quad v) {
  u32 r[4] = {v.x, v.y, v.z, v.w};
  for (int i = 0; i < 4; i++) f[2 * i] = low(T{}, r[i]), f[2 * i + 1] = high(T{}, r[i]);
}
template <class T> DEVICE Quad packed(const float (&f)[8]) {
  return {pack(T{}, f[0], f[1]), pack(T{}, f[2], f[3]), pack(T{}, f[4], f[5]), pack(T{}, f[6], f[7])};
}

// The nonlinear functions of the MLPs.
const float log2_e = 1.4426950408889634f;
DEVICE float silu(float x) { return quotient(x, 1 + power2(-log2_e * x)); }
DEVICE float gelu(float x) { // in the form with tanh, of which this is the logistic form
  const float twice_root_2_pi = 1.5957691216057308f;
  return quotient(x, 1 + power2(-log2_e * twice_root_2_pi * multiply_add(0.044715f * x * x, x, x)));
}

// Sums and maxima over the lanes whose numbers differ in the bits below `lanes`.
template <int lanes> DEVICE float sum(float v) {
  for (int bit = lanes / 2; bit > 0; bit /= 2) v += from_lane(v, bit);
  return v;
}
template <int lanes> DEVICE float maximum(float v) {
  for (int bit = lanes / 2; bit > 0; bit /= 2) v = larger(v, from_lane(v, bit));
  return v;
}

#define FOR_EACH_TYPE(DEFINE) DEFINE(bf16) DEFINE(f16)
