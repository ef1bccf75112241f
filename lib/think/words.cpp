#include <string_view>

#include "pensive/think.h"

namespace pensive {

std::string_view to_string(Segment segment) {
  switch (segment) {
    case Segment::prompt:
      return "prompt";
    case Segment::think:
      return "think";
    case Segment::answer:
      return "answer";
  }
  return "unknown";
}

std::string_view to_string(StopReason reason) {
  switch (reason) {
    case StopReason::running:
      return "running";
    case StopReason::end_token:
      return "end_token";
    case StopReason::length:
      return "length";
    case StopReason::guide:
      return "guide";
    case StopReason::cancelled:
      return "cancelled";
    case StopReason::stop_text:
      return "stop_text";
    case StopReason::deadline:
      return "deadline";
    case StopReason::error:
      return "error";
  }
  return "unknown";
}

std::string_view to_string(CloseReason reason) {
  switch (reason) {
    case CloseReason::budget:
      return "budget";
    case CloseReason::brake:
      return "brake";
    case CloseReason::other:
      return "other";
  }
  return "unknown";
}

namespace {

bool is_upper(char c) noexcept { return c >= 'A' && c <= 'Z'; }
bool is_letter(char c) noexcept { return is_upper(c) || (c >= 'a' && c <= 'z'); }
bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

bool drop_end(std::string_view& text, std::string_view end) noexcept {
  if (!text.ends_with(end)) return false;
  text.remove_suffix(end.size());
  return true;
}

// Quotes and brackets that may follow the end of a sentence.
bool drop_closer(std::string_view& text) noexcept {
  for (const std::string_view closer : {"\"", "'", ")", "]", "}", "”", "’", "»"})
    if (drop_end(text, closer)) return true;
  return false;
}

}  // namespace

bool is_sentence_end(std::string_view text) noexcept {
  // A line end counts through the indentation behind it, but not through a bracket.
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r'))
    text.remove_suffix(1);
  if (text.ends_with('\n')) return true;
  while (drop_closer(text)) continue;
  if (text.ends_with('!') || text.ends_with('?') || text.ends_with("…")) return true;
  if (!drop_end(text, ".")) return false;
  if (text.empty()) return true;
  // "3." numbers a line or waits for decimals; "J." is an initial.
  if (is_digit(text.back())) return false;
  const bool is_alone = text.size() < 2 || !is_letter(text[text.size() - 2]);
  return !(is_upper(text.back()) && is_alone);
}

Action Guide::on_start(const Moment&) { return Proceed{}; }
Action Guide::on_probe(const ProbeReply&) { return Proceed{}; }
void Guide::on_done(const Done&) {}

}  // namespace pensive
