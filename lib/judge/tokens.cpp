// Reads an answer token by token.
#include "judge/tokens.h"

#include <algorithm>

#include "judge/spellings.h"
#include "judge/trim.h"

namespace pensive {
namespace {

using namespace spelling;

template <class Names>
bool has(const Names& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

template <class Pairs>
std::string_view find(const Pairs& pairs, std::string_view name) {
  const auto at =
      std::find_if(pairs.begin(), pairs.end(), [&](const Pair& p) { return p.first == name; });
  return at == pairs.end() ? std::string_view() : at->second;
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return folded(c) >= 'a' && folded(c) <= 'z'; }

std::string without_unicode(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size();) {
    const auto at = static_cast<unsigned char>(text[i]) < 0x80
                        ? characters.end()
                        : std::find_if(characters.begin(), characters.end(), [&](const Pair& p) {
                            return text.substr(i).starts_with(p.first);
                          });
    plain += at == characters.end() ? text.substr(i, 1) : at->second;
    i += at == characters.end() ? 1 : at->first.size();
  }
  return plain;
}

// "abc" and "xyz" are products, "cat" is none.
bool is_word(std::string_view run) {
  if (run.size() < 2) return false;
  if (run.size() > 3) return true;
  std::string lower(run);
  std::transform(lower.begin(), lower.end(), lower.begin(), folded);
  if (lower == "no" || lower == "or" || lower == "an" || lower == "and") return true;
  if (run == lower && !unit_of(lower).empty()) return true;
  return run.size() == 3 && lower.find_first_of("eiou") != std::string::npos;
}

class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  std::vector<Token> read() {
    while (!rest_.empty()) step();
    return std::move(tokens_);
  }

 private:
  void add(TokenKind kind, std::string_view text) {
    tokens_.push_back({kind, is_after_blank_, std::string(text)});
    is_after_blank_ = false;
  }

  void step() {
    const char c = rest_.front();
    if (trimmed(rest_.substr(0, 1)).empty() || c == '~') {
      rest_.remove_prefix(1);
      is_after_blank_ = true;
    } else if (is_digit(c) || (c == '.' && rest_.size() > 1 && is_digit(rest_[1]))) {
      read_number();
    } else if (is_letter(c)) {
      read_letters();
    } else if (c == '\\') {
      rest_.remove_prefix(1);
      read_command();
    } else {
      read_sign(c);
    }
  }

  void read_sign(char c) {
    const std::string_view two = rest_.substr(0, 2);
    if (two == "<=" || two == ">=" || two == "!=" || two == "**") {
      add(TokenKind::sign, two == "**" ? "^" : two);
      rest_.remove_prefix(2);
      return;
    }
    if (rest_.starts_with("...")) {
      add(TokenKind::sign, "...");
      rest_.remove_prefix(3);
      return;
    }
    // A dollar is a currency before a number, and else the edge of mathematics.
    if (c == '$') {
      const std::string_view next = trimmed(rest_.substr(1));
      if (!next.empty() && (is_digit(next.front()) || next.front() == '.' || next.front() == '-'))
        add(TokenKind::word, "dollar");
    } else if (c == '^' &&
               (rest_.substr(1).starts_with("\\circ") || rest_.substr(1).starts_with("{\\circ}") ||
                rest_.substr(1).starts_with("{\\circ }"))) {
      add(TokenKind::command, "degree");
      rest_.remove_prefix(rest_.find("circ") + 4);
      if (trimmed(rest_).starts_with('}') && rest_.size() > trimmed(rest_).size())
        rest_ = trimmed(rest_);
      return;
    } else {
      add(TokenKind::sign, rest_.substr(0, 1));
    }
    rest_.remove_prefix(1);
  }

  std::string_view take_digits() {
    const std::size_t size = std::min(rest_.find_first_not_of("0123456789"), rest_.size());
    const std::string_view digits = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return digits;
  }

  // How many characters part thousands here: a comma, a thin space, a blank, before three digits.
  std::size_t separator(bool is_in_brackets) const {
    for (const std::string_view one : {"{,}", ",\\!", "\\,", ",", " "}) {
      if (!rest_.starts_with(one) || (one == "," && is_in_brackets)) continue;
      std::size_t size = one.size();
      while (one == ",\\!" && size < rest_.size() && rest_[size] == ' ') ++size;
      const std::string_view digits = rest_.substr(size, 4);
      if (digits.size() < 3 || !std::all_of(digits.begin(), digits.begin() + 3, is_digit)) continue;
      if (digits.size() == 4 && is_digit(digits[3])) continue;
      return size;
    }
    return 0;
  }

