// A list that only grows, whose copies share what they have in common: a copy costs a pointer for
// each block, and the last block.
#pragma once
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace pensive {

template <class T>
class Blocks {
 public:
  void push_back(T value) {
    if (last_.size() == block) {
      full_.push_back(std::make_shared<const std::vector<T>>(std::move(last_)));
      last_ = {};
    }
    last_.push_back(std::move(value));
  }
  std::size_t size() const noexcept { return block * full_.size() + last_.size(); }
  const T& operator[](std::size_t at) const {
    return at / block < full_.size() ? (*full_[at / block])[at % block] : last_[at % block];
  }
  T& back() { return last_.back(); }  // never in a block that is shared

 private:
  static constexpr std::size_t block = 256;
  std::vector<std::shared_ptr<const std::vector<T>>> full_;  // of `block` values each
  std::vector<T> last_;
};

}  // namespace pensive
