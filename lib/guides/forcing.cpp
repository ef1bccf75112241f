#include <algorithm>
#include <memory>
#include <utility>

#include "guides/catalogue.h"
#include "guides/inside.h"

namespace pensive {
namespace {

class BudgetForcing final : public Guide {
 public:
  explicit BudgetForcing(BudgetForcingOptions options) : options_(std::move(options)) {}
  std::string_view name() const override { return "budget_forcing"; }
  bool needs_markers() const override { return true; }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<BudgetForcing>(*this); }

  Action on_token(const Moment& moment) override {
    if (moment.segment != Segment::think || is_over_) return Proceed{};
    const bool is_closed = moment.completes == Marker::think_close;
    if (is_closed && moment.origin == Origin::sampled) return at_closer(moment);
    if (is_closed || moment.completes != Marker::none) return Proceed{};
    const bool is_each = options_.count == RoundBudget::each_round;
    const int used = moment.think_tokens - (is_each ? round_start_ : 0);
    if (used < options_.max_think_tokens) return Proceed{};
    return end(cut(moment),
               moment.tail.ends_with('\n') ? options_.final_text : options_.final_text_on_new_line);
  }

  void on_done(const Done& done) override {
    if (done.was_mine && is_ignoring_) ++ignored_;
    if (done.was_mine && is_ending_) is_over_ = true;
    is_ignoring_ = is_ending_ = false;
  }

 private:
  Action at_closer(const Moment& moment) {
    if (ignored_ < options_.times) {
      is_ignoring_ = true;
      round_start_ = moment.think_tokens;
      return Force{options_.with, moment.marker_tokens};
    }
    const int more = cut(moment);
    if (more == 0) return Proceed{};
    return end(more + moment.marker_tokens, options_.closer);
  }

  // The harness cuts what all rounds have thought to the limit of one.
  int cut(const Moment& moment) const {
    return std::max(moment.think_tokens - options_.max_think_tokens, 0);
  }

  Action end(int replaces_last, const std::vector<TokenId>& text) {
    is_ending_ = true;
    return Force{text, replaces_last};
  }

  BudgetForcingOptions options_;
  int ignored_ = 0;
  int round_start_ = 0;
  bool is_ignoring_ = false, is_ending_ = false;  // what was asked last
  bool is_over_ = false;
};

}  // namespace

std::shared_ptr<const Guide> budget_forcing(const BudgetForcingOptions& given) {
  constexpr std::string_view where = "budget_forcing";
  BudgetForcingOptions options = given;
  require_tokens(options.closer, "a closer", where);
  require_count(options.max_think_tokens, 1, "max_think_tokens", where);
  require_count(options.times, 0, "times", where);
  if (options.times > 0) require_tokens(options.with, "with: at least one token", where);
  if (options.final_text.empty()) options.final_text = options.closer;
  if (options.final_text_on_new_line.empty()) options.final_text_on_new_line = options.final_text;
  for (const auto* text : {&options.final_text, &options.final_text_on_new_line})
    require(!std::ranges::search(*text, options.closer).empty(), ErrorCode::invalid_argument,
            "a final text that contains the closer", "none in it", where);
  return std::make_shared<BudgetForcing>(options);
}

CatalogueEntry budget_forcing_entry() {
  return {{"budget_forcing",
           "s1, arXiv 2501.19393, as its evaluation harness does it",
           "the thinking is made to go on, and cut at a limit with a text that asks for the answer",
           {{"max", "32000", "most thinking tokens"},
            {"times", "1", "closers that are ignored"},
            {"with", "Wait", "what is fed in their place"},
            {"count", "each_round",
             "each round has all of max, and the whole is cut to it; or "
             "total, as the README has it"},
            {"final", "Final Answer:", "behind the closer where the limit was met"}}},
          [](const Settings& settings) {
            BudgetForcingOptions options;
            options.closer = settings.markers().think_close;
            options.max_think_tokens = settings.whole("max");
            options.times = settings.whole("times");
            if (options.times > 0) options.with = settings.ids("with");
            options.count = settings.choice("count", {"each_round", "total"}) == 0
                                ? RoundBudget::each_round
                                : RoundBudget::total;
            std::vector<TokenId> last = options.closer;
            if (!settings.text("final").empty()) {
              const auto text = settings.ids_of("\n" + settings.text("final"), "final");
              last.insert(last.end(), text.begin(), text.end());
            }
            options.final_text = last;
            options.final_text_on_new_line = settings.ids_of("\n", "final");
            options.final_text_on_new_line.insert(options.final_text_on_new_line.end(),
                                                  last.begin(), last.end());
            return budget_forcing(options);
          }};
}

}  // namespace pensive
