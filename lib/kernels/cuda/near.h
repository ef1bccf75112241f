// How much near memory a kernel may have.
#pragma once
#include <cuda_runtime.h>

namespace pensive::kernels {

// All that a block can have beside what the kernel names itself. Not only what the next launch
// needs: another thread may be about to launch the same kernel with more.
template <class... Parameters>
int allow_near_memory(void (*kernel)(Parameters...)) {
  int device = 0, most = 0;
  cudaFuncAttributes own{};
  if (int error = cudaGetDevice(&device)) return error;
  if (int error = cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device))
    return error;
  if (int error = cudaFuncGetAttributes(&own, kernel)) return error;
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                              most - static_cast<int>(own.sharedSizeBytes));
}

}  // namespace pensive::kernels
