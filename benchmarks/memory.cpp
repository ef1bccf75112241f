// How fast weights come from their file, and whether what was planned is what is taken.
#include <c10/core/CachingDeviceAllocator.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <unistd.h>

#include <chrono>

#include "bench.h"
#include "kernels/kernels.h"
#include "model/checkpoint.h"

namespace pensive::bench {
namespace {

using Clock = std::chrono::steady_clock;
namespace fs = std::filesystem;

// Asks the system to forget what it keeps of a folder's weights.
void forget(const fs::path& folder) {
  for (const auto& file : fs::directory_iterator(folder)) {
    if (file.path().extension() != ".safetensors") continue;
    const int descriptor = ::open(file.path().c_str(), O_RDONLY);
    ::fsync(descriptor);
    ::posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
    ::close(descriptor);
  }
}

double load_rate(const Options& options, const Device& device, Copies copies) {
  const Config config = read_config(options.model, UnknownKeys::refuse, {});
  const Precision precision = settle(options.precision, config);
  std::uintmax_t bytes = 0;
  for (const auto& file : fs::directory_iterator(options.model))
    if (file.path().extension() == ".safetensors") bytes += file.file_size();
  const auto start = Clock::now();
  const Weights weights = read_weights(options.model, config, precision, device, copies);
  weights.final_norm.cpu();  // waits for the device
  return static_cast<double>(bytes) / std::chrono::duration<double>(Clock::now() - start).count();
}

// Of a card: what libtorch keeps for its next tensors is not free here.
std::int64_t free_bytes(const Device& device) {
  const auto stats = c10::getDeviceAllocator(at::kCUDA)->getDeviceStats(
      static_cast<c10::DeviceIndex>(device.index));
  return kernels::memory(device).free_bytes -
         (stats.reserved_bytes[0].current - stats.allocated_bytes[0].current);
}

void measure_load(const Options& options, const Device& device, const Lines& lines) {
  load_rate(options, device, Copies::overlapped);  // awakes the card
  load_rate(options, device, Copies::plain);
  for (const bool is_cold : {false, true}) {
    std::vector<double> rates[2];
    for (int repeat = 0; repeat < options.repetitions; ++repeat)
      for (const Copies copies : {Copies::plain, Copies::overlapped}) {
        if (is_cold) forget(options.model);
        rates[copies == Copies::overlapped].push_back(load_rate(options, device, copies));
      }
    for (const bool overlaps : {false, true}) {
      const Spread rate = spread_of(rates[overlaps]);
      lines.print(fmt::format(
          R"({{"case":"load","shape":"{}, {} page cache, {}","unit":"GB/s","median":{:.3g},"low":{:.3g},"high":{:.3g},"n":{},"device":"{}"}})",
          fs::path(options.model).filename().string(), is_cold ? "cold" : "warm",
          overlaps ? "overlapped" : "plain", rate.median / 1e9, rate.low / 1e9, rate.high / 1e9,
          options.repetitions, to_string(device)));
    }
  }
}

void measure_memory(const Options& options, const Device& device, const Lines& lines) {
  const ModelOptions how{.device = device, .precision = options.precision};
  EngineOptions wanted;
  wanted.max_live_sequences = 64;
  wanted.cache_tokens = 64 * 1024;
  const MemoryPlan plan = plan_memory(options.model, how, wanted);
  at::empty({1}, at::dtype(at::kByte).device(kernels::to_torch(device)));  // awakes the allocator
  c10::getDeviceAllocator(at::kCUDA)->emptyCache();
  std::int64_t free = free_bytes(device);
  std::int64_t planned = 0, taken = 0;
  const auto tell = [&](std::string_view part, std::int64_t of_plan) {
    const std::int64_t now = free_bytes(device);
    const std::int64_t of_device = free - now;
    free = now;
    planned += of_plan;
    taken += of_device;
    lines.print(fmt::format(
        R"({{"case":"memory","shape":"{}: {}","planned_MB":{:.1f},"taken_MB":{:.1f},"device":"{}"}})",
        fs::path(options.model).filename().string(), part, static_cast<double>(of_plan) / 1e6,
        static_cast<double>(of_device) / 1e6, to_string(device)));
  };
  const auto model = Model::load(options.model, how);
  tell("weights", plan.weight_bytes);
  Engine engine(model, wanted);
  tell("cache", plan.cache_bytes);
  for (int round = 0; round < 3; ++round) {  // graphs are captured the second time
    std::vector<Sequence> sequences;
    for (int i = 0; i < wanted.max_live_sequences; ++i) {
      Request request;
      for (int at = 0; at < 500; ++at) request.prompt.push_back(100 + (at * 7 + i) % 800);
      request.max_new_tokens = 8;
      request.ignore_end_tokens = true;
      sequences.push_back(engine.start(request));
    }
    engine.finish(sequences);
  }
  tell("steps and libraries", plan.prompt_step_bytes + plan.decode_step_bytes + plan.runtime_bytes);
  lines.print(fmt::format(
      R"({{"case":"memory","shape":"{}: together","planned_MB":{:.1f},"taken_MB":{:.1f},"device":"{}"}})",
      fs::path(options.model).filename().string(), static_cast<double>(planned) / 1e6,
      static_cast<double>(taken) / 1e6, to_string(device)));
}

}  // namespace

void memory(const Options& options) {
  const Device device = kernels::resolve(Device::parse(options.device));
  const Lines lines(options.out, fs::path(options.model).filename().string() + "-memory", device);
  measure_load(options, device, lines);
  if (device.kind == DeviceKind::cuda) measure_memory(options, device, lines);
}

}  // namespace pensive::bench
