// The doors of the engine: what a caller sees of requests, sequences and steps.
#include <atomic>
#include <cmath>
#include <thread>

#include "engine/access.h"
#include "engine_helpers.h"

namespace pensive::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<TokenId> finish(Engine& engine, const Request& request) {
  Sequence sequence = engine.start(request);
  engine.finish(sequence);
  return sequence.trace().kept();
}

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

TEST(Engine, CancelEndsAtTheNextStepFromAnyThread) {
  Engine engine(tiny_model());
  Sequence sequence = engine.start(plain_request(ids(1, 9), 1, 400));
  Sequence other = engine.start(plain_request(ids(2, 9), 1, 8));
  engine.step();
  std::thread([&] { sequence.cancel(); }).join();
  EXPECT_FALSE(sequence.finished());
  EXPECT_EQ(engine.step(), 1);
  EXPECT_EQ(sequence.trace().stopped, StopReason::cancelled);
  EXPECT_EQ(sequence.trace().tokens.size(), 10u);
  engine.finish(other);
  sequence.cancel();
  engine.step();
  other.cancel();
  engine.step();
  EXPECT_EQ(other.trace().stopped, StopReason::length);
}

TEST(Engine, AGuideThatThrowsEndsOnlyItsOwnSequence) {
  Engine engine(tiny_model(), exact());
  const auto expected = finish(engine, plain_request(ids(2, 9)));
  Request bad = plain_request(ids(1, 9));
  bad.guides = {scripted([](const Moment& m) -> Action {
    if (m.new_tokens == 3) throw std::runtime_error("no more");
    return Proceed{};
  })};
  Sequence thrower = engine.start(bad), other = engine.start(plain_request(ids(2, 9)));
  engine.finish(other);
  EXPECT_EQ(other.trace().kept(), expected);
  EXPECT_EQ(thrower.trace().stopped, StopReason::error);
  EXPECT_EQ(thrower.trace().error, "guide scripted: no more");
}

TEST(Engine, SequencesMayBeDroppedOnOtherThreads) {
  EngineOptions options;
  options.cache_tokens = 640;
  Engine engine(tiny_model(), options);
  for (int round = 0; round < 5; ++round) {
    std::vector<Sequence> sequences;
    for (int i = 0; i < 12; ++i) sequences.push_back(engine.start(plain_request(ids(i, 9), 1, 40)));
    std::vector<Sequence> kept;
    for (int i = 0; i < 4; ++i) kept.push_back(sequences[static_cast<std::size_t>(i)].fork());
    std::thread dropper([&] {
      for (std::size_t i = 0; i < sequences.size(); ++i) {
        if (i % 3 == 0) sequences[i].cancel();
        const Sequence gone = std::move(sequences[i]);
        std::this_thread::yield();
      }
    });
    for (int i = 0; i < 10; ++i) engine.step();
    dropper.join();
    engine.finish(kept);
    for (const Sequence& sequence : kept) EXPECT_EQ(sequence.trace().stopped, StopReason::length);
  }
  expect_no_leak(engine);
}

TEST(Engine, ASequenceOutlivesItsEngine) {
  auto engine = std::make_unique<Engine>(tiny_model());
  Sequence done = engine->start(plain_request(ids(1, 9), 1, 5));
  engine->finish(done);
  Sequence live = engine->start(plain_request(ids(2, 9), 1, 50));
  engine->step();
  engine.reset();
  EXPECT_EQ(done.trace().tokens.size(), 14u);
  EXPECT_TRUE(cached_prefix(done, 9).has_value());
  EXPECT_FALSE(live.finished());
  live.cancel();
  const std::vector<TokenId> more{5};
  EXPECT_ERROR(live.feed(more), ErrorCode::invalid_argument, "an engine that still exists");
  EXPECT_ERROR(live.fork(), ErrorCode::invalid_argument, "an engine that still exists");
}

