// What the .cu files share: storage types, reductions over a block, and the launching functions
// that table.cpp puts into CudaTable (cuda.h has their contracts).
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda.h"

namespace pensive::kernels {

int launch_rms_norm(const void* x, const void* weight, void* out, std::int32_t rows,
                    std::int32_t width, double epsilon, Scalar scalar, Scalar of_x, void* stream);
int launch_silu_mul(const void* gate_up, void* out, std::int32_t rows, std::int32_t inner,
                    Scalar scalar, void* stream);
int launch_rotate(const void* x, std::int64_t x_stride, const void* cosines, const void* sines,
                  void* out, std::int32_t tokens, std::int32_t heads, std::int32_t head_dim,
                  Scalar scalar, void* stream);
int launch_write_pages(const CudaPageRows& keys, const CudaPageRows& values,
                       const std::int64_t* slots, std::int32_t tokens, std::int32_t row_values,
                       Scalar scalar, void* stream);
int launch_paged_attention(const void* queries, std::int64_t query_stride, const void* key_pages,
                           const void* value_pages, void* out, const std::int32_t* tables,
                           const std::int32_t* starts, const std::int32_t* lengths, CudaShape shape,
                           double scale, Scalar scalar, void* stream);
int launch_draw(const CudaDraw& draw, void* stream);
int launch_rms_norm_back(const void* x, const void* weight, const void* pull, void* out,
                         std::int32_t rows, std::int32_t width, double epsilon, Scalar scalar,
                         Scalar of_x, void* stream);
int launch_silu_mul_back(const void* gate_up, const void* pull, void* out, std::int32_t rows,
                         std::int32_t inner, Scalar scalar, void* stream);
int launch_token_logprobs(const CudaTokens& tokens, void* stream);
int launch_drawn_logprobs(const CudaTokens& tokens, void* stream);
int launch_token_logprobs_back(const CudaTokens& tokens, const float* pulls, void* out,
                               Scalar scalar, void* stream);
int make_decoder(const CudaModel& model, int device, void** host_decoder);
void free_decoder(void* decoder);
std::int64_t workspace_bytes(const void* decoder, std::int32_t rows, std::int32_t longest);
int decode(void* decoder, const CudaDecodeCall& call, void* stream, std::int32_t* host_captured);
int await_decode(void* decoder, std::int32_t flight);
int profile(void* decoder, const CudaDecodeCall& call, void* stream, float* host_us);
int launch_multiply(const CudaProduct& product, int capability, void* stream);
std::int64_t forward_bytes(const void* decoder, std::int32_t rows, std::int32_t longest);
int forward(void* decoder, const CudaForward& call, void* stream);
int launch_many_rows(const CudaManyRows& call, void* stream);
int launch_packed_attention(const CudaPackedAttention& call, void* stream);
// Asks the runtime for one of our kernels on the current card: 0 where this build has its code.
int find_kernel();

#if defined(__CUDACC__)

template <class S>
struct ComputeOf {
  using Type = float;
};
template <>
struct ComputeOf<double> {
  using Type = double;
};
template <class S>
using Compute = typename ComputeOf<S>::Type;

__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float widen(__half x) { return __half2float(x); }
__device__ inline void narrow(float x, float* to) { *to = x; }
__device__ inline void narrow(double x, double* to) { *to = x; }
__device__ inline void narrow(float x, __nv_bfloat16* to) { *to = __float2bfloat16_rn(x); }
__device__ inline void narrow(float x, __half* to) { *to = __float2half_rn(x); }

// Joins one value of every thread in an order fixed by the block's size; all threads get the
// result. `shared` holds 33 values. The block's size is a multiple of 32.
template <class T, class Join>
__device__ T join_block(T value, T* shared, Join join) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  for (int step = 16; step > 0; step /= 2) {
    value = join(value, __shfl_xor_sync(~0u, value, step));
  }
  if (lane == 0) shared[warp] = value;
  __syncthreads();
  if (threadIdx.x == 0) {
    T all = shared[0];
    for (int i = 1; i < warps; ++i) all = join(all, shared[i]);
    shared[32] = all;
  }
  __syncthreads();
  T result = shared[32];
  __syncthreads();
  return result;
}

struct Sum {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};

// Calls launch(S{}) with the storage type that a Scalar names; not float64, which is for tests.
template <class Launch>
int by_brief_scalar(Scalar scalar, Launch launch) {
  switch (scalar) {
    case Scalar::float32:
      return launch(float{});
    case Scalar::bfloat16:
      return launch(__nv_bfloat16{});
    case Scalar::float16:
      return launch(__half{});
    case Scalar::float64:
      break;
  }
  return cudaErrorInvalidValue;
}

// The same with float64.
template <class Launch>
int by_scalar(Scalar scalar, Launch launch) {
  return scalar == Scalar::float64 ? launch(double{}) : by_brief_scalar(scalar, launch);
}

#endif

}  // namespace pensive::kernels
