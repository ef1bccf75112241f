// What runs where gradients are recorded, made of libtorch's differentiable operations.
#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "kernels/cpu.h"

namespace pensive::kernels::twin {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Kernels of our own instead, on CUDA, where x alone is learned from.
bool goes_by_kernels(const at::Tensor& x, const at::Tensor& weight = {}) {
  return x.is_cuda() && !(weight.defined() && weight.requires_grad());
}

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

struct AddProduct : torch::autograd::Function<AddProduct> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& y,
                            const at::Tensor& weight) {
    context->save_for_backward({weight});
    return at::addmm(x, y, weight.t(), x.scalar_type());
  }
  static variable_list backward(AutogradContext* context, const variable_list& pulls) {
    const at::Tensor weight = context->get_saved_variables()[0];
    return {pulls[0], at::matmul(pulls[0].to(weight.scalar_type()), weight), at::Tensor()};
  }
};

// Fewer passes over memory than the derivatives that libtorch would put together.
struct Norm : torch::autograd::Function<Norm> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& weight,
                            double epsilon) {
    if (goes_by_kernels(x, weight)) {
      context->save_for_backward({x, weight});
      context->saved_data["epsilon"] = epsilon;
      return cuda::rms_norm(x, weight, epsilon, Arithmetic::fast);
    }
    const at::Tensor wide = x.to(wide_of(x));
    const at::Tensor scale = at::rsqrt(wide.square().mean(-1, true) + epsilon);
    context->save_for_backward({x, weight, scale});
    return (wide * scale).mul_(weight).to(x.scalar_type());
  }
  static variable_list backward(AutogradContext* context, const variable_list& pulls) {
    const variable_list saved = context->get_saved_variables();
    if (saved.size() == 2) {
      const double epsilon = context->saved_data["epsilon"].toDouble();
      return {cuda::rms_norm_back(saved[0], saved[1], pulls[0], epsilon), at::Tensor(),
              at::Tensor()};
    }
    const at::Tensor &x = saved[0], &weight = saved[1], &scale = saved[2];
    const at::Tensor normed = x.to(scale.scalar_type()) * scale;
    const at::Tensor pull = pulls[0].to(scale.scalar_type());
    variable_list gradients(3);
    if (context->needs_input_grad(1))
      gradients[1] = (pull * normed).reshape({-1, weight.size(0)}).sum(0).to(weight.scalar_type());
    if (context->needs_input_grad(0)) {
      at::Tensor inner = pull * weight;
      const at::Tensor share = (inner * normed).mean(-1, true);
      gradients[0] = inner.addcmul_(normed, share, -1).mul_(scale).to(x.scalar_type());
    }
    return gradients;
  }
};

struct SiluMul : torch::autograd::Function<SiluMul> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate_up) {
    context->save_for_backward({gate_up});
    if (goes_by_kernels(gate_up)) return cuda::silu_mul(gate_up);
    const std::vector<at::Tensor> parts = gate_up.to(wide_of(gate_up)).chunk(2, 1);
    return at::silu(parts[0]).mul_(parts[1]).to(gate_up.scalar_type());
  }
  static variable_list backward(AutogradContext* context, const variable_list& pulls) {
    const at::Tensor gate_up = context->get_saved_variables()[0];
    if (goes_by_kernels(gate_up)) return {cuda::silu_mul_back(gate_up, pulls[0])};
    const std::vector<at::Tensor> parts = gate_up.to(wide_of(gate_up)).chunk(2, 1);
    const at::Tensor pull = pulls[0].to(parts[0].scalar_type());
    at::Tensor gradient = at::empty(gate_up.sizes(), parts[0].options());
    at::Tensor of_gate = gradient.narrow(1, 0, parts[0].size(1));
    at::Tensor of_up = gradient.narrow(1, parts[0].size(1), parts[0].size(1));
    at::silu_backward_out(of_gate, pull * parts[1], parts[0]);
    at::silu_out(of_up, parts[0]).mul_(pull);
    return {gradient.to(gate_up.scalar_type())};
  }
};

at::Tensor turned(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines) {
  if (x.is_cuda() && x.dim() == 3) return cuda::rotate(x, cosines, sines);
  const at::Tensor wide = x.to(wide_of(x));
  const std::vector<at::Tensor> halves = wide.chunk(2, 2);
  const at::Tensor c = cosines.unsqueeze(1), s = sines.unsqueeze(1);
  at::Tensor out = at::empty(x.sizes(), wide.options());
  at::Tensor a = out.narrow(2, 0, halves[0].size(2)),
             b = out.narrow(2, halves[0].size(2), halves[0].size(2));
  at::mul_out(a, halves[0], c).addcmul_(halves[1], s, -1);
  at::mul_out(b, halves[1], c).addcmul_(halves[0], s);
  return out.to(x.scalar_type());
}

// The way back of a rotation is the rotation back.
struct Rotation : torch::autograd::Function<Rotation> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& cosines, const at::Tensor& sines) {
    context->save_for_backward({cosines, sines});
    return turned(x, cosines, sines);
  }
  static variable_list backward(AutogradContext* context, const variable_list& pulls) {
    const variable_list saved = context->get_saved_variables();
    return {turned(pulls[0], saved[0], -saved[1]), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor linear_invariant(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return InvariantProduct::apply(x, weight, bias);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  return Norm::apply(x, weight, epsilon);
}

at::Tensor silu_mul(const at::Tensor& gate_up) { return SiluMul::apply(gate_up); }

at::Tensor add_product(const at::Tensor& x, const at::Tensor& y, const at::Tensor& weight) {
  return AddProduct::apply(x, y, weight);
}

at::Tensor rotate(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines) {
  return Rotation::apply(x, cosines, sines);
}

}  // namespace pensive::kernels::twin
