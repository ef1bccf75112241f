#include "pensive/exam.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "run_folder.h"
#include "shell.h"

namespace pensive::shell {
namespace {

struct Flags {
  ModelFlags model;
  RequestFlags request;
  ProblemFields fields;
  std::string file, out, run;
  int samples = 1;
  std::vector<int> pass_at, majority_at;
  int limit = 0;
  bool json = false;
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
                                {"low", result.low},
                                {"high", result.high},
                                {"mean_tokens", result.mean_tokens},
                                {"mean_think_tokens", result.mean_think_tokens},
                                {"mean_answer_tokens", result.mean_answer_tokens},
                                {"mean_probe_tokens", result.mean_probe_tokens},
                                {"mean_first_answer", result.mean_first_answer},
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
  fmt::print("accuracy      {:.2f}%  (95%: {:.2f} to {:.2f}, standard error {:.2f}, clustered)\n",
             100 * result.accuracy, 100 * result.low, 100 * result.high,
             100 * result.standard_error);
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
  fmt::print("first answer  at {:.0f}% of the response\n", 100 * result.mean_first_answer);
  fmt::print("truncated     {:.1f}%\n", 100 * result.truncated_share);
  fmt::print("seconds       {:.2f} half of the samples, {:.2f} all but one in twenty\n",
             result.seconds_p50, result.seconds_p95);
}

void exam(const Flags& flags, const CLI::App& command) {
  auto problems = load_problems(flags.file, flags.fields);
  if (flags.limit > 0 && static_cast<std::size_t>(flags.limit) < problems.size()) {
    problems.resize(static_cast<std::size_t>(flags.limit));
  }
  const auto model = flags.model.load();
  const auto soft = flags.model.load_soft(model);
  Engine engine(model, flags.model.engine_options(soft));
  ExamOptions options;
  options.request = flags.request.request(*model, *soft);
  options.prompt_of = chat_prompt(model->tokenizer(), flags.request.system);
  options.samples = flags.samples;
  options.seed = flags.request.seed.value_or(0);
  options.samples_file = flags.out;
  if (!flags.run.empty()) {
    begin_run(flags.run, describe_run(command, *model, flags.file));
    options.samples_file = std::filesystem::path(flags.run) / samples_file;
    options.if_begun = IfBegun::resume;
  }
  ExamResult result;
  {
    Progress progress("exam", static_cast<int>(problems.size()) * flags.samples);
    options.progress = [&progress](int done, int) { progress.update(done); };
    result = examine(engine, problems, *correct(), options);
  }
  print_result(result, flags);
}

}  // namespace

void add_exam(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app.add_subcommand("exam", "accuracy, tokens and intervals on a problem file");
  flags->model.add_to(*command);
  command->add_option("file", flags->file, "problems, one JSON object a line")->required();
  command->add_option("--samples", flags->samples, "samples a problem")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--limit", flags->limit, "only the first so many problems");
  add_fields(*command, flags->fields);
  command->add_option("--pass", flags->pass_at, "pass@k, for each k")->check(CLI::PositiveNumber);
  command->add_option("--majority", flags->majority_at, "majority@k, for each k")
      ->check(CLI::PositiveNumber);
  auto* out = command->add_option("--out", flags->out, "write every sample as a JSON line");
  command
      ->add_option("--run", flags->run,
                   "a folder for run.json and samples.jsonl; what it holds of this run is kept, so "
                   "that an interrupted one goes on")
      ->excludes(out);
  command->add_flag("--json", flags->json, "print the result as one JSON object");
  flags->request.add_to(*command);
  command->callback([flags, command] { exam(*flags, *command); });
}

}  // namespace pensive::shell
