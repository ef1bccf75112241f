// How far the engine's logprobs are from the trainer's for the tokens it drew, on a card.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pensive/guides.h"
#include "train_toy.h"

namespace pensive {
namespace {

using testing::FeedRow;
using testing::Toy;

// Half of all samples are right, whatever they say.
class Chance final : public Judge {
 public:
  double score(const Problem&, const Response& response) const override {
    return static_cast<double>(response.text.size() % 2);
  }
};

TrainReport report_of(const std::filesystem::path& folder, DeviceKind device, Precision precision,
                      Arithmetic arithmetic, float temperature, int problems = 6) {
  Toy toy;
  toy.model = Model::load(folder, {.device = {device}, .precision = precision});
  toy.soft = std::make_shared<SoftVocab>(toy.model);
  toy.row = toy.soft->add("ROW", std::vector<TokenId>{5, 6});
  EngineOptions with;
  with.arithmetic = arithmetic;
  with.cache_tokens = 1 << 15;
  with.soft = toy.soft;
  toy.engine = std::make_unique<Engine>(toy.model, with);
  toy.options.rollout.guides = {std::make_shared<FeedRow>(toy.row)};
  toy.options.rollout.max_new_tokens = 100;
  toy.options.rollout.sampling.temperature = temperature;
  toy.options.prompt_of = [&](const Problem& problem) {
    std::vector<TokenId> prompt = testing::ids(std::stoi(problem.question), 30);
    for (TokenId& id : prompt) id %= toy.model->vocab_size();
    return prompt;
  };
  return toy.trainer(std::make_shared<Chance>()).step(testing::problems(problems));
}

// Sums in another order, and nothing else.
TEST(Gap, OnACpuIsThatOfFloat32) {
  for (const Arithmetic arithmetic : {Arithmetic::fast, Arithmetic::row_invariant})
    for (const float temperature : {1.0f, 0.6f}) {
      const TrainReport report = report_of(PENSIVE_REASONER, DeviceKind::cpu, Precision::float32,
                                           arithmetic, temperature, 2);
      EXPECT_GT(report.gradient_norm, 0);
      EXPECT_GT(report.mean_logprob_gap, 0);
      EXPECT_LT(report.mean_logprob_gap, 1e-5) << "at " << temperature;
      EXPECT_LT(report.max_logprob_gap, 1e-4) << "at " << temperature;
      std::cout << (arithmetic == Arithmetic::fast ? "fast" : "row-invariant") << ", at "
                << temperature << ": " << report.mean_logprob_gap << " in the mean, "
                << report.max_logprob_gap << " at most\n";
    }
}

// The same of samples that are all as long.
class Letters final : public Judge {
 public:
  double score(const Problem&, const Response& response) const override {
    int sum = 0;
    for (const char letter : response.text) sum += letter;
    return sum % 2;
  }
};

// Feeds the row, takes three tokens back for it and two more for words; ends when it will.
std::shared_ptr<Guide> takes_back(TokenId row) {
  return testing::scripted([row](const Moment& moment) -> Action {
    if (moment.origin != Origin::sampled) return Proceed{};
    if (moment.new_tokens == 9) return Force{{row}, 3};
    if (moment.new_tokens == 13 || moment.new_tokens == 31) return Force{{9, 8}, 2};
    return Proceed{};
  });
}

// What exact logprobs are asked to be equal for.
struct ExactRun {
  DeviceKind device = DeviceKind::cpu;
  Precision precision = Precision::float32;
  Branch branch = Branch::at_prompt;
  std::int64_t cache_tokens = 1 << 15;
  int page_tokens = 16, inner_steps = 1, problems = 2, new_tokens = 60;
  double kl = 0;
  Logprobs logprobs = Logprobs::exact;
};

struct ExactFound {
  TrainReport report;
  std::vector<double> moved;
  std::int64_t preemptions = 0;
};

ExactFound exact_step(const std::filesystem::path& folder, const ExactRun& run) {
  Toy toy;
  toy.model = Model::load(folder, {.device = {run.device}, .precision = run.precision});
  toy.soft = std::make_shared<SoftVocab>(toy.model);
  toy.row = toy.soft->add("ROW", std::vector<TokenId>{5, 6});
  EngineOptions with = testing::exact();
  with.cache_tokens = run.cache_tokens;
  with.page_tokens = run.page_tokens;
  with.soft = toy.soft;
  toy.engine = std::make_unique<Engine>(toy.model, with);
  toy.options.rollout.guides = {std::make_shared<FeedRow>(toy.row), takes_back(toy.row)};
  toy.options.rollout.max_new_tokens = run.new_tokens;
  toy.options.rollout.sampling.temperature = 0.8f;
  toy.options.branch = run.branch;
  toy.options.inner_steps = run.inner_steps;
  toy.options.kl = run.kl;
  toy.options.logprobs = run.logprobs;
  toy.options.max_importance_weight = 2;
  toy.options.prompt_of = [&](const Problem& problem) {
    std::vector<TokenId> prompt = testing::ids(std::stoi(problem.question), 37);
    for (TokenId& id : prompt) id %= toy.model->vocab_size();
    return prompt;
  };
  const std::vector<float> before = toy.soft->row(toy.row);
  ExactFound found;
  found.report = toy.trainer(std::make_shared<Letters>()).step(testing::problems(run.problems));
  const std::vector<float> after = toy.soft->row(toy.row);
  for (std::size_t i = 0; i < after.size(); ++i) found.moved.push_back(after[i] - before[i]);
  found.preemptions = toy.engine->counters().preemptions;
  return found;
}

void expect_no_gap(const std::filesystem::path& folder, const ExactRun& run) {
  SCOPED_TRACE(fmt::format("{} on {}, {} cached, pages of {}, {} inner steps, kl {}",
                           to_string(run.precision), to_string(Device{run.device}),
                           run.cache_tokens, run.page_tokens, run.inner_steps, run.kl));
  const TrainReport report = exact_step(folder, run).report;
  EXPECT_GT(report.gradient_norm, 0);
  EXPECT_EQ(report.mean_logprob_gap, 0);
  EXPECT_EQ(report.max_logprob_gap, 0);
  EXPECT_EQ(report.mean_weight, 1) << "every first ratio is 1";
  EXPECT_EQ(report.kl_nats, 0) << "the row is where it started";
}

// Pages that others share, tokens that are taken back, samples whose pages are gone.
TEST(Gap, OfExactLogprobsIsNoneOnACpu) {
  for (const Precision precision : {Precision::float32, Precision::bfloat16})
    for (const Branch branch : {Branch::at_prompt, Branch::at_soft_token}) {
      ExactRun run{.precision = precision, .branch = branch};
      expect_no_gap(PENSIVE_REASONER, run);
      run.inner_steps = 2;
      run.kl = 0.1;
      run.page_tokens = 5;
      run.cache_tokens = 200;
      expect_no_gap(PENSIVE_REASONER, run);
      EXPECT_GT(exact_step(PENSIVE_REASONER, run).preemptions, 0);
    }
  for (const char* model : {"models/plain", "models/qwen3_default"})
    for (const Precision precision : {Precision::float64, Precision::float16})
      expect_no_gap(testing::data(model), {.precision = precision, .new_tokens = 20});
}

// Where both ways have the bits of float64 they go the same way.
TEST(Gap, OfExactLogprobsLeavesTheGradient) {
  for (const Branch branch : {Branch::at_prompt, Branch::at_soft_token}) {
    ExactRun run{.branch = branch, .inner_steps = 2, .kl = 0.1};
    run.logprobs = Logprobs::fast;
    const ExactFound fast = exact_step(PENSIVE_REASONER, run);
    run.logprobs = Logprobs::exact;
    const ExactFound exact = exact_step(PENSIVE_REASONER, run);
    EXPECT_GT(fast.report.mean_logprob_gap, 0);
    EXPECT_NEAR(exact.report.gradient_norm / fast.report.gradient_norm, 1, 1e-4);
    EXPECT_NEAR(exact.report.loss, fast.report.loss, 1e-5);
    EXPECT_NEAR(exact.report.entropy_nats, fast.report.entropy_nats, 1e-4);
    EXPECT_EQ(exact.report.mean_reward, fast.report.mean_reward);
  }
}

TEST(Gap, OfExactLogprobsIsNoneOnACard) {
  if (!testing::has_cuda()) GTEST_SKIP() << "no CUDA device";
  for (const Precision precision :
       {Precision::bfloat16, Precision::float16, Precision::float32, Precision::float64}) {
    ExactRun run{.device = DeviceKind::cuda, .precision = precision, .problems = 6};
    expect_no_gap(PENSIVE_REASONER, run);
    run.branch = Branch::at_soft_token;
    run.inner_steps = 2;
    run.kl = 0.1;
    run.page_tokens = 5;
    run.cache_tokens = 400;
    expect_no_gap(PENSIVE_REASONER, run);
  }
}

// Rounding to bfloat16 between kernels that sum in other orders is what is left; logits and what
// layers add up are float32 on both sides.
TEST(Gap, BetweenEngineAndTrainerIsBounded) {
  if (!testing::has_cuda()) GTEST_SKIP() << "no CUDA device";
  for (const Arithmetic arithmetic : {Arithmetic::fast, Arithmetic::row_invariant})
    for (const auto& [precision, mean, largest] : {std::tuple{Precision::bfloat16, 1e-2, 0.8},
                                                   {Precision::float16, 2e-3, 0.2},
                                                   {Precision::float32, 1e-5, 1e-3}})
      for (const float temperature : {1.0f, 0.6f}) {
        const TrainReport report =
            report_of(PENSIVE_REASONER, DeviceKind::cuda, precision, arithmetic, temperature);
        EXPECT_GT(report.gradient_norm, 0);
        EXPECT_GT(report.mean_logprob_gap, 0);
        EXPECT_LT(report.mean_logprob_gap, mean) << to_string(precision) << " at " << temperature;
        EXPECT_LT(report.max_logprob_gap, largest) << to_string(precision) << " at " << temperature;
        std::cout << to_string(precision)
                  << (arithmetic == Arithmetic::fast ? ", fast" : ", row-invariant") << ", at "
                  << temperature << ": " << report.mean_logprob_gap << " in the mean, "
                  << report.max_logprob_gap << " at most\n";
      }
}

}  // namespace
}  // namespace pensive
