// Two arms on the same problems: by how much they differ, and whether by chance.
#include <algorithm>
#include <cmath>
#include <random>

#include "base/inside.h"
#include "exam/statistics.h"

namespace pensive {
namespace {

bool is_binary(const ExamResult& result, const std::vector<Cluster>& all) {
  return all.size() == result.samples.size() &&
         std::all_of(result.samples.begin(), result.samples.end(),
                     [](const ExamSample& one) { return one.score == 0 || one.score == 1; });
}

bool are_shares(const ExamResult& result) {
  return std::all_of(result.samples.begin(), result.samples.end(),
                     [](const ExamSample& one) { return one.score >= 0 && one.score <= 1; });
}

// Sums of equal differences in another order round differently; they count as equal.
constexpr double rounding = 1e-9;

// Half of the interval of a mean difference. Where all are the same t says nothing: then as far as
// Wilson's interval of a share that was never seen, of scores from 0 to 1.
double half_width(const std::vector<double>& differences, double quantile, bool is_share) {
  const double n = static_cast<double>(differences.size());
  const auto [least, most] = std::minmax_element(differences.begin(), differences.end());
  const bool is_constant = *most - *least <= rounding;
  if (is_constant && is_share) return quantile * quantile / (n + quantile * quantile);
  return quantile * mean_of(differences).error;
}

// What share of the first arm's errors is gone: where it makes none, no number.
void find_errors(Paired& paired, const std::vector<double>& differences,
                 const std::vector<double>& errors, double quantile, bool is_share) {
  const double error_share = mean_of(errors).value;
  if (errors.empty() || error_share <= rounding) return;
  paired.errors_removed = paired.difference / error_share;
  // The delta method: the ratio of two means errs like the mean of difference - ratio * error.
  std::vector<double> residuals;
  for (std::size_t p = 0; p < errors.size(); ++p)
    residuals.push_back(differences[p] - paired.errors_removed * errors[p]);
  const double half = errors.size() < 2 ? std::numeric_limits<double>::infinity()
                                        : half_width(residuals, quantile, is_share) / error_share;
  paired.errors_low = paired.errors_removed - half;
  paired.errors_high = std::min(1.0, paired.errors_removed + half);
}

}  // namespace

// Twice the binomial tail, in logarithms: the coefficients of thousands of problems are no doubles.
double mcnemar(int improved, int worsened) noexcept {
  const int n = improved + worsened, fewer = std::min(improved, worsened);
  if (n == 0) return 1;
  double tail = 0;
  for (int i = 0; i <= fewer; ++i)
    tail += std::exp(std::lgamma(n + 1.0) - std::lgamma(i + 1.0) - std::lgamma(n - i + 1.0) -
                     n * std::log(2.0));
  return std::min(1.0, 2 * tail);
}

double sign_flips(const std::vector<double>& differences) {
  constexpr int most_exact = 16, drawn = 20000;
  std::vector<double> sizes;
  double sum = 0;
  for (const double one : differences) {
    sum += one;
    if (one != 0) sizes.push_back(std::abs(one));
  }
  const double seen = std::abs(sum) - rounding;
  if (sizes.empty()) return 1;
  const auto flipped = [&](auto is_negative) {
    double total = 0;
    for (std::size_t i = 0; i < sizes.size(); ++i) total += is_negative(i) ? -sizes[i] : sizes[i];
    return std::abs(total) >= seen;
  };
  std::int64_t extreme = 0;
  if (sizes.size() <= most_exact) {
    const std::uint32_t all = std::uint32_t{1} << sizes.size();
    for (std::uint32_t signs = 0; signs < all; ++signs)
      extreme += flipped([&](std::size_t i) { return signs >> i & 1; });
    return static_cast<double>(extreme) / all;
  }
  std::mt19937_64 random(1);
  for (int round = 0; round < drawn; ++round) {
    std::uint64_t bits = 0;
    extreme += flipped([&](std::size_t i) {
      bits = i % 64 == 0 ? random() : bits >> 1;
      return bits & 1;
    });
  }
  return (static_cast<double>(extreme) + 1) / (drawn + 1);
}

Paired compare(const ExamResult& a, const ExamResult& b, double confidence) {
  require(confidence > 0 && confidence < 1, ErrorCode::invalid_argument,
          "a confidence between 0 and 1", fmt::format("{}", confidence), "compare");
  const std::vector<Cluster> first = clusters(a), second = clusters(b);
  require(a.problems == b.problems, ErrorCode::invalid_argument,
          fmt::format("two exams of the same {} problems", a.problems),
          fmt::format("{} in the second", b.problems), "compare");
  require(
      std::ssize(first) == a.problems && std::ssize(second) == b.problems,
      ErrorCode::invalid_argument, "at least one sample of every problem",
      fmt::format("samples of {} and {} of {} problems", first.size(), second.size(), a.problems),
      "compare");
  std::vector<double> differences, tokens, errors;
  for (std::size_t p = 0; p < first.size(); ++p) {
    const double score = first[p].score / first[p].samples;
    errors.push_back(1 - score);
    differences.push_back(second[p].score / second[p].samples - score);
    tokens.push_back(second[p].tokens / second[p].samples - first[p].tokens / first[p].samples);
  }
  Paired paired;
  const bool is_share = are_shares(a) && are_shares(b);
  const double quantile = t_quantile(a.problems - 1, confidence);
  paired.difference = mean_of(differences).value;
  paired.low = -1;
  paired.high = 1;
  if (a.problems >= 2) {
    constexpr double four_fifths = 0.8416212335729143;  // of the normal distribution lie below
    const double half = half_width(differences, quantile, is_share);
    paired.low = paired.difference - half;
    paired.high = paired.difference + half;
    paired.detectable = half * (1 + four_fifths / quantile);
    if (is_share) {
      paired.detectable = std::min(1.0, paired.detectable);
      paired.low = std::max(-1.0, paired.low);
      paired.high = std::min(1.0, paired.high);
    }
  }
  paired.token_difference = mean_of(tokens).value;

  for (const double one : differences) {
    paired.improved += one > 0;
    paired.worsened += one < 0;
  }
  paired.p_value = is_binary(a, first) && is_binary(b, second)
                       ? mcnemar(paired.improved, paired.worsened)
                       : sign_flips(differences);

  find_errors(paired, differences, errors, quantile, is_share);
  return paired;
}

}  // namespace pensive
