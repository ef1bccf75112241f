// Which device, and how much of its memory is free.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

#include "base/inside.h"
#include "kernels/cpu.h"

namespace pensive::kernels {
namespace {

// The first whole number of a file; nothing when there is none ("max").
std::optional<std::int64_t> number_in(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::int64_t value = 0;
  if (!(file >> value) || value < 0) return std::nullopt;
  return value;
}

// The number after `name` in a file of lines "name number".
std::int64_t named_number(const std::filesystem::path& path, std::string_view name) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string word;
    std::int64_t value = 0;
    if (words >> word >> value && word == name) return value;
  }
  return 0;
}

// What a control group leaves. Its use counts file caches, which the kernel gives back.
void limit(Memory& memory, const std::filesystem::path& group, const char* most_name,
           const char* used_name, const char* cache_name) {
  auto most = number_in(group / most_name);
  auto used = number_in(group / used_name);
  if (!most || !used || *most >= memory.total_bytes) return;
  std::int64_t cache = named_number(group / "memory.stat", cache_name);
  memory.total_bytes = *most;
  memory.free_bytes = std::min(memory.free_bytes, std::max<std::int64_t>(0, *most - *used + cache));
}

// The groups this process is in, innermost first; inside a container its own is the root.
void limit_by_groups(Memory& memory) {
  std::ifstream file("/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {
    std::size_t second = line.find(':', line.find(':') + 1);
    if (second == std::string::npos) continue;
    bool is_second = line.starts_with("0::");
    if (!is_second && line.find(":memory:") == std::string::npos) continue;
    std::filesystem::path root = is_second ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    std::filesystem::path inner = std::filesystem::path(line.substr(second + 1)).relative_path();
    while (true) {
      if (is_second) {
        limit(memory, root / inner, "memory.max", "memory.current", "inactive_file");
      } else {
        limit(memory, root / inner, "memory.limit_in_bytes", "memory.usage_in_bytes",
              "total_inactive_file");
      }
      if (inner.empty()) break;
      inner = inner.parent_path();
    }
  }
}

Memory host_memory() {
  Memory memory;
  memory.total_bytes = named_number("/proc/meminfo", "MemTotal:") * 1024;
  memory.free_bytes = named_number("/proc/meminfo", "MemAvailable:") * 1024;
  require(memory.total_bytes > 0, ErrorCode::io, "MemTotal", "nothing", "/proc/meminfo");
  limit_by_groups(memory);
  return memory;
}

}  // namespace

Device resolve(const Device& device) {
  if (device.kind == DeviceKind::cpu) {
    require(device.index == 0, ErrorCode::invalid_argument, "index 0 for the CPU",
            std::to_string(device.index), "device");
    cuda::open_early();
    return device;
  }
  std::string obstacle = cuda::obstacle(device.index);
  if (obstacle.empty()) return {DeviceKind::cuda, device.index};
  if (device.kind == DeviceKind::automatic) return {DeviceKind::cpu, 0};
  fail(ErrorCode::unsupported, "a CUDA card that this build and this torch can use", obstacle,
       to_string(device));
}

std::string dtype_obstacle(int major, int minor, at::ScalarType dtype) {
  if (dtype != at::kBFloat16 || major >= 8) return {};
  return fmt::format("capability {}.{}, which has float32 and float16 only", major, minor);
}

void require_dtype(const Device& resolved, at::ScalarType dtype) {
  if (resolved.kind != DeviceKind::cuda) return;
  const auto [major, minor] = cuda::capability(resolved.index);
  const std::string obstacle = dtype_obstacle(major, minor, dtype);
  require(obstacle.empty(), ErrorCode::unsupported, "a card of capability 8.0 or more for bfloat16",
          fmt::format("{}; this build has code for {}", obstacle, cuda::table().built_for),
          to_string(resolved));
}

at::Device to_torch(const Device& resolved) {
  if (resolved.kind == DeviceKind::cuda) {
    return {at::kCUDA, static_cast<at::DeviceIndex>(resolved.index)};
  }
  return at::kCPU;
}

bool can_free(const at::Device& device) { return !device.is_cuda() || cuda::can_free(); }

Memory memory(const Device& resolved) {
  if (resolved.kind != DeviceKind::cuda) return host_memory();
  Memory memory;
  cuda::check(cuda::table().memory(resolved.index, &memory.free_bytes, &memory.total_bytes),
              "memory");
  return memory;
}

}  // namespace pensive::kernels
