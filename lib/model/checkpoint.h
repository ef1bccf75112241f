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
  plain,    // position / theta^(2 i / head_dim)
  linear,   // positions divided by a factor
  llama3,   // slow rotations divided by a factor, fast ones kept, a ramp between
  dynamic,  // plain up to max_positions, where theta would begin to grow; longer is refused anyway
  yarn      // as llama3, with another ramp, and the attention's scores scaled
};

struct Rope {
  RopeKind kind = RopeKind::plain;
  double theta = 10000;
  double factor = 1;
  double low_frequency_factor = 1;   // llama3: turns over the original positions, below: divided
  double high_frequency_factor = 4;  // llama3: above: kept
  double original_positions = 8192;  // llama3, yarn
  double beta_fast = 32;             // yarn: turns over the original positions, above: kept
  double beta_slow = 1;              // yarn: below: divided
  bool truncate = true;              // yarn: the ramp begins and ends at whole dimensions
  double attention_factor = 1;       // yarn: what cosines and sines are multiplied by

  bool operator==(const Rope&) const = default;
};

// config.json, understood whole or refused.
struct Config {
  std::string family;  // "llama", "mistral", "qwen2" or "qwen3"
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
  bool has_qkv_bias = false;
  bool has_output_bias = false;  // of the attention
  bool has_mlp_bias = false;
  bool has_query_key_norms = false;  // over each head
  Precision stored = Precision::float32;
  std::vector<TokenId> stop_tokens;  // eos_token_id of config.json and generation_config.json
  GenerationDefaults defaults;
};

// Reads config.json and generation_config.json of a Hugging Face directory, in the spellings of
// Transformers 4 (rope_theta, rope_scaling, torch_dtype) and 5 (rope_parameters, dtype). Throws
// not_found, io, corrupt_file, or unsupported with the name of what is not done.
Config read_config(const std::filesystem::path& directory, UnknownKeys unknown, const LogSink& log);

// Throws unsupported, saying what would work instead, where a folder or file of another kind is
// recognised; not_found where something is missing.
void check_directory(const std::filesystem::path& directory);

// One layer's frozen tensors; q, k, v and gate, up are merged along the output. What the
// configuration does not have is undefined.
struct LayerWeights {
  at::Tensor attention_norm;            // [width]
  at::Tensor qkv, qkv_bias{};           // [(heads + 2 kv_heads) * head_dim, width], […]
  at::Tensor query_norm{}, key_norm{};  // [head_dim]
  at::Tensor output, output_bias{};     // [width, heads * head_dim], [width]
  at::Tensor mlp_norm;                  // [width]
  at::Tensor gate_up, gate_up_bias{};   // [2 * inner, width], [2 * inner]
  at::Tensor down, down_bias{};         // [width, inner], [width]
};

struct Weights {
  at::Tensor embedding;   // [vocab_size, width]
  at::Tensor final_norm;  // [width]
  at::Tensor head;        // [vocab_size, width]; the embedding itself where tied
  std::vector<LayerWeights> layers;
  std::uint64_t fingerprint = 0;
  std::int64_t parameters = 0;
};

// How weights get from the mapped file to their device: rounded on the host and copied, or in
// pieces that overlap, rounded on the device (kernels/upload.h). The same values either way.
enum class Copies : std::uint8_t {
  automatic,  // overlapped to a card, plain on a CPU
  plain,
  overlapped
};

// Reads the safetensors of a directory onto a device. Every tensor the config implies must be there
// once, in the right shape, finite; others are refused, save rotary tables that older exports carry
// and, where the head is tied, a copy of the embedding. `precision` is not as_stored.
Weights read_weights(const std::filesystem::path& directory, const Config& config,
                     Precision precision, const Device& device, Copies copies = Copies::automatic);

// Throws unsupported where a model of this configuration cannot run on such a device at all.
void check_runs_on(const Device& device, const Config& config,
                   const std::filesystem::path& directory);

// Bytes that a decoder takes on its device: weights, and cosines and sines of every position. From
// the configuration and the heads of the safetensors; no weights are read. Names and shapes are
// refused as read_weights() would.
std::int64_t decoder_bytes(const std::filesystem::path& directory, const Config& config,
                           Precision precision);

// For as long as it lives: no gradients are recorded, and tensors made can be saved for a backward
// pass later, whatever mode the caller is in.
struct PlainTensors {
  c10::InferenceMode no_inference{false};
  c10::NoGradGuard no_grad;
};

// What is wished, or what the checkpoint is stored in.
Precision settle(Precision wished, const Config& config);
// `precision` is not as_stored.
at::ScalarType to_scalar(Precision precision);

}  // namespace pensive
