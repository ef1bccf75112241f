// What `pensive tune` says of what it tried: never more than the file can tell.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "tune.h"

namespace pensive::shell {
namespace {

std::string name_of(const Tried& one) { return one.spec.empty() ? "(none)" : one.spec; }

// As a shell takes it.
std::string flag_of(const Tried& one) {
  if (one.spec.empty()) return "no guide";
  std::string quoted;
  for (const char c : one.spec) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return fmt::format("--guide '{}'", quoted);
}

std::string points(const Paired& paired) {
  return fmt::format("{:+6.2f}  ({:+.2f} to {:+.2f})", 100 * paired.difference, 100 * paired.low,
                     100 * paired.high);
}

// Whether nobody else is both at least as right and at most as long.
bool is_frontier(std::span<const Tried> all, const Tried& one) {
  return std::none_of(all.begin(), all.end(), [&](const Tried& other) {
    const ExamResult &a = other.result, &b = one.result;
    return a.accuracy >= b.accuracy && a.mean_tokens <= b.mean_tokens &&
           (a.accuracy > b.accuracy || a.mean_tokens < b.mean_tokens);
  });
}

void print_table(std::span<const Tried> all, const std::optional<std::size_t>& chosen) {
  std::size_t width = 8;
  for (const Tried& one : all) width = std::max(width, name_of(one).size());
  fmt::print("   {:<{}}  accuracy  points against none (95%, together)    tokens\n", "guide",
             width);
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Tried& one = all[i];
    fmt::print("{} {:<{}}  {:>7.2f}%  {:<36}  {:>8.1f}\n",
               chosen == i             ? "=>"
               : is_frontier(all, one) ? " *"
                                       : "  ",
               name_of(one), width, 100 * one.result.accuracy, i == 0 ? "" : points(one.against),
               one.result.mean_tokens);
  }
  fmt::print("*: no other is as right with as few tokens\n\n");
}

double detectable(std::span<const Tried> all) {
  std::vector<double> sizes;
  for (const Tried& one : all.subspan(1)) sizes.push_back(one.against.detectable);
  if (sizes.empty()) return 1;
  const auto middle = sizes.begin() + static_cast<std::ptrdiff_t>(sizes.size() / 2);
  std::nth_element(sizes.begin(), middle, sizes.end());
  return *middle;
}

// The others of those that were allowed whom this file cannot tell from the chosen one.
int alike(std::span<const Tried> all, std::size_t chosen, const Target& target) {
  int count = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (i == chosen || all[i].result.mean_tokens > *target.tokens) continue;
    const Paired paired = compare(all[i].result, all[chosen].result, confidence_of(all.size() - 1));
    count += paired.low <= 0;
  }
  return count;
}

void print_tokens_claim(std::span<const Tried> all, const Target& target,
                        const std::optional<std::size_t>& chosen) {
  if (!chosen) {
    const auto least = std::min_element(all.begin(), all.end(), [](const Tried& a, const Tried& b) {
      return a.result.mean_tokens < b.result.mean_tokens;
    });
    fmt::print("chosen     nothing: the least of these takes {:.1f} tokens, more than {:g}\n",
               least->result.mean_tokens, *target.tokens);
    return;
  }
  fmt::print("chosen     {}\n", flag_of(all[*chosen]));
  const int others = alike(all, *chosen, target);
  if (others > 0)
    fmt::print(
        "not shown  that it is the most accurate: {} other(s) within {:g} tokens cannot be "
        "told from it here\n",
        others, *target.tokens);
  else
    fmt::print("shown      it is more accurate than every other within {:g} tokens\n",
               *target.tokens);
}

void print_loss_claim(std::span<const Tried> all, const Target& target,
                      const std::optional<std::size_t>& chosen) {
  const double loss = 100 * *target.loss;
  if (chosen) {
    fmt::print("chosen     {}\n", flag_of(all[*chosen]));
    fmt::print(
        "shown      it loses at most {:g} points: its interval ends at {:+.2f}; {:.1f} of {:.1f} "
        "tokens\n",
        loss, 100 * all[*chosen].against.low, all[*chosen].result.mean_tokens,
        all.front().result.mean_tokens);
    return;
  }
  fmt::print(
      "chosen     nothing: of none that takes fewer tokens is it shown that it loses at most "
      "{:g} points\n",
      loss);
  const auto guessed = guess(all, target);
  if (!guessed) return;
  const Paired& against = all[*guessed].against;
  fmt::print("a guess    {}: {} points\n", flag_of(all[*guessed]), points(against));
  const double half = against.difference - against.low, room = against.difference + *target.loss;
  if (room > 0)
    fmt::print("           some {:.0f} problems, of such samples, would show it if that is so\n",
               std::ceil(all.front().result.problems * half * half / (room * room)));
}

}  // namespace

