// Keeps an eye on the rewards of a run: when it has fallen, and which row was the best.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "base/inside.h"

namespace pensive {

struct Watch {
  static constexpr std::size_t window = 4;  // steps

  // The mean rewards of a step's groups, summed.
  struct Step {
    double sum = 0, squares = 0;
    std::int64_t groups = 0;
  };
  std::vector<Step> first, last;  // at most `window` each
  double best_mean = 0;           // of a window
  int best_step = 0;              // the last of that window; 0: no window is full yet
  std::vector<float> best_row;    // that its rollouts were drawn with
  bool has_stopped = false;

  // Takes in the mean rewards of a step's groups, whose rollouts were drawn with `row`. has_stopped
  // is true from then on where the last window lies more than `errors` standard errors of the
  // difference below the first; never where `errors` is 0.
  void add(std::span<const double> group_means, std::span<const float> row, int step,
           double errors);

  // -> what read() takes back, bit for bit.
  nlohmann::ordered_json write() const;
  // Throws corrupt_file; rows have `width` numbers.
  static Watch read(const nlohmann::ordered_json& json, std::size_t width, std::string_view where);
};

}  // namespace pensive
