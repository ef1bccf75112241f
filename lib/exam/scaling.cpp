// s1's three measures of what more thinking buys.
#include <algorithm>

#include "base/inside.h"
#include "pensive/exam.h"

namespace pensive {

Scaling scaling(std::span<const ExamResult> runs, std::span<const TokenRange> ranges) {
  require(!runs.empty(), ErrorCode::invalid_argument, "one run or more", "none", "scaling");
  require(ranges.empty() || ranges.size() == runs.size(), ErrorCode::invalid_argument,
          fmt::format("{} ranges, one a run, or none", runs.size()),
          fmt::format("{}", ranges.size()), "scaling");
  Scaling found;
  int in_range = 0, pairs = 0;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const double tokens = runs[i].mean_think_tokens;
    if (!ranges.empty()) in_range += ranges[i].least <= tokens && tokens <= ranges[i].most;
    found.performance = std::max(found.performance, runs[i].accuracy);
    for (std::size_t j = 0; j < i; ++j) {
      const double more = tokens - runs[j].mean_think_tokens;
      if (more == 0) continue;
      found.slope += (runs[i].accuracy - runs[j].accuracy) / more;
      ++pairs;
    }
  }
  if (!ranges.empty()) found.control = in_range / static_cast<double>(runs.size());
  if (pairs > 0) found.slope /= pairs;
  return found;
}

}  // namespace pensive
