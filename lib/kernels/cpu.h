// What dispatch.cpp calls, with checked tensors: the CPU's fused loops, the twins that libtorch can
// differentiate, and CUDA's table behind one function each.
#pragma once
#include <ATen/ATen.h>

#include <cmath>
#include <vector>

#include "kernels/cuda.h"
#include "kernels/kernels.h"
#include "kernels/packed.h"

namespace pensive::kernels {

// Throws unsupported for anything but float32, bfloat16, float16 and float64.
Scalar scalar_of(const at::Tensor& tensor);
// float64 for float64, else float32.
at::ScalarType wide_of(const at::Tensor& tensor);

// What a row's z, its scaled logits less their largest, must reach.
inline float log_of_min_p(const DrawRow& row) {
  return static_cast<float>(std::log(static_cast<double>(row.min_p)));  // -infinity for 0
}

namespace cpu {
// Whether linear_own() is faster than libtorch for these, or better.
bool takes_own_loops(const at::Tensor& x, const at::Tensor& weight);
at::Tensor linear_own(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);
at::Tensor linear_invariant(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);
at::Tensor linear_wide(const at::Tensor& x, const at::Tensor& weight, Arithmetic arithmetic);
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon);
at::Tensor silu_mul(const at::Tensor& gate_up);
at::Tensor rotate(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines);
void write_pages(const at::Tensor& keys, const at::Tensor& values, at::Tensor& key_pages,
                 at::Tensor& value_pages, const PagedBatch& batch);
at::Tensor paged_attention(const at::Tensor& queries, const at::Tensor& key_pages,
                           const at::Tensor& value_pages, const PagedBatch& batch, double scale);
std::vector<Drawn> draw(const at::Tensor& logits, const std::vector<DrawRow>& rows);
TokenLogprobs drawn_logprobs(const at::Tensor& logits, const at::Tensor& tokens,
                             double temperature);
}  // namespace cpu

namespace twin {
at::Tensor linear_invariant(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon);
at::Tensor silu_mul(const at::Tensor& gate_up);
at::Tensor rotate(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines);
// x + y W^T of brief y and W, in float32 on CUDA.
at::Tensor add_product(const at::Tensor& x, const at::Tensor& y, const at::Tensor& weight);
}  // namespace twin

namespace cuda {
at::Tensor linear_invariant(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);
at::Tensor linear_invariant_wide(const at::Tensor& x, const at::Tensor& weight);  // -> float32
// Whether x [rows, in] is worth our product of many rows by that weight, of whose results each row
// has out_width, and whether it takes these.
bool takes_many_rows(const at::Tensor& x, const at::Tensor& weight, std::int64_t out_width);
at::Tensor silu_linear(const at::Tensor& x, const at::Tensor& weight);
// head_dim 64 or 128. -> [rows, heads, head_dim], all of them.
at::Tensor linear_rotated(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                          const at::Tensor& cosines, const at::Tensor& sines,
                          std::int64_t turned_heads);
bool takes_packed_attention(const at::Tensor& queries, const at::Tensor& keys,
                            const at::Tensor& values);
at::Tensor packed_attention(const at::Tensor& queries, const at::Tensor& keys,
                            const at::Tensor& values, const PackedBatch& batch, double scale);
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon);
at::Tensor silu_mul(const at::Tensor& gate_up);
at::Tensor rotate(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines);
void write_pages(const at::Tensor& keys, const at::Tensor& values, at::Tensor& key_pages,
                 at::Tensor& value_pages, const PagedBatch& batch);
at::Tensor paged_attention(const at::Tensor& queries, const at::Tensor& key_pages,
                           const at::Tensor& value_pages, const PagedBatch& batch, double scale);
std::vector<Drawn> draw(const at::Tensor& logits, const std::vector<DrawRow>& rows);
// Gradients in x and in gate_up; `pull` is that in the result.
at::Tensor rms_norm_back(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& pull,
                         double epsilon);
at::Tensor silu_mul_back(const at::Tensor& gate_up, const at::Tensor& pull);
TokenLogprobs token_logprobs(const at::Tensor& logits, const at::Tensor& tokens,
                             double temperature);
TokenLogprobs drawn_logprobs(const at::Tensor& logits, const at::Tensor& tokens,
                             double temperature);
at::Tensor token_logprobs_back(const at::Tensor& logits, const at::Tensor& tokens,
                               const at::Tensor& sums, const at::Tensor& pulls, double temperature,
                               at::ScalarType scalar);

// libpensive-cuda.so, opened once; throws unsupported where it cannot be.
const CudaTable& table();
void open_early();  // opens what is there, before libtorch is used
bool can_free();    // false when the driver has gone
// Why CUDA cannot be used on that card; empty where it can.
std::string obstacle(int index);
std::pair<int, int> capability(int index);  // major, minor
// Throws device, or out_of_memory, where a call of the table failed.
void check(int error, const char* what);
std::int32_t narrow(int64_t size, const char* what);  // throws unsupported from 2^31 on
void* stream_of(const at::Tensor& x);                 // the current one of its card
}  // namespace cuda

}  // namespace pensive::kernels
