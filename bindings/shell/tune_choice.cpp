// The settings that `pensive tune` tries, and whom it takes.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "tune.h"

namespace pensive::shell {
namespace {

// What is tried of one guide. Of a paper's settings these are its own and some around them.
struct Settings {
  std::string_view name;
  bool lengthens;
  std::vector<std::string_view> specs;  // for expanded()
};

const std::vector<Settings>& settings() {
  static const std::vector<Settings> all = {
      {"margin",
       false,
       {"margin:tau={0.1|2.5},at=paragraph", "margin:tau={0.1|0.5|1|2},at=sentence"}},
      {"overthink", false, {"overthink:max={0.1|0.2|0.4}"}},
      {"convergence", false, {"convergence:k={3|10}"}},
      {"trial", false, {"trial:confidence={0.9|0.95|0.99}"}},
      {"cold_stop",
       false,
       {"cold_stop:entropy=0.01,tokens=256", "cold_stop:entropy={0.02|0.1},tokens={16|64}"}},
      {"closer_pressure", false, {"closer_pressure:alpha={0.2|0.4|0.6}"}},
      {"loops", false, {"loops"}},
      {"ban", false, {"ban"}},
      {"switch_penalty", false, {"switch_penalty"}},
      {"continue", true, {"continue:with=Wait,times={1|2|4}"}},
  };
  return all;
}

bool is_better(const Tried& a, const Tried& b) {
  if (a.result.accuracy != b.result.accuracy) return a.result.accuracy > b.result.accuracy;
  return a.result.mean_tokens < b.result.mean_tokens;
}

std::optional<std::size_t> best(std::span<const Tried> all, auto fits, auto is_first) {
  std::optional<std::size_t> found;
  for (std::size_t i = 0; i < all.size(); ++i)
    if (fits(all[i]) && (!found || is_first(all[i], all[*found]))) found = i;
  return found;
}

std::optional<std::size_t> fewest(std::span<const Tried> all, auto fits) {
  return best(
      all, [&](const Tried& one) { return &one != all.data() && fits(one); },
      [](const Tried& a, const Tried& b) {
        if (a.result.mean_tokens != b.result.mean_tokens)
          return a.result.mean_tokens < b.result.mean_tokens;
        return a.result.accuracy > b.result.accuracy;
      });
}

}  // namespace

std::vector<std::string> expanded(std::string_view spec) {
  const std::size_t open = spec.find('{');
  const std::size_t close = open == spec.npos ? open : spec.find('}', open);
  if (close == spec.npos) return {std::string(spec)};
  const std::string_view inside = spec.substr(open + 1, close - open - 1);
  const bool is_choice = inside.find('|') != inside.npos;
  const std::string head(spec.substr(0, is_choice ? open : close + 1));
  std::vector<std::string_view> middles;
  if (!is_choice) middles.emplace_back();
  for (std::size_t from = 0; is_choice && from <= inside.size();) {
    const std::size_t bar = std::min(inside.find('|', from), inside.size());
    middles.push_back(inside.substr(from, bar - from));
    from = bar + 1;
  }
  std::vector<std::string> all;
  const std::vector<std::string> tails = expanded(spec.substr(close + 1));
  for (const std::string_view middle : middles)
    for (const std::string& tail : tails) all.push_back(head + std::string(middle) + tail);
  return all;
}

void check_names(std::span<const std::string> of) {
  std::string known = "budget";
  for (const Settings& one : settings()) known += fmt::format(", {}", one.name);
  for (const std::string& name : of)
    if (name != "budget" && std::none_of(settings().begin(), settings().end(),
                                         [&](const Settings& one) { return one.name == name; }))
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("expected guides of {}; found '{}' (--of)", known, name));
}

std::vector<std::string> grid(const ExamResult& unsteered, bool thinks_more,
                              std::span<const std::string> of) {
  const auto is_wanted = [&](std::string_view name) {
    return of.empty() || std::find(of.begin(), of.end(), name) != of.end();
  };
  std::vector<std::string> specs;
  if (is_wanted("budget"))
    for (const double share : {.25, .4, .55, .7, .85, 1.0}) {
      const long most = std::max(1L, std::lround(share * unsteered.mean_think_tokens));
      const std::string spec = fmt::format("budget:max={}", most);
      if (specs.empty() || specs.back() != spec) specs.push_back(spec);
    }
  for (const Settings& one : settings()) {
    // Who names a guide wants it, whichever way it pulls.
    if (!is_wanted(one.name) || (one.lengthens && !thinks_more && of.empty())) continue;
    for (const std::string_view spec : one.specs)
      for (std::string& each : expanded(spec)) specs.push_back(std::move(each));
  }
  return specs;
}

std::optional<std::size_t> choose(std::span<const Tried> all, const Target& target) {
  if (target.tokens)
    return best(
        all, [&](const Tried& one) { return one.result.mean_tokens <= *target.tokens; }, is_better);
  return fewest(all, [&](const Tried& one) {
    return one.against.low >= -*target.loss &&
           one.result.mean_tokens < all.front().result.mean_tokens;
  });
}

std::optional<std::size_t> guess(std::span<const Tried> all, const Target& target) {
  if (target.tokens) return choose(all, target);
  return fewest(all, [&](const Tried& one) {
    return one.against.difference >= -*target.loss &&
           one.result.mean_tokens < all.front().result.mean_tokens;
  });
}

double confidence_of(std::size_t settings) noexcept {
  return 1 - 0.05 / static_cast<double>(std::max<std::size_t>(1, settings));
}

}  // namespace pensive::shell
