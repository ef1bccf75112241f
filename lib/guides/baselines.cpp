// What brakes are compared with: stopping by chance, and a budget that knows only the prompt.
#include <fmt/ranges.h>

#include <optional>

#include "guides/brake.h"

namespace pensive {
namespace {

class RandomStop final : public Brake {
 public:
  explicit RandomStop(const RandomStopOptions& options)
      : Brake(options.min_think_tokens, 0), options_(options) {}
  std::string_view name() const override { return "random_stop"; }
  std::string told() const override {
    return fmt::format("chance {} seed {} min_think_tokens {}", options_.chance, options_.seed,
                       options_.min_think_tokens);
  }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<RandomStop>(*this); }

 private:
  bool is_due_after(const Moment& moment) override {
    if (!ends_sentence(moment)) return false;
    if (!prompt_) {
      prompt_ = mixed(options_.seed);
      for (const TokenId id : moment.tokens.first(static_cast<std::size_t>(moment.prompt_tokens)))
        prompt_ = mixed(*prompt_ + 1 + static_cast<std::uint64_t>(id));
    }
    const std::uint64_t bits = mixed(*prompt_ + 1 + static_cast<std::uint64_t>(moment.new_tokens));
    return static_cast<double>(bits >> 11) * 0x1p-53 < options_.chance;
  }

  RandomStopOptions options_;
  std::optional<std::uint64_t> prompt_;  // its hash, with the seed
};

class PromptBudget final : public Guide, public Told {
 public:
  explicit PromptBudget(const PromptBudgetOptions& options) : options_(options) {}
  PromptBudget(const PromptBudget& other)
      : options_(other.options_), budget_(other.budget_ ? other.budget_->clone() : nullptr) {}
  std::string_view name() const override { return "prompt_budget"; }
  std::string told() const override {
    return fmt::format("tokens_per_prompt_token {} window_tokens {}",
                       options_.tokens_per_prompt_token, options_.window_tokens);
  }
  bool needs_markers() const override { return true; }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<PromptBudget>(*this); }

  Action on_start(const Moment& moment) override { return within(moment).on_start(moment); }
  Action on_token(const Moment& moment) override { return within(moment).on_token(moment); }
  void on_done(const Done& done) override {
    if (budget_) budget_->on_done(done);
  }

 private:
  Guide& within(const Moment& moment) {
    if (!budget_) {
      const double limit =
          static_cast<double>(options_.tokens_per_prompt_token) * moment.prompt_tokens;
      BudgetOptions options;
      options.max_think_tokens = static_cast<int>(std::min<double>(std::round(limit), 1 << 30));
      if (options_.window_tokens >= 0)
        options.window_tokens = std::min(options_.window_tokens, options.max_think_tokens);
      budget_ = budget(options)->clone();
    }
    return *budget_;
  }

  PromptBudgetOptions options_;
  std::unique_ptr<Guide> budget_;
};

}  // namespace

std::shared_ptr<const Guide> random_stop(const RandomStopOptions& options) {
  require_range(options.chance, 0, 1, "chance", "random_stop");
  require_count(options.min_think_tokens, 0, "min_think_tokens", "random_stop");
  return std::make_shared<RandomStop>(options);
}

std::shared_ptr<const Guide> prompt_budget(const PromptBudgetOptions& options) {
  const float factor = options.tokens_per_prompt_token;
  require(std::isfinite(factor) && factor > 0, ErrorCode::invalid_argument,
          "tokens_per_prompt_token above 0", fmt::format("{}", factor), "prompt_budget");
  require_count(options.window_tokens, -1, "window_tokens", "prompt_budget");
  return std::make_shared<PromptBudget>(options);
}

CatalogueEntry random_stop_entry() {
  return {{"random_stop",
           "a control for experiments",
           "closes at a sentence end by chance, the same for the same seed and prompt",
           {{"p", "0.1", "the chance at each"},
            {"seed", "0", "of the draws"},
            {"min", "0", "thinking tokens before it looks"}}},
          [](const Settings& settings) {
            const int seed = settings.whole("seed");
            require_count(seed, 0, "seed", "guide random_stop");
            return random_stop({.chance = settings.number("p"),
                                .seed = static_cast<std::uint64_t>(seed),
                                .min_think_tokens = settings.whole("min")});
          }};
}

CatalogueEntry prompt_budget_entry() {
  return {{"prompt_budget",
           "a baseline for experiments",
           "a budget of so many thinking tokens for each token of the prompt",
           {{"factor", "1", "thinking tokens for each"},
            {"window", "-1", "how long before the limit a sentence end closes; -1: as budget"}}},
          [](const Settings& settings) {
            return prompt_budget({.tokens_per_prompt_token = settings.number("factor"),
                                  .window_tokens = settings.whole("window")});
          }};
}

}  // namespace pensive
