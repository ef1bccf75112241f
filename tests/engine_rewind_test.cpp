// Rewinding is never having gone there: bit for bit, over random schedules, with guides that keep a
// state, under a pool so small that sequences are preempted.
#include <algorithm>
#include <array>
#include <random>
#include <stdexcept>

#include "engine_helpers.h"

namespace pensive::testing {
namespace {

using ::testing::HasSubstr;

// The columns as they would be had nothing been rewound.
std::string world(const Sequence& sequence) {
  const Trace& trace = sequence.trace();
  const Record& record = sequence.parts()->record;
  std::string text = fmt::format("{} {}\n", to_string(trace.stopped), trace.error);
  for (int row : record.world()) {
    const auto i = static_cast<std::size_t>(row);
    text +=
        fmt::format("{} {:a} {:a} {:a} {}{}{}{}\n", trace.tokens[i], trace.logprobs[i],
                    trace.drawn_logprobs[i], trace.entropies_nats[i], to_string(trace.segments[i]),
                    static_cast<int>(trace.origins[i]), trace.is_marker[i], trace.is_taken_back[i]);
  }
  return text;
}

std::string text_of(Sequence& sequence) {
  std::string text;
  for (const TextEvent& event : sequence.take_events())
    text += fmt::format("[{} {}]{}", to_string(event.segment), event.index, event.text);
  return text;
}

// Steers by all that it has ever seen, done and heard of.
struct Historian final : Guide {
  std::uint64_t seen = 7;
  bool is_asking = false;  // whether it probes
  std::string_view name() const override { return "historian"; }
  std::vector<TokenId> watches() const override { return {20, 30}; }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<Historian>(*this); }
  void see(std::uint64_t what) { seen = kernels::mix(seen, what); }

  Action on_start(const Moment& moment) override {
    see(static_cast<std::uint64_t>(moment.token));
    return seen % 4 == 0 ? Action(Force{{21, 22}, 0}) : Proceed{};
  }
  Action on_token(const Moment& moment) override {
    see(static_cast<std::uint64_t>(moment.token));
    see(std::hash<std::string_view>{}(moment.tail));
    if (moment.origin == Origin::sampled) {
      see(std::hash<float>{}(moment.top_logprob));
      see(std::hash<float>{}(moment.watched[1]));
    }
    if (seen % 11 == 0 && moment.new_tokens > 3) return Force{{20, 21, 23}, 3};
    if (seen % 13 == 0 && moment.new_tokens > 3) return Force{{}, 2, {{30, 1.0f, 0}}};
    if (seen % 5 == 0) return Proceed{{{30, 4.0f, 0}, {31, 0, 0.5f}}};
    if (seen % 17 == 0) return Allow{{0xffffff00u, 0xff00ffffu}};
    if (is_asking && seen % 7 == 0) return Probe{1, {24}, {}, 1.0f, 3};
    return Proceed{};
  }
  Action on_probe(const ProbeReply& reply) override {
    for (const TokenId id : reply.tokens) see(static_cast<std::uint64_t>(id));
    for (const float logprob : reply.logprobs) see(std::hash<float>{}(logprob));
    return seen % 3 == 0 ? Action(Force{{25}, 1}) : Proceed{};
  }
  void on_done(const Done& done) override { see(done.was_mine ? 3 : 5); }
};

class Rewinding : public ::testing::Test {
 protected:
  int draw(int below) { return static_cast<int>(random_() % static_cast<unsigned>(below)); }

  Request request(bool with_probes) {
    Request request = plain_request(ids(draw(3), 1 + draw(40)), random_(), 8 + draw(30));
    request.prompt.back() = draw(2) == 0 ? 10 : 5;
    request.markers = tiny_markers();
    request.ignore_end_tokens = draw(2) == 0;
    if (draw(4) == 0) request.sampling.temperature = 0.0f;
    if (draw(2) == 0) request.guides.push_back(continue_thinking({.with = {20, 21}, .times = 2}));
    if (draw(2) == 0)
      request.guides.push_back(budget({.max_think_tokens = 4 + draw(9), .window_tokens = 3}));
    auto historian = std::make_shared<Historian>();
    historian->is_asking = with_probes;
    if (draw(3) > 0) request.guides.push_back(historian);
    return request;
  }

