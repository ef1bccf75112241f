#include "pensive/base.h"

#include <array>
#include <charconv>
#include <string>

#include "base/inside.h"

namespace pensive {

Device Device::parse(std::string_view text) {
  if (text == "auto") return {DeviceKind::automatic, 0};
  if (text == "cpu") return {DeviceKind::cpu, 0};
  if (text == "cuda") return {DeviceKind::cuda, 0};
  constexpr std::string_view prefix = "cuda:";
  if (text.starts_with(prefix)) {
    const std::string_view digits = text.substr(prefix.size());
    int index = -1;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), index);
    const bool is_whole = error == std::errc() && end == digits.data() + digits.size();
    if (is_whole && digits.front() != '-') return {DeviceKind::cuda, index};
  }
  fail(ErrorCode::invalid_argument, "auto, cpu, cuda or cuda:<number>", in_quotes(text), "device");
}

std::string to_string(const Device& device) {
  switch (device.kind) {
    case DeviceKind::automatic:
      return "auto";
    case DeviceKind::cpu:
      return "cpu";
    case DeviceKind::cuda:
      return fmt::format("cuda:{}", device.index);
  }
  return "unknown";
}

std::string_view to_string(ErrorCode code) {
  constexpr std::array<std::string_view, 12> names = {
      "invalid_argument", "unsupported", "corrupt_file", "not_found", "io",
      "out_of_memory",    "device",      "cancelled",    "deadline",  "busy",
      "abi_mismatch",     "internal"};
  const auto index = static_cast<std::size_t>(code);
  return index < names.size() ? names[index] : "unknown";
}

std::string_view version() noexcept { return "0.1.0"; }

void fail(ErrorCode code, std::string_view expected, std::string_view found,
          std::string_view where) {
  std::string message = fmt::format("expected {}; found {}", expected, found);
  if (!where.empty()) message += fmt::format(" ({})", where);
  // Bytes of damaged files end up in messages, and every binding wants UTF-8.
  throw Error(code, to_utf8(message));
}

std::string in_quotes(std::string_view text) {
  constexpr std::size_t most = 80;
  std::string shown;
  for (const char c : text.substr(0, most)) {
    const auto byte = static_cast<unsigned char>(c);
    shown += byte < 0x20 || byte == 0x7f ? fmt::format("\\x{:02x}", byte) : std::string(1, c);
  }
  return fmt::format("\"{}{}\"", to_utf8(shown), text.size() > most ? "…" : "");
}

int utf8_length(std::string_view text) noexcept {
  if (text.empty()) return 0;
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = at(0);
  if (first < 0x80) return 1;
  const int length = first >= 0xc2 && first <= 0xdf   ? 2
                     : first >= 0xe0 && first <= 0xef ? 3
                     : first >= 0xf0 && first <= 0xf4 ? 4
                                                      : 0;
  if (length == 0) return -1;
  // Overlong forms, surrogates and what lies above U+10FFFF show in the second byte.
  const unsigned char low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
  const unsigned char high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
  for (int i = 1; i < length; ++i) {
    if (static_cast<std::size_t>(i) >= text.size()) return 0;
    const unsigned char byte = at(static_cast<std::size_t>(i));
    if (byte < (i == 1 ? low : 0x80) || byte > (i == 1 ? high : 0xbf)) return -i;
  }
  return length;
}

std::string to_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  while (!bytes.empty()) {
    const int length = utf8_length(bytes);
    const std::size_t taken = length > 0   ? static_cast<std::size_t>(length)
                              : length < 0 ? static_cast<std::size_t>(-length)
                                           : bytes.size();
    text += length > 0 ? bytes.substr(0, taken) : std::string_view("\xef\xbf\xbd");
    bytes.remove_prefix(taken);
  }
  return text;
}

}  // namespace pensive
