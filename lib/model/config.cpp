#include <algorithm>
#include <limits>

#include "model/config_keys.h"

namespace pensive {
namespace {

using Json = nlohmann::ordered_json;

enum class Biases : std::uint8_t {
  as_stated,  // attention_bias: of all four projections
  qkv,        // always of queries, keys and values, whatever attention_bias says
  none
};
enum class Window : std::uint8_t {
  stated,   // on where sliding_window is a number
  switched  // on where use_sliding_window is true as well, in layers from max_window_layers on
};

// What Transformers' classes differ in; numbers hold where config.json does not have the key.
struct Family {
  std::string_view name;  // model_type
  std::string_view architecture;
  Biases biases = Biases::as_stated;
  bool may_have_mlp_bias = false;
  bool may_lack_kv_heads = false;  // as many as heads then; others would take a number of their own
  bool has_query_key_norms = false;
  int head_dim = 0;  // 0: hidden_size / num_attention_heads
  Window window = Window::stated;
  int window_tokens = 0;
};
constexpr Family families[] = {
    {.name = "llama",
     .architecture = "LlamaForCausalLM",
     .may_have_mlp_bias = true,
     .may_lack_kv_heads = true},
    {.name = "mistral",
     .architecture = "MistralForCausalLM",
     .biases = Biases::none,
     .window_tokens = 4096},
    {.name = "qwen2",
     .architecture = "Qwen2ForCausalLM",
     .biases = Biases::qkv,
     .window = Window::switched,
     .window_tokens = 4096},
    {.name = "qwen3",
     .architecture = "Qwen3ForCausalLM",
     .has_query_key_norms = true,
     .head_dim = 128,
     .window = Window::switched,
     .window_tokens = 4096},
};

const Family& read_family(const Keys& keys) {
  const auto name = member<std::string>(keys.object(), "model_type", keys.where());
  const auto* family = std::find_if(std::begin(families), std::end(families),
                                    [&](const Family& known) { return known.name == name; });
  std::string known;
  for (const Family& each : families)
    known += fmt::format("{}\"{}\"", known.empty() ? "" : ", ", each.name);
  require(family != std::end(families), ErrorCode::unsupported, "model_type " + known,
          in_quotes(name), keys.where());
  const Json* architectures = keys.find("architectures");
  if (architectures == nullptr) return *family;
  const Json wanted = Json::array({family->architecture});
  require(*architectures == wanted, ErrorCode::unsupported, "architectures " + wanted.dump(),
          shown(*architectures), keys.where());
  return *family;
}

void read_biases(const Keys& keys, const Family& family, Config& config) {
  const bool has_attention = keys.optional<bool>("attention_bias").value_or(false);
  const bool has_mlp = keys.optional<bool>("mlp_bias").value_or(false);
  require(!has_attention || family.biases != Biases::none, ErrorCode::unsupported,
          "attention_bias false", "true", keys.where());
  require(!has_mlp || family.may_have_mlp_bias, ErrorCode::unsupported, "mlp_bias false", "true",
          keys.where());
  config.has_qkv_bias = has_attention || family.biases == Biases::qkv;
  config.has_output_bias = has_attention && family.biases == Biases::as_stated;
  config.has_mlp_bias = has_mlp;
  config.has_query_key_norms = family.has_query_key_norms;
}

// A window as wide as the positions hides nothing.
void check_window(const Keys& keys, const Family& family, const Config& config) {
  constexpr int most = std::numeric_limits<int>::max();
  const bool is_used = keys.optional<bool>("use_sliding_window").value_or(false);
  const int first = keys.whole_or("max_window_layers", 28, 0, most);
  const int tokens = keys.has("sliding_window") ? keys.whole_or("sliding_window", 0, 0, most)
                                                : family.window_tokens;
  const bool is_switched = family.window == Window::switched;
  require(!is_used || is_switched || tokens > 0, ErrorCode::unsupported, "use_sliding_window false",
          "true", keys.where());
  const bool is_on = is_switched ? is_used && first < config.layers : true;
  require(!is_on || tokens == 0 || tokens >= config.max_positions, ErrorCode::unsupported,
          fmt::format("no sliding_window below max_position_embeddings (up to {0} positions it "
                      "hides nothing: with sliding_window null and max_position_embeddings {0} "
                      "config.json says just that)",
                      tokens),
          fmt::format("sliding_window {} of {} positions{}", tokens, config.max_positions,
                      keys.has("sliding_window") ? "" : ", which silence means here"),
          keys.where());
}

// A layer may be declared to attend in its own way; all must be plain.
void check_layer_types(const Keys& keys, const Config& config) {
  const Json* types = keys.find("layer_types");
  if (types == nullptr) return;
  require(types->is_array() && types->size() == static_cast<std::size_t>(config.layers),
          ErrorCode::corrupt_file, fmt::format("layer_types as a list of {}", config.layers),
          shown(*types), keys.where());
  for (const Json& type : *types) {
    require(type == "full_attention", ErrorCode::unsupported, "layer_types full_attention",
            shown(type), keys.where());
  }
}

Precision read_stored(const Keys& keys) {
  const auto newer = keys.optional<std::string>("dtype");
  const auto older = keys.optional<std::string>("torch_dtype");
  require(!newer || !older || *newer == *older, ErrorCode::corrupt_file, "one dtype",
          newer && older ? *newer + " and " + *older : "", keys.where());
  std::string name = newer ? *newer : older.value_or("float32");
  if (name.starts_with("torch.")) name.erase(0, 6);
  if (name == "float32") return Precision::float32;
  if (name == "bfloat16") return Precision::bfloat16;
  if (name == "float64") return Precision::float64;
  if (name == "float16") return Precision::float16;
  fail(ErrorCode::unsupported, "dtype float32, bfloat16, float16 or float64", in_quotes(name),
       keys.where());
}

void read_sizes(const Keys& keys, const Family& family, Config& config) {
  config.vocab_size = keys.whole("vocab_size", 1, 1 << 24);
  config.width = keys.whole("hidden_size", 1, 1 << 17);
  config.inner = keys.whole("intermediate_size", 1, 1 << 20);
  config.layers = keys.whole("num_hidden_layers", 1, 1 << 12);
  config.heads = keys.whole("num_attention_heads", 1, 1 << 12);
  require(family.may_lack_kv_heads || keys.has("num_key_value_heads"), ErrorCode::corrupt_file,
          "num_key_value_heads", "none", keys.where());
  config.kv_heads = keys.whole_or("num_key_value_heads", config.heads, 1, config.heads);
  require(config.heads % config.kv_heads == 0, ErrorCode::corrupt_file,
          "num_attention_heads divisible by num_key_value_heads",
          fmt::format("{} and {}", config.heads, config.kv_heads), keys.where());
  config.head_dim = keys.whole_or("head_dim", family.head_dim, 2, 1 << 12);
  if (config.head_dim == 0) {
    require(config.width % config.heads == 0, ErrorCode::corrupt_file,
            "hidden_size divisible by num_attention_heads, or head_dim",
            fmt::format("{} and {}", config.width, config.heads), keys.where());
    config.head_dim = config.width / config.heads;
  }
  require(config.head_dim % 2 == 0, ErrorCode::corrupt_file, "an even head_dim",
          fmt::format("{}", config.head_dim), keys.where());
  config.max_positions = keys.whole("max_position_embeddings", 1, 1 << 24);
  config.norm_epsilon = keys.number("rms_norm_eps", 0, 1);
}

void check_angles(const Keys& keys, const Config& config) {
  // Rotation tables are held whole.
  constexpr std::int64_t most_angles = std::int64_t{1} << 27;
  require(std::int64_t{config.max_positions} * (config.head_dim / 2) <= most_angles,
          ErrorCode::unsupported, fmt::format("at most {} angles of rotation", most_angles),
          fmt::format("{} positions of {} angles", config.max_positions, config.head_dim / 2),
          keys.where());
}

}  // namespace

Config read_config(const std::filesystem::path& directory, UnknownKeys unknown,
                   const LogSink& log) {
  const std::filesystem::path file = directory / "config.json";
  const Json json = read_object(file);
  const Keys keys(json, file.string());
  const UnknownRule rule{unknown, log};
  const Family& family = read_family(keys);
  check_quantization(keys);
  check_keys(keys, rule);
  Config config;
  config.family = family.name;
  read_sizes(keys, family, config);
  read_biases(keys, family, config);
  check_layer_types(keys, config);
  config.rope = read_rope(keys, config, rule);
  // Yarn is often switched on without a word about the length that it is for.
  if (config.rope.kind == RopeKind::yarn) {
    const double reach = std::min(config.rope.factor * config.rope.original_positions, 0x1p24);
    config.max_positions = std::max(config.max_positions, static_cast<int>(reach));
  }
  check_angles(keys, config);
  check_window(keys, family, config);
  config.is_tied = keys.optional<bool>("tie_word_embeddings").value_or(false);
  config.stored = read_stored(keys);
  add_stop_tokens(keys, config);
  read_generation(directory / "generation_config.json", config, log);
  return config;
}

}  // namespace pensive
