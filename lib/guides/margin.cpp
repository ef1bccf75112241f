// ThinkBrake: closes where the closer is nearly the likeliest token.
#include <fmt/ranges.h>

#include <cmath>
#include <memory>
#include <utility>
#include <variant>

#include "guides/brake.h"

namespace pensive {
namespace {

bool ends_at(Boundary boundary, std::string_view text) {
  if (boundary == Boundary::paragraph) return text.ends_with(".\n\n");
  return boundary == Boundary::line ? text.ends_with('\n') : is_sentence_end(text);
}

class MarginBrake final : public Guide, public Told {
 public:
  explicit MarginBrake(const MarginBrakeOptions& options) : options_(options) {}
  std::string_view name() const override { return "margin_brake"; }
  std::string told() const override {
    return fmt::format("closer {} max_margin_nats {} min_think_tokens {} at {}", options_.closer,
                       options_.max_margin_nats, options_.min_think_tokens,
                       static_cast<int>(options_.at));
  }
  bool needs_markers() const override { return true; }
  std::vector<TokenId> watches() const override { return {options_.closer.front()}; }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<MarginBrake>(*this); }

  Action on_token(const Moment& moment) override {
    const bool was_at_end = is_at_end_ && think_tokens_ >= options_.min_think_tokens;
    const bool is_text = moment.segment == Segment::think && moment.completes == Marker::none;
    // A token without text, such as a soft one, is no boundary although the text ends at one.
    is_at_end_ = is_text && !moment.text.empty() && ends_at(options_.at, moment.tail);
    think_tokens_ = moment.think_tokens;
    if (!was_at_end || !is_text || moment.origin != Origin::sampled) return Proceed{};
    if (moment.token == options_.closer.front() || moment.watched.empty()) return Proceed{};
    // Where the closer itself is the likeliest, this is 0 and not below: either is at most tau.
    const float margin = moment.top_logprob - moment.watched[0];
    if (!(margin <= options_.max_margin_nats)) return Proceed{};  // also when it is NaN
    return Close{CloseReason::brake, 1, 0};
  }

  void on_done(const Done& done) override {
    // After taking back, the last token shown is not the one before the next.
    const Force* force = std::get_if<Force>(done.action);
    const Close* close = std::get_if<Close>(done.action);
    if ((force != nullptr && force->replaces_last > 0) ||
        (close != nullptr && close->replaces_last > 0))
      is_at_end_ = false;
  }

 private:
  MarginBrakeOptions options_;
  bool is_at_end_ = false;  // the token before ended what `at` names
  int think_tokens_ = 0;    // up to that token
};

}  // namespace

std::shared_ptr<const Guide> margin_brake(const MarginBrakeOptions& options) {
  constexpr std::string_view where = "margin_brake";
  require_tokens(options.closer, "a closer", where);
  const float margin = options.max_margin_nats;
  require(std::isfinite(margin) && margin >= 0, ErrorCode::invalid_argument,
          "max_margin_nats of at least 0", fmt::format("{}", margin), where);
  require_count(options.min_think_tokens, 0, "min_think_tokens", where);
  return std::make_shared<MarginBrake>(options);
}

CatalogueEntry margin_entry() {
  return {{"margin",
           "ThinkBrake, arXiv 2510.00546; tau 0.1 for Qwen3 and R1-7B, 2.5 for Phi-4-reasoning",
           "closes where the closer is nearly the likeliest token after a paragraph",
           {{"tau", "0.1", "nats by which the best token may lead"},
            {"at", "paragraph", "where it looks: paragraph (after \".\\n\\n\"), line or sentence"},
            {"min", "0", "thinking tokens before it looks"}}},
          [](const Settings& settings) {
            return margin_brake({.closer = settings.markers().think_close,
                                 .max_margin_nats = settings.number("tau"),
                                 .min_think_tokens = settings.whole("min"),
                                 .at = static_cast<Boundary>(
                                     settings.choice("at", {"paragraph", "line", "sentence"}))});
          }};
}

}  // namespace pensive
