#include "kernels/upload.h"

#include <ATen/Parallel.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <cstring>

namespace pensive::kernels {
namespace {

constexpr std::int64_t worth_a_thread = std::int64_t{1} << 20;

void gather(std::span<const std::byte> from, std::byte* to) {
  at::parallel_for(0, std::ssize(from), worth_a_thread, [&](std::int64_t first, std::int64_t last) {
    std::memcpy(to + first, from.data() + first, static_cast<std::size_t>(last - first));
  });
}

}  // namespace

at::Tensor send(const at::Tensor& values, at::Device device) {
  if (!device.is_cuda() || !values.is_cpu()) return values.to(device);
  return values.pin_memory().to(device, /*non_blocking=*/true);
}

Upload::Upload(at::Device device, std::int64_t piece_bytes)
    : device_(device), piece_bytes_(std::max<std::int64_t>(8, piece_bytes / 8 * 8)) {
  const auto bytes = at::dtype(at::kByte);
  if (device.is_cuda()) {
    const c10::impl::VirtualGuardImpl guard(device.type());
    stream_ = guard.getStreamFromGlobalPool(device);
  }
  for (Slot& slot : slots_)
    slot.bytes = at::empty({piece_bytes_}, bytes.pinned_memory(stream_.has_value()));
}

void Upload::send(std::span<const std::byte> from, at::ScalarType stored, const at::Tensor& to) {
  if (from.empty()) return;
  if (stream_) {
    // What stood where `to` stands may still be read by work that was launched before.
    const c10::impl::VirtualGuardImpl guard(device_.type());
    c10::Event ready(device_.type());
    ready.record(guard.getStream(device_));
    ready.block(*stream_);
    to.record_stream(*stream_);
  }
  const auto size = static_cast<std::int64_t>(c10::elementSize(stored));
  const at::Tensor flat = to.view(-1);
  const std::int64_t each = piece_bytes_ / size;
  for (std::int64_t first = 0; first < flat.numel(); first += each) {
    const std::int64_t count = std::min(each, flat.numel() - first);
    send_piece(from.subspan(static_cast<std::size_t>(first * size),
                            static_cast<std::size_t>(count * size)),
               stored, flat.narrow(0, first, count));
  }
}

void Upload::send_piece(std::span<const std::byte> from, at::ScalarType stored,
                        const at::Tensor& to) {
  Slot& slot = slots_[next_];
  next_ = (next_ + 1) % slots_.size();
  if (slot.leaves) slot.leaves->synchronize();
  gather(from, static_cast<std::byte*>(slot.bytes.mutable_data_ptr()));
  const at::Tensor here = slot.bytes.narrow(0, 0, std::ssize(from)).view(stored);
  const c10::OptionalStreamGuard guard(stream_);
  if (stored == to.scalar_type()) {
    to.copy_(here, /*non_blocking=*/true);
  } else {
    // On the stream of the copies, so that pieces take turns in it.
    if (!raw_.defined()) raw_ = at::empty({piece_bytes_}, at::dtype(at::kByte).device(device_));
    const at::Tensor there = raw_.narrow(0, 0, std::ssize(from)).view(stored);
    there.copy_(here, /*non_blocking=*/true);
    to.copy_(there);
  }
  if (!stream_) return;
  slot.leaves.emplace(device_.type());
  slot.leaves->record(*stream_);
}

void Upload::finish() {
  for (Slot& slot : slots_)
    if (slot.leaves) slot.leaves->synchronize();
}

}  // namespace pensive::kernels
