// The weights of a step that stays, as they stream through a block: a few threads ask for all of
// them in the order of their use; warps take the pieces in turn.
#pragma once
#include "kernels/cuda/launch.h"
#include "kernels/cuda/persistent.h"
#include "kernels/cuda/stream.h"
#include "kernels/cuda/tile.h"

namespace pensive::kernels {

constexpr int step_warps = 8;   // that compute
constexpr int step_askers = 4;  // that ask for weights, a thread of each: one would be too slow
constexpr int step_threads = step_warps * 32;
constexpr int norm_packs = 4;  // of 8 values, a thread: a width of at most 8192

#if defined(__CUDACC__)

// Of the warps that compute.
__device__ inline void meet_in_block() {
  asm volatile("bar.sync 1, %0;" ::"n"(step_threads) : "memory");
}

// A block's pairs of a lot.
struct OwnPairs {
  int first, count;
  __device__ explicit OwnPairs(const Lot& lot) {
    std::int64_t pairs = lot.pairs;
    first = static_cast<int>(blockIdx.x * pairs / gridDim.x);
    count = static_cast<int>((blockIdx.x + 1) * pairs / gridDim.x) - first;
  }
};
__device__ inline int first_row(const Lot& lot, int pair) { return pair * lot.step; }
__device__ inline int second_row(const Lot& lot, int pair) {
  return min(pair * lot.step + lot.apart, lot.rows - 1);
}
__device__ inline int bytes_of(const Lot& lot, int piece) {
  return min(lot.piece_bytes, lot.row_bytes - piece * lot.piece_bytes);
}

// Where the slots are and whether they are full. A slot holds a piece of both rows of a pair.
struct Ring {
  unsigned char* slots;
  std::uint64_t *full, *empty;  // [slots]
  int count, slot_bytes;

  __device__ unsigned char* slot(int i) const { return slots + i * slot_bytes; }
  // One thread.
  __device__ void open() const {
    for (int i = 0; i < count; ++i) {
      make_gate(full + i, 1);
      make_gate(empty + i, 1);
    }
    show_gates();
  }
};

// Where a piece goes, of all pieces of the step in their order: to the next of the slots of the
// warp whose turn it is. Each warp has a ring for itself, so that none can be a round ahead of what
// it waits for.
struct Place {
  int slot;
  unsigned round;
  __device__ Place(unsigned piece, int slots) {
    const unsigned warp = piece % step_warps, turn = piece / step_warps;
    const unsigned own = slots / step_warps + (warp < slots % step_warps ? 1 : 0);
    slot = static_cast<int>(warp + step_warps * (turn % own));
    round = turn / own;
  }
};

// One of the threads that ask: for every so many'th piece, and for no more than `under_way` at a
// time. With more the memory would be no faster, and whoever else asks would wait behind them.
class Asker {
 public:
  __device__ Asker(const Ring& ring, int rank, int under_way)
      : ring_(ring), rank_(rank), under_way_(under_way), policy_(used_once()) {}

  __device__ void ask(const Lot& lot, const void* weight) {
    const OwnPairs own(lot);
    const int all = own.count * lot.pieces;
    const int behind = static_cast<int>(seen_ % step_askers);
    for (int i = (rank_ + step_askers - behind) % step_askers; i < all; i += step_askers) {
      const int whole = i / lot.pieces, piece = i - whole * lot.pieces, pair = own.first + whole;
      const char* from = static_cast<const char*>(weight) + piece * lot.piece_bytes;
      ask(seen_ + i, from + static_cast<std::int64_t>(first_row(lot, pair)) * lot.row_bytes,
          from + static_cast<std::int64_t>(second_row(lot, pair)) * lot.row_bytes,
          bytes_of(lot, piece));
    }
    seen_ += all;
  }

