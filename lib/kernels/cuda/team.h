// Several blocks that work on one row together.
#pragma once
#include <cooperative_groups.h>

#include "kernels/cuda/launch.h"

namespace pensive::kernels {

#if defined(__CUDACC__)

constexpr int most_blocks = 8;  // of a team; every card with clusters (from 9.0 on) takes so many

template <class T>
__device__ T other_lane(T value, int step) {
  static_assert(sizeof(T) % 4 == 0, "words");
  unsigned words[sizeof(T) / 4];
  memcpy(words, &value, sizeof(T));
#pragma unroll
  for (unsigned& word : words) word = __shfl_xor_sync(~0u, word, step);
  memcpy(&value, words, sizeof(T));
  return value;
}

template <class T>
__device__ T first_lane(T value) {
  unsigned words[sizeof(T) / 4];
  memcpy(words, &value, sizeof(T));
#pragma unroll
  for (unsigned& word : words) word = __shfl_sync(~0u, word, 0);
  memcpy(&value, words, sizeof(T));
  return value;
}

// What a team's threads share. Element i of a row belongs to one thread throughout, so that nobody
// reads what another wrote.
template <int blocks>
class Team {
 public:
  static constexpr int room = 32;  // bytes of the largest value that is joined

  struct Shared {
    double warps[32][room / 8];
    double blocks_[2][most_blocks][room / 8];
  };

  __device__ explicit Team(Shared* shared) : shared_(shared), rank_(0) {
#if __CUDA_ARCH__ >= 900
    if constexpr (blocks > 1) {
      rank_ = cooperative_groups::this_cluster().block_rank();
      cooperative_groups::this_cluster().sync();  // all are there before one writes to another
    }
#endif
  }
  __device__ int first() const { return rank_ * blockDim.x + threadIdx.x; }
  __device__ int stride() const { return blocks * blockDim.x; }
  __device__ bool is_leader() const { return rank_ == 0 && threadIdx.x == 0; }
  __device__ bool owns(int i) const {
    return i / static_cast<int>(blockDim.x) % blocks == static_cast<int>(rank_);
  }

  // One value of every thread, joined in an order fixed by the team's size; all get the result.
  template <class T, class Join>
  __device__ T join(T value, Join join) {
    static_assert(sizeof(T) <= room, "no more than there is room for");
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (int step = 16; step > 0; step /= 2) value = join(value, other_lane(value, step));
    auto slot = [&](void* at) -> T& { return *static_cast<T*>(at); };
    if (lane == 0) slot(shared_->warps[warp]) = value;
    __syncthreads();
    if (lane < warps) value = slot(shared_->warps[lane]);
    for (int step = 16; step > 0; step /= 2) {
      T other = other_lane(value, step);
      if ((lane ^ step) < warps && lane < step) value = join(value, other);
    }
    value = first_lane(value);
    if constexpr (blocks > 1) value = join_blocks(value, join);
    __syncthreads();
    return value;
  }

 private:
  template <class T, class Join>
  __device__ T join_blocks(T value, Join join) {
#if __CUDA_ARCH__ >= 900
    auto cluster = cooperative_groups::this_cluster();
    turn_ ^= 1;  // so that the next join need not wait for the last reader of this one
    auto slot = [&](void* at) -> T& { return *static_cast<T*>(at); };
    if (threadIdx.x < blocks) {
      Shared* there = cluster.map_shared_rank(shared_, threadIdx.x);
      slot(there->blocks_[turn_][rank_]) = value;
    }
    cluster.sync();
    value = slot(shared_->blocks_[turn_][0]);
    for (int i = 1; i < blocks; ++i) value = join(value, slot(shared_->blocks_[turn_][i]));
#endif
    return value;
  }

  Shared* shared_;
  unsigned rank_;
  int turn_ = 0;
};

// Calls see(i, x[i]) for this thread's elements, in order. Several are loaded before the first is
// looked at.
template <class X, class T, class See>
__device__ void for_each(const X* x, int count, const T& team, See see) {
  constexpr int at_once = 8;
  int stride = team.stride();
  for (int first = team.first(); first < count; first += at_once * stride) {
    float values[at_once];
#pragma unroll
    for (int u = 0; u < at_once; ++u) {
      int i = first + u * stride;
      values[u] = i < count ? widen(x[i]) : 0;
    }
#pragma unroll
    for (int u = 0; u < at_once; ++u) {
      int i = first + u * stride;
      if (i < count) see(i, values[u]);
    }
  }
}

#endif

}  // namespace pensive::kernels
