// Tokens to the kind of answer they are.
#include "judge/form.h"

#include <algorithm>

#include "judge/brackets.h"
#include "judge/spellings.h"

namespace pensive {
namespace {

using Kind = Form::Kind;

constexpr int most_levels = 16;
constexpr int most_factor_tokens = 16;  // before a matrix

bool is_letters(Tokens tokens) {
  return !tokens.empty() && std::all_of(tokens.begin(), tokens.end(), [](const Token& token) {
    return token.kind == TokenKind::letter || token.kind == TokenKind::word || token.is_sign("'") ||
           token.is_sign(",");
  });
}

// "x", "x_1", "AB", "f(x)", "P(A, B)", "(x, y)", "area of the circle".
bool is_name(Tokens tokens) {
  if (is_wrapped(tokens)) return is_letters(inside(tokens));
  std::size_t end = 0;
  while (end < tokens.size() && (is_letters(tokens.subspan(end, 1)))) ++end;
  if (end == 0) return false;
  if (end + 4 < tokens.size() && tokens[end].is_sign("^") && tokens[end + 2].is_sign("-") &&
      tokens[end + 3].text == "1")
    end += 5;  // "f^{-1}(x)"
  if (end == tokens.size()) return true;
  if (tokens[end].is_sign("_"))
    return end + 2 >= tokens.size() || is_wrapped(tokens.subspan(end + 1));
  return is_wrapped(tokens.subspan(end)) && tokens.size() <= end + 6;
}

bool is_of_names(Tokens tokens) {
  const auto is_kind = [](TokenKind kind) {
    return [kind](const Token& token) { return token.kind == kind; };
  };
  return std::any_of(tokens.begin(), tokens.end(), is_kind(TokenKind::letter)) &&
         std::none_of(tokens.begin(), tokens.end(), is_kind(TokenKind::number));
}

class Former {
 public:
  Form form(Tokens tokens) {
    tokens = stripped(tokens);
    Form made;
    if (!tokens.empty() && ++level_ <= most_levels) {
      for (const auto read :
           {&Former::choice, &Former::list, &Former::unite, &Former::relation, &Former::brackets,
            &Former::matrix, &Former::based, &Former::ratio, &Former::value}) {
        made = Form();
        if ((this->*read)(tokens, made)) break;
        made = Form();
      }
      --level_;
    }
    made.text = made.kind == Kind::based ? made.text : text_of(tokens);
    made.is_name = is_name(tokens);
    made.is_of_names = made.is_name || is_of_names(tokens);
    return made;
  }

 private:
  bool choice(Tokens tokens, Form& made) {
    if (tokens[0].is(TokenKind::word, "option") || tokens[0].is(TokenKind::word, "choice"))
      tokens = tokens.subspan(1);
    if (tokens.empty()) return false;
    const bool is_open = tokens[0].is_sign("(");
    const std::size_t at = is_open ? 1 : 0;
    if (tokens.size() <= at || tokens[at].kind != TokenKind::letter) return false;
    const std::string& letter = tokens[at].text;
    if (letter.size() != 1 || (!is_open && (letter[0] < 'A' || letter[0] > 'J'))) return false;
    Tokens rest = tokens.subspan(at + 1);
    if (rest.empty() && !is_open) {
      made.kind = Kind::choice;
    } else if (!rest.empty() && (rest[0].is_sign(")") || (!is_open && rest[0].is_sign(".")))) {
      rest = rest.subspan(1);
      const bool is_product = is_open && !rest.empty() && !rest[0].is_after_blank;
      if (is_product || (!rest.empty() && (letter[0] < 'A' || letter[0] > 'J'))) return false;
      made.kind = Kind::choice;
      if (!rest.empty()) made.parts.push_back(form(rest));
    }
    made.mark = folded(letter[0]);
    return made.kind == Kind::choice;
  }

  // Parts at their places; lists in lists become one.
  bool add_parts(const std::vector<Tokens>& pieces, Form& made) {
    for (const Tokens piece : pieces) {
      if (stripped(piece).empty()) {
        if (&piece == &pieces.back()) continue;
        return false;
      }
      Form part = form(piece);
      if (part.kind == Kind::list)
        std::move(part.parts.begin(), part.parts.end(), std::back_inserter(made.parts));
      else
        made.parts.push_back(std::move(part));
    }
    return true;
  }