  // A sequence that goes astray and comes back, and the twin that stayed.
  struct Pair {
    Sequence twin, stray;
    int detours = 0;  // still to go
    bool is_away = false;
    bool is_read = false;  // whether text was taken on the way: then there is none to compare
    int parted = 0;        // rows where they part
    int settled = 0;       // rows that a feed of both must not be undone from
    bool is_lost = false;  // no way back to where they parted
  };

  void leave(Pair& pair) {
    if (pair.is_away || pair.detours == 0 || pair.stray.finished()) return;
    pair.parted = pair.stray.parts()->record.rows();
    pair.is_away = true;
    if (draw(2) == 0) pair.stray.feed(ids(draw(50), 1 + draw(6)));
    ++detours_;
  }

  // To the last kept token of the time before: guides may have taken some of those back since, and
  // a token behind which more was forced is no place where the sequence ever stood.
  void come_back(Pair& pair) {
    const Record& record = pair.stray.parts()->record;
    const auto is_place = [&](int kept) {
      const int rows = record.rows_at(kept);
      if (rows > pair.parted) return false;
      const auto& world = record.world();
      const auto next = static_cast<std::size_t>(rows);
      return rows == pair.parted || next == world.size() ||
             record.trace.origins[static_cast<std::size_t>(world[next])] == Origin::sampled;
    };
    // Rewinding no token would undo nothing, neither a feed that waits nor what was taken back.
    int kept = record.new_tokens() - 1;
    while (kept >= 0 && !is_place(kept)) --kept;
    if (kept < 0 || record.rows_at(kept) < pair.settled) {
      pair.is_lost = true;
      return;
    }
    revived_ += pair.stray.finished() ? 1 : 0;
    pair.stray.rewind(record.new_tokens() - kept, Draws::same);
    EXPECT_EQ(record.new_tokens(), kept);
    pair.is_away = false;
    --pair.detours;
  }

  void disturb(Pair& pair) {
    if (pair.is_lost) return;
    if (!pair.is_away && draw(5) == 0) leave(pair);
    if (pair.is_away && draw(8) == 0) {  // the fork goes on in its place
      pair.stray = pair.stray.fork(Draws::same);
      pair.is_read = true;
    }
    if (draw(30) == 0) {
      pair.stray.take_events();
      pair.is_read = true;
    }
    if (pair.is_away && draw(4) == 0) come_back(pair);
    if (pair.is_away || pair.is_lost || pair.twin.finished() || pair.stray.finished()) return;
    const bool are_level = pair.twin.parts()->record.rows() == pair.stray.parts()->record.rows();
    if (!are_level || pair.twin.parts()->probe || pair.stray.parts()->probe || draw(12) > 0) return;
    const auto fed = ids(draw(50), 1 + draw(4));
    pair.twin.feed(fed);
    pair.stray.feed(fed);
    pair.settled = pair.stray.parts()->record.rows();
  }

  void settle(Engine& engine, Pair& pair) {
    while (!pair.is_lost) {
      engine.finish(pair.stray);
      if (!pair.is_away) break;
      come_back(pair);
    }
    engine.finish(pair.twin);
    if (pair.is_lost) return;
    ++pairs_;
    ASSERT_EQ(world(pair.stray), world(pair.twin));
    if (!pair.is_read) {
      ASSERT_EQ(text_of(pair.stray), text_of(pair.twin));
    }
    ASSERT_EQ(pair.stray.trace().kept(), pair.twin.trace().kept());
  }

  void play(std::uint64_t seed, const EngineOptions& options, bool with_probes);

