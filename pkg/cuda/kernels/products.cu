// Products of matrices out[m,n] = a[m,k]·w[n,k]ᵀ on tensor cores: large ones, and
// those of a few rows. Both read eight numbers of 16 bits at once along k.
#include "device.h"

// What becomes of a number of the product.
template <class T> struct Store {
  typedef T Out;
  DEVICE void put(T *out, float v) { *out = rounded<T>(v); }
};
template <class T> struct Add {
  typedef float Out;
  DEVICE void put(float *out, float v) { *out += v; }
};
template <class T> struct Gelu {
  typedef T Out;
  DEVICE void put(T *out, float v) { *out = rounded<T>(gelu(v)); }
};

// A block makes a tile of TM×TN numbers with WM×WN warps. Of a and w it keeps
// `depth` numbers along k for each row, in `stages` that are filled while others are
// used. A row there is 128 bytes, eight units of 16; unit c of row r is at place
// c ^ r%8, so that eight rows' units c are in different banks.
const int depth = 64, stages = 3, row_bytes = depth * 2;

template <class T, int TM, int TN, int WM, int WN, class Epilogue>
DEVICE void gemm(typename Epilogue::Out *out, const T *a, const T *w, const T *bias, int m, int n, int k) {
  const int threads = WM * WN * 32, rows_at_once = threads / 8, stage_bytes = (TM + TN) * row_bytes;
  const int MI = TM / WM / 16, NI = TN / WN / 8, steps = depth / 16;
  int lane = thread() % 32, warp = thread() / 32;

  // Blocks that run at the same time have tiles near each other, up to 8 high,
  // so that they share rows of a and w in the cache.
  int high = (m + TM - 1) / TM, wide = (n + TN - 1) / TN;
  int first = block_x() / (8 * wide) * 8, among = high - first < 8 ? high - first : 8, id = block_x() % (8 * wide);
  int m0 = (first + id % among) * TM, n0 = id / among * TN;

  // Each thread brings one unit of every rows_at_once-th row.
  Shared memory = dynamic();
  int unit = thread() % 8, row0 = thread() / 8;
  Shared place = memory + row0 * row_bytes + ((unit ^ row0 % 8) << 4);
  const T *from_a = a + (i64)(m0 + row0) * k + unit * 8, *from_w = w + (i64)(n0 + row0) * k + unit * 8;
  auto fill = [&](int tile) {
    Shared to = place + tile % stages * stage_bytes;
    bool inside = tile * depth + unit * 8 < k;
#pragma unroll
    for (int i = 0; i < TM / rows_at_once; i++) {
      bool there = inside && m0 + row0 + i * rows_at_once < m;
      copy_async(to + i * rows_at_once * row_bytes, there ? from_a + (i64)i * rows_at_once * k + tile * depth : a, there);
    }
#pragma unroll
    for (int i = 0; i < TN / rows_at_once; i++) {
      bool there = inside && n0 + row0 + i * rows_at_once < n;
      copy_async(to + (TM + i * rows_at_once) * row_bytes, there ? from_w + (i64)i * rows_at_once * k + tile * depth : w, there);
    }
  };

  // A warp reads 16 rows of a at once, the lanes of its upper half the second
  // unit of each; and 16 rows of w, where it is every other eight lanes.
  int wm = warp / WN * (TM / WM), wn = warp % WN * (TN / WN);
  Shared rows_a = memory + (wm + lane % 16) * row_bytes;
  Shared rows_w = memory + (TM + wn + lane / 16 * 8 + lane % 8) * row_bytes;
  int unit_a = (lane / 16 ^ lane % 8) << 4, unit_w = (lane / 8 % 2 ^ lane % 8) << 4;
  u32 fa[2][MI][4], fw[2][NI / 2][4];
  auto read = [&](int which, int stage, int step) {
#pragma unroll
    for (int i = 0; i < MI; i++) read_tiles(fa[which][i], rows_a + stage * stage_bytes + i * 16 * row_bytes + (unit_a ^ step << 5));
#pragma unroll
    for (int j = 0; j < NI / 2; j++) read_tiles(fw[which][j], rows_w + stage * stage_bytes + j * 16 * row_bytes + (unit_w ^ step << 5));
  };

  float sums[MI][NI][4] = {};
  int tiles = (k + depth - 1) / depth, stage = 0;
  for (int i = 0; i < stages - 1; i++) {
    fill(i);
    commit();
  }
  wait<stages - 2>();
  barrier();
  read(0, 0, 0);
  for (int tile = 0; tile < tiles; tile++) {
#pragma unroll
    for (int step = 0; step < steps; step++) {
      // The next step's numbers come while this step's are multiplied.
      if (step == steps - 1) {
        wait<stages - 2>();
        barrier(); // the next tile is there, and none reads this one any more
        stage = stage == stages - 1 ? 0 : stage + 1;
      }
      read((step + 1) % 2, stage, (step + 1) % steps);
      if (step == 0) {
        fill(tile + stages - 1);
        commit();
      }
#pragma unroll
      for (int i = 0; i < MI; i++)
#pragma unroll
        for (int j = 0; j < NI; j++) {
          u32 *x = fa[step % 2][i], *y = fw[step % 2][j / 2] + j % 2 * 2;
          multiply(T{}, sums[i][j], x[0], x[1], x[2], x[3], y[0], y[1]);
        }
    }
  }

#pragma unroll
  for (int i = 0; i < MI; i++)
#pragma unroll
    for (int j = 0; j < NI; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        int row = m0 + wm + i * 16 + lane / 4 + e / 2 * 8, column = n0 + wn + j * 8 + lane % 4 * 2 + e % 2;
        if (row < m && column < n) Epilogue::put(out + (i64)row * n + column, sums[i][j][e] + (bias ? number(bias[column]) : 0));
      }
}
#define GEMM(T, name, Out, Epilogue)                                                                            \
  KERNEL(256, name##_##T, (Out * out, const T *a, const T *w, const T *bias, int m, int n, int k)) {            \
    gemm<T, 128, 256, 2, 4, Epilogue<T>>(out, a, w, bias, m, n, k);                                             \
  }                                                                                                             \
  KERNEL(128, name##_##T##_small, (Out * out, const T *a, const T *w, const T *bias, int m, int n, int k)) {    \
    gemm<T, 64, 64, 2, 2, Epilogue<T>>(out, a, w, bias, m, n, k);                                               \
  }
