// s1's budget forcing, round by round.
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "guides/catalogue.h"
#include "guides/inside.h"

namespace pensive {
namespace {

class BudgetForcing final : public Guide, public Told {
 public:
  explicit BudgetForcing(BudgetForcingOptions options)
      : options_(std::move(options)), round_{options_.max_think_tokens, 0} {
    not_first_.push_back({options_.closer.front(), never, 0});
    for (const TokenId id : options_.end_tokens) not_first_.push_back({id, never, 0});
  }
  std::string_view name() const override { return "budget_forcing"; }
  std::string told() const override {
    const BudgetForcingOptions& o = options_;
    return fmt::format(
        "closer {} max_think_tokens {} times {} with {} count {} final_text {} newline {} "
        "end_tokens {}",
        o.closer, o.max_think_tokens, o.times, o.with, static_cast<int>(o.count), o.final_text,
        o.newline, o.end_tokens);
  }
  bool needs_markers() const override { return true; }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<BudgetForcing>(*this); }

  Action on_start(const Moment& moment) override { return held(moment); }

  Action on_token(const Moment& moment) override {
    is_ignoring_ = false;
    if (moment.segment != Segment::think) return Proceed{};
    const bool is_drawn = moment.origin == Origin::sampled;
    if (is_drawn && (is_closed(moment) || is_end_token(moment.token))) return end_round(moment);
    if (is_closed(moment)) is_over_ = true;
    if (moment.think_tokens <= options_.max_think_tokens) within_ = moment.new_tokens;
    if (!is_drawn || !is_spent(moment)) return held(moment);
    return Force{final_text(moment), std::max(tokens_beyond(moment), moment.pending_tokens)};
  }

  void on_done(const Done& done) override {
    if (!done.was_mine || !is_ignoring_) return;
    ++ignored_;
    round_ = next_round_;
  }

 private:
  struct Round {
    int left;   // that it may draw
    int begin;  // thinking tokens before what it draws
  };

  static bool is_closed(const Moment& moment) { return moment.completes == Marker::think_close; }
  bool is_end_token(TokenId id) const {
    return std::ranges::find(options_.end_tokens, id) != options_.end_tokens.end();
  }
  bool counts_total() const { return options_.count == RoundBudget::total; }
  int drawn(const Moment& moment) const { return moment.think_tokens - round_.begin; }
  bool is_spent(const Moment& moment) const {
    return is_over_ ? moment.think_tokens >= options_.max_think_tokens
                    : drawn(moment) >= round_.left;
  }

  // How many of the last tokens are more than may stay. The harness cuts what all rounds have
  // thought to the limit of one.
  int tokens_beyond(const Moment& moment) const {
    if (is_over_) return 0;
    if (counts_total()) return std::max(drawn(moment) - round_.left, 0);
    return moment.think_tokens > options_.max_think_tokens ? moment.new_tokens - within_ : 0;
  }

  Action end_round(const Moment& moment) {
    if (is_over_) return Proceed{};
    const int end = is_closed(moment) ? moment.marker_tokens : 1;
    // An end token counts as thinking until it is taken back.
    const int before = moment.think_tokens - (is_closed(moment) ? 0 : 1);
    // The README takes off what was drawn, the one token that ended the round included.
    next_round_.left = round_.left - (counts_total() ? before - round_.begin + 1 : 0);
    next_round_.begin = before + static_cast<int>(options_.with.size());
    if (ignored_ < options_.times && next_round_.left > 0) {
      is_ignoring_ = true;
      if (!options_.with.empty()) return Force{options_.with, end};
      // It may be spelled by other tokens.
      std::vector<Bias> biases = not_first_;
      const TokenId first = moment.tokens.last(static_cast<std::size_t>(end)).front();
      if (std::ranges::find(biases, first, &Bias::token) == biases.end())
        biases.push_back({first, never, 0});
      return Force{{}, end, biases};
    }
    const int back = std::max(tokens_beyond(moment), end);
    if (!is_closed(moment) || back > end) return Force{options_.closer, back};
    is_over_ = true;
    return Proceed{};
  }

  std::vector<TokenId> final_text(const Moment& moment) const {
    std::vector<TokenId> text;
    if (!moment.tail.ends_with('\n')) text = options_.newline;
    text.insert(text.end(), options_.closer.begin(), options_.closer.end());
    text.insert(text.end(), options_.final_text.begin(), options_.final_text.end());
    return text;
  }

  Action held(const Moment& moment) const {
    const bool may_be_empty = is_over_ || (counts_total() && ignored_ == 0);
    if (may_be_empty || moment.next != Segment::think || drawn(moment) > 0) return Proceed{};
    return Proceed{not_first_};
  }

  BudgetForcingOptions options_;
  std::vector<Bias> not_first_;
  Round round_;
  Round next_round_{0, 0};  // once the closer at hand is ignored
  bool is_ignoring_ = false;
  int ignored_ = 0;
  int within_ = 0;        // new tokens up to the last one within the whole limit
  bool is_over_ = false;  // a closer has passed
};

}  // namespace

std::shared_ptr<const Guide> budget_forcing(const BudgetForcingOptions& options) {
  constexpr std::string_view where = "budget_forcing";
  require_tokens(options.closer, "a closer", where);
  require_count(options.max_think_tokens, 1, "max_think_tokens", where);
  require_count(options.times, 0, "times", where);
  for (const auto* ids :
       {&options.with, &options.final_text, &options.newline, &options.end_tokens})
    require_ids(*ids, where);
  for (const auto* text : {&options.with, &options.final_text})
    require(std::ranges::search(*text, options.closer).empty(), ErrorCode::invalid_argument,
            "texts without the closer", "it", where);
  return std::make_shared<BudgetForcing>(options);
}

CatalogueEntry budget_forcing_entry() {
  return {{"budget_forcing",
           "s1, arXiv 2501.19393, as its evaluation harness does it",
           "the thinking is made to go on, and cut at a limit with a text that asks for the answer",
           {{"max", "32000", "most thinking tokens"},
            {"times", "1", "closers that are ignored"},
            {"with", "Wait", "what is fed in their place; may be empty"},
            {"count", "each_round",
             "each round has all of max, and the whole is cut to it; or "
             "total, as the README has it"},
            {"final", "Final Answer:", "behind the closer where the limit was met"}}},
          [](const Settings& settings) {
            BudgetForcingOptions options;
            options.closer = settings.markers().think_close;
            options.max_think_tokens = settings.whole("max");
            options.times = settings.whole("times");
            if (options.times > 0 && !settings.text("with").empty())
              options.with = settings.ids("with");
            options.count = settings.choice("count", {"each_round", "total"}) == 0
                                ? RoundBudget::each_round
                                : RoundBudget::total;
            options.newline = settings.ids_of("\n", "final");
            if (!settings.text("final").empty())
              options.final_text =
                  settings.ids_of(fmt::format("\n{}", settings.text("final")), "final");
            if (const auto end = settings.tokenizer().eos()) options.end_tokens = {*end};
            return budget_forcing(options);
          }};
}

}  // namespace pensive
