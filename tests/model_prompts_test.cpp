// A decoder's forward of a long prompt on a card, where kernels of many rows take part, against the
// same in float64 on the CPU.
#include <c10/core/GradMode.h>

#include <cmath>

#include "kernels/packed.h"
#include "kernels_oracle.h"
#include "model/decoder.h"

namespace pensive {
namespace {

constexpr std::int64_t tokens = 1100, others = 300;

Config config_of(int head_dim) {
  Config config;
  config.family = "llama";
  config.layers = 3;
  config.width = 192;
  config.inner = 328;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = head_dim;
  config.vocab_size = 50;
  config.max_positions = 2048;
  config.norm_epsilon = 1e-5;
  return config;
}

Weights weights_of(const Config& config, bool has_bias) {
  const auto make = [](at::IntArrayRef sizes) {
    const at::Tensor made = at::randn(sizes, at::kDouble);
    return sizes.size() == 1 ? made * 0.3 : made / std::sqrt(static_cast<double>(sizes[1]));
  };
  const auto gain = [&] { return 1 + make({config.width}); };
  const std::int64_t qkv = (config.heads + 2 * config.kv_heads) * config.head_dim;
  Weights weights;
  weights.embedding = weights.head = make({config.vocab_size, config.width});
  weights.final_norm = gain();
  for (int layer = 0; layer < config.layers; ++layer)
    weights.layers.push_back({.attention_norm = gain(),
                              .qkv = make({qkv, config.width}),
                              .qkv_bias = has_bias ? make({qkv}) : at::Tensor(),
                              .output = make({config.width, config.heads * config.head_dim}),
                              .mlp_norm = gain(),
                              .gate_up = make({2 * config.inner, config.width}),
                              .down = make({config.width, config.inner})});
  return weights;
}

Weights moved(const Weights& from, at::Device device, at::ScalarType scalar) {
  Weights weights = from;
  for (at::Tensor* x : {&weights.embedding, &weights.head, &weights.final_norm})
    *x = x->to(device, scalar);
  for (LayerWeights& layer : weights.layers)
    for (at::Tensor* x : {&layer.attention_norm, &layer.qkv, &layer.qkv_bias, &layer.output,
                          &layer.mlp_norm, &layer.gate_up, &layer.down})
      if (x->defined()) *x = x->to(device, scalar);
  return weights;
}

// Two prompts behind one another.
class Packed final : public Attention {
 public:
  Packed(int head_dim, at::Device device)
      : batch_(kernels::pack({tokens, others}, {tokens, others}, device)),
        scale_(1 / std::sqrt(static_cast<double>(head_dim))) {}
  at::Tensor attend(int, const at::Tensor& queries, const at::Tensor& keys,
                    const at::Tensor& values) override {
    return kernels::packed_attention(queries, keys, values, batch_, scale_);
  }

 private:
  kernels::PackedBatch batch_;
  double scale_;
};

class PromptsOnCard : public kernels::OnCard {
 protected:
  PromptsOnCard() : OnCard(37) {}
};

TEST_F(PromptsOnCard, ForwardEqualsFloat64) {
  const c10::NoGradGuard no_gradient;
  const at::Tensor positions =
      at::cat({at::arange(tokens, at::kLong), at::arange(others, at::kLong)});
  for (const int head_dim : {32, 64, 128})
    for (const bool has_bias : {false, true}) {
      const Config config = config_of(head_dim);
      // Rounded first, so that both compute with the same numbers.
      const Weights weights = moved(moved(weights_of(config, has_bias), at::kCPU, at::kBFloat16),
                                    at::kCPU, at::kDouble);
      const at::Tensor x =
          at::randn({tokens + others, config.width}, at::kDouble).to(at::kBFloat16);
      Packed slow(head_dim, at::kCPU), fast(head_dim, card_);
      const at::Tensor expected =
          Decoder(config, weights).forward(x.to(at::kDouble), positions, slow, Arithmetic::fast);
      const at::Tensor there = x.to(card_);
      const at::Tensor found = Decoder(config, moved(weights, card_, at::kBFloat16))
                                   .forward(there, positions.to(card_), fast, Arithmetic::fast);
      EXPECT_LT(kernels::error(found, expected), 0.02) << head_dim;
      EXPECT_TRUE(kernels::same_bits(there, x)) << "the embeddings are the caller's";
    }
}

}  // namespace
}  // namespace pensive
