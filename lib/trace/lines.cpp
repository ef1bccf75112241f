// One trace as one line of JSON.
#include "trace/lines.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include "base/inside.h"
#include "trace/columns.h"

namespace pensive {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::int64_t file_version = 1;
constexpr std::int64_t minor_version = 1;  // 1: times, steering, what probes said
// All that this minor version knows: anything else belongs to a newer one.
constexpr std::string_view trace_keys[] = {
    "marker_texts", "version",        "minor_version",  "prompt_tokens", "tokens",
    "logprobs",     "drawn_logprobs", "entropies_nats", "segments",      "origins",
    "is_marker",    "is_taken_back",  "is_steered",     "seconds",       "actions",
    "probe_tokens", "stopped",        "error",          "seed",          "sample",
    "path",         "stop_text",      "top_count",      "top_tokens",    "top_logprobs"};
constexpr std::string_view action_keys[] = {"position",   "guide", "kind", "reason", "tokens",
                                            "taken_back", "draws", "text", "seconds"};
constexpr StopReason stop_reasons[] = {
    StopReason::running,   StopReason::end_token, StopReason::length,    StopReason::guide,
    StopReason::cancelled, StopReason::error,     StopReason::stop_text, StopReason::deadline};

// One letter a token: short, and readable beside the tokens.
constexpr std::string_view segment_letters = "pta";
constexpr std::string_view origin_letters = "psf";
constexpr std::string_view edge_letters = "<>";

// The double that is written shortest among those that become this float again.
Json to_json(float value) {
  if (std::isnan(value)) return nullptr;
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  const std::string text = fmt::format("{}", value);
  double shortest = 0;
  std::from_chars(text.data(), text.data() + text.size(), shortest);
  return static_cast<float>(shortest) == value ? shortest : static_cast<double>(value);
}

Json to_json(const std::vector<float>& values) {
  Json list = Json::array();
  for (const float value : values) list.push_back(to_json(value));
  return list;
}

template <class T>
std::string to_letters(const std::vector<T>& values, std::string_view letters) {
  std::string text;
  for (const T value : values) {
    const auto index = static_cast<std::size_t>(value);
    require(index < letters.size(), ErrorCode::invalid_argument,
            fmt::format("a value below {}", letters.size()), std::to_string(index), "trace");
    text += letters[index];
  }
  return text;
}

// Adds what a newer version told.
void add_more(Json& to, const std::string& more_json, std::span<const std::string_view> known) {
  if (more_json.empty()) return;
  constexpr std::string_view where = "Trace::more_json";
  Json more;
  try {
    more = parse_json(more_json, where);
  } catch (const Error& error) {
    throw Error(ErrorCode::invalid_argument, error.what());
  }
  require(more.is_object(), ErrorCode::invalid_argument, "an object", more.type_name(), where);
  for (const auto& [key, value] : more.items()) {
    // A newer minor version is among what is kept.
    const bool is_free = std::ranges::find(known, key) == known.end() || key == "minor_version";
    require(is_free, ErrorCode::invalid_argument, "keys that a trace has no member for",
            in_quotes(key), where);
    to[key] = value;
  }
}

// What this version has no member for, as text; empty where there is none.
std::string more_of(const Json& json, std::span<const std::string_view> known) {
  Json more;
  for (const auto& [key, value] : json.items())
    if (std::ranges::find(known, key) == known.end()) more[key] = value;
  const auto minor = json.find("minor_version");
  if (!more.is_null() && minor != json.end()) more["minor_version"] = *minor;
  return more.is_null() ? "" : more.dump();
}

Json to_json(const TraceAction& action) {
  Json json = {{"position", action.position}, {"guide", action.guide},
               {"kind", action.kind},         {"reason", action.reason},
               {"tokens", action.tokens},     {"taken_back", action.taken_back}};
  if (action.draws != 0) json["draws"] = action.draws;
  if (!action.text.empty()) json["text"] = action.text;
  if (!std::isnan(action.seconds)) json["seconds"] = to_json(action.seconds);
  add_more(json, action.more_json, action_keys);
  return json;
}

// Reads the members of one line; every failure names the line.
class Line {
 public:
  Line(const Json& json, std::string_view where) : json_(json), where_(where) {}

