// What the guides share.
#pragma once
#include <algorithm>
#include <limits>
#include <span>
#include <string>
#include <string_view>

#include "base/inside.h"
#include "base/told.h"
#include "pensive/guides.h"

namespace pensive {

// As the bias of a token that is not to be drawn.
inline constexpr float never = -std::numeric_limits<float>::infinity();

inline void require_count(int count, int least, std::string_view name, std::string_view where) {
  require(count >= least, ErrorCode::invalid_argument,
          fmt::format("{} of at least {}", name, least), std::to_string(count), where);
}

// A number in [least, most]; NaN is none.
inline void require_range(double number, double least, double most, std::string_view name,
                          std::string_view where) {
  require(number >= least && number <= most, ErrorCode::invalid_argument,
          fmt::format("{} from {} to {}", name, least, most), fmt::format("{}", number), where);
}

// May be none at all.
inline void require_ids(std::span<const TokenId> ids, std::string_view where) {
  for (const TokenId id : ids) require_count(id, 0, "token ids", where);
}

inline void require_tokens(std::span<const TokenId> ids, std::string_view name,
                           std::string_view where) {
  require(!ids.empty(), ErrorCode::invalid_argument, name, "none", where);
  require_ids(ids, where);
}

// A token of the thinking that is no marker's last.
inline bool is_thought(const Moment& moment) noexcept {
  return moment.segment == Segment::think && moment.completes == Marker::none;
}
inline bool is_drawn_thought(const Moment& moment) noexcept {
  return is_thought(moment) && moment.origin == Origin::sampled;
}
inline bool ends_thinking(const Moment& moment) noexcept {
  return moment.segment == Segment::think && moment.completes == Marker::think_close;
}
// How many tokens of the closer, but not all, the text after the prompt ends with; those of a
// marker are none.
inline std::size_t begun_tokens(const Moment& moment, std::span<const TokenId> closer) {
  if (moment.completes != Marker::none || closer.empty()) return 0;
  const auto text = moment.tokens.last(static_cast<std::size_t>(moment.new_tokens));
  std::size_t begun = std::min(closer.size() - 1, text.size());
  while (begun > 0 && !std::ranges::equal(text.last(begun), closer.first(begun))) --begun;
  return begun;
}
// A thought that ends a line or sentence. A token without text, such as a soft one, ends none.
inline bool ends_sentence(const Moment& moment) noexcept {
  return is_thought(moment) && !moment.text.empty() && is_sentence_end(moment.tail);
}

}  // namespace pensive
