#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels_oracle.h"
#include "pensive/base.h"

namespace pensive::kernels {
namespace {

Drawn draw_one(const at::Tensor& logits, const DrawRow& row) {
  return draw(logits.view({1, -1}), {row}).at(0);
}

std::vector<double> values_of(const at::Tensor& logits) {
  at::Tensor wide = logits.to(at::kDouble).contiguous();
  const double* from = wide.const_data_ptr<double>();
  return {from, from + wide.numel()};
}

// The probabilities a row is to be drawn with, by sorting and summing in float64.
std::vector<double> naive_probabilities(std::vector<double> logits, const DrawRow& row) {
  double most = *std::max_element(logits.begin(), logits.end());
  double mean = std::accumulate(logits.begin(), logits.end(), 0.0) / logits.size();
  for (std::size_t i = 0; i < row.bias_tokens.size(); ++i) {
    double times = row.bias_times_max_minus_mean.empty() ? 0 : row.bias_times_max_minus_mean[i];
    double& logit = logits[row.bias_tokens[i]];
    logit += row.bias_logits[i] + times * (most - mean);
    double repetition = row.bias_repetitions.empty() ? 1 : row.bias_repetitions[i];
    logit = logit > 0 ? logit / repetition : logit * repetition;
    logit -= row.bias_penalties.empty() ? 0 : row.bias_penalties[i];
  }
  for (std::size_t t = 0; t < logits.size() && !row.mask.empty(); ++t) {
    if (t / 32 >= row.mask.size() || !(row.mask[t / 32] >> (t % 32) & 1)) logits[t] = -INFINITY;
  }
  most = *std::max_element(logits.begin(), logits.end());
  std::vector<double> weights;
  for (double logit : logits) weights.push_back(std::exp((logit - most) / row.temperature));
  std::vector<double> sorted = weights;
  std::sort(sorted.rbegin(), sorted.rend());
  auto cut_below = [&](double least) {
    for (double& weight : weights) weight = weight < least ? 0 : weight;
  };
  if (row.top_k > 0 && row.top_k < static_cast<int>(sorted.size()))
    cut_below(sorted[row.top_k - 1]);
  double total = std::accumulate(weights.begin(), weights.end(), 0.0), mass = 0;
  std::sort((sorted = weights).rbegin(), sorted.rend());
  for (double weight : sorted) {
    mass += weight;
    if (mass < row.top_p * total * (1 - 1e-6)) continue;
    cut_below(weight);
    break;
  }
  if (row.min_p > 0) cut_below(row.min_p * (1 - 1e-6));  // the largest weight is 1
  total = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& weight : weights) weight /= total;
  return weights;
}

// Draws under many keys and compares counts with the probabilities by a chi-square test.
void expect_distribution(const at::Tensor& logits, DrawRow row, const char* name) {
  constexpr int draws = 20000;
  std::vector<double> expected = naive_probabilities(values_of(logits), row);
  at::Tensor many = logits.view({1, -1}).repeat({draws, 1});
  std::vector<DrawRow> rows(draws, row);
  for (int i = 0; i < draws; ++i) rows[i].key = mix(mix(row.key, 77), i);
  std::vector<int> counts(expected.size());
  for (const Drawn& drawn : draw(many, rows)) {
    ++counts.at(drawn.token);
    ASSERT_TRUE(drawn.is_finite);
    ASSERT_NEAR(drawn.drawn_logprob, std::log(expected[drawn.token]), 2e-5) << name;
  }
  double chi = 0, rest = 0;
  int cells = 0, rest_count = 0;
  for (std::size_t t = 0; t < expected.size(); ++t) {
    double mean = expected[t] * draws;
    ASSERT_TRUE(expected[t] > 0 || counts[t] == 0) << name << ": token " << t << " was cut";
    if (mean < 10) {
      rest += mean;
      rest_count += counts[t];
      continue;
    }
    chi += (counts[t] - mean) * (counts[t] - mean) / mean;
    ++cells;
  }
  if (rest >= 10) chi += (rest_count - rest) * (rest_count - rest) / rest, ++cells;
  double freedom = cells - 1;
  // Four standard deviations and a half of a chi-square variable with that many degrees.
  EXPECT_LT(chi, freedom + 4.5 * std::sqrt(2 * freedom) + 10) << name << ", " << cells << " cells";
}

TEST(Draw, FollowsTheDistribution) {
  seed(1);
  for (at::ScalarType scalar : {at::kFloat, at::kDouble}) {
    at::Tensor logits = random({33}, scalar) * 2;
    DrawRow row;
    expect_distribution(logits, row, "plain");
    row.temperature = 0.5f;
    expect_distribution(logits, row, "cool");
    row.temperature = 2;
    row.top_k = 7;
    expect_distribution(logits, row, "top-k");
    row.top_p = 0.6f;
    expect_distribution(logits, row, "top-k and top-p");
    row.top_k = 0;
    expect_distribution(logits, row, "top-p");
    row.bias_tokens = {3, 5};
    row.bias_logits = {4, -2};
    row.bias_times_max_minus_mean = {0, 0.5f};
    row.mask = {0xFFFF00FFu};
    row.top_p = 1;
    expect_distribution(logits, row, "biases and mask");
    row.bias_tokens = {3, 5, 6, 7};
    row.bias_logits = {1, 0, 0, 0};
    row.bias_times_max_minus_mean.clear();
    row.bias_repetitions = {1.3f, 1.3f, 2, 1};
    row.bias_penalties = {0, 0.5f, 0, -1};
    expect_distribution(logits, row, "penalties");
    row.min_p = 0.2f;
    expect_distribution(logits, row, "penalties and min-p");
    row.top_p = 0.7f;
    row.top_k = 8;
    expect_distribution(logits, row, "all at once");
  }
  expect_distribution(at::randn({1000}), {}, "a larger vocabulary");
}

TEST(Draw, TakesEveryFiniteTemperature) {
  at::Tensor logits = at::linspace(-4, 4, 9);
  DrawRow row;
  for (float hot : {1e31f, std::numeric_limits<float>::max()}) {
    row.temperature = hot;
    EXPECT_NEAR(draw_one(logits, row).drawn_logprob, -std::log(9.0f), 1e-6f);
  }
  for (float bad : {-1.0f, NAN, INFINITY}) {
    row.temperature = bad;
    EXPECT_THROW(draw_one(logits, row), Error);
  }
}

TEST(Draw, CutsAsSortingDoesWithTies) {
  seed(2);
  for (int trial = 0; trial < 300; ++trial) {
    int vocab = 2 + trial % 50;
    at::Tensor logits = at::randint(-4, 4, {vocab}, at::kFloat) * 0.7;  // many ties
    DrawRow row;
    row.temperature = trial % 3 ? 1.0f : 0.7f;
    row.top_k = trial % 7;
    row.top_p = 0.05f + 0.95f * static_cast<float>(trial % 11) / 10;
    row.min_p = trial % 4 == 0 ? 0.02f * static_cast<float>(trial % 50) : 0.0f;
    row.key = trial;
    std::vector<double> expected = naive_probabilities(values_of(logits), row);
    Drawn drawn = draw_one(logits, row);
    ASSERT_GT(expected[drawn.token], 0) << trial;
    ASSERT_NEAR(drawn.drawn_logprob, std::log(expected[drawn.token]), 2e-6) << trial;
  }
}

TEST(Draw, ReportsRawLogprobsAndEntropyWhateverIsBiased) {
  seed(3);
  for (int vocab : {1, 5, 33, 500, 49152}) {
    at::Tensor logits = at::randn({vocab}) * 3;
    at::Tensor exact = at::log_softmax(logits.to(at::kDouble), 0);
    DrawRow row;
    row.key = 5;
    row.temperature = 0.3f;
    row.top_k = 3;
    row.bias_tokens = {vocab - 1};
    row.bias_logits = {50};
    row.watched = {0, vocab - 1, vocab / 2};
    Drawn drawn = draw_one(logits, row);
    EXPECT_EQ(drawn.token, vocab - 1);
    EXPECT_NEAR(drawn.logprob, exact[drawn.token].item<double>(), 2e-6);
    EXPECT_NEAR(drawn.entropy, -(exact.exp() * exact).sum().item<double>(), 2e-5);
    EXPECT_EQ(drawn.top_token, logits.argmax().item<int>());
    EXPECT_NEAR(drawn.top_logprob, exact.max().item<double>(), 2e-6);
    ASSERT_EQ(drawn.watched.size(), 3u);
    for (int i = 0; i < 3; ++i) {
      EXPECT_NEAR(drawn.watched[i], exact[row.watched[i]].item<double>(), 4e-6);
    }
  }
}

TEST(Draw, ListsTheLikeliestWhateverIsBiased) {
  seed(5);
  for (at::ScalarType scalar : {at::kFloat, at::kDouble})
    for (int vocab : {1, 5, 33, 500}) {
      at::Tensor logits = at::randint(-9, 9, {vocab}, scalar);  // ties
      if (vocab > 2) logits[1] = -INFINITY;
      std::vector<double> exact = values_of(at::log_softmax(logits.to(at::kDouble), 0));
      std::vector<std::int32_t> order(vocab);
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(),
                       [&](int a, int b) { return exact[a] > exact[b]; });
      DrawRow row;
      row.bias_tokens = {0};
      row.bias_logits = {9};
      for (int listed : {0, 1, 20}) {
        row.listed = listed;
        Drawn drawn = draw_one(logits, row);
        order.resize(std::min(vocab, 20));
        std::vector<std::int32_t> wanted(order.begin(), order.begin() + std::min(vocab, listed));
        EXPECT_EQ(drawn.listed_tokens, wanted);
        ASSERT_EQ(drawn.listed_logprobs.size(), wanted.size());
        for (std::size_t i = 0; i < wanted.size(); ++i) {
          if (std::isinf(exact[wanted[i]])) continue;
          EXPECT_NEAR(drawn.listed_logprobs[i], exact[wanted[i]], 1e-5);
        }
      }
    }
}

