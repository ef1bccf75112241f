// The suffix gradient through every family, in float64, against a plain backward.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine_helpers.h"
#include "train_tiny.h"

namespace pensive {
namespace {

class TrainFamilies : public ::testing::TestWithParam<const char*> {};

TEST_P(TrainFamilies, SuffixGradientsEqualWholeOnes) {
  const auto model = Model::load(testing::data("models") / GetParam(),
                                 {.device = {DeviceKind::cpu}, .precision = Precision::float64});
  const TokenId soft = model->vocab_size();
  const at::Tensor rows =
      at::arange(model->info().width, at::kDouble).mul(1.7).cos().mul(0.6).unsqueeze(0);
  const std::string id = std::to_string(soft);
  std::vector<Suffix> suffixes;
  for (const std::string& words : {"p11 p12 p13 s14 x5 f" + id + " s6 s7 s8 s9",
                                   "p20 p21 f" + id + " s6 x100 x7 x8 f" + id + " s201"}) {
    suffixes.push_back(*testing::suffix_of(words, soft));
    suffixes.back().advantage = suffixes.size() == 1 ? 0.7 : -1.2;
  }
  const SuffixSetting setting{.decoder = *model->parts().decoder,
                              .rows = rows,
                              .row = soft,
                              .temperature = 0.8,
                              .loss = {.denominator = 7}};
  const SuffixResult found = suffix_backward(setting, suffixes, [](int) { return std::nullopt; });
  const testing::WholeResult expected = testing::whole_backward(setting, suffixes);
  EXPECT_NEAR(found.loss, expected.loss, 1e-9);
  const at::Tensor gradient = at::tensor(found.gradient, at::kDouble);
  const double size = expected.gradient.norm().item<double>();
  EXPECT_GT(size, 1e-4);
  EXPECT_LT((gradient - expected.gradient).norm().item<double>(), 1e-9 * size);
}

INSTANTIATE_TEST_SUITE_P(All, TrainFamilies,
                         ::testing::Values("llama_yarn", "llama_biased", "mistral_default",
                                           "qwen2_default", "qwen3_default", "qwen3_linear"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace pensive
