// Where things stand in the shared memory of a block that stays.
#pragma once
#include "kernels/cuda/persistent_attention.h"

namespace pensive::kernels {

#if defined(__CUDACC__)

// As persistent_plan.cpp has counted it. First what copies write.
struct NearPlaces {
  unsigned char *slots, *near;  // near: x, and behind it what attention needs
  std::uint64_t* gates;
  float *parts, *scratch;
  CudaLayer* layers;       // [2]: this and the next
  DecodeAttention* calls;  // [2]: likewise
  Mine* mine;
  OwnPairs* pairs;  // [lot_kinds]: this block's of each lot
  float* angles;    // [2, head_dim / 2]: cosines and sines of the row's position
  float* own;       // this block's values of the row that layers add up
  __device__ NearPlaces(const PersistentStep& step, unsigned char* base) {
    slots = base;
    near = slots + static_cast<std::int64_t>(step.slots) * step.slot_bytes;
    gates = reinterpret_cast<std::uint64_t*>(near + step.near_bytes);
    parts = reinterpret_cast<float*>(gates + 2 * step.slots);
    scratch = parts + step.parts;
    layers = reinterpret_cast<CudaLayer*>(scratch + 32);
    calls = reinterpret_cast<DecodeAttention*>(layers + 2);
    mine = reinterpret_cast<Mine*>(calls + 2);
    static_assert(sizeof(Mine) <= stretch_bytes, "as planned");
    pairs = reinterpret_cast<OwnPairs*>(reinterpret_cast<unsigned char*>(mine) + stretch_bytes);
    static_assert(sizeof(OwnPairs) * lot_kinds <= pairs_bytes, "as planned");
    angles = reinterpret_cast<float*>(reinterpret_cast<unsigned char*>(pairs) + pairs_bytes);
    own = angles + step.attention.head_dim;
  }
};

#endif

}  // namespace pensive::kernels
