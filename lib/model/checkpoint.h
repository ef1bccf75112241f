// All that a checkpoint says, checked: its configuration and its weights.
#pragma once
#include <ATen/ATen.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "pensive/base.h"
#include "pensive/model.h"

namespace pensive {

// How positions turn into angles.
enum class RopeKind : std::uint8_t {
  plain,   // position / theta^(2 i / head_dim)
  linear,  // positions divided by a factor
  llama3   // slow rotations divided by a factor, fast ones kept, a ramp between
};

struct Rope {
  RopeKind kind = RopeKind::plain;
  double theta = 10000;
  double factor = 1;
  double low_frequency_factor = 1;   // llama3: turns over the original positions, below: divided
  double high_frequency_factor = 4;  // llama3: above: kept
  double original_positions = 8192;  // llama3
};

// config.json, understood whole or refused.
struct Config {
  std::string family;  // "llama"
  int layers = 0;
  int width = 0;
  int inner = 0;  // intermediate_size
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int vocab_size = 0;
  int max_positions = 0;
  double norm_epsilon = 1e-6;
  Rope rope;
  bool is_tied = false;
  Precision stored = Precision::float32;  // float16 is held as float32, which has all its values
  std::vector<TokenId> stop_tokens;       // eos_token_id of config.json and generation_config.json
  GenerationDefaults defaults;
};

// Reads config.json and generation_config.json of a Hugging Face directory, in the spellings of
// Transformers 4 (rope_theta, rope_scaling, torch_dtype) and 5 (rope_parameters, dtype).
Config read_config(const std::filesystem::path& directory, const LogSink& log);

// One layer's frozen tensors; q, k, v and gate, up are merged along the output.
struct LayerWeights {
  at::Tensor attention_norm;  // [width]
  at::Tensor qkv;             // [(heads + 2 kv_heads) * head_dim, width]
  at::Tensor output;          // [width, heads * head_dim]
  at::Tensor mlp_norm;        // [width]
  at::Tensor gate_up;         // [2 * inner, width]
  at::Tensor down;            // [width, inner]
};

struct Weights {
  at::Tensor embedding;   // [vocab_size, width]
  at::Tensor final_norm;  // [width]
  at::Tensor head;        // [vocab_size, width]; the embedding itself where tied
  std::vector<LayerWeights> layers;
  std::uint64_t fingerprint = 0;
  std::int64_t parameters = 0;
};

// Reads the safetensors of a directory onto a device. Every tensor the config implies must be there
// once, in the right shape, finite; others are refused, save rotary tables that older exports carry
// and, where the head is tied, a copy of the embedding. `precision` is not as_stored.
Weights read_weights(const std::filesystem::path& directory, const Config& config,
                     Precision precision, const Device& device);

// For as long as it lives: no gradients are recorded, and tensors made can be saved for a backward
// pass later, whatever mode the caller is in.
struct PlainTensors {
  c10::InferenceMode no_inference{false};
  c10::NoGradGuard no_grad;
};

// float32, bfloat16 or float64; `precision` is not as_stored.
at::ScalarType to_scalar(Precision precision);

}  // namespace pensive
