// How much thinking there is: at most so much, and at least.
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <variant>

#include "guides/catalogue.h"
#include "guides/inside.h"

namespace pensive {
namespace {

class Budget final : public Guide, public Told {
 public:
  explicit Budget(const BudgetOptions& options) : options_(options) {}
  std::string_view name() const override { return "budget"; }
  std::string told() const override {
    return fmt::format(
        "max_think_tokens {} window_tokens {} min_think_tokens {} closer {} end_tokens {}",
        options_.max_think_tokens, options_.window_tokens, options_.min_think_tokens,
        options_.closer, options_.end_tokens);
  }
  bool needs_markers() const override { return true; }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<Budget>(*this); }

  Action on_start(const Moment& moment) override {
    was_thinking_ = moment.next == Segment::think;
    return held(moment);
  }

  Action on_token(const Moment& moment) override {
    const bool was_thinking = std::exchange(was_thinking_, moment.next == Segment::think);
    // Drawn all the same where its text is spelled by other tokens.
    const bool is_end =
        moment.completes == Marker::answer_open ? was_thinking : ends_thinking(moment);
    if (is_end && moment.origin == Origin::sampled && is_early(moment)) return again(moment, 1);
    const std::optional<Close> close = at_limit(moment);
    if (!close) return held(moment);
    if (!is_early(moment)) return *close;
    // A closing would take the marker that has begun back, and leave too little.
    return left_ > 0 ? held(moment) : again(moment, moment.pending_tokens);
  }

  void on_done(const Done& done) override {
    // Another guide's closing within what is left serves as well.
    const Close* close = std::get_if<Close>(done.action);
    if (close != nullptr && (done.was_mine || close->within_tokens <= left_)) is_asked_ = true;
    if (close == nullptr && done.was_mine) was_thinking_ = true;
  }

 private:
  // Asks for the closing once, or later where that was not done.
  std::optional<Close> at_limit(const Moment& moment) {
    const bool is_thinking = moment.next == Segment::think;
    if (!is_thinking || moment.completes == Marker::think_open) is_asked_ = false;
    left_ = options_.max_think_tokens - moment.think_tokens;
    if (!is_thinking || left_ > options_.window_tokens) return std::nullopt;
    // A token drawn beyond the limit: either the limit is 0, or what was asked got lost.
    const bool is_beyond = left_ < 0 && moment.origin == Origin::sampled;
    if (is_asked_ && !is_beyond) return std::nullopt;
    const bool is_text = moment.completes == Marker::none;
    return Close{CloseReason::budget, is_beyond && is_text ? 1 : 0, std::max(left_, 0)};
  }

  // What may still become a marker is no thinking yet.
  bool is_early(const Moment& moment) const {
    const int pending = moment.completes == Marker::none ? moment.pending_tokens : 0;
    return moment.think_tokens - pending < options_.min_think_tokens;
  }

  static Force again(const Moment& moment, int tokens) {
    return {{}, tokens, {{moment.tokens.last(static_cast<std::size_t>(tokens)).front(), never, 0}}};
  }

  // The next token may neither complete the closer nor end the turn.
  Action held(const Moment& moment) const {
    Proceed proceed;
    if (moment.next != Segment::think || !is_early(moment)) return proceed;
    if (begun_tokens(moment, options_.closer) + 1 == options_.closer.size())
      proceed.biases.push_back({options_.closer.back(), never, 0});
    for (const TokenId id : options_.end_tokens) proceed.biases.push_back({id, never, 0});
    return proceed;
  }

  BudgetOptions options_;
  bool is_asked_ = false;
  bool was_thinking_ = false;  // behind the last token
  int left_ = 0;
};

void require_at_most_max(int count, std::string_view name, int max) {
  require_count(count, 0, name, "budget");
  require(count <= max, ErrorCode::invalid_argument,
          fmt::format("{} of at most max_think_tokens = {}", name, max), std::to_string(count),
          "budget");
}

}  // namespace

std::shared_ptr<const Guide> budget(const BudgetOptions& given) {
  BudgetOptions options = given;
  const int max = options.max_think_tokens;
  require_count(max, 0, "max_think_tokens", "budget");
  if (options.window_tokens == -1) options.window_tokens = std::min(32, max);
  require_at_most_max(options.window_tokens, "window_tokens", max);
  require_at_most_max(options.min_think_tokens, "min_think_tokens", max);
  if (options.min_think_tokens > 0) require_tokens(options.closer, "a closer", "budget");
  require_ids(options.end_tokens, "budget");
  options.window_tokens = std::min(options.window_tokens, max - options.min_think_tokens);
  return std::make_shared<Budget>(options);
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

}  // namespace pensive
