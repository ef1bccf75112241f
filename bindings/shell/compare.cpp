// Runs of an exam, problem by problem: each against the first, and all as budgets of one method.
#include <fmt/core.h>

#include <cmath>
#include <cstdlib>

#include "exam_page.h"
#include "run_folder.h"
#include "shell.h"

namespace pensive::shell {
namespace {

using Json = nlohmann::ordered_json;

struct Flags {
  std::vector<std::string> folders;
  std::string html;
  bool json = false;
};

struct Run {
  std::string folder;
  Json description;
  ExamResult result{};
  Paired against{};  // the first
};

// What a run was asked to think, by its flags: --think-min and --think-max, or a guide's limit.
TokenRange range_of(const Json& description) {
  const Json options = description.value("options", Json::object());
  const auto number = [&](const char* name, double otherwise) {
    const std::string text = options.value(name, "");
    return text.empty() || text == "0" ? otherwise : std::strtod(text.c_str(), nullptr);
  };
  TokenRange range;
  range.least = number("--think-min", range.least);
  range.most = number("--think-max", range.most);
  const std::string guides = options.value("--guide", "") + " ";
  for (const std::string_view name : {"budget:", "budget_forcing:"}) {
    const std::size_t at = guides.find(name);
    if (at == guides.npos || (at > 0 && guides[at - 1] != ' ')) continue;
    const std::string_view spec =
        std::string_view(guides).substr(at + name.size() - 1, guides.find(' ', at) - at);
    for (const auto& [key, bound] :
         {std::pair("max=", &range.most), std::pair("min=", &range.least)})
      for (const char before : {':', ','})
        if (const auto found = spec.find(before + std::string(key)); found != spec.npos)
          *bound = std::strtod(spec.data() + found + 1 + std::string_view(key).size(), nullptr);
  }
  return range;
}

std::vector<Run> read_runs(const std::vector<std::string>& folders) {
  std::vector<Run> runs;
  for (const std::string& folder : folders) {
    runs.push_back({folder, read_run(folder)});
    const Json &a = runs.front().description, &b = runs.back().description;
    if (a.value("data_hash", "") != b.value("data_hash", ""))
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("expected runs on the same problems; found {} ({}) and {} ({})",
                              a.value("data", ""), a.value("data_hash", ""), b.value("data", ""),
                              b.value("data_hash", "")));
    runs.back().result = load_exam(std::filesystem::path(folder) / samples_file);
    runs.back().against = compare(runs.front().result, runs.back().result);
  }
  return runs;
}

Scaling scaling_of(const std::vector<Run>& runs) {
  std::vector<ExamResult> results;
  std::vector<TokenRange> ranges;
  bool is_asked = false;
  for (const Run& run : runs) {
    results.push_back(run.result);
    ranges.push_back(range_of(run.description));
    is_asked = is_asked || ranges.back().least > 0 || std::isfinite(ranges.back().most);
  }
  if (!is_asked) ranges.clear();
  return scaling(results, ranges);
}

Json json_of(const Paired& paired) {
  return {{"difference", paired.difference},
          {"low", paired.low},
          {"high", paired.high},
          {"p_value", paired.p_value},
          {"improved", paired.improved},
          {"worsened", paired.worsened},
          {"token_difference", paired.token_difference},
          {"errors_removed", paired.errors_removed},
          {"detectable", paired.detectable}};
}

void print_json(const std::vector<Run>& runs) {
  const Run& first = runs.front();
  Json out = {{"problems", first.result.problems},
              {"accuracy", Json::array()},
              {"mean_tokens", Json::array()},
              {"strict_accuracy", Json::array()},
              {"mean_flops", Json::array()}};
  for (const Run& run : runs) {
    out["accuracy"].push_back(run.result.accuracy);
    out["mean_tokens"].push_back(run.result.mean_tokens);
    out["strict_accuracy"].push_back(run.result.strict_accuracy);
    out["mean_flops"].push_back(run.result.mean_flops);
  }
  if (runs.size() == 2) {
    out.update(json_of(runs[1].against));
    out["differ_in"] = differences(first.description, runs[1].description);
  } else {
    out["against_first"] = Json::array();
    for (const Run& run : std::span(runs).subspan(1)) {
      out["against_first"].push_back(json_of(run.against));
      out["against_first"].back()["run"] = run.folder;
      out["against_first"].back()["differ_in"] = differences(first.description, run.description);
    }
  }
  const Scaling found = scaling_of(runs);
  out["scaling"] = {{"control", std::isnan(found.control) ? Json(nullptr) : Json(found.control)},
                    {"slope", found.slope},
                    {"performance", found.performance}};
  fmt::print("{}\n", out.dump());
}

void print_pair(const Run& first, const Run& other) {
  const Paired& paired = other.against;
  fmt::print("difference     {:+.2f} points  (95%, paired: {:+.2f} to {:+.2f}; p = {:.2g})\n",
             100 * paired.difference, 100 * paired.low, 100 * paired.high, paired.p_value);
  fmt::print(
      "problems       {}: {} better, {} worse; four of five such exams would show {:.2f} "
      "points\n",
      first.result.problems, paired.improved, paired.worsened, 100 * paired.detectable);
  fmt::print("tokens         {:+.1f} a response\n", paired.token_difference);
  fmt::print("what differs\n");
  for (const std::string& line : differences(first.description, other.description))
    fmt::print("  {}\n", line);
}

void print_scaling(const std::vector<Run>& runs) {
  const Scaling found = scaling_of(runs);
  fmt::print("as budgets of one method (s1)\n");
  if (std::isnan(found.control))
    fmt::print("  control      unknown: no run was asked to think so long\n");
  else
    fmt::print("  control      {:.0f}% of the runs think as long as they were asked, on average\n",
               100 * found.control);
  fmt::print("  scaling      {:+.2f} points for 1000 thinking tokens more, mean over pairs\n",
             100 * 1000 * found.slope);
  fmt::print("  performance  {:.2f}%\n", 100 * found.performance);
}

ExamPage page_of(const std::vector<Run>& runs) {
  const Run& first = runs.front();
  ExamPage page{.title = "Runs compared",
                .sub = fmt::format("{} · {} problems", first.description.value("data", ""),
                                   first.result.problems)};
  page.columns = {"strict, in a box", "points against 1 (95%, paired)", "p", "what differs from 1"};
  for (const Run& run : runs) {
    Dot dot = dot_of(run.result, run.folder);
    dot.cells = {fmt::format("{:.2f}%", 100 * run.result.strict_accuracy)};
    if (&run != &first) {
      const Paired& paired = run.against;
      dot.cells.push_back(fmt::format("{:+.2f} ({:+.2f} to {:+.2f})", 100 * paired.difference,
                                      100 * paired.low, 100 * paired.high));
      dot.cells.push_back(fmt::format("{:.2g}", paired.p_value));
      std::string different;
      for (const std::string& line : differences(first.description, run.description))
        different += (different.empty() ? "" : "; ") + line;
      dot.cells.push_back(different);
    }
    page.dots.push_back(std::move(dot));
  }
  const Scaling found = scaling_of(runs);
  page.notes.push_back(fmt::format(
      "As budgets of one method (s1): scaling {:+.2f} points for 1000 thinking tokens more, "
      "performance {:.2f}%{}",
      100 * 1000 * found.slope, 100 * found.performance,
      std::isnan(found.control) ? "." : fmt::format(", control {:.0f}%.", 100 * found.control)));
  return page;
}

void compare_runs(const Flags& flags) {
  const std::vector<Run> runs = read_runs(flags.folders);
  if (!flags.html.empty()) write_page(flags.html, page_of(runs));
  if (flags.json) return print_json(runs);
  for (const Run& run : runs)
    fmt::print(
        "{}\n  accuracy {:.2f}% (95%: {:.2f} to {:.2f}), strict {:.2f}%, {:.1f} tokens a "
        "response\n",
        run.folder, 100 * run.result.accuracy, 100 * run.result.low, 100 * run.result.high,
        100 * run.result.strict_accuracy, run.result.mean_tokens);
  for (const Run& run : std::span(runs).subspan(1)) {
    if (runs.size() > 2) fmt::print("\n{} against {}\n", run.folder, runs.front().folder);
    print_pair(runs.front(), run);
  }
  if (runs.size() > 2) fmt::print("\n");
  print_scaling(runs);
}

}  // namespace

void add_compare(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app.add_subcommand("compare", "runs of an exam, problem by problem, each against the first");
  command
      ->add_option("runs", flags->folders,
                   "folders of `pensive exam --run` on the same problems, two or more")
      ->required()
      ->expected(2, 1000);
  command->add_option("--html", flags->html, "also write a page: accuracy against tokens");
  command->add_flag("--json", flags->json, "print one JSON object");
  command->callback([flags] { compare_runs(*flags); });
}

}  // namespace pensive::shell
