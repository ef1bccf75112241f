// Arithmetic at sampled points.
#include "judge/fields.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numbers>

namespace pensive {
namespace {

using Wide = unsigned __int128;

struct Prime {
  std::uint64_t value, root_of_minus_one;
};
// The two largest below 2^62 that are one above a multiple of four.
constexpr Prime primes[] = {{4611686018427387817u, 120863620846201794u},
                            {4611686018427387761u, 1130501565556633554u}};

// A name's place is always the same: FNV-1a, then splitmix64's finisher.
std::uint64_t hash(std::string_view name, std::size_t point) {
  std::uint64_t h = 14695981039346656037u;
  for (const char c : name) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211u;
  h += (point + 1) * 0x9E3779B97F4A7C15u;
  h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9u;
  h = (h ^ (h >> 27)) * 0x94D049BB133111EBu;
  return h ^ (h >> 31);
}

// "12.5(3)e-2" in parts.
struct Literal {
  std::string_view whole, after, repeated;
  int exponent = 0;
};

Literal read_literal(std::string_view text) {
  Literal literal;
  if (const std::size_t e = text.find('e'); e != text.npos) {
    std::from_chars(text.data() + e + 1, text.data() + text.size(), literal.exponent);
    text = text.substr(0, e);
  }
  if (const std::size_t open = text.find('('); open != text.npos) {
    literal.repeated = text.substr(open + 1, text.size() - open - 2);
    text = text.substr(0, open);
  }
  const std::size_t point = text.find('.');
  literal.whole = text.substr(0, point);
  if (point != text.npos) literal.after = text.substr(point + 1);
  return literal;
}

bool is_real(const Approximation& a) {
  constexpr double epsilon = std::numeric_limits<double>::epsilon();
  return std::abs(a.value.imag()) <= epsilon * a.error;
}

Approximation made(std::complex<double> value, double error, bool is_outside) {
  return {value, error + std::abs(value), is_outside};
}

}  // namespace

PrimeField::PrimeField(std::size_t point)
    : prime_(primes[point % 2].value), root_(primes[point % 2].root_of_minus_one), point_(point) {}

PrimeField::Value PrimeField::number(std::string_view text) const {
  const Literal literal = read_literal(text);
  const auto digits = [&](std::string_view some) {
    std::uint64_t value = 0;
    for (const char c : some)
      value =
          static_cast<std::uint64_t>((Wide{value} * 10 + static_cast<unsigned>(c - '0')) % prime_);
    return Value(value);
  };
  const Value ten = 10;
  const auto scale = [&](std::string_view some) { return power(ten, std::ssize(some)); };
  Value value = add(digits(literal.whole), divide(digits(literal.after), scale(literal.after)));
  if (!literal.repeated.empty()) {
    const Value nines = subtract(scale(literal.repeated), whole(1));
    value = add(value, divide(digits(literal.repeated), multiply(nines, scale(literal.after))));
  }
  return multiply(value, power(ten, literal.exponent));
}

PrimeField::Value PrimeField::letter(std::string_view name) const {
  return hash(name, point_) % prime_;
}

PrimeField::Value PrimeField::add(Value a, Value b) const {
  if (!a || !b) return std::nullopt;
  return (*a + *b) % prime_;
}

PrimeField::Value PrimeField::subtract(Value a, Value b) const {
  if (!a || !b) return std::nullopt;
  return (*a + prime_ - *b) % prime_;
}

PrimeField::Value PrimeField::multiply(Value a, Value b) const {
  if (!a || !b) return std::nullopt;
  return static_cast<std::uint64_t>(Wide{*a} * *b % prime_);
}

PrimeField::Value PrimeField::divide(Value a, Value b) const { return multiply(a, power(b, -1)); }

PrimeField::Value PrimeField::power(Value base, std::int64_t exponent) const {
  if (!base) return std::nullopt;
  if (exponent < 0) {
    if (*base == 0 || exponent == std::numeric_limits<std::int64_t>::min()) return std::nullopt;
    // Fermat: the inverse is the power prime - 2.
    base = power(base, static_cast<std::int64_t>(prime_ - 2));
    exponent = -exponent;
  }
  Value result = whole(1);
  for (Value square = base; exponent > 0; exponent /= 2) {
    if (exponent % 2 == 1) result = multiply(result, square);
    square = multiply(square, square);
  }
  return result;
}

ComplexField::Value ComplexField::undefined() {
  return {std::numeric_limits<double>::quiet_NaN(), 0, false};
}

ComplexField::Value ComplexField::number(std::string_view text) {
  const Literal literal = read_literal(text);
  const auto digits = [](std::string_view some) {
    double value = 0;
    for (const char c : some) value = value * 10 + (c - '0');
    return value;
  };
  const std::string plain = std::string(literal.whole) + "." + std::string(literal.after) + "e" +
                            std::to_string(literal.exponent);
  double value = 0;
  const auto read = std::from_chars(plain.data(), plain.data() + plain.size(), value);
  if (read.ec != std::errc()) return undefined();
  if (!literal.repeated.empty())
    value += digits(literal.repeated) / (std::pow(10.0, std::ssize(literal.repeated)) - 1) *
             std::pow(10.0, literal.exponent - static_cast<double>(literal.after.size()));
  return made(value, literal.repeated.empty() ? 0 : 4 * value, false);
}

// At the first two points all is positive, at the others some letters are: each has both signs, so
// that |x| is not x.
ComplexField::Value ComplexField::letter(std::string_view name) const {
  const double size = 0.4 + 2.2 * static_cast<double>(hash(name, point_) >> 11) * 0x1p-53;
  static_assert(Samples::points == 6);
  const std::uint64_t signs = 1 + hash(name, Samples::points) % 14;  // four bits, not all the same
  const bool is_negative = point_ >= 2 && (signs >> (point_ - 2)) % 2 == 1;
  return exactly(is_negative ? -size : size);
}

ComplexField::Value ComplexField::add(const Value& a, const Value& b) {
  return made(a.value + b.value, a.error + b.error, a.is_outside_reals || b.is_outside_reals);
}

ComplexField::Value ComplexField::subtract(const Value& a, const Value& b) {
  return made(a.value - b.value, a.error + b.error, a.is_outside_reals || b.is_outside_reals);
}

ComplexField::Value ComplexField::multiply(const Value& a, const Value& b) {
  return made(a.value * b.value, std::abs(a.value) * b.error + std::abs(b.value) * a.error,
              a.is_outside_reals || b.is_outside_reals);
}

ComplexField::Value ComplexField::divide(const Value& a, const Value& b) {
  const std::complex<double> value = a.value / b.value;
  return made(value, (a.error + std::abs(value) * b.error) / std::abs(b.value),
              a.is_outside_reals || b.is_outside_reals);
}

ComplexField::Value ComplexField::power(const Value& base, const Value& exponent) {
  if (base.value == 0.0) {
    if (!is_real(exponent) || exponent.value.real() < 0) return undefined();
    return exactly(exponent.value == 0.0 ? 1 : 0);
  }
  const bool is_plain = is_real(base) && is_real(exponent) && base.value.real() > 0;
  const std::complex<double> value = is_plain ? std::pow(base.value.real(), exponent.value.real())
                                              : std::pow(base.value, exponent.value);
  const double error =
      std::abs(value) * (std::abs(exponent.value) * base.error / std::abs(base.value) +
                         std::abs(std::log(base.value)) * exponent.error + 2);
  const bool leaves = is_real(base) && base.value.real() < 0;
  return made(value, error, base.is_outside_reals || exponent.is_outside_reals || leaves);
}

ComplexField::Value ComplexField::power(const Value& base, std::int64_t exponent) {
  if (base.value == 0.0) return exponent < 0 ? undefined() : exactly(exponent == 0 ? 1 : 0);
  std::complex<double> value;
  if (is_real(base))
    value = std::pow(base.value.real(), static_cast<double>(exponent));
  else
    value = std::pow(base.value, static_cast<double>(exponent));
  const double times = std::abs(static_cast<double>(exponent));
  return made(value, std::abs(value) * times * (base.error / std::abs(base.value) + 1),
              base.is_outside_reals);
}

ComplexField::Value ComplexField::root(const Value& value, std::int64_t which) {
  if (which == 0 || value.value == 0.0) return which > 0 ? exactly(0) : undefined();
  const bool is_negative = is_real(value) && value.value.real() < 0;
  const Value one_nth = divide(exactly(1), exactly(static_cast<double>(which)));
  if (is_negative && which % 2 != 0) {
    Value positive = power(subtract(exactly(0), value), one_nth);
    positive.value = -positive.value;
    return positive;
  }
  return power(value, one_nth);
}

ComplexField::Value ComplexField::log(const Value& value, const Value& base) {
  if (value.value == 0.0) return undefined();
  const auto natural = [](const Value& a) {
    const bool leaves = is_real(a) && a.value.real() < 0;
    return made(std::log(a.value), a.error / std::abs(a.value) + 1, a.is_outside_reals || leaves);
  };
  return divide(natural(value), natural(base));
}

ComplexField::Value ComplexField::call(std::string_view function, const Value& value) {
  const std::complex<double> z = value.value;
  const auto with = [&](std::complex<double> result, double slope) {
    return made(result, slope * value.error + 1, value.is_outside_reals);
  };
  const std::complex<double> sine = std::sin(z), cosine = std::cos(z);
  if (function == "sin") return with(sine, std::abs(cosine));
  if (function == "cos") return with(cosine, std::abs(sine));
  if (function == "exp") return with(std::exp(z), std::abs(std::exp(z)));
  if (function == "tan") return divide(call("sin", value), call("cos", value));
  if (function == "cot") return divide(call("cos", value), call("sin", value));
  if (function == "sec") return divide(exactly(1), call("cos", value));
  if (function == "csc") return divide(exactly(1), call("sin", value));
  if (function == "sinh") return with(std::sinh(z), std::abs(std::cosh(z)));
  if (function == "cosh") return with(std::cosh(z), std::abs(std::sinh(z)));
  if (function == "tanh") return with(std::tanh(z), 1);
  if (function == "arctan") return with(std::atan(z), 1 / std::max(1e-9, std::abs(1.0 + z * z)));
  if (function == "arcsin" || function == "arccos") {
    const double slope = 1 / std::max(1e-9, std::abs(std::sqrt(1.0 - z * z)));
    Value result = with(function == "arcsin" ? std::asin(z) : std::acos(z), slope);
    result.is_outside_reals = result.is_outside_reals || (is_real(value) && std::abs(z) > 1);
    return result;
  }
  return undefined();
}

}  // namespace pensive
