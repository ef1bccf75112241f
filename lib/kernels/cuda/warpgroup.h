// What products of many rows ask of a card of capability 9.0 and of no other (code for 90a): tiles
// that the copy engine brings to shared memory, to one block or to all of a cluster, and products
// of such tiles by four warps together, which go on while the warps do something else.
//
// A tile is rows of 64 brief values, 128 bytes, as the copy engine lays them out for these products
// ("128-byte swizzle"): eight rows are 1,024 bytes, and begin at a multiple of that.
#pragma once
#include <cuda.h>

#include "kernels/cuda/stream.h"
#include "kernels/cuda/tile.h"

namespace pensive::kernels {

constexpr int tile_depth = 64;  // values of a tile's row

#if defined(__CUDACC__)

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define PENSIVE_WARPGROUP 1
#endif

// A tile, or rows of it from a multiple of eight on, for multiply_tiles(). 32 bytes further: the
// next 16 values of each row.
__device__ inline std::uint64_t tile_at(const void* place) {
  constexpr std::uint64_t eight_rows = 1024 >> 4, swizzle = std::uint64_t{1} << 62;
  return (near_address(place) & 0x3FFFF) >> 4 | std::uint64_t{1} << 16 | eight_rows << 32 | swizzle;
}

// A tile's rows as the depth of weigh_tiles(), from a multiple of 16 on; every 64 columns are a
// tile of their own, `apart` bytes from the last.
__device__ inline std::uint64_t weighted_tile_at(const void* place, int apart) {
  constexpr std::uint64_t eight_rows = 1024 >> 4, swizzle = std::uint64_t{1} << 62;
  return (near_address(place) & 0x3FFFF) >> 4 | static_cast<std::uint64_t>(apart >> 4) << 16 |
         eight_rows << 32 | swizzle;
}

// Values x..x+63 of one head of rows `row` and on, of what `map` describes (tile_map.h). In the
// second form to the same place of all blocks in `blocks`, whose gates at the place of this one's
// each learn of the bytes.
__device__ inline void bring_tile(void* to, const CUtensorMap* map, int x, int head, int row,
                                  std::uint64_t* gate) {
#ifdef PENSIVE_WARPGROUP
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(near_address(to)),
      "l"(map), "r"(x), "r"(head), "r"(row), "r"(near_address(gate))
      : "memory");
#endif
}
__device__ inline void bring_tile(void* to, const CUtensorMap* map, int x, int head, int row,
                                  std::uint64_t* gate, unsigned blocks) {
#ifdef PENSIVE_WARPGROUP
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%2, %3, %4}], [%5], %6;" ::"r"(near_address(to)),
      "l"(map), "r"(x), "r"(head), "r"(row), "r"(near_address(gate)),
      "h"(static_cast<unsigned short>(blocks))
      : "memory");
#endif
}

// The gate at the place of `gate` in another block of the cluster, or in this one. Tells of what
// products have read, which are done; a fence for what this thread wrote would take as long as
// they.
__device__ inline void arrive_at_gate_of(std::uint64_t* gate, int block) {
#ifdef PENSIVE_WARPGROUP
  asm volatile(
      "{\n"
      ".reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.relaxed.cluster.shared::cluster.b64 _, [there];\n"
      "}\n" ::"r"(near_address(gate)),
      "r"(block)
      : "memory");
#endif
}

