// Every fast path against its slow twin, bit for bit: alone and batched, fork and replay, prefix
// hit and cold prefill, preempted and undisturbed, over random schedules.
#include <algorithm>
#include <array>
#include <random>

#include "engine_helpers.h"

namespace pensive::testing {
namespace {

// On the CPU always; on a CUDA card where there is one.
class EngineEqual : public ::testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    if (GetParam() == DeviceKind::cuda && !has_cuda()) GTEST_SKIP() << "no CUDA card here";
    model_ = tiny_model(GetParam());
    soft_ = std::make_shared<SoftVocab>(model_);
    const std::array<TokenId, 2> mean{20, 21};
    soft_->add("more", mean);
  }

  EngineOptions options() const {
    EngineOptions options = exact();
    options.soft = soft_;
    return options;
  }

  Trace run(const Request& request, EngineOptions options) const {
    options.reuse_prefixes = false;
    Engine engine(model_, options);
    Sequence sequence = engine.start(request);
    engine.finish(sequence);
    return sequence.trace();
  }

  std::shared_ptr<const Model> model_;
  std::shared_ptr<SoftVocab> soft_;
};

INSTANTIATE_TEST_SUITE_P(Devices, EngineEqual, ::testing::Values(DeviceKind::cpu, DeviceKind::cuda),
                         [](const auto& info) {
                           return info.param == DeviceKind::cpu ? "Cpu" : "Cuda";
                         });

TEST_P(EngineEqual, AloneAndBatched) {
  std::vector<Request> requests;
  for (int i = 0; i < 19; ++i) {
    requests.push_back(plain_request(ids(i, 1 + i * 5 % 37), static_cast<std::uint64_t>(i)));
    requests.back().sampling.temperature = i % 4 == 0 ? 0.0f : 1.0f;
    requests.back().sampling.top_p = i % 3 == 0 ? 0.8f : 1.0f;
    requests.back().sampling.top_k = i % 5 == 0 ? 9 : 0;
  }
  EngineOptions few = options();
  few.max_tokens_per_step = 23;  // prompts come in pieces
  Engine engine(model_, few);
  std::vector<Sequence> sequences;
  for (const Request& request : requests) {
    sequences.push_back(engine.start(request));
    engine.step();
  }
  engine.finish(sequences);
  for (std::size_t i = 0; i < requests.size(); ++i)
    EXPECT_EQ(print(sequences[i].trace()), print(run(requests[i], options()))) << i;
}

TEST_P(EngineEqual, ForkAndReplay) {
  Engine engine(model_, options());
  const Request request = plain_request(ids(1, 13), 9, 30);
  const Trace whole = run(request, options());
  for (int at : {0, 1, 4, 17}) {
    Sequence half = engine.start(request);
    for (int i = 0; i < at; ++i) engine.step();
    Sequence same = half.fork(Draws::same), fresh = half.fork(), other = half.fork();
    std::vector<Sequence> all;
    for (Sequence* one : {&half, &same, &fresh, &other}) all.push_back(std::move(*one));
    engine.finish(all);
    EXPECT_EQ(print(all[0].trace()), print(whole));
    EXPECT_EQ(print(all[1].trace()), print(whole));
    EXPECT_NE(all[2].trace().tokens, whole.tokens);
    EXPECT_NE(all[2].trace().tokens, all[3].trace().tokens);
    EXPECT_EQ(all[3].trace().path, std::vector<std::uint32_t>{2});
  }
}

TEST_P(EngineEqual, FedAndPrompted) {
  Engine engine(model_, options());
  const auto prompt = ids(1, 13), more = ids(4, 21);
  auto joined = prompt;
  joined.insert(joined.end(), more.begin(), more.end());
  Sequence fed = engine.start(plain_request(prompt, 9, 21 + 16));
  fed.feed(more);
  Sequence forked = fed.fork(Draws::same);
  engine.finish(fed);
  engine.finish(forked);
  const Trace whole = run(plain_request(joined, 9, 16), options());
  EXPECT_EQ(fed.trace().tokens, whole.tokens);
  EXPECT_EQ(forked.trace().tokens, whole.tokens);
  EXPECT_EQ(std::vector(fed.trace().logprobs.end() - 16, fed.trace().logprobs.end()),
            std::vector(whole.logprobs.end() - 16, whole.logprobs.end()));
}

TEST_P(EngineEqual, PrefixHitAndCold) {
  Engine engine(model_, options());
  const auto prompt = ids(3, 53);
  Sequence first = engine.start(plain_request(prompt, 1));
  engine.finish(first);
  for (int kept : {16, 31, 48, 53}) {
    auto other = prompt;
    other.resize(static_cast<std::size_t>(kept));
    other.push_back(9);
    const Request request = plain_request(other, 2);
    const auto before = engine.counters().reused_tokens;
    Sequence warm = engine.start(request);
    engine.finish(warm);
    EXPECT_EQ(engine.counters().reused_tokens - before, kept / 16 * 16);
    EXPECT_EQ(print(warm.trace()), print(run(request, options())));
  }
}