  void read_number() {
    std::string number(take_digits());
    // A point's coordinates are written with the same comma as thousands: brackets decide.
    const bool is_in_brackets = depth() > 0;
    if (!number.empty() && number.size() <= 3 && number.front() != '0')
      while (const std::size_t size = separator(is_in_brackets)) {
        rest_.remove_prefix(size);
        number += take_digits();
      }
    if (rest_.starts_with('.') && !rest_.starts_with("...")) {
      const std::string_view after = rest_.substr(1);
      if (!after.empty() && (is_digit(after[0]) || after[0] == '\\' || after[0] == '(')) {
        rest_.remove_prefix(1);
        number += '.';
        number += take_digits();
        number += take_repeated();
        if (number.ends_with('.')) number.pop_back();
      } else if (trimmed(after).empty() || after[0] == ' ') {
        rest_.remove_prefix(1);  // the end of a sentence
      }
    }
    number += take_exponent();
    add(TokenKind::number, number);
  }

  std::string take_repeated() {
    for (const std::string_view begin : {"\\overline{", "\\bar{", "\\dot{", "("}) {
      if (!rest_.starts_with(begin)) continue;
      const std::string_view inside = rest_.substr(begin.size());
      const std::size_t size = std::min(inside.find_first_not_of("0123456789"), inside.size());
      const char end = begin == "(" ? ')' : '}';
      if (size == 0 || size == inside.size() || inside[size] != end) return {};
      rest_.remove_prefix(begin.size() + size + 1);
      return std::string("(").append(inside.substr(0, size)).append(")");
    }
    return {};
  }

  std::string take_exponent() {
    if (rest_.size() < 2 || folded(rest_[0]) != 'e') return {};
    const std::size_t sign = rest_[1] == '-' || rest_[1] == '+' ? 1 : 0;
    const std::string_view digits = rest_.substr(1 + sign);
    const std::size_t size = std::min(digits.find_first_not_of("0123456789"), digits.size());
    if (size == 0 || size > 6) return {};
    if (size < digits.size() && is_letter(digits[size])) return {};
    std::string exponent = "e";
    if (rest_[1] == '-') exponent += '-';
    exponent += digits.substr(0, size);
    rest_.remove_prefix(1 + sign + size);
    return exponent;
  }

  int depth() {
    for (; counted_ < tokens_.size(); ++counted_) {
      const std::string& text = tokens_[counted_].text;
      if (tokens_[counted_].kind != TokenKind::sign) continue;
      if (text == "(" || text == "[" || text == "\\{") ++depth_;
      if (text == ")" || text == "]" || text == "\\}") --depth_;
    }
    return depth_;
  }

  void read_letters() {
    std::size_t size = 0;
    while (size < rest_.size() && is_letter(rest_[size])) ++size;
    const std::string_view run = rest_.substr(0, size);
    // "m/s" after a number: single letters name units only in company.
    if (!tokens_.empty() && tokens_.back().kind == TokenKind::number && size < rest_.size() &&
        rest_[size] == '/') {
      std::size_t end = size + 1;
      while (end < rest_.size() && is_letter(rest_[end])) ++end;
      if (!unit_of(rest_.substr(0, end)).empty() && end > size + 1) {
        add(TokenKind::word, rest_.substr(0, end));
        rest_.remove_prefix(end);
        return;
      }
    }
    rest_.remove_prefix(size);
    add_letters(run);
  }

  void add_letters(std::string_view run) {
    if (has(functions, run)) {
      add(TokenKind::command, run);
    } else if (is_word(run)) {
      add_word(run);
    } else {
      for (const char& c : run) add(TokenKind::letter, std::string_view(&c, 1));
    }
  }

  void add_word(std::string_view words) {
    std::string lower;
    for (const char c : trimmed(words)) {
      const bool is_blank = trimmed(std::string_view(&c, 1)).empty() || c == '\\' || c == '~';
      if (!is_blank)
        lower += folded(c);
      else if (!lower.empty() && lower.back() != ' ')
        lower += ' ';
    }
    while (lower.ends_with('.') || lower.ends_with(' ')) lower.pop_back();
    for (const std::string_view article : {"a ", "an ", "the "})
      if (lower.starts_with(article)) lower.erase(0, article.size());
    for (const std::string_view what : {"option ", "choice "})
      if (lower.starts_with(what) && lower.size() == what.size() + 1) {
        const char letter = static_cast<char>(lower.back() - 'a' + 'A');
        return add(TokenKind::letter, std::string_view(&letter, 1));
      }
    if (lower == "and" || lower == "or" || lower == ", and" || lower == ", or")
      add(TokenKind::sign, ",");
    else if (lower == "infinity" || lower == "inf")
      add(TokenKind::letter, "\\infty");
    else if (lower == "percent")
      add(TokenKind::sign, "%");
    else if (!lower.empty())
      add(TokenKind::word, lower);
    is_after_blank_ = true;
  }

