#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "model/config_keys.h"

namespace pensive {
namespace {

using Json = nlohmann::ordered_json;

constexpr double small = 1e-3, huge = 1e12;

// Keys beside those that every kind has.
void check_rope_keys(const Keys& keys, std::initializer_list<std::string_view> known,
                     const UnknownRule& unknown) {
  for (const auto& [key, value] : keys.object().items()) {
    const bool is_common = key == "rope_type" || key == "type" || key == "rope_theta";
    const bool is_whole = key == "partial_rotary_factor" && value == 1;
    const bool is_known = std::find(known.begin(), known.end(), key) != known.end();
    if (is_common || is_whole || is_known || value.is_null()) continue;
    const bool is_plain = key != "partial_rotary_factor" && !value.is_object();
    require(is_plain, ErrorCode::unsupported, "rope parameters for whole heads, of all layers",
            fmt::format("{}: {}", in_quotes(key), shown(value)), keys.where());
    unknown.meet(key, value, keys.where());
  }
}

std::string read_type(const Keys& keys) {
  const auto newer = keys.optional<std::string>("rope_type");
  const auto older = keys.optional<std::string>("type");
  require(!newer || !older || *newer == *older, ErrorCode::corrupt_file, "one rope_type",
          newer && older ? *newer + " and " + *older : "", keys.where());
  return newer ? *newer : older.value_or("default");
}

void read_llama3(const Keys& keys, Rope& rope) {
  rope.kind = RopeKind::llama3;
  rope.factor = keys.number("factor", small, huge);
  rope.low_frequency_factor = keys.number("low_freq_factor", small, huge);
  rope.high_frequency_factor = keys.number("high_freq_factor", small, huge);
  require(rope.high_frequency_factor > rope.low_frequency_factor, ErrorCode::corrupt_file,
          "high_freq_factor above low_freq_factor",
          fmt::format("{} and {}", rope.high_frequency_factor, rope.low_frequency_factor),
          keys.where());
}

// What the scores of attention are scaled by, unless the file says: 0.1 ln(factor) + 1 (section 3.4
// of the paper), or the quotient of two such numbers, as DeepSeek has it.
double yarn_attention_factor(const Keys& keys, double factor) {
  const auto scale = [factor](double weight) {
    return factor <= 1 ? 1 : 0.1 * weight * std::log(factor) + 1;
  };
  const double above = keys.number_or("mscale", 0, 0, huge);
  const double below = keys.number_or("mscale_all_dim", 0, 0, huge);
  const bool has_both = above != 0 && below != 0;
  return keys.number_or("attention_factor", has_both ? scale(above) / scale(below) : scale(1), 0,
                        huge);
}

// original_positions and theta are read already.
void read_yarn(const Keys& keys, const Config& config, Rope& rope) {
  rope.kind = RopeKind::yarn;
  // Null, but not silence, means what the two lengths say.
  rope.factor = keys.has("factor") && keys.find("factor") == nullptr
                    ? config.max_positions / rope.original_positions
                    : keys.number("factor", small, huge);
  rope.attention_factor = yarn_attention_factor(keys, rope.factor);
  const auto or_default = [&keys](std::string_view key, double value) {
    const double given = keys.number_or(key, value, 0, huge);
    return given == 0 ? value : given;
  };
  rope.beta_fast = or_default("beta_fast", rope.beta_fast);
  rope.beta_slow = or_default("beta_slow", rope.beta_slow);
  rope.truncate = keys.optional<bool>("truncate").value_or(true);
  require(rope.beta_fast >= rope.beta_slow, ErrorCode::corrupt_file,
          "beta_fast of at least beta_slow",
          fmt::format("{} and {}", rope.beta_fast, rope.beta_slow), keys.where());
  require(rope.theta > 1, ErrorCode::corrupt_file, "rope_theta above 1",
          fmt::format("{}", rope.theta), keys.where());
}

// `keys`: rope_scaling of version 4, or rope_parameters of version 5, which holds theta too.
// `outer`: all of config.json, which may hold the positions of the first training as well.
void read_scaling(const Keys& keys, const Keys& outer, const Config& config, Rope& rope,
                  const UnknownRule& unknown) {
  constexpr std::string_view original_key = "original_max_position_embeddings";
  const std::string type = read_type(keys);
  const bool is_given = outer.find(original_key) != nullptr;
  const int original = outer.whole_or(original_key, config.max_positions, 1, 1 << 30);
  rope.original_positions = keys.whole_or(original_key, original, 1, 1 << 30);
  require(!is_given || rope.original_positions == original, ErrorCode::corrupt_file,
          fmt::format("one {}", original_key),
          fmt::format("{} and {}", original, rope.original_positions), keys.where());
  if (type == "default") {
    check_rope_keys(keys, {original_key}, unknown);
    rope.original_positions = Rope{}.original_positions;
  } else if (type == "linear") {
    check_rope_keys(keys, {"factor", original_key}, unknown);
    rope.kind = RopeKind::linear;
    rope.factor = keys.number("factor", small, huge);
    rope.original_positions = Rope{}.original_positions;
  } else if (type == "dynamic") {
    check_rope_keys(keys, {"factor", original_key}, unknown);
    rope.kind = RopeKind::dynamic;
    rope.factor = keys.number("factor", 1, huge);
    require(rope.original_positions >= config.max_positions, ErrorCode::unsupported,
            "dynamic rope that is plain up to max_position_embeddings",
            fmt::format("{} {} of {}", original_key, rope.original_positions, config.max_positions),
            keys.where());
    rope.original_positions = Rope{}.original_positions;
  } else if (type == "llama3") {
    check_rope_keys(keys, {"factor", "low_freq_factor", "high_freq_factor", original_key}, unknown);
    read_llama3(keys, rope);
  } else if (type == "yarn") {
    check_rope_keys(keys,
                    {"factor", "attention_factor", "beta_fast", "beta_slow", "mscale",
                     "mscale_all_dim", "truncate", "finetuned", original_key},
                    unknown);
    read_yarn(keys, config, rope);
  } else {
    fail(ErrorCode::unsupported, "rope_type default, linear, dynamic, llama3 or yarn",
         in_quotes(type), keys.where());
  }
}

}  // namespace

Rope read_rope(const Keys& keys, const Config& config, const UnknownRule& unknown) {
  constexpr double least_theta = 1, most_theta = 1e12;
  Rope plain;
  plain.theta = keys.number_or("rope_theta", plain.theta, least_theta, most_theta);
  const bool has_outer = keys.find("rope_theta") != nullptr;
  std::optional<Rope> found;
  for (const std::string_view key : {"rope_parameters", "rope_scaling"}) {
    const Json* object = keys.find(key);
    if (object == nullptr) continue;
    require(object->is_object(), ErrorCode::corrupt_file, fmt::format("{} as an object", key),
            shown(*object), keys.where());
    const Keys inner(*object, fmt::format("{}, {}", keys.where(), key));
    Rope rope;
    rope.theta = inner.number_or("rope_theta", plain.theta, least_theta, most_theta);
    require(!has_outer || plain.theta == rope.theta, ErrorCode::corrupt_file, "one rope_theta",
            fmt::format("{} and {}", plain.theta, rope.theta), inner.where());
    read_scaling(inner, keys, config, rope, unknown);
    require(!found || *found == rope, ErrorCode::corrupt_file, "rope_scaling or rope_parameters",
            "both, which differ", keys.where());
    found = rope;
  }
  return found.value_or(plain);
}

}  // namespace pensive
