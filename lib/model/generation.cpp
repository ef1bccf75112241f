#include <algorithm>
#include <limits>

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
};

// Values of other keys that say nothing.
bool is_idle(const Json& value) {
  return value.is_null() || value == false || value == 0 || value == 1 || value.empty();
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
  GenerationDefaults& defaults = config.defaults;
  defaults.temperature = number("temperature", 1000);
  defaults.top_p = number("top_p", 1);
  defaults.min_p = number("min_p", 1);
  defaults.repetition_penalty = number("repetition_penalty", 1000);
  if (keys.find("top_k") != nullptr)
    defaults.top_k = keys.whole("top_k", 0, std::numeric_limits<int>::max());
  if (!keys.optional<bool>("do_sample").value_or(true)) defaults.temperature = 0;
  for (const auto& [key, value] : json.items()) {
    const bool is_quiet =
        std::find(std::begin(quiet_keys), std::end(quiet_keys), key) != std::end(quiet_keys);
    if (log && !is_quiet && !is_idle(value))
      log(LogLevel::warning,
          fmt::format("{}: {} {} is not applied", file.string(), key, shown(value)));
  }
}

}  // namespace pensive
