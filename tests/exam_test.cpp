// Problem files and statistics; expected numbers come from an independent computation (NumPy).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <fstream>

#include "exam/statistics.h"

namespace pensive {
namespace {

// A file of its own for each test, gone afterwards.
class ProblemFile : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* test = ::testing::UnitTest::GetInstance()->current_test_info();
    file_ = std::filesystem::temp_directory_path() /
            (std::string("pensive_") + test->name() + "_" + std::to_string(::getpid()) + ".jsonl");
  }
  void TearDown() override { std::filesystem::remove(file_); }
  std::vector<Problem> load(const std::string& text, const ProblemFields& fields = {}) {
    std::ofstream(file_, std::ios::binary) << text;
    return load_problems(file_, fields);
  }
  void expect_corrupt(const std::string& text, const std::string& says,
                      const ProblemFields& fields = {}) {
    try {
      load(text, fields);
      FAIL() << "nothing thrown for " << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::corrupt_file) << error.what();
      EXPECT_THAT(error.what(), ::testing::HasSubstr(says));
    }
  }
  std::filesystem::path file_;
};

TEST_F(ProblemFile, GivesQuestionAnswerAndId) {
  const auto problems = load(
      "\xEF\xBB\xBF{\"id\": \"a\", \"question\": \"1+1?\", \"answer\": \"2\"}\r\n"
      "\n   \n"
      "{\"question\": \"2+2?\", \"answer\": 4, \"level\": [1]}\n"
      "{\"id\": 7, \"question\": \"half?\", \"answer\": 0.5}");
  ASSERT_EQ(problems.size(), 3u);
  EXPECT_EQ(problems[0].id, "a");
  EXPECT_EQ(problems[0].question, "1+1?");
  EXPECT_EQ(problems[0].reference, "2");
  EXPECT_EQ(problems[1].id, "4") << "the line's number";
  EXPECT_EQ(problems[1].reference, "4");
  EXPECT_EQ(problems[2].id, "7");
  EXPECT_EQ(problems[2].reference, "0.5");
}

TEST_F(ProblemFile, TakesWhatFollowsTheLastMark) {
  const auto problems =
      load("{\"question\": \"q\", \"answer\": \"so #### 3, no:\\n#### 1,234 \"}\n",
           {.answer_after = "#### "});
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_EQ(problems[0].reference, "1,234");
}

TEST_F(ProblemFile, ReadsOtherNames) {
  const auto problems = load("{\"problem\": \"q\", \"solution\": \"s\", \"unique\": \"u\"}",
                             {.question = "problem", .answer = "solution", .id = "unique"});
  EXPECT_EQ(problems.at(0).question + problems.at(0).reference + problems.at(0).id, "qsu");
}

TEST_F(ProblemFile, MayBeEmpty) { EXPECT_TRUE(load("\n\n").empty()); }

TEST_F(ProblemFile, NamesTheBrokenLine) {
  const std::string good = "{\"question\": \"q\", \"answer\": \"1\"}\n";
  expect_corrupt(good + "\n{\"question\": \"q\", ", "line 3");
  expect_corrupt(good + "[1]\n", "line 2");
  expect_corrupt(good + "{\"answer\": \"1\"}\n", "question");
  expect_corrupt(good + "{\"question\": 3, \"answer\": \"1\"}\n", "line 2");
  expect_corrupt(good + "{\"question\": \"q\"}\n", "\"answer\"");
  expect_corrupt(good + "{\"question\": \"q\", \"answer\": null}\n", "line 2");
  expect_corrupt(good + "{\"question\": \"q\", \"answer\": 123456789012345678901234567890}\n",
                 "2^53");
  expect_corrupt("{\"question\": \"q\", \"answer\": \"no mark\"}\n", "line 1",
                 {.answer_after = "#### "});
}

TEST_F(ProblemFile, ThatIsMissingIsNotFound) {
  try {
    load_problems(file_);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::not_found);
  }
}

// Rows are problems, columns samples.
ExamResult result_of(const std::vector<std::vector<double>>& scores, int tokens = 10) {
  ExamResult result;
  result.problems = static_cast<int>(scores.size());
  for (std::size_t p = 0; p < scores.size(); ++p)
    for (std::size_t j = 0; j < scores[p].size(); ++j)
      result.samples.push_back({static_cast<int>(p), static_cast<int>(j), scores[p][j], tokens, 0.5,
                                p == 0 ? StopReason::length : StopReason::end_token});
  summarize(result);
  return result;
}

