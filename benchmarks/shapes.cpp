#include "shapes.h"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <vector>

#include "runtime.h"

namespace pensive::bench {
namespace {

namespace fs = std::filesystem;

constexpr Shape shapes[] = {
    {"r1-1.5b",
     R"({"architectures":["Qwen2ForCausalLM"],"attention_dropout":0.0,"bos_token_id":2,"eos_token_id":3,
"hidden_act":"silu","hidden_size":1536,"intermediate_size":8960,"max_position_embeddings":131072,
"model_type":"qwen2","num_attention_heads":12,"num_hidden_layers":28,"num_key_value_heads":2,
"rms_norm_eps":1e-06,"rope_theta":10000,"tie_word_embeddings":false,"torch_dtype":"bfloat16",
"use_sliding_window":false,"vocab_size":151936})",
     28, 1536, 8960, 12, 2, 128, 151936, false, true},
    {"llama-1b",
     R"({"architectures":["LlamaForCausalLM"],"attention_bias":false,"attention_dropout":0.0,
"bos_token_id":2,"eos_token_id":3,"head_dim":64,"hidden_act":"silu","hidden_size":2048,
"intermediate_size":8192,"max_position_embeddings":131072,"mlp_bias":false,"model_type":"llama",
"num_attention_heads":32,"num_hidden_layers":16,"num_key_value_heads":8,"rms_norm_eps":1e-05,
"rope_scaling":{"factor":32.0,"high_freq_factor":4.0,"low_freq_factor":1.0,
"original_max_position_embeddings":8192,"rope_type":"llama3"},"rope_theta":500000.0,
"tie_word_embeddings":true,"torch_dtype":"bfloat16","vocab_size":128256})",
     16, 2048, 8192, 32, 8, 64, 128256, true, false},
    {"smollm2",
     R"({"architectures":["LlamaForCausalLM"],"attention_bias":false,"attention_dropout":0.0,
"bos_token_id":1,"eos_token_id":2,"hidden_act":"silu","hidden_size":576,"intermediate_size":1536,
"max_position_embeddings":8192,"mlp_bias":false,"model_type":"llama","num_attention_heads":9,
"num_hidden_layers":30,"num_key_value_heads":3,"rms_norm_eps":1e-05,"rope_theta":100000,
"tie_word_embeddings":true,"torch_dtype":"bfloat16","vocab_size":49152})",
     30, 576, 1536, 9, 3, 64, 49152, true, false}};

struct Tensor {
  std::string name;
  std::vector<std::int64_t> sizes;
  std::int64_t count() const {
    std::int64_t all = 1;
    for (const std::int64_t size : sizes) all *= size;
    return all;
  }
};

std::vector<Tensor> tensors_of(const Shape& shape) {
  const std::int64_t width = shape.width, inner = shape.inner;
  const std::int64_t own = shape.heads * shape.head_dim, keys = shape.kv_heads * shape.head_dim;
  std::vector<Tensor> all{{"model.embed_tokens.weight", {shape.vocab, width}},
                          {"model.norm.weight", {width}}};
  if (!shape.is_tied) all.push_back({"lm_head.weight", {shape.vocab, width}});
  for (int layer = 0; layer < shape.layers; ++layer) {
    const auto add = [&](std::string_view name, std::vector<std::int64_t> sizes) {
      all.push_back({fmt::format("model.layers.{}.{}", layer, name), std::move(sizes)});
    };
    add("input_layernorm.weight", {width});
    add("post_attention_layernorm.weight", {width});
    add("self_attn.q_proj.weight", {own, width});
    add("self_attn.k_proj.weight", {keys, width});
    add("self_attn.v_proj.weight", {keys, width});
    add("self_attn.o_proj.weight", {width, own});
    if (shape.has_qkv_bias) {
      add("self_attn.q_proj.bias", {own});
      add("self_attn.k_proj.bias", {keys});
      add("self_attn.v_proj.bias", {keys});
    }
    add("mlp.gate_proj.weight", {inner, width});
    add("mlp.up_proj.weight", {inner, width});
    add("mlp.down_proj.weight", {width, inner});
  }
  return all;
}

