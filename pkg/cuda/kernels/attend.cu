// Attention: of many queries at once on tiles in shared memory, and of one query
// in each sequence. Scores are kept as powers of 2, and their sums as they come, with
// the largest score so far taken off.
#include "device.h"

// What scores are multiplied by: log₂e/√D.
template <int D> DEVICE float scale() { return log2_e * (D == 64 ? 0.125f : 0.08838834764831845f); }

// A block has 64 queries, 16 for each of its warps, and takes the keys and values
// in tiles of 64, of which the next is filled while one is used. Unit c of 16 bytes
// of a tile's row r is at place c ^ r%8, as in gemm.
template <class T, int D>
DEVICE void attend_prefill(T *out, const T *q, const T *kcache, const T *vcache, const int *pos0, int seq, int h, int hkv, int max) {
  const int tile = 64, threads = 128, row_bytes = D * 2, units = D / 8, tile_bytes = tile * row_bytes;
  int lane = thread() % 32, g = lane / 4, t = lane % 4, head = block_y(), b = block_z();
  int queries = (blocks_x() - 1 - block_x()) * tile; // the last have most to do, and begin first
  int start = *pos0, length = start + seq, q0 = queries + thread() / 32 * 16;
  i64 cache = (i64)(b * hkv + head / (h / hkv)) * max * D;
  Shared memory = dynamic();

  auto fill = [&](int i) { // keys and values i·tile and on
    Shared to = memory + i % 2 * 2 * tile_bytes;
#pragma unroll
    for (int u = 0; u < tile * units / threads; u++) {
      int row = (thread() + u * threads) / units, unit = (thread() + u * threads) % units;
      bool there = i * tile + row < length;
      i64 from = cache + (there ? (i64)(i * tile + row) * D + unit * 8 : 0);
      Shared place = to + row * row_bytes + ((unit ^ row % 8) << 4);
      copy_async(place, kcache + from, there);
      copy_async(place + tile_bytes, vcache + from, there);
    }
  };
  int until = start + queries + tile < length ? start + queries + tile : length; // no query here sees a key from there on
  int tiles = (until + tile - 1) / tile;
  fill(0);
  commit();

  u32 fq[D / 16][4];
  const T *mine = q + (i64)(b * h + head) * seq * D;
#pragma unroll
  for (int i = 0; i < D / 16; i++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      int row = q0 + g + e % 2 * 8;
      fq[i][e] = row < seq ? *(const u32 *)(mine + (i64)row * D + i * 16 + t * 2 + e / 2 * 8) : 0;
    }

  float sums[D / 8][4] = {}, top[2] = {-infinity(), -infinity()}, weight[2] = {};
  for (int i = 0; i < tiles; i++) {
    if (i + 1 < tiles) fill(i + 1);
    commit();
    wait<1>();
    barrier();
    Shared keys = memory + i % 2 * 2 * tile_bytes, values = keys + tile_bytes;

    float score[tile / 8][4] = {};
#pragma unroll
    for (int c = 0; c < D / 16; c++)
#pragma unroll
      for (int j = 0; j < tile / 16; j++) {
        u32 f[4];
        int row = j * 16 + lane / 16 * 8 + lane % 8;
        read_tiles(f, keys + row * row_bytes + ((c * 2 + lane / 8 % 2 ^ lane % 8) << 4));
        multiply(T{}, score[2 * j], fq[c][0], fq[c][1], fq[c][2], fq[c][3], f[0], f[1]);
        multiply(T{}, score[2 * j + 1], fq[c][0], fq[c][1], fq[c][2], fq[c][3], f[2], f[3]);
      }

    // Query q0 + row sees the keys up to start + q0 + row.
    if (i * tile + tile - 1 > start + q0)
#pragma unroll
      for (int j = 0; j < tile / 8; j++)
#pragma unroll
        for (int e = 0; e < 4; e++)
          if (i * tile + j * 8 + t * 2 + e % 2 > start + q0 + g + e / 2 * 8) score[j][e] = -infinity();

#pragma unroll
    for (int half = 0; half < 2; half++) {
      float most = top[half];
#pragma unroll
      for (int j = 0; j < tile / 8; j++) most = larger(most, larger(score[j][half * 2], score[j][half * 2 + 1]));
      most = maximum<4>(most);
      float less = power2((top[half] - most) * scale<D>());
      top[half] = most;
      weight[half] *= less;
#pragma unroll
      for (int j = 0; j < D / 8; j++) sums[j][half * 2] *= less, sums[j][half * 2 + 1] *= less;
      float off = most * scale<D>();
#pragma unroll
      for (int j = 0; j < tile / 8; j++)
#pragma unroll
        for (int e = half * 2; e < half * 2 + 2; e++) {
          score[j][e] = power2(multiply_add(score[j][e], scale<D>(), -off));
          weight[half] += score[j][e];
        }
    }

#pragma unroll
    for (int j = 0; j < tile / 16; j++) {
      float(&s)[4] = score[2 * j], (&u)[4] = score[2 * j + 1];
      u32 p[4] = {pack(T{}, s[0], s[1]), pack(T{}, s[2], s[3]), pack(T{}, u[0], u[1]), pack(T{}, u[2], u[3])};
#pragma unroll
      for (int c = 0; c < D / 16; c++) {
        u32 f[4];
        int row = j * 16 + lane % 16;
        read_turned(f, values + row * row_bytes + ((c * 2 + lane / 16 ^ lane % 8) << 4));
        multiply(T{}, sums[2 * c], p[0], p[1], p[2], p[3], f[0], f[1]);
        multiply(T{}, sums[2 * c + 1], p[0], p[1], p[2], p[3], f[2], f[3]);
      }
    }
    barrier(); // none reads this tile any more
  }

#pragma unroll
  for (int half = 0; half < 2; half++) {
    int row = q0 + g + half * 8;
    float whole = sum<4>(weight[half]);
    if (row >= seq) continue;
    T *to = out + ((i64)(b * seq + row) * h + head) * D + t * 2;
#pragma unroll
    for (int j = 0; j < D / 8; j++)
      *(u32 *)(to + j * 8) = pack(T{}, quotient(sums[j][half * 2], whole), quotient(sums[j][half * 2 + 1], whole));
  }
}
#define ATTEND_PREFILL(T, D)                                                                                    \
  KERNEL(128, attend_prefill_##T##_##D,                                                                         \
         (T *out, const T *q, const T *kcache, const T *vcache, const int *pos0, int seq, int h, int hkv, int max)) { \
    attend_prefill<T, D>(out, q, kcache, vcache, pos0, seq, h, hkv, max);                                       \
  }
