// A training run in a file: the row, Adam's moments, the step count, and what must not change.
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "base/told.h"
#include "kernels/kernels.h"
#include "train/numbers.h"
#include "train/parts.h"
#include "train/report.h"

namespace pensive {

using Json = nlohmann::ordered_json;

std::vector<double> to_numbers(const Json& list, std::size_t count, std::string_view key,
                               std::string_view where) {
  const std::string expected = fmt::format("{} finite numbers in \"{}\"", count, key);
  require(list.is_array(), ErrorCode::corrupt_file, expected, list.type_name(), where);
  require(list.size() == count, ErrorCode::corrupt_file, expected, fmt::format("{}", list.size()),
          where);
  std::vector<double> numbers;
  for (const Json& entry : list) {
    require(entry.is_number() && std::isfinite(entry.get<double>()), ErrorCode::corrupt_file,
            expected, entry.dump(), where);
    numbers.push_back(entry.get<double>());
  }
  return numbers;
}

std::vector<double> read_numbers(const Json& object, std::string_view key, std::size_t count,
                                 std::string_view where) {
  return to_numbers(member<Json>(object, key, where), count, key, where);
}

int read_count(const Json& object, std::string_view key, std::string_view where) {
  const auto count = member<std::int64_t>(object, key, where);
  require(count >= 0 && count <= (1 << 30), ErrorCode::corrupt_file,
          fmt::format("a count in \"{}\"", key), std::to_string(count), where);
  return static_cast<int>(count);
}

std::vector<float> to_floats(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

namespace {

constexpr std::int64_t format_version = 3;

// The first line in which two texts differ, of each.
std::pair<std::string, std::string> different_lines(std::string_view mine,
                                                    std::string_view theirs) {
  const auto take = [](std::string_view& text) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    return line;
  };
  std::string_view a, b;
  do {
    a = take(mine);
    b = take(theirs);
  } while (a == b && !(mine.empty() && theirs.empty()));
  return {std::string(a), std::string(b)};
}

// Both directions: a setting that only one of the two has differs too.
void compare_settings(const Json& mine, const Json& found, std::string_view where) {
  require(found.is_object(), ErrorCode::corrupt_file, "an object \"settings\"", found.type_name(),
          where);
  for (const auto& [key, value] : mine.items()) {
    const std::string theirs = member<std::string>(found, key, where);
    if (theirs == value.get<std::string>()) continue;
    const auto [expected, differs] = different_lines(value.get<std::string>(), theirs);
    fail(ErrorCode::invalid_argument, fmt::format("a checkpoint with {} = {}", key, expected),
         in_quotes(differs), where);
  }
  for (const auto& [key, value] : found.items())
    require(mine.contains(key), ErrorCode::unsupported, "no other settings than this trainer's",
            in_quotes(key), where);
}

// What older checkpoints do not tell: they are from before there was a choice of logprobs, and are
// taken for those of an engine like this one.
void fill_in(Json& settings, const Json& mine) {
  if (!settings.is_object()) return;
  if (!settings.contains("logprobs")) settings["logprobs"] = "fast";
  for (const char* key : {"precision", "arithmetic"})
    if (!settings.contains(key)) settings[key] = mine.at(key);
}

// What the steps so far could ask for, where a cache that holds `held` would have ended no other
// sequences than theirs; 0 where an older checkpoint does not tell.
int read_longest(const Json& json, int held, std::string_view where) {
  if (!json.contains("longest")) return 0;
  const Json found = member<Json>(json, "longest", where);
  require(found.is_object(), ErrorCode::corrupt_file, "an object \"longest\"", found.type_name(),
          where);
  const int theirs = read_count(found, "held", where), asked = read_count(found, "asked", where);
  require(
      std::min(theirs, asked) == std::min(held, asked), ErrorCode::invalid_argument,
      theirs < asked
          ? fmt::format("a cache that ends sequences at {} positions, as in the steps so far",
                        theirs)
          : fmt::format("a cache for the {} positions that the steps so far could ask for", asked),
      fmt::format("one for {}", held), fmt::format("EngineOptions::cache_tokens; {}", where));
  return asked;
}

std::string join(std::span<const TokenId> ids) { return fmt::format("{}", fmt::join(ids, " ")); }

std::string names_of(std::span<const std::shared_ptr<const Guide>> guides) {
  std::vector<std::string> names;
  for (const auto& guide : guides) {
    const std::string told = told_by(*guide);
    names.push_back(told.empty() ? std::string(guide->name())
                                 : fmt::format("{} ({})", guide->name(), told));
  }
  return fmt::format("{}", fmt::join(names, "\n"));
}

std::string rewards_of(std::span<const Reward> rewards) {
  std::vector<std::string> terms;
  for (const Reward& reward : rewards) {
    const std::string told = told_by(*reward.judge);
    terms.push_back(fmt::format("{} {}{}", reward.weight, reward.name,
                                told.empty() ? told : fmt::format(" ({})", told)));
  }
  return fmt::format("{}", fmt::join(terms, "\n"));
}

// What a choice is called, by its place.
template <class Choice>
std::string word(Choice choice, std::initializer_list<std::string_view> words) {
  return std::string(words.begin()[static_cast<std::size_t>(choice)]);
}

std::string markers_of(const Request& request) {
  if (!request.markers) return "the tokenizer's";
  const Markers& own = *request.markers;
  return fmt::format("{} | {} | {} | {}", join(own.think_open), join(own.think_close),
                     join(own.answer_open), join(own.answer_close));
}

std::string hash_of(std::span<const TokenId> ids) {
  std::uint64_t hash = ids.size();
  for (const TokenId id : ids) hash = kernels::mix(hash, static_cast<std::uint64_t>(id));
  return fmt::format("{:016x}", hash);
}

// prompt_of cannot be compared, but what it makes of one problem can.
Json write_example(const std::optional<Problem>& example, const PromptOf& prompt_of) {
  if (!example) return nullptr;
  // Bytes that are not UTF-8 become what the file can hold.
  Problem written = *example;
  for (std::string* text : {&written.id, &written.question, &written.reference})
    *text = to_utf8(*text);
  for (std::string& text : written.intermediates) text = to_utf8(text);
  return {{"id", written.id},
          {"question", written.question},
          {"reference", written.reference},
          {"intermediates", written.intermediates},
          {"target_tokens", written.target_tokens},
          {"prompt", hash_of(prompt_of(written))}};
}

std::optional<Problem> read_example(const Json& json, const PromptOf& prompt_of,
                                    std::string_view where) {
  const Json found = member<Json>(json, "example", where);
  if (found.is_null()) return std::nullopt;
  const auto text = [&](std::string_view key) { return member<std::string>(found, key, where); };
  Problem example{text("id"), text("question"), text("reference")};
  example.target_tokens = read_count(found, "target_tokens", where);
  const Json steps = member<Json>(found, "intermediates", where);
  require(steps.is_array() && std::ranges::all_of(steps, &Json::is_string), ErrorCode::corrupt_file,
          "a list of texts in \"intermediates\"", steps.dump(), where);
  example.intermediates = steps.get<std::vector<std::string>>();
  const std::string mine = hash_of(prompt_of(example)), theirs = text("prompt");
  require(mine == theirs, ErrorCode::invalid_argument,
          fmt::format("a checkpoint whose prompt of problem {} has the hash {}", example.id, mine),
          in_quotes(theirs), where);
  return example;
}

}  // namespace

int Trainer::Parts::longest_held() const {
  const std::int64_t cache = std::int64_t{engine.counters().pages} * engine.options().page_tokens;
  return static_cast<int>(std::min<std::int64_t>(engine.model()->max_positions(), cache));
}

int Trainer::Parts::longest_asked(std::span<const Sequence> sequences) const {
  std::int64_t longest = 0;
  for (const Sequence& sequence : sequences)
    longest = std::max<std::int64_t>(longest, sequence.trace().prompt_tokens);
  return static_cast<int>(std::min<std::int64_t>(engine.model()->max_positions(),
                                                 longest + options.rollout.max_new_tokens));
}

Json Trainer::Parts::settings() const {
  const TrainOptions& o = options;
  const Request& r = o.rollout;
  // Text, since 64-bit numbers do not survive every JSON reader.
  const auto text = [](const auto& value) { return fmt::format("{}", value); };
  Json all = {{"model", fmt::format("{:016x}", engine.model()->info().fingerprint)},
              {"precision", to_string(engine.model()->info().precision)},
              {"arithmetic", word(engine.options().arithmetic, {"fast", "row-invariant"})},
              {"row", soft->name(row)},
              {"rewards", rewards_of(rewards)},
              {"truncated", word(o.truncated, {"judged", "zero", "masked"})},
              {"group_size", text(o.group_size)},
              {"branch", word(o.branch, {"at prompt", "at soft token"})},
              {"advantage_scale", word(o.advantage_scale, {"group", "batch", "none"})},
              {"denominator", word(o.denominator, {"drawn tokens", "suffix tokens", "constant"})},
              {"constant_tokens", text(o.constant_tokens)},
              {"clip", text(o.clip)},
              {"clip_high", text(o.clip_high)},
              {"inner_steps", text(o.inner_steps)},
              {"logprobs", word(o.logprobs, {"fast", "exact"})},
              {"max_importance_weight", text(o.max_importance_weight)},
              {"kl", text(o.kl)},
              {"pull", text(o.pull)},
              {"learning_rate", text(o.learning_rate)},
              {"rate_unit", word(o.rate_unit, {"absolute", "start rms"})},
              {"total_steps", text(o.total_steps)},
              {"max_gradient_norm", text(o.max_gradient_norm)},
              {"max_row_norm", text(o.max_row_norm)},
              {"max_row_distance", text(o.max_row_distance)},
              {"stop_errors", text(o.stop_errors)},
              {"temperature", text(static_cast<float>(temperature))},
              {"max_new_tokens", text(r.max_new_tokens)},
              {"answer_tokens", text(o.answer_tokens)},
              {"guides", names_of(r.guides)},
              {"one_of", names_of(o.one_of)},
              {"markers", markers_of(r)},
              {"closing", join(r.closing)},
              {"begins_in", r.begins_in ? to_string(*r.begins_in) : "unset"},
              {"extra_stop_tokens", join(r.extra_stop_tokens)},
              {"ignore_end_tokens", text(r.ignore_end_tokens)},
              {"stop_texts", fmt::format("{}", fmt::join(r.stop_texts, "\n"))},
              {"timeout_seconds", text(r.timeout_seconds)},
              {"seed", text(o.seed)},
              {"run", o.run}};
  for (auto& value : all) value = to_utf8(value.get_ref<const std::string&>());
  return all;
}

void Trainer::save_checkpoint(const std::filesystem::path& file) const {
  const Json json = {{"pensive_training", format_version},
                     {"settings", parts_->settings()},
                     {"example", write_example(parts_->example, parts_->prompt_of)},
                     {"longest", {{"held", parts_->longest_held()}, {"asked", parts_->asked}}},
                     {"steps", parts_->steps},
                     {"report", write_report(parts_->report)},
                     {"updates", parts_->adam.updates},
                     {"row", parts_->soft->row(parts_->row)},
                     {"started", parts_->started},
                     {"first_moment", parts_->adam.first},
                     {"second_moment", parts_->adam.second},
                     {"watch", parts_->watch.write()}};
  write_whole(file, json.dump(1) + "\n");
}

void Trainer::resume(const std::filesystem::path& file) {
  const std::string where = file.string();
  const Json json = parse_json(read_text(file), where);
  require(json.is_object(), ErrorCode::corrupt_file, "a JSON object", json.type_name(), where);
  const auto version = member<std::int64_t>(json, "pensive_training", where);
  require(version == format_version, ErrorCode::unsupported,
          fmt::format("a training checkpoint of version {}", format_version),
          std::to_string(version), where);
  Json settings = member<Json>(json, "settings", where);
  const Json mine = parts_->settings();
  fill_in(settings, mine);
  compare_settings(mine, settings, where);
  const int held = parts_->longest_held();
  const int asked = read_longest(json, held, where);
  std::optional<Problem> example = read_example(json, parts_->prompt_of, where);

  const std::size_t width = parts_->started.size();
  const int steps = read_count(json, "steps", where);
  std::optional<TrainReport> report =
      read_report(member<Json>(json, "report", where), parts_->rewards.size(), where);
  require((report ? report->step : 0) == steps, ErrorCode::corrupt_file,
          fmt::format("the report of step {}", steps),
          report ? std::to_string(report->step) : "none", where);
  std::vector<float> started = to_floats(read_numbers(json, "started", width, where));
  Adam adam;
  adam.updates = read_count(json, "updates", where);
  const std::size_t moments = adam.updates > 0 ? width : 0;
  adam.first = read_numbers(json, "first_moment", moments, where);
  adam.second = read_numbers(json, "second_moment", moments, where);
  Watch watch = Watch::read(member<Json>(json, "watch", where), width, where);
  const std::vector<float> values = to_floats(read_numbers(json, "row", width, where));

  parts_->soft->set_row(parts_->row, values);  // the last that can throw
  parts_->started = std::move(started);
  parts_->adam = std::move(adam);
  parts_->watch = std::move(watch);
  parts_->steps = steps;
  parts_->asked = asked;
  parts_->report = std::move(report);
  parts_->example = std::move(example);
}

}  // namespace pensive