GEMM(bf16, gemm, bf16, Store) GEMM(f16, gemm, f16, Store)
GEMM(bf16, gemm_add, float, Add) GEMM(f16, gemm_add, float, Add)

// A product of up to 16 rows of a is bound by reading w. A block has GROUPS times
// 8 rows of w, and its eight warps share k among them. Which number of k is which of
// the tensor core's does not matter, as long as it is so for a and w: each lane
// brings eight in a row as they lie in memory, and these are what it has in two steps.
const int gemv_warps = 8, chunks = 4, chunk = 32;

template <class T, int GROUPS, class Finish>
DEVICE void gemv(const T *a, const T *w, int m, int k, const int (&rows)[GROUPS], Finish finish) {
  __shared__ float parts[gemv_warps][GROUPS][16][8];
  int lane = thread() % 32, warp = thread() / 32, g = lane / 4, t = lane % 4;
  const T *from[GROUPS], *lower = a + (i64)g * k, *upper = a + (i64)(g + 8) * k;
  float sums[GROUPS][4] = {};
#pragma unroll
  for (int j = 0; j < GROUPS; j++) from[j] = w + (i64)rows[j] * k;
  for (int k0 = warp * chunks * chunk; k0 < k; k0 += gemv_warps * chunks * chunk) {
    Quad x[chunks], y[chunks], v[chunks][GROUPS];
#pragma unroll
    for (int c = 0; c < chunks; c++) {
      int at = k0 + c * chunk + t * 8;
#pragma unroll
      for (int j = 0; j < GROUPS; j++) v[c][j] = load(from[j] + at, at < k);
      x[c] = load(lower + at, at < k && g < m);
      y[c] = load(upper + at, at < k && g + 8 < m);
    }
#pragma unroll
    for (int c = 0; c < chunks; c++)
#pragma unroll
      for (int j = 0; j < GROUPS; j++) {
        multiply(T{}, sums[j], x[c].x, y[c].x, x[c].y, y[c].y, v[c][j].x, v[c][j].y);
        multiply(T{}, sums[j], x[c].z, y[c].z, x[c].w, y[c].w, v[c][j].z, v[c][j].w);
      }
  }
#pragma unroll
  for (int j = 0; j < GROUPS; j++)
#pragma unroll
    for (int e = 0; e < 4; e++) parts[warp][j][g + e / 2 * 8][t * 2 + e % 2] = sums[j][e];
  barrier();
  if (thread() < 128 && thread() / 8 < m) {
    float total[GROUPS] = {};
#pragma unroll
    for (int j = 0; j < GROUPS; j++)
      for (int i = 0; i < gemv_warps; i++) total[j] += parts[i][j][thread() / 8][thread() % 8];
    finish(thread() / 8, thread() % 8, total);
  }
}