TEST(Draw, GreedyTakesTheLargestAndOfEqualsTheFirst) {
  for (int vocab : {5, 33, 700}) {
    at::Tensor logits = at::zeros({vocab});
    logits[vocab - 1] = 2;
    logits[vocab / 2] = 2;
    DrawRow greedy;
    greedy.temperature = 0;
    Drawn drawn = draw_one(logits, greedy);
    EXPECT_EQ(drawn.token, vocab / 2);
    EXPECT_EQ(drawn.top_token, vocab / 2);
    EXPECT_EQ(drawn.drawn_logprob, 0);
    greedy.bias_tokens = {1};
    greedy.bias_logits = {3};
    drawn = draw_one(logits, greedy);
    EXPECT_EQ(drawn.token, 1);
    EXPECT_EQ(drawn.top_token, vocab / 2);
    greedy.mask = {0b1001};
    EXPECT_EQ(draw_one(logits, greedy).token, 0);
  }
}

TEST(Draw, DependsOnItsKeyAndNothingElse) {
  seed(4);
  at::Tensor logits = at::randn({64, 211});
  std::vector<DrawRow> rows(64);
  for (int i = 0; i < 64; ++i) {
    rows[i].key = mix(9, i);
    rows[i].temperature = 0.5f + 0.02f * static_cast<float>(i);
    rows[i].top_p = i % 2 ? 0.9f : 1.0f;
  }
  std::vector<Drawn> all = draw(logits, rows);
  int differ = 0;
  for (int i = 0; i < 64; ++i) {
    Drawn alone = draw_one(logits[i], rows[i]);
    EXPECT_EQ(alone.token, all[i].token);
    EXPECT_EQ(alone.logprob, all[i].logprob);
    EXPECT_EQ(alone.drawn_logprob, all[i].drawn_logprob);
    EXPECT_EQ(alone.entropy, all[i].entropy);
    rows[i].key = mix(10, i);
    differ += draw_one(logits[i], rows[i]).token != alone.token;
  }
  EXPECT_GT(differ, 32);
}

