// Torch as the engine uses it, in whatever state a host has left it.
#pragma once
#include <functional>
#include <string_view>

namespace pensive {

// Runs `work` with no gradient recorded, ordinary tensors made and nothing cast by itself, whatever
// the host's modes, which are left as they were. Gives torch's errors as pensive's; `to_lower` is
// the option that would save memory.
void quietly(const std::function<void()>& work,
             std::string_view to_lower = "EngineOptions::max_tokens_per_step");

}  // namespace pensive
