// Which tokens of a vocabulary hold a word.
#include "guides/vocabulary.h"

#include <algorithm>
#include <functional>

#include "base/inside.h"
#include "judge/trim.h"
#include "pensive/guides.h"

namespace pensive {
namespace {

std::string lowered(std::string_view text) {
  std::string low(text);
  std::ranges::transform(low, low.begin(), folded);
  return low;
}

std::vector<std::string> lowered_words(std::span<const std::string> words) {
  std::vector<std::string> low;
  for (const std::string& word : words) {
    require(!word.empty(), ErrorCode::invalid_argument, "words of at least a byte", "an empty one",
            "tokens_containing");
    low.push_back(lowered(word));
  }
  return low;
}

// White space and ASCII's punctuation; what is part of a longer character is not.
bool is_around(char c) {
  const bool is_text = (c >= '0' && c <= '9') || (folded(c) >= 'a' && folded(c) <= 'z') ||
                       static_cast<unsigned char>(c) >= 0x80;
  return !is_text;
}

std::string_view inner(std::string_view text) {
  while (!text.empty() && is_around(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_around(text.back())) text.remove_suffix(1);
  return text;
}

std::vector<TokenId> tokens_where(const Tokenizer& tokenizer,
                                  const std::function<bool(std::string_view)>& is_meant) {
  std::vector<TokenId> found;
  for (const TokenId id : own_ids(tokenizer)) {
    if (tokenizer.is_special(id)) continue;
    if (is_meant(lowered(tokenizer.decode({&id, 1})))) found.push_back(id);
  }
  return found;
}

}  // namespace

std::vector<TokenId> own_ids(const Tokenizer& tokenizer) {
  constexpr TokenId limit = 1 << 24;  // a vocabulary may have holes, but none this large
  std::vector<TokenId> ids;
  for (TokenId id = 0; std::ssize(ids) < tokenizer.size() && id < limit; ++id)
    if (tokenizer.is_known(id)) ids.push_back(id);
  return ids;
}

std::vector<TokenId> tokens_containing(const Tokenizer& tokenizer,
                                       std::span<const std::string> words,
                                       std::span<const std::string> except) {
  const std::vector<std::string> wanted = lowered_words(words);
  const std::vector<std::string> spared = lowered_words(except);
  return tokens_where(tokenizer, [&](std::string_view text) {
    const auto has = [&](const std::string& word) { return text.find(word) != text.npos; };
    return std::ranges::any_of(wanted, has) && std::ranges::none_of(spared, has);
  });
}

std::vector<TokenId> tokens_spelling(const Tokenizer& tokenizer, std::string_view word) {
  const std::string wanted = lowered(inner(word));
  require(!wanted.empty(), ErrorCode::invalid_argument, "a word", in_quotes(word),
          "tokens_spelling");
  return tokens_where(tokenizer, [&](std::string_view text) { return inner(text) == wanted; });
}

}  // namespace pensive
