// What one launch of a wide product knows, and how its ends are written: wide.cu.
#pragma once
#include "kernels/cuda/cluster.h"
#include "kernels/cuda/warpgroup.h"
#include "kernels/cuda/wide.h"

namespace pensive::kernels {

constexpr int group_rows = 64;  // of the weight, for four warps
constexpr int most_groups = 3;

// One launch.
struct WideCall {
  const void* bias;
  void* out;
  Into into;
  int rows, out_width;
  int height, tiles, lots;  // lots of a row of the weight
  int splits, per;          // rows of a tile whose sums a block of the cluster adds up
  int slots, groups;
  int stride;      // of a row of sums in shared memory
  bool is_single;  // a block has one tile at most, so that its sums may stand where its lots stood
  bool has_fours;  // four values of a row of `out` are written at once
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

template <class S>
struct alignas(4 * sizeof(S)) Four {
  S values[4];
};

// Four neighbours of a row of `out`, and what is there before.
template <class S, bool is_gated>
__device__ void give(const WideCall& call, int row, int column, float4 sum, float4 up,
                     float4 before) {
  const std::int64_t place = static_cast<std::int64_t>(row) * call.out_width + column;
  const int count = min(4, call.out_width - column);
  float sums[4] = {sum.x, sum.y, sum.z, sum.w}, ups[4] = {up.x, up.y, up.z, up.w};
  const float there[4] = {before.x, before.y, before.z, before.w};
  if (call.bias) {
    const auto* bias = static_cast<const S*>(call.bias) + column;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (e >= count) continue;
      sums[e] += widen(bias[e]);
      if (is_gated) ups[e] += widen(bias[call.out_width + e]);
    }
  }
  if (call.into == Into::added || call.into == Into::wide) {
    auto* to = static_cast<float*>(call.out) + place;
#pragma unroll
    for (int e = 0; e < 4; ++e) sums[e] = there[e] + sums[e];
    if (call.has_fours) {
      *reinterpret_cast<float4*>(to) = make_float4(sums[0], sums[1], sums[2], sums[3]);
      return;
    }
#pragma unroll
    for (int e = 0; e < 4; ++e)
      if (e < count) to[e] = sums[e];
    return;
  }
  Four<S> made;
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    float value = sums[e];
    if (is_gated) {
      value = rounded<S>(value);
      value = __fdividef(value, 1 + __expf(-value)) * rounded<S>(ups[e]);
    }
    narrow(value, made.values + e);
  }
  auto* to = static_cast<S*>(call.out) + place;
  if (call.has_fours) {
    *reinterpret_cast<Four<S>*>(to) = made;
    return;
  }
#pragma unroll
  for (int e = 0; e < 4; ++e)
    if (e < count) to[e] = made.values[e];
}

// What `added` adds to.
__device__ inline float4 before_at(const WideCall& call, int row, int column) {
  float values[4] = {};
  if (call.into != Into::added) return {0, 0, 0, 0};
  const auto* from = static_cast<const float*>(call.out) +
                     static_cast<std::int64_t>(row) * call.out_width + column;
  if (call.has_fours) return *reinterpret_cast<const float4*>(from);
#pragma unroll
  for (int e = 0; e < 4; ++e)
    if (column + e < call.out_width) values[e] = from[e];
  return {values[0], values[1], values[2], values[3]};
}

// Sums of a tile, from row `first` of it on, for so many rows of x, as one of `threads` sees them.
struct Piece {
  int tile, first, count, row, rows, thread, threads;
};

__device__ inline void add_to(float4& sum, float4 more) {
  sum.x += more.x, sum.y += more.y, sum.z += more.z, sum.w += more.w;
}

