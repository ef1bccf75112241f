#include <ATen/Parallel.h>

#include <bit>
#include <cstring>
#include <numeric>
#include <optional>
#include <utility>

#include "kernels/kernels.h"
#include "kernels/upload.h"
#include "model/checkpoint.h"
#include "model/safetensors.h"

namespace pensive {
namespace {

using Shape = std::vector<std::int64_t>;

// What older exports carry and nobody needs: it follows from the configuration.
bool is_rotary_table(std::string_view name) { return name.ends_with(".rotary_emb.inv_freq"); }

std::int64_t bytes_of(const Checkpoint& checkpoint, const Config& config, at::ScalarType scalar) {
  std::int64_t values = 0;
  for (const auto& [name, tensor] : checkpoint.tensors()) {
    if (is_rotary_table(name) || (config.is_tied && name == "lm_head.weight")) continue;
    values += static_cast<std::int64_t>(tensor.bytes.size() / c10::elementSize(tensor.scalar));
  }
  const std::int64_t angle_bytes = scalar == at::kDouble ? 8 : 4;
  const std::int64_t angles = std::int64_t{config.max_positions} * (config.head_dim / 2);
  return values * static_cast<std::int64_t>(c10::elementSize(scalar)) + 2 * angles * angle_bytes;
}

// The named tensors, each [rows, columns], one above the other; without columns each [rows].
struct Part {
  std::string name;
  std::int64_t rows = 0;
};

// The tensors of a checkpoint, handed out once each under the name and in the shape that the
// configuration implies. Their heads only: no values are read.
class Heads {
 public:
  explicit Heads(const std::filesystem::path& directory)
      : where_(directory.string()), checkpoint_(directory) {
    for (const auto& [name, tensor] : checkpoint_.tensors()) left_.emplace(name, &tensor);
  }

  const std::string& where() const noexcept { return where_; }
  const Checkpoint& checkpoint() const noexcept { return checkpoint_; }

  const StoredTensor& claim(const std::string& name, const Shape& shape) {
    const auto found = left_.find(name);
    require(found != left_.end(), ErrorCode::corrupt_file,
            fmt::format("tensor {}", in_quotes(name)), "none", where_);
    const StoredTensor& tensor = *found->second;
    require(tensor.shape == shape, ErrorCode::corrupt_file,
            fmt::format("{} of shape [{}]", in_quotes(name), fmt::join(shape, ", ")),
            describe(tensor), tensor.file);
    left_.erase(found);
    return tensor;
  }

  at::Tensor take(const std::vector<Part>& parts, std::int64_t columns = 0) {
    for (const Part& part : parts)
      claim(part.name, columns == 0 ? Shape{part.rows} : Shape{part.rows, columns});
    return {};
  }

  // A tensor that may be there as a copy of another, and is not needed then.
  void drop_copy(const std::string& name, const std::string& original) {
    const auto copy = left_.find(name);
    if (copy == left_.end()) return;
    const StoredTensor& a = *copy->second;
    const StoredTensor& b = checkpoint_.tensors().at(original);
    require_copy(a.scalar == b.scalar && a.shape == b.shape, a, name, original);
    left_.erase(copy);
  }

  static void require_copy(bool is_equal, const StoredTensor& copy, const std::string& name,
                           const std::string& original) {
    require(
        is_equal, ErrorCode::corrupt_file,
        fmt::format("no {}, or one equal to {}, since tie_word_embeddings is true", name, original),
        "another one", copy.file);
  }

  void expect_nothing_left() const {
    for (const auto& [name, tensor] : left_) {
      if (is_rotary_table(name)) continue;
      fail(ErrorCode::corrupt_file, "only tensors that config.json implies", in_quotes(name),
           tensor->file);
    }
  }

 private:
  std::string where_;
  Checkpoint checkpoint_;
  std::map<std::string, const StoredTensor*> left_;
};

// The same tensors with their values, on a device.
class Reader {
 public:
  Reader(const std::filesystem::path& directory, at::ScalarType scalar, at::Device device,
         Copies copies)
      : heads_(directory), scalar_(scalar), device_(device) {
    const bool overlaps = copies == Copies::automatic ? device.is_cuda() : copies != Copies::plain;
    if (overlaps) upload_.emplace(device);
  }

  // Memory that is promised and not there would end the process instead of a call.
  void expect_room(const Device& device, const Config& config) const {
    const std::int64_t bytes = bytes_of(heads_.checkpoint(), config, scalar_);
    const std::int64_t free = kernels::memory(device).free_bytes;
    require(bytes <= free, ErrorCode::out_of_memory,
            fmt::format("{} MB free for the weights", bytes >> 20),
            fmt::format("{} MB", free >> 20), heads_.where() + ", " + to_string(device));
  }

