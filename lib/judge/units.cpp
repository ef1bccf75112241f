// Units of measure: which words mean the same.
#include <algorithm>
#include <array>
#include <utility>

#include "judge/tokens.h"

namespace pensive {
namespace {

using Pair = std::pair<std::string_view, std::string_view>;

// Plurals in -s are found by their singular. What has no short form stands for itself.
constexpr std::array units = {
    Pair{"mm", "mm"},         Pair{"millimeter", "mm"}, Pair{"millimetre", "mm"},
    Pair{"cm", "cm"},         Pair{"centimeter", "cm"}, Pair{"centimetre", "cm"},
    Pair{"m", "m"},           Pair{"meter", "m"},       Pair{"metre", "m"},
    Pair{"km", "km"},         Pair{"kilometer", "km"},  Pair{"kilometre", "km"},
    Pair{"in", "in"},         Pair{"inch", "in"},       Pair{"inche", "in"},
    Pair{"ft", "ft"},         Pair{"foot", "ft"},       Pair{"feet", "ft"},
    Pair{"yd", "yd"},         Pair{"yard", "yd"},       Pair{"mi", "mi"},
    Pair{"mile", "mi"},       Pair{"mg", "mg"},         Pair{"milligram", "mg"},
    Pair{"g", "g"},           Pair{"gram", "g"},        Pair{"kg", "kg"},
    Pair{"kilogram", "kg"},   Pair{"kilo", "kg"},       Pair{"lb", "lb"},
    Pair{"pound", "lb"},      Pair{"oz", "oz"},         Pair{"ounce", "oz"},
    Pair{"ton", "ton"},       Pair{"ml", "ml"},         Pair{"milliliter", "ml"},
    Pair{"millilitre", "ml"}, Pair{"l", "l"},           Pair{"liter", "l"},
    Pair{"litre", "l"},       Pair{"gallon", "gal"},    Pair{"gal", "gal"},
    Pair{"quart", "qt"},      Pair{"cup", "cup"},       Pair{"s", "s"},
    Pair{"sec", "s"},         Pair{"second", "s"},      Pair{"min", "min"},
    Pair{"minute", "min"},    Pair{"h", "h"},           Pair{"hr", "h"},
    Pair{"hour", "h"},        Pair{"day", "day"},       Pair{"week", "week"},
    Pair{"month", "month"},   Pair{"yr", "year"},       Pair{"year", "year"},
    Pair{"dollar", "$"},      Pair{"usd", "$"},         Pair{"buck", "$"},
    Pair{"cent", "cent"},     Pair{"euro", "euro"},     Pair{"eur", "euro"},
    Pair{"gbp", "gbp"},       Pair{"yen", "yen"},       Pair{"rupee", "rupee"},
    Pair{"degree", "degree"}, Pair{"deg", "degree"},    Pair{"radian", "rad"},
    Pair{"rad", "rad"},       Pair{"mph", "mi/h"},      Pair{"kph", "km/h"},
    Pair{"kmh", "km/h"},      Pair{"newton", "newton"}, Pair{"joule", "joule"},
    Pair{"watt", "watt"},     Pair{"volt", "volt"},     Pair{"ohm", "ohm"},
    Pair{"hz", "hz"},         Pair{"hertz", "hz"},      Pair{"percent", "%"},
};

std::string_view one_unit(std::string_view word) {
  const auto find = [](std::string_view name) {
    return std::find_if(units.begin(), units.end(), [&](const Pair& p) { return p.first == name; });
  };
  auto at = find(word);
  if (at == units.end() && word.size() > 2 && word.ends_with('s'))
    at = find(word.substr(0, word.size() - 1));
  return at == units.end() ? std::string_view() : at->second;
}

}  // namespace

std::string unit_of(std::string_view words) {
  std::string unit, power;
  while (!words.empty()) {
    const std::size_t end = std::min(words.find_first_of(" /^"), words.size());
    std::string_view word = words.substr(0, end);
    if (word.ends_with('.')) word.remove_suffix(1);
    if (word == "square" || word == "sq" || word == "cubic" || word == "cu") {
      power = word.front() == 's' ? "^2" : "^3";
    } else if (word == "per") {
      unit += '/';
    } else if (word == "2" || word == "3") {
      if (unit.empty()) return {};
      unit += "^" + std::string(word);
    } else if (!word.empty()) {
      const std::string_view name = one_unit(word);
      if (name.empty() || (!unit.empty() && !unit.ends_with('/'))) return {};
      unit += std::string(name) + power;
      power.clear();
    }
    if (end < words.size() && words[end] == '/') unit += '/';
    words.remove_prefix(std::min(end + 1, words.size()));
  }
  return unit;
}

}  // namespace pensive
