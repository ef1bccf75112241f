// What both kinds of products share: how weights come, and how rows are normed on the way in.
#pragma once
#include "kernels/cuda/decode.h"
#include "kernels/cuda/launch.h"

namespace pensive::kernels {

constexpr std::size_t most_shared = 48 * 1024;  // of a block's memory that need not be asked for

#if defined(__CUDACC__)

// Weights are read once: past the first cache, where x stays.
template <class S>
__device__ Pack16<S> fetch(const S* from) {
  uint4 raw;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(raw.x), "=r"(raw.y), "=r"(raw.z), "=r"(raw.w)
               : "l"(from));
  return *reinterpret_cast<Pack16<S>*>(&raw);
}

__device__ inline void ask_for(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

// Rows of x, normed and rounded as rms_norm does, into shared memory, `stride` values apart. M: at
// least as many as there are.
template <class S, int M, int warps>
__device__ void norm_rows(const float* x, const S* norm, float epsilon, int rows, int in,
                          int stride, S* to) {
  constexpr int threads = warps * 32, V = 4;
  struct alignas(V * sizeof(S)) Four {
    S values[V];
  };
  __shared__ float parts[M][warps];
  float squares[M] = {};
#pragma unroll
  for (int m = 0; m < M; ++m) {
    if (m >= rows) break;
    for (int k = threadIdx.x * V; k < in; k += threads * V) {
      const float4 four = *reinterpret_cast<const float4*>(x + m * in + k);
      squares[m] += four.x * four.x + four.y * four.y + four.z * four.z + four.w * four.w;
    }
  }
#pragma unroll
  for (int m = 0; m < M; ++m) {
    for (int step = 16; step > 0; step /= 2) squares[m] += __shfl_xor_sync(~0u, squares[m], step);
    if (threadIdx.x % 32 == 0) parts[m][threadIdx.x / 32] = squares[m];
  }
  __syncthreads();
#pragma unroll
  for (int m = 0; m < M; ++m) {
    if (m >= rows) break;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < warps; ++w) sum += parts[m][w];
    float scale = 1 / sqrtf(sum / static_cast<float>(in) + epsilon);
    for (int k = threadIdx.x * V; k < in; k += threads * V) {
      const float4 four = *reinterpret_cast<const float4*>(x + m * in + k);  // near by now
      auto made = *reinterpret_cast<const Four*>(norm + k);
      narrow(four.x * scale * widen(made.values[0]), &made.values[0]);
      narrow(four.y * scale * widen(made.values[1]), &made.values[1]);
      narrow(four.z * scale * widen(made.values[2]), &made.values[2]);
      narrow(four.w * scale * widen(made.values[3]), &made.values[3]);
      *reinterpret_cast<Four*>(to + m * stride + k) = made;
    }
  }
  __syncthreads();
}

#endif

}  // namespace pensive::kernels
