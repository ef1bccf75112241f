// Random requests of every kind, what happens to them on the way, and how they would go alone.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "decode_twin.h"
#include "engine_helpers.h"

namespace pensive::testing {

// What is done to one member of a story once it has decoded so many tokens; by its own progress
// alone, so that it happens at the same places in any company.
struct Deed {
  enum class What : std::uint8_t { fork_same, fork_fresh, feed, rewind_same, rewind_fresh, cancel };
  int member = 0;  // 0: the request; i + 1: the fork that deed i made
  int after = 0;
  What what = What::feed;
};

// One request and its forks.
struct Story {
  Request request;
  std::vector<Deed> deeds;
};

class Telling {
 public:
  explicit Telling(Story story) : story_(std::move(story)), members_(story_.deeds.size() + 1) {}

  void begin(Engine& engine) {
    members_[0].emplace(engine.start(story_.request));
    act();
  }
  // After every step. A deed may make an earlier one due, which must not wait: how many steps pass
  // until the member's next token comes depends on the company.
  void act() {
    is_done_.resize(story_.deeds.size());
    for (std::size_t i = 0; i < story_.deeds.size();) {
      if (!is_due(i)) {
        ++i;
        continue;
      }
      is_done_[i] = true;
      const Deed& deed = story_.deeds[i];
      carry_out(deed, *members_[static_cast<std::size_t>(deed.member)], members_[i + 1]);
      i = 0;
    }
  }
  bool is_finished() const {
    return std::ranges::all_of(members_, [](const auto& one) { return !one || one->finished(); });
  }
  const Story& story() const { return story_; }
  const std::vector<std::optional<Sequence>>& members() const { return members_; }

 private:
  bool is_due(std::size_t i) const {
    const Deed& deed = story_.deeds[i];
    const auto& member = members_[static_cast<std::size_t>(deed.member)];
    return !is_done_[i] && member && !member->finished() &&
           member->parts()->record.decoded() >= deed.after;
  }
  static void carry_out(const Deed& deed, Sequence& member, std::optional<Sequence>& fork) {
    using enum Deed::What;
    const int kept = member.parts()->record.new_tokens();
    if (member.parts()->is_cancelled) return;
    switch (deed.what) {
      case fork_same:
        return void(fork.emplace(member.fork(Draws::same)));
      case fork_fresh:
        return void(fork.emplace(member.fork()));
      case feed: {
        std::vector<TokenId> fed = ids(deed.after, 1 + deed.after % 4);
        for (TokenId& id : fed) id %= member.parts()->guidance.rules().vocab_size;
        return member.feed(fed);
      }
      case rewind_same:
        return member.rewind(std::min(kept, 1 + deed.after % 6), Draws::same);
      case rewind_fresh:
        return member.rewind(std::min(kept, 1 + deed.after % 6), Draws::fresh);
      case cancel:
        return member.cancel();
    }
  }

  Story story_;
  std::vector<std::optional<Sequence>> members_;
  std::vector<bool> is_done_;
};

// How it goes with nobody else there.
inline std::vector<std::string> alone(Engine& engine, const Story& story) {
  Telling telling(story);
  telling.begin(engine);
  while (!telling.is_finished()) {
    engine.step();
    telling.act();
  }
  std::vector<std::string> traces;
  for (const auto& member : telling.members())
    traces.push_back(member ? print(member->trace()) : "");
  return traces;
}

class StoryTeller {
 public:
  StoryTeller(std::uint64_t seed, bool has_soft, bool has_probes)
      : random_(seed), has_soft_(has_soft), has_probes_(has_probes) {}

  // Requests that hardly ever want anything that cannot be foreseen, or of every kind.
  void be_calm(bool is_calm) { is_calm_ = is_calm; }
  bool is_calm() const { return is_calm_; }
  int draw(int below) { return static_cast<int>(random_() % static_cast<unsigned>(below)); }