TEST(Engine, MovedSequencesGiveBackWhatTheyHeld) {
  Engine engine(tiny_model());
  {
    Sequence first = engine.start(plain_request(ids(1, 9)));
    Sequence second = engine.start(plain_request(ids(2, 9)));
    engine.step();
    first = std::move(second);
    EXPECT_EQ(engine.step(), 1);
    EXPECT_EQ(first.trace().tokens[0], ids(2, 9)[0]);
  }
  expect_no_leak(engine);
}

TEST(Engine, FeedIsRefusedAfterTheEndAndForForeignIds) {
  Engine engine(tiny_model());
  Sequence sequence = engine.start(plain_request(ids(1, 9), 1, 6));
  const std::vector<TokenId> good{5, 6}, bad{5, 64};
  EXPECT_ERROR(sequence.feed(bad), ErrorCode::invalid_argument, "64");
  sequence.feed(good);
  engine.finish(sequence);
  EXPECT_EQ(sequence.trace().origins[10], Origin::forced);
  EXPECT_EQ(sequence.trace().tokens.size(), 15u);
  EXPECT_ERROR(sequence.feed(good), ErrorCode::invalid_argument, "not finished");
}

TEST(Engine, AForkOfAFinishedSequenceIsFinished) {
  Engine engine(tiny_model());
  Sequence sequence = engine.start(plain_request(ids(1, 9), 1, 4));
  engine.finish(sequence);
  Sequence fork = sequence.fork();
  EXPECT_TRUE(fork.finished());
  EXPECT_EQ(fork.trace().kept(), sequence.trace().kept());
  EXPECT_TRUE(cached_prefix(fork, 12).has_value());
}

TEST(Engine, AForkStreamsOnlyWhatIsItsOwn) {
  Engine engine(tiny_model());
  Sequence sequence = engine.start(plain_request(ids(1, 9), 1, 6));
  for (int i = 0; i < 3; ++i) engine.step();
  Sequence fork = sequence.fork(Draws::same);
  const auto whole = sequence.take_events().at(0).text;
  engine.finish(sequence);
  engine.finish(fork);
  EXPECT_EQ(fork.take_events().at(0).text, sequence.take_events().at(0).text);
  EXPECT_EQ(whole.front(), 'w');
}

TEST(Engine, FinishRefusesSequencesOfAnotherEngine) {
  Engine first(tiny_model()), second(tiny_model());
  Sequence sequence = first.start(plain_request(ids(1, 9)));
  EXPECT_ERROR(second.finish(sequence), ErrorCode::invalid_argument, "of this engine");
}

TEST(Engine, AnsweringAProbeDoesNotDisturbTheSequence) {
  Engine engine(tiny_model(), exact());
  const auto undisturbed = finish(engine, plain_request(ids(1, 9), 4));
  std::vector<TokenId> reply, prefix;
  std::vector<float> logprobs;
  auto guide = scripted([&](const Moment& m) -> Action {
    if (m.new_tokens != 6) return Proceed{};
    prefix.assign(m.tokens.begin(), m.tokens.end() - 2);
    return Probe{2, {20, 21}, {}, 0, 5};
  });
  guide->reply = [&](const ProbeReply& answer) -> Action {
    reply.assign(answer.tokens.begin(), answer.tokens.end());
    logprobs.assign(answer.logprobs.begin(), answer.logprobs.end());
    EXPECT_FALSE(answer.text.empty());
    return Proceed{};
  };
  Request request = plain_request(ids(1, 9), 4);
  request.guides = {guide};
  Sequence sequence = engine.start(request);
  engine.finish(sequence);
  EXPECT_EQ(sequence.trace().kept(), undisturbed);
  EXPECT_EQ(sequence.trace().probe_tokens, 7);
  EXPECT_EQ(sequence.trace().decoded_tokens(), 24 + 7);

  prefix.insert(prefix.end(), {20, 21});
  Request plain = plain_request(prefix, 1, 5);
  plain.sampling.temperature = 0.0f;
  Sequence twin = engine.start(plain);
  engine.finish(twin);
  const std::span<const TokenId> tokens(twin.trace().tokens);
  EXPECT_TRUE(std::ranges::equal(reply, tokens.subspan(prefix.size())));
  const std::span<const float> expected(twin.trace().logprobs);
  EXPECT_TRUE(std::ranges::equal(logprobs, expected.subspan(prefix.size())));
}

