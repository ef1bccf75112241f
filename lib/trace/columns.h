// What both files of this room ask of a trace before they read it.
#pragma once
#include <string>
#include <string_view>

#include "pensive/trace.h"

namespace pensive {

// Nothing where the columns are of equal length and the prompt fits in them, else what is wrong.
std::string fault_of(const Trace& trace);

}  // namespace pensive