  template <class T>
  T number(std::string_view key) const {
    return number_in<T>(member<Json>(json_, key, where_), key);
  }
  std::string text(std::string_view key) const { return member<std::string>(json_, key, where_); }

  template <class T>
  std::vector<T> numbers(std::string_view key) const {
    std::vector<T> values;
    for (const Json& value : list(key)) values.push_back(number_in<T>(value, key));
    return values;
  }

  std::vector<float> floats(std::string_view key) const {
    std::vector<float> values;
    for (const Json& value : list(key)) values.push_back(float_in(value, key));
    return values;
  }
  float real(std::string_view key) const { return float_in(member<Json>(json_, key, where_), key); }

  template <class T>
  std::vector<T> letters(std::string_view key, std::string_view known) const {
    std::vector<T> values;
    for (const char letter : text(key)) {
      const std::size_t index = known.find(letter);
      if (index == std::string_view::npos)
        refuse(fmt::format("letters of \"{}\"", known), in_quotes({&letter, 1}), key);
      values.push_back(static_cast<T>(index));
    }
    return values;
  }

  template <class T>
  T letter(std::string_view key, std::string_view known) const {
    const std::vector<T> values = letters<T>(key, known);
    if (values.size() != 1) refuse("one letter", in_quotes(text(key)), key);
    return values[0];
  }

  bool has(std::string_view key) const { return json_.contains(key); }

  // Its own copy: member() gives values.
  Json list(std::string_view key) const {
    Json value = member<Json>(json_, key, where_);
    if (!value.is_array()) refuse("a list", value.type_name(), key);
    return value;
  }

 private:
  template <class T>
  T number_in(const Json& value, std::string_view key) const {
    const bool is_whole = value.is_number_integer();
    const bool fits = value.is_number_unsigned()
                          ? std::in_range<T>(is_whole ? value.get<std::uint64_t>() : 0)
                          : std::in_range<T>(is_whole ? value.get<std::int64_t>() : 0);
    if (!is_whole || !fits) refuse("a whole number in range", value.dump(), key);
    return value.get<T>();
  }

  float float_in(const Json& value, std::string_view key) const {
    if (value.is_null()) return std::numeric_limits<float>::quiet_NaN();
    if (value == "Infinity" || value == "-Infinity")
      return value == "Infinity" ? INFINITY : -INFINITY;
    if (!value.is_number()) refuse("a number", value.dump(), key);
    return static_cast<float>(value.get<double>());
  }

  [[noreturn]] void refuse(std::string_view expected, std::string_view found,
                           std::string_view key) const {
    fail(ErrorCode::corrupt_file, fmt::format("{} as {}", expected, in_quotes(key)), found, where_);
  }

  const Json& json_;
  std::string_view where_;
};

StopReason to_stop_reason(std::string_view text, std::string_view where) {
  for (const StopReason reason : stop_reasons)
    if (text == to_string(reason)) return reason;
  fail(ErrorCode::corrupt_file, "a known reason as \"stopped\"", in_quotes(text), where);
}

TraceAction read_action(const Json& item, std::string_view where) {
  const Line line(item, where);
  TraceAction action;
  action.position = line.number<int>("position");
  action.guide = line.text("guide");
  action.kind = line.text("kind");
  action.reason = line.text("reason");
  action.tokens = line.number<int>("tokens");
  action.taken_back = line.number<int>("taken_back");
  if (line.has("draws")) action.draws = line.number<int>("draws");
  if (line.has("text")) action.text = line.text("text");
  if (line.has("seconds")) action.seconds = line.real("seconds");
  action.more_json = more_of(item, action_keys);
  return action;
}

// What not every trace tells.
void read_optional(const Line& line, Trace& trace) {
  if (line.has("is_steered")) trace.is_steered = line.letters<std::uint8_t>("is_steered", "01");
  if (line.has("seconds")) trace.seconds = line.floats("seconds");
  if (line.has("stop_text")) trace.stop_text = line.text("stop_text");
  if (line.has("top_count")) {
    trace.top_count = line.number<int>("top_count");
    trace.top_tokens = line.numbers<TokenId>("top_tokens");
    trace.top_logprobs = line.floats("top_logprobs");
  }
}

}  // namespace

