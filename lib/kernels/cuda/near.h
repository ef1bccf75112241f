// How much near memory a kernel may have.
#pragma once
#include <cuda_runtime.h>

#include <array>
#include <atomic>

namespace pensive::kernels {

// All that a block can have on the current card beside what the kernel names itself, in `bytes`.
// Not only what the next launch needs: another thread may be about to launch the same kernel with
// more. The runtime is asked once a card.
template <auto kernel>
int allow_near_memory(int* bytes = nullptr) {
  constexpr int most_cards = 64;
  static std::array<std::atomic<int>, most_cards> known{};
  int device = 0;
  if (int error = cudaGetDevice(&device)) return error;
  std::atomic<int>* of_card = device < most_cards ? &known[device] : nullptr;
  int most = of_card != nullptr ? of_card->load() : 0;
  if (most == 0) {
    cudaFuncAttributes own{};
    if (int error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device))
      return error;
    if (int error = cudaFuncGetAttributes(&own, kernel)) return error;
    most -= static_cast<int>(own.sharedSizeBytes);
    if (int error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most))
      return error;
    if (of_card != nullptr) *of_card = most;
  }
  if (bytes != nullptr) *bytes = most;
  return cudaSuccess;
}

}  // namespace pensive::kernels
