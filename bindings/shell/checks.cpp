// What flags are checked by.
#include <fmt/core.h>

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "shell.h"

namespace pensive::shell {
namespace {

// Inside quotes, bytes that are no ASCII as \xff.
std::string quoted(const std::string& text) {
  std::string shown;
  for (const char c : text)
    shown += c >= ' ' && c <= '~' ? std::string(1, c)
                                  : fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
  return "'" + shown + "'";
}

CLI::Validator number_where(bool (*holds)(double), const char* expected, const char* name) {
  return {[holds, expected](const std::string& text) {
            char* end = nullptr;
            const double number = std::strtod(text.c_str(), &end);
            if (!text.empty() && *end == '\0' && std::isfinite(number) && holds(number))
              return std::string();
            return fmt::format("expected {}; found {}", expected, quoted(text));
          },
          name};
}

bool is_utf8(const std::string& text) {
  try {
    static_cast<void>(nlohmann::json(text).dump());
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

}  // namespace

const CLI::Validator positive =
    number_where([](double number) { return number > 0; }, "a number above 0", "POSITIVE");
const CLI::Validator not_negative =
    number_where([](double number) { return number >= 0; }, "0 or more", "NONNEGATIVE");

void check_utf8(const CLI::App& command) {
  for (const CLI::Option* option : command.get_options())
    for (const std::string& text : option->results())
      if (!is_utf8(text))
        throw Error(
            ErrorCode::invalid_argument,
            fmt::format("expected text in UTF-8; found {} ({})", quoted(text), option->get_name()));
}

}  // namespace pensive::shell
