// Several blocks that work on one row together.
#pragma once
#include "kernels/cuda/cluster.h"
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

// Joins one value of every lane; all get the result.
template <class T, class Join>
__device__ T join_lanes(T value, Join join) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) value = join(value, other_lane(value, step));
  return value;
}

// What a team's threads share.
template <int blocks>
class Team {
 public:
  static constexpr int room = 64;  // bytes of the largest value that is joined

  struct Shared {
    double warps[32][room / 8];
    double blocks_[2][most_blocks][room / 8];
    double result[room / 8];
  };

  __device__ explicit Team(Shared* shared) : shared_(shared), rank_(0) {
#if __CUDA_ARCH__ >= 900
    if constexpr (blocks > 1) {
      rank_ = cooperative_groups::this_cluster().block_rank();
      arrive_at_cluster();  // all are there before one writes to another
      wait_for_cluster();
    }
#endif
  }
  __device__ int rank() const { return rank_; }
  __device__ bool is_leader() const { return rank_ == 0 && threadIdx.x == 0; }

  // One value of every thread, joined in an order fixed by the team's size; all get the result.
  template <class T, class Join>
  __device__ T join(T value, Join join) {
    return join_warps(join_lanes(value, join), join);
  }

  // The same of one value of every warp, which its first lane has. Loops stay loops: a draw comes
  // once a step, and its code from afar.
  template <class T, class Join>
  __device__ T join_warps(T value, Join join) {
    static_assert(sizeof(T) <= room, "no more than there is room for");
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    auto slot = [&](void* at) -> T& { return *static_cast<T*>(at); };
    if (lane == 0) slot(shared_->warps[warp]) = value;
    __syncthreads();
    turn_ ^= 1;  // so that the next join need not wait for the last reader of this one
    if (warp == 0) {
      value = slot(shared_->warps[lane < warps ? lane : 0]);
#pragma unroll 1
      for (int step = 16; step > 0; step /= 2) {
        T other = other_lane(value, step);
        if (lane < step && lane + step < warps) value = join(value, other);
      }
      send(value);
    }
    if constexpr (blocks > 1) {
      arrive_at_cluster();
      wait_for_cluster();
      if (threadIdx.x == 0) {
        value = slot(shared_->blocks_[turn_][0]);
#pragma unroll 1
        for (int i = 1; i < blocks; ++i) value = join(value, slot(shared_->blocks_[turn_][i]));
        slot(shared_->result) = value;
      }
    }
    __syncthreads();
    return slot(shared_->result);
  }

 private:
  // The first lane's value to all blocks, a lane each.
  template <class T>
  __device__ void send(T value) {
    int lane = threadIdx.x % 32;
    if constexpr (blocks > 1) {
      value = first_lane(value);
      if (lane < blocks)
        *reinterpret_cast<T*>(in_block(shared_, lane)->blocks_[turn_][rank_]) = value;
    } else if (lane == 0) {
      *reinterpret_cast<T*>(shared_->result) = value;
    }
  }

  Shared* shared_;
  int rank_;
  int turn_ = 0;
};

#endif

}  // namespace pensive::kernels
