#include <algorithm>
#include <utility>

#include "base/inside.h"
#include "pensive/text.h"
#include "text/parts.h"

namespace pensive {
namespace {

constexpr std::string_view replacement = "\xef\xbf\xbd";  // U+FFFD

}  // namespace

TextStream::TextStream(std::shared_ptr<const Tokenizer> tokenizer, bool keep_special)
    : tokenizer_(std::move(tokenizer)), keep_special_(keep_special) {
  require(tokenizer_ != nullptr, ErrorCode::invalid_argument, "a tokenizer", "none", "TextStream");
}

std::string TextStream::push(TokenId id) {
  const Tokenizer::Parts& parts = *tokenizer_->parts_;
  const Vocabulary& vocabulary = *parts.vocabulary;
  const int flags = vocabulary.flags_of(id);
  const auto name = flags == 0 ? parts.names.find(id) : parts.names.end();
  if (flags == 0 && name == parts.names.end())
    fail(ErrorCode::invalid_argument, "an id that the tokenizer knows", fmt::format("{}", id),
         parts.where);
  if ((flags & pensive_door_special) != 0 && !keep_special_) return {};
  if (vocabulary.join == pensive_door_windowed)
    return push_to_window(id, (flags & pensive_door_byte) != 0);

  std::string text;
  if (vocabulary.join == pensive_door_spaced && is_begun_) take(" ", text);
  is_begun_ = true;
  take(flags != 0 ? vocabulary.piece(id) : std::string_view(name->second), text);
  return text;
}

void TextStream::take(std::string_view bytes, std::string& text) {
  std::string joined;
  if (!partial_.empty()) {
    joined = std::exchange(partial_, {});
    joined += bytes;
    bytes = joined;
  }
  while (!bytes.empty()) {
    const int length = utf8_length(bytes);
    if (length == 0) {
      partial_ = bytes;
      return;
    }
    const auto taken = static_cast<std::size_t>(std::abs(length));
    text += length > 0 ? bytes.substr(0, taken) : replacement;
    bytes.remove_prefix(taken);
  }
}

std::string TextStream::push_to_window(TokenId id, bool is_byte) {
  window_.push_back(id);
  // One bad byte spoils a whole run of byte tokens, so nothing of a run is sure before its end.
  if (is_byte) return {};
  std::string text;
  try {
    text = tokenizer_->decode(window_, true);
  } catch (...) {
    window_.pop_back();
    throw;
  }
  const bool may_change = text.ends_with(replacement);
  const std::size_t sure = text.size() - (may_change ? replacement.size() : 0);
  std::string fresh = sure > emitted_ ? text.substr(emitted_, sure - emitted_) : std::string();
  emitted_ = std::max(emitted_, sure);
  if (!may_change) shorten_window(text);
  return fresh;
}

void TextStream::shorten_window(std::string_view text) {
  constexpr std::ptrdiff_t longest = 8;
  constexpr std::ptrdiff_t kept = 4;
  if (std::ssize(window_) <= longest) return;
  const std::span<const TokenId> last(window_.end() - kept, window_.end());
  const std::string tail = tokenizer_->decode(last, true);
  // An empty tail might lose a leading space that the longer window has lost already.
  if (tail.empty() || !text.ends_with(tail)) return;
  window_.erase(window_.begin(), window_.end() - kept);
  emitted_ = tail.size();
}

std::string TextStream::finish() {
  std::string text;
  if (!window_.empty()) {
    const std::string whole = tokenizer_->decode(window_, true);
    if (whole.size() > emitted_) text = whole.substr(emitted_);
  }
  if (!partial_.empty()) text += replacement;
  partial_.clear();
  window_.clear();
  emitted_ = 0;
  is_begun_ = false;
  return text;
}

}  // namespace pensive
