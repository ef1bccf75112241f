// Clustered standard errors, Wilson's interval, Student's t.
#include "exam/statistics.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/inside.h"

namespace pensive {
namespace {

constexpr double normal_quantile = 1.959963984540054;

// Miller, arXiv 2411.00640, eq. 4: the independent error, plus the covariances within a cluster.
double clustered_error(const ExamResult& result, const std::vector<Cluster>& all) {
  const double n = static_cast<double>(result.samples.size());
  if (n < 2) return 0;
  double squares = 0, cluster_squares = 0;
  for (const ExamSample& sample : result.samples)
    squares += (sample.score - result.accuracy) * (sample.score - result.accuracy);
  for (const Cluster& cluster : all) {
    const double sum = cluster.score - cluster.samples * result.accuracy;
    cluster_squares += sum * sum;
  }
  // The sum over pairs i != j of one cluster is its squared sum less its squares.
  const double variance = squares / (n - 1) / n + (cluster_squares - squares) / (n * n);
  return std::sqrt(std::max(0.0, variance));
}

}  // namespace

std::vector<Cluster> clusters(const ExamResult& result) {
  std::vector<Cluster> all(result.problems);
  for (const ExamSample& sample : result.samples) {
    require(sample.problem >= 0 && sample.problem < result.problems, ErrorCode::invalid_argument,
            fmt::format("samples of problems 0 to {}", result.problems - 1),
            fmt::format("problem {}", sample.problem), "ExamResult::samples");
    Cluster& cluster = all[sample.problem];
    ++cluster.samples;
    cluster.score += sample.score;
    cluster.tokens += sample.tokens;
  }
  std::erase_if(all, [](const Cluster& cluster) { return cluster.samples == 0; });
  return all;
}

Mean mean_of(const std::vector<double>& values) {
  Mean mean;
  const double n = static_cast<double>(values.size());
  if (values.empty()) return mean;
  for (const double value : values) mean.value += value;
  mean.value /= n;
  if (values.size() < 2) return mean;
  double squares = 0;
  for (const double value : values) squares += (value - mean.value) * (value - mean.value);
  mean.error = std::sqrt(squares / (n - 1) / n);
  return mean;
}

Interval wilson(double share, int n) noexcept {
  if (n <= 0) return {0, 1};
  const double z2 = normal_quantile * normal_quantile;
  const double middle = (share + z2 / (2 * n)) / (1 + z2 / n);
  const double half = normal_quantile / (1 + z2 / n) *
                      std::sqrt(std::max(0.0, share * (1 - share)) / n + z2 / (4.0 * n * n));
  return {std::max(0.0, middle - half), std::min(1.0, middle + half)};
}

double t_quantile(int degrees) noexcept {
  constexpr std::array exact = {12.706204736, 4.302652730, 3.182446305, 2.776445105, 2.570581836};
  if (degrees < 1) return std::numeric_limits<double>::infinity();
  if (degrees <= std::ssize(exact)) return exact[degrees - 1];
  // Cornish and Fisher's expansion; off by less than 0.002 from six degrees on.
  const double z = normal_quantile, z2 = z * z, v = degrees;
  return z * (1 + (z2 + 1) / (4 * v) + ((5 * z2 + 16) * z2 + 3) / (96 * v * v) +
              (((3 * z2 + 19) * z2 + 17) * z2 - 15) / (384 * v * v * v));
}

double nearest_rank(std::vector<double> values, double share) noexcept {
  if (values.empty()) return 0;
  const double n = static_cast<double>(values.size());
  const auto rank = static_cast<std::size_t>(std::clamp(std::ceil(share * n), 1.0, n)) - 1;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(rank),
                   values.end());
  return values[rank];
}

void summarize(ExamResult& result) {
  // Sums first, one division at the end: all right is then exactly 1.
  double score = 0, tokens = 0, first_answer = 0, truncated = 0;
  double think = 0, answer = 0, probes = 0;
  std::vector<double> seconds;
  double least = std::numeric_limits<double>::infinity(), most = -least;
  bool is_binary = true;
  for (const ExamSample& sample : result.samples) {
    score += sample.score;
    tokens += sample.tokens;
    first_answer += sample.first_answer;
    truncated += sample.stopped == StopReason::length ? 1 : 0;
    think += sample.think_tokens;
    answer += sample.answer_tokens;
    probes += sample.probe_tokens;
    seconds.push_back(sample.seconds);
    least = std::min(least, sample.score);
    most = std::max(most, sample.score);
    is_binary = is_binary && (sample.score == 0 || sample.score == 1);
  }
  const double n = std::max<double>(1, static_cast<double>(result.samples.size()));
  result.accuracy = score / n;
  result.mean_tokens = tokens / n;
  result.mean_first_answer = first_answer / n;
  result.truncated_share = truncated / n;
  result.mean_think_tokens = think / n;
  result.mean_answer_tokens = answer / n;
  result.mean_probe_tokens = probes / n;
  result.seconds_p50 = nearest_rank(seconds, .50);
  result.seconds_p95 = nearest_rank(seconds, .95);

  const std::vector<Cluster> all = clusters(result);
  const bool is_share = least >= 0 && most <= 1;
  const bool says_nothing = all.size() < 2 || least == most;
  result.standard_error = says_nothing ? 0 : clustered_error(result, all);
  if ((is_binary && all.size() == result.samples.size()) || (is_share && says_nothing)) {
    const Interval interval = wilson(result.accuracy, static_cast<int>(all.size()));
    result.low = interval.low;
    result.high = interval.high;
  } else {
    result.low = result.accuracy - 1.96 * result.standard_error;
    result.high = result.accuracy + 1.96 * result.standard_error;
  }
}

}  // namespace pensive