  bool list(Tokens tokens, Form& made) {
    const auto has_sign = [](const Token& token) {
      return token.is_command("pm") || token.is_command("mp");
    };
    int sets = 0;  // both signs within a set are its members
    const bool has_both = std::any_of(tokens.begin(), tokens.end(), [&](const Token& token) {
      sets += token.is_sign("\\{") ? 1 : token.is_sign("\\}") ? -1 : 0;
      return sets == 0 && has_sign(token);
    });
    std::vector<Tokens> pieces = split(tokens, is_separator);
    // "x = 1, or 2" leaves nothing between a comma and the word behind it.
    std::erase_if(pieces, [](Tokens piece) { return piece.empty(); });
    made.kind = Kind::list;
    if (pieces.size() >= 2) return add_parts(pieces, made);
    if (!has_both || signs_ >= 3) return false;
    ++signs_;
    for (const bool is_upper : {true, false}) {
      std::vector<Token> one(tokens.begin(), tokens.end());
      for (Token& token : one)
        if (has_sign(token))
          token = {TokenKind::sign, token.is_after_blank,
                   token.is_command("pm") == is_upper ? "+" : "-"};
      made.parts.push_back(form(one));
    }
    --signs_;
    return true;
  }

  bool unite(Tokens tokens, Form& made) {
    const auto pieces = split(tokens, [](const Token& token) { return token.is_command("cup"); });
    made.kind = Kind::unite;
    return pieces.size() >= 2 && add_parts(pieces, made);
  }

  bool relation(Tokens tokens, Form& made) {
    // "11/36 \approx 0.306" is 11/36.
    const auto exact = split(tokens, [](const Token& token) { return token.is_command("approx"); });
    if (exact.size() >= 2 && !exact[0].empty() && !exact[1].empty()) {
      made = form(exact[is_name(exact[0]) ? 1 : 0]);
      return true;
    }
    std::vector<std::string> signs;
    int depth = 0;
    for (const Token& token : tokens) {
      if (opens(token) || token.is_command("begin")) ++depth;
      if (closes(token) || token.is_command("end")) --depth;
      if (depth == 0 && is_relation(token)) signs.push_back(token.text);
    }
    if (signs.empty()) return false;
    auto sides = split(tokens, is_relation);
    if (std::any_of(sides.begin(), sides.end(), [](Tokens side) { return side.empty(); }))
      return false;
    if (signs.back() == "in") {
      made = form(sides.back());
      return true;
    }
    made.kind = Kind::relation;
    if (std::all_of(signs.begin(), signs.end(), [](const auto& sign) { return sign == "="; })) {
      made.mark = "=";
      made.parts = {form(sides.front()), form(sides.back())};
      return true;
    }
    return inequality(std::move(sides), std::move(signs), made);
  }

  // Written with the smaller side first; of one name and numbers it is an interval.
  bool inequality(std::vector<Tokens> sides, std::vector<std::string> signs, Form& made) {
    if (signs.size() == 1 && signs[0] == "!=") {
      made.mark = "!=";
      made.parts = {form(sides[0]), form(sides[1])};
      return true;
    }
    if (signs[0].starts_with('>')) {
      std::reverse(sides.begin(), sides.end());
      std::reverse(signs.begin(), signs.end());
      for (std::string& sign : signs)
        if (sign.starts_with('>'))
          sign[0] = '<';
        else
          return false;
    }
    if (signs.size() > 2) return false;
    for (const std::string& sign : signs)
      if (!sign.starts_with('<')) return false;
    for (const Tokens side : sides) made.parts.push_back(form(side));
    made.mark = signs[0] + (signs.size() == 2 ? " " + signs[1] : "");
    const auto is_number = [](const Form& one) {
      return one.kind == Kind::value && !one.samples.has_letters;
    };
    auto& parts = made.parts;
    const bool is_between =
        parts.size() == 3 && parts[1].is_name && is_number(parts[0]) && is_number(parts[2]);
    const bool is_below = parts.size() == 2 && parts[0].is_name && is_number(parts[1]);
    const bool is_above = parts.size() == 2 && parts[1].is_name && is_number(parts[0]);
    if (!is_between && !is_below && !is_above) return true;
    const std::string open = is_below || signs.front() == "<" ? "(" : "[";
    const std::string close = is_above || signs.back() == "<" ? ")" : "]";
    Form low = is_below ? infinity(true) : parts.front();
    Form high = is_above ? infinity(false) : parts.back();
    made = Form();
    made.kind = Kind::tuple;
    made.mark = open + close;
    made.parts = {std::move(low), std::move(high)};
    return true;
  }

