// The ways back on CUDA: tensors to the pointers of CudaTable.
#include <c10/core/DeviceGuard.h>

#include "base/inside.h"
#include "kernels/cpu.h"

namespace pensive::kernels::cuda {
namespace {

CudaTokens describe(const at::Tensor& logits, const at::Tensor& tokens, double temperature,
                    const char* where) {
  CudaTokens made{};
  made.rows = narrow(logits.size(0), where);
  made.vocab = narrow(logits.size(1), where);
  made.temperature = static_cast<float>(temperature);
  made.logits = logits.const_data_ptr<float>();
  made.tokens = tokens.const_data_ptr<int64_t>();
  return made;
}

TokenLogprobs find(const at::Tensor& logits, const at::Tensor& tokens, double temperature,
                   int (*launch)(const CudaTokens& tokens, void* stream), const char* where) {
  c10::DeviceGuard guard(logits.device());
  at::Tensor ids = tokens.contiguous(), out = at::empty({3, logits.size(0)}, logits.options());
  TokenLogprobs found{out[0], out[1], out[2]};
  if (logits.numel() == 0) return found;
  CudaTokens call = describe(logits, ids, temperature, where);
  call.logprobs = found.logprobs.mutable_data_ptr<float>();
  call.entropies = found.entropies.mutable_data_ptr<float>();
  call.sums = found.sums.mutable_data_ptr<float>();
  check(launch(call, stream_of(logits)), where);
  return found;
}

}  // namespace

at::Tensor rms_norm_back(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& pull,
                         double epsilon) {
  c10::DeviceGuard guard(x.device());
  at::Tensor from = x.contiguous(), weights = weight.contiguous(), pulls = pull.contiguous();
  at::Tensor out = at::empty_like(from);
  int64_t width = weight.size(0);
  if (from.numel() == 0) return out;
  check(table().rms_norm_back(from.const_data_ptr(), weights.const_data_ptr(),
                              pulls.const_data_ptr(), out.mutable_data_ptr(),
                              narrow(from.numel() / width, "rms_norm"), narrow(width, "rms_norm"),
                              epsilon, scalar_of(weight), scalar_of(x), stream_of(x)),
        "rms_norm's gradient");
  return out;
}

at::Tensor silu_mul_back(const at::Tensor& gate_up, const at::Tensor& pull) {
  c10::DeviceGuard guard(gate_up.device());
  at::Tensor from = gate_up.contiguous(), pulls = pull.contiguous(), out = at::empty_like(from);
  if (out.numel() == 0) return out;
  check(
      table().silu_mul_back(from.const_data_ptr(), pulls.const_data_ptr(), out.mutable_data_ptr(),
                            narrow(from.size(0), "silu_mul"), narrow(from.size(1) / 2, "silu_mul"),
                            scalar_of(from), stream_of(from)),
      "silu_mul's gradient");
  return out;
}

TokenLogprobs token_logprobs(const at::Tensor& logits, const at::Tensor& tokens,
                             double temperature) {
  return find(logits, tokens, temperature, table().token_logprobs, "token_logprobs");
}

TokenLogprobs drawn_logprobs(const at::Tensor& logits, const at::Tensor& tokens,
                             double temperature) {
  return find(logits, tokens, temperature, table().drawn_logprobs, "drawn_logprobs");
}

at::Tensor token_logprobs_back(const at::Tensor& logits, const at::Tensor& tokens,
                               const at::Tensor& sums, const at::Tensor& pulls, double temperature,
                               at::ScalarType scalar) {
  c10::DeviceGuard guard(logits.device());
  at::Tensor ids = tokens.contiguous(), pull = pulls.to(at::kFloat).contiguous();
  at::Tensor known = sums.contiguous();
  at::Tensor out = at::empty(logits.sizes(), logits.options().dtype(scalar));
  if (out.numel() == 0) return out;
  CudaTokens call = describe(logits, ids, temperature, "token_logprobs");
  call.sums = known.mutable_data_ptr<float>();
  check(table().token_logprobs_back(call, pull.const_data_ptr<float>(), out.mutable_data_ptr(),
                                    scalar_of(out), stream_of(logits)),
        "token_logprobs' gradient");
  return out;
}

}  // namespace pensive::kernels::cuda
