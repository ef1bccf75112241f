// A parsed mathematical expression, and what it is worth at fixed points.
#pragma once
#include <array>
#include <complex>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "judge/tokens.h"

namespace pensive {

enum class Op : std::uint8_t {
  number,     // its text, as tokens have it
  letter,     // a variable; its text is its name
  imaginary,  // i
  euler,      // e
  pi,
  add,
  subtract,
  multiply,
  divide,
  power,
  root,  // b: which, two for a square root
  negate,
  factorial,
  absolute,
  floor,
  ceiling,
  binomial,
  log,   // b: its base
  call,  // its text is the function's name
};

// Operands stand before the nodes that use them.
struct Node {
  Op op;
  int a = -1, b = -1;
  std::string text{};
};

struct Expression {
  std::vector<Node> nodes;  // the last one is the whole
  bool has_letters = false;
};

// Nothing where the tokens are no expression. Time is linear in the tokens.
std::optional<Expression> parse(std::span<const Token> tokens);

// A value with the rounding errors that made it.
struct Approximation {
  std::complex<double> value;
  double error = 0;               // in units of a double's epsilon
  bool is_outside_reals = false;  // a root or logarithm of a negative number is in it
};

// The values of an expression at points that never change. Those of rational expressions are taken
// in two prime fields of 62 bits as well: there they are exact, however long the numbers are, and
// two that differ agree at all points with a chance of about 2^-200 (Schwartz-Zippel). i stands for
// a root of -1 of the field.
struct Samples {
  static constexpr std::size_t exact_points = 4, points = 6;
  std::optional<std::array<std::uint64_t, exact_points>> exact;
  std::array<Approximation, points> approximate;
  bool has_letters = false;
};

Samples sample(const Expression& expression);
Samples difference(const Samples& a, const Samples& b);
Samples quotient(const Samples& a, const Samples& b);
// The value of a number or a fraction in tokens' spelling.
Samples sample_number(std::string_view text);

// The same values at all points: exactly where both are known so, else within rounding errors, at
// the points where everything is real if there are two such.
bool is_same(const Samples& a, const Samples& b);
bool is_zero(const Samples& value);
// Real, and of this sign (-1, 1), at all points where it is finite.
bool has_sign(const Samples& value, int sign);
// Not the same at all points.
bool varies(const Samples& value);

}  // namespace pensive