// Uniform numbers of variance 1 / columns, so that activations neither grow nor vanish; norms near
// one. The same in every run.
void fill(const Tensor& tensor, std::uint64_t key, std::vector<std::uint16_t>& values) {
  const bool is_norm = tensor.sizes.size() == 1 && !tensor.name.ends_with(".bias");
  const float reach =
      tensor.sizes.size() == 2 ? std::sqrt(3.0f / static_cast<float>(tensor.sizes[1])) : 0.1f;
  values.resize(static_cast<std::size_t>(tensor.count()));
  std::uint64_t state = key * 0x9E3779B97F4A7C15ull + 1;
  for (std::uint16_t& value : values) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    const float unit = static_cast<float>(static_cast<std::int32_t>(state >> 32)) / 2147483648.0f;
    const float number = unit * reach + (is_norm ? 1.0f : 0.0f);
    value = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(number) >> 16);
  }
}

}  // namespace

const Shape& shape_named(std::string_view name) {
  for (const Shape& shape : shapes)
    if (shape.name == name) return shape;
  throw std::runtime_error(
      fmt::format("expected r1-1.5b, llama-1b or smollm2; found {} (--shape)", name));
}

void write_checkpoint(const Shape& shape, const fs::path& tokenizer_of, const fs::path& folder) {
  fs::create_directories(folder);
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"})
    fs::copy_file(tokenizer_of / name, folder / name, fs::copy_options::overwrite_existing);
  std::ofstream(folder / "config.json") << shape.config << "\n";

  const std::vector<Tensor> tensors = tensors_of(shape);
  std::string header = "{";
  std::int64_t at = 0;
  for (const Tensor& tensor : tensors) {
    std::string sizes;
    for (const std::int64_t size : tensor.sizes)
      sizes += (sizes.empty() ? "" : ",") + std::to_string(size);
    header += fmt::format(R"({}"{}":{{"dtype":"BF16","shape":[{}],"data_offsets":[{},{}]}})",
                          at == 0 ? "" : ",", tensor.name, sizes, at, at + 2 * tensor.count());
    at += 2 * tensor.count();
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::ofstream file(folder / "model.safetensors", std::ios::binary);
  const std::uint64_t length = header.size();
  file.write(reinterpret_cast<const char*>(&length), sizeof length);
  file.write(header.data(), static_cast<std::streamsize>(header.size()));
  std::vector<std::uint16_t> values;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    fill(tensors[i], i + 1, values);
    file.write(reinterpret_cast<const char*>(values.data()),
               static_cast<std::streamsize>(values.size() * 2));
  }
  if (!file.flush())
    throw std::runtime_error("cannot write " + (folder / "model.safetensors").string());
}

double copy_bandwidth() {
  const Runtime calls;
  constexpr std::size_t bytes = std::size_t{1} << 30;
  void *from = nullptr, *to = nullptr, *begin = nullptr, *end = nullptr;
  if (!calls.is_there() || calls.allocate(&from, bytes) != 0 || calls.allocate(&to, bytes) != 0)
    return 0;
  calls.create(&begin);
  calls.create(&end);
  std::vector<double> rates;
  for (int i = 0; i < 12; ++i) {
    float milliseconds = 0;
    calls.record(begin, nullptr);
    calls.copy(to, from, bytes, Runtime::within_card, nullptr);
    calls.record(end, nullptr);
    calls.wait(end);
    calls.elapsed(&milliseconds, begin, end);
    if (i >= 2) rates.push_back(2.0 * bytes / (milliseconds * 1e-3));
  }
  calls.release(from);
  calls.release(to);
  std::ranges::sort(rates);
  return rates[rates.size() / 2];
}

std::string hardware(const Device& device) {
  if (device.kind == DeviceKind::cuda) {
    const Runtime calls;
    std::array<char, 1 << 14> found{};
    if (!calls.properties || calls.properties(found.data(), device.index) != 0) return "unknown";
    found[255] = 0;
    return found.data();
  }
  std::ifstream file("/proc/cpuinfo");
  const std::string key = "model name";
  for (std::string line; std::getline(file, line);)
    if (line.starts_with(key)) return line.substr(line.find(':') + 2);
  return "unknown";
}

}  // namespace pensive::bench
