// Flags that steer the thinking, and the list of all guides.
#include <fmt/core.h>

#include <algorithm>

#include "pensive/guides.h"
#include "shell.h"

namespace pensive::shell {

void SteeringFlags::add_to(CLI::App& app) {
  app.add_option("--think-max", think_max, "close the thinking by so many tokens")->check(positive);
  app.add_option("--think-min", think_min, "no thinking ends before so many tokens")
      ->check(positive);
  app.add_option("--close-with", close_with,
                 "what closes the thinking at a limit or a brake; holds the closer");
  auto* opener = app.add_option("--think-open", think_open, "the text that opens the thinking");
  auto* closer = app.add_option("--think-close", think_close,
                                "the text that ends it; default for both: as the checkpoint's "
                                "tokenizer and chat template say");
  opener->needs(closer);
  closer->needs(opener);
  auto* word =
      app.add_option("--continue", continue_with,
                     "replace the end of the thinking by this word, or by the soft row of this "
                     "name");
  app.add_option("--times", times, "how often to replace it")
      ->needs(word)
      ->check(positive)
      ->capture_default_str();
  app.add_option("--brake", brakes, "end the thinking on evidence: NAME or NAME:KEY=VALUE,…")
      ->allow_extra_args(false);
  app.add_option("--guide", guides, "anything of `pensive guides`, likewise; may be repeated")
      ->allow_extra_args(false);
}

// A value of a spec in quotes.
static std::string in_spec(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out + '"';
}

std::optional<Markers> SteeringFlags::markers(const Tokenizer& tokenizer) const {
  if (think_close.empty()) return find_markers(tokenizer);
  return markers_of(tokenizer, think_open, think_close);
}

void SteeringFlags::apply(Request& request, const SoftVocab& soft) const {
  std::vector<std::string> specs;
  if (think_max > 0 || think_min > 0) {
    std::string spec = "budget:";
    if (think_max > 0) spec += fmt::format("max={},", think_max);
    if (think_min > 0) spec += fmt::format("min={},", think_min);
    spec.pop_back();
    specs.push_back(std::move(spec));
  }
  specs.insert(specs.end(), brakes.begin(), brakes.end());
  specs.insert(specs.end(), guides.begin(), guides.end());
  if (!continue_with.empty()) {
    std::string spec = fmt::format("continue:with={},times={}", in_spec(continue_with), times);
    if (think_max > 0) spec += fmt::format(",max={}", think_max);
    specs.push_back(std::move(spec));
  }
  const GuideContext context{soft.tokenizer(), request.markers};
  for (const std::string& spec : specs) request.guides.push_back(make_guide(spec, context));
  const bool needs_markers =
      !close_with.empty() || std::any_of(request.guides.begin(), request.guides.end(),
                                         [](const auto& guide) { return guide->needs_markers(); });
  if (needs_markers && !request.markers) {
    throw Error(ErrorCode::unsupported,
                "expected a model with thinking markers; found none in its tokenizer and chat "
                "template (--think-max, --think-min, --close-with, --continue, --brake and --guide "
                "steer the thinking; --think-close names what ends it)");
  }
  if (!close_with.empty()) request.closing = closing_of(context, close_with);
}

void add_guides(CLI::App& app) {
  app.add_subcommand("guides", "all that can steer the thinking, with papers and defaults")
      ->callback([] {
        for (const GuideInfo& info : pensive::guides()) {
          fmt::print("{}\n  {}\n  ({})\n", info.name, info.meaning, info.source);
          for (const GuideKey& key : info.keys)
            fmt::print("    {:<10} {:<12} {}\n", key.name, key.fallback, key.meaning);
        }
      });
}

}  // namespace pensive::shell
