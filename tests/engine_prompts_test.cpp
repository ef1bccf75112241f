// Prompts by packed attention against row-invariant arithmetic, which goes row by row, on a card.
#include <cmath>

#include "engine_helpers.h"

namespace pensive::testing {
namespace {

std::shared_ptr<const Model> brief_model() {
  const TempDir folder;
  write_tiny(folder.path());
  return Model::load(folder.path(),
                     {.device = {DeviceKind::cuda}, .precision = Precision::bfloat16});
}

// Logprobs of a continuation, while others decode; the prompt comes in pieces of the step's limit.
std::vector<float> scores(const std::shared_ptr<const Model>& model, Arithmetic arithmetic,
                          int tokens_per_step, int others) {
  EngineOptions options;
  options.arithmetic = arithmetic;
  options.cache_tokens = 8192;
  options.max_tokens_per_step = tokens_per_step;
  Engine engine(model, options);
  std::vector<Sequence> decoding;
  for (int i = 0; i < others; ++i) {
    decoding.push_back(engine.start(plain_request(ids(i, 5 + i), 3, 300)));
    engine.step();
  }
  std::vector<TokenId> prompt = ids(7, 250);
  return engine.score(prompt, ids(11, 150));
}

TEST(EnginePrompts, PackedEqualRowByRow) {
  if (!has_cuda()) GTEST_SKIP() << "no CUDA card here";
  const auto model = brief_model();
  const std::vector<float> expected = scores(model, Arithmetic::row_invariant, 512, 0);
  ASSERT_EQ(expected.size(), 150u);
  for (const int tokens_per_step : {512, 96})
    for (const int others : {0, 3}) {
      const std::vector<float> found = scores(model, Arithmetic::fast, tokens_per_step, others);
      ASSERT_EQ(found.size(), expected.size());
      double gap = 0;
      for (std::size_t i = 0; i < found.size(); ++i) gap += std::abs(found[i] - expected[i]);
      EXPECT_LT(gap / 150, 0.02) << tokens_per_step << " a step beside " << others;
      EXPECT_GT(gap, 0) << "the same bits: packed attention was not there";
    }
}

}  // namespace
}  // namespace pensive::testing
