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
      fq[i][e] = load_word(mine + (i64)row * D + i * 16 + t * 2 + e / 2 * 8, row < seq);
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
// them. As in gemv each warp has a ring in shared memory of its own; a stage is the
// keys of a turn and then its values, laid out as in attend_prefill.
template <class T, int D>
DEVICE void attend_decode(float *partial, const T *q, const T *kcache, const T *vcache, const int *pos, int h, int hkv, int max) {
  const int warps = 4, turn = 16, ring = 3, row_bytes = D * 2, units = D / 8;
  const int stage_bytes = 2 * turn * row_bytes, ring_bytes = ring * stage_bytes;
  __shared__ float tops[warps][16], weights[warps][16];
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

  Shared memory = dynamic(), stages = memory + warp * ring_bytes;
  int unit = lane % units, row0 = lane / units; // a lane brings one unit of every so manieth row
  i64 cache = (i64)(b * hkv + block_y()) * max * D;
  auto fill = [&](int at, int stage) { // positions at and on
    Shared to = stages + stage * stage_bytes;
#pragma unroll
    for (int i = 0; i < turn; i += 32 / units) {
      int row = row0 + i;
      bool there = at + row < until; // one that is not counts nothing
      i64 offset = cache + (i64)(at + row) * D + unit * 8;
      Shared place = to + row * row_bytes + ((unit ^ row % 8) << 4);
      copy_async(place, kcache + offset, there);
      copy_async(place + turn * row_bytes, vcache + offset, there);
    }
    commit();
  };
  int at = from + warp * turn;
#pragma unroll
  for (int i = 0; i < ring - 1; i++) fill(at + i * warps * turn, i);

  u32 fq[D / 16][4];
  const T *queries = q + (i64)(b * h + head0) * D;
#pragma unroll
  for (int c = 0; c < D / 16; c++)
#pragma unroll
    for (int e = 0; e < 4; e++) {
      int row = g + e % 2 * 8;
      fq[c][e] = load_word(queries + row * D + c * 16 + t * 2 + e / 2 * 8, row < shared_by);
    }
  float sums[D / 8][4] = {}, top[2] = {-infinity(), -infinity()}, weight[2] = {};
  int stage = 0, next = ring - 1;
  for (; at < until; at += warps * turn) {
    wait<ring - 2>();
    warp_barrier(); // this stage is there, and none reads the one before any more
    fill(at + (ring - 1) * warps * turn, next);
    Shared keys = stages + stage * stage_bytes, values = keys + turn * row_bytes;
    stage = stage == ring - 1 ? 0 : stage + 1, next = next == ring - 1 ? 0 : next + 1;

    float score[2][4] = {};
#pragma unroll
    for (int c = 0; c < D / 16; c++) {
      u32 f[4];
      int row = lane / 16 * 8 + lane % 8;
      read_tiles(f, keys + row * row_bytes + ((c * 2 + lane / 8 % 2 ^ lane % 8) << 4));
      multiply(T{}, score[0], fq[c][0], fq[c][1], fq[c][2], fq[c][3], f[0], f[1]);
      multiply(T{}, score[1], fq[c][0], fq[c][1], fq[c][2], fq[c][3], f[2], f[3]);
    }
#pragma unroll
    for (int j = 0; j < 2; j++)
#pragma unroll
      for (int e = 0; e < 4; e++)
        score[j][e] = at + j * 8 + t * 2 + e % 2 < until ? score[j][e] * scale<D>() : -infinity();
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int e = half * 2;
      float most = larger(larger(score[0][e], score[0][e + 1]), larger(score[1][e], score[1][e + 1]));
      most = larger(top[half], maximum<4>(most));
      float less = power2(top[half] - most);
      top[half] = most;
      weight[half] *= less;
#pragma unroll
      for (int j = 0; j < D / 8; j++) sums[j][e] *= less, sums[j][e + 1] *= less;
#pragma unroll
      for (int j = 0; j < 2; j++) {
        score[j][e] = power2(score[j][e] - most), score[j][e + 1] = power2(score[j][e + 1] - most);
        weight[half] += score[j][e] + score[j][e + 1];
      }
    }

    u32 p[4] = {pack(T{}, score[0][0], score[0][1]), pack(T{}, score[0][2], score[0][3]),
                pack(T{}, score[1][0], score[1][1]), pack(T{}, score[1][2], score[1][3])};
#pragma unroll
    for (int c = 0; c < D / 16; c++) {
      u32 f[4];
      read_turned(f, values + lane % 16 * row_bytes + ((c * 2 + lane / 16 ^ lane % 8) << 4));
      multiply(T{}, sums[2 * c], p[0], p[1], p[2], p[3], f[0], f[1]);
      multiply(T{}, sums[2 * c + 1], p[0], p[1], p[2], p[3], f[2], f[3]);
    }
  }

  // The warps' sums go where their rings were.
  wait<0>();
  warp_barrier();
