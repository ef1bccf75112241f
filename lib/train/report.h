// A step's report in a checkpoint.
#pragma once
#include <optional>
#include <string_view>

#include "base/inside.h"
#include "pensive/train.h"

namespace pensive {

// -> what read_report() takes back, bit for bit but for numbers that are not finite; null for none.
nlohmann::ordered_json write_report(const std::optional<TrainReport>& report);
// Throws corrupt_file; the run has so many parts of its reward.
std::optional<TrainReport> read_report(const nlohmann::ordered_json& json, std::size_t parts,
                                       std::string_view where);

}  // namespace pensive
