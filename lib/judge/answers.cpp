// Where the final answer of a text stands.
#include <algorithm>
#include <vector>

#include "judge/trim.h"
#include "pensive/judge.h"

namespace pensive {
namespace {

constexpr std::size_t nowhere = std::string_view::npos;

// Where a box's content begins after \boxed or \fbox: at its brace, or at a number that follows.
struct Opening {
  std::size_t size = 0;  // of the command and what stands before the content; 0: no box
  bool has_brace = false;
};

Opening box_at(std::string_view text) {
  for (const std::string_view command : {"\\boxed", "\\fbox"}) {
    if (!text.starts_with(command)) continue;
    const std::size_t at = text.find_first_not_of(" \t\n", command.size());
    if (at == nowhere) return {};
    if (text[at] == '{') return {at + 1, true};
    const std::size_t sign = text[at] == '-' || text[at] == '+' ? 1 : 0;
    const bool is_number =
        at + sign < text.size() && text[at + sign] >= '0' && text[at + sign] <= '9';
    if (is_number) return {at, false};
  }
  return {};
}

// "5" of "5$, which": a number without braces ends where words and mathematics do.
std::string_view bare_number(std::string_view text) {
  text = text.substr(0, text.find_first_of(" \t\n$\\{}"));
  while (!text.empty() && std::string_view(".,;:!?)").find(text.back()) != nowhere)
    text.remove_suffix(1);
  return text;
}

// The last box to open, of those that are closed and hold something. One pass with a stack.
std::optional<std::string_view> find_boxed(std::string_view text) {
  struct Brace {
    std::size_t inside;  // where its content begins
    bool is_box;
  };
  std::vector<Brace> open;
  std::optional<std::string_view> best;
  std::size_t best_at = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\') {
      const Opening box = box_at(text.substr(i));
      if (box.has_brace) {
        i += box.size - 1;
        open.push_back({i + 1, true});
      } else if (box.size > 0) {
        best = bare_number(text.substr(i + box.size));
        best_at = i + box.size;
        i += box.size - 1;
      } else if (box_at(text.substr(i + 1)).size == 0) {
        ++i;  // an escaped brace is a sign, not a bracket
      }
    } else if (text[i] == '{') {
      open.push_back({i + 1, false});
    } else if (text[i] == '}' && !open.empty()) {
      const Brace brace = open.back();
      open.pop_back();
      if (!brace.is_box || brace.inside < best_at) continue;
      const std::string_view content = trimmed(text.substr(brace.inside, i - brace.inside));
      if (content.empty()) continue;
      best = content;
      best_at = brace.inside;
    }
  }
  return best;
}

std::optional<std::string_view> find_tagged(std::string_view text) {
  constexpr std::string_view opener = "<answer>", closer = "</answer>";
  std::optional<std::string_view> best;
  std::size_t at = text.find(opener);
  while (at != nowhere) {
    const std::size_t end = text.find(closer, at);
    if (end == nowhere) break;
    const std::size_t begin = text.rfind(opener, end) + opener.size();
    const std::string_view content = trimmed(text.substr(begin, end - begin));
    if (!content.empty()) best = content;
    at = text.find(opener, end);
  }
  return best;
}

std::optional<std::string_view> find_hashed(std::string_view text) {
  constexpr std::string_view hashes = "#### ";
  std::size_t at = text.rfind(hashes);
  while (at != nowhere) {
    const std::string_view rest = text.substr(at + hashes.size());
    const std::string_view line = trimmed(rest.substr(0, rest.find('\n')));
    if (!line.empty()) return line;
    if (at == 0) break;
    at = text.rfind(hashes, at - 1);
  }
  return std::nullopt;
}

bool is_letter(char c) { return folded(c) >= 'a' && folded(c) <= 'z'; }

// Drops "is", colons, equals signs, asterisks and line ends before the answer itself.
std::string_view without_lead(std::string_view text) {
  while (!text.empty()) {
    const bool is_verb = text.size() >= 2 && folded(text[0]) == 'i' && folded(text[1]) == 's' &&
                         (text.size() == 2 || !is_letter(text[2]));
    if (is_verb)
      text.remove_prefix(2);
    else if (std::string_view(" \t\r\n:=*").find(text[0]) != nowhere)
      text.remove_prefix(1);
    else
      break;
  }
  return text;
}

// The inside of mathematics that a text begins with; a dollar before a number may be a currency.
std::string_view leading_mathematics(std::string_view text) {
  const bool is_bracket = text.starts_with("\\(");
  if (!is_bracket && !text.starts_with('$')) return {};
  const std::size_t begin = is_bracket ? 2 : 1;
  std::size_t end = text.find(is_bracket ? "\\)" : "$", begin);
  while (!is_bracket && end != nowhere && text[end - 1] == '\\') end = text.find('$', end + 1);
  if (end == nowhere || end == begin || (!is_bracket && text[end - 1] == ' ')) return {};
  return text.substr(begin, end - begin);
}

// What stands after one of the phrases: to the end of the sentence, without the mark-up around it.
std::string_view stated(std::string_view rest) {
  if (!rest.empty() && is_letter(rest[0])) return {};  // "final answers"
  rest = without_lead(rest);
  std::size_t end = 0;
  for (; end < rest.size() && rest[end] != '\n'; ++end) {
    const bool is_stop = rest[end] == '.' || rest[end] == '!' || rest[end] == '?';
    if (is_stop && (end + 1 == rest.size() || trimmed(rest.substr(end + 1, 1)).empty())) break;
  }
  rest = trimmed(rest.substr(0, end));
  while (rest.ends_with('*')) rest = trimmed(rest.substr(0, rest.size() - 1));
  const std::string_view inside = trimmed(leading_mathematics(rest));
  if (!inside.empty()) return inside;
  return rest;
}

std::optional<std::string_view> find_stated(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), folded);
  constexpr std::string_view phrases[] = {"final answer", "the answer is"};
  std::size_t at[] = {lower.rfind(phrases[0]), lower.rfind(phrases[1])};
  // Each phrase's place moves backwards by itself, so that all searches together read the text
  // once.
  while (at[0] != nowhere || at[1] != nowhere) {
    const int last = at[1] == nowhere || (at[0] != nowhere && at[0] > at[1]) ? 0 : 1;
    const std::string_view found = stated(text.substr(at[last] + phrases[last].size()));
    if (!found.empty()) return found;
    at[last] = at[last] == 0 ? nowhere : lower.rfind(phrases[last], at[last] - 1);
  }
  return std::nullopt;
}

std::string_view last_line(std::string_view text) {
  text = trimmed(text);
  const std::size_t end = text.rfind('\n');
  return end == nowhere ? text : trimmed(text.substr(end + 1));
}

}  // namespace

std::optional<std::string> find_answer(std::string_view response, Extraction extraction) {
  if (const auto found = find_boxed(response)) return std::string(*found);
  if (extraction == Extraction::strict) return std::nullopt;
  for (const auto find : {find_tagged, find_hashed, find_stated})
    if (const auto found = find(response)) return std::string(*found);
  return std::nullopt;
}

std::optional<std::string> final_answer(const Response& response, Extraction extraction) {
  const bool has_answer = !trimmed(response.answer).empty();
  auto answer = find_answer(has_answer ? response.answer : response.text, extraction);
  if (!answer && has_answer && extraction == Extraction::lenient)
    answer = std::string(last_line(response.answer));
  return answer;
}

}  // namespace pensive
