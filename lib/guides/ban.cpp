// NoWait: words that are not drawn in the thinking.
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "guides/catalogue.h"
#include "guides/inside.h"
#include "guides/vocabulary.h"

namespace pensive {
namespace {

class Ban final : public Guide, public Told {
 public:
  explicit Ban(const BanOptions& options) : scope_(options.scope) {
    const auto size = static_cast<std::size_t>(options.vocab_size);
    mask_.assign((size + 31) / 32, ~0u);
    if (size % 32 != 0) mask_.back() = (1u << (size % 32)) - 1;
    for (const TokenId id : options.tokens)
      mask_[static_cast<std::size_t>(id) / 32] &= ~(1u << (id % 32));
  }
  std::string_view name() const override { return "ban"; }
  std::string told() const override {
    return fmt::format("tokens {:016x} scope {}", hash_words(mask_), static_cast<int>(scope_));
  }
  bool needs_markers() const override { return scope_ == BanScope::thinking; }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<Ban>(*this); }

  Action on_start(const Moment& moment) override { return mask(moment); }
  Action on_token(const Moment& moment) override { return mask(moment); }
  bool leaves_nothing() const {
    return std::ranges::all_of(mask_, [](std::uint32_t word) { return word == 0; });
  }

 private:
  // A mask, for the paper's list is thousands of tokens, and biases are added one by one.
  Action mask(const Moment& moment) const {
    if (scope_ == BanScope::thinking && moment.next != Segment::think) return Proceed{};
    return Allow{mask_};
  }

  BanScope scope_;
  std::vector<std::uint32_t> mask_;
};

constexpr std::string_view no_wait_words =
    "wait|alternatively|hmm|but|however|alternative|another|check|double-check|oh|maybe|verify|"
    "other|again|now|ah|any";
// OURS: the paper filters by hand and names "Ohio" only. These are common words, or parts of words,
// in which one of the list stands by chance, such as "button", "knowledge" and "company".
constexpr std::string_view harmless_words =
    "ohio|ohm|john|bohr|alcohol|cohe|coho|butt|butan|debut|contribut|distribut|attribut|know|snow|"
    "brother|mother|company|companies|accompan|many|botany|checkbox|checker|checkpoint|checksum|"
    "against|ahead|utah|sarah|noah|abraham";

}  // namespace

std::shared_ptr<const Guide> ban(const BanOptions& options) {
  constexpr std::string_view where = "ban";
  require_tokens(options.tokens, "tokens to ban", where);
  require_count(options.vocab_size, 1, "vocab_size", where);
  for (const TokenId id : options.tokens)
    require(id < options.vocab_size, ErrorCode::invalid_argument,
            fmt::format("token ids below vocab_size = {}", options.vocab_size), std::to_string(id),
            where);
  const auto made = std::make_shared<Ban>(options);
  require(!made->leaves_nothing(), ErrorCode::invalid_argument, "a token that is not banned",
          "none", where);
  return made;
}

CatalogueEntry ban_entry() {
  return {
      {"ban",
       "NoWait, arXiv 2506.08343 (it found that distilled models lose by it)",
       "no token that contains one of these words is drawn in the thinking",
       {{"words", no_wait_words, "separated by |, in any case"},
        {"except", harmless_words, "tokens that contain one of these stay"},
        {"answer", "no", "yes: in the answer neither"}}},
      [](const Settings& settings) {
        const Tokenizer& tokenizer = settings.tokenizer();
        BanOptions options;
        options.tokens =
            tokens_containing(tokenizer, settings.list("words"), settings.list("except"));
        // Thinking could never end without the tokens of its closer.
        const std::vector<TokenId> markers = settings.marker_tokens();
        std::erase_if(options.tokens,
                      [&](TokenId id) { return std::ranges::find(markers, id) != markers.end(); });
        require(!options.tokens.empty(), ErrorCode::invalid_argument, "words that a token contains",
                in_quotes(settings.text("words")), "guide ban, words");
        options.vocab_size = own_ids(tokenizer).back() + 1;
        options.scope = settings.flag("answer") ? BanScope::everywhere : BanScope::thinking;
        return ban(options);
      }};
}

}  // namespace pensive
