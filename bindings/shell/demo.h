// Answers beside each other, as the demo shows them.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "pensive/trace.h"
#include "trace_page.h"

namespace pensive::shell {

struct Column {
  std::string title, thought{}, answer{}, foot{};
  Trace trace{};
};
// As wide as the terminal, or 100 letters; thinking dim on a terminal.
void print_columns(std::span<const Column> columns);
// A text in lines of at most `width` letters.
std::vector<std::string> wrapped(std::string_view text, std::size_t width);

}  // namespace pensive::shell
