// The doors of the engine: what a caller sees of requests, sequences and steps.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>

#include <cmath>

#include "engine/access.h"
#include "engine/quietly.h"
#include "engine_helpers.h"

namespace pensive::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Engine, GeneratesUntilTheLimit) {
  Engine engine(tiny_model());
  Sequence sequence = engine.start(plain_request(ids(1, 20), 5, 12));
  EXPECT_FALSE(sequence.finished());
  engine.finish(sequence);
  const Trace& trace = sequence.trace();
  EXPECT_EQ(trace.stopped, StopReason::length);
  EXPECT_EQ(trace.prompt_tokens, 20);
  EXPECT_EQ(trace.tokens.size(), 32u);
  EXPECT_EQ(trace.seed, 5u);
  EXPECT_EQ(trace.sample, 0u);
  for (int i = 20; i < 32; ++i) {
    EXPECT_LT(trace.logprobs[i], 0);
    EXPECT_GT(trace.entropies_nats[i], 0);
    EXPECT_EQ(trace.origins[i], Origin::sampled);
    EXPECT_LT(trace.tokens[i], tiny_vocab);
  }
  EXPECT_TRUE(std::isnan(trace.logprobs[19]));
}

TEST(Engine, DrawsByTheSeedAndTheSampleOnly) {
  Engine engine(tiny_model(), exact());
  Request request = plain_request(ids(1, 9), 7);
  const auto first = finish(engine, request);
  EXPECT_EQ(finish(engine, request), first);
  request.sample = 1;
  EXPECT_EQ(engine.start(request).trace().sample, 1u);
  EXPECT_NE(finish(engine, request), first);
  request.sample = 0;
  request.sampling.seed = 8;
  EXPECT_NE(finish(engine, request), first);
}

TEST(Engine, RecordsTheSeedItTakes) {
  Engine engine(tiny_model(), exact());
  Request request = plain_request(ids(1, 9));
  request.sampling.seed.reset();
  Sequence sequence = engine.start(request);
  engine.finish(sequence);
  Sequence other = engine.start(request);
  EXPECT_NE(other.trace().seed, sequence.trace().seed);
  request.sampling.seed = sequence.trace().seed;
  EXPECT_EQ(finish(engine, request), sequence.trace().kept());
}

TEST(Engine, GreedyTakesTheLikeliestToken) {
  Engine engine(tiny_model());
  Request request = plain_request(ids(1, 9));
  request.sampling.temperature = 0.0f;
  int seen = 0;
  request.guides = {scripted([&](const Moment& m) -> Action {
    EXPECT_EQ(m.token, m.top_token);
    EXPECT_EQ(m.logprob, m.top_logprob);
    ++seen;
    return Proceed{};
  })};
  finish(engine, request);
  EXPECT_EQ(seen, 24);
}

TEST(Engine, TakesUnsetSamplingFromTheCheckpoint) {
  Engine engine(tiny_model());
  Request request = plain_request(ids(1, 9));
  request.sampling = {};
  const Sequence sequence = engine.start(request);
  EXPECT_EQ(sequence.parts()->draw.temperature, 0.7f);
  EXPECT_EQ(sequence.parts()->draw.top_p, 0.9f);
  EXPECT_EQ(sequence.parts()->draw.top_k, 20);
}

TEST(Engine, EndsAtAStopTokenThatIsKeptButNotStreamed) {
  Engine engine(tiny_model());
  Request request = plain_request(ids(1, 9), 1, 400);
  request.extra_stop_tokens = {20, 21, 22, 23, 24};
  Sequence sequence = engine.start(request);
  engine.finish(sequence);
  const Trace& trace = sequence.trace();
  ASSERT_EQ(trace.stopped, StopReason::end_token);
  EXPECT_GE(trace.tokens.back(), 20);
  EXPECT_LE(trace.tokens.back(), 24);
  const auto kept = trace.kept();
  std::string text;
  for (const TextEvent& event : sequence.take_events()) text += event.text;
  EXPECT_EQ(text,
            engine.model()->tokenizer()->decode(std::span(kept).subspan(9, kept.size() - 10)));
}

TEST(Engine, KnowsTheCheckpointsEndTokensUnlessToldNotTo) {
  Engine engine(tiny_model());
  Request request = plain_request(ids(1, 9), 3, 400);
  request.ignore_end_tokens = false;
  int ended = 0;
  for (request.sample = 0; request.sample < 10; ++request.sample) {
    Sequence sequence = engine.start(request);
    engine.finish(sequence);
    if (sequence.trace().stopped != StopReason::end_token) continue;
    ++ended;
    EXPECT_THAT(engine.model()->stop_tokens(), ::testing::Contains(sequence.trace().tokens.back()));
  }
  EXPECT_GT(ended, 0);
}

