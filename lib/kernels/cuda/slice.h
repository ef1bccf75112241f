// A team's row in slices: each block has its part of the values near, in fours, so that a row is
// read from memory once however many passes a draw takes.
#pragma once
#include "kernels/cuda/team.h"

namespace pensive::kernels {

#if defined(__CUDACC__)

// Values of a slice: a team's blocks share a row in packs of 8.
__host__ __device__ inline int slice_values(int vocab, int blocks) {
  return ((vocab + blocks - 1) / blocks + 7) / 8 * 8;
}

struct Best {  // the largest value; of equals the lowest index
  float value;
  int index;
};

__device__ inline Best better(Best a, Best b) {
  bool is_second = b.value > a.value || (b.value == a.value && b.index < a.index);
  return is_second ? b : a;
}

struct Scan {
  Best top;
  int bad;
  // No NaN, no +infinity, not all -infinity.
  __device__ bool is_good() const { return bad == 0 && top.value > -INFINITY; }
  __device__ void see(int i, float here) {
    bad |= isnan(here) || here == INFINITY;
    if (here > top.value) top = {here, i};
  }
};

__device__ inline Scan join_scans(Scan a, Scan b) {
  return Scan{better(a.top, b.top), a.bad | b.bad};
}

// Unsigned numbers in the order of the floats.
__device__ inline std::uint32_t ordered(float x) {
  std::uint32_t bits = __float_as_uint(x);
  return bits ^ (bits >> 31 ? 0xFFFFFFFFu : 0x80000000u);
}

template <class T>
struct Slice {
  T& team;
  float* values;  // in shared memory, or where the row's scratch is; up to whole fours
  int first;      // place of its values in the row
  int count;

  __device__ Slice(T& team, float* values, int vocab, int blocks)
      : team(team), values(values), first(team.rank() * slice_values(vocab, blocks)) {
    count = max(0, min(slice_values(vocab, blocks), vocab - first));
  }

  // Calls see(i, four) for every four of the slice, i the place of its first in the row. All lanes
  // of a warp go along; past the end they see -infinity.
  template <class See>
  __device__ void for_each(See see) const {
    int all = (count + 3) / 4 * 4;
#pragma unroll 1
    for (int begin = threadIdx.x / 32 * 128; begin < all; begin += blockDim.x * 4) {
      int i = begin + threadIdx.x % 32 * 4;
      float4 four = make_float4(-INFINITY, -INFINITY, -INFINITY, -INFINITY);
      if (i < all) four = *reinterpret_cast<const float4*>(values + i);
      see(first + i, four);
    }
  }
  // The same, and what see made of the four is kept.
  template <class See>
  __device__ void change_each(See see) const {
    for_each([&](int i, float4 four) {
      see(i, four);
      if (i - first < count) *reinterpret_cast<float4*>(values + i - first) = four;
    });
  }

  // Brings the row near and looks at it for the first time. x: the row.
  __device__ Scan take(const float* x) const {
    constexpr int at_once = 4;
    Scan mine{{-INFINITY, INT32_MAX}, 0};
    const float* from = x + first;
    bool is_whole = count % 4 == 0 && reinterpret_cast<std::uintptr_t>(from) % 16 == 0;
    int packs = is_whole ? count / 4 : 0;
#pragma unroll 1
    for (int at = threadIdx.x; at < packs; at += blockDim.x * at_once) {
      float4 four[at_once];
#pragma unroll
      for (int u = 0; u < at_once; ++u) {
        int pack = at + u * blockDim.x;
        if (pack < packs) four[u] = reinterpret_cast<const float4*>(from)[pack];
      }
#pragma unroll
      for (int u = 0; u < at_once; ++u) {
        int i = (at + u * blockDim.x) * 4;
        if (i >= count) continue;
        see_four(mine, first + i, four[u]);
        *reinterpret_cast<float4*>(values + i) = four[u];
      }
    }
    if (!is_whole) {
#pragma unroll 1
      for (int i = threadIdx.x; i < (count + 3) / 4 * 4; i += blockDim.x) {
        values[i] = i < count ? from[i] : -INFINITY;
        if (i < count) mine.see(first + i, values[i]);
      }
    }
    return team.join(mine, join_scans);  // and everybody sees what the others brought
  }

  // Looks again, at changed values.
  __device__ Scan scan() const {
    Scan mine{{-INFINITY, INT32_MAX}, 0};
    for_each([&](int i, float4 four) { see_four(mine, i, four); });
    return team.join(mine, join_scans);
  }

 private:
  __device__ static void see_four(Scan& scan, int i, float4 four) {
    scan.see(i, four.x);
    scan.see(i + 1, four.y);
    scan.see(i + 2, four.z);
    scan.see(i + 3, four.w);
  }
};

#endif

}  // namespace pensive::kernels