// What this thread wrote to shared memory is there for products.
__device__ inline void show_to_products() {
#ifdef PENSIVE_WARPGROUP
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// Registers that a warp of products gets, and one that only copies gives back.
template <int count>
__device__ void take_registers() {
#ifdef PENSIVE_WARPGROUP
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
#endif
}
template <int count>
__device__ void give_registers() {
#ifdef PENSIVE_WARPGROUP
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
#endif
}

// Products that are asked for between open_products() and close_products() are one lot; sums may be
// looked at when wait_for_products() has left as many lots under way as it says.
__device__ inline void open_products() {
#ifdef PENSIVE_WARPGROUP
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
__device__ inline void close_products() {
#ifdef PENSIVE_WARPGROUP
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
template <int pending>
__device__ void wait_for_products() {
#ifdef PENSIVE_WARPGROUP
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
#endif
}

// The compiler may not look at sums before this.
template <int count>
__device__ void hold(float (&sums)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) asm volatile("" : "+f"(sums[i])::"memory");
}

// sums [64, columns] of the warpgroup: a's 64 rows by b's `columns`, 16 values deep; added to what
// is there where `adds` is not 0. Lane 4 g + t of warp w has, of rows 16 w + g and 16 w + g + 8,
// columns 8 j + 2 t and the next in sums[4 j], [4 j + 1] and in [4 j + 2], [4 j + 3].
template <class S, int columns>
__device__ void multiply_tiles(float (&sums)[columns / 2], std::uint64_t a, std::uint64_t b,
                               int adds);

// The same where b's rows are the depth: 16 rows of a tile of `columns` values, from
// weighted_tile_at() on, and where the warpgroup has a in registers, as it has sums: word 2 i + r
// of lane 4 g + t holds of row 16 w + g + 8 r columns 8 i + 2 t and the next.
template <class S, int columns>
__device__ void weigh_tiles(float (&sums)[columns / 2], const unsigned (&a)[4], std::uint64_t b,
                            int adds);

#define PENSIVE_SUMS8(i)                                                                     \
  "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3]), "+f"(sums[i + 4]), \
      "+f"(sums[i + 5]), "+f"(sums[i + 6]), "+f"(sums[i + 7])
#define PENSIVE_SUMS32(i) \
  PENSIVE_SUMS8(i), PENSIVE_SUMS8(i + 8), PENSIVE_SUMS8(i + 16), PENSIVE_SUMS8(i + 24)
#define PENSIVE_SUMS64 PENSIVE_SUMS32(0), PENSIVE_SUMS32(32)
#define PENSIVE_SUMS96 PENSIVE_SUMS64, PENSIVE_SUMS32(64)
#define PENSIVE_SUMS128 PENSIVE_SUMS96, PENSIVE_SUMS32(96)
#define PENSIVE_NAMES8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define PENSIVE_NAMES16 PENSIVE_NAMES8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define PENSIVE_NAMES32 \
  PENSIVE_NAMES16       \
  ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define PENSIVE_NAMES64                                                                   \
  PENSIVE_NAMES32                                                                         \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48" \
  ", %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define PENSIVE_NAMES96                                                                   \
  PENSIVE_NAMES64                                                                         \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80" \
  ", %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define PENSIVE_NAMES128                                                                   \
  PENSIVE_NAMES96                                                                          \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110" \
  ", %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124"   \
  ", %125, %126, %127"
#ifdef PENSIVE_WARPGROUP
#define PENSIVE_MULTIPLY(columns, type, names, a_, b_, adds_, ...)                        \
  asm volatile("{\n.reg .pred adds;\nsetp.ne.b32 adds, " adds_                            \
               ", 0;\nwgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type \
               " {" names "}, " a_ ", " b_ ", adds, 1, 1, 0, 0;\n}"                       \
               : __VA_ARGS__                                                              \
               : "l"(a), "l"(b), "r"(adds))
#else
#define PENSIVE_MULTIPLY(...)
#endif
#ifdef PENSIVE_WARPGROUP
#define PENSIVE_WEIGH(columns, type, names, a_, b_, adds_, ...)                           \
  asm volatile("{\n.reg .pred adds;\nsetp.ne.b32 adds, " adds_                            \
               ", 0;\nwgmma.mma_async.sync.aligned.m64n" columns "k16.f32." type "." type \
               " {" names "}, {" a_ "}, " b_ ", adds, 1, 1, 1;\n}"                        \
               : __VA_ARGS__                                                              \
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(adds))
#else
#define PENSIVE_WEIGH(...)
#endif
#define PENSIVE_MULTIPLY_TILES(S, type)                                                            \
  template <>                                                                                      \
  __device__ inline void multiply_tiles<S, 16>(float(&sums)[8], std::uint64_t a, std::uint64_t b,  \
                                               int adds) {                                         \
    PENSIVE_MULTIPLY("16", type, PENSIVE_NAMES8, "%8", "%9", "%10", PENSIVE_SUMS8(0));             \
  }                                                                                                \
  template <>                                                                                      \
  __device__ inline void multiply_tiles<S, 32>(float(&sums)[16], std::uint64_t a, std::uint64_t b, \
                                               int adds) {                                         \
    PENSIVE_MULTIPLY("32", type, PENSIVE_NAMES16, "%16", "%17", "%18", PENSIVE_SUMS8(0),           \
                     PENSIVE_SUMS8(8));                                                            \
  }                                                                                                \
  template <>                                                                                      \
  __device__ inline void multiply_tiles<S, 64>(float(&sums)[32], std::uint64_t a, std::uint64_t b, \
                                               int adds) {                                         \
    PENSIVE_MULTIPLY("64", type, PENSIVE_NAMES32, "%32", "%33", "%34", PENSIVE_SUMS32(0));         \
  }                                                                                                \
  template <>                                                                                      \
  __device__ inline void multiply_tiles<S, 128>(float(&sums)[64], std::uint64_t a,                 \
                                                std::uint64_t b, int adds) {                       \
    PENSIVE_MULTIPLY("128", type, PENSIVE_NAMES64, "%64", "%65", "%66", PENSIVE_SUMS64);           \
  }                                                                                                \
  template <>                                                                                      \
  __device__ inline void weigh_tiles<S, 64>(float(&sums)[32], const unsigned(&a)[4],               \
                                            std::uint64_t b, int adds) {                           \
    PENSIVE_WEIGH("64", type, PENSIVE_NAMES32, "%32, %33, %34, %35", "%36", "%37",                 \
                  PENSIVE_SUMS32(0));                                                              \
  }                                                                                                \
  template <>                                                                                      \
  __device__ inline void weigh_tiles<S, 128>(float(&sums)[64], const unsigned(&a)[4],              \
                                             std::uint64_t b, int adds) {                          \
    PENSIVE_WEIGH("128", type, PENSIVE_NAMES64, "%64, %65, %66, %67", "%68", "%69",                \
                  PENSIVE_SUMS64);                                                                 \
  }                                                                                                \
  template <>                                                                                      \
  __device__ inline void multiply_tiles<S, 192>(float(&sums)[96], std::uint64_t a,                 \
                                                std::uint64_t b, int adds) {                       \
    PENSIVE_MULTIPLY("192", type, PENSIVE_NAMES96, "%96", "%97", "%98", PENSIVE_SUMS96);           \
  }                                                                                                \
  template <>                                                                                      \
  __device__ inline void multiply_tiles<S, 256>(float(&sums)[128], std::uint64_t a,                \
                                                std::uint64_t b, int adds) {                       \
    PENSIVE_MULTIPLY("256", type, PENSIVE_NAMES128, "%128", "%129", "%130", PENSIVE_SUMS128);      \
  }
PENSIVE_MULTIPLY_TILES(__nv_bfloat16, "bf16")
PENSIVE_MULTIPLY_TILES(__half, "f16")

#endif

}  // namespace pensive::kernels
