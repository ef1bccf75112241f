// What several samples of a problem are worth together.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include "base/inside.h"
#include "exam/statistics.h"

namespace pensive {
namespace {

std::vector<std::vector<const ExamSample*>> by_problem(const ExamResult& result, int k,
                                                       std::string_view where) {
  require(k >= 1, ErrorCode::invalid_argument, "k of at least 1", fmt::format("{}", k), where);
  std::vector<std::vector<const ExamSample*>> all(static_cast<std::size_t>(result.problems));
  for (const ExamSample& sample : result.samples) {
    require(sample.problem >= 0 && sample.problem < result.problems, ErrorCode::invalid_argument,
            fmt::format("samples of problems 0 to {}", result.problems - 1),
            fmt::format("problem {}", sample.problem), where);
    require(sample.score == 0 || sample.score == 1, ErrorCode::invalid_argument, "scores of 0 or 1",
            fmt::format("{}", sample.score), where);
    all[static_cast<std::size_t>(sample.problem)].push_back(&sample);
  }
  for (std::size_t p = 0; p < all.size(); ++p)
    require(std::ssize(all[p]) >= k, ErrorCode::invalid_argument,
            fmt::format("at least {} samples a problem", k),
            fmt::format("{} of problem {}", all[p].size(), p), where);
  return all;
}

Share share_of(const std::vector<double>& values) {
  const Mean mean = mean_of(values);
  const Interval interval = share_interval(mean.value, mean.error, static_cast<int>(values.size()));
  return {mean.value, interval.low, interval.high};
}

// One problem's samples as votes: to which answer each goes, and how right that answer is.
struct Votes {
  std::vector<int> of_sample;  // -1: none
  std::vector<double> right;   // a share: judges may disagree about one answer
};

Votes votes_of(const std::vector<const ExamSample*>& samples) {
  Votes votes;
  std::vector<const std::string*> answers;
  std::vector<int> counts;
  for (const ExamSample* sample : samples) {
    if (sample->answer.empty()) {
      votes.of_sample.push_back(-1);
      continue;
    }
    const auto same = std::find_if(answers.begin(), answers.end(), [&](const std::string* one) {
      return same_answer(*one, sample->answer);
    });
    const auto index = same - answers.begin();
    if (same == answers.end()) {
      answers.push_back(&sample->answer);
      counts.push_back(0);
      votes.right.push_back(0);
    }
    votes.of_sample.push_back(static_cast<int>(index));
    ++counts[static_cast<std::size_t>(index)];
    votes.right[static_cast<std::size_t>(index)] += sample->score;
  }
  for (std::size_t i = 0; i < counts.size(); ++i) votes.right[i] /= counts[i];
  return votes;
}

// How right the answer is that most of the chosen samples give.
double outcome(const Votes& votes, std::span<const int> chosen, std::vector<int>& counts) {
  std::fill(counts.begin(), counts.end(), 0);
  int most = 0;
  for (const int sample : chosen)
    if (const int answer = votes.of_sample[static_cast<std::size_t>(sample)]; answer >= 0)
      most = std::max(most, ++counts[static_cast<std::size_t>(answer)]);
  if (most == 0) return 0;
  double right = 0;
  int tied = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] != most) continue;
    right += votes.right[i];
    ++tied;
  }
  return right / tied;
}

// C(n, k), or `limit` + 1 where it is more.
int choices(int n, int k, int limit) {
  double product = 1;
  for (int i = 1; i <= std::min(k, n - k); ++i) {
    product = product * (n - i + 1) / i;
    if (product > limit) return limit + 1;
  }
  return static_cast<int>(std::lround(product));
}

// The next subset of 0 … n - 1 in lexicographic order; false after the last.
bool advance(std::vector<int>& chosen, int n) {
  const int k = static_cast<int>(chosen.size());
  for (int i = k - 1; i >= 0; --i) {
    if (chosen[static_cast<std::size_t>(i)] == n - k + i) continue;
    std::iota(chosen.begin() + i, chosen.end(), chosen[static_cast<std::size_t>(i)] + 1);
    return true;
  }
  return false;
}

double majority(const Votes& votes, int k) {
  constexpr int most_subsets = 2000;
  const int n = static_cast<int>(votes.of_sample.size());
  std::vector<int> counts(votes.right.size()), order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  double sum = 0;
  if (choices(n, k, most_subsets) <= most_subsets) {
    std::vector<int> chosen(order.begin(), order.begin() + k);
    int subsets = 0;
    do {
      sum += outcome(votes, chosen, counts);
      ++subsets;
    } while (advance(chosen, n));
    return sum / subsets;
  }
  std::mt19937_64 random(1);
  for (int round = 0; round < most_subsets; ++round) {
    // The modulo's bias is below 2^-50: n is small.
    for (int i = 0; i < k; ++i)
      std::swap(order[static_cast<std::size_t>(i)],
                order[static_cast<std::size_t>(i) + random() % static_cast<std::uint64_t>(n - i)]);
    sum += outcome(votes, std::span(order).first(static_cast<std::size_t>(k)), counts);
  }
  return sum / most_subsets;
}

}  // namespace

Share pass_at_k(const ExamResult& result, int k) {
  std::vector<double> values;
  for (const auto& samples : by_problem(result, k, "pass_at_k")) {
    const int n = static_cast<int>(samples.size());
    const auto wrong = static_cast<int>(std::count_if(
        samples.begin(), samples.end(), [](const ExamSample* one) { return one->score == 0; }));
    double all_wrong = 1;  // C(wrong, k) / C(n, k), factor by factor
    for (int i = 0; i < k; ++i)
      all_wrong *= std::max(0.0, static_cast<double>(wrong - i)) / (n - i);
    values.push_back(1 - all_wrong);
  }
  return share_of(values);
}

Share majority_at_k(const ExamResult& result, int k) {
  std::vector<double> values;
  for (const auto& samples : by_problem(result, k, "majority_at_k"))
    values.push_back(majority(votes_of(samples), k));
  return share_of(values);
}

}  // namespace pensive
