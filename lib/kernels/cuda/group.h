// One product of a whole group of four warps on the tensor cores of 9.0, whose arguments stand in
// shared memory as copies of tensors leave them: rows of 64 values (128 bytes), whose packs of 16
// bytes change places within eight rows.
#pragma once
#include <type_traits>

#include "kernels/cuda/warpgroup.h"

namespace pensive::kernels {

#if defined(__CUDACC__)

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// sums [64, n] += a [64, 16] b [n, 16]^T. A lane's sums: for every eight of n two neighbours (lane
// % 4) of row lane / 4, then of the row eight further; a warp has 16 rows.
#define PENSIVE_JOIN(types)                                                                       \
  asm volatile(                                                                                   \
      "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"                                                  \
      "wgmma.mma_async.sync.aligned.m64n16k16.f32." types                                         \
      " "                                                                                         \
      "{%0, %1, %2, %3, %4, %5, %6, %7}, %8, %9, p, 1, 1, 0, 0;\n}\n"                             \
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]), "+f"(sums[4]), "+f"(sums[5]), \
        "+f"(sums[6]), "+f"(sums[7])                                                              \
      : "l"(a), "l"(b))
template <class S>
__device__ void join_group(float (&sums)[8], std::uint64_t a, std::uint64_t b) {
  if constexpr (std::is_same_v<S, __nv_bfloat16>)
    PENSIVE_JOIN("bf16.bf16");
  else
    PENSIVE_JOIN("f16.f16");
}
#undef PENSIVE_JOIN
#define PENSIVE_JOIN(types)                                                                       \
  asm volatile(                                                                                   \
      "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"                                                  \
      "wgmma.mma_async.sync.aligned.m64n32k16.f32." types                                         \
      " "                                                                                         \
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, %16, %17, p, 1, "  \
      "1, 0, 0;\n}\n"                                                                             \
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]), "+f"(sums[4]), "+f"(sums[5]), \
        "+f"(sums[6]), "+f"(sums[7]), "+f"(sums[8]), "+f"(sums[9]), "+f"(sums[10]),               \
        "+f"(sums[11]), "+f"(sums[12]), "+f"(sums[13]), "+f"(sums[14]), "+f"(sums[15])            \
      : "l"(a), "l"(b))
template <class S>
__device__ void join_group(float (&sums)[16], std::uint64_t a, std::uint64_t b) {
  if constexpr (std::is_same_v<S, __nv_bfloat16>)
    PENSIVE_JOIN("bf16.bf16");
  else
    PENSIVE_JOIN("f16.f16");
}
#undef PENSIVE_JOIN
#define PENSIVE_JOIN(types)                                                                       \
  asm volatile(                                                                                   \
      "{\n.reg .pred p;\nsetp.ne.b32 p, 1, 0;\n"                                                  \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." types                                         \
      " "                                                                                         \
      "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"                    \
      " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, %32, "   \
      "%33, p, 1, 1, 0, 0;\n}\n"                                                                  \
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3]), "+f"(sums[4]), "+f"(sums[5]), \
        "+f"(sums[6]), "+f"(sums[7]), "+f"(sums[8]), "+f"(sums[9]), "+f"(sums[10]),               \
        "+f"(sums[11]), "+f"(sums[12]), "+f"(sums[13]), "+f"(sums[14]), "+f"(sums[15]),           \
        "+f"(sums[16]), "+f"(sums[17]), "+f"(sums[18]), "+f"(sums[19]), "+f"(sums[20]),           \
        "+f"(sums[21]), "+f"(sums[22]), "+f"(sums[23]), "+f"(sums[24]), "+f"(sums[25]),           \
        "+f"(sums[26]), "+f"(sums[27]), "+f"(sums[28]), "+f"(sums[29]), "+f"(sums[30]),           \
        "+f"(sums[31])                                                                            \
      : "l"(a), "l"(b))
template <class S>
__device__ void join_group(float (&sums)[32], std::uint64_t a, std::uint64_t b) {
  if constexpr (std::is_same_v<S, __nv_bfloat16>)
    PENSIVE_JOIN("bf16.bf16");
  else
    PENSIVE_JOIN("f16.f16");
}
#undef PENSIVE_JOIN

#endif
#endif

}  // namespace pensive::kernels
