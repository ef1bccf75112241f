// Numbers of a checkpoint; all throw corrupt_file where there are others.
#pragma once
#include <string_view>
#include <vector>

#include "base/inside.h"

namespace pensive {

// `count` finite numbers.
std::vector<double> to_numbers(const nlohmann::ordered_json& list, std::size_t count,
                               std::string_view key, std::string_view where);
std::vector<double> read_numbers(const nlohmann::ordered_json& object, std::string_view key,
                                 std::size_t count, std::string_view where);
int read_count(const nlohmann::ordered_json& object, std::string_view key, std::string_view where);
std::vector<float> to_floats(const std::vector<double>& values);

}  // namespace pensive
