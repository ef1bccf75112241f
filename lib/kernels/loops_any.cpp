#include "kernels/loops_table.h"

namespace pensive::kernels {
const Loops& loops_any() { return table; }
}  // namespace pensive::kernels