TEST(Summary, HasAnErrorOverProblemsAndOneOverTheirSamples) {
  const ExamResult result = result_of({{1, 1, 0}, {0, 0, 0}, {1, 1, 1}, {1, 0, 0}});
  EXPECT_NEAR(result.accuracy, 0.5, 1e-12);
  EXPECT_NEAR(result.standard_error, 0.2151657414559676, 1e-12);
  EXPECT_NEAR(result.sample_error, 0.11785113019775793, 1e-12);
  EXPECT_NEAR(result.low, wilson(.5, 6.4).low, 1e-12) << "of 5.4 and 1 independent trials";
  EXPECT_NEAR(result.high, wilson(.5, 6.4).high, 1e-12);
  EXPECT_NEAR(result.mean_tokens, 10, 1e-12);
  EXPECT_NEAR(result.mean_first_answer, 0.5, 1e-12);
  EXPECT_NEAR(result.truncated_share, 0.25, 1e-12);
}

TEST(Summary, TakesProblemsWithMoreSamplesAsHeavier) {
  const ExamResult result = result_of({{1, 0}, {1, 1, 1}, {0, 0, 0, 1}, {0, 1}, {0, 1}, {0, 1}});
  EXPECT_NEAR(result.accuracy, 8. / 15, 1e-12);
  EXPECT_NEAR(result.standard_error, 0.13190344392213008, 1e-12);
  EXPECT_NEAR(result.sample_error, 0.14907119849998599, 1e-12);
}

TEST(Summary, UsesTInTheMiddle) {
  std::vector<std::vector<double>> scores;
  for (int i = 0; i < 60; ++i) scores.push_back({i * 7 % 5 < 2 ? 1. : 0, i * 3 % 4 < 2 ? 1. : 0});
  const ExamResult result = result_of(scores);
  EXPECT_NEAR(result.accuracy, 0.45, 1e-12);
  EXPECT_NEAR(result.low, 0.3588224067971592, 1e-9);
  EXPECT_NEAR(result.high, 0.5411775932028409, 1e-9);
  const Share pass = pass_at_k(result, 1);
  EXPECT_NEAR(pass.low, result.low, 1e-12) << "one figure, one interval";
  EXPECT_NEAR(pass.high, result.high, 1e-12);
}

TEST(Summary, StaysWithinASharesEnds) {
  // Two samples of thirty problems; one of them right once.
  std::vector<std::vector<double>> scores(30, {0, 0});
  scores.front() = {1, 0};
  const ExamResult result = result_of(scores);
  EXPECT_GT(result.low, 0);
  EXPECT_LT(result.low, result.accuracy);
  EXPECT_GT(result.high, result.accuracy + 1.96 * result.standard_error);
  EXPECT_LT(result.high, 0.15);
}

TEST(Summary, UsesWilsonForOneSampleAProblem) {
  const ExamResult result = result_of({{1}, {1}, {0}, {1}, {1}, {0}, {1}, {1}, {0}, {1}});
  EXPECT_NEAR(result.accuracy, 0.7, 1e-12);
  EXPECT_NEAR(result.standard_error, std::sqrt(0.21 * 10 / 9 / 10), 1e-12);
  EXPECT_TRUE(std::isnan(result.sample_error)) << "one sample does not tell";
  EXPECT_NEAR(result.low, 0.39677814746114537, 1e-12);
  EXPECT_NEAR(result.high, 0.8922087325936988, 1e-12);
}

TEST(Summary, IsDefinedWhereThereIsLittleToGoBy) {
  const ExamResult none = result_of({});
  EXPECT_EQ(none.accuracy, 0);
  EXPECT_EQ(none.low, 0);
  EXPECT_EQ(none.high, 1);
  const ExamResult one = result_of({{1, 0, 1, 1}});  // four samples, one problem: one trial
  EXPECT_NEAR(one.accuracy, 0.75, 1e-12);
  EXPECT_EQ(one.standard_error, 0);
  EXPECT_LT(one.low, 0.2);
  EXPECT_GT(one.high, 0.95);
  const ExamResult all_right = result_of({{1, 1}, {1, 1}, {1, 1}, {1, 1}, {1, 1}});
  EXPECT_EQ(all_right.accuracy, 1);
  EXPECT_EQ(all_right.standard_error, 0);
  EXPECT_NEAR(all_right.low, 0.5655175352168252, 1e-12);
  EXPECT_EQ(all_right.high, 1);
}