ATTEND_PREFILL(bf16, 64) ATTEND_PREFILL(f16, 64)
ATTEND_PREFILL(bf16, 128) ATTEND_PREFILL(f16, 128)

// A block has the queries of one sequence that share keys, as rows of which 16 at
// most make sense, and a split of the positions; its four warps take turns of 16 of
// them. As in gemv, a lane brings eight numbers in a row. For the values these
// are of one position, so that a register with two positions' is made of two.
template <class T, int D>
DEVICE void attend_decode(float *partial, const T *q, const T *kcache, const T *vcache, const int *pos, int h, int hkv, int max) {
  const int warps = 4, turn = 16;
  __shared__ float outs[warps][16][D], tops[warps][16], weights[warps][16];
  int lane = thread() % 32, warp = thread() / 32, g = lane / 4, t = lane % 4;
  int split = block_x(), splits = blocks_x(), shared_by = h / hkv, head0 = block_y() * shared_by, b = block_z();
  int length = *pos + 1, each = ((length + splits - 1) / splits + warps * turn - 1) / (warps * turn) * (warps * turn);
  int from = split * each, until = from + each < length ? from + each : length;
  float *mine = partial + ((i64)(b * h + head0) * splits + split) * (D + 2);
  i64 next_head = (i64)splits * (D + 2);
  if (from >= until) {
    if (thread() < shared_by) mine[thread() * next_head + D] = -infinity(), mine[thread() * next_head + D + 1] = 0;
    return;
  }

  i64 cache = (i64)(b * hkv + block_y()) * max * D;
  Quad lower[D / 32] = {}, upper[D / 32] = {};
#pragma unroll
  for (int c = 0; c < D / 32; c++) {
    const T *query = q + (i64)(b * h + head0 + g) * D + c * 32 + t * 8;
    if (g < shared_by) lower[c] = load(query);
    if (g + 8 < shared_by) upper[c] = load(query + 8 * D);
  }
  float sums[D / 64][8][4] = {}, top[2] = {-infinity(), -infinity()}, weight[2] = {};
  for (int at = from + warp * turn; at < until; at += warps * turn) {
    Quad key[2][D / 32], value[4][D / 64];
#pragma unroll
    for (int j = 0; j < 2; j++) {
      int p = at + j * 8 + g;
      const T *k = kcache + cache + (i64)(p < until ? p : until - 1) * D + t * 8; // one that is not there counts nothing
#pragma unroll
      for (int c = 0; c < D / 32; c++) key[j][c] = load(k + c * 32);
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
      int p = at + t * 2 + j % 2 + j / 2 * 8;
      const T *v = vcache + cache + (i64)(p < until ? p : until - 1) * D + g * 8;
#pragma unroll
      for (int c = 0; c < D / 64; c++) value[j][c] = load(v + c * 64);
    }

    float score[2][4] = {};
#pragma unroll
    for (int j = 0; j < 2; j++) {
#pragma unroll
      for (int c = 0; c < D / 32; c++) {
        multiply(T{}, score[j], lower[c].x, upper[c].x, lower[c].y, upper[c].y, key[j][c].x, key[j][c].y);
        multiply(T{}, score[j], lower[c].z, upper[c].z, lower[c].w, upper[c].w, key[j][c].z, key[j][c].w);
      }
#pragma unroll
      for (int e = 0; e < 4; e++)
        score[j][e] = at + j * 8 + t * 2 + e % 2 < until ? score[j][e] * scale<D>() : -infinity();
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int e = half * 2;
      float most = larger(larger(score[0][e], score[0][e + 1]), larger(score[1][e], score[1][e + 1]));
      most = larger(top[half], maximum<4>(most));
      float less = power2(top[half] - most);
      top[half] = most;
      weight[half] *= less;
#pragma unroll
      for (int c = 0; c < D / 64; c++)
#pragma unroll
        for (int j = 0; j < 8; j++) sums[c][j][e] *= less, sums[c][j][e + 1] *= less;
#pragma unroll
      for (int j = 0; j < 2; j++) {
        score[j][e] = power2(score[j][e] - most), score[j][e + 1] = power2(score[j][e + 1] - most);
        weight[half] += score[j][e] + score[j][e + 1];
      }
    }

    // Product number j has for its column n the number j of unit n.
    u32 p0 = pack(T{}, score[0][0], score[0][1]), p1 = pack(T{}, score[0][2], score[0][3]);
    u32 p2 = pack(T{}, score[1][0], score[1][1]), p3 = pack(T{}, score[1][2], score[1][3]);
#pragma unroll
    for (int c = 0; c < D / 64; c++) {
      u32 v[4][4] = {};
#pragma unroll
      for (int j = 0; j < 4; j++) v[j][0] = value[j][c].x, v[j][1] = value[j][c].y, v[j][2] = value[j][c].z, v[j][3] = value[j][c].w;
#pragma unroll
      for (int r = 0; r < 4; r++) {
        multiply(T{}, sums[c][2 * r], p0, p1, p2, p3, lows(v[0][r], v[1][r]), lows(v[2][r], v[3][r]));
        multiply(T{}, sums[c][2 * r + 1], p0, p1, p2, p3, highs(v[0][r], v[1][r]), highs(v[2][r], v[3][r]));
      }
    }
  }

#pragma unroll
  for (int half = 0; half < 2; half++) {
    int row = g + half * 8;
    float whole = sum<4>(weight[half]);
    if (t == 0) tops[warp][row] = top[half], weights[warp][row] = whole;
#pragma unroll
    for (int c = 0; c < D / 64; c++)
#pragma unroll
      for (int j = 0; j < 8; j++)
#pragma unroll
        for (int e = 0; e < 2; e++) outs[warp][row][c * 64 + (t * 2 + e) * 8 + j] = sums[c][j][half * 2 + e];
  }
  barrier();
  for (int i = thread(); i < shared_by * D; i += warps * 32) {
    int row = i / D, d = i % D;
    float most = tops[0][row], whole = 0, total = 0; // the first warp has had a turn
    for (int w = 1; w < warps; w++) most = larger(most, tops[w][row]);
    for (int w = 0; w < warps; w++) {
      float less = power2(tops[w][row] - most);
      whole += less * weights[w][row], total += less * outs[w][row][d];
    }
    mine[row * next_head + d] = total;
    if (d == 0) mine[row * next_head + D] = most, mine[row * next_head + D + 1] = whole;
  }
}
#define ATTEND_DECODE(T, D)                                                                                     \
  KERNEL(128, attend_decode_##T##_##D,                                                                          \
         (float *partial, const T *q, const T *kcache, const T *vcache, const int *pos, int h, int hkv, int max)) { \
    attend_decode<T, D>(partial, q, kcache, vcache, pos, h, hkv, max);                                          \
  }
