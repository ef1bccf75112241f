// Blocks of bytes that travel to a card and back: one copy each way.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "kernels/cuda.h"
#include "kernels/kernels.h"

namespace pensive::kernels::cuda {

// Arrays one behind the other in one block of bytes, each on a multiple of 8.
class Parcel {
 public:
  // -> where in the block it stands.
  template <class T>
  std::size_t add(const std::vector<T>& values) {
    const std::size_t at = add_room<T>(values.size());
    if (!values.empty()) std::memcpy(bytes_.data() + at, values.data(), values.size() * sizeof(T));
    return at;
  }
  template <class T>
  std::size_t add_room(std::size_t count) {
    const std::size_t at = bytes_.size();
    bytes_.resize(at + (count * sizeof(T) + 7) / 8 * 8);
    return at;
  }
  template <class T>
  void put(std::size_t at, const T& value) {
    std::memcpy(bytes_.data() + at, &value, sizeof(T));
  }
  std::byte* data() noexcept { return bytes_.data(); }
  std::size_t size() const noexcept { return bytes_.size(); }
  void clear() noexcept { bytes_.clear(); }

 private:
  std::vector<std::byte> bytes_;
};

// The wishes of a draw, column by column at the end of one parcel, and room for what it gives at
// the end of another.
class DrawParcel {
 public:
  DrawParcel(const std::vector<DrawRow>& rows, std::size_t vocab, Parcel& sent, Parcel& back);
  // For the kernel, where the parcels stand on the card; without logits and scratch.
  CudaDraw call(std::byte* sent, std::byte* back) const;
  // From the second parcel, once it is back.
  std::vector<Drawn> unpack(const std::byte* back) const;

 private:
  struct Columns {
    Columns(const std::vector<DrawRow>& rows, std::size_t vocab);
    std::vector<float> temperatures, top_ps, min_zs, bias_logits, bias_times, bias_repetitions,
        bias_penalties;
    std::vector<std::int32_t> top_ks, bias_starts{0}, bias_tokens, mask_rows, watch_starts{0},
        watched, list_starts{0};
    std::vector<std::uint64_t> keys;
    std::vector<std::uint32_t> masks;
  };

  Columns columns_;
  std::size_t rows_, vocab_;
  std::array<std::size_t, 16> in_{};
  std::array<std::size_t, 7> out_{};
};

}  // namespace pensive::kernels::cuda