TEST_P(EngineEqual, ARowThatChangesTouchesNeitherTheLivingNorThePagesBeforeIt) {
  auto prompt = ids(3, 60);
  prompt[40] = tiny_vocab;
  const Request request = plain_request(prompt, 3);
  const Trace before = run(request, options());
  Engine engine(model_, options());
  Sequence old = engine.start(request);
  for (int i = 0; i < 5; ++i) engine.step();
  std::vector<float> row = soft_->row(tiny_vocab);
  for (float& value : row) value += 0.5f;
  soft_->set_row(tiny_vocab, row);
  Sequence fresh = engine.start(request);
  old.feed(std::array<TokenId, 1>{tiny_vocab});  // in one batch with the other's new row
  fresh.feed(std::array<TokenId, 1>{tiny_vocab});
  Sequence fork = old.fork(Draws::same);
  engine.finish(old);
  engine.finish(fresh);
  engine.finish(fork);
  EXPECT_EQ(engine.counters().reused_tokens, 32);
  EXPECT_EQ(std::vector(before.tokens.begin(), before.tokens.begin() + 65),
            std::vector(old.trace().tokens.begin(), old.trace().tokens.begin() + 65));
  EXPECT_EQ(print(fork.trace()), print(old.trace()));
  Engine cold(model_, options());
  Sequence twin = cold.start(request);
  twin.feed(std::array<TokenId, 1>{tiny_vocab});
  cold.finish(twin);
  EXPECT_EQ(print(fresh.trace()), print(twin.trace()));
  EXPECT_NE(fresh.trace().logprobs[61], old.trace().logprobs[61]);
}

TEST_P(EngineEqual, ASoftIdIsNeverDrawn) {
  Engine engine(model_, options());
  std::vector<Sequence> sequences;
  for (int i = 0; i < 20; ++i) {
    Request request = plain_request({5, tiny_vocab, tiny_vocab, 6}, static_cast<std::uint64_t>(i));
    request.sampling.temperature = 50.0f;
    sequences.push_back(engine.start(request));
  }
  engine.finish(sequences);
  for (const Sequence& sequence : sequences)
    for (std::size_t i = 4; i < sequence.trace().tokens.size(); ++i)
      EXPECT_LT(sequence.trace().tokens[i], tiny_vocab);
}

// What one family, a request and its forks, does; keyed by how far its members have come, so that
// it happens at the same places in any company.
struct Deed {
  int member = 0;
  int after = 0;  // tokens that the member has decoded, at least
  enum { fork_same, fork_fresh, feed, cancel } what = feed;
};

struct Family {
  Request request;
  std::vector<Deed> deeds;
  std::vector<Sequence> members;
  std::size_t done = 0;

  void act() {
    for (; done < deeds.size(); ++done) {
      const Deed& deed = deeds[done];
      if (deed.member >= static_cast<int>(members.size())) continue;
      Sequence& member = members[static_cast<std::size_t>(deed.member)];
      if (member.finished()) continue;
      if (member.parts()->record.decoded() < deed.after) return;
      if (deed.what == Deed::fork_same) members.push_back(member.fork(Draws::same));
      if (deed.what == Deed::fork_fresh) members.push_back(member.fork());
      if (deed.what == Deed::feed) member.feed(ids(deed.after, 5));
      if (deed.what == Deed::cancel) member.cancel();
    }
  }
};

class Worlds : public EngineEqual {
 protected:
  int draw(int below) { return static_cast<int>(random_() % static_cast<unsigned>(below)); }

  Request request(bool with_probes) {
    Request request = plain_request(ids(draw(3), 1 + draw(40)), random_(), 5 + draw(30));
    request.prompt.back() = draw(2) == 0 ? 10 : 5;
    request.markers = tiny_markers();
    request.ignore_end_tokens = draw(2) == 0;
    if (draw(4) == 0) request.sampling.temperature = 0.0f;
    if (draw(2) == 0)
      request.guides.push_back(continue_thinking({.with = {20, tiny_vocab}, .times = 2}));
    if (draw(2) == 0)
      request.guides.push_back(budget({.max_think_tokens = 4 + draw(9), .window_tokens = 3}));
    if (draw(2) == 0) request.guides.push_back(objector(static_cast<unsigned>(draw(1000))));
    if (with_probes && draw(2) == 0) request.guides.push_back(prober());
    return request;
  }

