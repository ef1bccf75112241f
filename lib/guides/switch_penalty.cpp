// TIP: a thought is not left before it has been followed for a while.
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "guides/catalogue.h"
#include "guides/inside.h"

namespace pensive {
namespace {

class SwitchPenalty final : public Guide, public Told {
 public:
  explicit SwitchPenalty(const SwitchPenaltyOptions& options) : beta_(options.beta) {
    std::vector<TokenId> tokens = options.tokens;
    std::ranges::sort(tokens);
    tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
    for (const TokenId id : tokens) biases_.push_back({id, -options.alpha, 0});
  }
  std::string_view name() const override { return "switch_penalty"; }
  std::string told() const override {
    std::vector<std::uint32_t> tokens;
    for (const Bias& bias : biases_) tokens.push_back(static_cast<std::uint32_t>(bias.token));
    return fmt::format("tokens {:016x} alpha {} beta {}", hash_words(tokens),
                       -biases_.front().logit, beta_);
  }
  bool needs_markers() const override { return true; }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<SwitchPenalty>(*this); }

  Action on_start(const Moment& moment) override { return penalty(moment); }

  Action on_token(const Moment& moment) override {
    const int now = moment.think_tokens;
    // What was taken back has not begun.
    const int before = is_thought(moment) ? now - 1 : now;
    while (!begins_.empty() && begins_.back() > before) begins_.pop_back();
    const bool is_switch =
        is_thought(moment) && std::ranges::binary_search(biases_, moment.token, {}, &Bias::token);
    if (is_switch || moment.completes == Marker::think_open) begins_.push_back(now);
    return penalty(moment);
  }

 private:
  Action penalty(const Moment& moment) const {
    const int begin = begins_.empty() ? 0 : begins_.back();
    if (moment.next != Segment::think || moment.think_tokens - begin >= beta_) return Proceed{};
    return Proceed{biases_};
  }

  std::vector<Bias> biases_;  // ascending
  int beta_;
  std::vector<int> begins_;  // Psi of each thought: thinking tokens before it
};

}  // namespace

std::shared_ptr<const Guide> switch_penalty(const SwitchPenaltyOptions& options) {
  constexpr std::string_view where = "switch_penalty";
  require_tokens(options.tokens, "tokens that begin another thought", where);
  require_range(options.alpha, 0, 1e6f, "alpha", where);
  require_count(options.beta, 0, "beta", where);
  return std::make_shared<SwitchPenalty>(options);
}

CatalogueEntry switch_penalty_entry() {
  return {{"switch_penalty",
           "TIP, arXiv 2501.18585",
           "makes a new thought less likely until the present one is long enough",
           {{"words", "alternatively|Alternatively| Alternatively| alternatively",
             "what begins a thought, separated by |: the tokens that are this word in any case, "
             "else the first of its own"},
            {"alpha", "3", "taken off their logits"},
            {"beta", "600", "tokens from the beginning of each thought"}}},
          [](const Settings& settings) {
            SwitchPenaltyOptions options;
            for (const std::string& word : settings.list("words")) {
              std::vector<TokenId> ids = tokens_spelling(settings.tokenizer(), word);
              if (ids.empty()) ids = {settings.ids_of(word, "words").front()};
              options.tokens.insert(options.tokens.end(), ids.begin(), ids.end());
            }
            options.alpha = settings.number("alpha");
            options.beta = settings.whole("beta");
            return switch_penalty(options);
          }};
}

}  // namespace pensive