  // All at once: hashing is slower than copying, and each tensor's hash is a chain of its own.
  void scan_all() {
    std::vector<std::pair<const StoredTensor*, Scanned*>> tensors;
    std::int64_t bytes = 0;
    for (const auto& [name, tensor] : heads_.checkpoint().tensors()) {
      tensors.emplace_back(&tensor, &scanned_[name]);
      bytes += std::ssize(tensor.bytes);
    }
    // On a busy machine waiting for threads takes longer than scanning a small model.
    constexpr std::int64_t worth_threads = std::int64_t{1} << 26;
    const std::int64_t count = std::ssize(tensors);
    at::parallel_for(0, count, bytes < worth_threads ? count : 1,
                     [&](std::int64_t i, std::int64_t end) {
                       for (; i < end; ++i) *tensors[i].second = scan(*tensors[i].first);
                     });
  }

  at::Tensor take(const std::vector<Part>& parts, std::int64_t columns = 0) {
    std::int64_t rows = 0;
    for (const Part& part : parts) rows += part.rows;
    const Shape whole = columns == 0 ? Shape{rows} : Shape{rows, columns};
    std::vector<const StoredTensor*> stored;
    for (const Part& part : parts)
      stored.push_back(
          &claim(part.name, columns == 0 ? Shape{part.rows} : Shape{part.rows, columns}));
    const at::Device place = upload_ ? device_ : at::Device(at::kCPU);
    at::Tensor merged = at::empty(whole, at::TensorOptions().dtype(scalar_).device(place));
    std::int64_t row = 0;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const at::Tensor part = merged.narrow(0, row, parts[i].rows);
      row += parts[i].rows;
      if (!upload_) {
        copy_values(*stored[i], parts[i].name, part);
        continue;
      }
      upload_->send(stored[i]->bytes, stored[i]->scalar, part);
      if (may_overflow(stored[i]->scalar, scalar_))
        rounded_.push_back({stored[i], parts[i].name, part});
    }
    return upload_ ? merged : merged.to(device_);
  }

  // Waits for what is on its way. Throws corrupt_file where a value was too large for its type.
  void finish() {
    if (!upload_) return;
    upload_->finish();
    for (const Rounded& one : rounded_) check_rounded(*one.from, one.name, one.values);
  }

  void drop_copy(const std::string& name, const std::string& original) {
    const StoredTensors& all = heads_.checkpoint().tensors();
    const auto copy = all.find(name);
    heads_.drop_copy(name, original);
    if (copy == all.end()) return;
    const StoredTensor& a = copy->second;
    Heads::require_copy(
        std::memcmp(a.bytes.data(), all.at(original).bytes.data(), a.bytes.size()) == 0, a, name,
        original);
  }

  void expect_nothing_left() const { heads_.expect_nothing_left(); }

  std::int64_t parameters() const noexcept { return parameters_; }
  // Of all tensors taken, in the order of their names.
  std::uint64_t fingerprint(std::uint64_t key) const {
    for (const auto& [name, hash] : hashes_)
      key = kernels::mix(kernels::mix(key, hash_text(name)), hash);
    return key;
  }

 private:
  struct Rounded {
    const StoredTensor* from;
    std::string name;
    at::Tensor values;
  };

  const StoredTensor& claim(const std::string& name, const Shape& shape) {
    const StoredTensor& tensor = heads_.claim(name, shape);
    const Scanned& scanned = scanned_.at(name);
    require(scanned.is_finite, ErrorCode::corrupt_file,
            fmt::format("finite numbers in {}", in_quotes(name)), "an infinite one or a NaN",
            tensor.file);
    std::uint64_t hash = kernels::mix(scanned.hash, static_cast<std::uint64_t>(tensor.scalar));
    for (const std::int64_t size : shape)
      hash = kernels::mix(hash, static_cast<std::uint64_t>(size));
    hashes_.emplace(name, hash);
    parameters_ +=
        std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
    return tensor;
  }

