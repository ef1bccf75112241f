// Samples of a problem that part at the first soft token.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <span>

#include "train_toy.h"

namespace pensive {
namespace {

using testing::exact;
using testing::problems;
using testing::Toy;
using testing::WantsWord;

// Keeps what it is asked about, sample by sample.
class Recorder final : public WantsWord {
 public:
  mutable std::vector<std::string> texts;
  double score(const Problem& problem, const Response& response) const override {
    texts.push_back(response.text);
    return WantsWord::score(problem, response);
  }
};

// How many different texts a group of eight has before the row, and behind it.
std::pair<std::size_t, std::size_t> varieties(std::span<const std::string> group) {
  std::set<std::string> before, behind;
  for (const std::string& text : group) {
    const std::size_t at = text.find("ROW");
    before.insert(text.substr(0, at));
    behind.insert(at == std::string::npos ? "" : text.substr(at));
  }
  return {before.size(), behind.size()};
}

TEST(Trainer, BranchesWhereTheRowFirstStands) {
  for (const Branch branch : {Branch::at_prompt, Branch::at_soft_token}) {
    Toy toy;
    toy.options.branch = branch;
    const auto recorder = std::make_shared<Recorder>();
    Trainer trainer = toy.trainer(recorder);
    const TrainReport report = trainer.step(problems(5));
    ASSERT_EQ(recorder->texts.size(), 40u);
    std::size_t before = 0, behind = 0;
    for (std::size_t p = 0; p < 5; ++p) {
      const auto [b, s] = varieties(std::span(recorder->texts).subspan(p * 8, 8));
      before += b;
      behind += s;
    }
    if (branch == Branch::at_soft_token) {
      EXPECT_EQ(before, 5u) << "one prefix a problem";
    } else {
      EXPECT_GT(before, 15u);
    }
    EXPECT_GT(behind, 15u) << "forks draw for themselves";
    EXPECT_EQ(report.mean_tokens, 12) << "what was shared counts for every sample";
    EXPECT_LT(report.mean_logprob_gap, 1e-6);
    EXPECT_LT(report.max_logprob_gap, 3e-5);
  }
}

// Forks share pages that later writes must not touch, and a group without the row has nothing to
// share.
TEST(Trainer, BranchesTheSameUnderPressure) {
  const auto row_after = [](EngineOptions with, int times) {
    Toy toy(std::move(with), times);
    toy.options.branch = Branch::at_soft_token;
    Trainer trainer = toy.trainer();
    trainer.step(problems(5));
    trainer.step(problems(5));
    return toy.soft->row(toy.row);
  };
  const std::vector<float> expected = row_after(exact(), 2);
  EngineOptions other = exact();
  other.max_live_sequences = 3;
  EXPECT_EQ(row_after(other, 2), expected) << "a few at a time";
  other = exact();
  other.reuse_prefixes = false;
  EXPECT_EQ(row_after(other, 2), expected) << "no prefix is looked up";
  other = exact();
  other.cache_tokens = 96;
  EXPECT_THAT(row_after(other, 2), ::testing::Pointwise(::testing::FloatNear(2e-3f), expected));
}

TEST(Trainer, ARowInThePromptBranchesThere) {
  Toy toy;
  toy.options.branch = Branch::at_soft_token;
  toy.options.prompt_of = [row = toy.row](const Problem& problem) {
    return std::vector<TokenId>{1, 2, row, 3 + std::stoi(problem.question)};
  };
  const auto recorder = std::make_shared<Recorder>();
  Trainer trainer = toy.trainer(recorder);
  trainer.step(problems(4));
  std::size_t before = 0;
  for (std::size_t p = 0; p < 4; ++p)
    before += varieties(std::span(recorder->texts).subspan(p * 8, 8)).first;
  EXPECT_GT(before, 12u) << "every drawn token depends on the row: none may be shared";
}

TEST(Trainer, BranchingRaisesTheRewardToo) {
  Toy toy;
  toy.options.branch = Branch::at_soft_token;
  toy.options.learning_rate = 0.3;
  toy.options.rollout.sampling.temperature = 0.6f;
  Trainer trainer = toy.trainer();
  double late = 0;
  for (int step = 0; step < 40; ++step) {
    const TrainReport report = trainer.step(problems(8));
    if (step >= 36) late += report.mean_reward / 4;
  }
  EXPECT_GT(late, 0.85);
}

}  // namespace
}  // namespace pensive
