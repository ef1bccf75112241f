// A guide said a story token by token, as the engine tells it, for tables of what it answers.
#pragma once
#include <cmath>
#include <cstddef>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "guides_moments.h"
#include "pensive/guides.h"

namespace pensive::testing {

class Story {
 public:
  float entropy = 1;  // of the tokens drawn
  std::vector<TokenId> prompt = {900, 901, 902};

  explicit Story(const std::shared_ptr<const Guide>& guide) : guide_(guide->clone()) {}
  Story(const Story& other)
      : entropy(other.entropy),
        prompt(other.prompt),
        guide_(other.guide_->clone()),
        kept_(other.kept_),
        ids_(other.ids_) {}

  // One token of the thinking. Tokens of one text have one id.
  std::string draw(std::string_view text, bool is_done = true) {
    return tell(text, Segment::think, Origin::sampled, Marker::none, is_done);
  }
  std::string force(std::string_view text) {
    return tell(text, Segment::think, Origin::forced, Marker::none, true);
  }
  std::string mark(Marker marker) {
    return tell("", Segment::think, Origin::sampled, marker, true);
  }
  std::string answer(std::string_view text) {
    return tell(text, Segment::answer, Origin::sampled, Marker::none, true);
  }
  // Several tokens: what was told of the last, and before it where that was not "-".
  std::string draw_all(const std::vector<std::string_view>& texts) {
    std::string all;
    for (const std::string_view& text : texts) {
      const std::string one = draw(text);
      if (&text == &texts.back() || one != "-") all += (all.empty() ? "" : ", ") + one;
    }
    return all;
  }
  // The first of so many rounds, counted from 1, in which something else than "-" was told.
  int first_round(const std::vector<std::string_view>& texts, int rounds) {
    for (int round = 1; round <= rounds; ++round)
      if (draw_all(texts) != "-") return round;
    return 0;
  }

  std::string reply(std::string_view text, const std::vector<float>& logprobs = {},
                    const std::vector<TokenId>& tokens = {}) {
    return carry_out(guide_->on_probe({tokens, logprobs, text, false}), true);
  }
  std::string refuse() { return carry_out(guide_->on_probe({{}, {}, "", true}), true); }
  // Another guide's doing.
  void take_back(std::size_t tokens) {
    carry_out_by_another(Force{{}, static_cast<int>(tokens)});
    kept_.resize(kept_.size() - tokens);
  }
  void carry_out_by_another(const Action& action) { guide_->on_done({&action, false}); }

  Guide& guide() { return *guide_; }
  int think_tokens() const {
    int tokens = 0;
    for (const Kept& one : kept_) tokens += one.is_thought ? 1 : 0;
    return tokens;
  }

 private:
  struct Kept {
    TokenId id;
    std::string text;
    bool is_thought;
  };

  std::string tell(std::string_view text, Segment segment, Origin origin, Marker marker,
                   bool is_done) {
    const auto id = ids_.try_emplace(std::string(text), static_cast<TokenId>(ids_.size())).first;
    kept_.push_back(
        {id->second, std::string(text), segment == Segment::think && marker == Marker::none});
    std::vector<TokenId> tokens = prompt;
    std::string all;
    for (const Kept& one : kept_) {
      tokens.push_back(one.id);
      all += one.text;
    }
    Moment moment;
    moment.tokens = tokens;
    moment.prompt_tokens = static_cast<int>(prompt.size());
    moment.token = tokens.back();
    moment.text = std::string_view(all).substr(all.size() - text.size());
    moment.tail = std::string_view(all).substr(all.size() - std::min<std::size_t>(all.size(), 64));
    moment.segment = segment;
    moment.next = marker == Marker::think_close ? Segment::answer : segment;
    moment.origin = origin;
    moment.completes = marker;
    moment.marker_tokens = marker == Marker::none ? 0 : 1;
    moment.think_tokens = think_tokens();
    moment.new_tokens = static_cast<int>(kept_.size());
    moment.logprob = origin == Origin::forced ? std::nanf("") : -1;
    moment.entropy_nats = origin == Origin::forced ? std::nanf("") : entropy;
    return carry_out(guide_->on_token(moment), is_done);
  }

  std::string carry_out(const Action& action, bool is_done) {
    if (is_done && !std::holds_alternative<Proceed>(action)) guide_->on_done({&action, true});
    if (const auto* close = std::get_if<Close>(&action); is_done && close != nullptr)
      kept_.resize(kept_.size() - static_cast<std::size_t>(close->replaces_last));
    return told(action);
  }

  std::unique_ptr<Guide> guide_;
  std::vector<Kept> kept_;
  std::map<std::string, TokenId> ids_;
};

}  // namespace pensive::testing