  std::mt19937_64 random_;
  std::int64_t preemptions_ = 0;
  int detours_ = 0, revived_ = 0, pairs_ = 0;
};

void Rewinding::play(std::uint64_t seed, const EngineOptions& options, bool with_probes) {
  random_.seed(seed);
  Engine engine(tiny_model(), options);
  {
    std::vector<Pair> pairs;
    std::vector<Sequence> strangers;
    for (int i = 0; i < 60; ++i) {
      if (pairs.size() < 5 && draw(4) == 0) {
        const Request wanted = request(with_probes);
        pairs.push_back({engine.start(wanted), engine.start(wanted), 1 + draw(4)});
      }
      if (draw(6) == 0) strangers.push_back(engine.start(request(with_probes)));
      if (!strangers.empty() && draw(6) == 0) strangers.pop_back();
      if (!strangers.empty() && draw(9) == 0) strangers.back().cancel();
      engine.step();
      for (Pair& pair : pairs) disturb(pair);
    }
    strangers.clear();
    for (Pair& pair : pairs) {
      settle(engine, pair);
      if (HasFatalFailure()) return;
    }
  }
  expect_no_leak(engine);
  preemptions_ += engine.counters().preemptions;
}

TEST_F(Rewinding, IsNeverHavingGoneThere) {
  EngineOptions options = exact();
  options.max_tokens_per_step = 40;
  for (std::uint64_t seed = 0; seed < 60 && !HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    play(seed, options, true);
  }
  EXPECT_GT(pairs_, 100);
  EXPECT_GT(detours_, pairs_);
  EXPECT_GT(revived_, 20);
}

TEST_F(Rewinding, IsSoWherePagesAreScarce) {
  EngineOptions options = exact();
  options.page_tokens = 4;
  options.cache_tokens = 120;
  options.max_live_sequences = 6;
  options.max_tokens_per_step = 17;
  for (std::uint64_t seed = 100; seed < 250 && !HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    play(seed, options, false);
  }
  EXPECT_GT(pairs_, 100);
  EXPECT_GT(preemptions_, 100);
  EXPECT_GT(revived_, 20);
}

TEST(Rewind, ReturnsPagesAndDrawsAnew) {
  EngineOptions options = exact();
  options.page_tokens = 4;
  options.reuse_prefixes = false;
  Engine engine(tiny_model(), options);
  Sequence sequence = engine.start(plain_request(ids(1, 9), 4, 30));
  for (int i = 0; i < 20; ++i) engine.step();
  const auto before = sequence.trace().kept();
  EXPECT_EQ(engine.counters().pages - engine.counters().free_pages, 7);  // 28 positions
  sequence.rewind(17);
  EXPECT_EQ(engine.counters().pages - engine.counters().free_pages, 3);
  engine.finish(sequence);
  const Trace& trace = sequence.trace();
  EXPECT_EQ(trace.path, std::vector<std::uint32_t>{1});
  EXPECT_EQ(trace.stopped, StopReason::length);
  EXPECT_EQ(trace.decoded_tokens(), 30 + 17);
  const auto after = trace.kept();
  EXPECT_EQ(after.size(), 9u + 30);
  EXPECT_TRUE(std::equal(after.begin(), after.begin() + 12, before.begin()));
  EXPECT_FALSE(std::equal(before.begin() + 12, before.end(), after.begin() + 12));
  EXPECT_EQ(std::ranges::count(trace.is_taken_back, 1), 17);
  ASSERT_EQ(trace.actions.size(), 1u);
  EXPECT_EQ(trace.actions[0].kind, "rewind");
  EXPECT_EQ(trace.actions[0].reason, "fresh");
  EXPECT_EQ(trace.actions[0].taken_back, 17);
  EXPECT_EQ(trace.actions[0].position, 28);
}

TEST(Rewind, IsTheForkThatCouldHaveBeenTaken) {
  Engine engine(tiny_model(), exact());
  Sequence sequence = engine.start(plain_request(ids(1, 9), 4, 30));
  for (int i = 0; i < 6; ++i) engine.step();
  Sequence fork = sequence.fork(Draws::fresh), twin = sequence.fork(Draws::same);
  for (int i = 0; i < 9; ++i) engine.step();
  twin.rewind(9);  // the first that it branches off, as `fork` was of `sequence`
  engine.finish(fork);
  engine.finish(twin);
  EXPECT_EQ(world(twin), world(fork));
}

// What was told is kept in blocks, which forks share: past the first of them too, whoever goes on.
TEST(Rewind, ForksOfALongSequenceGoTheirOwnWays) {
  const auto sequence = [](Engine& engine, int tokens) {
    Request request = plain_request(ids(3, 9), 5, 400);
    request.guides = {std::make_shared<Historian>()};
    Sequence one = engine.start(request);
    while (!one.finished() && one.trace().decoded_tokens() < tokens) engine.step();
    return one;
  };
  Engine engine(tiny_model(), exact());
  Sequence plain = sequence(engine, 400), first = sequence(engine, 300);
  ASSERT_GT(first.parts()->record.rows(), 280);
  Sequence fork = first.fork(Draws::same), other = first.fork(Draws::same);
  fork.rewind(150, Draws::same);  // to before the first block's end
  engine.finish(first);
  engine.finish(fork);
  other.rewind(20, Draws::same);
  engine.finish(other);
  engine.finish(plain);
  for (const Sequence* one : {&first, &fork, &other}) EXPECT_EQ(world(*one), world(plain));
}

TEST(Rewind, TextThatWasHandedOutIsNotHandedOutAgain) {
  Engine engine(tiny_model(), exact());
  Sequence sequence = engine.start(plain_request(ids(1, 9), 4, 12));
  Sequence twin = engine.start(plain_request(ids(1, 9), 4, 12));
  engine.finish(twin);
  const std::string whole = twin.take_events().at(0).text;
  for (int i = 0; i < 4; ++i) engine.step();
  std::string text = sequence.take_events().at(0).text;
  sequence.rewind(3, Draws::same);  // behind what was handed out
  EXPECT_TRUE(sequence.take_events().empty());
  engine.finish(sequence);
  const std::string later = sequence.take_events().at(0).text;
  EXPECT_TRUE(whole.ends_with(later));
  EXPECT_LT(later.size(), whole.size());
  sequence.rewind(8, Draws::same);  // after a seal, and nothing taken since
  engine.finish(sequence);
  Sequence third = engine.start(plain_request(ids(1, 9), 4, 12));
  engine.finish(third);
  third.rewind(5, Draws::same);
  const std::string first = third.take_events().at(0).text;
  EXPECT_TRUE(whole.starts_with(first));
  engine.finish(third);
  EXPECT_EQ(first + third.take_events().at(0).text, whole);
}

TEST(Rewind, RefusesWhatItCannotUndo) {
  Engine engine(tiny_model(), exact());
  constexpr auto bad = ErrorCode::invalid_argument;
  Sequence sequence = engine.start(plain_request(ids(1, 9), 4, 12));
  for (int i = 0; i < 4; ++i) engine.step();
  EXPECT_ERROR(sequence.rewind(5), bad,
               "0 to 4 tokens to take back, for the prompt stays; found 5");
  EXPECT_ERROR(sequence.rewind(-1), bad, "found -1");
  sequence.rewind(0);
  EXPECT_TRUE(sequence.trace().actions.empty());
  sequence.rewind(4);
  EXPECT_EQ(sequence.trace().kept(), ids(1, 9));
  sequence.cancel();
  EXPECT_ERROR(sequence.rewind(0), bad, "a sequence that may go on; found cancelled (rewind)");

  auto dice = std::make_shared<int>(0);
  Request request = plain_request(ids(1, 9), 4, 12);
  request.guides = {scripted([dice](const Moment&) -> Action {
    return ++*dice == 6 ? Action(Force{{20}, 1}) : Proceed{};
  })};
  Sequence forgetful = engine.start(request);
  for (int i = 0; i < 8; ++i) engine.step();
  const auto kept = forgetful.trace().kept();
  EXPECT_ERROR(forgetful.rewind(1), bad, "guides that do the same when they are told the same");
  EXPECT_EQ(forgetful.trace().kept(), kept);
  engine.finish(forgetful);
}

TEST(Rewind, AnErrorCanBeUndone) {
  Engine engine(tiny_model(), exact());
  Request request = plain_request(ids(1, 9), 4, 12);
  auto guide = scripted([](const Moment& m) -> Action {
    if (m.token == 20) throw std::runtime_error("not this one");
    return Proceed{};
  });
  request.guides = {guide};
  Sequence sequence = engine.start(request);
  for (int i = 0; i < 3; ++i) engine.step();
  const std::vector<TokenId> fed{20};
  sequence.feed(fed);
  ASSERT_EQ(sequence.trace().stopped, StopReason::error);
  sequence.rewind(1, Draws::same);
  EXPECT_FALSE(sequence.finished());
  EXPECT_EQ(sequence.trace().error, "");
  engine.step();
  EXPECT_EQ(sequence.trace().kept().size(), 9u + 4);
}

TEST(Rewind, ABudgetStillHolds) {
  Engine engine(tiny_model(), exact());
  Request request = plain_request({5, 10}, 4, 60);
  request.markers = tiny_markers();
  request.guides = {budget({.max_think_tokens = 6, .window_tokens = 0})};
  for (request.sample = 0; request.sample < 10; ++request.sample) {
    Sequence sequence = engine.start(request);
    while (!sequence.finished() && sequence.trace().kept().back() != 11) engine.step();
    sequence.rewind(1);
    EXPECT_NE(sequence.trace().kept().back(), 11);
    engine.finish(sequence);
    EXPECT_LE(sequence.trace().count(Segment::think), 6 + 1);
  }
}

}  // namespace
}  // namespace pensive::testing