 private:
  __device__ void ask(unsigned piece, const void* first, const void* second, int bytes) {
    const Place place(piece, ring_.count);
    const unsigned back = static_cast<unsigned>(under_way_ * step_askers);
    if (piece >= back) {
      const Place before(piece - back, ring_.count);
      wait_at_gate(ring_.full + before.slot, before.round & 1);
    }
    if (place.round > 0) wait_at_gate(ring_.empty + place.slot, (place.round - 1) & 1);
    std::uint64_t* gate = ring_.full + place.slot;
    unsigned char* slot = ring_.slot(place.slot);
    expect_bytes(gate, 2 * bytes);
    stream_bytes(slot, first, bytes, gate, policy_);
    stream_bytes(slot + ring_.slot_bytes / 2, second, bytes, gate, policy_);
  }

  const Ring& ring_;
  int rank_, under_way_;
  std::uint64_t policy_;
  unsigned seen_ = 0;  // pieces before
};

template <class S>
__device__ void widen_pack(uint4 pack, float (&to)[8]) {
  S values[8];
  memcpy(values, &pack, 16);
#pragma unroll
  for (int e = 0; e < 8; ++e) to[e] = widen(values[e]);
}

// Every warp's way through the ring.
template <class S>
class Taker {
 public:
  __device__ explicit Taker(const Ring& ring) : ring_(ring) {}

  // parts [pairs * pieces, 2]: the sums of this block's pieces with x, in shared memory.
  __device__ void take(const Lot& lot, const OwnPairs& own, const S* x, float* parts) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int all = own.count * lot.pieces;
    const int behind = static_cast<int>(seen_ % step_warps);
    for (int i = (warp + step_warps - behind) % step_warps; i < all; i += step_warps) {
      const Place place(seen_ + i, ring_.count);
      const int piece = i % lot.pieces;
      wait_at_gate(ring_.full + place.slot, place.round & 1);
      float sums[2];
      multiply(ring_.slot(place.slot), x + piece * (lot.piece_bytes / static_cast<int>(sizeof(S))),
               bytes_of(lot, piece) / 16, sums);
      __syncwarp();
      if (lane == 0) arrive_at_gate(ring_.empty + place.slot);
#pragma unroll
      for (int r = 0; r < 2; ++r) sums[r] += __shfl_xor_sync(~0u, sums[r], 16);
      float sum = lane < 16 ? sums[0] : sums[1];
      for (int step = 8; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
      if (lane % 16 == 0) parts[2 * i + lane / 16] = sum;
    }
    seen_ += all;
  }

 private:
  // On tensor cores: a lane's 16 bytes of each row and of x at the same place are its share of
  // eight products of the two rows, of which every group of four lanes has its own in the diagonal.
  __device__ void multiply(const unsigned char* slot, const S* x, int packs, float (&sums)[2]) {
    const auto* a = reinterpret_cast<const uint4*>(slot);
    const auto* b = reinterpret_cast<const uint4*>(slot + ring_.slot_bytes / 2);
    const auto* c = reinterpret_cast<const uint4*>(x);
    const int lane = threadIdx.x % 32, group = lane / 4;
    const uint4 nothing{0, 0, 0, 0};
    float low[4] = {}, high[4] = {};
#pragma unroll 4
    for (int k = lane; k - lane < packs; k += 32) {
      const bool is_there = k < packs;
      const uint4 first = is_there ? a[k] : nothing, second = is_there ? b[k] : nothing;
      const uint4 here = is_there ? c[k] : nothing;
      join_tile<S>(low, first.x, second.x, first.y, second.y, here.x, here.y);
      join_tile<S>(high, first.z, second.z, first.w, second.w, here.z, here.w);
    }
    const bool is_own = lane % 4 == group / 2;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float even = low[2 * r] + high[2 * r], odd = low[2 * r + 1] + high[2 * r + 1];
      sums[r] = !is_own ? 0 : group % 2 ? odd : even;
    }
  }

  const Ring& ring_;
  unsigned seen_ = 0;  // pieces of this block before
};

#endif

}  // namespace pensive::kernels
