// Bytes on their way to a device: through two buffers in pinned memory and a stream of their own,
// so that one piece is gathered while the one before still travels. Values of another type are
// rounded on the device.
#pragma once
#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <array>
#include <cstddef>
#include <optional>
#include <span>

namespace pensive::kernels {

// A CPU tensor's values on the device. On a card the host goes on at once, whatever the card still
// has to do before, and `values` may change.
at::Tensor send(const at::Tensor& values, at::Device device);

// One thread at a time. For a CPU the same without stream and pinned memory: what tests compare.
class Upload {
 public:
  explicit Upload(at::Device device, std::int64_t piece_bytes = std::int64_t{16} << 20);

  // The values of `from`, at any alignment, of type `stored`, to the contiguous `to` on the device.
  // They are there for every stream after finish(); `from` may go when the call returns.
  void send(std::span<const std::byte> from, at::ScalarType stored, const at::Tensor& to);
  void finish();

 private:
  struct Slot {
    at::Tensor bytes;                  // [piece_bytes], pinned
    std::optional<c10::Event> leaves;  // when its content has gone
  };
  void send_piece(std::span<const std::byte> from, at::ScalarType stored, const at::Tensor& to);

  at::Device device_;
  std::int64_t piece_bytes_;
  std::optional<c10::Stream> stream_;  // none for a CPU
  std::array<Slot, 2> slots_;
  std::size_t next_ = 0;
  at::Tensor raw_;  // [piece_bytes] on the device: a piece before it is rounded
};

}  // namespace pensive::kernels
