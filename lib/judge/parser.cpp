// Tokens to an expression: a parser by recursive descent.
#include <algorithm>
#include <charconv>

#include "judge/expression.h"

namespace pensive {
namespace {

constexpr int most_levels = 256;    // three for each group in a group
constexpr int most_factorials = 8;  // each may take some hundred steps

bool is_integer(const Token& token) {
  return token.kind == TokenKind::number &&
         token.text.find_first_not_of("0123456789") == std::string::npos;
}

class Parser {
 public:
  explicit Parser(std::span<const Token> tokens) : rest_(tokens.begin(), tokens.end()) {
    std::reverse(rest_.begin(), rest_.end());  // the next one is at the back
  }

  std::optional<Expression> parse() {
    const int top = sum();
    if (top < 0 || is_wrong_ || !rest_.empty()) return std::nullopt;
    return std::move(expression_);
  }

 private:
  const Token* next() const { return rest_.empty() ? nullptr : &rest_.back(); }
  const Token* second() const { return rest_.size() < 2 ? nullptr : &rest_[rest_.size() - 2]; }
  bool is_sign(std::string_view text) const { return next() && next()->is_sign(text); }
  bool is_command(std::string_view text) const { return next() && next()->is_command(text); }

  bool take_sign(std::string_view text) {
    if (!is_sign(text)) return false;
    rest_.pop_back();
    return true;
  }
  bool take_command(std::string_view text) {
    if (!is_command(text)) return false;
    rest_.pop_back();
    return true;
  }

  int fail() {
    is_wrong_ = true;
    return -1;
  }
  int add(Op op, int a = -1, int b = -1, std::string text = {}) {
    const bool is_leaf = op <= Op::pi;
    if (is_wrong_ || (!is_leaf && a < 0)) return fail();
    const bool is_factorial = op == Op::factorial || op == Op::binomial;
    if (is_factorial && ++factorials_ > most_factorials) return fail();
    expression_.nodes.push_back({op, a, b, std::move(text)});
    return static_cast<int>(expression_.nodes.size()) - 1;
  }
  int number(std::string text) { return add(Op::number, -1, -1, std::move(text)); }

  int sum() {
    if (++level_ > most_levels) return fail();
    bool is_minus = false;
    while (is_sign("+") || is_sign("-")) {
      is_minus = is_minus != is_sign("-");
      rest_.pop_back();
    }
    int left = product();
    if (is_minus) left = add(Op::negate, left);
    while (!is_wrong_ && (is_sign("+") || is_sign("-"))) {
      const Op op = is_sign("+") ? Op::add : Op::subtract;
      rest_.pop_back();
      left = add(op, left, product());
    }
    --level_;
    return left;
  }

  int product() {
    int left = signed_factor();
    while (!is_wrong_) {
      if (take_sign("*"))
        left = add(Op::multiply, left, signed_factor());
      else if (take_sign("/"))
        left = add(Op::divide, left, signed_factor());
      else if (begins_factor())
        left = add(Op::multiply, left, factor());
      else
        break;
    }
    return left;
  }

  int signed_factor() {
    if (take_sign("+")) return factor();
    if (take_sign("-")) return add(Op::negate, factor());
    return factor();
  }

  // What is multiplied by standing there. Two numbers in a row are no product.
  bool begins_factor() const {
    const Token* token = next();
    if (!token) return false;
    if (token->kind == TokenKind::letter) return true;
    if (token->kind == TokenKind::number) return !is_after_number_;
    if (token->kind == TokenKind::command)
      return token->text != "degree" && token->text != "rfloor" && token->text != "rceil" &&
             token->text != "cup" && token->text != "cap" && token->text != "in" &&
             token->text != "pm" && token->text != "mp" && token->text != "circ" &&
             token->text != "end";
    if (token->kind != TokenKind::sign) return false;
    return token->text == "(" || token->text == "[" || token->text == "{" ||
           (token->text == "|" && bars_ == 0);
  }

