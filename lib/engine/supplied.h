// What those who start many sequences from one Request supply themselves.
#pragma once
#include <string>
#include <string_view>

#include "base/inside.h"
#include "pensive/engine.h"

namespace pensive {

// Refuses what would be written over. `request`: where it stands, "ExamOptions::request"; `seed`:
// the option that keys all draws instead.
inline void check_supplied(const Request& request, std::string_view name, std::string_view seed) {
  const auto refuse = [&](bool is_left, const std::string& expected, std::string_view field) {
    require(is_left, ErrorCode::invalid_argument, expected, "one",
            std::string(name) + std::string(field));
  };
  refuse(request.prompt.empty(), "no prompt: each problem has its own", ".prompt");
  refuse(!request.sampling.seed, "no seed: " + std::string(seed) + " keys all draws",
         ".sampling.seed");
  refuse(request.sample == 0, "no sample: each of a problem's has its own", ".sample");
}

}  // namespace pensive
