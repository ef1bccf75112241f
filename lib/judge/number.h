// Plain numbers of any length, compared by their digits.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace pensive {

// digits x 10^-scale, normalised: no leading zeros, no trailing zeros after the point; 0 is "".
struct Decimal {
  std::string digits;
  std::size_t scale = 0;
  friend bool operator==(const Decimal&, const Decimal&) = default;
};

struct Number {
  bool is_negative = false;
  Decimal value;  // of a fraction: what stands above the line
  std::optional<Decimal> below;
};

// "-1,234.50", "+3", "1/3"; nothing for what is no plain number, or a fraction of more than 1000
// digits a side. Linear time.
std::optional<Number> read_number(std::string_view text);

bool is_same(const Number& a, const Number& b);

}  // namespace pensive
