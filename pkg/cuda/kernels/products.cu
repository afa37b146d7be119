// Products of matrices out[m,n] = a[m,k]·w[n,k]ᵀ on tensor cores: large ones, and
// those of a few rows. Both read eight numbers of 16 bits at once along k.
#include "device.h"

// A block makes a tile of TM×TN numbers with WM×WN warps. Of a and w it keeps
// `depth` numbers along k for each row, in `stages` that are filled while others are
// used. A row there is 128 bytes, eight units of 16; unit c of row r is at place
// c ^ r%8, so that eight rows' units c are in different banks. Rows beyond the last
// are that one again, and what comes of them is dropped.
const int depth = 64, stages = 3, row_bytes = depth * 2;

template <class T, int TM, int TN, int WM, int WN>
DEVICE void gemm(T *out, float *x, const T *a, const T *w, const T *bias, int m, int n, int k) {
  const int threads = WM * WN * 32, rows_at_once = threads / 8, stage_bytes = (TM + TN) * row_bytes;
  const int MI = TM / WM / 16, NI = TN / WN / 8, steps = depth / 16;
  int lane = thread() % 32, warp = thread() / 32;

  // Blocks that run at the same time have tiles near each other, up to 8 high,
  // so that they share rows of a and w in the cache.
  int high = (m + TM - 1) / TM, wide = (n + TN - 1) / TN;
  int first = block_x() / (8 * wide) * 8, among = high - first < 8 ? high - first : 8, id = block_x() % (8 * wide);
  int m0 = (first + id % among) * TM, n0 = id / among * TN;

  // Each thread brings one unit of every rows_at_once-th row, some with each step
  // but the last, before which it waits.
  const int pieces_a = TM / rows_at_once, pieces = pieces_a + TN / rows_at_once, per_step = (pieces + steps - 2) / (steps - 1);
  Shared memory = dynamic();
  int unit = thread() % 8, row0 = thread() / 8;
  Shared place = memory + row0 * row_bytes + ((unit ^ row0 % 8) << 4);
  const T *from_a = a + (i64)m0 * k + unit * 8, *from_w = w + (i64)n0 * k + unit * 8;
  u32 offsets[pieces]; // in bytes
#pragma unroll
  for (int i = 0; i < pieces; i++) {
    int row = row0 + (i < pieces_a ? i : i - pieces_a) * rows_at_once, last = i < pieces_a ? m - 1 - m0 : n - 1 - n0;
    offsets[i] = (u32)(row < last ? row : last) * k * 2;
  }
  auto fill = [&](int tile, int stage, int i) {
    const void *from = further((i < pieces_a ? from_a : from_w) + tile * depth, offsets[i]);
    copy_async(place + stage * stage_bytes + i * rows_at_once * row_bytes, from, tile * depth + unit * 8 < k);
  };

  // A warp reads 16 rows of a at once, the lanes of its upper half the second
  // unit of each; and 16 rows of w, where it is every other eight lanes.
  int wm = warp / WN * (TM / WM), wn = warp % WN * (TN / WN);
  Shared rows_a = memory + (wm + lane % 16) * row_bytes;
  Shared rows_w = memory + (TM + wn + lane / 16 * 8 + lane % 8) * row_bytes;
  int unit_a = (lane / 16 ^ lane % 8) << 4, unit_w = (lane / 8 % 2 ^ lane % 8) << 4;
  u32 fa[2][MI][4], fw[2][NI / 2][4];
  auto fetch = [&](int which, int stage, int step) {
    Shared at_a = whole(rows_a + stage * stage_bytes + (unit_a ^ step << 5));
    Shared at_w = whole(rows_w + stage * stage_bytes + (unit_w ^ step << 5));
#pragma unroll
    for (int i = 0; i < MI; i++) read_tiles(fa[which][i], at_a + i * 16 * row_bytes);
#pragma unroll
    for (int j = 0; j < NI / 2; j++) read_tiles(fw[which][j], at_w + j * 16 * row_bytes);
  };

  float sums[MI][NI][4] = {};
  int tiles = (k + depth - 1) / depth, stage = 0, next = stages - 1;
#pragma unroll
  for (int tile = 0; tile < stages - 1; tile++) {
#pragma unroll
    for (int i = 0; i < pieces; i++) fill(tile, tile, i);
    commit();
  }
  wait<stages - 2>();
  barrier();
  fetch(0, 0, 0);
  for (int tile = 0; tile < tiles; tile++) {
#pragma unroll
    for (int step = 0; step < steps; step++) {
      // The next step's numbers come while this step's are multiplied.
      if (step == steps - 1) {
        wait<stages - 2>();
        barrier(); // the next tile is there, and none reads this one any more
        stage = stage == stages - 1 ? 0 : stage + 1, next = next == stages - 1 ? 0 : next + 1;
      }
      fetch((step + 1) % 2, stage, (step + 1) % steps);
      if (step < steps - 1) {
#pragma unroll
        for (int i = step * per_step; i < (step + 1) * per_step && i < pieces; i++) fill(tile + stages - 1, next, i);
        if (step == steps - 2) commit();
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

  // Each warp turns its sums in a part of the memory, to have eight in a row.
  const int columns = NI * 8, pitch = (columns + 8) * 4, warp_bytes = MI * 16 * pitch;
  static_assert(warp_bytes * WM * WN <= stages * stage_bytes, "the sums have room");
  wait<0>();
  barrier();
  Shared mine = memory + warp * warp_bytes;
#pragma unroll
  for (int i = 0; i < MI; i++)
#pragma unroll
    for (int j = 0; j < NI; j++)
#pragma unroll
      for (int half = 0; half < 2; half++)
        write(mine + (i * 16 + half * 8 + lane / 4) * pitch + (j * 8 + lane % 4 * 2) * 4, {sums[i][j][half * 2], sums[i][j][half * 2 + 1]});
  warp_barrier();
#pragma unroll 1
  for (int i = lane; i < MI * 16 * NI; i += 32) {
    int row = m0 + wm + i / NI, column = n0 + wn + i % NI * 8;
    if (row >= m || column >= n) continue;
    Shared from = mine + i / NI * pitch + i % NI * 32;
    Float4 lower = read_floats(from), upper = read_floats(from + 16);
    float v[8] = {lower.x, lower.y, lower.z, lower.w, upper.x, upper.y, upper.z, upper.w};
    i64 at = (i64)row * n + column;
    if (n % 8 == 0) {
      float b[8] = {};
      if (bias) unpack<T>(b, load(bias + column));
      for (int e = 0; e < 8; e++) v[e] += b[e];
      if (x) {
        Float4 *to = (Float4 *)(x + at), lo = to[0], hi = to[1];
        to[0] = {lo.x + v[0], lo.y + v[1], lo.z + v[2], lo.w + v[3]};
        to[1] = {hi.x + v[4], hi.y + v[5], hi.z + v[6], hi.w + v[7]};
      } else
        store(out + at, packed<T>(v));
    } else
#pragma unroll
      for (int e = 0; e < 8; e++)
        if (column + e < n) {
          float f = v[e] + (bias ? number(bias[column + e]) : 0);
          if (x) x[at + e] += f;
          else out[at + e] = rounded<T>(f);
        }
  }
}
#define GEMM(T)                                                                                                      \
  KERNEL(256, gemm_##T, (T *out, float *x, const T *a, const T *w, const T *bias, int m, int n, int k)) {            \
    gemm<T, 128, 256, 2, 4>(out, x, a, w, bias, m, n, k);                                                            \
  }                                                                                                                  \
  KERNEL(256, gemm_##T##_middle, (T *out, float *x, const T *a, const T *w, const T *bias, int m, int n, int k)) {   \
    gemm<T, 128, 192, 2, 4>(out, x, a, w, bias, m, n, k);                                                            \
  }                                                                                                                  \
  KERNEL(128, gemm_##T##_small, (T *out, float *x, const T *a, const T *w, const T *bias, int m, int n, int k)) {    \
    gemm<T, 64, 64, 2, 2>(out, x, a, w, bias, m, n, k);                                                              \
  }
FOR_EACH_TYPE(GEMM)

// A product of up to 16 rows of a is bound by reading w, for which enough of it must
// be under way at any time. A block has GROUPS times 16 rows of w, and its eight
// warps share k among them, in turns of `chunk` numbers: 128 bytes of each row, a
// line of the cache. Each warp has a ring of its own in shared memory, of which all
// stages but one are being filled while that one is used, and waits for no other warp.
// Of a stage's row r, unit c of 16 bytes is at place c ^ r%2·4, so that the eight
// lanes whose turn it is read from different banks.
//
// Which number of k is which of the tensor core's does not matter, as long as it is so
// for a and w: each lane takes eight in a row as they lie in memory, and these are
// what it has in two steps. w is the 16 rows of a step, and a SETS times its 8 columns.
const int gemv_warps = 8, chunk = 64, chunk_bytes = chunk * 2;

template <class T, int GROUPS, int SETS, int PARTS, class Row, class Finish>
DEVICE void gemv(const T *a, const T *w, int m, int k, Row row_of_w, Finish finish) {
  const int rows = GROUPS * 16, ring = GROUPS == 1 ? 4 : 3, stage_bytes = rows * chunk_bytes, ring_bytes = ring * stage_bytes;
  int lane = thread() % 32, warp = thread() / 32, g = lane / 4, t = lane % 4;
  Shared memory = dynamic(), mine = memory + warp * ring_bytes;

  // A lane brings one unit of every fourth row. Of one that is not there nothing
  // is read, wherever it would be.
  int unit = lane % 8, row0 = lane / 8, first = warp * chunk;
  const T *from[rows / 4];
#pragma unroll
  for (int i = 0; i < rows / 4; i++) from[i] = w + (i64)row_of_w(i * 4 + row0) * k + first + unit * 8;
  Shared place = mine + row0 * chunk_bytes + ((unit ^ row0 % 2 * 4) << 4);
  auto fill = [&](int turn, int stage) {
    int at = turn * gemv_warps * chunk;
    bool there = first + at + unit * 8 < k;
#pragma unroll
    for (int i = 0; i < rows / 4; i++) copy_async(place + stage * stage_bytes + i * 4 * chunk_bytes, from[i] + at, there);
    commit();
  };

  float sums[GROUPS][SETS][4] = {};
  const T *from_a = a + (i64)g * k + first + t * 8;
  Shared mine_now = mine + g * chunk_bytes;
#pragma unroll
  for (int i = 0; i < ring - 1; i++) fill(i, i);
  int stage = 0, next = ring - 1;
  for (int turn = 0; first + turn * gemv_warps * chunk < k; turn++) {
    int at = turn * gemv_warps * chunk;
    Quad x[SETS][2];
#pragma unroll
    for (int s = 0; s < SETS; s++)
#pragma unroll
      for (int half = 0; half < 2; half++)
        x[s][half] = load(from_a + (i64)s * 8 * k + at + half * 32, g + s * 8 < m && first + at + half * 32 + t * 8 < k);
    wait<ring - 2>();
    warp_barrier(); // this stage is there, and none reads the one before any more
    fill(turn + ring - 1, next);
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
      for (int j = 0; j < GROUPS; j++) {
        Shared at = mine_now + stage * stage_bytes + j * 16 * chunk_bytes + ((t + half * 4 ^ g % 2 * 4) << 4);
        Quad lower = read(at), upper = read(at + 8 * chunk_bytes);
#pragma unroll
        for (int s = 0; s < SETS; s++) {
          multiply(T{}, sums[j][s], lower.x, upper.x, lower.y, upper.y, x[s][half].x, x[s][half].y);
          multiply(T{}, sums[j][s], lower.z, upper.z, lower.w, upper.w, x[s][half].z, x[s][half].w);
        }
      }
    stage = stage == ring - 1 ? 0 : stage + 1, next = next == ring - 1 ? 0 : next + 1;
  }

  // The warps' sums go where their rings were. A thread has the sums of PARTS rows of w.
  wait<0>();
  warp_barrier();
#pragma unroll
  for (int j = 0; j < GROUPS; j++)
#pragma unroll
    for (int s = 0; s < SETS; s++)
#pragma unroll
      for (int e = 0; e < 4; e++)
        write(mine + ((s * 8 + t * 2 + e % 2) * rows + j * 16 + g + e / 2 * 8) * 4, sums[j][s][e]);
  barrier();
  const int columns = rows / PARTS;
  for (int i = thread(); i < SETS * 8 * columns; i += gemv_warps * 32) {
    int row = i / columns, column = i % columns;
    if (row >= m) break;
    float total[PARTS] = {};
#pragma unroll
    for (int p = 0; p < PARTS; p++)
#pragma unroll
      for (int from = 0; from < gemv_warps; from++)
        total[p] += read_float(memory + from * ring_bytes + (row * rows + p * columns + column) * 4);
    finish(row, column, total);
  }
}

// What becomes of a number of gemv_rows.
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

// gemv_rows has rows that follow each other.
template <class T, int GROUPS, int SETS, class Epilogue>
DEVICE void gemv_rows(typename Epilogue::Out *out, const T *a, const T *w, const T *bias, int m, int n, int k) {
  int n0 = block_x() * 16 * GROUPS;
  auto row_of_w = [=](int r) { return n0 + r < n ? n0 + r : n - 1; }; // beyond the last, what comes of it is dropped
  gemv<T, GROUPS, SETS, 1>(a, w, m, k, row_of_w, [=](int row, int column, const float (&total)[1]) {
    int at = n0 + column;
    if (at < n) Epilogue::put(out + (i64)row * n + at, total[0] + (bias ? number(bias[at]) : 0));
  });
}
#define GEMV(T, name, Out, Epilogue)                                                                            \
  KERNEL(256, name##_##T, (Out * out, const T *a, const T *w, const T *bias, int m, int n, int k)) {            \
    gemv_rows<T, 1, 1, Epilogue<T>>(out, a, w, bias, m, n, k);                                                  \
  }                                                                                                             \
  KERNEL(256, name##_##T##_wide, (Out * out, const T *a, const T *w, const T *bias, int m, int n, int k)) {     \
    gemv_rows<T, 2, 2, Epilogue<T>>(out, a, w, bias, m, n, k);                                                  \
  }
GEMV(bf16, gemv, bf16, Store) GEMV(f16, gemv, f16, Store)
GEMV(bf16, gemv_add, float, Add) GEMV(f16, gemv_add, float, Add)
GEMV(bf16, gemv_gelu, bf16, Gelu) GEMV(f16, gemv_gelu, f16, Gelu)

// gemv_silu has as many of the gate's rows, and then the same rows of up.
template <class T, int GROUPS, int SETS> DEVICE void gemv_silu(T *out, const T *a, const T *w, int m, int ff, int k) {
  const int columns = GROUPS * 8;
  int n0 = block_x() * columns;
  auto row_of_w = [=](int r) {
    int row = n0 + r % columns;
    return (row < ff ? row : ff - 1) + (r < columns ? 0 : ff);
  };
  gemv<T, GROUPS, SETS, 2>(a, w, m, k, row_of_w, [=](int row, int column, const float (&total)[2]) {
    if (n0 + column < ff) out[(i64)row * ff + n0 + column] = rounded<T>(silu(total[0]) * total[1]);
  });
}
#define GEMV_SILU(T)                                                                                            \
  KERNEL(256, gemv_silu_##T, (T *out, const T *a, const T *w, int m, int ff, int k)) {                          \
    gemv_silu<T, 1, 1>(out, a, w, m, ff, k);                                                                    \
  }                                                                                                             \
  KERNEL(256, gemv_silu_##T##_wide, (T *out, const T *a, const T *w, int m, int ff, int k)) {                   \
    gemv_silu<T, 2, 2>(out, a, w, m, ff, k);                                                                    \
  }
FOR_EACH_TYPE(GEMV_SILU)
