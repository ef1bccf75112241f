// One product of the tensor cores, for the two brief types. Its arguments are 32-bit words of two
// values each, in the order of mma.m16n8k16.
#pragma once
#include "kernels/cuda/launch.h"

namespace pensive::kernels {

#if defined(__CUDACC__)

// sums [16, 8] += a [16, 16] b [16, 8]. From capability 8.0 on; before it does nothing and is never
// called.
template <class S>
__device__ void join_tile(float (&sums)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                          unsigned b0, unsigned b1);
template <>
__device__ inline void join_tile<__nv_bfloat16>(float (&sums)[4], unsigned a0, unsigned a1,
                                                unsigned a2, unsigned a3, unsigned b0,
                                                unsigned b1) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#endif
}
template <>
__device__ inline void join_tile<__half>(float (&sums)[4], unsigned a0, unsigned a1, unsigned a2,
                                         unsigned a3, unsigned b0, unsigned b1) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#endif
}

template <class S>
__device__ float rounded(float x) {
  S stored;
  narrow(x, &stored);
  return widen(stored);
}

#endif

}  // namespace pensive::kernels