TEST(Engine, AProbeStopsAtItsStopText) {
  Engine engine(tiny_model(), exact());
  std::string text;
  auto guide = scripted([&](const Moment& m) -> Action {
    return m.new_tokens == 2 ? Action(Probe{0, {}, {"w2", "w3"}, 1, 60}) : Action(Proceed{});
  });
  guide->reply = [&](const ProbeReply& answer) -> Action {
    text = answer.text;
    return Stop{};
  };
  Request request = plain_request(ids(1, 9), 4);
  request.guides = {guide};
  Sequence sequence = engine.start(request);
  engine.finish(sequence);
  EXPECT_EQ(sequence.trace().stopped, StopReason::guide);
  const auto place = std::min(text.find("w2"), text.find("w3"));
  ASSERT_NE(place, std::string::npos) << text;
  EXPECT_EQ(text.find(' ', place), std::string::npos) << text;
}

TEST(Engine, AProbeIsRefusedWhereNoPageIsFree) {
  EngineOptions options;
  options.cache_tokens = 32;
  Engine engine(tiny_model(), options);
  int refused = 0;
  auto guide = scripted([&](const Moment& m) -> Action {
    return m.new_tokens == 2 ? Action(Probe{0, {}, {}, 1, 60}) : Action(Proceed{});
  });
  guide->reply = [&](const ProbeReply& answer) -> Action {
    refused += answer.is_refused ? 1 : 0;
    EXPECT_TRUE(answer.tokens.empty());
    return Proceed{};
  };
  Request request = plain_request(ids(1, 9), 4, 6);
  request.guides = {guide};
  finish(engine, request);
  EXPECT_EQ(refused, 1);
  expect_no_leak(engine);
}

TEST(Engine, ProbesGoWithTheSequenceThatAsked) {
  Engine engine(tiny_model());
  const auto guide = scripted([](const Moment&) -> Action { return Probe{0, {}, {}, 1, 60}; });
  Request request = plain_request(ids(1, 9), 4);
  request.guides = {guide};
  {
    Sequence dropped = engine.start(request), cancelled = engine.start(request);
    for (int i = 0; i < 4; ++i) engine.step();
    Sequence fork = dropped.fork();
    engine.step();
    cancelled.cancel();
    { const Sequence gone = std::move(dropped); }
    EXPECT_EQ(engine.step(), 1);
    EXPECT_TRUE(cancelled.finished());
  }
  expect_no_leak(engine);
}

TEST(Engine, AFailedStepChangesNothing) {
  Engine engine(tiny_model(), exact());
  Sequence first = engine.start(plain_request(ids(1, 21), 3));
  engine.finish(first);
  Sequence second = engine.start(plain_request(ids(1, 21), 3));
  for (int i = 0; !second.finished(); ++i) {
    Sequence fork = second.fork(Draws::same);
    engine.parts()->scheduler.plan();
    engine.parts()->scheduler.roll_back();
    engine.step();
    if (i % 3 != 0) continue;
    engine.finish(fork);
    EXPECT_EQ(print(fork.trace()), print(first.trace()));
  }
  EXPECT_EQ(print(second.trace()), print(first.trace()));
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
  request.guides = {scripted([&](const Moment& m) -> Action {
                      return m.new_tokens == 4 ? Action(Force{{full_stop}, 0}) : Action(Proceed{});
                    }),
                    margin_brake({.closer = {11}, .max_margin_nats = 100})};
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