TEST(Summary, ScoresThatAreNoSharesGoBeyondTheirEnds) {
  const ExamResult result = result_of({{2}, {0}, {1}, {2}});
  EXPECT_NEAR(result.accuracy, 1.25, 1e-12);
  EXPECT_NEAR(result.low, -0.27348018082881165, 1e-9);
  EXPECT_NEAR(result.high, 2.7734801808288116, 1e-9);
}

TEST(Summary, WhatAnythingElseThanItsEndCutIsTruncated) {
  ExamResult result;
  result.problems = 6;
  for (const StopReason stopped :
       {StopReason::length, StopReason::deadline, StopReason::cancelled, StopReason::end_token,
        StopReason::guide, StopReason::stop_text}) {
    ExamSample sample;
    sample.problem = static_cast<int>(result.samples.size());
    sample.stopped = stopped;
    result.samples.push_back(sample);
  }
  summarize(result);
  EXPECT_EQ(result.truncated_share, .5);
}

TEST(Wilson, EqualsTheRootsOfItsQuadratic) {
  EXPECT_NEAR(wilson(0.75, 4).low, 0.3006418425824019, 1e-12);
  EXPECT_NEAR(wilson(0.75, 4).high, 0.9544127391902995, 1e-12);
  for (int n = 1; n < 2000; ++n) EXPECT_EQ(wilson(0, n).low, 0) << n;
  for (int n = 1; n < 2000; ++n) EXPECT_EQ(wilson(1, n).high, 1) << n;
  EXPECT_NEAR(wilson(0, 3).high, 0.5614970317550455, 1e-12);
  EXPECT_NEAR(wilson(1, 1).low, 0.20654931437723742, 1e-12);
}

TEST(TQuantile, FollowsTheTables) {
  EXPECT_NEAR(t_quantile(1), 12.706, 1e-3);
  EXPECT_NEAR(t_quantile(4), 2.776, 1e-3);
  EXPECT_NEAR(t_quantile(5), 2.571, 3e-3);
  EXPECT_NEAR(t_quantile(10), 2.228, 1e-3);
  EXPECT_NEAR(t_quantile(30), 2.042, 1e-3);
  EXPECT_NEAR(t_quantile(2000), 1.961151, 1e-6);
  EXPECT_NEAR(t_quantile(1, 0.5), 1, 1e-9);
  EXPECT_NEAR(t_quantile(10, 0.99), 3.169273, 1e-6);
  EXPECT_NEAR(t_quantile(10, 0.998), 4.143700, 1e-6);
  EXPECT_NEAR(t_quantile(3, 0.999), 12.92398, 1e-5);
}

const std::vector<std::vector<double>> arm_a = {{1, 0}, {0, 0}, {1, 1}, {0, 1}, {0, 0}, {1, 0}};
const std::vector<std::vector<double>> arm_b = {{1, 1}, {0, 1}, {1, 1}, {0, 0}, {1, 1}, {1, 0}};

TEST(Compare, PairsByProblem) {
  const Paired paired = compare(result_of(arm_a, 10), result_of(arm_b, 25));
  const double quantile = t_quantile(5);
  EXPECT_NEAR(paired.difference, 0.25, 1e-12);
  EXPECT_NEAR(paired.low, 0.25 - quantile * 0.21408720964441885, 1e-12);
  EXPECT_NEAR(paired.high, 0.25 + quantile * 0.21408720964441885, 1e-12);
  EXPECT_NEAR(paired.token_difference, 15, 1e-12);
  EXPECT_NEAR(paired.errors_removed, 3.0 / 7, 1e-12);
  EXPECT_NEAR(paired.errors_low, 3.0 / 7 - quantile * 0.3081565075620714, 1e-12);
  EXPECT_EQ(paired.errors_high, 1) << "nobody removes more than all errors";
}

