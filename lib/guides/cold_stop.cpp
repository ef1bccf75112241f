// Soft Thinking's Cold Stop.
#include <fmt/ranges.h>

#include "guides/brake.h"

namespace pensive {
namespace {

class ColdStop final : public Brake {
 public:
  explicit ColdStop(const ColdStopOptions& options)
      : Brake(options.min_think_tokens, options.within_tokens), options_(options) {}
  std::string_view name() const override { return "cold_stop"; }
  std::string told() const override {
    return fmt::format("max_entropy_nats {} for_tokens {} within_tokens {} min_think_tokens {}",
                       options_.max_entropy_nats, options_.for_tokens, options_.within_tokens,
                       options_.min_think_tokens);
  }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<ColdStop>(*this); }

 private:
  bool is_due_after(const Moment& moment) override {
    if (moment.new_tokens <= last_) calm_ = 0;  // something was taken back
    last_ = moment.new_tokens;
    // An entropy that is no number, such as a forced token's, is not below.
    const bool is_calm = moment.entropy_nats < options_.max_entropy_nats;
    calm_ = is_drawn_thought(moment) && is_calm ? std::min(calm_ + 1, options_.for_tokens) : 0;
    return calm_ == options_.for_tokens;
  }

  ColdStopOptions options_;
  int calm_ = 0;
  int last_ = 0;  // kept tokens
};

}  // namespace

std::shared_ptr<const Guide> cold_stop(const ColdStopOptions& options) {
  constexpr std::string_view where = "cold_stop";
  const float entropy = options.max_entropy_nats;
  require(std::isfinite(entropy) && entropy >= 0, ErrorCode::invalid_argument,
          "max_entropy_nats of at least 0", fmt::format("{}", entropy), where);
  require_count(options.for_tokens, 1, "for_tokens", where);
  require_count(options.within_tokens, 0, "within_tokens", where);
  require_count(options.min_think_tokens, 0, "min_think_tokens", where);
  return std::make_shared<ColdStop>(options);
}

CatalogueEntry cold_stop_entry() {
  return {{"cold_stop",
           "Soft Thinking, arXiv 2505.15778",
           "closes after so many tokens in a row of which the model was sure",
           {{"entropy", "0.01", "nats below which it is sure"},
            {"tokens", "256", "in a row"},
            {"within", "0", "tokens for which a sentence end is waited for"},
            {"min", "0", "thinking tokens before it looks"}}},
          [](const Settings& settings) {
            return cold_stop({.max_entropy_nats = settings.number("entropy"),
                              .for_tokens = settings.whole("tokens"),
                              .within_tokens = settings.whole("within"),
                              .min_think_tokens = settings.whole("min")});
          }};
}

}  // namespace pensive
