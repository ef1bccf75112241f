#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/inside.h"
#include "guides/catalogue.h"

namespace pensive {
namespace {

// One value from the front of `rest`: up to a comma, or a text in double quotes.
std::optional<std::string> take_value(std::string_view& rest) {
  if (!rest.starts_with('"')) {
    const std::size_t comma = rest.find(',');
    const std::string value(rest.substr(0, comma));
    rest.remove_prefix(std::min(rest.size(), comma));
    return value;
  }
  std::string value;
  for (std::size_t i = 1; i < rest.size(); ++i) {
    if (rest[i] == '"') {
      rest.remove_prefix(i + 1);
      return value;
    }
    if (rest[i] == '\\' && i + 1 < rest.size()) {
      ++i;
      value += rest[i] == 'n' ? '\n' : rest[i];
    } else {
      value += rest[i];
    }
  }
  return std::nullopt;
}

}  // namespace

Settings::Settings(const GuideInfo& info, std::string_view values, const GuideContext& context)
    : info_(info), context_(context) {
  const auto wrong = [&](std::string_view expected, std::string_view found) {
    fail(ErrorCode::invalid_argument, expected, in_quotes(found),
         fmt::format("guide {}", info.name));
  };
  while (!values.empty()) {
    const std::size_t equals = values.find('=');
    if (equals == values.npos) wrong("KEY=VALUE", values);
    const std::string key(values.substr(0, equals));
    values.remove_prefix(equals + 1);
    std::string known;
    for (const GuideKey& one : info.keys)
      known += (known.empty() ? "" : ", ") + std::string(one.name);
    const auto is_key = [&](const GuideKey& one) { return one.name == key; };
    if (std::none_of(info.keys.begin(), info.keys.end(), is_key))
      wrong(known.empty() ? "no setting" : "a setting: " + known, key);
    if (is_given(key)) wrong("a setting once", key);
    std::optional<std::string> value = take_value(values);
    if (!value) wrong("a text that ends with \"", values);
    if (!values.empty() && !values.starts_with(',')) wrong("a comma after a value", values);
    if (!values.empty()) values.remove_prefix(1);
    given_.emplace_back(key, std::move(*value));
  }
}

bool Settings::is_given(std::string_view key) const {
  return std::any_of(given_.begin(), given_.end(),
                     [&](const auto& one) { return one.first == key; });
}

std::string Settings::text(std::string_view key) const {
  for (const auto& [name, value] : given_)
    if (name == key) return value;
  for (const GuideKey& one : info_.keys) {
    if (one.name != key) continue;
    if (one.fallback == "required") refuse(fmt::format("{}=…", key), key);
    return std::string(one.fallback);
  }
  fail(ErrorCode::internal, "a key of the catalogue", key, info_.name);
}

void Settings::refuse(std::string_view expected, std::string_view key) const {
  fail(ErrorCode::invalid_argument, expected,
       is_given(key) ? in_quotes(text(key)) : std::string("nothing"),
       fmt::format("guide {}, {}", info_.name, key));
}

int Settings::whole(std::string_view key) const {
  const std::string value = text(key);
  int number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size()) refuse("a whole number", key);
  return number;
}

float Settings::number(std::string_view key) const {
  const std::string value = text(key);
  float number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || !std::isfinite(number))
    refuse("a number", key);
  return number;
}

bool Settings::flag(std::string_view key) const {
  const std::string value = text(key);
  if (value != "yes" && value != "no") refuse("yes or no", key);
  return value == "yes";
}

std::size_t Settings::choice(std::string_view key,
                             std::initializer_list<std::string_view> words) const {
  const auto found = std::find(words.begin(), words.end(), text(key));
  if (found == words.end()) refuse(fmt::format("one of {}", fmt::join(words, ", ")), key);
  return static_cast<std::size_t>(found - words.begin());
}

std::vector<TokenId> Settings::ids(std::string_view key) const { return ids_of(text(key), key); }

std::vector<TokenId> Settings::ids_of(std::string_view text, std::string_view key) const {
  if (const auto one = tokenizer().find(text)) return {*one};
  std::vector<TokenId> ids = tokenizer().encode(text, {.add_special = AddSpecial::no});
  if (ids.empty()) refuse("a text of at least one token", key);
  return ids;
}

std::vector<std::string> Settings::list(std::string_view key) const {
  std::vector<std::string> found;
  const std::string all = text(key);
  for (std::string_view rest = all; !rest.empty();) {
    const std::size_t bar = rest.find('|');
    if (bar != 0) found.emplace_back(rest.substr(0, bar));
    rest.remove_prefix(bar == rest.npos ? rest.size() : bar + 1);
  }
  return found;
}

const Tokenizer& Settings::tokenizer() const {
  if (!context_.tokenizer)
    fail(ErrorCode::invalid_argument, "a tokenizer", "none", fmt::format("guide {}", info_.name));
  return *context_.tokenizer;
}

const Markers& Settings::markers() const {
  if (!context_.markers)
    fail(ErrorCode::invalid_argument, "thinking markers", "none",
         fmt::format("guide {}", info_.name));
  return *context_.markers;
}

std::vector<TokenId> Settings::marker_tokens() const {
  std::vector<TokenId> all;
  if (!context_.markers) return all;
  const Markers& markers = *context_.markers;
  for (const auto* ids :
       {&markers.think_open, &markers.think_close, &markers.answer_open, &markers.answer_close})
    all.insert(all.end(), ids->begin(), ids->end());
  return all;
}

}  // namespace pensive
