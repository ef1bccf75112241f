// Runs of an exam, problem by problem: each against the first, and all as budgets of one method.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <map>
#include <sstream>

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
  bool overwrite = false;
  bool common = false;
};

struct Run {
  std::string folder;
  Json description;
  ExamResult result{};
  std::map<int, std::string> ids{};  // of the problems that have a sample
  Paired against{};                  // the first

  int problems() const { return description.value("problems", 0); }
  std::size_t samples() const {  // a problem
    const Json options = description.value("options", Json::object());
    return std::strtoul(options.value("--samples", "0").c_str(), nullptr, 10);
  }
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

// load_exam() has checked the lines; a last one that is cut off does not count.
std::map<int, std::string> ids_in(const std::filesystem::path& file) {
  const std::string text = read_file(file.string());
  std::istringstream lines(text.substr(0, text.rfind('\n') + 1));
  std::map<int, std::string> ids;
  for (std::string line; std::getline(lines, line);) {
    const Json sample = Json::parse(line);
    ids.emplace(sample.at("problem").get<int>(), sample.at("id").get<std::string>());
  }
  return ids;
}

// What is missing are the longest samples, those that were still running: without them a run looks
// shorter and better than it is.
void check_finished(const Run& run) {
  const std::size_t asked = static_cast<std::size_t>(run.problems()) * run.samples();
  if (asked > 0 && run.result.samples.size() == asked) return;
  throw Error(ErrorCode::invalid_argument,
              fmt::format("expected a finished run, {} problems x {}; found {} samples ({}; "
                          "--common takes the problems that all runs have whole)",
                          run.problems(), run.samples(), run.result.samples.size(), run.folder));
}

void check_same_problems(const Run& a, const Run& b) {
  for (const auto& [problem, id] : b.ids) {
    const auto other = a.ids.find(problem);
    if (other != a.ids.end() && other->second != id)
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("expected runs on the same problems; found \"{}\" ({}) and \"{}\" "
                              "({}) as problem {}",
                              other->second, a.folder, id, b.folder, problem));
  }
}

// Only the problems of which every run has all samples, numbered anew.
void keep_common(std::vector<Run>& runs) {
  std::map<int, std::size_t> having;  // how many runs have the problem whole
  for (const Run& run : runs) {
    std::map<int, std::size_t> counts;
    for (const ExamSample& sample : run.result.samples) ++counts[sample.problem];
    for (const auto& [problem, count] : counts) having[problem] += count == run.samples();
  }
  std::map<int, int> places;
  for (const auto& [problem, count] : having)
    if (count == runs.size()) places.emplace(problem, static_cast<int>(places.size()));
  if (places.empty())
    throw Error(ErrorCode::invalid_argument,
                "expected problems that all runs have whole; found none (--common)");
  for (Run& run : runs) {
    std::vector<ExamSample> kept;
    for (ExamSample sample : run.result.samples) {
      const auto place = places.find(sample.problem);
      if (place == places.end()) continue;
      sample.problem = place->second;
      kept.push_back(std::move(sample));
    }
    run.result = summarized(std::move(kept), static_cast<int>(places.size()));
  }
}

std::vector<Run> read_runs(const Flags& flags) {
  std::vector<Run> runs;
  for (const std::string& folder : flags.folders) {
    runs.push_back({folder, read_run(folder)});
    const Json &a = runs.front().description, &b = runs.back().description;
    // One file may also be read in two ways, such as another field for the answers.
    if (a.value("data_hash", "") != b.value("data_hash", "") ||
        (runs.front().problems() == runs.back().problems() &&
         a.value("problems_hash", "") != b.value("problems_hash", "")))
      throw Error(
          ErrorCode::invalid_argument,
          fmt::format("expected runs on the same problems; found {} ({} as {}) and {} ({} "
                      "as {})",
                      a.value("data", ""), a.value("data_hash", ""), a.value("problems_hash", ""),
                      b.value("data", ""), b.value("data_hash", ""), b.value("problems_hash", "")));
    const auto file = std::filesystem::path(folder) / samples_file;
    runs.back().result = load_exam(file);
    runs.back().ids = ids_in(file);
    if (!flags.common) check_finished(runs.back());
    check_same_problems(runs.front(), runs.back());
  }
  if (flags.common) keep_common(runs);
  for (Run& run : runs) run.against = compare(runs.front().result, run.result);
  return runs;
}

// Of how many problems --common has taken some.
int all_problems(const std::vector<Run>& runs) {
  int most = 0;
  for (const Run& run : runs)
    most = std::max({most, run.problems(), run.ids.empty() ? 0 : run.ids.rbegin()->first + 1});
  return most;
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
          {"errors_removed",  // null where there were none to remove
           std::isnan(paired.errors_removed) ? Json(nullptr) : Json(paired.errors_removed)},
          {"detectable", paired.detectable}};
}

void print_json(const std::vector<Run>& runs, bool is_part) {
  const Run& first = runs.front();
  Json out = {{"problems", first.result.problems},
              {"accuracy", Json::array()},
              {"mean_tokens", Json::array()},
              {"strict_accuracy", Json::array()},
              {"mean_flops", Json::array()}};
  if (is_part) out["of_problems"] = all_problems(runs);
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
  fmt::print("problems       {}: {} better, {} worse; four of five such exams would show {}\n",
             first.result.problems, paired.improved, paired.worsened,
             paired.detectable < 1 ? fmt::format("{:.2f} points", 100 * paired.detectable)
                                   : "no difference");
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

ExamPage page_of(const std::vector<Run>& runs, bool is_part) {
  const Run& first = runs.front();
  ExamPage page{.title = "Runs compared",
                .sub = fmt::format("{} · {} problems", first.description.value("data", ""),
                                   first.result.problems)};
  if (is_part) page.sub += fmt::format(" of {} that all runs have whole", all_problems(runs));
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
  check_outputs({flags.html}, flags.overwrite);
  const std::vector<Run> runs = read_runs(flags);
  if (!flags.html.empty()) write_page(flags.html, page_of(runs, flags.common));
  if (flags.json) return print_json(runs, flags.common);
  if (flags.common)
    fmt::print("only {} of {} problems: those that all runs have whole (--common)\n\n",
               runs.front().result.problems, all_problems(runs));
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
  command->add_flag("--common", flags->common,
                    "of runs that are not finished, or were on more of the problems: only those "
                    "problems that all of them have whole");
  auto* html =
      command->add_option("--html", flags->html, "also write a page: accuracy against tokens");
  command->add_flag("--overwrite", flags->overwrite, "take the place of an --html that exists")
      ->needs(html);
  command->add_flag("--json", flags->json, "print one JSON object");
  command->callback([flags] { compare_runs(*flags); });
}

}  // namespace pensive::shell
