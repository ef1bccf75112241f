// Where expressions are evaluated: prime fields, exactly; complex numbers, with their errors.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>

#include "judge/expression.h"

namespace pensive {

// The integers modulo a prime of 62 bits, one above a multiple of four, so that -1 has a root. An
// operation gives nothing where it has no exact value: division by zero, roots, functions.
class PrimeField {
 public:
  using Value = std::optional<std::uint64_t>;

  explicit PrimeField(std::size_t point);

  Value whole(std::uint64_t value) const { return value % prime_; }
  Value number(std::string_view text) const;
  Value letter(std::string_view name) const;
  Value imaginary() const { return root_; }
  Value add(Value a, Value b) const;
  Value subtract(Value a, Value b) const;
  Value multiply(Value a, Value b) const;
  Value divide(Value a, Value b) const;
  Value power(Value base, std::int64_t exponent) const;

 private:
  std::uint64_t prime_, root_;
  std::size_t point_;
};

// Doubles; errors add up as to first order they do.
class ComplexField {
 public:
  using Value = Approximation;

  explicit ComplexField(std::size_t point) : point_(point) {}

  static Value exactly(double value) { return {value, 0, false}; }
  static Value whole(std::uint64_t value) { return exactly(static_cast<double>(value)); }
  static Value undefined();
  static Value number(std::string_view text);
  Value letter(std::string_view name) const;
  static Value add(const Value& a, const Value& b);
  static Value subtract(const Value& a, const Value& b);
  static Value multiply(const Value& a, const Value& b);
  static Value divide(const Value& a, const Value& b);
  static Value power(const Value& base, const Value& exponent);
  static Value power(const Value& base, std::int64_t exponent);
  // A real root where there is one.
  static Value root(const Value& value, std::int64_t which);
  static Value log(const Value& value, const Value& base);
  static Value call(std::string_view function, const Value& value);

 private:
  std::size_t point_;
};

}  // namespace pensive
