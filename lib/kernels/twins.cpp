// What runs where gradients are recorded, made of libtorch's differentiable operations.
#include <ATen/ATen.h>

#include "kernels/cpu.h"

namespace pensive::kernels::twin {

at::Tensor linear_invariant(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  int64_t rows = x.size(0);
  at::Tensor padded = at::constant_pad_nd(x, {0, 0, 0, (16 - rows % 16) % 16});
  std::vector<at::Tensor> tiles;
  for (int64_t row = 0; row < rows; row += 16) {
    at::Tensor tile = padded.narrow(0, row, 16);
    tiles.push_back(bias.defined() ? at::linear(tile, weight, bias) : at::linear(tile, weight));
  }
  if (tiles.empty()) return at::linear(x, weight);
  return at::cat(tiles).narrow(0, 0, rows);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  at::Tensor wide = x.to(wide_of(x));
  at::Tensor scale = at::rsqrt(wide.square().mean(-1, true) + epsilon);
  return (wide * scale * weight.to(wide.scalar_type())).to(x.scalar_type());
}

at::Tensor silu_mul(const at::Tensor& gate_up) {
  int64_t inner = gate_up.size(1) / 2;
  at::Tensor wide = gate_up.to(wide_of(gate_up));
  return (at::silu(wide.narrow(1, 0, inner)) * wide.narrow(1, inner, inner))
      .to(gate_up.scalar_type());
}

at::Tensor rotate(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines) {
  int64_t half = x.size(2) / 2;
  at::Tensor wide = x.to(wide_of(x));
  at::Tensor a = wide.narrow(2, 0, half), b = wide.narrow(2, half, half);
  at::Tensor c = cosines.unsqueeze(1), s = sines.unsqueeze(1);
  return at::cat({a * c - b * s, b * c + a * s}, 2).to(x.scalar_type());
}

}  // namespace pensive::kernels::twin
