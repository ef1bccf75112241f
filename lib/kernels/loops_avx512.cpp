#if defined(__AVX512F__)
#include "kernels/loops_table.h"

namespace pensive::kernels {
const Loops& loops_avx512() { return table; }
}  // namespace pensive::kernels
#else
#include "kernels/loops.h"

namespace pensive::kernels {
const Loops& loops_avx512() { return loops_any(); }
}  // namespace pensive::kernels
#endif
