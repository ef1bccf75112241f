// What of the CUDA runtime the benchmarks need, from the library that libpensive-cuda.so has
// loaded: so that this program is built without CUDA.
#pragma once
#include <dlfcn.h>

#include <cstddef>

namespace pensive::bench {

class Runtime {
 public:
  Runtime() : library_(dlopen("libcudart.so.13", RTLD_NOW)) {
    if (!library_) return;
    find("cudaMalloc", allocate);
    find("cudaFree", release);
    find("cudaMallocHost", allocate_host);
    find("cudaFreeHost", release_host);
    find("cudaMemset", set);
    find("cudaMemcpy", copy_now);
    find("cudaMemcpyAsync", copy);
    find("cudaEventCreate", create);
    find("cudaEventRecord", record);
    find("cudaEventSynchronize", wait);
    find("cudaEventElapsedTime", elapsed);
    find("cudaGetDeviceProperties", properties);
  }
  bool is_there() const {
    return allocate && release && allocate_host && release_host && set && copy_now && copy &&
           create && record && wait && elapsed;
  }

  static constexpr int to_card = 1, within_card = 3;  // kinds of copies

  // Each gives 0, or a cudaError_t.
  int (*allocate)(void**, std::size_t) = nullptr;
  int (*release)(void*) = nullptr;
  int (*allocate_host)(void**, std::size_t) = nullptr;
  int (*release_host)(void*) = nullptr;
  int (*set)(void*, int, std::size_t) = nullptr;
  int (*copy_now)(void*, const void*, std::size_t, int) = nullptr;
  int (*copy)(void*, const void*, std::size_t, int, void*) = nullptr;
  int (*create)(void**) = nullptr;
  int (*record)(void*, void*) = nullptr;
  int (*wait)(void*) = nullptr;
  int (*elapsed)(float*, void*, void*) = nullptr;
  int (*properties)(void*, int) = nullptr;  // of a struct that begins with the card's name

 private:
  template <class F>
  void find(const char* name, F& function) {
    function = reinterpret_cast<F>(dlsym(library_, name));
  }
  void* library_;
};

}  // namespace pensive::bench
