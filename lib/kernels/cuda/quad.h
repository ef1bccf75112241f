// Words that four neighbouring lanes exchange, so that each has what stands together in memory.
#pragma once
#include "kernels/cuda/launch.h"

namespace pensive::kernels {

#if defined(__CUDACC__)

// Word i of lane j goes to word j of lane i.
__device__ inline void turn_words(unsigned (&words)[4]) {
  const int lane = threadIdx.x % 4;
#pragma unroll
  for (int step = 1; step < 4; step *= 2) {
    const bool is_high = lane & step;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i & step) continue;
      const unsigned got = __shfl_xor_sync(~0u, is_high ? words[i] : words[i + step], step);
      (is_high ? words[i] : words[i + step]) = got;
    }
  }
}

template <class S>
__device__ unsigned word_of(float low, float high) {
  S two[2];
  narrow(low, &two[0]);
  narrow(high, &two[1]);
  unsigned word;
  memcpy(&word, two, sizeof word);
  return word;
}
template <class S>
__device__ float2 values_of(unsigned word) {
  S two[2];
  memcpy(two, &word, sizeof word);
  return {widen(two[0]), widen(two[1])};
}

__device__ inline void store_words(const unsigned (&words)[4], void* to) {
  *static_cast<uint4*>(to) = {words[0], words[1], words[2], words[3]};
}

#endif

}  // namespace pensive::kernels
