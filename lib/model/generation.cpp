#include <algorithm>
#include <iterator>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "model/config_keys.h"

namespace pensive {
namespace {

using Json = nlohmann::ordered_json;

// Keys that are read below, or that change nothing about how a token is drawn.
constexpr std::string_view quiet_keys[] = {
    "eos_token_id",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "do_sample",
    "bos_token_id",
    "pad_token_id",
    "decoder_start_token_id",
    "max_length",
    "max_new_tokens",
    "_from_model_config",
    "transformers_version",
    "use_cache",
    "cache_implementation",
    "chat_format",
    "max_window_size",
    "trust_remote_code",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "output_logits",
    "return_dict_in_generate",
    "return_legacy_cache",
    "low_memory",
    "disable_compile",
    "compile_config",
    "cache_config",
    "prefill_chunk_size",
};

// The values at which other keys change nothing; of those that Transformers knows, the defaults
// that are neither null nor false.
struct Idle {
  std::string_view key;
  double value;
};
constexpr Idle idle_values[] = {
    {"num_beams", 1},
    {"num_beam_groups", 1},
    {"num_return_sequences", 1},
    {"diversity_penalty", 0},
    {"length_penalty", 1},
    {"typical_p", 1},
    {"top_h", 1},
    {"epsilon_cutoff", 0},
    {"eta_cutoff", 0},
    {"penalty_alpha", 0},
    {"guidance_scale", 1},
    {"min_length", 0},
    {"min_new_tokens", 0},
    {"no_repeat_ngram_size", 0},
    {"encoder_no_repeat_ngram_size", 0},
    {"encoder_repetition_penalty", 1},
    {"presence_penalty", 0},
    {"frequency_penalty", 0},
};

bool is_idle(std::string_view key, const Json& value) {
  if (value.is_null() || value == false || value.empty() || value == "") return true;
  const auto known = std::ranges::find(idle_values, key, &Idle::key);
  return known != std::end(idle_values) && value == known->value;
}

}  // namespace

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

void read_generation(const std::filesystem::path& file, Config& config, const LogSink& log) {
  std::error_code error;
  if (!std::filesystem::exists(file, error)) return;
  const Json json = read_object(file);
  const Keys keys(json, file.string());
  add_stop_tokens(keys, config);
  const auto number = [&keys](std::string_view key, double most) -> std::optional<float> {
    if (keys.find(key) == nullptr) return std::nullopt;
    return static_cast<float>(keys.number(key, 0, most));
  };
  const auto above_zero = [&](std::string_view key, double most) {
    const std::optional<float> value = number(key, most);
    if (value)
      require(*value > 0, ErrorCode::corrupt_file,
              fmt::format("{} above 0 and at most {}", key, most), shown(*keys.find(key)),
              keys.where());
    return value;
  };
  GenerationDefaults& defaults = config.defaults;
  defaults.temperature = number("temperature", 1000);
  defaults.top_p = above_zero("top_p", 1);
  defaults.min_p = number("min_p", 1);
  defaults.repetition_penalty = above_zero("repetition_penalty", 1000);
  if (keys.find("top_k") != nullptr)
    defaults.top_k = keys.whole("top_k", 0, std::numeric_limits<int>::max());
  if (!keys.optional<bool>("do_sample").value_or(true)) defaults.temperature = 0;
  for (const auto& [key, value] : json.items()) {
    const bool is_quiet =
        std::find(std::begin(quiet_keys), std::end(quiet_keys), key) != std::end(quiet_keys);
    if (log && !is_quiet && !is_idle(key, value))
      log(LogLevel::warning,
          fmt::format("{}: {} {} is not applied", file.string(), key, shown(value)));
  }
}

}  // namespace pensive
