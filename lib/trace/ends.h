// How a sequence ended.
#pragma once
#include "pensive/think.h"

namespace pensive {

// Whether a limit, a deadline, its caller or an error ended it: not its own end, a guide, or a text
// that it was to stop at.
inline bool is_truncated(StopReason stopped) noexcept {
  return stopped != StopReason::end_token && stopped != StopReason::guide &&
         stopped != StopReason::stop_text;
}

}  // namespace pensive
