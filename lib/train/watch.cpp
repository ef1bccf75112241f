#include "train/watch.h"

#include <algorithm>
#include <cmath>

#include "train/numbers.h"

namespace pensive {
namespace {

struct Mean {
  double value = 0;
  double variance = 0;  // of the mean
};

Mean mean_of(std::span<const Watch::Step> steps) {
  double sum = 0, squares = 0, count = 0;
  for (const Watch::Step& step : steps) {
    sum += step.sum;
    squares += step.squares;
    count += static_cast<double>(step.groups);
  }
  const double mean = sum / count;
  // Rounding may leave a little below nothing.
  const double spread = std::max(0.0, squares - count * mean * mean);
  return {mean, count > 1 ? spread / (count - 1) / count : 0};
}

}  // namespace

void Watch::add(std::span<const double> group_means, std::span<const float> row, int step,
                double errors) {
  Step now;
  for (const double mean : group_means) {
    now.sum += mean;
    now.squares += mean * mean;
    ++now.groups;
  }
  if (first.size() < window) first.push_back(now);
  if (last.size() == window) last.erase(last.begin());
  last.push_back(now);
  if (last.size() < window) return;
  const Mean start = mean_of(first), present = mean_of(last);
  if (best_step == 0 || present.value > best_mean) {
    best_mean = present.value;
    best_step = step;
    best_row.assign(row.begin(), row.end());
  }
  // Rounding alone is no fall.
  const double fall = start.value - present.value - 1e-12;
  if (errors > 0 && fall > errors * std::sqrt(start.variance + present.variance))
    has_stopped = true;
}

static nlohmann::ordered_json write_steps(std::span<const Watch::Step> steps) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Watch::Step& step : steps)
    list.push_back({step.sum, step.squares, static_cast<double>(step.groups)});
  return list;
}

nlohmann::ordered_json Watch::write() const {
  return {{"first", write_steps(first)}, {"last", write_steps(last)}, {"best_mean", best_mean},
          {"best_step", best_step},      {"best_row", best_row},      {"has_stopped", has_stopped}};
}

static std::vector<Watch::Step> read_steps(const nlohmann::ordered_json& json, std::string_view key,
                                           std::string_view where) {
  const auto list = member<nlohmann::ordered_json>(json, key, where);
  require(list.is_array() && list.size() <= Watch::window, ErrorCode::corrupt_file,
          fmt::format("at most {} steps in \"{}\"", Watch::window, key), list.dump(), where);
  std::vector<Watch::Step> steps;
  for (const auto& entry : list) {
    const auto three = to_numbers(entry, 3, key, where);
    require(three[2] >= 1, ErrorCode::corrupt_file, fmt::format("groups in \"{}\"", key),
            entry.dump(), where);
    steps.push_back({three[0], three[1], static_cast<std::int64_t>(three[2])});
  }
  return steps;
}

Watch Watch::read(const nlohmann::ordered_json& json, std::size_t width, std::string_view where) {
  Watch watch;
  watch.first = read_steps(json, "first", where);
  watch.last = read_steps(json, "last", where);
  watch.best_mean = member<double>(json, "best_mean", where);
  watch.best_step = read_count(json, "best_step", where);
  const std::size_t numbers = watch.best_step > 0 ? width : 0;
  watch.best_row = to_floats(read_numbers(json, "best_row", numbers, where));
  watch.has_stopped = member<bool>(json, "has_stopped", where);
  require(!watch.has_stopped || watch.best_step > 0, ErrorCode::corrupt_file,
          "a best step of a run that has stopped", "none", where);
  return watch;
}

}  // namespace pensive