std::string line_of(const Trace& trace) {
  const std::string fault = fault_of(trace);
  require(fault.empty(), ErrorCode::invalid_argument, "columns of equal length", fault, "trace");
  Json actions = Json::array();
  for (const TraceAction& action : trace.actions) actions.push_back(to_json(action));
  Json line = {{"version", file_version},
               {"minor_version", minor_version},
               {"prompt_tokens", trace.prompt_tokens},
               {"tokens", trace.tokens},
               {"logprobs", to_json(trace.logprobs)},
               {"drawn_logprobs", to_json(trace.drawn_logprobs)},
               {"entropies_nats", to_json(trace.entropies_nats)},
               {"segments", to_letters(trace.segments, segment_letters)},
               {"origins", to_letters(trace.origins, origin_letters)},
               {"is_marker", to_letters(trace.is_marker, "01")},
               {"is_taken_back", to_letters(trace.is_taken_back, "01")}};
  if (!trace.is_steered.empty()) line["is_steered"] = to_letters(trace.is_steered, "01");
  if (!trace.seconds.empty()) line["seconds"] = to_json(trace.seconds);
  line.update({{"actions", std::move(actions)},
               {"probe_tokens", trace.probe_tokens},
               {"stopped", to_string(trace.stopped)},
               {"error", trace.error},
               {"seed", trace.seed},
               {"sample", trace.sample},
               {"path", trace.path}});
  if (!trace.stop_text.empty()) line["stop_text"] = trace.stop_text;
  for (const MarkerText& one : trace.marker_texts)
    line["marker_texts"].push_back(
        {{"position", one.position},
         {"edge", to_letters(std::vector{one.edge}, edge_letters)},
         {"segment", to_letters(std::vector{one.segment}, segment_letters)},
         {"text", one.text}});
  if (trace.top_count > 0) {
    line["top_count"] = trace.top_count;
    line["top_tokens"] = trace.top_tokens;
    line["top_logprobs"] = to_json(trace.top_logprobs);
  }
  add_more(line, trace.more_json, trace_keys);
  // An error text may quote bytes that are no UTF-8.
  return line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

Trace read_line(std::string_view text, std::string_view where) {
  const Json json = parse_json(text, where);
  const Line line(json, where);
  const auto version = line.number<std::int64_t>("version");
  require(version == file_version, ErrorCode::unsupported, "a trace of version 1",
          std::to_string(version), where);
  if (line.has("minor_version")) line.number<std::uint32_t>("minor_version");
  Trace trace;
  trace.prompt_tokens = line.number<int>("prompt_tokens");
  trace.tokens = line.numbers<TokenId>("tokens");
  trace.logprobs = line.floats("logprobs");
  trace.drawn_logprobs = line.floats("drawn_logprobs");
  trace.entropies_nats = line.floats("entropies_nats");
  trace.segments = line.letters<Segment>("segments", segment_letters);
  trace.origins = line.letters<Origin>("origins", origin_letters);
  trace.is_marker = line.letters<std::uint8_t>("is_marker", "01");
  trace.is_taken_back = line.letters<std::uint8_t>("is_taken_back", "01");
  for (const Json& item : line.list("actions")) trace.actions.push_back(read_action(item, where));
  if (line.has("marker_texts")) {
    for (const Json& item : line.list("marker_texts")) {
      const Line one(item, where);
      trace.marker_texts.push_back(
          {one.number<int>("position"), one.letter<Edge>("edge", edge_letters),
           one.letter<Segment>("segment", segment_letters), one.text("text")});
    }
  }
  trace.probe_tokens = line.number<int>("probe_tokens");
  trace.stopped = to_stop_reason(line.text("stopped"), where);
  trace.error = line.text("error");
  trace.seed = line.number<std::uint64_t>("seed");
  trace.sample = line.number<std::uint32_t>("sample");
  trace.path = line.numbers<std::uint32_t>("path");
  read_optional(line, trace);
  trace.more_json = more_of(json, trace_keys);
  const std::string fault = fault_of(trace);
  require(fault.empty(), ErrorCode::corrupt_file, "columns of equal length", fault, where);
  return trace;
}

}  // namespace pensive
