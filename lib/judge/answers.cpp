// Where the final answer of a text stands, and the judges made of it.
#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/inside.h"
#include "judge/trim.h"
#include "pensive/judge.h"

namespace pensive {
namespace {

constexpr std::size_t nowhere = std::string_view::npos;

// The last \boxed{…} to open, of those that are closed and hold something. One pass with a stack.
std::optional<std::string_view> find_boxed(std::string_view text) {
  constexpr std::string_view boxed = "\\boxed{";
  struct Brace {
    std::size_t inside;  // where its content begins
    bool is_box;
  };
  std::vector<Brace> open;
  std::optional<std::string_view> best;
  std::size_t best_at = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\') {
      if (text.substr(i).starts_with(boxed)) {
        i += boxed.size() - 1;
        open.push_back({i + 1, true});
      } else if (!text.substr(i + 1).starts_with(boxed)) {
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
  if (rest.size() > 2 && rest.starts_with('$') && rest.ends_with('$'))
    return trimmed(rest.substr(1, rest.size() - 2));
  if (rest.size() > 4 && rest.starts_with("\\(") && rest.ends_with("\\)"))
    return trimmed(rest.substr(2, rest.size() - 4));
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

class Correct final : public Judge {
 public:
  double score(const Problem& problem, const Response& response) const override {
    const bool has_answer = !trimmed(response.answer).empty();
    std::optional<std::string> answer = find_answer(has_answer ? response.answer : response.text);
    if (!answer && has_answer) answer = std::string(last_line(response.answer));
    return answer && same_answer(*answer, problem.reference) ? 1 : 0;
  }
};

class Boxed final : public Judge {
 public:
  double score(const Problem&, const Response& response) const override {
    return find_boxed(response.text) ? 1 : 0;
  }
};

class Sum final : public Judge {
 public:
  Sum(std::shared_ptr<const Judge> first, std::shared_ptr<const Judge> second, double weight)
      : first_(std::move(first)), second_(std::move(second)), weight_(weight) {}

  double score(const Problem& problem, const Response& response) const override {
    return first_->score(problem, response) + weight_ * second_->score(problem, response);
  }

 private:
  std::shared_ptr<const Judge> first_, second_;
  double weight_;
};

}  // namespace

std::optional<std::string> find_answer(std::string_view response) {
  for (const auto find : {find_boxed, find_tagged, find_hashed, find_stated})
    if (const auto found = find(response)) return std::string(*found);
  return std::nullopt;
}

std::shared_ptr<const Judge> correct() { return std::make_shared<Correct>(); }
std::shared_ptr<const Judge> boxed() { return std::make_shared<Boxed>(); }

std::shared_ptr<const Judge> sum(std::shared_ptr<const Judge> first,
                                 std::shared_ptr<const Judge> second, double weight) {
  require(first && second, ErrorCode::invalid_argument, "two judges", "none in place of one",
          "sum");
  require(std::isfinite(weight), ErrorCode::invalid_argument, "a finite weight",
          fmt::format("{}", weight), "sum");
  return std::make_shared<Sum>(std::move(first), std::move(second), weight);
}

}  // namespace pensive
