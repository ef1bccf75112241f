#include <algorithm>
#include <array>
#include <initializer_list>
#include <limits>
#include <optional>
#include <utility>

#include "base/inside.h"
#include "model/checkpoint.h"

namespace pensive {
namespace {

using Json = nlohmann::ordered_json;

// Keys that are read below.
constexpr std::array read_keys = {
    "model_type",
    "architectures",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "tie_word_embeddings",
    "torch_dtype",
    "dtype",
    "eos_token_id",
};

// Keys that change nothing here, and why.
constexpr std::string_view from_where = "says where the checkpoint came from";
constexpr std::string_view training_only = "acts in training only";
constexpr std::string_view for_python = "says what Transformers returns or how it computes";
constexpr std::string_view for_tokenizer = "is the tokenizer's matter";
constexpr std::string_view classifiers_only = "labels the outputs of classifiers";
constexpr std::pair<std::string_view, std::string_view> ignored_keys[] = {
    {"_name_or_path", from_where},
    {"_model_name_or_path", from_where},
    {"_commit_hash", from_where},
    {"transformers_version", from_where},
    {"transformers.js_config", from_where},
    {"is_llama_config", from_where},
    {"unsloth_version", from_where},
    {"unsloth_fixed", from_where},
    {"initializer_range", training_only},
    {"attention_dropout", training_only},
    {"hidden_dropout", training_only},
    {"resid_pdrop", training_only},
    {"embd_pdrop", training_only},
    {"pretraining_tp", "splits a product into parts without changing it"},
    {"use_cache", for_python},
    {"output_attentions", for_python},
    {"output_hidden_states", for_python},
    {"return_dict", for_python},
    {"torchscript", for_python},
    {"chunk_size_feed_forward", for_python},
    {"attn_implementation", for_python},
    {"_attn_implementation", for_python},
    {"_attn_implementation_autoset", for_python},
    {"bos_token_id", for_tokenizer},
    {"pad_token_id", for_tokenizer},
    {"unk_token_id", for_tokenizer},
    {"sep_token_id", for_tokenizer},
    {"tokenizer_class", for_tokenizer},
    {"id2label", classifiers_only},
    {"label2id", classifiers_only},
    {"problem_type", classifiers_only},
    {"finetuning_task", classifiers_only},
};

// Keys that would change the result: only these values (JSON) are done. Null always means absent.
constexpr std::pair<std::string_view, std::string_view> fixed_keys[] = {
    {"hidden_act", "\"silu\""},
    {"attention_bias", "false"},
    {"mlp_bias", "false"},
    {"rope_interleaved", "false"},
    {"partial_rotary_factor", "1.0"},
    {"use_sliding_window", "false"},
    {"sliding_window", "null"},
    {"is_encoder_decoder", "false"},
    {"add_cross_attention", "false"},
    {"quantization_config", "null"},
    {"compression_config", "null"},
    {"auto_map", "null"},
    {"num_experts", "null"},
    {"num_local_experts", "null"},
    {"num_experts_per_tok", "null"},
};

std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  constexpr std::size_t most = 120;
  if (text.size() > most) text = to_utf8(text.substr(0, most)) + "…";
  return text;
}

// One JSON object of one file: every error names both.
class Keys {
 public:
  Keys(const Json& object, std::string where) : object_(object), where_(std::move(where)) {}

