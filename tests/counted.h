// What libtorch holds on the CPU, counted: what tests of planned memory measure by.
#pragma once
#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <unordered_map>

namespace pensive::testing {

// Stands before libtorch's CPU allocator: counts what is held, and refuses one request when told.
class Counted final : public c10::Allocator {
 public:
  // Never freed: tensors may outlive the scope that counts.
  static Counted& one() {
    static auto* const counted = new Counted;
    return *counted;
  }

  c10::DataPtr allocate(std::size_t bytes) override {
    const std::lock_guard lock(mutex_);
    if (refuses_in > 0 && --refuses_in == 0)
      TORCH_CHECK(false, "Counted: can't allocate memory: refused by the test");
    void* const at = c10::GetDefaultCPUAllocator()->allocate(bytes).release_context();
    sizes_[at] = static_cast<std::int64_t>(bytes);
    now += static_cast<std::int64_t>(bytes);
    most = std::max(most, now);
    return {at, at, &release, at::kCPU};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }

  std::int64_t now = 0, most = 0, refuses_in = 0;

 private:
  static void release(void* at) {
    Counted& counted = one();
    const std::lock_guard lock(counted.mutex_);
    if (const auto found = counted.sizes_.find(at); found != counted.sizes_.end()) {
      counted.now -= found->second;
      counted.sizes_.erase(found);
    }
    c10::GetDefaultCPUAllocator()->raw_deleter()(at);
  }

  std::mutex mutex_;
  std::unordered_map<void*, std::int64_t> sizes_;
};

// In place for a scope.
class Counting {
 public:
  Counting() { c10::SetCPUAllocator(&Counted::one(), 1); }
  ~Counting() { c10::SetCPUAllocator(c10::GetDefaultCPUAllocator(), 1); }
  Counting(const Counting&) = delete;
  Counting& operator=(const Counting&) = delete;
};

// What `work` held at most, beyond what was held before.
template <class Work>
std::int64_t peak_of(Work work) {
  Counted& counted = Counted::one();
  const std::int64_t before = counted.now;
  counted.most = before;
  work();
  return counted.most - before;
}

}  // namespace pensive::testing