TEST(Draw, SaysWhenThereIsNothingToDrawFrom) {
  DrawRow row;
  EXPECT_FALSE(draw_one(at::tensor({1.f, NAN, 0.f}), row).is_finite);
  EXPECT_FALSE(draw_one(at::tensor({1.f, INFINITY, 0.f}), row).is_finite);
  EXPECT_FALSE(draw_one(at::full({40}, -INFINITY), row).is_finite);
  at::Tensor long_row = at::zeros({1000});
  long_row[999] = NAN;
  EXPECT_FALSE(draw_one(long_row, row).is_finite);
  EXPECT_TRUE(draw_one(at::tensor({1.f, -INFINITY, 0.f}), row).is_finite);
  row.mask = {0};
  EXPECT_FALSE(draw_one(at::tensor({1.f, 2.f}), row).is_finite);
  row.mask = {0xFFFFFFFF};
  EXPECT_TRUE(draw_one(at::zeros({40}), row).is_finite);
  EXPECT_LT(draw_one(at::zeros({40}), row).token, 32) << "missing words allow nothing";
}

TEST(Draw, RefusesWishesOutOfRange) {
  at::Tensor logits = at::zeros({10});
  auto refused = [&](auto change) {
    DrawRow row;
    change(row);
    EXPECT_THROW(draw_one(logits, row), Error);
  };
  refused([](DrawRow& row) { row.temperature = -1; });
  refused([](DrawRow& row) { row.temperature = NAN; });
  refused([](DrawRow& row) { row.top_p = 0; });
  refused([](DrawRow& row) { row.top_p = NAN; });
  refused([](DrawRow& row) { row.top_k = -1; });
  refused([](DrawRow& row) { row.min_p = -0.1f; });
  refused([](DrawRow& row) { row.min_p = 1.1f; });
  refused([](DrawRow& row) { row.min_p = NAN; });
  refused([](DrawRow& row) { row.listed = -1; });
  refused([](DrawRow& row) { row.bias_penalties = {1}; });
  refused([](DrawRow& row) {
    row.bias_tokens = {1}, row.bias_logits = {0}, row.bias_repetitions = {0};
  });
  refused([](DrawRow& row) { row.watched = {10}; });
  refused([](DrawRow& row) { row.bias_tokens = {-1}, row.bias_logits = {0}; });
  refused([](DrawRow& row) { row.bias_tokens = {1}; });
  EXPECT_THROW(draw(logits.view({1, 10}), {}), Error);
  EXPECT_THROW(draw(logits.view({1, 10}).to(at::kBFloat16), {DrawRow{}}), Error);
}

