#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "demo.h"
#include "shell.h"

namespace pensive::shell {
namespace {

std::size_t terminal_width() {
  winsize size = {};
  const bool is_known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return is_known ? std::clamp<std::size_t>(size.ws_col, 60, 160) : 100;
}

}  // namespace

std::vector<std::string> wrapped(std::string_view text, std::size_t width) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    while (line.size() > width) {
      // At a space, where there is one in the second half.
      const std::size_t space = line.rfind(' ', width);
      const std::size_t cut = space != line.npos && space > width / 2 ? space : width;
      lines.emplace_back(line.substr(0, cut));
      line.remove_prefix(cut);
      if (line.starts_with(' ')) line.remove_prefix(1);
    }
    lines.emplace_back(line);
  }
  return lines;
}

void print_columns(std::span<const Column> columns) {
  if (columns.empty()) return;
  constexpr std::size_t gap = 3;
  const bool is_dim = is_terminal(STDOUT_FILENO);
  const std::size_t width = (terminal_width() - gap * (columns.size() - 1)) / columns.size();
  struct Lines {
    std::vector<std::string> text;
    std::size_t thought_from, thought_to;
  };
  std::vector<Lines> all;
  std::size_t most = 0;
  for (const Column& column : columns) {
    Lines lines{wrapped(column.title, width), 0, 0};
    lines.thought_from = lines.text.size();
    for (const std::string& part : wrapped(column.thought, width)) lines.text.push_back(part);
    lines.thought_to = lines.text.size();
    for (const std::string& whole : {"answer: " + column.answer, "(" + column.foot + ")"})
      for (const std::string& part : wrapped(whole, width)) lines.text.push_back(part);
    most = std::max(most, lines.text.size());
    all.push_back(std::move(lines));
  }
  fmt::print("\n");
  for (std::size_t row = 0; row < most; ++row) {
    std::string line;
    for (const Lines& lines : all) {
      const std::string text = row < lines.text.size() ? lines.text[row] : "";
      const bool is_thought = is_dim && row >= lines.thought_from && row < lines.thought_to;
      line += is_thought ? "\033[2m" : "";
      line += &lines == &all.back() ? text : fmt::format("{:<{}}", text, width + gap);
      line += is_thought ? "\033[0m" : "";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    fmt::print("{}\n", line);
  }
}

}  // namespace pensive::shell
