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
