// Loads that are only meant to keep a part of the GPU busy: its ordinary cores,
// and its memory.
#include "device.h"

// A block makes 128×128 numbers, a thread 8×8 of these: 4×4 in each quarter,
// so that neighbours read what is side by side. Eight numbers of k are in shared memory
// while the next eight come.
const int tile = 128, deep = 8;

KERNEL(256, matmul_f32, (float *c, const float *a, const float *b, int n)) {
  alignas(16) __shared__ float as[2][deep][tile + 4], bs[2][deep][tile];
  int tiles = n / tile, row0 = block_x() / tiles * tile, column0 = block_x() % tiles * tile;
  int y = thread() / 16 * 4, x = thread() % 16 * 4;

  int row = thread() / 2, unit = thread() % 2 * 4; // of a, which is turned
  const float *from_a = a + (i64)(row0 + row) * n + unit;
  int deepest = thread() / 32, column = thread() % 32 * 4;
  const float *from_b = b + (i64)deepest * n + column0 + column;
  Float4 va, vb;
  auto fetch = [&](int k) { va = load_floats(from_a + k), vb = load_floats(from_b + (i64)k * n); };
  auto put = [&](int stage) {
    as[stage][unit][row] = va.x, as[stage][unit + 1][row] = va.y, as[stage][unit + 2][row] = va.z, as[stage][unit + 3][row] = va.w;
    *(Float4 *)&bs[stage][deepest][column] = vb;
  };

  float sums[8][8] = {};
  fetch(0);
  put(0);
  barrier();
  for (int k = 0; k < n; k += deep) {
    int stage = k / deep % 2;
    if (k + deep < n) fetch(k + deep);
#pragma unroll
    for (int d = 0; d < deep; d++) {
      Float4 a0 = *(Float4 *)&as[stage][d][y], a1 = *(Float4 *)&as[stage][d][y + 64];
      Float4 b0 = *(Float4 *)&bs[stage][d][x], b1 = *(Float4 *)&bs[stage][d][x + 64];
      float av[8] = {a0.x, a0.y, a0.z, a0.w, a1.x, a1.y, a1.z, a1.w};
      float bv[8] = {b0.x, b0.y, b0.z, b0.w, b1.x, b1.y, b1.z, b1.w};
#pragma unroll
      for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) sums[i][j] = multiply_add(av[i], bv[j], sums[i][j]);
    }
    if (k + deep < n) put(1 - stage);
    barrier();
  }
#pragma unroll
  for (int i = 0; i < 8; i++)
#pragma unroll
    for (int j = 0; j < 8; j += 4) {
      float *to = c + (i64)(row0 + y + i % 4 + i / 4 * 64) * n + column0 + x + j / 4 * 64;
      *(Float4 *)to = {sums[i][j], sums[i][j + 1], sums[i][j + 2], sums[i][j + 3]};
    }
}

KERNEL(256, copy, (Quad *out, const Quad *in, i64 n)) {
  const int each = 4;
  i64 first = (i64)block_x() * each * 256 + thread();
  Quad v[each];
#pragma unroll
  for (int i = 0; i < each; i++)
    if (first + i * 256 < n) v[i] = load(in + first + i * 256);
#pragma unroll
  for (int i = 0; i < each; i++)
    if (first + i * 256 < n) store(out + first + i * 256, v[i]);
}
