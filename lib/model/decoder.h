// One forward for every supported family. Families differ in data (Config), not in classes.
#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "model/checkpoint.h"
#include "pensive/base.h"

namespace pensive {

// Cosine and sine of every position's angles, times yarn's factor: [max_positions, head_dim / 2],
// in float32 (float64 for float64), on the CPU.
struct RotationTables {
  at::Tensor cosines, sines;
};
RotationTables rotation_tables(const Config& config, at::ScalarType scalar);

// Of a forward's positions: [tokens, head_dim / 2].
struct Angles {
  at::Tensor cosines, sines;
};

// What the decoder asks of whoever holds keys and values: the engine's paged cache, the trainer's
// suffix with a constant prefix, or a plain whole sequence in tests.
class Attention {
 public:
  virtual ~Attention() = default;
  // queries [tokens, heads, head_dim]; keys, values [tokens, kv_heads, head_dim], rotated already.
  // Rows may lie apart (views of wider rows); a row's heads and dimensions lie together.
  // Scores are to be scaled by 1 / sqrt(head_dim). -> [tokens, heads, head_dim].
  virtual at::Tensor attend(int layer, const at::Tensor& queries, const at::Tensor& keys,
                            const at::Tensor& values) = 0;
};

// Plain causal attention over one whole sequence, differentiable: the slow twin of the others.
class WholeAttention final : public Attention {
 public:
  at::Tensor attend(int layer, const at::Tensor& queries, const at::Tensor& keys,
                    const at::Tensor& values) override;
};

// Frozen weights and their forward. Immutable; any number of threads. Runs with gradients for its
// embeddings when GradMode is on and `embeddings` requires them; weights never do.
class Decoder {
 public:
  Decoder(Config config, Weights weights);

  const Config& config() const noexcept { return config_; }
  const Weights& weights() const noexcept { return weights_; }
  // Of every position's angles: [max_positions, head_dim / 2].
  const at::Tensor& cosines() const noexcept { return cosines_; }
  const at::Tensor& sines() const noexcept { return sines_; }
  // Rows of the embedding. ids int64 [tokens], all below vocab_size; -> [tokens, width].
  at::Tensor embed(const at::Tensor& ids) const;
  // embeddings [tokens, width], positions int64 [tokens]; -> normed hidden states [tokens, width].
  at::Tensor forward(const at::Tensor& embeddings, const at::Tensor& positions,
                     Attention& attention, Arithmetic arithmetic) const;
  // The same in steps, for whoever keeps the layers' inputs: angles of the positions; each layer in
  // its order, x [tokens, width] -> likewise; the norm after the last.
  Angles angles(const at::Tensor& positions) const;
  at::Tensor layer(int index, const at::Tensor& x, const Angles& angles, Attention& attention,
                   Arithmetic arithmetic) const;
  at::Tensor finish(const at::Tensor& x, Arithmetic arithmetic) const;
  // hidden [rows, width] -> logits [rows, vocab_size] in float32 (float64 for float64).
  at::Tensor head(const at::Tensor& hidden, Arithmetic arithmetic) const;

 private:
  struct Heads {
    at::Tensor queries, keys, values;
  };
  // Whether a layer may write over its input.
  enum class Input : std::uint8_t { kept, given };
  // normed [tokens, width]: projected, normed where the family norms, turned.
  Heads project(const LayerWeights& weights, const at::Tensor& normed, const Angles& angles,
                Arithmetic arithmetic) const;
  at::Tensor pass(int index, const at::Tensor& x, Input input, const Angles& angles,
                  Attention& attention, Arithmetic arithmetic) const;
  // x + y W^T + bias.
  at::Tensor add(const at::Tensor& x, Input input, const at::Tensor& y, const at::Tensor& weight,
                 const at::Tensor& bias, Arithmetic arithmetic) const;

  Config config_;
  Weights weights_;
  at::Tensor cosines_, sines_;  // [max_positions, head_dim / 2]
};

}  // namespace pensive
