// What the copy engine needs to know of brief values in memory to bring tiles of them.
#pragma once
#include <cudaTypedefs.h>
#include <cuda_runtime.h>

#include "kernels/cuda.h"
#include "kernels/cuda/warpgroup.h"

namespace pensive::kernels {

// The driver's function, without linking the driver; null where it has none.
inline PFN_cuTensorMapEncodeTiled_v12000 map_maker() {
  static const auto found = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult result;
    cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault,
                                     &result);
    cudaGetLastError();  // leaves no error behind for the host's next check
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(
        result == cudaDriverEntryPointSuccess ? function : nullptr);
  }();
  return found;
}

// A tensor of brief values of `rank` sizes, the innermost first; strides in bytes, of all but that
// one, which has none between its values. What lies outside reads as 0. False: the driver cannot.
inline bool map_boxes(CUtensorMap* map, Scalar scalar, cuuint32_t rank, const void* values,
                      const cuuint64_t* sizes, const cuuint64_t* strides, const cuuint32_t* box) {
  const auto type = scalar == Scalar::bfloat16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
                                               : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  const cuuint32_t steps[] = {1, 1, 1, 1, 1};
  return map_maker() && map_maker()(map, type, rank, const_cast<void*>(values), sizes, strides, box,
                                    steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                    CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                    CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

// Rows of `heads` times `depth` values, `stride` values from row to row.
struct TileRows {
  const void* values;
  int rows, heads, depth;
  std::int64_t stride;
  Scalar scalar;
};

// Tiles of `box` rows of one head. Places: value of the head, head, row. What is not there reads
// as 0. False: the driver cannot.
inline bool map_tiles(CUtensorMap* map, const TileRows& of, int box) {
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(of.depth), static_cast<cuuint64_t>(of.heads),
                              static_cast<cuuint64_t>(of.rows)};
  const cuuint64_t strides[] = {2 * sizes[0], 2 * static_cast<cuuint64_t>(of.stride)};
  const cuuint32_t box_sizes[] = {tile_depth, 1, static_cast<cuuint32_t>(box)};
  return map_boxes(map, of.scalar, 3, of.values, sizes, strides, box_sizes);
}

}  // namespace pensive::kernels
