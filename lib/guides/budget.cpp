// How much thinking there is: at most so much, and again where it wants to stop.
#include <algorithm>
#include <limits>
#include <memory>
#include <utility>
#include <variant>

#include "guides/catalogue.h"
#include "guides/inside.h"

namespace pensive {
namespace {

class Budget final : public Guide {
 public:
  explicit Budget(const BudgetOptions& options) : options_(options) {}
  std::string_view name() const override { return "budget"; }
  bool needs_markers() const override { return true; }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<Budget>(*this); }

  Action on_start(const Moment& moment) override { return held(moment); }

  Action on_token(const Moment& moment) override {
    const bool is_early = moment.think_tokens < options_.min_think_tokens;
    // Drawn all the same where its text is spelled by other tokens.
    if (ends_thinking(moment) && moment.origin == Origin::sampled && is_early)
      return Force{{}, moment.marker_tokens};
    const bool is_thinking =
        moment.segment == Segment::think && moment.completes != Marker::think_close;
    if (is_thinking && is_early) return held(moment);
    if (!is_thinking || moment.completes == Marker::think_open) is_asked_ = false;
    left_ = options_.max_think_tokens - moment.think_tokens;
    if (!is_thinking || left_ > options_.window_tokens) return Proceed{};
    // A token drawn beyond the limit: either the limit is 0, or what was asked got lost.
    const bool is_beyond = left_ < 0 && moment.origin == Origin::sampled;
    if (is_asked_ && !is_beyond) return Proceed{};
    const bool is_text = moment.completes == Marker::none;
    return Close{CloseReason::budget, is_beyond && is_text ? 1 : 0, std::max(left_, 0)};
  }

  void on_done(const Done& done) override {
    // Another guide's closing within what is left serves as well.
    const Close* close = std::get_if<Close>(done.action);
    if (close != nullptr && (done.was_mine || close->within_tokens <= left_)) is_asked_ = true;
  }

 private:
  // The next token may neither complete the closer nor end the turn.
  Action held(const Moment& moment) const {
    Proceed proceed;
    if (moment.think_tokens >= options_.min_think_tokens) return proceed;
    constexpr float never = -std::numeric_limits<float>::infinity();
    const auto head = std::span(options_.closer).first(options_.closer.size() - 1);
    const bool is_near = moment.tokens.size() >= head.size() &&
                         std::ranges::equal(moment.tokens.last(head.size()), head);
    if (is_near) proceed.biases.push_back({options_.closer.back(), never, 0});
    for (const TokenId id : options_.end_tokens) proceed.biases.push_back({id, never, 0});
    return proceed;
  }

  BudgetOptions options_;
  bool is_asked_ = false;
  int left_ = 0;
};

class ContinueThinking final : public Guide {
 public:
  explicit ContinueThinking(const ContinueOptions& options) : options_(options) {}
  std::string_view name() const override { return "continue_thinking"; }
  bool needs_markers() const override { return true; }
  std::unique_ptr<Guide> clone() const override {
    return std::make_unique<ContinueThinking>(*this);
  }

  Action on_token(const Moment& moment) override {
    if (options_.close_at_max && is_thought(moment) &&
        moment.think_tokens >= options_.max_think_tokens)
      return Close{CloseReason::budget, 0, 0};
    if (!ends_thinking(moment) || moment.origin != Origin::sampled) return Proceed{};
    if (times_done_ >= options_.times) return Proceed{};
    if (moment.think_tokens >= options_.max_think_tokens) return Proceed{};
    return Force{options_.with, moment.marker_tokens};
  }

  void on_done(const Done& done) override {
    if (done.was_mine && std::get_if<Force>(done.action) != nullptr) ++times_done_;
  }

 private:
  ContinueOptions options_;
  int times_done_ = 0;
};

}  // namespace

std::shared_ptr<const Guide> budget(const BudgetOptions& given) {
  BudgetOptions options = given;
  require_count(options.max_think_tokens, 0, "max_think_tokens", "budget");
  if (options.window_tokens == -1) options.window_tokens = std::min(32, options.max_think_tokens);
  require_count(options.window_tokens, 0, "window_tokens", "budget");
  require(options.window_tokens <= options.max_think_tokens, ErrorCode::invalid_argument,
          fmt::format("a window of at most max_think_tokens = {}", options.max_think_tokens),
          std::to_string(options.window_tokens), "budget");
  require_count(options.min_think_tokens, 0, "min_think_tokens", "budget");
  require(
      options.min_think_tokens <= options.max_think_tokens, ErrorCode::invalid_argument,
      fmt::format("min_think_tokens of at most max_think_tokens = {}", options.max_think_tokens),
      std::to_string(options.min_think_tokens), "budget");
  if (options.min_think_tokens > 0) require_tokens(options.closer, "a closer", "budget");
  // A closing at a sentence end before the least would only be taken back again.
  options.window_tokens =
      std::min(options.window_tokens, options.max_think_tokens - options.min_think_tokens);
  return std::make_shared<Budget>(options);
}

std::shared_ptr<const Guide> continue_thinking(const ContinueOptions& options) {
  constexpr std::string_view where = "continue_thinking";
  require(!options.with.empty(), ErrorCode::invalid_argument, "tokens to go on with", "none",
          where);
  for (const TokenId id : options.with) require_count(id, 0, "a token id", where);
  require_count(options.times, 0, "times", where);
  require_count(options.max_think_tokens, 0, "max_think_tokens", where);
  return std::make_shared<ContinueThinking>(options);
}

CatalogueEntry budget_entry() {
  return {{"budget",
           "vLLM, llama.cpp and Qwen3 (arXiv 2505.09388) serve such a limit",
           "ends the thinking by a limit, at a sentence end where one comes in time",
           {{"max", "1073741824", "most thinking tokens"},
            {"min", "0", "no closer and no end of the turn is drawn before so many"},
            {"window", "-1", "how long before it a sentence end closes; -1: 32, or max if less"}}},
          [](const Settings& settings) {
            BudgetOptions options{.max_think_tokens = settings.whole("max"),
                                  .window_tokens = settings.whole("window"),
                                  .min_think_tokens = settings.whole("min")};
            require(settings.is_given("max") || settings.is_given("min"),
                    ErrorCode::invalid_argument, "max=… or min=…", "neither", "guide budget");
            if (options.min_think_tokens > 0) {
              options.closer = settings.markers().think_close;
              if (const auto end = settings.tokenizer().eos()) options.end_tokens = {*end};
            }
            return budget(options);
          }};
}

CatalogueEntry continue_entry() {
  return {{"continue",
           "arXiv 2506.11274, section 2.1",
           "a sampled closer of the thinking is replaced in place by a word or a soft token",
           {{"with", "required", "the word"},
            {"times", "1", "how often before a closer is let through"},
            {"max", "1073741824", "a closer after so many thinking tokens is let through"},
            {"close", "no", "yes: at max the thinking is closed, as in the paper"}}},
          [](const Settings& settings) {
            return continue_thinking({.with = settings.ids("with"),
                                      .times = settings.whole("times"),
                                      .max_think_tokens = settings.whole("max"),
                                      .close_at_max = settings.flag("close")});
          }};
}

}  // namespace pensive