TEST(Engine, StreamsTypedTextAsItComes) {
  Engine engine(tiny_model());
  Request request = plain_request({5, 10, 6}, 2, 40);
  request.markers = tiny_markers();
  Sequence sequence = engine.start(request);
  std::string streamed, think;
  bool is_finished = false;
  while (!is_finished) {
    is_finished = engine.step() == 0;
    for (const TextEvent& event : sequence.take_events()) {
      streamed += event.text;
      if (event.segment == Segment::think) think += event.text;
    }
  }
  std::vector<TokenId> all, thought;
  const Trace& trace = sequence.trace();
  for (std::size_t i = 3; i < trace.tokens.size(); ++i) {
    if (trace.is_marker[i] != 0) continue;
    all.push_back(trace.tokens[i]);
    if (trace.segments[i] == Segment::think) thought.push_back(trace.tokens[i]);
  }
  const auto spaceless = [](std::string text) {
    std::erase(text, ' ');
    return text;
  };
  const auto text = engine.model()->tokenizer();
  EXPECT_EQ(spaceless(streamed), spaceless(text->decode(all)));
  EXPECT_EQ(spaceless(think), spaceless(text->decode(thought)));
  EXPECT_FALSE(think.empty());
}

TEST(Engine, EndsWhereThePositionsEnd) {
  Engine engine(tiny_model());
  Sequence sequence = engine.start(plain_request(ids(1, tiny_positions - 3), 1, 50));
  Sequence full = engine.start(plain_request(ids(1, tiny_positions), 1, 50));
  engine.finish(sequence);
  engine.finish(full);
  EXPECT_EQ(sequence.trace().stopped, StopReason::length);
  EXPECT_EQ(sequence.trace().tokens.size(), static_cast<std::size_t>(tiny_positions));
  EXPECT_EQ(full.trace().tokens.size(), static_cast<std::size_t>(tiny_positions) + 1);
}

TEST(Engine, EndsWhatAloneIsTooLongForTheCache) {
  EngineOptions options;
  options.cache_tokens = 32;
  Engine engine(tiny_model(), options);
  {
    Sequence sequence = engine.start(plain_request(ids(1, 20), 1, 100));
    engine.finish(sequence);
    EXPECT_EQ(sequence.trace().stopped, StopReason::length);
    EXPECT_EQ(sequence.trace().tokens.size(), 33u);
  }
  expect_no_leak(engine);
}

TEST(Engine, CapsHowManyRun) {
  EngineOptions options;
  options.max_live_sequences = 3;
  Engine engine(tiny_model(), options);
  std::vector<Sequence> sequences;
  for (int i = 0; i < 8; ++i) sequences.push_back(engine.start(plain_request(ids(i, 5), 1, 6)));
  EXPECT_EQ(engine.counters().waiting, 8);
  engine.step();
  EXPECT_EQ(engine.counters().live, 3);
  EXPECT_EQ(engine.counters().waiting, 5);
  engine.finish(sequences);
  EXPECT_EQ(engine.counters().live, 0);
}

TEST(Engine, CountsWhatItDoes) {
  Engine engine(tiny_model(), exact());
  finish(engine, plain_request(ids(1, 40), 1, 4));
  const EngineCounters cold = engine.counters();
  EXPECT_EQ(cold.steps, 4);
  EXPECT_EQ(cold.computed_tokens, 43);
  EXPECT_EQ(cold.reused_tokens, 0);
  finish(engine, plain_request(ids(1, 40), 2, 4));
  EXPECT_EQ(engine.counters().reused_tokens, 32);
  EXPECT_EQ(engine.counters().computed_tokens, 43 + 11);
  engine.clear_prefixes();
  finish(engine, plain_request(ids(1, 40), 2, 4));
  EXPECT_EQ(engine.counters().reused_tokens, 32);
  expect_no_leak(engine);
}

