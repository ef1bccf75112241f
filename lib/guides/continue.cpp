// Thinking goes on where it wanted to end.
#include <fmt/ranges.h>

#include <memory>
#include <variant>

#include "guides/catalogue.h"
#include "guides/inside.h"

namespace pensive {
namespace {

class ContinueThinking final : public Guide, public Told {
 public:
  explicit ContinueThinking(const ContinueOptions& options) : options_(options) {}
  std::string_view name() const override { return "continue_thinking"; }
  std::string told() const override {
    return fmt::format("with {} times {} max_think_tokens {} at_max {}", options_.with,
                       options_.times, options_.max_think_tokens,
                       static_cast<int>(options_.at_max));
  }
  bool needs_markers() const override { return true; }
  std::unique_ptr<Guide> clone() const override {
    return std::make_unique<ContinueThinking>(*this);
  }

  Action on_token(const Moment& moment) override {
    const bool is_at_max = moment.think_tokens >= options_.max_think_tokens;
    if (is_at_max && options_.at_max == AtMax::close && moment.next == Segment::think)
      return Close{CloseReason::budget, 0, 0};
    if (!ends_thinking(moment) || moment.origin != Origin::sampled) return Proceed{};
    if (is_at_max || times_done_ >= options_.times) return Proceed{};
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

std::shared_ptr<const Guide> continue_thinking(const ContinueOptions& options) {
  constexpr std::string_view where = "continue_thinking";
  require_tokens(options.with, "tokens to go on with", where);
  require_count(options.times, 0, "times", where);
  require_count(options.max_think_tokens, 0, "max_think_tokens", where);
  return std::make_shared<ContinueThinking>(options);
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
            return continue_thinking(
                {.with = settings.ids("with"),
                 .times = settings.whole("times"),
                 .max_think_tokens = settings.whole("max"),
                 .at_max = settings.flag("close") ? AtMax::close : AtMax::let_through});
          }};
}

}  // namespace pensive
