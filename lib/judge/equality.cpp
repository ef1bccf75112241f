// Whether two answers are the same.
#include <algorithm>

#include "judge/form.h"
#include "judge/number.h"
#include "judge/trim.h"
#include "pensive/judge.h"

namespace pensive {
namespace {

using Kind = Form::Kind;

// What bounds the work: longer answers are compared as numbers and as text only.
constexpr std::size_t most_bytes = 4096, most_tokens = 600;
constexpr int most_steps = 20'000;

bool is_same_text(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return folded(x) == folded(y); });
}

bool are_same(const std::vector<Form>& a, const std::vector<Form>& b, int& steps) {
  if (a.size() != b.size()) return false;
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!is_same(a[i], b[i], steps)) return false;
  return true;
}

// Every part of one is among those of the other.
bool are_within(const std::vector<Form>& a, const std::vector<Form>& b, int& steps) {
  return std::all_of(a.begin(), a.end(), [&](const Form& one) {
    return std::any_of(b.begin(), b.end(),
                       [&](const Form& other) { return is_same(one, other, steps); });
  });
}

bool is_collection(const Form& form) { return form.kind == Kind::list || form.kind == Kind::set; }

bool same_collections(const Form& a, const Form& b, int& steps) {
  if (a.parts.empty() || b.parts.empty()) return a.parts.empty() && b.parts.empty();
  return are_within(a.parts, b.parts, steps) && are_within(b.parts, a.parts, steps);
}

// 90 degrees are pi/2 (radians); 50% are 50 and 0.5, as benchmarks write both.
bool same_values(const Form& a, const Form& b) {
  if (!a.unit.empty() && !b.unit.empty() && a.unit != b.unit) return false;
  if (is_same(a.samples, b.samples)) return true;
  if (a.is_percent != b.is_percent) {
    const Samples hundred = sample_number("100");
    return a.is_percent ? is_same(quotient(a.samples, hundred), b.samples)
                        : is_same(a.samples, quotient(b.samples, hundred));
  }
  if ((a.unit == "degree") == (b.unit == "degree")) return false;
  const Form& degrees = a.unit == "degree" ? a : b;
  const Form& radians = a.unit == "degree" ? b : a;
  const Samples pi = sample({{Node{Op::pi}}, false});
  return is_same(quotient(degrees.samples, sample_number("180")), quotient(radians.samples, pi));
}

// The side of an equation that answers, if one does: what a name is, or a sum of names, or the last
// of numbers.
const Form* answering_side(const Form& equation) {
  if (equation.mark != "=") return nullptr;
  const Form& left = equation.parts[0];
  const Form& right = equation.parts[1];
  if (left.is_of_names || left.kind == Kind::text) return &right;
  if (right.is_name) return &left;
  return left.kind == Kind::value && !left.samples.has_letters ? &right : nullptr;
}

// Whether two relations hold at the same points: their sides' differences are multiples of each
// other; of an inequality positive ones.
bool same_relations(const Form& a, const Form& b, int& steps) {
  if (a.mark != b.mark || a.parts.size() != b.parts.size()) return false;
  if (are_same(a.parts, b.parts, steps)) return true;
  // "f(x) = x^2" and "y = x^2"; two plain letters are two answers.
  const bool has_call = a.parts[0].text.ends_with(')') || b.parts[0].text.ends_with(')');
  if (a.mark == "=" && has_call && a.parts[0].is_name && b.parts[0].is_name)
    return is_same(a.parts[1], b.parts[1], steps);
  const auto is_value = [](const Form& part) { return part.kind == Kind::value; };
  if (a.parts.size() != 2 || !std::all_of(a.parts.begin(), a.parts.end(), is_value) ||
      !std::all_of(b.parts.begin(), b.parts.end(), is_value))
    return false;
  const Samples left = difference(a.parts[0].samples, a.parts[1].samples);
  const Samples right = difference(b.parts[0].samples, b.parts[1].samples);
  if (is_zero(left) || is_zero(right)) return is_zero(left) && is_zero(right);
  const Samples ratio = quotient(left, right);
  if (varies(ratio)) return false;
  if (!left.has_letters || !right.has_letters) return false;
  return a.mark == "=" || a.mark == "!=" || has_sign(ratio, 1);
}

