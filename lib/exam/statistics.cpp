// Clustered standard errors, Wilson's interval, Student's t.
#include "exam/statistics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "base/inside.h"
#include "trace/ends.h"

namespace pensive {
namespace {

constexpr double normal_quantile = 1.959963984540054;
constexpr double few_events = 10;  // right or wrong answers, of which t would say too much

using Score = double ExamSample::*;

struct Errors {
  double over_problems = 0, over_samples = 0;
};

// Of the mean of all samples. Over problems: Miller, arXiv 2411.00640, eq. 4, as that of problems'
// sums, with n - 1 for the n problems. Over samples: the problems stand, each has its own spread.
Errors errors_of(const std::vector<Cluster>& all, double mean) {
  const double n = static_cast<double>(all.size());
  double samples = 0, between = 0, within = 0;
  bool is_alone = false;  // some problem's sample, so that nothing tells its spread
  for (const Cluster& cluster : all) {
    const double m = cluster.samples, gap = cluster.score - m * mean;
    samples += m;
    between += gap * gap;
    is_alone = is_alone || cluster.samples < 2;
    within += std::max(0.0, cluster.squares - cluster.score * cluster.score / m) * m / (m - 1);
  }
  return {
      n < 2 ? 0 : std::sqrt(between * n / (n - 1)) / samples,
      is_alone || n == 0 ? std::numeric_limits<double>::quiet_NaN() : std::sqrt(within) / samples};
}

struct Estimate {
  double value = 0;
  Errors errors;
  Interval interval;
};

Estimate estimate(const ExamResult& result, Score score) {
  Estimate found;
  double sum = 0;
  bool is_share = true;
  for (const ExamSample& sample : result.samples) {
    const double one = sample.*score;
    sum += one;
    is_share = is_share && one >= 0 && one <= 1;
  }
  // One division at the end: all right is then exactly 1.
  found.value = sum / std::max<double>(1, static_cast<double>(result.samples.size()));
  const std::vector<Cluster> all = clusters(result, score);
  const int problems = static_cast<int>(all.size());
  found.errors = errors_of(all, found.value);
  if (is_share) {
    found.interval = share_interval(found.value, found.errors.over_problems, problems);
  } else {
    const double half = problems < 2 ? std::numeric_limits<double>::infinity()
                                     : t_quantile(problems - 1) * found.errors.over_problems;
    found.interval = {found.value - half, found.value + half};
  }
  return found;
}

}  // namespace

std::vector<Cluster> clusters(const ExamResult& result, double ExamSample::*score) {
  std::vector<Cluster> all(result.problems);
  for (const ExamSample& sample : result.samples) {
    require(sample.problem >= 0 && sample.problem < result.problems, ErrorCode::invalid_argument,
            fmt::format("samples of problems 0 to {}", result.problems - 1),
            fmt::format("problem {}", sample.problem), "ExamResult::samples");
    Cluster& cluster = all[sample.problem];
    ++cluster.samples;
    cluster.score += sample.*score;
    cluster.squares += sample.*score * (sample.*score);
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

Interval wilson(double share, double n) noexcept {
  if (n <= 0) return {0, 1};
  const double z2 = normal_quantile * normal_quantile;
  const double middle = (share + z2 / (2 * n)) / (1 + z2 / n);
  const double half = normal_quantile / (1 + z2 / n) *
                      std::sqrt(std::max(0.0, share * (1 - share)) / n + z2 / (4 * n * n));
  // At the ends exactly: rounding would leave 1e-19 there.
  return {share > 0 ? std::max(0.0, middle - half) : 0,
          share < 1 ? std::min(1.0, middle + half) : 1};
}

Interval share_interval(double share, double error, int problems) noexcept {
  if (problems < 2 || !(error > 0)) return wilson(share, problems);
  // Of a share seen in so many independent trials the error would be the same.
  const double trials = share * (1 - share) / (error * error) + 1;
  if (trials * std::min(share, 1 - share) < few_events) return wilson(share, trials);
  const double half = t_quantile(problems - 1) * error;
  return {std::max(0.0, share - half), std::min(1.0, share + half)};
}

namespace {

// The chance that |T| < t, by the finite series of Abramowitz and Stegun, 26.7.3 and 26.7.4.
double t_within(double t, int degrees) noexcept {
  const double angle = std::atan(t / std::sqrt(static_cast<double>(degrees)));
  const double cosine = std::cos(angle), squared = cosine * cosine;
  const bool is_odd = degrees % 2 == 1;
  double term = is_odd ? cosine : 1, sum = 0;
  for (int i = is_odd ? 3 : 2; i <= degrees; i += 2) {
    sum += term;
    term *= squared * (i - 1) / i;
  }
  if (is_odd) return 2 / std::numbers::pi * (angle + std::sin(angle) * sum);
  return std::sin(angle) * sum;
}

}  // namespace

double t_quantile(int degrees, double confidence) noexcept {
  if (degrees < 1) return std::numeric_limits<double>::infinity();
  double low = 0, high = 1;
  while (t_within(high, degrees) < confidence && high < 1e12) high *= 2;
  for (int i = 0; i < 100 && high - low > 1e-12 * high; ++i) {
    const double middle = (low + high) / 2;
    (t_within(middle, degrees) < confidence ? low : high) = middle;
  }
  return high;
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
  const double n = std::max<double>(1, static_cast<double>(result.samples.size()));
  const auto mean = [&](auto of) {
    double sum = 0;
    for (const ExamSample& sample : result.samples) sum += static_cast<double>(of(sample));
    return sum / n;
  };
  result.mean_tokens = mean([](const ExamSample& one) { return one.tokens; });
  result.mean_think_tokens = mean([](const ExamSample& one) { return one.think_tokens; });
  result.mean_answer_tokens = mean([](const ExamSample& one) { return one.answer_tokens; });
  result.mean_probe_tokens = mean([](const ExamSample& one) { return one.probe_tokens; });
  result.mean_first_answer = mean([](const ExamSample& one) { return one.first_answer; });
  result.mean_first_partial = mean([](const ExamSample& one) { return one.first_partial; });
  result.mean_first_correct = mean([](const ExamSample& one) { return one.first_correct; });
  result.mean_flops = mean([](const ExamSample& one) { return one.flops; });
  result.boxed_share = mean([](const ExamSample& one) { return one.is_boxed; });
  result.truncated_share = mean([](const ExamSample& one) { return is_truncated(one.stopped); });

  std::vector<double> seconds;
  for (const ExamSample& sample : result.samples) seconds.push_back(sample.seconds);
  result.seconds_p50 = nearest_rank(seconds, .50);
  result.seconds_p95 = nearest_rank(std::move(seconds), .95);

  const Estimate lenient = estimate(result, &ExamSample::score);
  result.accuracy = lenient.value;
  result.standard_error = lenient.errors.over_problems;
  result.sample_error = lenient.errors.over_samples;
  result.low = lenient.interval.low;
  result.high = lenient.interval.high;
  const Estimate strict = estimate(result, &ExamSample::strict_score);
  result.strict_accuracy = strict.value;
  result.strict_low = strict.interval.low;
  result.strict_high = strict.interval.high;

  std::vector<double> tokens;
  for (const Cluster& cluster : clusters(result, &ExamSample::score))
    tokens.push_back(cluster.tokens / cluster.samples);
  const double half = tokens.size() < 2
                          ? std::numeric_limits<double>::infinity()
                          : t_quantile(static_cast<int>(tokens.size()) - 1) * mean_of(tokens).error;
  result.tokens_low = std::max(0.0, result.mean_tokens - half);
  result.tokens_high = result.mean_tokens + half;
}

}  // namespace pensive
