// Running ahead against waiting for guides, bit for bit. The card is one that computes at once when
// a step is launched, or only when nothing else can go on; decode steps of single operations.
#include <stdexcept>

#include "engine_world.h"

namespace pensive::testing {
namespace {

using Card = kernels::TwinSteps::Card;

class Ahead : public ::testing::TestWithParam<Card> {
 protected:
  void SetUp() override {
    soft_ = std::make_shared<SoftVocab>(model_);
    const std::array<TokenId, 2> mean{20, 21};
    soft_->add("more", mean);
  }

  EngineOptions options() const {
    EngineOptions options = exact();
    options.soft = soft_;
    return options;
  }

  void play(std::uint64_t seed, const EngineOptions& crowded, bool has_probes) {
    StoryTeller teller(seed, true, has_probes);
    Engine engine(model_, crowded);
    kernels::TwinSteps& card = give_card(engine, GetParam());
    card.refuse_every(17);
    {
      std::vector<Telling> tellings;
      const auto act = [&] {
        engine.step();
        for (Telling& telling : tellings) telling.act();
      };
      for (int i = 0; i < 60; ++i) {
        if (tellings.size() < 10 && teller.draw(3) == 0) {
          tellings.emplace_back(teller.story());
          tellings.back().begin(engine);
        }
        act();
      }
      while (!std::ranges::all_of(tellings, [](const Telling& t) { return t.is_finished(); }))
        act();
      for (const Telling& telling : tellings) expect_as_alone(telling);
    }
    expect_no_leak(engine);
    preemptions_ += engine.counters().preemptions;
    steps_ += engine.counters().ahead_steps;
    dropped_ += engine.counters().ahead_dropped;
  }

  // In an engine that waits, with all of the cache for itself, and without the twin.
  void expect_as_alone(const Telling& telling) {
    EngineOptions roomy = options();
    roomy.reuse_prefixes = false;
    Engine engine(model_, roomy);
    const std::vector<std::string> expected = alone(engine, telling.story());
    EXPECT_EQ(engine.counters().ahead_steps, 0);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const auto& member = telling.members()[i];
      ASSERT_EQ(member ? print(member->trace()) : "", expected[i]) << "member " << i;
      members_ += member ? 1 : 0;
      if (member) probes_ += member->trace().probe_tokens;
    }
  }

