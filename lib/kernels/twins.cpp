// What runs where gradients are recorded, made of libtorch's differentiable operations.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/cpu.h"

namespace pensive::kernels::twin {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The forward of Arithmetic::row_invariant itself, so that training sees the engine's bits.
struct InvariantProduct : torch::autograd::Function<InvariantProduct> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            const at::Tensor& bias) {
    // x is only asked for by the weight, which is nearly always frozen.
    context->save_for_backward({weight.requires_grad() ? x : at::Tensor(), weight});
    return x.is_cuda() ? cuda::linear_invariant(x, weight, bias)
                       : cpu::linear_invariant(x, weight, bias);
  }

  static variable_list backward(AutogradContext* context, const variable_list& pulls) {
    const at::Tensor& pull = pulls[0];
    variable_list saved = context->get_saved_variables();
    variable_list gradients(3);
    if (context->needs_input_grad(0)) gradients[0] = at::matmul(pull, saved[1]);
    if (context->needs_input_grad(1)) gradients[1] = at::matmul(pull.t(), saved[0]);
    if (context->needs_input_grad(2)) gradients[2] = pull.sum(0);
    return gradients;
  }
};

}  // namespace

at::Tensor linear_invariant(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return InvariantProduct::apply(x, weight, bias);
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
