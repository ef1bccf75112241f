// Think Token Adjustment: the closer is made likelier, all the time or more and more.
#include <fmt/ranges.h>

#include <memory>
#include <utility>

#include "guides/catalogue.h"
#include "guides/inside.h"

namespace pensive {
namespace {

class CloserPressure final : public Guide, public Told {
 public:
  explicit CloserPressure(CloserPressureOptions options) : options_(std::move(options)) {}
  std::string_view name() const override { return "closer_pressure"; }
  std::string told() const override {
    return fmt::format("closer {} alpha {} from {} full {} at {}", options_.closer, options_.alpha,
                       options_.from, options_.full, static_cast<int>(options_.at));
  }
  bool needs_markers() const override { return true; }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<CloserPressure>(*this); }

  Action on_start(const Moment& moment) override { return push(moment); }
  Action on_token(const Moment& moment) override { return push(moment); }

 private:
  Action push(const Moment& moment) const {
    if (moment.next != Segment::think) return Proceed{};
    const float alpha = options_.alpha * share(moment.think_tokens);
    const std::size_t begun = begun_tokens(moment, options_.closer);
    const bool is_place = options_.at == PressureAt::anywhere || ends_sentence(moment);
    if (alpha == 0 || (begun == 0 && !is_place)) return Proceed{};
    return Proceed{{{options_.closer[begun], 0, alpha}}};
  }

  float share(int think_tokens) const {
    if (think_tokens >= options_.full) return 1;
    if (think_tokens <= options_.from) return 0;
    return static_cast<float>(think_tokens - options_.from) /
           static_cast<float>(options_.full - options_.from);
  }

  CloserPressureOptions options_;
};

}  // namespace

std::shared_ptr<const Guide> closer_pressure(const CloserPressureOptions& options) {
  constexpr std::string_view where = "closer_pressure";
  require_tokens(options.closer, "a closer", where);
  require_range(options.alpha, 0, 100, "alpha", where);
  require_count(options.from, 0, "from", where);
  require(options.full >= options.from, ErrorCode::invalid_argument,
          fmt::format("full of at least from = {}", options.from), std::to_string(options.full),
          where);
  return std::make_shared<CloserPressure>(options);
}

CatalogueEntry closer_pressure_entry() {
  return {{"closer_pressure",
           "Think Token Adjustment, arXiv 2506.02536, (b); growing near a limit: llama.cpp's users",
           "makes the closer likelier: alpha x (largest - mean logit) is added to its own",
           {{"alpha", "0.6", "0.2 to 0.4 did best in the paper's ablation"},
            {"from", "0", "thinking tokens before it begins"},
            {"full", "-1", "thinking tokens at which all of alpha is there; -1: from"},
            {"at", "anywhere", "or sentence: only after a line or sentence"}}},
          [](const Settings& settings) {
            const int from = settings.whole("from"), full = settings.whole("full");
            return closer_pressure(
                {.closer = settings.markers().think_close,
                 .alpha = settings.number("alpha"),
                 .from = from,
                 .full = full == -1 ? from : full,
                 .at = static_cast<PressureAt>(settings.choice("at", {"anywhere", "sentence"}))});
          }};
}

}  // namespace pensive
