#include "kernels/describe.h"

#include <c10/core/DeviceGuard.h>

#include "kernels/cpu.h"

namespace pensive::kernels::cuda {
namespace {

const void* pointer(const at::Tensor& x) { return x.defined() ? x.const_data_ptr() : nullptr; }

std::vector<CudaLayer> layers_of(const DecodeModel& model) {
  std::vector<CudaLayer> layers;
  for (const DecodeLayer& layer : model.layers)
    layers.push_back({pointer(layer.attention_norm), pointer(layer.qkv), pointer(layer.qkv_bias),
                      pointer(layer.query_norm), pointer(layer.key_norm), pointer(layer.output),
                      pointer(layer.output_bias), pointer(layer.mlp_norm), pointer(layer.gate_up),
                      pointer(layer.gate_up_bias), pointer(layer.down), pointer(layer.down_bias),
                      layer.key_pages.mutable_data_ptr(), layer.value_pages.mutable_data_ptr()});
  return layers;
}

}  // namespace

bool takes_steps(const DecodeModel& model) {
  const at::Tensor& head = model.head;
  if (!head.is_cuda() || head.scalar_type() == at::kDouble || model.layers.empty()) return false;
  const DecodeLayer& first = model.layers.front();
  const std::int64_t pack = 16 / static_cast<std::int64_t>(head.element_size());
  const std::int64_t head_dim = first.key_pages.size(3);
  for (const std::int64_t size : {head.size(1), first.down.size(1), head_dim})
    if (size % pack != 0) return false;
  return head_dim <= most_cuda_head_dim;
}

void* make_decoder(const DecodeModel& model, int most_rows) {
  const DecodeLayer& first = model.layers.front();
  const std::vector<CudaLayer> layers = layers_of(model);
  const auto size = [](const at::Tensor& x, std::int64_t dimension) {
    return static_cast<std::int32_t>(x.size(dimension));
  };
  CudaModel made{};
  made.layers = static_cast<std::int32_t>(layers.size());
  made.width = size(model.head, 1);
  made.inner = size(first.down, 1);
  made.heads = model.heads;
  made.kv_heads = size(first.key_pages, 2);
  made.head_dim = size(first.key_pages, 3);
  made.vocab = size(model.head, 0);
  made.page_tokens = size(first.key_pages, 1);
  made.most_rows = most_rows;
  made.scalar = scalar_of(model.head);
  made.is_invariant = model.arithmetic == Arithmetic::row_invariant;
  made.epsilon = model.epsilon;
  made.cosines = model.cosines.const_data_ptr<float>();
  made.sines = model.sines.const_data_ptr<float>();
  made.final_norm = pointer(model.final_norm);
  made.head = pointer(model.head);
  made.host_layers = layers.data();
  made.one_row = model.one_row;
  const c10::DeviceGuard guard(model.head.device());
  void* decoder = nullptr;
  check(table().make_decoder(made, model.head.device().index(), &decoder), "decode");
  return decoder;
}

}  // namespace pensive::kernels::cuda
