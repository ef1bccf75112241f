// Several samples of a problem, and whether two arms differ by chance.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "exam/statistics.h"
#include "testing.h"

namespace pensive {
namespace {

// Each string is a problem; each letter a sample: the answer it gives, a capital one is right, '.'
// is none.
ExamResult votes(const std::vector<std::string>& problems) {
  ExamResult result{.problems = static_cast<int>(problems.size())};
  for (std::size_t p = 0; p < problems.size(); ++p)
    for (std::size_t j = 0; j < problems[p].size(); ++j) {
      const char letter = problems[p][j];
      ExamSample sample{.problem = static_cast<int>(p), .sample = static_cast<int>(j)};
      sample.score = letter >= 'A' && letter <= 'Z' ? 1 : 0;
      if (letter != '.') sample.answer = std::string(1, letter);
      result.samples.push_back(sample);
    }
  summarize(result);
  return result;
}

TEST(PassAtK, IsTheUnbiasedChance) {
  EXPECT_NEAR(pass_at_k(votes({"Axxxx"}), 1).value, .2, 1e-12);
  EXPECT_NEAR(pass_at_k(votes({"AAxxx"}), 2).value, .7, 1e-12);  // 1 - C(3, 2) / C(5, 2)
  EXPECT_NEAR(pass_at_k(votes({"AAxxx"}), 4).value, 1, 1e-12);
  EXPECT_NEAR(pass_at_k(votes({"AAxxx", "xxxxx"}), 2).value, .35, 1e-12);
}

TEST(PassAtK, HasAnIntervalOverProblems) {
  std::vector<std::string> samples;
  for (int i = 0; i < 10; ++i) samples.insert(samples.end(), {"AA", "Ax", "xx", "Ax"});
  const Share share = pass_at_k(votes(samples), 1);
  EXPECT_NEAR(share.value, .5, 1e-12);
  EXPECT_NEAR(share.high - share.value, t_quantile(39) * std::sqrt(5.0 / 39 / 40), 1e-12);
  const Share few = pass_at_k(votes({"AA", "Ax", "xx", "Ax"}), 1);
  EXPECT_NEAR(few.high, wilson(.5, 7).high, 1e-12) << "of .25 / (1 / 24) and 1 trials";
  const Share all = pass_at_k(votes({"AA", "AA", "AA"}), 2);
  EXPECT_NEAR(all.low, wilson(1, 3).low, 1e-12) << "no spread is not certainty";
  EXPECT_EQ(all.high, 1);
}

TEST(PassAtK, IsRefusedForFewerSamples) {
  EXPECT_ERROR(pass_at_k(votes({"AAx", "Ax"}), 3), ErrorCode::invalid_argument, "2 of problem 1");
  EXPECT_ERROR(pass_at_k(votes({"A"}), 0), ErrorCode::invalid_argument, "at least 1");
  ExamResult half = votes({"Ax"});
  half.samples[0].score = .5;
  EXPECT_ERROR(pass_at_k(half, 1), ErrorCode::invalid_argument, "0.5");
}

TEST(MajorityAtK, IsTheMeanOverSubsets) {
  const ExamResult result = votes({"AAAb."});
  const double expected[] = {.6, .75, .85, 1, 1};
  for (int k = 1; k <= 5; ++k)
    EXPECT_NEAR(majority_at_k(result, k).value, expected[k - 1], 1e-12) << "k = " << k;
}

TEST(MajorityAtK, SplitsTiesAndLetsNobodyVoteWithoutAnAnswer) {
  EXPECT_NEAR(majority_at_k(votes({"Ab"}), 2).value, .5, 1e-12);
  EXPECT_NEAR(majority_at_k(votes({"Abc"}), 3).value, 1.0 / 3, 1e-12);
  EXPECT_NEAR(majority_at_k(votes({"A..."}), 4).value, 1, 1e-12);
  EXPECT_EQ(majority_at_k(votes({"...."}), 4).value, 0);
}

TEST(MajorityAtK, CountsEqualAnswersAsOne) {
  ExamResult result = votes({"AAbc"});
  result.samples[0].answer = "1/2";
  result.samples[1].answer = "2/4";
  EXPECT_EQ(majority_at_k(result, 4).value, 1);
}

TEST(MajorityAtK, OfManySubsetsIsNearTheWhole) {
  // 20 of 30 right: 15 drawn without replacement are mostly right in all but a few subsets.
  std::string many(30, 'b');
  std::fill_n(many.begin(), 20, 'A');
  double exact = 0;  // hypergeometric: P(at least 8 of 15)
  for (int right = 8; right <= 15; ++right)
    exact += std::exp(std::lgamma(21) - std::lgamma(right + 1.0) - std::lgamma(21.0 - right) +
                      std::lgamma(11) - std::lgamma(16.0 - right) - std::lgamma(right - 4.0) -
                      std::lgamma(31) + 2 * std::lgamma(16));
  EXPECT_NEAR(majority_at_k(votes({many}), 15).value, exact, .02);
  EXPECT_EQ(majority_at_k(votes({many}), 15).value, majority_at_k(votes({many}), 15).value);
}

TEST(McNemar, IsTheExactBinomialTail) {
  EXPECT_EQ(mcnemar(0, 0), 1);
  EXPECT_EQ(mcnemar(3, 3), 1);
  EXPECT_NEAR(mcnemar(8, 2), .109375, 1e-12);  // 2 x 56 / 1024
  EXPECT_NEAR(mcnemar(2, 8), mcnemar(8, 2), 1e-15);
  EXPECT_NEAR(mcnemar(1560, 1440), 0.029791048043260982, 1e-9);
}

TEST(SignFlips, CountWhatIsAsExtreme) {
  EXPECT_EQ(sign_flips({0, 0}), 1);
  EXPECT_NEAR(sign_flips({1, .5, .5, -.25}), .25, 1e-12);
  EXPECT_NEAR(sign_flips({.1, .1, .1, 0}), .25, 1e-12);  // equal sums count, rounded or not
  std::vector<double> many(40, .5);
  EXPECT_LT(sign_flips(many), 1e-3);
  for (std::size_t i = 0; i < many.size(); i += 2) many[i] = -.5;
  EXPECT_GT(sign_flips(many), .99);
}

TEST(Compare, TellsWhetherTheArmsDifferByChance) {
  const Paired single = compare(votes({"A", "A", "x", "A"}), votes({"x", "A", "A", "A"}));
  EXPECT_EQ(single.improved, 1);
  EXPECT_EQ(single.worsened, 1);
  EXPECT_EQ(single.p_value, 1);
  const Paired several = compare(votes({"Ax", "xx", "xx"}), votes({"AA", "Ax", "Ax"}));
  EXPECT_EQ(several.improved, 3);
  EXPECT_NEAR(several.p_value, .25, 1e-12);  // two of eight sign patterns
}

}  // namespace
}  // namespace pensive
