// The GPU for g++: what device.h has for it otherwise. Threads are coroutines that
// take turns where they wait for each other, a warp's joint instructions are
// exchanges between 32 of them. Blocks run one after another. emulate.cpp has the
// rest.
#pragma once
#include <utility>

#define __shared__ static
#define DEVICE [[maybe_unused]] static inline

// Kernel is one that a request can name; its parameters come as addresses.
struct Kernel {
  const char *name;
  Kernel *next;
  Kernel(const char *name);
  virtual bool takes(const int *sizes, int n) const = 0;
  virtual void run(void *const *arguments) const = 0;
};
template <class... P> struct KernelOf final : Kernel {
  void (*body)(P...);
  KernelOf(const char *name, void (*body)(P...)) : Kernel(name), body(body) {}
  bool takes(const int *sizes, int n) const override {
    const int mine[] = {(int)sizeof(P)...};
    bool same = n == sizeof...(P);
    for (int i = 0; same && i < n; i++) same = sizes[i] == mine[i];
    return same;
  }
  void run(void *const *arguments) const override { call(arguments, std::index_sequence_for<P...>()); }
  template <std::size_t... I> void call(void *const *arguments, std::index_sequence<I...>) const { body(*(P *)arguments[I]...); }
};
#define KERNEL(threads, name, parameters)         \
  static void name parameters;                    \
  static KernelOf kernel_##name(#name, name);     \
  static void name parameters

// Where the coroutine is that runs.
struct Here {
  int thread, block[3], blocks_x;
  char *dynamic;
};
extern Here here;
DEVICE int thread() { return here.thread; }
DEVICE int block_x() { return here.block[0]; }
DEVICE int block_y() { return here.block[1]; }
DEVICE int block_z() { return here.block[2]; }
DEVICE int blocks_x() { return here.blocks_x; }

typedef char *Shared;
DEVICE Shared shared(void *p) { return (char *)p; }
DEVICE Shared dynamic() { return here.dynamic; }

void barrier();
// exchange gives each lane what the 32 of its warp brought, until all are done.
void *const *exchange(void *mine);
void done();
DEVICE void warp_barrier() { done(); }

void copy_async(Shared to, const void *from, bool there);
void commit();
void wait_for(int groups);
template <int N> void wait() { wait_for(N); }

DEVICE Shared whole(Shared p) { return p; }
DEVICE const void *further(const void *p, u32 bytes) { return (const char *)p + bytes; }

void check_aligned(const void *p, int bytes = 16); // else the program ends
DEVICE Quad load(const void *p) { return check_aligned(p), *(const Quad *)p; }
DEVICE Quad load(const void *p, bool there) { return there ? load(p) : Quad{}; }
DEVICE Float4 load_floats(const float *p) { return check_aligned(p), *(const Float4 *)p; }
DEVICE void prefetch(const void *) {}
DEVICE u32 load_word(const void *p, bool there) { return there ? check_aligned(p, 4), *(const u32 *)p : 0; }
DEVICE Pair load_pair(const float *p, bool there) { return there ? check_aligned(p, 8), *(const Pair *)p : Pair{}; }
DEVICE void store(void *p, Quad v) { check_aligned(p), *(Quad *)p = v; }
DEVICE Quad read(Shared p) { return load(p); }
DEVICE float read_float(Shared p) { return *(const float *)p; }
DEVICE Float4 read_floats(Shared p) { return check_aligned(p), *(const Float4 *)p; }
DEVICE void write(Shared p, Pair v) { check_aligned(p, 8), *(Pair *)p = v; }
DEVICE void write(Shared p, float v) { *(float *)p = v; }

DEVICE float multiply_add(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
DEVICE float product(float a, float b) { return a * b; }
DEVICE float quotient(float a, float b) { return a / b; }
DEVICE float larger(float a, float b) { return __builtin_fmaxf(a, b); }
DEVICE float power2(float x) { return __builtin_exp2f(x); }
DEVICE float inverse_root(float x) { return 1 / __builtin_sqrtf(x); }
DEVICE float nearest(float x) { return __builtin_rintf(x); }
DEVICE float sin_small(float x) { return __builtin_sinf(x); }
DEVICE float cos_small(float x) { return __builtin_cosf(x); }
DEVICE float infinity() { return __builtin_huge_valf(); }

template <class To, class From> To same_bits(From v) { return __builtin_bit_cast(To, v); }
DEVICE u32 narrow(bf16, float v) { // ties to even; there are no NaNs here but by mistake
  u32 bits = same_bits<u32>(v);
  return v != v ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
DEVICE u32 narrow(f16, float v) { return same_bits<u16>((_Float16)v); }
DEVICE float wide(bf16, u16 v) { return same_bits<float>((u32)v << 16); }
DEVICE float wide(f16, u16 v) { return same_bits<_Float16>(v); }
template <class T> u32 pack(T t, float lo, float hi) { return narrow(t, lo) | narrow(t, hi) << 16; }
template <class T> float low(T t, u32 v) { return wide(t, (u16)v); }
template <class T> float high(T t, u32 v) { return wide(t, v >> 16); }

template <class V> V from_lane(V v, int bits) {
  V other = *(V *)exchange(&v)[thread() % 32 ^ bits];
  done();
  return other;
}

DEVICE void read_tiles(u32 (&r)[4], Shared row) {
  check_aligned(row);
  void *const *rows = exchange(row);
  for (int i = 0; i < 4; i++) r[i] = ((u32 *)rows[i * 8 + thread() % 32 / 4])[thread() % 4];
  done();
}
DEVICE void read_turned(u32 (&r)[4], Shared row) {
  check_aligned(row);
  void *const *rows = exchange(row);
  for (int i = 0; i < 4; i++) {
    u16 *first = (u16 *)rows[i * 8 + thread() % 4 * 2], *second = (u16 *)rows[i * 8 + thread() % 4 * 2 + 1];
    r[i] = first[thread() % 32 / 4] | (u32)second[thread() % 32 / 4] << 16;
  }
  done();
}

template <class T> void multiply(T type, float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
  u32 mine[6] = {a0, a1, a2, a3, b0, b1};
  void *const *all = exchange(mine);
  int g = thread() % 32 / 4, t = thread() % 4;
  for (int e = 0; e < 4; e++)
    for (int k = 0; k < 16; k++) {
      int lane = k % 8 / 2, shift = k % 2 * 16;
      u32 a = ((u32 *)all[g * 4 + lane])[e / 2 + k / 8 * 2], b = ((u32 *)all[(t * 2 + e % 2) * 4 + lane])[4 + k / 8];
      c[e] += wide(type, (u16)(a >> shift)) * wide(type, (u16)(b >> shift));
    }
  done();
}
