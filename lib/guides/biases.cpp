// Guides that only lean on the next draw.
#include <algorithm>
#include <cctype>
#include <limits>
#include <memory>
#include <utility>

#include "guides/catalogue.h"
#include "guides/inside.h"

namespace pensive {
namespace {

constexpr float never = -std::numeric_limits<float>::infinity();

// Whether the next token is drawn inside the thinking.
bool goes_on_thinking(const Moment& moment) noexcept {
  return moment.segment == Segment::think && moment.completes != Marker::think_close;
}

class SwitchPenalty final : public Guide {
 public:
  explicit SwitchPenalty(SwitchPenaltyOptions options) : options_(std::move(options)) {
    for (const TokenId id : options_.tokens) biases_.push_back({id, -options_.alpha, 0});
  }
  std::string_view name() const override { return "switch_penalty"; }
  bool needs_markers() const override { return true; }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<SwitchPenalty>(*this); }

  Action on_token(const Moment& moment) override {
    if (moment.completes == Marker::think_open) start_ = moment.think_tokens;
    if (!goes_on_thinking(moment)) return Proceed{};
    if (std::ranges::find(options_.tokens, moment.token) != options_.tokens.end())
      start_ = moment.think_tokens;
    start_ = std::min(start_, moment.think_tokens);  // what began it may have been taken back
    if (moment.think_tokens - start_ >= options_.beta) return Proceed{};
    return Proceed{biases_};
  }

 private:
  SwitchPenaltyOptions options_;
  std::vector<Bias> biases_;
  int start_ = 0;  // thinking tokens before the thought that is going on
};

class Ban final : public Guide {
 public:
  explicit Ban(const BanOptions& options) : also_in_answer_(options.also_in_answer) {
    std::vector<TokenId> tokens = options.tokens;
    std::ranges::sort(tokens);
    for (const TokenId id : tokens)
      if (biases_.empty() || biases_.back().token != id) biases_.push_back({id, never, 0});
  }
  std::string_view name() const override { return "ban"; }
  bool needs_markers() const override { return !also_in_answer_; }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<Ban>(*this); }
  Action on_start(const Moment&) override { return Proceed{biases_}; }
  Action on_token(const Moment& moment) override {
    if (also_in_answer_ || goes_on_thinking(moment)) return Proceed{biases_};
    return Proceed{};
  }

 private:
  std::vector<Bias> biases_;
  bool also_in_answer_;
};

class CloserPressure final : public Guide {
 public:
  explicit CloserPressure(CloserPressureOptions options) : options_(std::move(options)) {}
  std::string_view name() const override { return "closer_pressure"; }
  bool needs_markers() const override { return true; }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<CloserPressure>(*this); }

  Action on_token(const Moment& moment) override {
    if (!goes_on_thinking(moment)) return Proceed{};
    const std::size_t begun = begun_tokens(moment);
    if (begun == 0 && options_.at_sentence_ends && !ends_sentence(moment)) return Proceed{};
    const float alpha = options_.alpha * share(moment.think_tokens);
    if (alpha == 0) return Proceed{};
    return Proceed{{{options_.closer[begun], 0, alpha}}};
  }

 private:
  // How much of the closer stands at the end already.
  std::size_t begun_tokens(const Moment& moment) const {
    for (std::size_t n = options_.closer.size() - 1; n > 0; --n) {
      const auto head = std::span(options_.closer).first(n);
      if (moment.new_tokens >= static_cast<int>(n) &&
          std::ranges::equal(moment.tokens.last(n), head))
        return n;
    }
    return 0;
  }
  // 0 before `from`, 1 from `full` on, a straight line between.
  float share(int think_tokens) const {
    if (think_tokens < options_.from) return 0;
    if (think_tokens >= options_.full) return 1;
    return static_cast<float>(think_tokens - options_.from + 1) /
           static_cast<float>(options_.full - options_.from + 1);
  }

  CloserPressureOptions options_;
};

std::string lower(std::string_view text) {
  std::string low(text);
  for (char& c : low) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return low;
}

// NoWait's list (arXiv 2506.08343), and what its authors filter out by hand.
constexpr std::string_view no_wait_words =
    "wait|alternatively|hmm|but|however|alternative|another|check|double-check|oh|maybe|verify|"
    "other|again|now|ah|any";
constexpr std::string_view no_wait_except =
    "ohio|button|contribut|distribut|attribut|butter|know|brother|mother|another's|company|many|"
    "germany|checker|snow|against|john|ahead|utah";

}  // namespace

std::vector<TokenId> tokens_containing(const Tokenizer& tokenizer,
                                       std::span<const std::string> words,
                                       std::span<const std::string> except) {
  const auto holds = [](const std::string& text, const std::string& word) {
    return text.find(lower(word)) != text.npos;
  };
  std::vector<TokenId> found;
  for (TokenId id = 0; id < tokenizer.size(); ++id) {
    if (!tokenizer.is_known(id) || tokenizer.is_special(id)) continue;
    const std::string text = lower(tokenizer.decode(std::span(&id, 1), true));
    const auto in_text = [&](const std::string& word) { return holds(text, word); };
    if (std::ranges::any_of(words, in_text) && std::ranges::none_of(except, in_text))
      found.push_back(id);
  }
  return found;
}

std::shared_ptr<const Guide> switch_penalty(const SwitchPenaltyOptions& options) {
  constexpr std::string_view where = "switch_penalty";
  require_tokens(options.tokens, "tokens: at least one token", where);
  require_range(options.alpha, 0, 1e6f, "alpha", where);
  require_count(options.beta, 0, "beta", where);
  return std::make_shared<SwitchPenalty>(options);
}

std::shared_ptr<const Guide> ban(const BanOptions& options) {
  require_tokens(options.tokens, "tokens: at least one token", "ban");
  return std::make_shared<Ban>(options);
}

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

CatalogueEntry switch_penalty_entry() {
  return {{"switch_penalty",
           "TIP, arXiv 2501.18585",
           "makes a new thought less likely until the present one is long enough",
           {{"words", "alternatively|Alternatively| Alternatively| alternatively",
             "what begins a thought, separated by |; of several tokens the first"},
            {"alpha", "3", "taken off their logits"},
            {"beta", "600", "tokens from the beginning of each thought"}}},
          [](const Settings& settings) {
            SwitchPenaltyOptions options;
            for (const std::string& word : settings.list("words")) {
              const TokenId id = settings.ids_of(word, "words").front();
              if (std::ranges::find(options.tokens, id) == options.tokens.end())
                options.tokens.push_back(id);
            }
            options.alpha = settings.number("alpha");
            options.beta = settings.whole("beta");
            return switch_penalty(options);
          }};
}

CatalogueEntry ban_entry() {
  return {{"ban",
           "NoWait, arXiv 2506.08343 (it found that distilled models lose by it)",
           "no token that contains one of these words is drawn in the thinking",
           {{"words", no_wait_words, "separated by |, in any case"},
            {"except", no_wait_except, "tokens that contain one of these stay"},
            {"answer", "no", "yes: in the answer neither"}}},
          [](const Settings& settings) {
            const auto words = settings.list("words"), except = settings.list("except");
            return ban({.tokens = tokens_containing(settings.tokenizer(), words, except),
                        .also_in_answer = settings.flag("answer")});
          }};
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
                 .at_sentence_ends = settings.choice("at", {"anywhere", "sentence"}) == 1});
          }};
}

}  // namespace pensive