  Story story() {
    Story made{request(), {}};
    for (int i = is_calm_ ? draw(4) / 3 : draw(4); i > 0; --i) {
      const auto what = static_cast<Deed::What>(draw(6));
      made.deeds.push_back({draw(static_cast<int>(made.deeds.size()) + 1), 1 + draw(20), what});
    }
    return made;
  }

 private:
  Request request() {
    Request request = plain_request(ids(draw(3), 1 + draw(40)), random_(), 5 + draw(30));
    request.prompt.back() = draw(2) == 0 ? 10 : 5;
    request.markers = tiny_markers();
    request.ignore_end_tokens = draw(2) == 0;
    if (draw(4) == 0) request.sampling.temperature = 0.0f;
    if (is_calm_) {
      request.guides = {interrupter()};
      return request;
    }
    if (draw(4) == 0) request.sampling.frequency_penalty = 0.5f;
    if (draw(4) == 0) request.sampling.logit_bias = {{draw(tiny_vocab), 1.0f}};
    if (draw(4) == 0) request.sampling.banned_tokens = {draw(tiny_vocab), 33};
    if (draw(4) == 0) request.stop_texts = {"w17", "w40"};
    if (draw(4) == 0) request.top_logprobs = 3;
    if (draw(6) == 0) request.prompt_logprobs = true;
    guide(request);
    return request;
  }

  void guide(Request& request) {
    const TokenId fed = has_soft_ ? tiny_vocab : 21;
    if (draw(3) == 0) request.guides.push_back(continue_thinking({.with = {20, fed}, .times = 2}));
    if (draw(3) == 0)
      request.guides.push_back(budget({.max_think_tokens = 4 + draw(9), .window_tokens = 3}));
    if (draw(2) == 0) request.guides.push_back(objector(static_cast<unsigned>(draw(1000))));
    if (draw(4) == 0) request.guides.push_back(leaner());
    if (has_probes_ && draw(3) == 0) request.guides.push_back(prober());
  }

  // Does something odd now and then, decided by the moment alone.
  static std::shared_ptr<const Guide> objector(unsigned salt) {
    return scripted([salt](const Moment& m) -> Action {
      const unsigned dice =
          (static_cast<unsigned>(m.token) * 31 + static_cast<unsigned>(m.new_tokens)) * 17 + salt;
      if (dice % 11 == 0 && m.new_tokens > 3) return Force{{20, 21}, 3};
      if (dice % 13 == 0 && m.new_tokens > 3) return Force{{}, 2, {{30, 1.0f, 0}}};
      if (dice % 17 == 0) return Close{};
      if (dice % 7 == 0) return Proceed{{{30, 4.0f, 0}, {31, 0, 0.5f}}};
      if (dice % 19 == 0) return Allow{{0xffffff00u, 0xff00ffffu}};
      if (dice % 97 == 0) return Stop{};
      return Proceed{};
    });
  }
  static std::shared_ptr<const Guide> interrupter() {
    return scripted([](const Moment& m) -> Action {
      if (m.token == 20 && m.new_tokens % 8 == 5) return Force{{21}, 1};
      return Proceed{};
    });
  }
  // The same biases at every draw but few.
  static std::shared_ptr<const Guide> leaner() {
    return scripted([](const Moment& m) -> Action {
      return Proceed{{{m.new_tokens % 9 == 0 ? 12 : 29, 2.0f, 0}}};
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

  std::mt19937_64 random_;
  bool has_soft_, has_probes_, is_calm_ = false;
};

// Decode steps by the twin of a card: on a CPU too, engines run ahead then.
inline kernels::TwinSteps& give_card(Engine& engine, kernels::TwinSteps::Card card) {
  kernels::TwinSteps* given = nullptr;
  engine.parts()->runner.decode_with([&](kernels::DecodeModel model, int most_rows) {
    auto steps = std::make_unique<kernels::TwinSteps>(std::move(model), most_rows, card,
                                                      engine.options().arithmetic);
    given = steps.get();
    return steps;
  });
  return *given;
}

}  // namespace pensive::testing
