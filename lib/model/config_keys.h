// JSON objects of a checkpoint, read key by key; and what to do about keys that nobody reads.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/inside.h"
#include "model/checkpoint.h"

namespace pensive {

// As JSON, cut when long: for messages.
std::string shown(const nlohmann::ordered_json& value);

// A file that holds one JSON object. Throws not_found, io or corrupt_file.
nlohmann::ordered_json read_object(const std::filesystem::path& file);

// One JSON object of one file: every error names both. Borrows the object.
class Keys {
 public:
  Keys(const nlohmann::ordered_json& object, std::string where)
      : object_(object), where_(std::move(where)) {}

  bool has(std::string_view key) const { return object_.contains(std::string(key)); }
  // Nothing when the key is missing or null.
  const nlohmann::ordered_json* find(std::string_view key) const {
    const auto found = object_.find(std::string(key));
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  template <class T>
  std::optional<T> optional(std::string_view key) const {
    if (find(key) == nullptr) return std::nullopt;
    return member<T>(object_, key, where_);
  }

  // Within both ends, which count. The second kind: `otherwise` when missing or null.
  int whole(std::string_view key, int least, int most) const;
  int whole_or(std::string_view key, int otherwise, int least, int most) const;
  double number(std::string_view key, double least, double most) const;
  double number_or(std::string_view key, double otherwise, double least, double most) const;
  int check_whole(std::string_view key, std::int64_t value, int least, int most) const;

  const nlohmann::ordered_json& object() const noexcept { return object_; }
  const std::string& where() const noexcept { return where_; }

 private:
  const nlohmann::ordered_json& object_;
  std::string where_;
};

// What a caller wished about unknown keys. Borrows the log.
struct UnknownRule {
  UnknownKeys wish = UnknownKeys::refuse;
  const LogSink& log;

  // Throws unsupported, or says so in the log.
  void meet(std::string_view key, const nlohmann::ordered_json& value,
            const std::string& where) const;
};

// Every key of config.json is read elsewhere, known to change nothing, at the one value that is
// done, or unknown. Throws unsupported; the log gets one line naming what was ignored.
void check_keys(const Keys& keys, const UnknownRule& unknown);

// Throws unsupported for weights that are not plain numbers, naming what would work.
void check_quantization(const Keys& keys);

// How positions turn, in the spellings of Transformers 4 and 5. Reads head_dim and max_positions of
// `config`.
Rope read_rope(const Keys& keys, const Config& config, const UnknownRule& unknown);

// Adds what eos_token_id names, a number or a list, to the stop tokens.
void add_stop_tokens(const Keys& keys, Config& config);

// generation_config.json, where it is there: stop tokens and defaults. The log gets a line for each
// key that would change what is drawn and is not applied.
void read_generation(const std::filesystem::path& file, Config& config, const LogSink& log);

}  // namespace pensive
