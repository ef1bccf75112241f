#include "pensive/exam.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include <cmath>

#include "exam_page.h"
#include "rewards.h"
#include "run_folder.h"

namespace pensive::shell {
namespace {

struct Flags {
  ModelFlags model;
  RoomFlags room;
  RequestFlags request;
  ProblemFlags problems;
  GraderFlags grader;
  std::string file, out, run, html;
  int samples = 1;
  std::vector<int> pass_at, majority_at;
  bool json = false;
  bool overwrite = false;
};

// pass@k and majority@k for the k that were asked for.
struct AtK {
  const char* name;
  int k;
  Share share;
};

std::vector<AtK> at_k(const ExamResult& result, const Flags& flags) {
  std::vector<AtK> all;
  for (const int k : flags.pass_at) all.push_back({"pass", k, pass_at_k(result, k)});
  for (const int k : flags.majority_at) all.push_back({"majority", k, majority_at_k(result, k)});
  return all;
}

void print_json(const ExamResult& result, const Flags& flags) {
  nlohmann::ordered_json out = {{"problems", result.problems},
                                {"samples", flags.samples},
                                {"accuracy", result.accuracy},
                                {"standard_error", result.standard_error},
                                {"sample_error", result.sample_error},
                                {"low", result.low},
                                {"high", result.high},
                                {"mean_tokens", result.mean_tokens},
                                {"mean_think_tokens", result.mean_think_tokens},
                                {"mean_answer_tokens", result.mean_answer_tokens},
                                {"mean_probe_tokens", result.mean_probe_tokens},
                                {"mean_first_answer", result.mean_first_answer},
                                {"mean_first_partial", result.mean_first_partial},
                                {"mean_first_correct", result.mean_first_correct},
                                {"strict",
                                 {{"accuracy", result.strict_accuracy},
                                  {"low", result.strict_low},
                                  {"high", result.strict_high},
                                  {"boxed_share", result.boxed_share}}},
                                {"mean_flops", result.mean_flops},
                                {"truncated_share", result.truncated_share},
                                {"seconds_p50", result.seconds_p50},
                                {"seconds_p95", result.seconds_p95}};
  for (const AtK& one : at_k(result, flags))
    out[fmt::format("{}@{}", one.name, one.k)] = {
        {"value", one.share.value}, {"low", one.share.low}, {"high", one.share.high}};
  fmt::print("{}\n", out.dump());
}

void print_result(const ExamResult& result, const Flags& flags) {
  if (flags.json) return print_json(result, flags);
  fmt::print(
      "accuracy      {:.2f}%  (95%: {:.2f} to {:.2f}; standard error {:.2f} over problems{})\n",
      100 * result.accuracy, 100 * result.low, 100 * result.high, 100 * result.standard_error,
      std::isnan(result.sample_error)
          ? ""
          : fmt::format(", {:.2f} over samples of these", 100 * result.sample_error));
  fmt::print("strict        {:.2f}%  (95%: {:.2f} to {:.2f}): in \\boxed{{}}, as {:.1f}% are\n",
             100 * result.strict_accuracy, 100 * result.strict_low, 100 * result.strict_high,
             100 * result.boxed_share);
  for (const AtK& one : at_k(result, flags))
    fmt::print("{:<13} {:.2f}%  (95%, over problems: {:.2f} to {:.2f})\n",
               fmt::format("{}@{}", one.name, one.k), 100 * one.share.value, 100 * one.share.low,
               100 * one.share.high);
  fmt::print("problems      {} x {}\n", result.problems, flags.samples);
  fmt::print(
      "tokens        {:.1f} a response, all that was decoded: {:.1f} thinking, {:.1f} answer, "
      "{:.1f} probes\n",
      result.mean_tokens, result.mean_think_tokens, result.mean_answer_tokens,
      result.mean_probe_tokens);
  fmt::print(
      "first answer  at {:.0f}% of the response; a partial one at {:.0f}%, a right one at "
      "{:.0f}%\n",
      100 * result.mean_first_answer, 100 * result.mean_first_partial,
      100 * result.mean_first_correct);
  fmt::print("FLOPs         {:.3g} a response, probes included\n", result.mean_flops);
  fmt::print("truncated     {:.1f}%\n", 100 * result.truncated_share);
  fmt::print("seconds       {:.2f} half of the samples, {:.2f} all but one in twenty\n",
             result.seconds_p50, result.seconds_p95);
}

// The run, and its samples by length: whether the long ones are the right ones.
ExamPage page_of(const ExamResult& result, const Flags& flags) {
  ExamPage page{
      .title = "Exam",
      .sub = fmt::format("{} · {} problems x {}", flags.file, result.problems, flags.samples)};
  page.columns = {"strict, in a box", "truncated", "first answer at"};
  page.dots.push_back(dot_of(result, "all samples"));
  constexpr int parts = 5;
  for (Dot& dot : dots_by_length(result, parts)) page.dots.push_back(std::move(dot));
  page.dots.front().cells = {fmt::format("{:.2f}%", 100 * result.strict_accuracy),
                             fmt::format("{:.1f}%", 100 * result.truncated_share),
                             fmt::format("{:.0f}%", 100 * result.mean_first_answer)};
  page.notes.push_back(
      fmt::format("Tokens: {:.1f} thinking, {:.1f} answer, {:.1f} probes; the rest "
                  "are markers and what was taken back.",
                  result.mean_think_tokens, result.mean_answer_tokens, result.mean_probe_tokens));
  for (const AtK& one : at_k(result, flags))
    page.notes.push_back(fmt::format("{}@{}: {:.2f}% ({:.2f} to {:.2f})", one.name, one.k,
                                     100 * one.share.value, 100 * one.share.low,
                                     100 * one.share.high));
  page.notes.push_back(
      fmt::format("Seconds: {:.2f} half of the samples, {:.2f} all but one in "
                  "twenty. FLOPs: {:.3g} a response, probes included.",
                  result.seconds_p50, result.seconds_p95, result.mean_flops));
  return page;
}

// Of what is asked that which can be refused before anything is loaded.
void check(const Flags& flags, const CLI::App& command) {
  if (!flags.run.empty()) check_utf8(command);
  check_outputs({flags.out, flags.html}, flags.overwrite);
  for (const auto& [name, all] :
       {std::pair("pass", &flags.pass_at), std::pair("majority", &flags.majority_at)})
    for (const int k : *all)
      if (k > flags.samples)
        throw Error(ErrorCode::invalid_argument,
                    fmt::format("expected at least {} samples a problem for {}@{}; found {} "
                                "(--samples)",
                                k, name, k, flags.samples));
}

void exam(const Flags& flags, const CLI::App& command) {
  check(flags, command);
  const auto problems = flags.problems.load(flags.file);
  const auto model = flags.model.load();
  const auto soft = flags.model.load_soft(model);
  const Grading grading = flags.grader.load(flags.model);
  Engine engine(model, flags.room.apply(flags.model.engine_options(soft)));
  ExamOptions options = exam_options(flags.request, *model, *soft, flags.samples);
  options.samples_file = flags.out;
  if (!flags.out.empty() && flags.overwrite) options.if_begun = IfBegun::restart;
  if (!flags.run.empty())
    keep_in(flags.run,
            describe_run(command, {engine, problems, flags.file, options, grading.model}), options);
  ExamResult result;
  {
    Progress progress("exam", static_cast<int>(problems.size()) * flags.samples);
    options.progress = [&progress](int done, int) { progress.update(done); };
    result = examine(engine, problems, *grading.judge, options);
  }
  print_result(result, flags);
  if (!flags.html.empty()) write_page(flags.html, page_of(result, flags));
}

}  // namespace

void add_exam(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app.add_subcommand("exam", "accuracy, tokens and intervals on a problem file");
  flags->model.add_to(*command);
  flags->room.add_to(*command);
  command->add_option("file", flags->file, "problems: JSON lines, or one array")->required();
  command->add_option("--samples", flags->samples, "samples a problem")
      ->check(positive)
      ->capture_default_str();
  flags->problems.add_to(*command);
  flags->grader.add_to(*command);
  command->add_option("--pass", flags->pass_at, "pass@k, for each k")->check(positive);
  command->add_option("--majority", flags->majority_at, "majority@k, for each k")->check(positive);
  auto* out = command->add_option("--out", flags->out, "write every sample as a JSON line");
  command->add_flag("--overwrite", flags->overwrite,
                    "take the place of an --out or --html that exists");
  command
      ->add_option("--run", flags->run,
                   "a folder for run.json and samples.jsonl; what it holds of this run is kept, so "
                   "that an interrupted one goes on")
      ->excludes(out);
  command->add_option("--html", flags->html,
                      "also write a page: accuracy against tokens, all and by length");
  command->add_flag("--json", flags->json, "print the result as one JSON object");
  flags->request.add_to(*command);
  command->callback([flags, command] { exam(*flags, *command); });
}

}  // namespace pensive::shell
