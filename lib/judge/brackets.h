// Tokens by their brackets: pieces, insides, ends.
#pragma once
#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include "judge/tokens.h"
#include "judge/trim.h"

namespace pensive {

using Tokens = std::span<const Token>;

inline bool opens(const Token& token) {
  return token.kind == TokenKind::sign &&
         (token.text == "(" || token.text == "[" || token.text == "{" || token.text == "\\{");
}
inline bool closes(const Token& token) {
  return token.kind == TokenKind::sign &&
         (token.text == ")" || token.text == "]" || token.text == "}" || token.text == "\\}");
}
inline bool is_relation(const Token& token) {
  if (token.is_command("in")) return true;
  return token.kind == TokenKind::sign &&
         (token.text == "=" || token.text == "<" || token.text == ">" || token.text == "<=" ||
          token.text == ">=" || token.text == "!=");
}
inline bool is_whole(const Token& token) {
  return token.kind == TokenKind::number &&
         token.text.find_first_not_of("0123456789") == std::string::npos;
}

inline std::string text_of(Tokens tokens) {
  std::string text;
  const Token* last = nullptr;
  for (const Token& token : tokens) {
    if (last && last->kind == TokenKind::number && token.kind == TokenKind::number) text += ' ';
    if (!(last == nullptr && (token.text == "a" || token.text == "an" || token.text == "the") &&
          tokens.size() > 1 && tokens[1].kind == TokenKind::word))
      for (const char c : token.text)
        if (c != ' ') text += folded(c);
    last = &token;
  }
  return text;
}

// Pieces between top-level tokens that `parts` says yes to; the brackets of matrices count too.
template <class Parts>
std::vector<Tokens> split(Tokens tokens, const Parts& parts) {
  std::vector<Tokens> pieces;
  int depth = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (opens(tokens[i]) || tokens[i].is_command("begin")) ++depth;
    if (closes(tokens[i]) || tokens[i].is_command("end")) --depth;
    if (depth != 0 || !parts(tokens[i])) continue;
    pieces.push_back(tokens.subspan(begin, i - begin));
    begin = i + 1;
  }
  pieces.push_back(tokens.subspan(begin));
  return pieces;
}

inline bool is_separator(const Token& token) { return token.is_sign(",") || token.is_sign(";"); }

// Whether the bracket that opens first closes last.
inline bool is_wrapped(Tokens tokens) {
  if (tokens.size() < 2 || !opens(tokens.front()) || !closes(tokens.back())) return false;
  int depth = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (opens(tokens[i])) ++depth;
    if (closes(tokens[i]) && --depth == 0) return i + 1 == tokens.size();
  }
  return false;
}

inline Tokens inside(Tokens tokens) { return tokens.subspan(1, tokens.size() - 2); }

inline Tokens stripped(Tokens tokens) {
  constexpr int most_wraps = 16;  // each costs a pass
  const auto is_end = [](const Token& token) {
    return is_separator(token) || token.is_sign(".") || token.is_sign("*") || token.is_sign("^");
  };
  while (!tokens.empty() && is_end(tokens.back())) tokens = tokens.first(tokens.size() - 1);
  while (!tokens.empty() && (tokens.front().is_sign("*") || tokens.front().is_sign("^")))
    tokens = tokens.subspan(1);
  for (int i = 0; i < most_wraps && is_wrapped(tokens) && tokens.front().is_sign("{"); ++i)
    tokens = inside(tokens);
  return tokens;
}

}  // namespace pensive
