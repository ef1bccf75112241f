#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "base/inside.h"
#include "kernels/cpu.h"
#include "kernels/kernels.h"
#include "kernels/noise.h"

namespace pensive::kernels {
namespace {

at::ScalarType wide(at::ScalarType scalar) {
  return scalar == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                  Arithmetic arithmetic) {
  if (arithmetic == Arithmetic::fast || x.size(0) == 0) {
    return bias.defined() ? at::linear(x, weight, bias) : at::linear(x, weight);
  }
  std::vector<at::Tensor> tiles;
  int64_t rows = x.size(0);
  at::Tensor padded = at::constant_pad_nd(x, {0, 0, 0, (16 - rows % 16) % 16});
  for (int64_t row = 0; row < rows; row += 16) {
    at::Tensor tile = padded.narrow(0, row, 16);
    tiles.push_back(bias.defined() ? at::linear(tile, weight, bias) : at::linear(tile, weight));
  }
  return at::cat(tiles).narrow(0, 0, rows);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  at::Tensor wider = x.to(wide(x.scalar_type()));
  at::Tensor scale = at::rsqrt(wider.square().mean(-1, true) + epsilon);
  return (wider * scale * weight.to(wider.scalar_type())).to(x.scalar_type());
}

at::Tensor silu_mul(const at::Tensor& gate_up) {
  int64_t inner = gate_up.size(1) / 2;
  at::Tensor wider = gate_up.to(wide(gate_up.scalar_type()));
  return (at::silu(wider.narrow(1, 0, inner)) * wider.narrow(1, inner, inner))
      .to(gate_up.scalar_type());
}

at::Tensor rotate(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines) {
  int64_t half = x.size(2) / 2;
  at::Tensor wider = x.to(wide(x.scalar_type()));
  at::Tensor a = wider.narrow(2, 0, half), b = wider.narrow(2, half, half);
  at::Tensor c = cosines.unsqueeze(1), s = sines.unsqueeze(1);
  return at::cat({a * c - b * s, b * c + a * s}, 2).to(x.scalar_type());
}

void write_pages(const at::Tensor& keys, const at::Tensor& values, at::Tensor& key_pages,
                 at::Tensor& value_pages, const PagedBatch& batch) {
  key_pages.view({-1, keys.size(1), keys.size(2)}).index_copy_(0, batch.slots, keys);
  value_pages.view({-1, keys.size(1), keys.size(2)}).index_copy_(0, batch.slots, values);
}

at::Tensor paged_attention(const at::Tensor& queries, const at::Tensor& key_pages,
                           const at::Tensor& value_pages, const PagedBatch& batch, double scale) {
  return cpu::paged_attention(queries, key_pages, value_pages, batch, scale);
}

std::vector<Drawn> draw(const at::Tensor& logits, const std::vector<DrawRow>& rows) {
  return cpu::draw(logits, rows);
}

float gumbel(std::uint64_t key, std::uint32_t token) { return gumbel_of(key, token); }

std::uint64_t mix(std::uint64_t key, std::uint64_t value) {
  return scramble(scramble(key + 0x9E3779B97F4A7C15ull) ^ scramble(value + 0x632BE59BD9B4E019ull));
}

at::Device to_torch(const Device& resolved) {
  if (resolved.kind == DeviceKind::cuda) {
    return {at::kCUDA, static_cast<at::DeviceIndex>(resolved.index)};
  }
  return at::kCPU;
}

}  // namespace pensive::kernels
