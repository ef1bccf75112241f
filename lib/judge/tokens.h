// An answer as models write it, LaTeX or plain, in tokens of one spelling.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pensive {

enum class TokenKind : std::uint8_t {
  number,   // "1234.5", "0.1(6)" (6 repeats), "1.5e3": no commas, no blanks
  letter,   // a variable: "x", "\alpha"
  word,     // two letters or more that are no product, of lower case: "east", "cm", "miles"
  command,  // "frac", "sqrt", "sin", "pi", "cup", "degree": what has a meaning of its own
  sign,     // one of + - * / ^ _ ( ) [ ] { } , ; : = < > ! % | & ' or <= >= != \{ \} \\ ...
};

struct Token {
  TokenKind kind;
  bool is_after_blank = false;
  std::string text{};

  bool is(TokenKind k, std::string_view t) const { return kind == k && text == t; }
  bool is_sign(std::string_view t) const { return is(TokenKind::sign, t); }
  bool is_command(std::string_view t) const { return is(TokenKind::command, t); }
};

// Linear in the text.
std::vector<Token> tokens_of(std::string_view text);

// One spelling for a unit of measure ("centimeters" and "cm", "square feet" and "ft^2"); empty for
// a word that names no unit we know.
std::string unit_of(std::string_view words);

}  // namespace pensive
