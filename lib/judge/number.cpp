// Numbers by their digits, never through floating point.
#include "judge/number.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "judge/trim.h"

namespace pensive {
namespace {

constexpr std::size_t most_fraction_digits = 1000;  // keeps products cheap whatever is sent in

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool drop_front(std::string_view& text, std::string_view front) {
  if (!text.starts_with(front)) return false;
  text = trimmed(text.substr(front.size()));
  return true;
}

// The digits of "1,234,567" or "1234567"; nothing where the commas do not part thousands.
std::optional<std::string> whole_digits(std::string_view text) {
  std::string digits;
  digits.reserve(text.size());
  std::size_t since_comma = 0;
  bool has_comma = false;
  for (const char c : text) {
    if (c == ',') {
      const bool is_group = has_comma ? since_comma == 3 : since_comma >= 1 && since_comma <= 3;
      if (!is_group) return std::nullopt;
      has_comma = true;
      since_comma = 0;
    } else if (is_digit(c)) {
      digits += c;
      ++since_comma;
    } else {
      return std::nullopt;
    }
  }
  if (has_comma && (since_comma != 3 || digits.front() == '0')) return std::nullopt;
  return digits;
}

std::optional<Decimal> read_decimal(std::string_view text) {
  const std::size_t point = text.find('.');
  std::optional<std::string> whole = whole_digits(text.substr(0, point));
  if (!whole) return std::nullopt;
  const bool has_point = point != std::string_view::npos;
  std::string_view after = has_point ? text.substr(point + 1) : "";
  if (!std::all_of(after.begin(), after.end(), is_digit)) return std::nullopt;
  if (after.empty() && (has_point || whole->empty())) return std::nullopt;
  after = after.substr(0, after.find_last_not_of('0') + 1);
  Decimal decimal{*whole + std::string(after), after.size()};
  decimal.digits.erase(0, std::min(decimal.digits.find_first_not_of('0'), decimal.digits.size()));
  return decimal;
}

// Nine digits to a limb, the lowest first.
std::vector<std::uint64_t> limbs(std::string_view digits) {
  std::vector<std::uint64_t> result;
  while (!digits.empty()) {
    const std::size_t size = std::min<std::size_t>(digits.size(), 9);
    std::uint64_t limb = 0;
    for (const char c : digits.substr(digits.size() - size)) limb = 10 * limb + (c - '0');
    result.push_back(limb);
    digits.remove_suffix(size);
  }
  return result;
}

// a x b x 10^zeros. The school's way: one of the two is short.
std::vector<std::uint64_t> product(std::string_view a, std::string_view b, std::size_t zeros) {
  constexpr std::uint64_t base = 1'000'000'000;
  const std::vector<std::uint64_t> left = limbs(std::string(a) + std::string(zeros, '0'));
  const std::vector<std::uint64_t> right = limbs(b);
  std::vector<std::uint64_t> result(left.size() + right.size());
  for (std::size_t j = 0; j < right.size(); ++j) {
    std::uint64_t carry = 0;
    for (std::size_t i = 0; i < left.size() || carry > 0; ++i) {
      carry += result[i + j] + (i < left.size() ? left[i] * right[j] : 0);
      result[i + j] = carry % base;
      carry /= base;
    }
  }
  while (!result.empty() && result.back() == 0) result.pop_back();
  return result;
}

}  // namespace

std::optional<Number> read_number(std::string_view text) {
  text = trimmed(text);
  if (text.ends_with('.')) text.remove_suffix(1);
  Number number;
  number.is_negative = drop_front(text, "-") || drop_front(text, "−");
  if (!number.is_negative) drop_front(text, "+");
  const std::size_t line = text.find('/');
  const std::optional<Decimal> value = read_decimal(trimmed(text.substr(0, line)));
  if (!value) return std::nullopt;
  number.value = *value;
  if (line != std::string_view::npos) {
    number.below = read_decimal(trimmed(text.substr(line + 1)));
    if (!number.below || number.below->digits.empty()) return std::nullopt;
    for (const Decimal& side : {number.value, *number.below})
      if (std::max(side.digits.size(), side.scale) > most_fraction_digits) return std::nullopt;
  }
  if (number.value.digits.empty()) number.is_negative = false;
  return number;
}

bool is_same(const Number& a, const Number& b) {
  if (a.is_negative != b.is_negative) return false;
  if (!a.below && !b.below) return a.value == b.value;
  if (a.value.digits.empty() || b.value.digits.empty()) return a.value.digits == b.value.digits;
  // a.value / a.below = b.value / b.below, multiplied out; the powers of ten go to one side.
  const Decimal one{"1", 0};
  const Decimal& below_a = a.below ? *a.below : one;
  const Decimal& below_b = b.below ? *b.below : one;
  const std::size_t left = a.value.scale + below_b.scale, right = b.value.scale + below_a.scale;
  const std::size_t shared = std::min(left, right);
  return product(a.value.digits, below_b.digits, right - shared) ==
         product(b.value.digits, below_a.digits, left - shared);
}

}  // namespace pensive
