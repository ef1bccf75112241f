// A device's time and memory, as libtorch tells of them.
#pragma once
#include <ATen/ATen.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <algorithm>
#include <chrono>
#include <functional>

#include "kernels/kernels.h"

namespace pensive::bench {

inline void wait_for(at::Device device) {
  if (device.is_cuda()) at::detail::getCUDAHooks().deviceSynchronize(device.index());
}

inline double seconds_of(at::Device device, const std::function<void()>& work) {
  using Clock = std::chrono::steady_clock;
  wait_for(device);
  const auto start = Clock::now();
  work();
  wait_for(device);
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Bytes of a card, or 0 of a CPU. Of libtorch's tensors: now, and at most since the last reset;
// and what is free for other programs.
struct Held {
  explicit Held(at::Device device) : device_(device) {}
  bool is_there() const { return device_.is_cuda(); }
  void reset() const {
    if (device_.is_cuda()) allocator()->resetPeakStats(index());
  }
  double now() const { return device_.is_cuda() ? static_cast<double>(bytes().current) : 0; }
  double peak() const { return device_.is_cuda() ? static_cast<double>(bytes().peak) : 0; }
  // Gives back what libtorch keeps for its next tensors.
  void clear() const {
    if (device_.is_cuda()) allocator()->emptyCache();
  }
  double free() const {
    if (!device_.is_cuda()) return 0;
    const auto stats = allocator()->getDeviceStats(index());
    return static_cast<double>(kernels::memory({DeviceKind::cuda, index()}).free_bytes -
                               (stats.reserved_bytes[0].current - bytes().current));
  }

 private:
  c10::DeviceIndex index() const { return std::max<c10::DeviceIndex>(0, device_.index()); }
  c10::DeviceAllocator* allocator() const { return at::getDeviceAllocator(at::kCUDA); }
  c10::CachingAllocator::Stat bytes() const {
    return allocator()->getDeviceStats(index()).allocated_bytes[0];  // of all pools
  }
  at::Device device_;
};

}  // namespace pensive::bench