  int factor() {
    if (++level_ > most_levels) return fail();
    int base = primary();
    while (!is_wrong_) {
      if (take_sign("!")) {
        base = add(Op::factorial, base);
      } else if (take_sign("%")) {
        base = add(Op::divide, base, number("100"));
      } else if (is_command("degree") && functions_ > 0) {
        rest_.pop_back();
        const int straight = number("180");
        base = add(Op::multiply, base, add(Op::divide, add(Op::pi), straight));
      } else if (take_sign("^")) {
        base = add(Op::power, base, exponent());
      } else {
        break;
      }
      is_after_number_ = false;
    }
    --level_;
    return base;
  }

  int exponent() {
    if (is_sign("{")) return argument();
    if (is_sign("+") || is_sign("-")) return signed_factor();
    return factor();
  }

  // One argument of a command: a group, or a single token, of a number its first digit.
  int argument(bool takes_digit = true) {
    if (take_sign("{")) return closed(sum_or_nothing(), "}");
    if (next() && next()->kind == TokenKind::number && takes_digit && next()->text.size() > 1 &&
        is_integer(*next())) {
      std::string& text = rest_.back().text;
      const std::string digit = text.substr(0, 1);
      text.erase(0, 1);
      return number(digit);
    }
    return primary();
  }

  int sum_or_nothing() {
    const int functions = functions_, bars = bars_;
    functions_ = functions_ > 0 ? 1 : 0;
    bars_ = 0;
    const int inside = sum();
    functions_ = functions;
    bars_ = bars;
    is_after_number_ = false;
    return inside;
  }
  int closed(int inside, std::string_view end) { return take_sign(end) ? inside : fail(); }

  int primary() {
    if (++level_ > most_levels || !next()) return fail();
    is_after_number_ = false;
    int made = -1;
    if (next()->kind == TokenKind::number)
      made = mixed_number();
    else if (next()->kind == TokenKind::letter)
      made = letter();
    else if (next()->kind == TokenKind::command)
      made = command();
    else if (next()->kind == TokenKind::sign)
      made = group();
    --level_;
    return made < 0 ? fail() : made;
  }

  int group() {
    if (take_sign("(")) return closed(sum_or_nothing(), ")");
    if (take_sign("[")) return closed(sum_or_nothing(), "]");
    if (take_sign("{")) return closed(sum_or_nothing(), "}");
    if (bars_ > 0 || !take_sign("|")) return fail();
    ++bars_;
    const int inside = sum();
    --bars_;
    is_after_number_ = false;
    return add(Op::absolute, closed(inside, "|"));
  }

  // "2", "1\frac{4}{5}", "1 4/5".
  int mixed_number() {
    const Token whole = rest_.back();
    rest_.pop_back();
    const int left = number(whole.text);
    is_after_number_ = true;
    if (!is_integer(whole)) return left;
    if (is_command("frac") && is_plain_fraction()) {
      const int right = command();
      is_after_number_ = false;
      return add(Op::add, left, right);
    }
    const bool is_spaced = next() && is_integer(*next()) && next()->is_after_blank && second() &&
                           second()->is_sign("/") && rest_.size() >= 3 &&
                           is_integer(rest_[rest_.size() - 3]);
    if (!is_spaced) return left;
    const int over = number(next()->text);
    rest_.pop_back();
    rest_.pop_back();
    const int below = number(next()->text);
    rest_.pop_back();
    return add(Op::add, left, add(Op::divide, over, below));
  }

  // Whether \frac stands before two whole numbers.
  bool is_plain_fraction() const {
    std::size_t at = rest_.size() - 1;  // the command itself
    for (int side = 0; side < 2; ++side) {
      const bool has_group = at > 2 && rest_[at - 1].is_sign("{");
      if (has_group) --at;
      if (at < 1 || !is_integer(rest_[at - 1])) return false;
      --at;
      if (!has_group && rest_[at].text.size() == 2 && side == 0) return true;
      if (!has_group) continue;
      if (at < 1 || !rest_[at - 1].is_sign("}")) return false;
      --at;
    }
    return true;
  }

