// One trace as one line of JSON.
#pragma once
#include <string>
#include <string_view>

#include "pensive/trace.h"

namespace pensive {

// With its newline. Throws invalid_argument for columns of unequal lengths.
std::string line_of(const Trace& trace);
// `where` names the file and the line. Throws unsupported for another version, or corrupt_file.
Trace read_line(std::string_view text, std::string_view where);

}  // namespace pensive
