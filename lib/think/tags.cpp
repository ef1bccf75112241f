#include "think/tags.h"

#include <algorithm>
#include <utility>

namespace pensive {

Tags::Tags(const Markers& markers, const Tokenizer& tokenizer) {
  const auto has_no_text = [&](TokenId id) {
    return tokenizer.is_special(id) || !tokenizer.is_known(id);
  };
  const auto add = [&](Marker marker, const std::vector<TokenId>& tokens) {
    if (tokens.size() < 2 || std::ranges::any_of(tokens, has_no_text)) return;
    std::string text = tokenizer.decode(tokens);
    // Whatever spaces a tokenizer puts in front of a text are none of the tag's.
    text.erase(0, std::min(text.find_first_not_of(" \n"), text.size()));
    if (text.empty()) return;
    longest_ = std::max(longest_, text.size());
    tags_.push_back({marker, std::move(text)});
  };
  add(Marker::think_open, markers.think_open);
  add(Marker::think_close, markers.think_close);
  add(Marker::answer_open, markers.answer_open);
  add(Marker::answer_close, markers.answer_close);
}

Tags::Found Tags::find(std::string_view text, std::size_t known) const {
  Found first;
  for (const Tag& tag : tags_) {
    const std::size_t size = tag.text.size();
    const std::size_t begin = text.find(tag.text, known + 1 - std::min(known + 1, size));
    if (begin == text.npos) continue;
    const std::size_t end = begin + size;
    const bool is_better = first.marker == Marker::none || end < first.end ||
                           (end == first.end && begin < first.begin);
    if (is_better) first = {tag.marker, begin, end};
  }
  return first;
}

std::size_t Tags::begun(std::string_view text) const {
  std::size_t longest = 0;
  for (const Tag& tag : tags_)
    for (std::size_t size = std::min(tag.text.size() - 1, text.size()); size > longest; --size)
      if (text.ends_with(std::string_view(tag.text).substr(0, size))) longest = size;
  return longest;
}

}  // namespace pensive
