// Prompts by packed attention against attention row by row, on a card.
#include <ATen/record_function.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <atomic>
#include <cmath>

#include "engine_helpers.h"
#include "kernels/packed.h"

namespace pensive::testing {
namespace {

std::shared_ptr<const Model> brief_model() {
  const TempDir folder;
  write_tiny(folder.path());
  return Model::load(folder.path(),
                     {.device = {DeviceKind::cuda}, .precision = Precision::bfloat16});
}

// How often libtorch's flash attention was called.
class FlashCalls {
 public:
  FlashCalls() : handle_(at::addGlobalCallback(at::RecordFunctionCallback(count))) { calls_ = 0; }
  ~FlashCalls() { at::removeCallback(handle_); }
  FlashCalls(const FlashCalls&) = delete;
  FlashCalls& operator=(const FlashCalls&) = delete;
  int number() const { return calls_; }

 private:
  static std::unique_ptr<at::ObserverContext> count(const at::RecordFunction& called) {
    if (std::string_view(called.name()) == "aten::_flash_attention_forward") ++calls_;
    return nullptr;
  }
  static inline std::atomic<int> calls_ = 0;
  at::CallbackHandle handle_;
};

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

class EnginePrompts : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_cuda()) GTEST_SKIP() << "no CUDA card here";
    model_ = brief_model();
    const auto options = at::dtype(at::kBFloat16).device(at::kCUDA);
    if (!kernels::has_flash(at::empty({1, 1, model_->info().head_dim}, options)))
      GTEST_SKIP() << "no flash attention on this card";
  }

  std::shared_ptr<const Model> model_;
};

TEST_F(EnginePrompts, PackedEqualRowByRow) {
  const auto& model = model_;
  const FlashCalls packed;
  // So few tokens a step are not worth packing.
  const std::vector<float> expected = scores(model, Arithmetic::fast, 60, 0);
  ASSERT_EQ(expected.size(), 150u);
  ASSERT_EQ(packed.number(), 0);
  for (const int tokens_per_step : {512, 96})
    for (const int others : {0, 3}) {
      const int before = packed.number();
      const std::vector<float> found = scores(model, Arithmetic::fast, tokens_per_step, others);
      EXPECT_GT(packed.number(), before) << tokens_per_step << " a step beside " << others;
      ASSERT_EQ(found.size(), expected.size());
      double gap = 0;
      for (std::size_t i = 0; i < found.size(); ++i) gap += std::abs(found[i] - expected[i]);
      EXPECT_LT(gap / 150, 0.02) << tokens_per_step << " a step beside " << others;
    }
}

// Packing lays the keys of all that stands before the pieces side by side: too many, and they go
// row by row, which gathers none.
TEST_F(EnginePrompts, ManyShortPiecesBehindLongSequencesAreNotPacked) {
  const FlashCalls packed;
  const auto calls_of_a_step = [&](int sequences, int fed) {
    EngineOptions options;
    options.cache_tokens = 8192;
    options.max_tokens_per_step = 96;
    options.reuse_prefixes = false;
    Engine engine(model_, options);
    std::vector<Sequence> all;
    for (int i = 0; i < sequences; ++i) {
      all.push_back(engine.start(plain_request(ids(i, 250), 3, 200)));
      while (all.back().trace().decoded_tokens() == 0) engine.step();
    }
    for (Sequence& one : all) one.feed(ids(9, fed));
    const int before = packed.number();
    engine.step();
    for (const Sequence& one : all) EXPECT_EQ(one.trace().error, "");
    return packed.number() - before;
  };
  EXPECT_GT(calls_of_a_step(2, 40), 0);
  EXPECT_EQ(calls_of_a_step(4, 20), 0);  // 1,080 positions, of which 512 + 4 x 96 are gathered
}

// A prompt's first pieces draw nothing and are not waited for: a host that goes on under another
// stream finds their keys all the same.
TEST_F(EnginePrompts, PiecesUnderDifferentStreamsAreInOrder) {
  const c10::impl::VirtualGuardImpl streams(at::kCUDA);
  const at::Device card(at::kCUDA, 0);
  const at::Tensor busy = at::randn({4096, 4096}, at::dtype(at::kFloat).device(card));
  const auto logprobs = [&](bool changes) {
    EngineOptions options;
    options.cache_tokens = 1024;
    options.max_tokens_per_step = 96;
    Engine engine(model_, options);
    Sequence sequence = engine.start(plain_request(ids(7, 250), 3, 8));
    const c10::Stream before = streams.getStream(card);
    if (changes) streams.exchangeStream(streams.getNewStream(card, 0));
    for (int i = 0; i < 20; ++i) at::mm(busy, busy);  // some 50 ms
    engine.step();
    streams.exchangeStream(before);
    engine.finish(sequence);
    EXPECT_EQ(sequence.trace().error, "");
    const std::vector<float>& all = sequence.trace().logprobs;
    return std::vector<float>(all.end() - 8, all.end());
  };
  EXPECT_EQ(logprobs(true), logprobs(false));
}

}  // namespace
}  // namespace pensive::testing