ATTEND_DECODE(bf16, 64) ATTEND_DECODE(f16, 64)
ATTEND_DECODE(bf16, 128) ATTEND_DECODE(f16, 128)

// A block has the splits of one query, and a thread one of its d numbers.
const int most_splits = 64;

template <class T> DEVICE void attend_reduce(T *out, const float *partial, int splits, int d) {
  __shared__ float tops[most_splits], weights[most_splits];
  const float *mine = partial + (i64)block_x() * splits * (d + 2);
  for (int s = thread(); s < splits; s += d) tops[s] = mine[s * (d + 2) + d], weights[s] = mine[s * (d + 2) + d + 1];
  barrier();
  float most = tops[0], whole = 0, total = 0;
  for (int s = 1; s < splits; s++) most = larger(most, tops[s]);
  for (int s = 0; s < splits; s++)
    if (weights[s] > 0) { // what an empty one has else was never written
      float less = power2(tops[s] - most);
      whole += less * weights[s], total += less * mine[s * (d + 2) + thread()];
    }
  out[(i64)block_x() * d + thread()] = rounded<T>(quotient(total, whole));
}
#define ATTEND_REDUCE(T) \
  KERNEL(128, attend_reduce_##T, (T *out, const float *partial, int splits, int d)) { attend_reduce(out, partial, splits, d); }
FOR_EACH_TYPE(ATTEND_REDUCE)