  Heads heads_;
  at::ScalarType scalar_;
  at::Device device_;
  std::optional<kernels::Upload> upload_;
  std::vector<Rounded> rounded_;  // that may not have fitted
  std::map<std::string, Scanned> scanned_;
  std::map<std::string, std::uint64_t> hashes_;
  std::int64_t parameters_ = 0;
};

template <class Source>
LayerWeights read_layer(Source& reader, const Config& config, int layer) {
  const std::string prefix = fmt::format("model.layers.{}.", layer);
  const auto part = [&](std::string_view name, std::int64_t rows) {
    return Part{prefix + std::string(name) + ".weight", rows};
  };
  const auto bias = [&](std::string_view name, std::int64_t rows) {
    return Part{prefix + std::string(name) + ".bias", rows};
  };
  const std::int64_t query_rows = std::int64_t{config.heads} * config.head_dim;
  const std::int64_t key_rows = std::int64_t{config.kv_heads} * config.head_dim;
  LayerWeights weights;
  weights.attention_norm = reader.take({part("input_layernorm", config.width)});
  weights.qkv =
      reader.take({part("self_attn.q_proj", query_rows), part("self_attn.k_proj", key_rows),
                   part("self_attn.v_proj", key_rows)},
                  config.width);
  if (config.has_qkv_bias) {
    weights.qkv_bias =
        reader.take({bias("self_attn.q_proj", query_rows), bias("self_attn.k_proj", key_rows),
                     bias("self_attn.v_proj", key_rows)});
  }
  if (config.has_query_key_norms) {
    weights.query_norm = reader.take({part("self_attn.q_norm", config.head_dim)});
    weights.key_norm = reader.take({part("self_attn.k_norm", config.head_dim)});
  }
  weights.output = reader.take({part("self_attn.o_proj", config.width)}, query_rows);
  if (config.has_output_bias)
    weights.output_bias = reader.take({bias("self_attn.o_proj", config.width)});
  weights.mlp_norm = reader.take({part("post_attention_layernorm", config.width)});
  weights.gate_up = reader.take(
      {part("mlp.gate_proj", config.inner), part("mlp.up_proj", config.inner)}, config.width);
  weights.down = reader.take({part("mlp.down_proj", config.width)}, config.inner);
  if (config.has_mlp_bias) {
    weights.gate_up_bias =
        reader.take({bias("mlp.gate_proj", config.inner), bias("mlp.up_proj", config.inner)});
    weights.down_bias = reader.take({bias("mlp.down_proj", config.width)});
  }
  return weights;
}

template <class Source>
Weights read_all(Source& reader, const Config& config) {
  const std::string embedding = "model.embed_tokens.weight";
  Weights weights;
  weights.embedding = reader.take({{embedding, config.vocab_size}}, config.width);
  for (int layer = 0; layer < config.layers; ++layer)
    weights.layers.push_back(read_layer(reader, config, layer));
  weights.final_norm = reader.take({{"model.norm.weight", config.width}});
  if (config.is_tied) {
    weights.head = weights.embedding;
    reader.drop_copy("lm_head.weight", embedding);
  } else {
    weights.head = reader.take({{"lm_head.weight", config.vocab_size}}, config.width);
  }
  reader.expect_nothing_left();
  return weights;
}

// Numbers that the forward depends on. What older versions did not know counts only where it is
// used, so that their files of soft rows still fit.
std::uint64_t hash_config(const Config& config) {
  std::uint64_t key = hash_text(config.family);
  for (const int number : {config.layers, config.width, config.inner, config.heads, config.kv_heads,
                           config.head_dim, config.vocab_size, config.max_positions,
                           static_cast<int>(config.rope.kind), static_cast<int>(config.is_tied)})
    key = kernels::mix(key, static_cast<std::uint64_t>(number));
  const Rope& rope = config.rope;
  for (const double number :
       {config.norm_epsilon, rope.theta, rope.factor, rope.low_frequency_factor,
        rope.high_frequency_factor, rope.original_positions})
    key = kernels::mix(key, std::bit_cast<std::uint64_t>(number));
  if (rope.kind == RopeKind::yarn) {
    for (const double number :
         {rope.beta_fast, rope.beta_slow, rope.truncate ? 1.0 : 0.0, rope.attention_factor})
      key = kernels::mix(key, std::bit_cast<std::uint64_t>(number));
  }
  return key;
}

}  // namespace

Precision settle(Precision wished, const Config& config) {
  return wished == Precision::as_stored ? config.stored : wished;
}

at::ScalarType to_scalar(Precision precision) {
  switch (precision) {
    case Precision::float32:
      return at::kFloat;
    case Precision::bfloat16:
      return at::kBFloat16;
    case Precision::float64:
      return at::kDouble;
    case Precision::float16:
      return at::kHalf;
    case Precision::as_stored:
      break;
  }
  fail(ErrorCode::internal, "a settled precision", "as_stored", "weights");
}

std::int64_t decoder_bytes(const std::filesystem::path& directory, const Config& config,
                           Precision precision) {
  Heads heads(directory);
  read_all(heads, config);
  return bytes_of(heads.checkpoint(), config, to_scalar(precision));
}

Weights read_weights(const std::filesystem::path& directory, const Config& config,
                     Precision precision, const Device& device, Copies copies) {
  const PlainTensors plain;
  Reader reader(directory, to_scalar(precision), kernels::to_torch(device), copies);
  reader.expect_room(device, config);
  reader.scan_all();
  Weights weights = read_all(reader, config);
  reader.finish();
  weights.parameters = reader.parameters();
  weights.fingerprint = reader.fingerprint(hash_config(config));
  return weights;
}

}  // namespace pensive