  void read_command() {
    std::size_t size = 0;
    while (size < rest_.size() && is_letter(rest_[size])) ++size;
    if (size == 0) size = std::min<std::size_t>(rest_.size(), 1);
    const std::string_view name = rest_.substr(0, size);
    rest_.remove_prefix(size);
    if (has(blanks, name)) {
      is_after_blank_ = true;
    } else if (has(brackets, name)) {
      const std::string_view next = trimmed(rest_);
      if (next.starts_with('.')) rest_ = next.substr(1);
    } else if (name == "$" || name == "euro" || name == "gbp" || name == "yen") {
      add(TokenKind::word, name == "$" ? "dollar" : name);
    } else if (has(texts, name) && read_text()) {
      return;
    } else if (name == "begin" || name == "end") {
      read_environment(name);
    } else if (has(wrappers, name) || has(texts, name)) {
      if (name == "mathbb" && trimmed(rest_).starts_with("{R}")) {
        add(TokenKind::letter, "\\reals");
        rest_ = trimmed(rest_).substr(3);
      }
    } else if (const auto sign = find(signs, name); !sign.empty()) {
      add(TokenKind::sign, sign);
    } else if (const auto command = find(commands, name); !command.empty()) {
      add(TokenKind::command, command);
    } else if (has(functions, name) || has(known, name)) {
      add(TokenKind::command, name);
    } else if (!name.empty()) {
      add(TokenKind::letter, std::string("\\").append(name));
    }
  }

  // The words of \text{…}; what holds digits or signs is read like everything else.
  bool read_text() {
    const std::string_view inside = trimmed(rest_);
    if (!inside.starts_with('{')) return false;
    const std::size_t end = inside.find('}');
    if (end == std::string_view::npos) return false;
    const std::string_view words = inside.substr(1, end - 1);
    if (words.find_first_of("0123456789()[]{}^_=+*<>$%") != std::string_view::npos) return false;
    if (words.find_first_not_of(" .,-") == std::string_view::npos) {
      rest_ = inside.substr(end + 1);
      is_after_blank_ = true;
      return true;
    }
    const std::string_view content = trimmed(words);
    rest_ = inside.substr(end + 1);
    const bool is_after_number = !tokens_.empty() && tokens_.back().kind != TokenKind::letter;
    if (has(functions, content))
      add(TokenKind::command, content);
    else if (content.size() > 1 || (is_after_number && !unit_of(content).empty()))
      add_word(content);
    else
      add(TokenKind::letter, content);
    return true;
  }

  // \begin{pmatrix}: which brackets a matrix has says nothing, but that bars make a determinant.
  void read_environment(std::string_view name) {
    const std::string_view inside = trimmed(rest_);
    const std::size_t end = inside.find('}');
    if (!inside.starts_with('{') || end == std::string_view::npos) {
      add(TokenKind::letter, std::string("\\").append(name));
      return;
    }
    const std::string_view kind = inside.substr(1, end - 1);
    rest_ = inside.substr(end + 1);
    const bool is_matrix = kind == "pmatrix" || kind == "bmatrix" || kind == "matrix" ||
                           kind == "Bmatrix" || kind == "smallmatrix" || kind == "array";
    if (!is_matrix) {
      add(TokenKind::letter, std::string("\\").append(name).append(kind));
      return;
    }
    add(TokenKind::command, name);
    if (kind == "array" && name == "begin" && trimmed(rest_).starts_with('{')) {
      rest_ = trimmed(rest_);
      rest_.remove_prefix(std::min(rest_.find('}'), rest_.size() - 1) + 1);
    }
  }

  std::string_view rest_;
  std::vector<Token> tokens_;
  bool is_after_blank_ = false;
  std::size_t counted_ = 0;
  int depth_ = 0;
};

}  // namespace

std::vector<Token> tokens_of(std::string_view text) {
  const std::string plain = without_unicode(text);
  return Reader(plain).read();
}

}  // namespace pensive
