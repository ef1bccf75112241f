// Two runs of an exam, problem by problem.
#include <fmt/core.h>

#include "run_folder.h"
#include "shell.h"

namespace pensive::shell {
namespace {

struct Flags {
  std::string first, second;
  bool json = false;
};

void compare_runs(const Flags& flags) {
  const nlohmann::ordered_json a = read_run(flags.first), b = read_run(flags.second);
  if (a.value("data_hash", "") != b.value("data_hash", ""))
    throw Error(ErrorCode::invalid_argument,
                fmt::format("expected two runs on the same problems; found {} ({}) and {} ({})",
                            a.value("data", ""), a.value("data_hash", ""), b.value("data", ""),
                            b.value("data_hash", "")));
  const std::filesystem::path first = flags.first, second = flags.second;
  const ExamResult one = load_exam(first / samples_file), two = load_exam(second / samples_file);
  const Paired paired = compare(one, two);
  const std::vector<std::string> different = differences(a, b);
  if (flags.json) {
    const nlohmann::ordered_json out = {{"problems", one.problems},
                                        {"accuracy", {one.accuracy, two.accuracy}},
                                        {"mean_tokens", {one.mean_tokens, two.mean_tokens}},
                                        {"difference", paired.difference},
                                        {"low", paired.low},
                                        {"high", paired.high},
                                        {"p_value", paired.p_value},
                                        {"improved", paired.improved},
                                        {"worsened", paired.worsened},
                                        {"token_difference", paired.token_difference},
                                        {"errors_removed", paired.errors_removed},
                                        {"differ_in", different}};
    fmt::print("{}\n", out.dump());
    return;
  }
  const auto arm = [](const std::string& name, const ExamResult& result) {
    fmt::print("{}\n  accuracy {:.2f}% (95%: {:.2f} to {:.2f}), {:.1f} tokens a response\n", name,
               100 * result.accuracy, 100 * result.low, 100 * result.high, result.mean_tokens);
  };
  arm(flags.first, one);
  arm(flags.second, two);
  fmt::print("difference     {:+.2f} points  (95%, paired: {:+.2f} to {:+.2f}; p = {:.2g})\n",
             100 * paired.difference, 100 * paired.low, 100 * paired.high, paired.p_value);
  fmt::print("problems       {}: {} better, {} worse\n", one.problems, paired.improved,
             paired.worsened);
  fmt::print("tokens         {:+.1f} a response\n", paired.token_difference);
  fmt::print("what differs\n");
  for (const std::string& line : different) fmt::print("  {}\n", line);
}

}  // namespace

void add_compare(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("compare", "two runs of an exam, problem by problem");
  command->add_option("first", flags->first, "a folder of `pensive exam --run`")->required();
  command->add_option("second", flags->second, "another, on the same problems")->required();
  command->add_flag("--json", flags->json, "print one JSON object");
  command->callback([flags] { compare_runs(*flags); });
}

}  // namespace pensive::shell
