// What a training run is of, and which problems and files it can have.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <filesystem>

#include "run_folder.h"
#include "train_flags.h"

namespace pensive::shell {
namespace {

[[noreturn]] void refuse(const std::string& expected, const std::string& found,
                         const std::string& where) {
  throw Error(ErrorCode::invalid_argument,
              fmt::format("expected {}; found {} ({})", expected, found, where));
}

// Of every field; each text stands behind its length.
std::string problems_hash(std::span<const Problem> problems) {
  std::string all;
  const auto add = [&all](const std::string& text) {
    all += fmt::format("{} {}", text.size(), text);
  };
  for (const Problem& problem : problems) {
    for (const std::string* text : {&problem.id, &problem.question, &problem.reference}) add(*text);
    for (const std::string& text : problem.intermediates) add(text);
    add(fmt::format("{} {}", problem.intermediates.size(), problem.target_tokens));
  }
  return hash_of(all);
}

}  // namespace

std::string TrainFlags::run(std::span<const Problem> all, const Engine& engine,
                            const TrainOptions& options) const {
  const SteeringFlags& s = request.steering;
  std::vector<std::string> lines = {
      fmt::format("{} problems with the hash {} (file, --limit, --bad-lines)", all.size(),
                  problems_hash(all)),
      fmt::format("--prompts {}", prompts),
      fmt::format("--pass-rate {}", fmt::join(pass_rate, ",")),
      fmt::format("--start {}", start.value_or(default_start)),
      fmt::format("--soft: other rows with the hash {}",
                  hash_of(rows_text(*engine.options().soft, name))),
      fmt::format("--grader with the fingerprint {}", graded_by),
      fmt::format("--think-max {}", s.think_max),
      fmt::format("--think-min {}", s.think_min),
      fmt::format("--times {}", s.times),
      fmt::format("--times-from {}", fmt::join(times_from, ",")),
      fmt::format("--close-with {}", s.close_with),
      fmt::format("--think-open {}", s.think_open),
      fmt::format("--think-close {}", s.think_close)};
  if (!pass_rate.empty())
    if (const auto limit = cache_limit(engine, all, options.prompt_of, options.rollout))
      lines.push_back(fmt::format("--cache-tokens: samples end at {} positions", *limit));
  for (const std::string& spec : s.brakes) lines.push_back("--brake " + spec);
  for (const std::string& spec : s.guides) lines.push_back("--guide " + spec);
  return fmt::format("{}", fmt::join(lines, "\n"));
}

void TrainFlags::check() const {
  std::vector<std::pair<std::string, std::filesystem::path>> places;
  for (const auto& [flag, name] :
       {std::pair("the problems", &file), std::pair("--out", &out),
        std::pair("--checkpoint", &checkpoint), std::pair("--log", &log),
        std::pair("--rates", &rates), std::pair("--soft", &model.soft_file)}) {
    if (name->empty()) continue;
    const auto path = std::filesystem::weakly_canonical(*name);
    if (std::filesystem::exists(path) && !std::filesystem::is_regular_file(path)) continue;
    for (const auto& [other, taken] : places)
      if (path == taken && !(flag == std::string_view("--soft") && other == "--out"))
        refuse("a file of its own", "that of " + other, fmt::format("{}: {}", flag, *name));
    places.emplace_back(flag, path);
  }
  if (!resume && !overwrite)
    for (const std::string& place : {out, checkpoint, log, rates})
      check_new(place, "--resume goes on from a checkpoint, --overwrite takes its place");
  if (pass_rate.empty()) return;
  const double low = pass_rate.at(0), high = pass_rate.at(1);
  if (!(low >= 0 && low <= high && high <= 1))
    refuse("two shares from 0 to 1, the lower one first", fmt::format("{}, {}", low, high),
           "--pass-rate");
}

void TrainFlags::check_out(const std::shared_ptr<const Model>& of) const {
  if (!resume || !std::filesystem::exists(out)) return;
  if (!SoftVocab::load(of, out)->find(name))
    refuse(fmt::format("the row '{}', or no file", name), "other rows", out);
}

std::vector<Problem> TrainFlags::with_prompts(const Trainer& trainer,
                                              const std::vector<Problem>& all) const {
  std::vector<Problem> kept;
  std::vector<std::string> ids;
  std::string first;
  for (const Problem& problem : all) {
    try {
      trainer.check_prompt(problem);
      kept.push_back(problem);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::invalid_argument) throw;
      if (ids.empty()) first = error.what();
      ids.push_back(problem.id);
    }
  }
  if (ids.empty()) return kept;
  constexpr std::size_t shown = 20;
  const std::string names =
      fmt::format("{}{}", fmt::join(std::span(ids).first(std::min(ids.size(), shown)), ", "),
                  ids.size() > shown ? ", …" : "");
  if (problems.bad_lines != "skip" || kept.empty())
    refuse("problems that fit (--bad-lines skip leaves out what does not)",
           fmt::format("{} that do not: {}; the first: {}", ids.size(), names, first), file);
  fmt::print(stderr, "pensive: warning: {} left out: {}; the first: {}\n", ids.size(), names,
             first);
  return kept;
}

}  // namespace pensive::shell