TEST(Engine, FinishedSequencesKeepPagesButNoPrefixesThatWereForgotten) {
  Engine engine(tiny_model(), exact());
  const Request request = plain_request(ids(1, 40), 1, 24);
  const auto reused = [&] {
    const std::int64_t before = engine.counters().reused_tokens;
    const Sequence one = engine.start(request);
    engine.step();
    return engine.counters().reused_tokens - before;
  };
  Sequence finished = engine.start(request);
  engine.finish(finished);
  const std::vector<TokenId> tokens = finished.trace().kept();
  EXPECT_EQ(reused(), 32);
  engine.clear_prefixes();
  EXPECT_EQ(reused(), 0);

  engine.clear_prefixes();
  const std::int64_t before = engine.counters().computed_tokens;
  finished.rewind(4, Draws::same);
  Sequence fork = finished.fork(Draws::same);
  engine.finish(finished);
  engine.finish(fork);
  EXPECT_EQ(finished.trace().kept(), tokens);
  EXPECT_EQ(fork.trace().kept(), tokens);
  EXPECT_EQ(engine.counters().computed_tokens - before, 2 * 4);  // from its pages

  // Of one that runs, the prefix is in use; though one that is finished uses it too.
  engine.clear_prefixes();
  Sequence running = engine.start(request);
  engine.finish(running);
  running.rewind(20);
  Sequence ended = running.fork();
  ended.cancel();
  engine.step();
  engine.clear_prefixes();
  EXPECT_EQ(reused(), 32);
  engine.finish(running);
  engine.clear_prefixes();
  EXPECT_EQ(reused(), 0);
}

TEST(Engine, AFailedStepChangesNothing) {
  Engine engine(tiny_model(), exact());
  Sequence first = engine.start(plain_request(ids(1, 21), 3));
  Sequence other = engine.start(plain_request(ids(2, 9), 4));
  engine.finish(first);
  engine.finish(other);
  Sequence second = engine.start(plain_request(ids(1, 21), 3));
  Sequence beside = engine.start(plain_request(ids(2, 9), 4));
  for (int i = 0; !second.finished(); ++i) {
    Sequence fork = second.fork(Draws::same);
    const std::string before = print(second.trace()), before_beside = print(beside.trace());
    // Both were computed when the draw of one is refused.
    second.parts()->draw.top_p = 2;
    EXPECT_ERROR(engine.step(), ErrorCode::invalid_argument, "top_p");
    second.parts()->draw.top_p = 1;
    EXPECT_EQ(print(second.trace()), before);
    EXPECT_EQ(print(beside.trace()), before_beside);
    engine.step();
    if (i % 3 != 0) continue;
    engine.finish(fork);
    EXPECT_EQ(print(fork.trace()), print(first.trace()));
  }
  engine.finish(beside);
  EXPECT_EQ(print(second.trace()), print(first.trace()));
  EXPECT_EQ(print(beside.trace()), print(other.trace()));
}

TEST(Engine, SaysWhatToLowerWhereMemoryEnds) {
  // Torch's CPU allocator fails at once where nobody has so much.
  const auto take_all = [] { at::empty({std::int64_t{1} << 55}); };
  EXPECT_ERROR(quietly(take_all), ErrorCode::out_of_memory, "max_tokens_per_step");
  EXPECT_ERROR(quietly(take_all, "EngineOptions::cache_tokens"), ErrorCode::out_of_memory,
               "lower EngineOptions::cache_tokens");
  EXPECT_ERROR(quietly([] { at::zeros({2}).view({3}); }), ErrorCode::device, "libtorch");
}

TEST(Engine, LeavesTorchAsItFoundItAndTakesNoHarmFromIt) {
  Engine plain(tiny_model(), exact());
  const auto expected = finish(plain, plain_request(ids(1, 9)));
  const c10::InferenceMode inference;
  Engine engine(tiny_model(), exact());
  Sequence sequence = engine.start(plain_request(ids(1, 9)));
  engine.finish(sequence);
  EXPECT_TRUE(c10::InferenceMode::is_enabled());
  EXPECT_FALSE(at::GradMode::is_enabled());
  EXPECT_EQ(sequence.trace().kept(), expected);
  const auto prefix = cached_prefix(sequence, 9);
  ASSERT_TRUE(prefix);
  EXPECT_FALSE(prefix->keys.is_inference());
  EXPECT_FALSE(engine.parts()->runner.cache().keys[0].is_inference());
}

// The host's settings as a test wants them, and as they were at the end of a scope.
class HostModes {
 public:
  HostModes() {
    at::autocast::set_autocast_enabled(at::kCPU, true);
    c10::set_default_dtype(caffe2::TypeMeta::Make<double>());
    at::set_num_threads(1);
  }
  ~HostModes() {
    at::autocast::set_autocast_enabled(at::kCPU, false);
    c10::set_default_dtype(dtype_);
    at::set_num_threads(threads_);
  }

