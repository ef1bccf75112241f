#include "pensive/trace.h"

#include <string>
#include <utility>

#include "base/inside.h"
#include "trace/columns.h"

namespace pensive {

std::string fault_of(const Trace& trace) {
  const std::size_t size = trace.tokens.size();
  const std::pair<std::string_view, std::size_t> columns[] = {
      {"logprobs", trace.logprobs.size()},
      {"drawn_logprobs", trace.drawn_logprobs.size()},
      {"entropies_nats", trace.entropies_nats.size()},
      {"segments", trace.segments.size()},
      {"origins", trace.origins.size()},
      {"is_marker", trace.is_marker.size()},
      {"is_taken_back", trace.is_taken_back.size()}};
  if (trace.top_count < 0) return fmt::format("a top_count of {}", trace.top_count);
  const std::size_t tops = static_cast<std::size_t>(trace.top_count) * size;
  for (const auto& [name, length] : {std::pair("top_tokens", trace.top_tokens.size()),
                                     std::pair("top_logprobs", trace.top_logprobs.size())})
    if (length != tops)
      return fmt::format("{} {} for {} tokens of {}", length, name, size, trace.top_count);
  for (const auto& [name, length] : {std::pair("is_steered", trace.is_steered.size()),
                                     std::pair("seconds", trace.seconds.size())})
    if (length != size && length != 0)
      return fmt::format("{} {} for {} tokens", length, name, size);
  for (const auto& [name, length] : columns)
    if (length != size) return fmt::format("{} {} for {} tokens", length, name, size);
  if (trace.prompt_tokens < 0 || static_cast<std::size_t>(trace.prompt_tokens) > size)
    return fmt::format("{} prompt_tokens of {} tokens", trace.prompt_tokens, size);
  return {};
}

std::vector<TokenId> Trace::kept() const {
  std::vector<TokenId> kept;
  for (std::size_t i = 0; i < tokens.size(); ++i)
    if (is_taken_back[i] == 0) kept.push_back(tokens[i]);
  return kept;
}

int Trace::decoded_tokens() const noexcept {
  return static_cast<int>(tokens.size()) - prompt_tokens + probe_tokens;
}

int Trace::count(Segment segment) const noexcept {
  int count = 0;
  for (std::size_t i = prompt_tokens; i < tokens.size(); ++i)
    if (segments[i] == segment && is_marker[i] == 0 && is_taken_back[i] == 0) ++count;
  return count;
}

}  // namespace pensive