#pragma unroll
  for (int half = 0; half < 2; half++) {
    int row = g + half * 8;
    float whole = sum<4>(weight[half]);
    if (t == 0) tops[warp][row] = top[half], weights[warp][row] = whole;
    if (row < shared_by)
#pragma unroll
      for (int j = 0; j < D / 8; j++) write(stages + (row * D + j * 8 + t * 2) * 4, {sums[j][half * 2], sums[j][half * 2 + 1]});
  }
  barrier();
  for (int i = thread(); i < shared_by * D; i += warps * 32) {
    int row = i / D, d = i % D;
    float most = tops[0][row], whole = 0, total = 0; // the first warp has had a turn
    for (int w = 1; w < warps; w++) most = larger(most, tops[w][row]);
    for (int w = 0; w < warps; w++) {
      float less = power2(tops[w][row] - most);
      whole += less * weights[w][row], total += less * read_float(memory + w * ring_bytes + i * 4);
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

// A block has the splits of one query. A thread has two of its d numbers, in every
// so manieth split, of which it reads several at once.
const int most_splits = 64, reduce_threads = 256, at_once = 8;

template <class T> DEVICE void attend_reduce(T *out, const float *partial, int splits, int d) {
  __shared__ float factors[most_splits], whole, totals[reduce_threads][2];
  const float *mine = partial + (i64)block_x() * splits * (d + 2);
  if (thread() < 32) {
    float top[2], weight[2];
#pragma unroll
    for (int i = 0; i < 2; i++) {
      int s = thread() + i * 32;
      Pair last = load_pair(mine + s * (d + 2) + d, s < splits);
      top[i] = last.y > 0 ? last.x : -infinity(), weight[i] = last.y;
    }
    float most = maximum<32>(larger(top[0], top[1])), all = 0;
#pragma unroll
    for (int i = 0; i < 2; i++) {
      float factor = power2(top[i] - most);
      factors[thread() + i * 32] = factor;
      all += factor * weight[i];
    }
    all = sum<32>(all);
    if (thread() == 0) whole = all;
  }
  barrier();
  int pair = thread() % (d / 2), group = thread() / (d / 2), groups = reduce_threads / (d / 2);
  float total[2] = {};
  for (int s0 = group; s0 < splits; s0 += groups * at_once) {
    Pair v[at_once];
    float factor[at_once];
#pragma unroll
    for (int i = 0; i < at_once; i++) {
      int s = s0 + i * groups;
      factor[i] = s < splits ? factors[s] : 0;
      v[i] = load_pair(mine + s * (d + 2) + pair * 2, factor[i] > 0); // what an empty one has was never written
    }
#pragma unroll
    for (int i = 0; i < at_once; i++) total[0] += factor[i] * v[i].x, total[1] += factor[i] * v[i].y;
  }
  totals[thread()][0] = total[0], totals[thread()][1] = total[1];
  barrier();
  if (group > 0) return;
  for (int i = 1; i < groups; i++) total[0] += totals[thread() + i * (d / 2)][0], total[1] += totals[thread() + i * (d / 2)][1];
  *(u32 *)(out + (i64)block_x() * d + pair * 2) = pack(T{}, quotient(total[0], whole), quotient(total[1], whole));
}
#define ATTEND_REDUCE(T)                                                                        \
  KERNEL(reduce_threads, attend_reduce_##T, (T *out, const float *partial, int splits, int d)) { \
    attend_reduce(out, partial, splits, d);                                                     \
  }
FOR_EACH_TYPE(ATTEND_REDUCE)