  // Nothing when the key is missing or null.
  const Json* find(std::string_view key) const {
    const auto found = object_.find(std::string(key));
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  template <class T>
  std::optional<T> optional(std::string_view key) const {
    if (find(key) == nullptr) return std::nullopt;
    return member<T>(object_, key, where_);
  }

  int whole(std::string_view key, int least, int most) const {
    return check_whole(key, member<std::int64_t>(object_, key, where_), least, most);
  }
  int whole_or(std::string_view key, int otherwise, int least, int most) const {
    if (find(key) == nullptr) return otherwise;
    return whole(key, least, most);
  }

  // Both ends count.
  double number(std::string_view key, double least, double most) const {
    const double value = member<double>(object_, key, where_);
    require(value >= least && value <= most, ErrorCode::corrupt_file,
            fmt::format("{} from {} to {}", key, least, most), fmt::format("{}", value), where_);
    return value;
  }
  double number_or(std::string_view key, double otherwise, double least, double most) const {
    if (find(key) == nullptr) return otherwise;
    return number(key, least, most);
  }

  int check_whole(std::string_view key, std::int64_t value, int least, int most) const {
    require(value >= least && value <= most, ErrorCode::corrupt_file,
            fmt::format("{} from {} to {}", key, least, most), fmt::format("{}", value), where_);
    return static_cast<int>(value);
  }

  const Json& object() const noexcept { return object_; }
  const std::string& where() const noexcept { return where_; }

 private:
  const Json& object_;
  std::string where_;
};

Json read_object(const std::filesystem::path& file) {
  Json json = parse_json(read_text(file), file.string());
  require(json.is_object(), ErrorCode::corrupt_file, "a JSON object", shown(json), file.string());
  return json;
}

void check_family(const Keys& keys) {
  const auto family = member<std::string>(keys.object(), "model_type", keys.where());
  require(family == "llama", ErrorCode::unsupported, "model_type \"llama\"", in_quotes(family),
          keys.where());
  const Json* architectures = keys.find("architectures");
  if (architectures == nullptr) return;
  require(*architectures == Json::array({"LlamaForCausalLM"}), ErrorCode::unsupported,
          "architectures [\"LlamaForCausalLM\"]", shown(*architectures), keys.where());
}

// A layer may be declared to attend in its own way; all must be plain.
void check_layer_types(const Keys& keys) {
  const Json* types = keys.find("layer_types");
  if (types == nullptr) return;
  require(types->is_array(), ErrorCode::corrupt_file, "layer_types as a list", shown(*types),
          keys.where());
  for (const Json& type : *types) {
    require(type == "full_attention", ErrorCode::unsupported, "layer_types full_attention",
            shown(type), keys.where());
  }
}

// `log` gets one line naming what was ignored.
void check_keys(const Keys& keys, const LogSink& log) {
  std::string ignored;
  for (const auto& [key, value] : keys.object().items()) {
    const auto is_key = [&key = key](const auto& entry) { return entry.first == key; };
    const auto* reason = std::find_if(std::begin(ignored_keys), std::end(ignored_keys), is_key);
    const auto* fixed = std::find_if(std::begin(fixed_keys), std::end(fixed_keys), is_key);
    if (reason != std::end(ignored_keys)) {
      ignored += fmt::format("{}{} ({})", ignored.empty() ? "" : ", ", key, reason->second);
    } else if (fixed != std::end(fixed_keys)) {
      require(value.is_null() || value == Json::parse(fixed->second), ErrorCode::unsupported,
              fmt::format("{} {}", key, fixed->second), shown(value), keys.where());
    } else if (key != "layer_types") {
      const bool is_read = std::find(read_keys.begin(), read_keys.end(), key) != read_keys.end();
      require(is_read, ErrorCode::unsupported, "keys that this version understands",
              fmt::format("{}: {}", in_quotes(key), shown(value)), keys.where());
    }
  }
  if (log && !ignored.empty()) {
    log(LogLevel::info, fmt::format("{}: ignored {}", keys.where(), ignored));
  }
}

void check_rope_keys(const Keys& keys, std::initializer_list<std::string_view> known) {
  for (const auto& [key, value] : keys.object().items()) {
    const bool is_known = std::find(known.begin(), known.end(), key) != known.end();
    const bool is_whole = key == "partial_rotary_factor" && value == 1;
    require(is_known || is_whole || value.is_null(), ErrorCode::unsupported,
            "rope keys that this version understands",
            fmt::format("{}: {}", in_quotes(key), shown(value)), keys.where());
  }
}

// `keys`: rope_scaling of version 4, or rope_parameters of version 5, which holds theta too.
void read_scaling(const Keys& keys, Rope& rope) {
  constexpr double huge = 1e12;
  const bool has_new = keys.find("rope_type") != nullptr;
  const std::string_view type_key = has_new ? "rope_type" : "type";
  const auto type = keys.optional<std::string>(type_key).value_or("default");
  if (type == "default") {
    check_rope_keys(keys, {"rope_type", "type", "rope_theta"});
  } else if (type == "linear") {
    check_rope_keys(keys, {"rope_type", "type", "rope_theta", "factor"});
    rope.kind = RopeKind::linear;
    rope.factor = keys.number("factor", 1e-3, huge);
  } else if (type == "llama3") {
    check_rope_keys(keys, {"rope_type", "type", "rope_theta", "factor", "low_freq_factor",
                           "high_freq_factor", "original_max_position_embeddings"});
    rope.kind = RopeKind::llama3;
    rope.factor = keys.number("factor", 1e-3, huge);
    rope.low_frequency_factor = keys.number("low_freq_factor", 1e-3, huge);
    rope.high_frequency_factor = keys.number("high_freq_factor", 1e-3, huge);
    rope.original_positions = keys.whole("original_max_position_embeddings", 1, 1 << 30);
    require(rope.high_frequency_factor > rope.low_frequency_factor, ErrorCode::corrupt_file,
            "high_freq_factor above low_freq_factor",
            fmt::format("{} and {}", rope.high_frequency_factor, rope.low_frequency_factor),
            keys.where());
  } else {
    fail(ErrorCode::unsupported, "rope_type default, linear or llama3", in_quotes(type),
         keys.where());
  }
}

Rope read_rope(const Keys& keys) {
  constexpr double least_theta = 1, most_theta = 1e12;
  Rope rope;
  const Json* scaling = keys.find("rope_scaling");
  const Json* parameters = keys.find("rope_parameters");
  require(scaling == nullptr || parameters == nullptr || *scaling == *parameters,
          ErrorCode::corrupt_file, "rope_scaling or rope_parameters", "both, which differ",
          keys.where());
  const Json* object = parameters != nullptr ? parameters : scaling;
  if (object != nullptr) {
    require(object->is_object(), ErrorCode::corrupt_file, "rope parameters as an object",
            shown(*object), keys.where());
    const Keys inner(*object, keys.where());
    rope.theta = inner.number_or("rope_theta", rope.theta, least_theta, most_theta);
    read_scaling(inner, rope);
  }
  const bool has_theta = object != nullptr && object->contains("rope_theta");
  const double outer = keys.number_or("rope_theta", rope.theta, least_theta, most_theta);
  require(!has_theta || outer == rope.theta, ErrorCode::corrupt_file, "one rope_theta",
          fmt::format("{} and {}", outer, rope.theta), keys.where());
  rope.theta = outer;
  return rope;
}

Precision read_stored(const Keys& keys, const LogSink& log) {
  const auto newer = keys.optional<std::string>("dtype");
  const auto older = keys.optional<std::string>("torch_dtype");
  require(!newer || !older || *newer == *older, ErrorCode::corrupt_file, "one dtype",
          newer && older ? *newer + " and " + *older : "", keys.where());
  std::string name = newer ? *newer : older.value_or("float32");
  if (name.starts_with("torch.")) name.erase(0, 6);
  if (name == "float32") return Precision::float32;
  if (name == "bfloat16") return Precision::bfloat16;
  if (name == "float64") return Precision::float64;
  require(name == "float16", ErrorCode::unsupported, "dtype float32, bfloat16, float16 or float64",
          in_quotes(name), keys.where());
  if (log) log(LogLevel::info, keys.where() + ": float16 weights are held as float32");
  return Precision::float32;
}

void add_stop_tokens(const Keys& keys, Config& config) {
  const Json* eos = keys.find("eos_token_id");
  if (eos == nullptr) return;
  const Json list = eos->is_array() ? *eos : Json::array({*eos});
  for (const Json& id : list) {
    const Json wrapped = {{"eos_token_id", id}};
    const auto value = member<std::int64_t>(wrapped, "eos_token_id", keys.where());
    const TokenId token = keys.check_whole("eos_token_id", value, 0, config.vocab_size - 1);
    auto& known = config.stop_tokens;
    if (std::find(known.begin(), known.end(), token) == known.end()) known.push_back(token);
  }
}

void read_sizes(const Keys& keys, Config& config) {
  config.vocab_size = keys.whole("vocab_size", 1, 1 << 24);
  config.width = keys.whole("hidden_size", 1, 1 << 17);
  config.inner = keys.whole("intermediate_size", 1, 1 << 20);
  config.layers = keys.whole("num_hidden_layers", 1, 1 << 12);
  config.heads = keys.whole("num_attention_heads", 1, 1 << 12);
  config.kv_heads = keys.whole_or("num_key_value_heads", config.heads, 1, config.heads);
  require(config.heads % config.kv_heads == 0, ErrorCode::corrupt_file,
          "num_attention_heads divisible by num_key_value_heads",
          fmt::format("{} and {}", config.heads, config.kv_heads), keys.where());
  config.head_dim = keys.whole_or("head_dim", 0, 2, 1 << 12);
  if (config.head_dim == 0) {
    require(config.width % config.heads == 0, ErrorCode::corrupt_file,
            "hidden_size divisible by num_attention_heads, or head_dim",
            fmt::format("{} and {}", config.width, config.heads), keys.where());
    config.head_dim = config.width / config.heads;
  }
  require(config.head_dim % 2 == 0, ErrorCode::corrupt_file, "an even head_dim",
          fmt::format("{}", config.head_dim), keys.where());
  config.max_positions = keys.whole("max_position_embeddings", 1, 1 << 24);
  // Rotation tables are held whole.
  constexpr std::int64_t most_angles = std::int64_t{1} << 27;
  require(std::int64_t{config.max_positions} * (config.head_dim / 2) <= most_angles,
          ErrorCode::unsupported, fmt::format("at most {} angles of rotation", most_angles),
          fmt::format("{} positions of {} angles", config.max_positions, config.head_dim / 2),
          keys.where());
  config.norm_epsilon = keys.number("rms_norm_eps", 0, 1);
}

void read_generation(const std::filesystem::path& file, Config& config, const LogSink& log) {
  std::error_code error;
  if (!std::filesystem::exists(file, error)) return;
  const Json json = read_object(file);
  const Keys keys(json, file.string());
  add_stop_tokens(keys, config);
  constexpr double most_temperature = 1000;
  if (keys.find("temperature") != nullptr)
    config.defaults.temperature =
        static_cast<float>(keys.number("temperature", 0, most_temperature));
  if (keys.find("top_p") != nullptr)
    config.defaults.top_p = static_cast<float>(keys.number("top_p", 0, 1));
  if (keys.find("top_k") != nullptr)
    config.defaults.top_k = keys.whole("top_k", 0, std::numeric_limits<int>::max());
  for (const std::string_view key : {"repetition_penalty", "no_repeat_ngram_size", "min_p",
                                     "suppress_tokens", "bad_words_ids", "num_beams"}) {
    const Json* value = keys.find(key);
    if (log && value != nullptr && *value != 0 && *value != 1)
      log(LogLevel::warning,
          fmt::format("{}: {} {} is not applied", file.string(), key, shown(*value)));
  }
}

}  // namespace

Config read_config(const std::filesystem::path& directory, const LogSink& log) {
  const std::filesystem::path file = directory / "config.json";
  const Json json = read_object(file);
  const Keys keys(json, file.string());
  check_family(keys);
  check_layer_types(keys);
  check_keys(keys, log);
  Config config;
  config.family = "llama";
  read_sizes(keys, config);
  config.rope = read_rope(keys);
  config.is_tied = keys.optional<bool>("tie_word_embeddings").value_or(false);
  config.stored = read_stored(keys, log);
  add_stop_tokens(keys, config);
  read_generation(directory / "generation_config.json", config, log);
  return config;
}

}  // namespace pensive
