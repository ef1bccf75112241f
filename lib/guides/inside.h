// What the guides share.
#pragma once
#include <string>
#include <string_view>
#include <variant>

#include "base/inside.h"
#include "pensive/guides.h"

namespace pensive {

inline void require_count(int count, std::string_view name, std::string_view where, int least = 0) {
  require(count >= least, ErrorCode::invalid_argument,
          fmt::format("{} of at least {}", name, least), std::to_string(count), where);
}

inline void require_ids(std::span<const TokenId> ids, std::string_view name,
                        std::string_view where) {
  require(!ids.empty(), ErrorCode::invalid_argument, fmt::format("{} of at least one token", name),
          "none", where);
  for (const TokenId id : ids)
    require(id >= 0, ErrorCode::invalid_argument, fmt::format("ids of at least 0 in {}", name),
            std::to_string(id), where);
}

// A number in [low, high]; NaN is none.
inline void require_within(float number, float low, float high, std::string_view name,
                           std::string_view where) {
  require(number >= low && number <= high, ErrorCode::invalid_argument,
          fmt::format("{} from {} to {}", name, low, high), fmt::format("{}", number), where);
}

// A token of the thinking that is no marker's last.
inline bool is_thought(const Moment& moment) noexcept {
  return moment.segment == Segment::think && moment.completes == Marker::none;
}
inline bool ends_thinking(const Moment& moment) noexcept {
  return moment.segment == Segment::think && moment.completes == Marker::think_close;
}
// A thought that ends a line or sentence. A token without text, such as a soft one, ends none.
inline bool ends_sentence(const Moment& moment) noexcept {
  return is_thought(moment) && !moment.text.empty() && is_sentence_end(moment.tail);
}
// How many tokens an action that was carried out took back.
inline int taken_back(const Action& action) noexcept {
  if (const auto* force = std::get_if<Force>(&action)) return force->replaces_last;
  if (const auto* close = std::get_if<Close>(&action)) return close->replaces_last;
  return 0;
}

}  // namespace pensive