  Form infinity(bool is_negative) {
    const Token minus{TokenKind::sign, false, "-"}, name{TokenKind::letter, false, "\\infty"};
    const std::vector<Token> tokens = is_negative ? std::vector{minus, name} : std::vector{name};
    return form(tokens);
  }

  bool brackets(Tokens tokens, Form& made) {
    if (tokens.size() == 1 && tokens[0].is_command("emptyset")) {
      made.kind = Kind::set;
      return true;
    }
    if (tokens.size() == 1 && tokens[0].text == "\\reals") {
      made.kind = Kind::tuple;
      made.mark = "()";
      made.parts = {infinity(true), infinity(false)};
      return true;
    }
    if (!is_wrapped(tokens)) return false;
    const bool is_set = tokens.front().is_sign("\\{") && tokens.back().is_sign("\\}");
    const auto pieces = split(inside(tokens), is_separator);
    made.kind = is_set ? Kind::set : Kind::tuple;
    made.mark = is_set ? "" : tokens.front().text + tokens.back().text;
    if (is_set && tokens.size() == 2) return true;
    if (!is_set && pieces.size() < 2) {
      if (!inside(tokens).empty() && inside(tokens).back().is_command("end"))
        return matrix(inside(tokens), made);
      return false;
    }
    if (is_set) return add_parts(pieces, made);
    for (const Tokens piece : pieces) made.parts.push_back(form(piece));
    return true;
  }

  // Also a multiple of one: every entry is multiplied.
  bool matrix(Tokens tokens, Form& made) {
    const auto begin = std::find_if(tokens.begin(), tokens.end(),
                                    [](const Token& token) { return token.is_command("begin"); });
    if (begin == tokens.end() || !tokens.back().is_command("end")) return false;
    if (begin - tokens.begin() > most_factor_tokens) return false;
    const Tokens factor(tokens.begin(), begin), body(begin + 1, tokens.end() - 1);
    if (std::any_of(body.begin(), body.end(),
                    [](const Token& token) { return token.is_command("begin"); }))
      return false;
    auto rows = split(body, [](const Token& token) { return token.is_sign("\\\\"); });
    if (rows.size() > 1 && rows.back().empty()) rows.pop_back();
    made.kind = Kind::matrix;
    std::size_t columns = 0;
    for (const Tokens row : rows) {
      const auto entries = split(row, [](const Token& token) { return token.is_sign("&"); });
      if (columns != 0 && entries.size() != columns) return false;
      columns = entries.size();
      for (const Tokens entry : entries) made.parts.push_back(multiple(factor, entry));
    }
    made.mark = std::to_string(columns);
    return true;
  }

  Form multiple(Tokens factor, Tokens entry) {
    if (factor.empty()) return form(entry);
    std::vector<Token> tokens(factor.begin(), factor.end());
    if (factor.size() == 1 && factor[0].is_sign("-"))
      tokens = {{TokenKind::sign, false, "-"}, {TokenKind::number, false, "1"}};
    tokens.push_back({TokenKind::sign, false, "("});
    tokens.insert(tokens.end(), entry.begin(), entry.end());
    tokens.push_back({TokenKind::sign, false, ")"});
    return form(tokens);
  }

