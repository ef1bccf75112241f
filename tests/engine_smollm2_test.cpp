// A real checkpoint's greedy text against what Transformers recorded. tests/make_smollm2.py makes
// the folder; without it these tests are left out.
#include <nlohmann/json.hpp>

#include "base/inside.h"
#include "engine_helpers.h"

namespace pensive::testing {
namespace {

// Leads below this are ties: another order of additions may turn them.
constexpr double tie = 1e-3;

class SmolLM2 : public ::testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    const auto folder = smollm2();
    if (!folder) GTEST_SKIP() << no_smollm2;
    folder_ = *folder;
    if (GetParam() == DeviceKind::cuda && !has_cuda()) GTEST_SKIP() << "no CUDA card here";
    model_ = Model::load(folder_, {.device = {GetParam()}, .precision = Precision::float32});
    chats_ = parse_json(read_text(folder_ / "golden.json"), "golden.json").at("chats");
  }

  std::filesystem::path folder_;
  std::shared_ptr<const Model> model_;
  nlohmann::ordered_json chats_;
};

INSTANTIATE_TEST_SUITE_P(Devices, SmolLM2, ::testing::Values(DeviceKind::cpu, DeviceKind::cuda),
                         [](const auto& info) {
                           return info.param == DeviceKind::cpu ? "Cpu" : "Cuda";
                         });

TEST_P(SmolLM2, GreedyEqualsTransformersTokenForToken) {
  Engine engine(model_, {.cache_tokens = 8192});
  std::vector<Sequence> sequences;
  for (const auto& chat : chats_) {
    Request request = plain_request(chat.at("prompt").get<std::vector<TokenId>>(), 1, 64);
    request.sampling.temperature = 0.0f;
    sequences.push_back(engine.start(request));
  }
  engine.finish(sequences);
  int ties = 0, equal = 0;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const auto expected = chats_[i].at("tokens").get<std::vector<TokenId>>();
    const auto margins = chats_[i].at("margins").get<std::vector<double>>();
    const Trace& trace = sequences[i].trace();
    const std::vector<TokenId> found(trace.tokens.begin() + trace.prompt_tokens,
                                     trace.tokens.end());
    const auto differ = std::mismatch(found.begin(), found.end(), expected.begin()).first;
    const auto at = static_cast<std::size_t>(differ - found.begin());
    if (at == expected.size()) {
      ++equal;
      continue;
    }
    EXPECT_LT(margins[at], tie) << "chat " << i << ", token " << at;
    ++ties;
  }
  RecordProperty("equal", equal);
  RecordProperty("near_ties", ties);
  EXPECT_LE(ties, 2);
  EXPECT_EQ(equal + ties, 20);
}

TEST_P(SmolLM2, EncodesItsChatsAsTransformersDoes) {
  for (const auto& chat : chats_) {
    const Problem problem{"", chat.at("question").get<std::string>(), ""};
    EXPECT_EQ(chat_prompt(model_->tokenizer())(problem),
              chat.at("prompt").get<std::vector<TokenId>>());
  }
}

}  // namespace
}  // namespace pensive::testing
