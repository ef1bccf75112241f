// The lives of sequences: cancelled, dropped, forked, fed, outliving their engine; and probes.
#include <algorithm>
#include <atomic>
#include <limits>
#include <stdexcept>
#include <thread>

#include "engine/access.h"
#include "engine_helpers.h"

namespace pensive::testing {
namespace {

TEST(EngineLife, CancelEndsAtTheNextStepFromAnyThread) {
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

TEST(EngineLife, AGuideThatThrowsEndsOnlyItsOwnSequence) {
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

TEST(EngineLife, SequencesMayBeDroppedOnOtherThreads) {
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

TEST(EngineLife, AnEngineThatGoesDuringItsThreadsTurnIsFreedAfterIt) {
  std::weak_ptr<Engine::Parts> parts;
  {
    auto engine = std::make_unique<Engine>(tiny_model());
    parts = engine->parts();
    const Sequence sequence = engine->start(plain_request(ids(1, 9)));
    const auto outer = std::make_unique<Turn>(*engine);
    {
      const Turn inner(*engine);
      engine.reset();
    }
    EXPECT_FALSE(parts.expired());
  }
  EXPECT_TRUE(parts.expired());
}

TEST(EngineLife, CountersMayBeReadFromAnyThread) {
  Engine engine(tiny_model());
  const auto pages = engine.counters().pages;
  std::atomic<bool> is_over = false;
  std::thread reader([&] {
    while (!is_over) {
      const EngineCounters now = engine.counters();
      EXPECT_EQ(now.pages, pages);
      EXPECT_LE(now.live + now.waiting, 8);
      EXPECT_LE(now.free_pages, pages);
    }
  });
  for (int round = 0; round < 20; ++round) {
    std::vector<Sequence> sequences;
    for (int i = 0; i < 8; ++i) sequences.push_back(engine.start(plain_request(ids(i, 9), 1, 12)));
    EXPECT_EQ(engine.counters().live + engine.counters().waiting, 8);
    engine.finish(sequences);
    EXPECT_EQ(engine.counters().live, 0);
  }
  is_over = true;
  reader.join();
}

TEST(EngineLife, ASequenceOutlivesItsEngine) {
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

TEST(EngineLife, MovedSequencesGiveBackWhatTheyHeld) {
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

TEST(EngineLife, FeedIsRefusedAfterTheEndAndForForeignIds) {
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

TEST(EngineLife, AForkOfAFinishedSequenceIsFinished) {
  Engine engine(tiny_model());
  Sequence sequence = engine.start(plain_request(ids(1, 9), 1, 4));
  engine.finish(sequence);
  Sequence fork = sequence.fork();
  EXPECT_TRUE(fork.finished());
  EXPECT_EQ(fork.trace().kept(), sequence.trace().kept());
  EXPECT_TRUE(cached_prefix(fork, 12).has_value());
}

TEST(EngineLife, AForkStreamsOnlyWhatIsItsOwn) {
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

TEST(EngineLife, FinishRefusesSequencesOfAnotherEngine) {
  Engine first(tiny_model()), second(tiny_model());
  Sequence sequence = first.start(plain_request(ids(1, 9)));
  EXPECT_ERROR(second.finish(sequence), ErrorCode::invalid_argument, "of this engine");
}

TEST(EngineLife, AnsweringAProbeDoesNotDisturbTheSequence) {
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

TEST(EngineLife, AProbeStopsAtItsStopText) {
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

TEST(EngineLife, AProbeIsRefusedWhereNoPageIsFree) {
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

TEST(EngineLife, ProbesAtOnePlaceDrawAnew) {
  Engine engine(tiny_model(), exact());
  std::vector<std::vector<TokenId>> replies;
  const Probe probe{0, {}, {}, 1, 8};
  auto guide = scripted(
      [&](const Moment& m) -> Action { return m.new_tokens == 2 ? Action(probe) : Proceed{}; });
  guide->reply = [&](const ProbeReply& answer) -> Action {
    replies.emplace_back(answer.tokens.begin(), answer.tokens.end());
    return replies.size() % 2 == 1 ? Action(probe) : Proceed{};
  };
  Request request = plain_request(ids(1, 9), 4);
  request.guides = {guide};
  finish(engine, request);
  finish(engine, request);
  ASSERT_EQ(replies.size(), 4u);
  EXPECT_NE(replies[0], replies[1]);
  EXPECT_EQ(replies[0], replies[2]);
  EXPECT_EQ(replies[1], replies[3]);
}

TEST(EngineLife, AProbeMayAskForMoreThanThePositionsHold) {
  Engine engine(tiny_model(), exact());
  std::vector<std::size_t> sizes;
  auto guide = scripted([&](const Moment& m) -> Action {
    return m.new_tokens == 1 ? Action(Probe{0, {5, 6}, {}, 1, std::numeric_limits<int>::max()})
                             : Proceed{};
  });
  guide->reply = [&](const ProbeReply& answer) -> Action {
    sizes.push_back(answer.tokens.size());
    EXPECT_FALSE(answer.is_refused);
    return Proceed{};
  };
  for (const int prompt : {tiny_positions - 20, tiny_positions - 2}) {
    Request request = plain_request(ids(1, prompt), 4);
    request.guides = {guide};
    finish(engine, request);
  }
  EXPECT_EQ(sizes, (std::vector<std::size_t>{17, 0}));
}

TEST(EngineLife, AProbeThatIsNotAnsweredIsCounted) {
  Engine engine(tiny_model());
  Request request = plain_request(ids(1, 9), 4);
  request.guides = {scripted([](const Moment&) -> Action { return Probe{0, {5, 6}, {}, 1, 60}; })};
  Sequence sequence = engine.start(request);
  for (int i = 0; i < 5; ++i) engine.step();
  EXPECT_EQ(sequence.trace().probe_tokens, 0);
  sequence.cancel();
  engine.step();
  EXPECT_EQ(sequence.trace().stopped, StopReason::cancelled);
  EXPECT_EQ(sequence.trace().probe_tokens, 2 + 4);
}

TEST(EngineLife, AGuideThatOnlyAsksEndsInAnError) {
  Engine engine(tiny_model());
  int asked = 0;
  auto guide = scripted([&](const Moment& m) -> Action {
    return m.new_tokens == 2 ? Action(Probe{0, {}, {}, 1, 1}) : Proceed{};
  });
  guide->reply = [&](const ProbeReply&) -> Action {
    ++asked;
    return Probe{0, {}, {}, 1, 1};
  };
  Request request = plain_request(ids(1, 9), 4);
  request.guides = {guide};
  Sequence sequence = engine.start(request);
  engine.finish(sequence);
  EXPECT_EQ(asked, 64);
  EXPECT_EQ(sequence.trace().stopped, StopReason::error);
  EXPECT_EQ(sequence.trace().probe_tokens, 64);
  EXPECT_THAT(sequence.trace().error, ::testing::HasSubstr("guide scripted: expected at most 64"));
}

TEST(EngineLife, GuidesMayNotCallTheEngineThatAsksThem) {
  Engine engine(tiny_model(), exact());
  const auto expected = finish(engine, plain_request(ids(1, 9)));
  Sequence other = engine.start(plain_request(ids(2, 9), 1, 400));
  const std::vector<TokenId> fed{5};
  const std::function<void()> calls[] = {
      [&] { engine.step(); },       [&] { engine.start(plain_request(ids(3, 9))); },
      [&] { other.fork(); },        [&] { other.feed(fed); },
      [&] { other.rewind(0); },     [&] { engine.clear_prefixes(); },
      [&] { engine.finish(other); }};
  const auto try_all = [&](const Moment&) -> Action {
    for (const auto& call : calls) {
      const auto error = error_of(call);
      EXPECT_TRUE(error && error->code() == ErrorCode::busy);
      if (error) {
        EXPECT_THAT(error->what(), ::testing::HasSubstr("one caller at a time, outside guides"));
      }
    }
    return Proceed{};
  };
  auto guide = scripted(try_all);
  guide->begin = try_all;
  Request request = plain_request(ids(1, 9));
  request.guides = {guide};
  EXPECT_EQ(finish(engine, request), expected);
  request.guides = {scripted([&](const Moment&) -> Action {
    engine.step();
    return Proceed{};
  })};
  Sequence sequence = engine.start(request);
  engine.finish(sequence);
  EXPECT_EQ(sequence.trace().stopped, StopReason::error);
  EXPECT_THAT(
      sequence.trace().error,
      ::testing::HasSubstr("a call from a guide or a callback while the engine is at work (step)"));
  for (const auto& call : calls) EXPECT_FALSE(error_of(call));
}

TEST(EngineLife, ProbesGoWithTheSequenceThatAsked) {
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

}  // namespace
}  // namespace pensive::testing
