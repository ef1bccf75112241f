// What a run ran on, as driver, system and libtorch name it.
#include <dlfcn.h>
#include <fmt/core.h>

#include <fstream>

#include "run_folder.h"

namespace pensive::shell {
namespace {

template <class Function>
Function* function_of(void* library, const char* name) {
  return reinterpret_cast<Function*>(dlsym(library, name));
}

// The driver counts cards as the CUDA runtime does. It is asked only after a model was loaded
// there.
std::string card_name(int index) {
  char name[256] = "";
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver == nullptr) return name;
  const auto start = function_of<int(unsigned)>(driver, "cuInit");
  const auto find = function_of<int(int*, int)>(driver, "cuDeviceGet");
  const auto tell = function_of<int(char*, int, int)>(driver, "cuDeviceGetName");
  int card = 0;
  if (!start || !find || !tell || start(0) != 0 || find(&card, index) != 0 ||
      tell(name, sizeof name - 1, card) != 0)
    name[0] = '\0';
  dlclose(driver);
  return name;
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("model name")) continue;
    const std::size_t colon = line.find(": ");
    if (colon != line.npos) return line.substr(colon + 2);
  }
  return "";  // which not every kernel tells
}

}  // namespace

std::string machine_text(const Device& device) {
  const std::string name =
      device.kind == DeviceKind::cuda ? card_name(device.index) : processor_name();
  return to_string(device) + (name.empty() ? "" : ", " + name);
}

std::string torch_text() {
  const auto version = function_of<std::uint64_t()>(RTLD_DEFAULT, "aoti_torch_abi_version");
  if (!version) return "unknown";
  const std::uint64_t packed = version();  // a byte each, from the highest
  return fmt::format("{}.{}.{}", packed >> 56, packed >> 48 & 0xff, packed >> 40 & 0xff);
}

}  // namespace pensive::shell