  int letter() {
    std::string name = rest_.back().text;
    rest_.pop_back();
    if (take_sign("_")) {
      name += '_';
      if (take_sign("{")) {
        while (next() && !is_sign("}")) take_name(name);
        if (!take_sign("}")) return fail();
      } else if (next()) {
        take_name(name);
      }
    }
    while (take_sign("'")) name += '\'';
    if (name == "e") return add(Op::euler);
    if (name == "i") return add(Op::imaginary);
    expression_.has_letters = true;
    return add(Op::letter, -1, -1, std::move(name));
  }
  void take_name(std::string& name) {
    name += rest_.back().text + ' ';
    rest_.pop_back();
  }

  int command() {
    const std::string name = rest_.back().text;
    rest_.pop_back();
    if (name == "pi") return add(Op::pi);
    if (name == "frac" || name == "binom") {
      const int over = argument();
      const int below = argument();
      return below < 0 ? fail() : add(name == "frac" ? Op::divide : Op::binomial, over, below);
    }
    if (name == "sqrt") return root();
    if (name == "lfloor" || name == "lceil") {
      const int inside = sum_or_nothing();
      if (!take_command(name == "lfloor" ? "rfloor" : "rceil")) return fail();
      return add(name == "lfloor" ? Op::floor : Op::ceiling, inside);
    }
    const bool is_function = name == "log" || name == "ln" || name == "exp" ||
                             name.find("sin") != name.npos || name.find("cos") != name.npos ||
                             name.find("tan") != name.npos || name == "cot" || name == "sec" ||
                             name == "csc";
    return is_function ? call(name) : fail();
  }

  int root() {
    int which = -1;
    if (take_sign("[")) which = closed(sum_or_nothing(), "]");
    const int under = argument(false);
    return add(Op::root, under, which >= 0 ? which : number("2"));
  }

  int call(std::string name) {
    int base = -1, power = -1;
    if (name == "log" && take_sign("_")) base = argument();
    if (take_sign("^")) {
      power = exponent();
      // \sin^{-1} is the inverse.
      const Node& node = expression_.nodes.back();
      if (!is_wrong_ && node.op == Op::negate &&
          expression_.nodes[static_cast<std::size_t>(node.a)].text == "1") {
        name = "arc" + name;
        power = -1;
      }
    }
    if (name == "log" && base < 0 && take_sign("_")) base = argument();
    ++functions_;
    int inside = -1;
    if (is_sign("(") || is_sign("{")) {
      inside = group();  // sin(x)^2 is the square of the sine
    } else {
      inside = signed_factor();
      while (!is_wrong_ && begins_factor() && !begins_call())
        inside = add(Op::multiply, inside, factor());
    }
    --functions_;
    if (name == "ln") base = add(Op::euler);
    if (name == "log" && base < 0) base = number("10");
    const int value = base >= 0 ? add(Op::log, inside, base) : add(Op::call, inside, -1, name);
    return power >= 0 ? add(Op::power, value, power) : value;
  }
  bool begins_call() const {
    return next()->kind == TokenKind::command && next()->text != "pi" && next()->text != "frac" &&
           next()->text != "sqrt";
  }

  std::vector<Token> rest_;
  Expression expression_;
  int level_ = 0;
  int factorials_ = 0;
  int bars_ = 0;       // open |
  int functions_ = 0;  // whose argument this is
  bool is_wrong_ = false;
  bool is_after_number_ = false;
};

}  // namespace

std::optional<Expression> parse(std::span<const Token> tokens) {
  return tokens.empty() ? std::nullopt : Parser(tokens).parse();
}

}  // namespace pensive
