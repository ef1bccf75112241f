#include <fstream>
#include <string>

#include "base/inside.h"
#include "kernels/kernels.h"

namespace pensive::kernels {

Device resolve(const Device& device) {
  if (device.kind == DeviceKind::cuda) {
    fail(ErrorCode::unsupported, "a CUDA build", "none", "device");
  }
  return {DeviceKind::cpu, 0};
}

Memory memory(const Device&) {
  std::ifstream info("/proc/meminfo");
  Memory memory;
  std::string name;
  std::int64_t kilobytes = 0;
  std::string unit;
  while (info >> name >> kilobytes) {
    std::getline(info, unit);
    if (name == "MemTotal:") memory.total_bytes = kilobytes * 1024;
    if (name == "MemAvailable:") memory.free_bytes = kilobytes * 1024;
  }
  return memory;
}

}  // namespace pensive::kernels
