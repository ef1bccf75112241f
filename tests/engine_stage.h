// One sequence and its guides without an engine: the test hands the tokens in.
#pragma once
#include "engine/guidance.h"
#include "engine_helpers.h"

namespace pensive::testing {

constexpr TokenId open = 10, close_a = 11, close_b = 12, end_token = 2, soft = 64;

// One sequence in thinking, whose closer has two tokens.
struct Stage {
  explicit Stage(std::vector<std::shared_ptr<const Guide>> guides = {}, int max_new_tokens = 100,
                 std::vector<TokenId> closing = {close_a, close_b})
      : rules(std::make_shared<Rules>(Rules{
            std::move(closing), {end_token}, max_new_tokens, 200, tiny_vocab, tiny_vocab + 1})),
        guidance(rules, guides),
        record(make_record()) {
    guidance.start(record);
  }

  static Record make_record() {
    Segments segments(Markers{.think_open = {open},
                              .think_close = {close_a, close_b},
                              .answer_open = {},
                              .answer_close = {}});
    const std::vector<TokenId> prompt{5, open};
    segments.begin(prompt, std::nullopt);
    return Record(prompt, std::move(segments), tiny_model()->tokenizer());
  }

  Stage& draw(std::initializer_list<TokenId> tokens) {
    for (TokenId id : tokens) {
      EXPECT_FALSE(record.is_sealed());
      Stats stats;
      stats.logprob = -1;
      guidance.sampled(record, id, stats);
    }
    return *this;
  }

  std::vector<TokenId> kept() const {
    return {record.lane.tokens.begin() + 2, record.lane.tokens.end()};
  }
  std::string streamed() {
    std::string text;
    for (const TextEvent& event : record.take_events())
      text += fmt::format("[{} {}]{}", to_string(event.segment), event.index, event.text);
    return text;
  }

  std::shared_ptr<const Rules> rules;
  Guidance guidance;
  Record record;
};

// Answers the `at`-th token (from 1) with one action.
inline std::shared_ptr<Scripted> at_token(int at, Action action) {
  return scripted([at, action, count = 0](const Moment&) mutable -> Action {
    return ++count == at ? action : Proceed{};
  });
}

}  // namespace pensive::testing
