// The CPU versions, called by dispatch.cpp with checked tensors.
#pragma once
#include <ATen/ATen.h>

#include <vector>

#include "kernels/kernels.h"

namespace pensive::kernels::cpu {

at::Tensor linear_invariant(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon);
at::Tensor silu_mul(const at::Tensor& gate_up);
at::Tensor rotate(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines);
void write_pages(const at::Tensor& keys, const at::Tensor& values, at::Tensor& key_pages,
                 at::Tensor& value_pages, const PagedBatch& batch);
at::Tensor paged_attention(const at::Tensor& queries, const at::Tensor& key_pages,
                           const at::Tensor& value_pages, const PagedBatch& batch, double scale);
std::vector<Drawn> draw(const at::Tensor& logits, const std::vector<DrawRow>& rows);

}  // namespace pensive::kernels::cpu
