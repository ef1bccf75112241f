// Where a draw is cut: the largest value from which on a count or a mass reaches what is wanted.
// Between bounds that draw nearer, seven values are tried in one pass, by the order of the floats'
// bits, so that nothing is sorted and every sum has a fixed order.
#pragma once
#include "kernels/cuda/slice.h"

namespace pensive::kernels {

#if defined(__CUDACC__)

constexpr int tries = 7;

// What one pass finds: sums of the values from each try on, and the outermost values between the
// bounds.
struct Tried {
  float sums[8];  // the last is not used
  std::uint32_t least, most;
};

// As warps and blocks join them.
struct TriedSums {
  double sums[tries];
  std::uint32_t least, most;
};

__device__ inline TriedSums join_tried(TriedSums a, TriedSums b) {
#pragma unroll
  for (int k = 0; k < tries; ++k) a.sums[k] += b.sums[k];
  return {{a.sums[0], a.sums[1], a.sums[2], a.sums[3], a.sums[4], a.sums[5], a.sums[6]},
          min(a.least, b.least),
          max(a.most, b.most)};
}

// Sums of a warp's lanes: each step halves the sums that a lane has to do with. All lanes get all.
__device__ inline TriedSums join_warp(const Tried& mine) {
  int lane = threadIdx.x % 32;
  float four[4], two[2], one;
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    float keeps = lane & 16 ? mine.sums[k + 4] : mine.sums[k];
    float gives = lane & 16 ? mine.sums[k] : mine.sums[k + 4];
    four[k] = keeps + __shfl_xor_sync(~0u, gives, 16);
  }
#pragma unroll
  for (int k = 0; k < 2; ++k) {
    float keeps = lane & 8 ? four[k + 2] : four[k];
    float gives = lane & 8 ? four[k] : four[k + 2];
    two[k] = keeps + __shfl_xor_sync(~0u, gives, 8);
  }
  float keeps = lane & 4 ? two[1] : two[0], gives = lane & 4 ? two[0] : two[1];
  one = keeps + __shfl_xor_sync(~0u, gives, 4);
  one += __shfl_xor_sync(~0u, one, 2);
  one += __shfl_xor_sync(~0u, one, 1);
  TriedSums all;
#pragma unroll
  for (int k = 0; k < tries; ++k)
    all.sums[k] = __shfl_sync(~0u, one, (k & 4) * 4 + (k & 2) * 4 + (k & 1) * 4);
  auto least = [](std::uint32_t a, std::uint32_t b) { return min(a, b); };
  auto most = [](std::uint32_t a, std::uint32_t b) { return max(a, b); };
  all.least = join_lanes(mine.least, least);
  all.most = join_lanes(mine.most, most);
  return all;
}

// The largest value (as ordered) from which on what weigh(value) adds up reaches `enough`. It is
// known to be at least `low`, and no value is above `high`.
template <class T, class Weigh>
__device__ std::uint32_t find_cut(const Slice<T>& slice, std::uint32_t low, std::uint32_t high,
                                  double enough, Weigh weigh) {
  double above = 0;  // of the values past `high`
  while (low < high) {
    std::uint32_t at[tries];
#pragma unroll
    for (int k = 0; k < tries; ++k) {
      // The last is `high`; all are above `low`.
      std::uint64_t part = static_cast<std::uint64_t>(high - low) * (k + 1);
      at[k] = low + static_cast<std::uint32_t>((part + tries - 1) / tries);
    }
    Tried mine{{0, 0, 0, 0, 0, 0, 0, 0}, ~0u, 0};
    auto see = [&](float here) {
      std::uint32_t key = ordered(here);
      if (key < low || key > high) return;
      mine.least = min(mine.least, key);
      mine.most = max(mine.most, key);
      float weight = weigh(here);
#pragma unroll
      for (int k = 0; k < tries; ++k)
        if (key >= at[k]) mine.sums[k] += weight;
    };
    slice.for_each([&](int, float4 four) {
      see(four.x);
      see(four.y);
      see(four.z);
      see(four.w);
    });
    const TriedSums all = slice.team.join_warps(join_warp(mine), join_tried);
    if (all.least >= all.most) return max(low, all.most);  // one value is left
    std::uint32_t next_low = low, next_high = at[0] - 1;
    double next_above = above + all.sums[0];
#pragma unroll
    for (int k = 0; k < tries; ++k) {
      if (above + all.sums[k] < enough) continue;
      next_low = at[k];
      next_high = k + 1 < tries ? at[k + 1] - 1 : high;
      next_above = k + 1 < tries ? above + all.sums[k + 1] : above;
    }
    low = max(next_low, all.least);
    high = min(next_high, all.most);
    above = next_above;
  }
  return low;
}

#endif

}  // namespace pensive::kernels
