// What expressions are worth at the fixed points, and whether two are worth the same.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "judge/expression.h"
#include "judge/fields.h"

namespace pensive {
namespace {

constexpr int most_factors = 200;  // of a factorial

using Whole = std::optional<std::int64_t>;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

Whole whole_number(std::string_view text) {
  std::int64_t value = 0;
  for (const char c : text)
    if (c < '0' || c > '9' || __builtin_mul_overflow(value, 10, &value) ||
        __builtin_add_overflow(value, c - '0', &value))
      return std::nullopt;
  return value;
}

Whole whole_power(std::int64_t base, std::int64_t exponent) {
  if (exponent < 0) return std::nullopt;
  if (base == 0 || base == 1) return exponent == 0 ? 1 : base;
  if (base == -1) return exponent % 2 == 0 ? 1 : -1;
  std::int64_t result = 1;
  for (; exponent > 0; --exponent)  // overflows within 64 rounds
    if (__builtin_mul_overflow(result, base, &result)) return std::nullopt;
  return result;
}

// The nodes that are whole numbers for certain: exponents, which roots, arguments of factorials.
std::vector<Whole> wholes_of(const std::vector<Node>& nodes) {
  std::vector<Whole> all(nodes.size());
  const Whole none;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const Node& node = nodes[i];
    if (node.op == Op::number) all[i] = whole_number(node.text);
    const Whole& a = node.a < 0 ? none : all[at(node.a)];
    const Whole& b = node.b < 0 ? none : all[at(node.b)];
    std::int64_t result = 0;
    if (node.op == Op::negate && a && !__builtin_sub_overflow(std::int64_t{0}, *a, &result))
      all[i] = result;
    if (!a || !b) continue;
    if (node.op == Op::add && !__builtin_add_overflow(*a, *b, &result)) all[i] = result;
    if (node.op == Op::subtract && !__builtin_sub_overflow(*a, *b, &result)) all[i] = result;
    if (node.op == Op::multiply && !__builtin_mul_overflow(*a, *b, &result)) all[i] = result;
    if (node.op == Op::divide && *b > 0 && *a % *b == 0) all[i] = *a / *b;
    if (node.op == Op::power) all[i] = whole_power(*a, *b);
  }
  return all;
}

// n (n - 1) … (n - count + 1).
template <class Field>
typename Field::Value falling(const Field& field, std::int64_t n, std::int64_t count) {
  typename Field::Value value = field.whole(1);
  for (std::int64_t i = 0; i < count; ++i)
    value = field.multiply(
        value, field.whole(static_cast<std::uint64_t>(std::max<std::int64_t>(n - i, 0))));
  return value;
}

template <class Field>
typename Field::Value choices(const Field& field, std::int64_t n, std::int64_t k) {
  return field.divide(falling(field, n, k), falling(field, k, k));
}

bool is_small(const Whole& n) { return n && *n >= 0 && *n <= most_factors; }

PrimeField::Value exact_value(const PrimeField& field, const Node& node, PrimeField::Value a,
                              PrimeField::Value b, const Whole& whole_a, const Whole& whole_b) {
  switch (node.op) {
    case Op::number:
      return field.number(node.text);
    case Op::letter:
      return field.letter(node.text);
    case Op::imaginary:
      return field.imaginary();
    case Op::add:
      return field.add(a, b);
    case Op::subtract:
      return field.subtract(a, b);
    case Op::multiply:
      return field.multiply(a, b);
    case Op::divide:
      return field.divide(a, b);
    case Op::negate:
      return field.subtract(field.whole(0), a);
    case Op::power:
      return whole_b ? field.power(a, *whole_b) : std::nullopt;
    case Op::factorial:
      if (!is_small(whole_a)) return std::nullopt;
      return falling(field, *whole_a, *whole_a);
    case Op::binomial:
      if (!is_small(whole_a) || !is_small(whole_b)) return std::nullopt;
      return choices(field, *whole_a, *whole_b);
    default:
      return std::nullopt;
  }
}

Approximation approximate_value(const ComplexField& field, const Node& node, const Approximation& a,
                                const Approximation& b, const Whole& whole_a,
                                const Whole& whole_b) {
  const Approximation one = ComplexField::exactly(1);
  const auto rounded = [&](double value) { return Approximation{value, 0, a.is_outside_reals}; };
  switch (node.op) {
    case Op::number:
      return field.number(node.text);
    case Op::letter:
      return field.letter(node.text);
    case Op::imaginary:
      return {{0, 1}, 0, false};
    case Op::euler:
      return {std::numbers::e, std::numbers::e, false};
    case Op::pi:
      return {std::numbers::pi, std::numbers::pi, false};
    case Op::add:
      return field.add(a, b);
    case Op::subtract:
      return field.subtract(a, b);
    case Op::multiply:
      return field.multiply(a, b);
    case Op::divide:
      return field.divide(a, b);
    case Op::negate:
      return {-a.value, a.error, a.is_outside_reals};
    case Op::power:
      return whole_b ? field.power(a, *whole_b) : field.power(a, b);
    case Op::root:
      return whole_b ? field.root(a, *whole_b) : field.power(a, field.divide(one, b));
    case Op::log:
      return field.log(a, b);
    case Op::call:
      return field.call(node.text, a);
    case Op::absolute:
      return {std::abs(a.value), a.error + std::abs(a.value), a.is_outside_reals};
    // What is next to a whole number but for rounding is that number.
    case Op::floor:
      return rounded(std::floor(a.value.real() + 1e-9));
    case Op::ceiling:
      return rounded(std::ceil(a.value.real() - 1e-9));
    case Op::factorial:
      return is_small(whole_a) ? falling(field, *whole_a, *whole_a) : ComplexField::undefined();
    case Op::binomial:
      return is_small(whole_a) && is_small(whole_b) ? choices(field, *whole_a, *whole_b)
                                                    : ComplexField::undefined();
  }
  return ComplexField::undefined();
}

template <class Field, class Evaluate>
typename Field::Value value_at(std::size_t point, const std::vector<Node>& nodes,
                               const std::vector<Whole>& wholes, const Evaluate& evaluate) {
  using Value = typename Field::Value;
  const Field field(point);
  std::vector<Value> values;
  values.reserve(nodes.size());
  for (const Node& node : nodes) {
    const bool has_a = node.a >= 0, has_b = node.b >= 0;
    values.push_back(evaluate(
        field, node, has_a ? values[at(node.a)] : Value(), has_b ? values[at(node.b)] : Value(),
        has_a ? wholes[at(node.a)] : Whole(), has_b ? wholes[at(node.b)] : Whole()));
  }
  return values.back();
}

bool is_finite(const Approximation& a) {
  return std::isfinite(a.value.real()) && std::isfinite(a.value.imag()) && std::isfinite(a.error);
}

bool is_close(const Approximation& a, const Approximation& b) {
  constexpr double epsilon = std::numeric_limits<double>::epsilon();
  return std::abs(a.value - b.value) <= 8 * epsilon * (a.error + b.error);
}

// The points at which two are to be compared.
std::vector<std::size_t> common_points(const Samples& a, const Samples& b) {
  std::vector<std::size_t> finite, real;
  for (std::size_t i = 0; i < Samples::points; ++i) {
    if (!is_finite(a.approximate[i]) || !is_finite(b.approximate[i])) continue;
    finite.push_back(i);
    if (!a.approximate[i].is_outside_reals && !b.approximate[i].is_outside_reals) real.push_back(i);
  }
  return real.size() >= 2 ? real : finite;
}

template <class Exact, class Approximate>
Samples combined(const Samples& a, const Samples& b, const Exact& exact,
                 const Approximate& approximate) {
  Samples result;
  result.has_letters = a.has_letters || b.has_letters;
  if (a.exact && b.exact) {
    result.exact.emplace();
    for (std::size_t i = 0; result.exact && i < Samples::exact_points; ++i) {
      const auto value = exact(PrimeField(i), (*a.exact)[i], (*b.exact)[i]);
      if (value)
        (*result.exact)[i] = *value;
      else
        result.exact.reset();
    }
  }
  for (std::size_t i = 0; i < Samples::points; ++i)
    result.approximate[i] = approximate(a.approximate[i], b.approximate[i]);
  return result;
}

}  // namespace