TEST(Compare, OfAnArmWithItselfIsNothingThatSoFewProblemsCouldShow) {
  const Paired paired = compare(result_of(arm_a), result_of(arm_a));
  EXPECT_EQ(paired.difference, 0);
  const double squared = t_quantile(5) * t_quantile(5);
  EXPECT_NEAR(paired.high, squared / (6 + squared), 1e-12);
  EXPECT_EQ(paired.low, -paired.high);
  EXPECT_GT(paired.detectable, paired.high);
  EXPECT_EQ(paired.errors_removed, 0);
  EXPECT_NEAR(paired.errors_high, squared / (6 + squared) * 12 / 7, 1e-12);
  EXPECT_EQ(paired.errors_low, -paired.errors_high);
  const Paired all = compare(result_of({{0}, {0}, {0}}), result_of({{1}, {1}, {1}}));
  EXPECT_EQ(all.difference, 1);
  EXPECT_EQ(all.high, 1);
  EXPECT_LT(all.low, 1);
}

TEST(Compare, OfErrorsThatAllGoTheSameWayIsNotSure) {
  const auto exam_of = [](int problems, double score) {
    return result_of(std::vector<std::vector<double>>(static_cast<std::size_t>(problems), {score}));
  };
  const double squared = t_quantile(4) * t_quantile(4);
  const Paired gone = compare(exam_of(5, 0), exam_of(5, 1));
  EXPECT_EQ(gone.errors_removed, 1);
  EXPECT_NEAR(gone.errors_low, 1 - squared / (5 + squared), 1e-12);
  EXPECT_EQ(gone.errors_high, 1);
  // Residuals that are the same but for rounding.
  const auto mixed = [](double more) {
    return result_of({{1 / 3.0 + more}, {0.1 + more}, {0.2 + more}, {0.7 + more}, {0.6 + more}});
  };
  const Paired same = compare(mixed(0), mixed(0.1));
  EXPECT_NEAR(same.low, 0.1 - squared / (5 + squared), 1e-9);
  // None to remove: a share of nothing.
  const Paired none = compare(exam_of(20, 1), exam_of(20, 1));
  EXPECT_TRUE(std::isnan(none.errors_removed));
  EXPECT_TRUE(std::isnan(none.errors_low) && std::isnan(none.errors_high));
}

TEST(Compare, OfFewProblemsShowsNoDifferenceOfShares) {
  EXPECT_EQ(compare(result_of({{1}, {0}}), result_of({{0}, {0}})).detectable, 1);
  EXPECT_GT(compare(result_of({{100}, {0}}), result_of({{0}, {0}})).detectable, 100);
}

TEST(Compare, IsAsSureAsItIsAsked) {
  const Paired usual = compare(result_of(arm_a), result_of(arm_b));
  const Paired sure = compare(result_of(arm_a), result_of(arm_b), 0.98);
  constexpr double error = 0.21408720964441885;
  EXPECT_NEAR(usual.detectable, (t_quantile(5) + 0.8416212) * error, 1e-6);
  EXPECT_NEAR(sure.low, 0.25 - 3.3649300 * error, 1e-6);
  EXPECT_NEAR(sure.detectable, (3.3649300 + 0.8416212) * error, 1e-6);
  EXPECT_EQ(sure.p_value, usual.p_value);
  EXPECT_THROW(compare(result_of(arm_a), result_of(arm_b), 1), Error);
}

TEST(Compare, IsDefinedWhereThereIsLittleToGoBy) {
  const Paired right = compare(result_of({{1}, {1}}), result_of({{1}, {0}}));
  EXPECT_EQ(right.difference, -0.5);
  EXPECT_TRUE(std::isnan(right.errors_removed)) << "there were none to remove";
  const Paired one = compare(result_of({{0}}), result_of({{1}}));
  EXPECT_EQ(one.difference, 1);
  EXPECT_EQ(one.low, -1);
  EXPECT_EQ(one.high, 1);
  EXPECT_EQ(compare(result_of({}), result_of({})).difference, 0);
}

TEST(Compare, RefusesExamsOfDifferentSize) {
  EXPECT_THROW(compare(result_of(arm_a), result_of({{1}})), Error);
  ExamResult torn = result_of(arm_a);
  torn.samples.resize(2);
  EXPECT_THROW(compare(result_of(arm_a), torn), Error);
  torn.samples[0].problem = 99;
  EXPECT_THROW(compare(result_of(arm_a), torn), Error);
}

}  // namespace
}  // namespace pensive
