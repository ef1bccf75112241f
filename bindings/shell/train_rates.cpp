// Which problems are neither solved always nor never.
#include <fmt/core.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <span>

#include "train_flags.h"
#include "train_lines.h"

namespace pensive::shell {
namespace {

using Json = nlohmann::ordered_json;

// Bytes that are not UTF-8 become what a file of JSON can hold.
std::string as_written(const std::string& text) {
  return Json::parse(Json(text).dump(-1, ' ', false, Json::error_handler_t::replace));
}

[[noreturn]] void refuse(const std::string& expected, const std::string& found,
                         const std::string& where) {
  throw Error(ErrorCode::invalid_argument,
              fmt::format("expected {}; found {} ({})", expected, found, where));
}

std::vector<double> read_rates(const std::string& file, const std::vector<std::string>& lines,
                               const std::vector<Problem>& problems) {
  std::vector<double> rates;
  for (const std::string& line : lines) {
    const std::string where = fmt::format("{}, line {}", file, rates.size() + 1);
    const auto entry = Json::parse(line, nullptr, false);
    if (!entry.is_object() || !entry.contains("rate") || !entry["rate"].is_number() ||
        !entry.contains("id") || !entry["id"].is_string())
      refuse("a problem's rate", line.substr(0, 60), where);
    if (rates.size() == problems.size()) refuse("no more problems", "one", where);
    const std::string id = as_written(problems[rates.size()].id);
    if (entry["id"] != id) refuse("problem " + id, entry["id"].get<std::string>(), where);
    rates.push_back(entry["rate"]);
  }
  return rates;
}

std::vector<double> measure(const Trainer& trainer, const std::vector<Problem>& problems,
                            const TrainFlags& flags) {
  constexpr std::size_t at_once = 64;
  std::vector<std::string> lines;
  if (flags.resume) lines = whole_lines(flags.rates, "{\"id\":");
  std::vector<double> rates = read_rates(flags.rates, lines, problems);
  // The draws are keyed by the places in 64 together.
  rates.resize(rates.size() == problems.size() ? rates.size() : rates.size() / at_once * at_once);
  LineFile out(flags.rates, bytes_of(lines, rates.size()));
  Progress progress("pass rates", static_cast<int>(problems.size()));
  while (rates.size() < problems.size() && !was_interrupted()) {
    const std::size_t from = rates.size();
    const auto some = std::span(problems).subspan(from, std::min(at_once, problems.size() - from));
    for (const double rate : trainer.pass_rates(some, *correct())) {
      const std::string id = as_written(problems[rates.size()].id);
      out.add(Json{{"id", id}, {"rate", rate}}.dump());
      rates.push_back(rate);
    }
    progress.update(static_cast<int>(rates.size()));
  }
  return rates;
}

}  // namespace

std::vector<Problem> keep_by_rate(const Trainer& trainer, const std::vector<Problem>& problems,
                                  const TrainFlags& flags) {
  const double low = flags.pass_rate.at(0), high = flags.pass_rate.at(1);
  const std::vector<double> rates = measure(trainer, problems, flags);
  std::vector<Problem> kept;
  for (std::size_t i = 0; i < rates.size(); ++i)
    if (rates[i] >= low && rates[i] <= high) kept.push_back(problems[i]);
  if (rates.size() < problems.size())
    throw Error(
        ErrorCode::cancelled,
        "expected all pass rates; found an interruption (--rates keeps them, --resume goes on)");
  fmt::print(stderr, "{} of {} problems are right between {} and {} of the time\n", kept.size(),
             problems.size(), low, high);
  if (kept.empty()) refuse("problems whose pass rate lies between these", "none", "--pass-rate");
  return kept;
}

}  // namespace pensive::shell