// Adds up the splits' sums in their order and gives them to `out`. What a thread loads for two
// fours is under way together; for more there are not enough registers.
template <class S, bool is_gated>
__device__ void give_piece(const WideCall& call, float* near, const Piece& piece) {
  constexpr int together = 2;
  const int fours = max(is_gated ? piece.count / 8 : piece.count / 4, 0);  // of a row of `out`
  const int turns =
      (fours * piece.rows + together * piece.threads - 1) / (together * piece.threads);
  if (turns == 0 && call.splits > 1) arrive_at_cluster();
  const int down = fours ? piece.threads / fours : 0, right = piece.threads - down * fours;
  int row = fours ? piece.thread / fours : 0, four = piece.thread - row * fours;
  for (int turn = 0; turn < turns; ++turn) {
    int rows[together], columns[together];
    int from[together];
    float4 sums[together] = {}, ups[together] = {}, before[together];
#pragma unroll
    for (int e = 0; e < together; ++e) {
      // Of gate and up, eight by eight.
      const int at = piece.first + (is_gated ? four / 2 * 16 + four % 2 * 4 : four * 4);
      columns[e] = is_gated ? (piece.tile * call.height + piece.first) / 2 + four * 4
                            : piece.tile * call.height + at;
      rows[e] = columns[e] < call.out_width ? row : piece.rows;
      from[e] = min(row, piece.rows - 1) * call.stride + at;
      before[e] =
          rows[e] < piece.rows ? before_at(call, piece.row + row, columns[e]) : float4{0, 0, 0, 0};
      row += down;
      four += right;
      if (four < fours) continue;
      four -= fours;
      ++row;
    }
#pragma unroll 2
    for (int s = 0; s < call.splits; ++s)
#pragma unroll
      for (int e = 0; e < together; ++e) {
        const float* there = (call.splits > 1 ? in_block(near, s) : near) + from[e];
        add_to(sums[e], *reinterpret_cast<const float4*>(there));
        if (is_gated) add_to(ups[e], *reinterpret_cast<const float4*>(there + 8));
      }
    if (call.splits > 1 && turn + 1 == turns) arrive_at_cluster();  // nothing more is read
#pragma unroll
    for (int e = 0; e < together; ++e)
      if (rows[e] < piece.rows)
        give<S, is_gated>(call, piece.row + rows[e], columns[e], sums[e], ups[e], before[e]);
  }
}

template <class S>
__device__ void give_any(const WideCall& call, float* near, const Piece& piece) {
  if (call.into == Into::gated)
    give_piece<S, true>(call, near, piece);
  else
    give_piece<S, false>(call, near, piece);
}

// A lane's sums to shared memory, [rows of x, stride].
template <int each>
__device__ void lay_down(const float (&sums)[each / 2], float* near, int stride, int height) {
  const int lane = threadIdx.x % 32, first = static_cast<int>(threadIdx.x) / 32 * 16 + lane / 4;
#pragma unroll
  for (int lower = 0; lower < 2; ++lower) {
    const int at = first + lower * 8;
    if (at >= height) continue;
    float* to = near + lane % 4 * 2 * stride + at;
#pragma unroll
    for (int i = 0; i < each / 8; ++i) {
      to[i * 8 * stride] = sums[i * 4 + lower * 2];
      to[(i * 8 + 1) * stride] = sums[i * 4 + lower * 2 + 1];
    }
  }
}

__device__ inline void meet(int which, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(which), "r"(threads) : "memory");
}

// A tile's sums, which one block has.
template <class S, int each, int pieces>
__device__ void give_tile(const WideCall& call, float* near, int tile,
                          const float (&sums)[pieces][each / 2]) {
  const int group = static_cast<int>(threadIdx.x) / 128;
  Piece piece{tile,
              group * group_rows,
              min(group_rows, call.height - group * group_rows),
              0,
              0,
              static_cast<int>(threadIdx.x) % 128,
              128};
  if (call.is_single) meet(most_groups + 1, call.groups * 128);  // no lot is read any more
#pragma unroll
  for (int p = 0; p < pieces; ++p) {
    meet(1 + group, 128);  // the piece before was read
    lay_down<each>(sums[p], near, call.stride, call.height);
    meet(1 + group, 128);
    piece.row = p * each;
    piece.rows = min(each, call.rows - piece.row);
    give_any<S>(call, near, piece);
  }
}

// A tile's sums, which a cluster's blocks have: each reads those of `per` rows of the weight.
template <class S, int each, int pieces>
__device__ void join_tile_sums(const WideCall& call, float* near, int tile,
                               const float (&sums)[pieces][each / 2]) {
  meet(most_groups + 1, call.groups * 128);
#pragma unroll
  for (int p = 0; p < pieces; ++p)
    lay_down<each>(sums[p], near + p * each * call.stride, call.stride, call.height);
  arrive_at_cluster();
  const int first = static_cast<int>(blockIdx.x) % call.splits * call.per;
  wait_for_cluster();
  give_any<S>(call, near,
              {tile, first, min(call.per, call.height - first), 0, call.rows,
               static_cast<int>(threadIdx.x), call.groups * 128});
  wait_for_cluster();  // before any ends
}

#endif

}  // namespace pensive::kernels