 private:
  caffe2::TypeMeta dtype_ = c10::get_default_dtype();
  int threads_ = at::get_num_threads();
};

TEST(Engine, TakesNoHarmFromTheHostsModesAndLeavesThemOn) {
  Engine plain(tiny_model(), exact());
  const auto expected = finish(plain, plain_request(ids(1, 9)));
  const at::Generator& random = at::detail::getDefaultCPUGenerator();
  const at::Tensor state = random.get_state();
  const HostModes modes;
  for (const bool records : {true, false}) {
    const at::AutoGradMode gradients(records);
    Engine engine(tiny_model(), exact());
    EXPECT_EQ(finish(engine, plain_request(ids(1, 9))), expected);
    EXPECT_EQ(at::GradMode::is_enabled(), records);
    EXPECT_FALSE(engine.parts()->runner.cache().keys[0].requires_grad());
  }
  EXPECT_TRUE(at::autocast::is_autocast_enabled(at::kCPU));
  EXPECT_EQ(c10::get_default_dtype(), caffe2::TypeMeta::Make<double>());
  EXPECT_EQ(at::get_num_threads(), 1);
  EXPECT_TRUE(at::equal(random.get_state(), state));
}

TEST(Engine, HandsOutTheCachedPrefixWhileItHasIt) {
  EngineOptions options = exact();
  options.cache_tokens = 64;
  Engine engine(tiny_model(), options);
  Sequence sequence = engine.start(plain_request(ids(1, 21), 3, 6));
  EXPECT_FALSE(cached_prefix(sequence, 1));
  engine.finish(sequence);
  const auto prefix = cached_prefix(sequence, 25);
  ASSERT_TRUE(prefix);
  EXPECT_EQ(prefix->keys.sizes(), (std::vector<std::int64_t>{2, 25, 2, 8}));
  EXPECT_FALSE(cached_prefix(sequence, 27));
  Sequence fork = sequence.fork();
  EXPECT_TRUE(at::equal(cached_prefix(fork, 25)->values, prefix->values));
  finish(engine, plain_request(ids(2, 50), 3, 6));
  EXPECT_FALSE(cached_prefix(sequence, 25));
}

TEST(Engine, MarginBrakeClosesAfterASentenceInPlaceOfTheTokenDrawn) {
  const auto soft = std::make_shared<SoftVocab>(tiny_model());
  const std::vector<TokenId> mean{5};
  const TokenId full_stop = soft->add(".", mean);
  Engine engine(tiny_model(), {.soft = soft, .cache_tokens = 256});
  Request request = plain_request({5, 10}, 3, 20);
  request.markers = tiny_markers();
  request.sampling.temperature = 0.0f;
  request.guides = {
      scripted([&](const Moment& m) -> Action {
        return m.new_tokens == 4 ? Action(Force{{full_stop}, 0}) : Action(Proceed{});
      }),
      margin_brake({.closer = {11}, .max_margin_nats = 100, .at = Boundary::sentence})};
  Sequence sequence = engine.start(request);
  engine.finish(sequence);
  const Trace& trace = sequence.trace();
  ASSERT_EQ(trace.actions.size(), 2u);
  EXPECT_EQ(trace.actions[1].reason, "brake");
  EXPECT_EQ(trace.actions[1].guide, "margin_brake");
  EXPECT_EQ(trace.actions[1].position, 7);
  EXPECT_EQ(trace.tokens[6], full_stop);
  EXPECT_EQ(trace.is_taken_back[7], 1);
  EXPECT_EQ(trace.tokens[8], 11);
  EXPECT_EQ(trace.is_marker[8], 1);
  EXPECT_EQ(trace.segments[9], Segment::answer);
}

TEST(Engine, ChatPromptSpeaksTheCheckpointsTemplate) {
  const auto tokenizer = Tokenizer::load(PENSIVE_REASONER);
  const Problem problem{"1", "7 + 5", "12"};
  const std::vector<Message> chat{{"system", "brief"}, {"user", "7 + 5"}};
  EXPECT_EQ(chat_prompt(tokenizer, "brief")(problem), tokenizer->encode_chat(chat));
  EXPECT_EQ(chat_prompt(tokenizer)(problem), tokenizer->encode_chat(std::span(chat).subspan(1)));
  EXPECT_ERROR(chat_prompt(nullptr), ErrorCode::invalid_argument, "a tokenizer");
}

}  // namespace
}  // namespace pensive::testing
