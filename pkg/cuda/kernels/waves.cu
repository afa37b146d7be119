// Loads that are only meant to keep a part of the GPU busy: its ordinary cores,
// and its memory.
#include "device.h"

// A block makes 128×128 numbers, a thread 8×8 of these: 4×4 in each quarter, a
// warp's 4 threads down by 8 across, so that what it reads at once is side by side. Eight
// numbers of k are in shared memory while the next eight come, and one's numbers are in
// registers while the next one's come. Two blocks share a multiprocessor: while one waits at
// its barrier, the other computes.
const int tile = 128, deep = 8;

KERNEL(TWO_OF(256), matmul_f32, (float *c, const float *a, const float *b, int n)) {
  const int pitch_a = (tile + 4) * 4, pitch_b = tile * 4; // bytes from one number of k to the next
  alignas(16) __shared__ char as[2 * deep * pitch_a], bs[2 * deep * pitch_b];
  int tiles = n / tile, row0 = block_x() / tiles * tile, column0 = block_x() % tiles * tile;
  int lane = thread() % 32, warp = thread() / 32;
  int y = (warp / 2 * 4 + lane / 8) * 4, x = (warp % 2 * 8 + lane % 8) * 4;

  int row = thread() / 2, unit = thread() % 2 * 4; // of a, which is turned
  const float *from_a = a + (i64)(row0 + row) * n + unit;
  int deepest = thread() / 32, column = thread() % 32 * 4;
  const float *from_b = b + (i64)deepest * n + column0 + column;
  Shared to_a = shared(as) + unit * pitch_a + row * 4, to_b = shared(bs) + deepest * pitch_b + column * 4;
  auto put = [&](int stage, Float4 v) {
    Shared to = whole(to_a + stage * deep * pitch_a);
    write(to, v.x), write(to + pitch_a, v.y), write(to + 2 * pitch_a, v.z), write(to + 3 * pitch_a, v.w);
  };

  copy_async(to_b, from_b, true);
  put(0, load_floats(from_a));
  float sums[8][8] = {}, av[2][8], bv[2][8];
  for (int k = 0; k < n; k += deep) {
    int stage = k / deep % 2;
    commit();
    wait<0>();
    barrier(); // this stage is there, and none reads the other any more
    Float4 next = {};
    if (k + deep < n) {
      from_b += (i64)deep * n;
      copy_async(to_b + (1 - stage) * deep * pitch_b, from_b, true);
      next = load_floats(from_a + k + deep);
    }
    Shared at_a = whole(shared(as) + stage * deep * pitch_a + y * 4), at_b = whole(shared(bs) + stage * deep * pitch_b + x * 4);
    auto fetch = [&](int d) {
      for (int half = 0; half < 2; half++) {
        Float4 p = read_floats(at_a + d * pitch_a + half * 256), q = read_floats(at_b + d * pitch_b + half * 256);
        float *to_a = av[d % 2] + half * 4, *to_b = bv[d % 2] + half * 4;
        to_a[0] = p.x, to_a[1] = p.y, to_a[2] = p.z, to_a[3] = p.w;
        to_b[0] = q.x, to_b[1] = q.y, to_b[2] = q.z, to_b[3] = q.w;
      }
    };
    fetch(0);
#pragma unroll
    for (int d = 0; d < deep; d++) {
      if (d + 1 < deep) fetch(d + 1);
#pragma unroll
      for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) sums[i][j] = multiply_add(av[d % 2][i], bv[d % 2][j], sums[i][j]);
    }
    if (k + deep < n) put(1 - stage, next);
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