void print_tuned(std::span<const Tried> all, const Target& target,
                 const std::optional<Checked>& checked) {
  const auto chosen = choose(all, target);
  print_table(all, chosen);
  if (target.tokens)
    print_tokens_claim(all, target, chosen);
  else
    print_loss_claim(all, target, chosen);
  const int problems = all.front().result.problems;
  if (const double least = detectable(all); least < 1)
    fmt::print(
        "resolves   {:.2f} points: the smallest difference that {} problems and {} setting(s) "
        "show four times of five\n",
        100 * least, problems, all.size() - 1);
  else
    fmt::print("resolves   nothing: {} problems are too few for {} setting(s)\n", problems,
               all.size() - 1);
  if (!checked) {
    if (chosen)
      fmt::print("           who was chosen on a file looks too good on it: --check FILE\n");
    return;
  }
  fmt::print("check      {:.2f}% against {:.2f}%: {} points (95%); {:.1f} against {:.1f} tokens\n",
             100 * checked->chosen.accuracy, 100 * checked->unsteered.accuracy,
             points(checked->against), checked->chosen.mean_tokens, checked->unsteered.mean_tokens);
}

ExamPage page_of(std::span<const Tried> all, const Target& target, const std::string& file) {
  const auto chosen = choose(all, target);
  ExamPage page{.title = "Settings tried",
                .sub = fmt::format("{} · {} problems", file, all.front().result.problems)};
  page.columns = {"points against none (95%, together)"};
  for (std::size_t i = 0; i < all.size(); ++i) {
    Dot dot = dot_of(all[i].result, name_of(all[i]));
    dot.is_chosen = chosen == i;
    if (i > 0) dot.cells = {points(all[i].against)};
    page.dots.push_back(std::move(dot));
  }
  page.notes.push_back(chosen ? "Chosen: " + flag_of(all[*chosen]) : "Nothing was chosen.");
  const double least = detectable(all);
  page.notes.push_back(
      least < 1 ? fmt::format("Four of five such files would show a difference of {:.2f} points.",
                              100 * least)
                : "So few problems show no difference.");
  return page;
}

nlohmann::ordered_json json_of(std::span<const Tried> all, const Target& target,
                               const std::optional<Checked>& checked) {
  using Json = nlohmann::ordered_json;
  const auto of_pair = [](const Paired& paired) {
    return Json{{"difference", paired.difference},
                {"low", paired.low},
                {"high", paired.high},
                {"p_value", paired.p_value},
                {"token_difference", paired.token_difference}};
  };
  Json table = Json::array();
  for (const Tried& one : all)
    table.push_back({{"guide", one.spec},
                     {"accuracy", one.result.accuracy},
                     {"low", one.result.low},
                     {"high", one.result.high},
                     {"mean_tokens", one.result.mean_tokens},
                     {"against", &one == all.data() ? Json(nullptr) : of_pair(one.against)},
                     {"is_frontier", is_frontier(all, one)}});
  const auto chosen = choose(all, target), guessed = guess(all, target);
  const bool is_shown = chosen && (target.loss || alike(all, *chosen, target) == 0);
  const auto spec_of = [&](const std::optional<std::size_t>& index) {
    return index ? Json(all[*index].spec) : Json(nullptr);
  };
  Json out = {{"chosen", spec_of(chosen)},
              {"is_shown", is_shown},
              {"guess", spec_of(guessed)},
              {"detectable", detectable(all)},
              {"problems", all.front().result.problems},
              {"settings", all.size() - 1},
              {"table", table}};
  if (checked) {
    out["check"] = of_pair(checked->against);
    out["check"]["accuracy"] = {checked->unsteered.accuracy, checked->chosen.accuracy};
    out["check"]["mean_tokens"] = {checked->unsteered.mean_tokens, checked->chosen.mean_tokens};
  }
  return out;
}

}  // namespace pensive::shell
