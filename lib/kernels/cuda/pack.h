// Rows in packs of V numbers, loaded and stored at once.
#pragma once
#include <initializer_list>

#include "kernels/cuda/launch.h"

namespace pensive::kernels {

template <class S, int V>
struct alignas(V * sizeof(S) < 16 ? V * sizeof(S) : 16) Lot {
  S values[V];
};

template <class S, int V>
__device__ inline Lot<S, V> load_lot(const S* from) {
  return *reinterpret_cast<const Lot<S, V>*>(from);
}
template <class S, int V>
__device__ inline void store_lot(const Lot<S, V>& lot, S* to) {
  *reinterpret_cast<Lot<S, V>*>(to) = lot;
}

// Calls launch(S{}) with the type of rows that are like the weights or float32.
template <class W, class Launch>
int by_row_type(Scalar scalar, Scalar of_x, Launch launch) {
  if (of_x == scalar) return launch(W{});
  return of_x == Scalar::float32 ? launch(float{}) : static_cast<int>(cudaErrorInvalidValue);
}

// Calls launch(Lots<V>{}) with 16 bytes a lot where every address and row allows it, else with one
// number a lot.
template <int V>
struct Lots {
  static constexpr int count = V;
};
template <class S, class Launch>
int by_lots(std::initializer_list<const void*> places, std::int64_t row_values, Launch launch) {
  auto common = static_cast<std::uintptr_t>(row_values * static_cast<std::int64_t>(sizeof(S)));
  for (const void* place : places) common |= reinterpret_cast<std::uintptr_t>(place);
  return common % 16 == 0 ? launch(Lots<16 / sizeof(S)>{}) : launch(Lots<1>{});
}

}  // namespace pensive::kernels