  bool based(Tokens tokens, Form& made) {
    if (tokens.size() < 3 || tokens[0].kind != TokenKind::number || !tokens[1].is_sign("_"))
      return false;
    Tokens base = tokens.subspan(2);
    if (is_wrapped(base)) base = inside(base);
    if (base.size() != 1 || !is_whole(base[0])) return false;
    made.kind = Kind::based;
    made.text = tokens[0].text;
    made.mark = base[0].text;
    return true;
  }

  bool ratio(Tokens tokens, Form& made) {
    const auto pieces = split(tokens, [](const Token& token) { return token.is_sign(":"); });
    if (pieces.size() < 2) return false;
    made.kind = Kind::ratio;
    for (const Tokens piece : pieces) made.parts.push_back(form(piece));
    const auto is_short = [](Tokens piece, std::size_t least) {
      return piece.size() == 1 && is_whole(piece[0]) && piece[0].text.size() >= least &&
             piece[0].text.size() <= 2;
    };
    if (pieces.size() == 2 && is_short(pieces[0], 1) && is_short(pieces[1], 2)) made.mark = "clock";
    return std::all_of(made.parts.begin(), made.parts.end(),
                       [](const Form& part) { return part.kind == Kind::value; });
  }

  // Where the words of a unit begin, to the end; the size where there are none.
  static std::size_t unit_begin(Tokens tokens) {
    std::size_t begin = 1;
    // The degrees of an angle whose sine is meant are no unit of the sine.
    const bool has_call = std::any_of(tokens.begin(), tokens.end(), [](const Token& token) {
      return token.kind == TokenKind::command && token.text != "sqrt" && token.text != "pi" &&
             std::find(spelling::functions.begin(), spelling::functions.end(), token.text) !=
                 spelling::functions.end();
    });
    const auto is_unit = [has_call](const Token& token) {
      return token.kind == TokenKind::word || (!has_call && token.is_command("degree"));
    };
    while (begin < tokens.size() && !is_unit(tokens[begin])) ++begin;
    for (std::size_t i = begin; i < tokens.size(); ++i) {
      const Token& token = tokens[i];
      const bool is_power = token.kind == TokenKind::number || token.is_sign("-")
                                ? tokens[i - 1].is_sign("^") || tokens[i - 1].is_sign("{") ||
                                      tokens[i - 1].is_sign("-")
                                : false;
      if (!is_unit(token) && !is_power && token.kind != TokenKind::letter && !token.is_sign("^") &&
          !token.is_sign("/") && !token.is_sign("{") && !token.is_sign("}"))
        return tokens.size();
    }
    return begin;
  }

  bool value(Tokens tokens, Form& made) {
    std::vector<Token> kept(tokens.begin(), tokens.end());
    const auto currency = [](const Token& token) {
      return token.is(TokenKind::word, "dollar") || token.is(TokenKind::word, "euro") ||
             token.is(TokenKind::word, "gbp") || token.is(TokenKind::word, "yen");
    };
    for (std::size_t i = 0; i < std::min<std::size_t>(kept.size(), 2); ++i) {
      if (!currency(kept[i]) || (i == 1 && !kept[0].is_sign("-"))) continue;
      made.unit = unit_of(kept[i].text);
      kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(i));
      break;
    }
    if (const std::size_t begin = kept.empty() ? 0 : unit_begin(kept); begin < kept.size()) {
      std::string words;
      for (const Token& token : Tokens(kept).subspan(begin)) {
        if (token.kind == TokenKind::word && !words.empty() && !words.ends_with('/')) words += ' ';
        if (!token.is_sign("{") && !token.is_sign("}")) words += token.text;
      }
      const std::string unit = unit_of(words);
      if (made.unit.empty() || !unit.empty()) made.unit = unit;
      kept.resize(begin);
    }
    if (!kept.empty() && kept.back().is_sign("%")) {
      made.is_percent = true;
      kept.pop_back();
    }
    if (made.unit == "%") made.is_percent = true, made.unit.clear();
    const auto expression = parse(kept);
    if (!expression) return false;
    made.kind = Kind::value;
    made.samples = sample(*expression);
    return true;
  }

  int level_ = 0;
  int signs_ = 0;  // \pm that are being written out
};

}  // namespace

Form form_of(Tokens tokens) { return Former().form(tokens); }

}  // namespace pensive