Samples sample(const Expression& expression) {
  const std::vector<Whole> wholes = wholes_of(expression.nodes);
  Samples samples;
  samples.has_letters = expression.has_letters;
  samples.exact.emplace();
  for (std::size_t i = 0; samples.exact && i < Samples::exact_points; ++i) {
    const auto value = value_at<PrimeField>(i, expression.nodes, wholes, exact_value);
    if (value)
      (*samples.exact)[i] = *value;
    else
      samples.exact.reset();
  }
  for (std::size_t i = 0; i < Samples::points; ++i)
    samples.approximate[i] = value_at<ComplexField>(i, expression.nodes, wholes, approximate_value);
  return samples;
}

Samples sample_number(std::string_view text) {
  return sample({{Node{Op::number, -1, -1, std::string(text)}}, false});
}

Samples difference(const Samples& a, const Samples& b) {
  return combined(
      a, b, [](const PrimeField& f, auto x, auto y) { return f.subtract(x, y); },
      [](const auto& x, const auto& y) { return ComplexField::subtract(x, y); });
}

Samples quotient(const Samples& a, const Samples& b) {
  return combined(
      a, b, [](const PrimeField& f, auto x, auto y) { return f.divide(x, y); },
      [](const auto& x, const auto& y) { return ComplexField::divide(x, y); });
}

bool is_same(const Samples& a, const Samples& b) {
  if (a.exact && b.exact) return *a.exact == *b.exact;
  const std::vector<std::size_t> points = common_points(a, b);
  return !points.empty() && std::all_of(points.begin(), points.end(), [&](std::size_t i) {
    return is_close(a.approximate[i], b.approximate[i]);
  });
}

bool is_zero(const Samples& value) { return is_same(value, difference(value, value)); }

bool has_sign(const Samples& value, int sign) {
  const std::vector<std::size_t> points = common_points(value, value);
  return !points.empty() && std::all_of(points.begin(), points.end(), [&](std::size_t i) {
    const Approximation& one = value.approximate[i];
    return !one.is_outside_reals && one.value.real() * sign > 0;
  });
}

bool varies(const Samples& value) {
  if (!value.has_letters) return false;
  if (value.exact) {
    // A fraction is another residue in each field: points of one field are compared.
    const auto& at = *value.exact;
    return at[0] != at[2] || at[1] != at[3];
  }
  const std::vector<std::size_t> points = common_points(value, value);
  return points.empty() || std::any_of(points.begin(), points.end(), [&](std::size_t i) {
           return !is_close(value.approximate[points.front()], value.approximate[i]);
         });
}

}  // namespace pensive
