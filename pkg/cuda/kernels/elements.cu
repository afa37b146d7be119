// Kernels that work number by number, or row by row. Eight numbers of 16 bits
// are 16 bytes, which is the most that a thread reads at once.
#include "device.h"

const int flat_threads = 256;

// mix is the finaliser of splitmix64.
DEVICE u64 mix(u64 z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

DEVICE void put(float *out, float v) { *out = v; }
template <class T> DEVICE void put(T *out, float v) { *out = rounded<T>(v); }

template <class T> DEVICE void fill_uniform(T *out, i64 n, u64 seed, float half_width) {
  for (i64 i = (i64)block_x() * flat_threads + thread(); i < n; i += (i64)blocks_x() * flat_threads) {
    float u = (float)(u32)(mix(seed + (u64)(i + 1) * 0x9E3779B97F4A7C15ull) >> 40) * 0x1p-24f;
    put(out + i, product(2 * u - 1, half_width)); // 2u − 1 is exact
  }
}
#define FILL(T, type) \
  KERNEL(flat_threads, fill_uniform_##T, (type * out, i64 n, u64 seed, float half_width)) { fill_uniform(out, n, seed, half_width); }
FILL(bf16, bf16) FILL(f16, f16) FILL(f32, float)

template <class T>
DEVICE void embed(float *x, const T *table, const T *positions, const int *tokens, const int *pos0, int seq, int width) {
  int s = block_x(), row = block_y() * seq + s;
  const T *from = table + (i64)tokens[row] * width;
  const T *position = positions ? positions + (i64)(*pos0 + s) * width : 0;
  for (int i = thread() * 8; i < width; i += 128 * 8) {
    float v[8], p[8] = {};
    unpack<T>(v, load(from + i));
    if (position) unpack<T>(p, load(position + i));
    Float4 *to = (Float4 *)(x + (i64)row * width + i);
    to[0] = {v[0] + p[0], v[1] + p[1], v[2] + p[2], v[3] + p[3]};
    to[1] = {v[4] + p[4], v[5] + p[5], v[6] + p[6], v[7] + p[7]};
  }
}
#define EMBED(T)                                                                                                \
  KERNEL(128, embed_##T,                                                                                        \
         (float *x, const T *table, const T *positions, const int *tokens, const int *pos0, int seq, int width)) { \
    embed(x, table, positions, tokens, pos0, seq, width);                                                       \
  }
FOR_EACH_TYPE(EMBED)

template <class T> DEVICE void add(float *x, const T *y, const T *bias, int rows, int width) {
  u32 each = width / 8, n = rows * each;
  for (u32 i = block_x() * flat_threads + thread(); i < n; i += blocks_x() * flat_threads) {
    float v[8], b[8] = {};
    unpack<T>(v, load(y + (i64)i * 8));
    if (bias) unpack<T>(b, load(bias + i % each * 8));
    Float4 *to = (Float4 *)(x + (i64)i * 8), lo = to[0], hi = to[1];
    to[0] = {lo.x + v[0] + b[0], lo.y + v[1] + b[1], lo.z + v[2] + b[2], lo.w + v[3] + b[3]};
    to[1] = {hi.x + v[4] + b[4], hi.y + v[5] + b[5], hi.z + v[6] + b[6], hi.w + v[7] + b[7]};
  }
}
#define ADD(T) \
  KERNEL(flat_threads, add_##T, (float *x, const T *y, const T *bias, int rows, int width)) { add(x, y, bias, rows, width); }
FOR_EACH_TYPE(ADD)

template <class T> DEVICE void silu_mul(T *out, const T *gate_up, int rows, int ff) {
  u32 each = ff / 8, n = rows * each;
  for (u32 i = block_x() * flat_threads + thread(); i < n; i += blocks_x() * flat_threads) {
    u32 row = i / each;
    const T *gate = gate_up + ((i64)i + (i64)row * each) * 8; // rows of gate_up are twice as long
    float g[8], u[8];
    unpack<T>(g, load(gate));
    unpack<T>(u, load(gate + ff));
    for (int j = 0; j < 8; j++) g[j] = silu(g[j]) * u[j];
    store(out + (i64)i * 8, packed<T>(g));
  }
}
#define SILU_MUL(T) \
  KERNEL(flat_threads, silu_mul_##T, (T *out, const T *gate_up, int rows, int ff)) { silu_mul(out, gate_up, rows, ff); }
FOR_EACH_TYPE(SILU_MUL)

template <class T> DEVICE void gelu_rows(T *x, const T *bias, int rows, int width) {
  u32 each = width / 8, n = rows * each;
  for (u32 i = block_x() * flat_threads + thread(); i < n; i += blocks_x() * flat_threads) {
    float v[8], b[8] = {};
    unpack<T>(v, *(Quad *)(x + (i64)i * 8));
    if (bias) unpack<T>(b, load(bias + i % each * 8));
    for (int j = 0; j < 8; j++) v[j] = gelu(v[j] + b[j]);
    store(x + (i64)i * 8, packed<T>(v));
  }
}
#define GELU(T) \
  KERNEL(flat_threads, gelu_##T, (T *x, const T *bias, int rows, int width)) { gelu_rows(x, bias, rows, width); }
FOR_EACH_TYPE(GELU)

// An angle of a few thousand turns is too large for the GPU's own sine: whole
// turns are taken off first, with 2π in two parts.
DEVICE void sine_cosine(float angle, float &sine, float &cosine) {
  float turns = nearest(angle * 0.15915494309189535f);
  angle = multiply_add(turns, -6.2831854820251465f, angle);
  angle = multiply_add(turns, 1.7484555e-07f, angle);
  sine = sin_small(angle), cosine = cos_small(angle);
}

// A block has 8 heads of one token. A thread has four numbers of a head: two, and
// the two that are half a head further on, with which queries and keys are rotated.
const int split_heads = 8;

template <class T>
DEVICE void split_qkv(T *q, T *kcache, T *vcache, const T *qkv, const T *bias, const int *pos0, const float *frequencies,
                      int seq, int h, int hkv, int d, int max) {
  int s = block_x(), b = block_y(), position = *pos0 + s, heads = h + 2 * hkv, each = d / 4;
  const T *row = qkv + (i64)(b * seq + s) * heads * d;
  for (int item = thread(); item < split_heads * each; item += 256) {
    int head = block_z() * split_heads + item / each, i = item % each * 2;
    if (head >= heads) break;
    float v[4];
    for (int half = 0; half < 2; half++) {
      int from = head * d + half * (d / 2) + i;
      u32 pair = *(const u32 *)(row + from);
      v[half * 2] = low(T{}, pair), v[half * 2 + 1] = high(T{}, pair);
      if (bias) {
        pair = *(const u32 *)(bias + from);
        v[half * 2] += low(T{}, pair), v[half * 2 + 1] += high(T{}, pair);
      }
    }
    if (frequencies && head < h + hkv)
      for (int j = 0; j < 2; j++) {
        float sine, cosine, x = v[j], y = v[j + 2];
        sine_cosine(product((float)position, frequencies[i + j]), sine, cosine);
        v[j] = x * cosine - y * sine, v[j + 2] = y * cosine + x * sine;
      }
    T *to = head < h         ? q + ((i64)(b * h + head) * seq + s) * d
            : head < h + hkv ? kcache + ((i64)(b * hkv + head - h) * max + position) * d
                             : vcache + ((i64)(b * hkv + head - h - hkv) * max + position) * d;
    *(u32 *)(to + i) = pack(T{}, v[0], v[1]);
    *(u32 *)(to + d / 2 + i) = pack(T{}, v[2], v[3]);
  }
}
#define SPLIT_QKV(T)                                                                                             \
  KERNEL(256, split_qkv_##T,                                                                                     \
         (T *q, T *kcache, T *vcache, const T *qkv, const T *bias, const int *pos0, const float *frequencies,    \
          int seq, int h, int hkv, int d, int max)) {                                                            \
    split_qkv(q, kcache, vcache, qkv, bias, pos0, frequencies, seq, h, hkv, d, max);                             \
  }
FOR_EACH_TYPE(SPLIT_QKV)

// A block has a row, and reads it anew for each sum: it is in the cache by then.
const int norm_threads = 512;

// block_sum is the sum over the threads of a block.
DEVICE float block_sum(float v) {
  __shared__ float sums[norm_threads / 32];
  v = sum<32>(v);
  barrier(); // the sums of the call before have been read
  if (thread() % 32 == 0) sums[thread() / 32] = v;
  barrier();
  v = 0;
  for (int i = 0; i < norm_threads / 32; i++) v += sums[i];
  return v;
}

DEVICE float row_sum_squares(const float *x, int width, float mean) {
  float s = 0;
  for (int i = thread() * 4; i < width; i += norm_threads * 4) {
    Float4 v = load_floats(x + i);
    s += (v.x - mean) * (v.x - mean) + (v.y - mean) * (v.y - mean) + (v.z - mean) * (v.z - mean) + (v.w - mean) * (v.w - mean);
  }
  return block_sum(s);
}

template <class T> DEVICE void unpack_four(float (&f)[4], const T *p) {
  u32 lower = *(const u32 *)p, upper = *(const u32 *)(p + 2);
  f[0] = low(T{}, lower), f[1] = high(T{}, lower), f[2] = low(T{}, upper), f[3] = high(T{}, upper);
}

// come_soon has a row of weights on its way while the sums are made: between two
// tokens so much else is read that they are not in the cache any more.
template <class T> DEVICE void come_soon(const T *weight, int width) {
  const int line = 64;
  for (int i = thread() * line; i < width; i += norm_threads * line) prefetch(weight + i);
}

// scaled_row is y = (x − mean)·scale·weight + bias.
template <class T>
DEVICE void scaled_row(T *y, const float *x, const T *weight, const T *bias, int width, float mean, float scale) {
  for (int i = thread() * 4; i < width; i += norm_threads * 4) {
    Float4 v = load_floats(x + i);
    float f[4] = {v.x, v.y, v.z, v.w};
    float weights[4], biases[4] = {};
    unpack_four<T>(weights, weight + i);
    if (bias) unpack_four<T>(biases, bias + i);
    for (int j = 0; j < 4; j++) f[j] = (f[j] - mean) * scale * weights[j] + biases[j];
    *(u32 *)(y + i) = pack(T{}, f[0], f[1]);
    *(u32 *)(y + i + 2) = pack(T{}, f[2], f[3]);
  }
}

template <class T> DEVICE void norm_rms(T *y, const float *x, const T *weight, int rows, int width, float eps) {
  i64 at = (i64)block_x() * width;
  come_soon(weight, width);
  float squares = row_sum_squares(x + at, width, 0);
  scaled_row(y + at, x + at, weight, (const T *)0, width, 0, inverse_root(squares / width + eps));
}
#define NORM_RMS(T)                                                                                              \
  KERNEL(norm_threads, norm_rms_##T, (T *y, const float *x, const T *weight, int rows, int width, float eps)) { \
    norm_rms(y, x, weight, rows, width, eps);                                                                    \
  }
FOR_EACH_TYPE(NORM_RMS)

template <class T>
DEVICE void norm_layer(T *y, const float *x, const T *weight, const T *bias, int rows, int width, float eps) {
  i64 at = (i64)block_x() * width;
  come_soon(weight, width);
  come_soon(bias, width);
  float s = 0;
  for (int i = thread() * 4; i < width; i += norm_threads * 4) {
    Float4 v = load_floats(x + at + i);
    s += v.x + v.y + v.z + v.w;
  }
  float mean = block_sum(s) / width;
  float squares = row_sum_squares(x + at, width, mean);
  scaled_row(y + at, x + at, weight, bias, width, mean, inverse_root(squares / width + eps));
}
#define NORM_LAYER(T)                                                                                 \
  KERNEL(norm_threads, norm_layer_##T,                                                                \
         (T *y, const float *x, const T *weight, const T *bias, int rows, int width, float eps)) {   \
    norm_layer(y, x, weight, bias, rows, width, eps);                                                \
  }
FOR_EACH_TYPE(NORM_LAYER)

// Best is the largest number so far, and where it is.
struct Best {
  float value;
  int at;
};
DEVICE void consider(Best &best, float value, int at) {
  if (value > best.value || (value == best.value && at < best.at)) best = {value, at};
}

// A row begins at any multiple of 2 bytes: what comes before the first multiple of
// 16, and after the last, is read singly.
const int argmax_threads = 1024;

template <class T> DEVICE void argmax(int *token, const T *logits, int rows, int vocab) {
  __shared__ Best bests[argmax_threads / 32];
  const T *row = logits + (i64)block_x() * vocab;
  int before = (16 - (u64)row % 16) % 16 / 2;
  if (before > vocab) before = vocab;
  int eights = (vocab - before) / 8;
  Best best = {-infinity(), 0x7fffffff};
  for (int i = thread(); i < eights; i += argmax_threads) {
    float v[8];
    unpack<T>(v, load(row + before + i * 8));
    for (int j = 0; j < 8; j++) consider(best, v[j], before + i * 8 + j);
  }
  int rest = vocab - eights * 8, i = thread() < before ? thread() : thread() + eights * 8;
  if (thread() < rest) consider(best, number(row[i]), i);

  for (int round = 0;; round++) {
    for (int bit = 16; bit > 0; bit /= 2) {
      Best other = {from_lane(best.value, bit), from_lane(best.at, bit)};
      consider(best, other.value, other.at);
    }
    if (round == 1) break;
    if (thread() % 32 == 0) bests[thread() / 32] = best;
    barrier();
    best = bests[thread() % 32];
  }
  if (thread() == 0) token[block_x()] = best.at;
}
#define ARGMAX(T) \
  KERNEL(argmax_threads, argmax_##T, (int *token, const T *logits, int rows, int vocab)) { argmax(token, logits, rows, vocab); }
FOR_EACH_TYPE(ARGMAX)

KERNEL(1, advance, (int *pos, int by)) { *pos += by; }
