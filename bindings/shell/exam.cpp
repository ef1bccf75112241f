#include "pensive/exam.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "shell.h"

namespace pensive::shell {
namespace {

struct Flags {
  ModelFlags model;
  RequestFlags request;
  ProblemFields fields;
  std::string file, samples_file;
  int samples = 1;
  int limit = 0;
  bool json = false;
};

void print_result(const ExamResult& result, const Flags& flags) {
  if (flags.json) {
    nlohmann::ordered_json out = {{"problems", result.problems},
                                  {"samples", flags.samples},
                                  {"accuracy", result.accuracy},
                                  {"standard_error", result.standard_error},
                                  {"low", result.low},
                                  {"high", result.high},
                                  {"mean_tokens", result.mean_tokens},
                                  {"mean_first_answer", result.mean_first_answer},
                                  {"truncated_share", result.truncated_share}};
    fmt::print("{}\n", out.dump());
    return;
  }
  fmt::print("accuracy      {:.2f}%  (95%: {:.2f} to {:.2f}, standard error {:.2f}, clustered)\n",
             100 * result.accuracy, 100 * result.low, 100 * result.high,
             100 * result.standard_error);
  fmt::print("problems      {} x {}\n", result.problems, flags.samples);
  fmt::print("tokens        {:.1f} a response, all that was decoded\n", result.mean_tokens);
  fmt::print("first answer  at {:.0f}% of the response\n", 100 * result.mean_first_answer);
  fmt::print("truncated     {:.1f}%\n", 100 * result.truncated_share);
}

void exam(const Flags& flags) {
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
  options.samples_file = flags.samples_file;
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
  command->add_option("--out", flags->samples_file, "write every sample as a JSON line");
  command->add_flag("--json", flags->json, "print the result as one JSON object");
  flags->request.add_to(*command);
  command->callback([flags] { exam(*flags); });
}

}  // namespace pensive::shell
