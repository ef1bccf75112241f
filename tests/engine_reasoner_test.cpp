// The embedded model thinks, and guides steer it.
#include <cmath>
#include <cstring>

#include "engine_helpers.h"

namespace pensive::testing {
namespace {

class Reasoner : public ::testing::Test {
 protected:
  void SetUp() override {
    model_ = Model::load(PENSIVE_REASONER,
                         {.device = {DeviceKind::cpu}, .precision = Precision::float32});
    wait_ = model_->tokenizer()->find("Wait, ").value();
  }

  Request request(int number) const {
    Request request;
    const std::string question =
        std::to_string(10 + number * 7 % 90) + " + " + std::to_string(10 + number * 13 % 90);
    request.prompt = chat_prompt(model_->tokenizer(), "thorough")({"", question, ""});
    request.sampling.seed = 3;
    request.sampling.temperature = 1.0f;
    request.sample = static_cast<std::uint32_t>(number);
    request.max_new_tokens = 300;
    return request;
  }

  std::vector<Trace> run(const EngineOptions& options, const Request& changes, int count) const {
    Engine engine(model_, options);
    std::vector<Sequence> sequences;
    for (int i = 0; i < count; ++i) {
      Request one = request(i);
      one.guides = changes.guides;
      one.closing = changes.closing;
      sequences.push_back(engine.start(one));
    }
    engine.finish(sequences);
    std::vector<Trace> traces;
    for (const Sequence& sequence : sequences) traces.push_back(sequence.trace());
    return traces;
  }

  std::shared_ptr<const Model> model_;
  TokenId wait_ = 0;
};

TEST_F(Reasoner, ThinksThenAnswersAndEndsItsTurn) {
  int ended = 0;
  for (const Trace& trace : run({}, {}, 16)) {
    if (trace.stopped != StopReason::end_token) continue;
    ++ended;
    EXPECT_GT(trace.count(Segment::think), 0);
    EXPECT_GT(trace.count(Segment::answer), 0);
  }
  EXPECT_GT(ended, 8);
}

TEST_F(Reasoner, GoesOnThinkingWhereItWantedToStop) {
  Request changes;
  changes.guides = {continue_thinking({.with = {wait_}, .times = 2})};
  const TokenId closer = model_->tokenizer()->find("</think>").value();
  int replaced = 0;
  for (const Trace& trace : run({}, changes, 16)) {
    for (std::size_t i = 0; i < trace.tokens.size(); ++i) {
      if (trace.is_taken_back[i] == 0) continue;
      ++replaced;
      EXPECT_EQ(trace.tokens[i], closer);
      EXPECT_EQ(trace.origins[i], Origin::sampled);
      EXPECT_FALSE(std::isnan(trace.logprobs[i]));
      EXPECT_EQ(trace.tokens[i + 1], wait_);
      EXPECT_EQ(trace.origins[i + 1], Origin::forced);
    }
    EXPECT_LE(trace.actions.size(), 2u);
  }
  EXPECT_GT(replaced, 16);
}

TEST_F(Reasoner, ABudgetEndsEveryThoughtInTime) {
  Request changes;
  changes.guides = {budget({.max_think_tokens = 12, .window_tokens = 4})};
  for (const Trace& trace : run({}, changes, 16)) {
    EXPECT_LE(trace.count(Segment::think), 12);
    if (trace.stopped == StopReason::end_token) {
      EXPECT_GT(trace.count(Segment::answer), 0);
    }
  }
}

TEST_F(Reasoner, AMarginBrakeClosesAfterALine) {
  const TokenId closer = model_->tokenizer()->find("</think>").value();
  Request changes;
  changes.guides = {
      margin_brake({.closer = {closer}, .max_margin_nats = 50, .at = Boundary::line})};
  int braked = 0;
  for (const Trace& trace : run({}, changes, 16)) {
    for (const TraceAction& action : trace.actions) {
      EXPECT_EQ(action.reason, "brake");
      EXPECT_EQ(trace.is_taken_back[static_cast<std::size_t>(action.position)], 1);
      EXPECT_EQ(trace.tokens[static_cast<std::size_t>(action.position) + 1], closer);
      ++braked;
    }
  }
  EXPECT_GT(braked, 8);
}

TEST_F(Reasoner, ARowEqualToAWordDoesWhatTheWordDoes) {
  const auto soft = std::make_shared<SoftVocab>(model_);
  const std::vector<TokenId> mean{wait_};
  const TokenId row = soft->add("<more>", mean);
  EngineOptions options;
  options.soft = soft;
  options.arithmetic = Arithmetic::row_invariant;
  Request word, learned;
  word.guides = {continue_thinking({.with = {wait_}, .times = 1})};
  learned.guides = {continue_thinking({.with = {row}, .times = 1})};
  const auto with_word = run(options, word, 24), with_row = run(options, learned, 24);
  int used = 0;
  for (std::size_t i = 0; i < with_word.size(); ++i) {
    auto tokens = with_row[i].tokens;
    used += static_cast<int>(std::ranges::count(tokens, row));
    std::ranges::replace(tokens, row, wait_);
    EXPECT_EQ(tokens, with_word[i].tokens);
    EXPECT_EQ(std::memcmp(with_row[i].logprobs.data(), with_word[i].logprobs.data(),
                          tokens.size() * sizeof(float)),
              0);
  }
  EXPECT_GT(used, 8);
}

TEST_F(Reasoner, AnswersInABatchWhatItAnswersAlone) {
  EngineOptions options;
  options.arithmetic = Arithmetic::row_invariant;
  const auto together = run(options, {}, 12);
  for (int i : {0, 5, 11}) {
    Engine engine(model_, options);
    Sequence sequence = engine.start(request(i));
    engine.finish(sequence);
    EXPECT_EQ(print(sequence.trace()), print(together[static_cast<std::size_t>(i)]));
  }
}

}  // namespace
}  // namespace pensive::testing