// gemv_rows has GROUPS groups of rows that follow each other.
template <class T, int GROUPS, class Epilogue>
DEVICE void gemv_rows(typename Epilogue::Out *out, const T *a, const T *w, const T *bias, int m, int n, int k) {
  int n0 = block_x() * 8 * GROUPS, rows[GROUPS];
#pragma unroll
  for (int j = 0; j < GROUPS; j++) {
    int row = n0 + j * 8 + thread() % 32 / 4;
    rows[j] = row < n ? row : n - 1; // beyond the last, what comes of it is dropped
  }
  gemv<T, GROUPS>(a, w, m, k, rows, [=](int row, int column, const float (&total)[GROUPS]) {
#pragma unroll
    for (int j = 0; j < GROUPS; j++) {
      int at = n0 + j * 8 + column;
      if (at < n) Epilogue::put(out + (i64)row * n + at, total[j] + (bias ? number(bias[at]) : 0));
    }
  });
}
#define GEMV(T, name, Out, Epilogue)                                                                            \
  KERNEL(256, name##_##T, (Out * out, const T *a, const T *w, const T *bias, int m, int n, int k)) {            \
    gemv_rows<T, 1, Epilogue<T>>(out, a, w, bias, m, n, k);                                                     \
  }                                                                                                             \
  KERNEL(256, name##_##T##_wide, (Out * out, const T *a, const T *w, const T *bias, int m, int n, int k)) {     \
    gemv_rows<T, 2, Epilogue<T>>(out, a, w, bias, m, n, k);                                                     \
  }
GEMV(bf16, gemv, bf16, Store) GEMV(f16, gemv, f16, Store)
GEMV(bf16, gemv_add, float, Add) GEMV(f16, gemv_add, float, Add)
GEMV(bf16, gemv_gelu, bf16, Gelu) GEMV(f16, gemv_gelu, f16, Gelu)

// gemv_silu has a group of the gate's rows, and that of the same rows of up.
template <class T> DEVICE void gemv_silu(T *out, const T *a, const T *w, int m, int ff, int k) {
  int n0 = block_x() * 8, row = n0 + thread() % 32 / 4;
  if (row >= ff) row = ff - 1;
  const int rows[2] = {row, ff + row};
  gemv<T, 2>(a, w, m, k, rows, [=](int row, int column, const float (&total)[2]) {
    if (n0 + column < ff) out[(i64)row * ff + n0 + column] = rounded<T>(silu(total[0]) * total[1]);
  });
}
#define GEMV_SILU(T) \
  KERNEL(256, gemv_silu_##T, (T *out, const T *a, const T *w, int m, int ff, int k)) { gemv_silu(out, a, w, m, ff, k); }
FOR_EACH_TYPE(GEMV_SILU)
