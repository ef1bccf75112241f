#include "model/decoder.h"

#include <c10/core/GradMode.h>

#include <cmath>
#include <limits>
#include <utility>

#include "kernels/packed.h"

namespace pensive {

at::Tensor WholeAttention::attend(int, const at::Tensor& queries, const at::Tensor& keys,
                                  const at::Tensor& values) {
  const std::int64_t tokens = queries.size(0), head_dim = queries.size(2);
  const std::int64_t kv_heads = keys.size(1), group = queries.size(1) / kv_heads;
  const at::ScalarType exact = queries.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const double scale = 1 / std::sqrt(static_cast<double>(head_dim));

  const at::Tensor q =
      queries.to(exact).transpose(0, 1).reshape({kv_heads, group, tokens, head_dim});
  const at::Tensor k =
      keys.to(exact).permute({1, 2, 0}).unsqueeze(1);  // [kv_heads, 1, head_dim, tokens]
  const at::Tensor v =
      values.to(exact).transpose(0, 1).unsqueeze(1);  // [kv_heads, 1, tokens, head_dim]
  const at::Tensor scores = q.matmul(k) * scale;      // [kv_heads, group, tokens, tokens]
  const at::Tensor later = at::ones({tokens, tokens}, scores.options().dtype(at::kBool)).triu(1);
  const at::Tensor shares =
      scores.masked_fill(later, -std::numeric_limits<double>::infinity()).softmax(-1);
  const at::Tensor mixed = shares.matmul(v);  // [kv_heads, group, tokens, head_dim]
  return mixed.reshape({kv_heads * group, tokens, head_dim})
      .transpose(0, 1)
      .to(queries.scalar_type())
      .contiguous();
}

Decoder::Decoder(Config config, Weights weights)
    : config_(std::move(config)), weights_(std::move(weights)) {
  const PlainTensors plain;
  const RotationTables tables = rotation_tables(config_, weights_.embedding.scalar_type());
  cosines_ = tables.cosines.to(weights_.embedding.device());
  sines_ = tables.sines.to(weights_.embedding.device());
}

at::Tensor Decoder::embed(const at::Tensor& ids) const {
  return weights_.embedding.index_select(0, ids);
}

Decoder::Heads Decoder::project(const LayerWeights& weights, const at::Tensor& normed,
                                const Angles& angles, Arithmetic arithmetic) const {
  const std::int64_t heads = config_.heads, kv_heads = config_.kv_heads;
  if (!config_.has_query_key_norms) {
    // Queries and keys turn alike: one call for both.
    const kernels::Turned made =
        kernels::linear_rotated(normed, weights.qkv, weights.qkv_bias, angles.cosines, angles.sines,
                                heads + kv_heads, arithmetic);
    const std::vector<at::Tensor> turned = made.turned.split_with_sizes({heads, kv_heads}, 1);
    return {turned[0], turned[1], made.rest};
  }
  const at::Tensor qkv = kernels::linear(normed, weights.qkv, weights.qkv_bias, arithmetic)
                             .view({normed.size(0), heads + 2 * kv_heads, config_.head_dim});
  const std::vector<at::Tensor> parts = qkv.split_with_sizes({heads, kv_heads, kv_heads}, 1);
  const at::Tensor queries =
      kernels::rms_norm(parts[0], weights.query_norm, config_.norm_epsilon, arithmetic);
  const at::Tensor keys =
      kernels::rms_norm(parts[1], weights.key_norm, config_.norm_epsilon, arithmetic);
  return {kernels::rotate(queries, angles.cosines, angles.sines),
          kernels::rotate(keys, angles.cosines, angles.sines), parts[2]};
}

Angles Decoder::angles(const at::Tensor& positions) const {
  return {cosines_.index_select(0, positions), sines_.index_select(0, positions)};
}

at::Tensor Decoder::layer(int index, const at::Tensor& x, const Angles& angles,
                          Attention& attention, Arithmetic arithmetic) const {
  return pass(index, x, Input::kept, angles, attention, arithmetic);
}

at::Tensor Decoder::pass(int index, const at::Tensor& x, Input input, const Angles& angles,
                         Attention& attention, Arithmetic arithmetic) const {
  const LayerWeights& weights = weights_.layers[static_cast<std::size_t>(index)];
  const std::int64_t tokens = x.size(0), heads = config_.heads;
  at::Tensor normed =
      kernels::rms_norm(x, weights.attention_norm, config_.norm_epsilon, arithmetic);
  const Heads parts = project(weights, normed, angles, arithmetic);
  const at::Tensor mixed = attention.attend(index, parts.queries, parts.keys, parts.values)
                               .reshape({tokens, heads * config_.head_dim});
  const at::Tensor middle = add(x, input, mixed, weights.output, weights.output_bias, arithmetic);
  normed = kernels::rms_norm(middle, weights.mlp_norm, config_.norm_epsilon, arithmetic);
  const at::Tensor inner =
      kernels::silu_linear(normed, weights.gate_up, weights.gate_up_bias, arithmetic);
  return add(middle, Input::given, inner, weights.down, weights.down_bias, arithmetic);
}

at::Tensor Decoder::add(const at::Tensor& x, Input input, const at::Tensor& y,
                        const at::Tensor& weight, const at::Tensor& bias,
                        Arithmetic arithmetic) const {
  const bool in_place = input == Input::given && x.is_cuda() && !c10::GradMode::is_enabled() &&
                        arithmetic == Arithmetic::fast && !bias.defined() &&
                        x.scalar_type() == y.scalar_type();
  if (in_place) return x.addmm_(y, weight.t());  // nobody else has it: no copy
  return kernels::add_linear(x, y, weight, bias, arithmetic);
}

at::Tensor Decoder::finish(const at::Tensor& x, Arithmetic arithmetic) const {
  return kernels::rms_norm(x, weights_.final_norm, config_.norm_epsilon, arithmetic);
}

at::Tensor Decoder::forward(const at::Tensor& embeddings, const at::Tensor& positions,
                            Attention& attention, Arithmetic arithmetic) const {
  const Angles turned = angles(positions);
  at::Tensor x = embeddings;  // [tokens, width]
  for (int index = 0; index < config_.layers; ++index)
    x = pass(index, x, index == 0 ? Input::kept : Input::given, turned, attention, arithmetic);
  return finish(x, arithmetic);
}

at::Tensor Decoder::head(const at::Tensor& hidden, Arithmetic arithmetic) const {
  return kernels::linear_wide(hidden, weights_.head, arithmetic);
}

}  // namespace pensive