bool same_ratios(const Form& a, const Form& b, int& steps) {
  if (are_same(a.parts, b.parts, steps)) return true;
  if (a.parts.size() != b.parts.size() || (a.mark == "clock" && b.mark == "clock")) return false;
  for (std::size_t i = 1; i < a.parts.size(); ++i)
    if (!is_same(quotient(a.parts[0].samples, a.parts[i].samples),
                 quotient(b.parts[0].samples, b.parts[i].samples)))
      return false;
  return true;
}

bool same_choices(const Form& a, const Form& b, int& steps) {
  if (b.kind == Kind::choice && a.mark == b.mark) return true;
  if (a.mark == b.text) return true;
  return b.kind != Kind::choice && !a.parts.empty() && is_same(a.parts[0], b, steps);
}

// `a` is of a kind that may stand for one of another kind.
bool is_same_across(const Form& a, const Form& b, int& steps) {
  if (a.kind == Kind::choice) return same_choices(a, b, steps);
  if (a.kind == Kind::relation && b.kind != Kind::relation) {
    const Form* side = answering_side(a);
    return side && is_same(*side, b, steps);
  }
  if (is_collection(a) && a.parts.size() == 1 && !is_collection(b))
    return is_same(a.parts[0], b, steps);
  // "1, 2" for the point (1, 2), in its order.
  if (a.kind == Kind::list && b.kind == Kind::tuple)
    return b.mark == "()" && are_same(a.parts, b.parts, steps);
  // "x < 2 or x > 5" for a union.
  if (a.kind == Kind::list && b.kind == Kind::unite) return same_collections(a, b, steps);
  if (a.kind == Kind::based && b.kind == Kind::value) return a.text == b.text;
  if (a.kind == Kind::ratio && b.kind == Kind::value)
    return a.parts.size() == 2 &&
           is_same(quotient(a.parts[0].samples, a.parts[1].samples), b.samples);
  return false;
}

}  // namespace

bool is_same(const Form& a, const Form& b, int& steps) {
  if (--steps < 0) return false;
  if (a.text == b.text && a.mark == b.mark && a.kind == b.kind) return true;
  if (is_collection(a) && is_collection(b)) return same_collections(a, b, steps);
  if (a.kind != b.kind) return is_same_across(a, b, steps) || is_same_across(b, a, steps);
  switch (a.kind) {
    case Kind::value:
      return same_values(a, b);
    case Kind::tuple:
    case Kind::matrix:
      return a.mark == b.mark && are_same(a.parts, b.parts, steps);
    case Kind::unite:
      return same_collections(a, b, steps);
    case Kind::relation:
      return same_relations(a, b, steps);
    case Kind::ratio:
      return same_ratios(a, b, steps);
    case Kind::choice:
      return same_choices(a, b, steps);
    default:
      return false;
  }
}

bool same_answer(std::string_view a, std::string_view b) {
  const std::optional<Number> left = read_number(a);
  const std::optional<Number> right = left ? read_number(b) : std::nullopt;
  if (left && right) return is_same(*left, *right);
  a = trimmed(a);
  b = trimmed(b);
  if (is_same_text(a, b)) return true;
  if (a.empty() || b.empty() || std::max(a.size(), b.size()) > most_bytes) return false;
  const std::vector<Token> first = tokens_of(a), second = tokens_of(b);
  if (first.empty() || second.empty() || std::max(first.size(), second.size()) > most_tokens)
    return false;
  int steps = most_steps;
  return is_same(form_of(first), form_of(second), steps);
}

}  // namespace pensive
