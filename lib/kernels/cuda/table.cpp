// The one door of libpensive-cuda.so.
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>

#include "kernels/cuda/launch.h"

namespace pensive::kernels {
namespace {

const char* describe(int error) {
  cudaGetLastError();  // leaves no error behind for the host's next check
  return cudaGetErrorString(static_cast<cudaError_t>(error));
}

int device_count(int* host_count) {
  int error = cudaGetDeviceCount(host_count);
  cudaGetLastError();  // leaves no error behind for the host's next check
  return error;
}

int capability(int device, int* host_major, int* host_minor) {
  int error = cudaDeviceGetAttribute(host_major, cudaDevAttrComputeCapabilityMajor, device);
  if (error != cudaSuccess) return error;
  return cudaDeviceGetAttribute(host_minor, cudaDevAttrComputeCapabilityMinor, device);
}

int can_run(int device) try {
  c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device));
  return find_kernel() == cudaSuccess;
} catch (const c10::Error&) {
  return 0;
}

int memory(int device, std::int64_t* host_free, std::int64_t* host_total) try {
  namespace allocator = c10::cuda::CUDACachingAllocator;
  auto index = static_cast<c10::DeviceIndex>(device);
  c10::cuda::CUDAGuard guard(index);
  std::size_t free = 0, total = 0;
  int error = cudaMemGetInfo(&free, &total);
  if (error != cudaSuccess) return error;
  *host_free = static_cast<std::int64_t>(free);
  *host_total = static_cast<std::int64_t>(total);
  // What libtorch holds and does not use is free for us as well.
  if (!allocator::get()->initialized()) return 0;
  auto stats = allocator::getDeviceStats(index);
  *host_free += stats.reserved_bytes[0].current - stats.allocated_bytes[0].current;
  return 0;
} catch (const c10::Error&) {
  return cudaErrorInvalidDevice;
}

void* current_stream(int device) {
  return c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device)).stream();
}

const CudaTable table = {
    sizeof(CudaTable),
    PENSIVE_CUDA_BUILT_FOR,
    describe,
    device_count,
    capability,
    can_run,
    memory,
    current_stream,
    launch_rms_norm,
    launch_silu_mul,
    launch_rotate,
    launch_write_pages,
    launch_paged_attention,
    launch_draw,
    launch_rms_norm_back,
    launch_silu_mul_back,
    launch_token_logprobs,
    launch_token_logprobs_back,
    make_decoder,
    free_decoder,
    workspace_bytes,
    decode,
    await_decode,
    profile,
    launch_multiply,
    forward_bytes,
    forward,
    launch_many_rows,
    launch_packed_attention,
    launch_drawn_logprobs,
};

}  // namespace

extern "C" __attribute__((visibility("default"))) const CudaTable* pensive_cuda_table() {
  return &table;
}

}  // namespace pensive::kernels