  // Does something odd now and then, decided by the moment alone.
  static std::shared_ptr<const Guide> objector(unsigned salt) {
    return scripted([salt](const Moment& m) -> Action {
      const unsigned dice =
          (static_cast<unsigned>(m.token) * 31 + static_cast<unsigned>(m.new_tokens)) * 17 + salt;
      if (dice % 11 == 0 && m.new_tokens > 3) return Force{{20, 21}, 3};
      if (dice % 13 == 0 && m.new_tokens > 3) return Force{{}, 2, {{30, 1.0f, 0}}};
      if (dice % 7 == 0) return Proceed{{{30, 4.0f, 0}, {31, 0, 0.5f}}};
      if (dice % 19 == 0) return Allow{{0xffffff00u, 0xff00ffffu}};
      return Proceed{};
    });
  }

  static std::shared_ptr<const Guide> prober() {
    auto guide = scripted([](const Moment& m) -> Action {
      if (m.origin == Origin::sampled && m.new_tokens % 5 == 2)
        return Probe{m.new_tokens > 4 ? 2 : 0, {20, 21}, {"w4"}, 0.5f, 6};
      return Proceed{};
    });
    guide->reply = [](const ProbeReply& reply) -> Action {
      if (reply.tokens.empty() || reply.tokens[0] % 3 != 0) return Proceed{};
      return Force{{reply.tokens[0]}, 1};
    };
    return guide;
  }

  Family family(bool with_probes) {
    Family family;
    family.request = request(with_probes);
    for (int i = draw(4); i > 0; --i)
      family.deeds.push_back(
          {draw(3), draw(20),
           std::array{Deed::fork_same, Deed::fork_fresh, Deed::feed, Deed::cancel}[draw(4)]});
    return family;
  }

  static bool is_finished(const Family& family) {
    return std::ranges::all_of(family.members, [](const Sequence& s) { return s.finished(); });
  }

  std::vector<std::string> alone(Family family) const {
    EngineOptions roomy = options();
    roomy.reuse_prefixes = false;
    Engine engine(model_, roomy);
    family.members.push_back(engine.start(family.request));
    family.act();
    while (!is_finished(family)) {
      engine.step();
      family.act();
    }
    std::vector<std::string> traces;
    for (const Sequence& member : family.members) traces.push_back(print(member.trace()));
    return traces;
  }

  void play(std::uint64_t seed, const EngineOptions& crowded, bool with_probes) {
    random_.seed(seed);
    Engine engine(model_, crowded);
    {
      std::vector<Family> families;
      std::vector<Sequence> strangers;
      for (int i = 0; i < 60; ++i) {
        if (families.size() < 10 && draw(3) == 0) {
          families.push_back(family(with_probes));
          families.back().members.push_back(engine.start(families.back().request));
          families.back().act();
        }
        if (draw(6) == 0) strangers.push_back(engine.start(request(with_probes)));
        if (!strangers.empty() && draw(6) == 0) strangers.pop_back();
        engine.step();
        for (Family& family : families) family.act();
      }
      strangers.clear();
      while (!std::ranges::all_of(families, is_finished)) {
        engine.step();
        for (Family& family : families) family.act();
      }
      for (Family& one : families) {
        const auto expected = alone({one.request, one.deeds, {}, 0});
        ASSERT_EQ(one.members.size(), expected.size());
        for (std::size_t i = 0; i < expected.size(); ++i)
          ASSERT_EQ(print(one.members[i].trace()), expected[i]) << "member " << i;
        forks_ += static_cast<int>(expected.size()) - 1;
        for (const Sequence& member : one.members) probes_ += member.trace().probe_tokens;
      }
    }
    expect_no_leak(engine);
    preemptions_ += engine.counters().preemptions;
    reused_ += engine.counters().reused_tokens;
  }

  void play_all(const EngineOptions& crowded, bool with_probes) {
    const int worlds = GetParam() == DeviceKind::cpu ? 12 : 4;
    for (int seed = 0; seed < worlds && !HasFailure(); ++seed) {
      SCOPED_TRACE(seed);
      play(static_cast<std::uint64_t>(seed), crowded, with_probes);
    }
  }

  std::mt19937_64 random_;
  std::int64_t preemptions_ = 0, reused_ = 0, forks_ = 0, probes_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Devices, Worlds, ::testing::Values(DeviceKind::cpu, DeviceKind::cuda),
                         [](const auto& info) {
                           return info.param == DeviceKind::cpu ? "Cpu" : "Cuda";
                         });

TEST_P(Worlds, ACrowdChangesNothing) {
  EngineOptions crowded = options();
  crowded.max_tokens_per_step = 40;
  play_all(crowded, true);
  EXPECT_GT(reused_, 0);
  EXPECT_GT(forks_, 0);
  EXPECT_GT(probes_, 0);
}

TEST_P(Worlds, ScarcePagesChangeNothing) {
  EngineOptions crowded = options();
  crowded.page_tokens = 4;
  crowded.cache_tokens = 120;  // the longest sequence needs 85
  crowded.max_live_sequences = 6;
  crowded.max_tokens_per_step = 17;
  play_all(crowded, false);
  EXPECT_GT(preemptions_, 0);
  EXPECT_GT(forks_, 0);
}

}  // namespace
}  // namespace pensive::testing
