// Finds and opens libpensive-cuda.so, once.
#include <ATen/detail/CUDAHooksInterface.h>
#include <dlfcn.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/inside.h"
#include "kernels/cpu.h"

namespace pensive::kernels::cuda {
namespace {

struct Opened {
  const CudaTable* table = nullptr;
  std::string obstacle;  // why not, when null
};

// Beside the module that holds this code, in the lib folder next to it, then wherever the loader
// looks.
std::vector<std::string> places() {
  std::vector<std::string> places;
  Dl_info info;
  static const char anchor = 0;
  if (dladdr(&anchor, &info) && info.dli_fname) {
    std::error_code ignored;
    std::filesystem::path here = std::filesystem::absolute(info.dli_fname, ignored).parent_path();
    for (const auto& folder : {here, here.parent_path() / "lib"}) {
      std::filesystem::path file = folder / "libpensive-cuda.so";
      if (std::filesystem::exists(file, ignored)) places.push_back(file.string());
    }
  }
  places.push_back("libpensive-cuda.so");
  return places;
}

Opened open() {
  Opened opened;
  // Without a driver there is no card; libtorch's half second need not be spent on finding out.
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (!driver) return {nullptr, "no NVIDIA driver (libcuda.so.1)"};
  dlclose(driver);
  void* library = nullptr;
  for (const std::string& place : places()) {
    library = dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library) break;
    const char* why = dlerror();
    if (opened.obstacle.empty()) opened.obstacle = why ? why : place + " does not open";
  }
  if (!library) return opened;
  auto function = reinterpret_cast<CudaTableFunction>(dlsym(library, "pensive_cuda_table"));
  if (!function) return {nullptr, "a libpensive-cuda.so without pensive_cuda_table"};
  const CudaTable* table = function();
  if (!table || table->struct_size != sizeof(CudaTable)) {
    return {nullptr, "a libpensive-cuda.so of another version"};
  }
  // libtorch looks for its CUDA half once, at the first call that could need it, and remembers.
  if (!at::detail::getCUDAHooks().hasCUDART()) {
    return {nullptr,
            "a libtorch that was used before its CUDA library was there: load a model first"};
  }
  return {table, ""};
}

const Opened& opened() {
  static const Opened once = open();
  return once;
}

}  // namespace

void open_early() { opened(); }

bool can_free() {
  const Opened& library = opened();
  int cards = 0;
  return !library.table || library.table->device_count(&cards) == 0;
}

const CudaTable& table() {
  const Opened& library = opened();
  require(library.table, ErrorCode::unsupported, "a CUDA build", library.obstacle, "CUDA");
  return *library.table;
}

std::string obstacle(int index) {
  const Opened& library = opened();
  if (!library.table) return library.obstacle;
  const CudaTable& calls = *library.table;
  int cards = 0, major = 0, minor = 0;
  if (int error = calls.device_count(&cards)) return calls.describe(error);
  if (index < 0 || index >= cards) return fmt::format("{} cards", cards);
  if (int error = calls.capability(index, &major, &minor)) return calls.describe(error);
  if (calls.can_run(index) == 1) return {};
  return fmt::format("card capability {}.{}, built for {}", major, minor, calls.built_for);
}

std::pair<int, int> capability(int index) {
  int major = 0, minor = 0;
  check(table().capability(index, &major, &minor), "capability");
  return {major, minor};
}

void check(int error, const char* what) {
  constexpr int no_memory = 2;  // cudaErrorMemoryAllocation
  if (error == no_memory)
    fail(ErrorCode::out_of_memory, "memory on the card", table().describe(error), what);
  if (error != 0) fail(ErrorCode::device, "a CUDA call that works", table().describe(error), what);
}

std::int32_t narrow(int64_t size, const char* what) {
  require(size >= 0 && size <= INT32_MAX, ErrorCode::unsupported, "a size below 2^31",
          std::to_string(size), what);
  return static_cast<std::int32_t>(size);
}

void* stream_of(const at::Tensor& x) { return table().current_stream(x.device().index()); }

}  // namespace pensive::kernels::cuda
