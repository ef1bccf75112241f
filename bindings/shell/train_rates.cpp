// Which problems are neither solved always nor never.
#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>

#include "train_flags.h"

namespace pensive::shell {
namespace {

[[noreturn]] void refuse(const std::string& expected, const std::string& found,
                         const std::string& where) {
  throw Error(ErrorCode::invalid_argument,
              fmt::format("expected {}; found {} ({})", expected, found, where));
}

// Whole lines of an earlier run; what was cut off in writing is left out.
std::vector<double> read_rates(const std::string& file, const std::vector<Problem>& problems) {
  std::vector<double> rates;
  std::ifstream in(file);
  std::string line;
  while (std::getline(in, line) && !in.eof()) {
    const std::string where = fmt::format("{}, line {}", file, rates.size() + 1);
    const auto entry = nlohmann::json::parse(line, nullptr, false);
    if (!entry.is_object() || !entry.contains("rate") || !entry["rate"].is_number())
      refuse("a problem's rate", line.substr(0, 60), where);
    if (rates.size() == problems.size()) refuse("no more problems", "one", where);
    const std::string& id = problems[rates.size()].id;
    if (entry.value("id", "") != id) refuse("problem " + id, entry.value("id", "none"), where);
    rates.push_back(entry["rate"]);
  }
  return rates;
}

std::vector<double> measure(const Trainer& trainer, const std::vector<Problem>& problems,
                            const TrainFlags& flags) {
  constexpr std::size_t at_once = 64;
  std::vector<double> rates;
  if (flags.resume && !flags.rates.empty()) rates = read_rates(flags.rates, problems);
  rates.resize(rates.size() == problems.size() ? rates.size() : rates.size() / at_once * at_once);
  std::ofstream out;
  const auto write = [&](std::size_t from) {
    for (std::size_t i = from; out.is_open() && i < rates.size(); ++i)
      out << nlohmann::ordered_json{{"id", problems[i].id}, {"rate", rates[i]}}.dump() << "\n";
    out.flush();
    if (out.is_open() && !out)
      throw Error(ErrorCode::io,
                  fmt::format("expected room to write; found none ({})", flags.rates));
  };
  if (!flags.rates.empty()) {
    out.open(flags.rates, std::ios::trunc);
    if (!out)
      throw Error(ErrorCode::io,
                  fmt::format("expected a file to write to; found none ({})", flags.rates));
    write(0);
  }
  Progress progress("pass rates", static_cast<int>(problems.size()));
  while (rates.size() < problems.size() && !was_interrupted()) {
    const std::size_t from = rates.size();
    const auto some = std::span(problems).subspan(from, std::min(at_once, problems.size() - from));
    const std::vector<double> found = trainer.pass_rates(some, *correct());
    rates.insert(rates.end(), found.begin(), found.end());
    write(from);
    progress.update(static_cast<int>(rates.size()));
  }
  return rates;
}

}  // namespace

std::vector<Problem> keep_by_rate(const Trainer& trainer, const std::vector<Problem>& problems,
                                  const TrainFlags& flags) {
  const double low = flags.pass_rate.at(0), high = flags.pass_rate.at(1);
  if (!(low >= 0 && low <= high && high <= 1))
    refuse("two shares from 0 to 1, the lower one first", fmt::format("{}, {}", low, high),
           "--pass-rate");
  const std::vector<double> rates = measure(trainer, problems, flags);
  std::vector<Problem> kept;
  for (std::size_t i = 0; i < rates.size(); ++i)
    if (rates[i] >= low && rates[i] <= high) kept.push_back(problems[i]);
  if (rates.size() < problems.size())
    throw Error(ErrorCode::cancelled, "expected all pass rates; found an interruption (--rates)");
  fmt::print(stderr, "{} of {} problems are right between {} and {} of the time\n", kept.size(),
             problems.size(), low, high);
  if (kept.empty()) refuse("problems whose pass rate lies between these", "none", "--pass-rate");
  return kept;
}

}  // namespace pensive::shell
