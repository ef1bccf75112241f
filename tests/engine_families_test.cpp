// Every family through the whole engine: what it draws and reports is what its decoder says alone.
#include <c10/core/InferenceMode.h>

#include "engine_helpers.h"
#include "model/parts.h"

namespace pensive {
namespace {

using namespace pensive::testing;

// Logprobs of every token of a sequence at its place, by plain attention over the whole: [tokens].
std::vector<double> logprobs_of(const Model& model, const std::vector<TokenId>& tokens) {
  const c10::InferenceMode inference;
  const Decoder& decoder = *model.parts().decoder;
  WholeAttention attention;
  at::Tensor list = at::empty({static_cast<std::int64_t>(tokens.size())}, at::kLong);
  for (std::size_t i = 0; i < tokens.size(); ++i) list[static_cast<std::int64_t>(i)] = tokens[i];
  const at::Tensor hidden = decoder.forward(
      decoder.embed(list), at::arange(list.size(0), at::kLong), attention, Arithmetic::fast);
  const at::Tensor all = decoder.head(hidden, Arithmetic::fast).to(at::kDouble).log_softmax(-1);
  std::vector<double> found(1);
  for (std::size_t i = 1; i < tokens.size(); ++i)
    found.push_back(all[static_cast<std::int64_t>(i) - 1][tokens[i]].item<double>());
  return found;
}

class EngineFamilies : public ::testing::TestWithParam<const char*> {};

TEST_P(EngineFamilies, ReportTheLogprobsOfTheirDecoder) {
  for (const Precision precision : {Precision::float32, Precision::as_stored}) {
    const auto model = Model::load(data("models") / GetParam(),
                                   {.device = {DeviceKind::cpu}, .precision = precision});
    const bool is_brief = model->info().precision != Precision::float32;
    for (const Arithmetic arithmetic : {Arithmetic::fast, Arithmetic::row_invariant}) {
      EngineOptions options = exact();
      options.arithmetic = arithmetic;
      Engine engine(model, options);
      const Sequence sequence = engine.start(plain_request(ids(3, 70), 5, 24));
      while (engine.step() != 0) {
      }
      const Trace& trace = sequence.trace();
      ASSERT_EQ(trace.tokens.size(), 94u) << trace.error;
      const std::vector<double> expected = logprobs_of(*model, trace.tokens);
      for (std::size_t i = 70; i < trace.tokens.size(); ++i)
        EXPECT_NEAR(trace.logprobs[i], expected[i], is_brief ? 0.1 : 1e-4) << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, EngineFamilies,
                         ::testing::Values("llama_yarn", "llama_biased", "mistral_default",
                                           "qwen2_default", "qwen3_default", "qwen3_linear"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace pensive
