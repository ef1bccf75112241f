// What this program was built from and with.
#include <fmt/core.h>

#include "commit.h"
#include "shell.h"

namespace pensive::shell {

std::string build_text() {
  constexpr std::string_view cuda = PENSIVE_BUILT_CUDA;
  return fmt::format(
      "pensive {}\ncommit  {}\ntorch   {}\nCUDA    {}", version(), PENSIVE_COMMIT,
      PENSIVE_BUILT_TORCH,
      cuda.empty() ? "not built" : fmt::format("{}, code for {}", cuda, PENSIVE_BUILT_ARCHS));
}

}  // namespace pensive::shell