TEST(Gumbel, HasTheRightMomentsAndTails) {
  double sum = 0, squares = 0;
  int above_5 = 0, below = 0;
  constexpr int count = 400000;
  for (int i = 0; i < count; ++i) {
    double g = gumbel(mix(1, i / 1000), i % 1000);
    ASSERT_TRUE(std::isfinite(g));
    sum += g;
    squares += g * g;
    above_5 += g > 5;
    below += g < -1;
  }
  double mean = sum / count, variance = squares / count - mean * mean;
  EXPECT_NEAR(mean, 0.57721566, 0.01);
  EXPECT_NEAR(variance, 1.64493407, 0.03);
  EXPECT_NEAR(above_5 / double(count), 1 - std::exp(-std::exp(-5.0)), 5e-4);
  EXPECT_NEAR(below / double(count), std::exp(-std::exp(1.0)), 2e-3);
}

TEST(Mix, SeparatesNeighboursAndOrder) {
  std::vector<std::uint64_t> seen;
  for (std::uint64_t a = 0; a < 100; ++a) {
    for (std::uint64_t b = 0; b < 100; ++b) seen.push_back(mix(a, b));
  }
  std::sort(seen.begin(), seen.end());
  EXPECT_EQ(std::unique(seen.begin(), seen.end()), seen.end());
  int flipped = 0;
  for (int bit = 0; bit < 64; ++bit) {
    flipped += __builtin_popcountll(mix(1, 2) ^ mix(1, 2 ^ (1ull << bit)));
  }
  EXPECT_NEAR(flipped / 64.0, 32, 4);
}

}  // namespace
}  // namespace pensive::kernels