  std::shared_ptr<const Model> model_ = tiny_model();
  std::shared_ptr<SoftVocab> soft_;
  std::int64_t preemptions_ = 0, steps_ = 0, dropped_ = 0, members_ = 0, probes_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Cards, Ahead, ::testing::Values(Card::fast, Card::slow),
                         [](const auto& info) {
                           return info.param == Card::fast ? "Fast" : "Slow";
                         });

TEST_P(Ahead, NobodySeesItInACrowd) {
  EngineOptions crowded = options();
  crowded.max_tokens_per_step = 40;
  for (std::uint64_t seed = 0; seed < 30 && !HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    play(seed, crowded, true);
  }
  EXPECT_GT(steps_, 100);
  EXPECT_GT(dropped_, 50);
  EXPECT_GT(members_, 100);
  EXPECT_GT(probes_, 0);
}

TEST_P(Ahead, NobodySeesItWherePagesAreScarce) {
  EngineOptions crowded = options();
  crowded.page_tokens = 4;
  crowded.cache_tokens = 120;
  crowded.max_live_sequences = 6;
  crowded.max_tokens_per_step = 17;
  for (std::uint64_t seed = 100; seed < 130 && !HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    play(seed, crowded, false);
  }
  EXPECT_GT(steps_, 100);
  EXPECT_GT(dropped_, 50);
  EXPECT_GT(preemptions_, 20);
}

TEST_P(Ahead, EveryStepButTheFirstIsLaunchedEarly) {
  Request request = plain_request(ids(1, 9), 7, 30);
  for (const bool leans : {false, true}) {
    Engine engine(model_, options());
    give_card(engine, GetParam());
    if (leans)
      request.guides = {scripted([](const Moment&) -> Action { return Proceed{{{5, 1.0f, 0}}}; })};
    finish(engine, request);
    const EngineCounters counters = engine.counters();
    EXPECT_EQ(counters.steps, 30);
    // The prompt's step is no decode step, and after it the first one; biases come as a surprise.
    EXPECT_EQ(counters.ahead_steps, leans ? 27 : 28);
    EXPECT_EQ(counters.ahead_dropped, 0);
  }
}

TEST_P(Ahead, WhatCannotBeForeseenIsWaitedFor) {
  const auto steps = [&](const Request& request) {
    Engine engine(model_, options());
    give_card(engine, GetParam());
    finish(engine, request);
    EXPECT_EQ(engine.counters().ahead_dropped, 0);
    return engine.counters().ahead_steps;
  };
  Request counts = plain_request(ids(1, 9), 7, 20), masked = counts, changing = counts;
  counts.sampling.presence_penalty = 1.0f;
  masked.guides = {scripted([](const Moment&) -> Action { return Allow{{~0u, ~1u}}; })};
  changing.guides = {scripted([](const Moment& m) -> Action {
    return Allow{{~0u, ~0u << m.new_tokens % 30}};
  })};
  EXPECT_EQ(steps(counts), 0);
  EXPECT_EQ(steps(masked), 17);
  EXPECT_EQ(steps(changing), 0);
}

TEST_P(Ahead, WhoObjectsLosesOneStepAndNobodyElseAny) {
  Engine engine(model_, options());
  give_card(engine, GetParam());
  Request calm = plain_request(ids(2, 9), 7, 20), wild = plain_request(ids(1, 9), 7, 20);
  wild.guides = {scripted([](const Moment& m) -> Action {
    if (m.new_tokens == 8) return Force{{5}};
    return Proceed{};
  })};
  Sequence a = engine.start(calm), b = engine.start(wild);
  engine.finish(a);
  EXPECT_EQ(engine.counters().steps, 20);
  engine.finish(b);
  EXPECT_EQ(engine.counters().ahead_dropped, 1);
  Engine waiting(model_, options());
  EXPECT_EQ(a.trace().kept(), finish(waiting, calm));
  EXPECT_EQ(b.trace().kept(), finish(waiting, wild));
}

TEST_P(Ahead, ATokenThatBecameAnotherIsNotTaken) {
  // The clock, the place and the page are those of what is in flight.
  Engine engine(model_, options()), waiting(model_, options());
  give_card(engine, GetParam());
  std::vector<std::string> traces;
  for (Engine* one : {&engine, &waiting}) {
    Sequence sequence = one->start(plain_request(ids(1, 9), 7, 30));
    for (int i = 0; i < 10; ++i) one->step();
    const TokenId last = sequence.trace().tokens.back();
    sequence.rewind(1, Draws::same);
    sequence.feed(std::array<TokenId, 1>{last == 5 ? 6 : 5});
    one->finish(sequence);
    traces.push_back(print(sequence.trace()));
  }
  EXPECT_EQ(traces[0], traces[1]);
  EXPECT_EQ(engine.counters().ahead_dropped, 1);
}

TEST_P(Ahead, AForkSharesNothingThatIsInFlight) {
  EngineOptions small = options();
  small.page_tokens = 4;
  Engine engine(model_, small);
  give_card(engine, GetParam());
  Engine waiting(model_, options());
  for (int after = 3; after < 12; ++after) {
    Sequence sequence = engine.start(plain_request(ids(1, 9), 7, 30));
    for (int i = 0; i < after; ++i) engine.step();
    Sequence same = sequence.fork(Draws::same), fed = sequence.fork(Draws::same);
    fed.feed(ids(5, 3));
    std::vector<Sequence> all;
    all.push_back(std::move(sequence));
    all.push_back(std::move(same));
    all.push_back(std::move(fed));
    engine.finish(all);
    const auto kept = finish(waiting, plain_request(ids(1, 9), 7, 30));
    EXPECT_EQ(all[0].trace().kept(), kept);
    EXPECT_EQ(all[1].trace().kept(), kept);
    Sequence twin = waiting.start(plain_request(ids(1, 9), 7, 30));
    while (twin.trace().tokens.size() < static_cast<std::size_t>(9 + after)) waiting.step();
    twin.feed(ids(5, 3));
    waiting.finish(twin);
    EXPECT_EQ(all[2].trace().kept(), twin.trace().kept());
  }
}

TEST_P(Ahead, AStepThatFailsLeavesEverythingAsItWas) {
  Engine engine(model_, options());
  kernels::TwinSteps& card = give_card(engine, GetParam());
  Sequence a = engine.start(plain_request(ids(1, 9), 7, 30));
  Sequence b = engine.start(plain_request(ids(2, 20), 8, 30));
  for (int i = 1; !a.finished() || !b.finished(); ++i) {
    const std::string before = print(a.trace()) + print(b.trace());
    card.fail_next(i % 4 == 0);
    try {
      engine.step();
    } catch (const std::runtime_error&) {
      ++dropped_;
      EXPECT_EQ(print(a.trace()) + print(b.trace()), before);
    }
  }
  EXPECT_GT(dropped_, 4);
  Engine waiting(model_, options());
  EXPECT_EQ(a.trace().kept(), finish(waiting, plain_request(ids(1, 9), 7, 30)));
  EXPECT_EQ(b.trace().kept(), finish(waiting, plain_request(ids(2, 20), 8, 30)));
}

TEST_P(Ahead, ADeadlineCutsButChangesNothing) {
  Engine engine(model_, options());
  give_card(engine, GetParam());
  Engine waiting(model_, options());
  for (int i = 0; i < 8; ++i) {
    Request request = plain_request(ids(i, 9), 7, 400);
    const std::vector<TokenId> whole = finish(waiting, request);
    request.timeout_seconds = 0.002 * (i + 1);
    Sequence sequence = engine.start(request);
    Sequence other = engine.start(plain_request(ids(3, 9), 1, 40));
    engine.finish(sequence);
    engine.finish(other);
    const std::vector<TokenId> kept = sequence.trace().kept();
    ASSERT_LE(kept.size(), whole.size());
    EXPECT_TRUE(std::equal(kept.begin(), kept.end(), whole.begin()));
    EXPECT_EQ(other.trace().kept(), finish(waiting, plain_request(ids(3, 9), 1, 40)));
  }
  expect_no_leak(waiting);
}

TEST_P(Ahead, OffIsOff) {
  EngineOptions off = options();
  off.run_ahead = false;
  Engine engine(model_, off);
  give_card(engine, GetParam());
  finish(engine, plain_request(ids(1, 9), 7, 30));
  EXPECT_EQ(engine.counters().ahead_steps, 0);
}

}  // namespace
}  // namespace pensive::testing
