// The weights of a step that stays, as they stream through a block: a few threads ask for all of
// them in the order of their use; warps take the pieces in turn.
#pragma once
#include "kernels/cuda/launch.h"
#include "kernels/cuda/persistent.h"
#include "kernels/cuda/stream.h"
#include "kernels/cuda/tile.h"

namespace pensive::kernels {

constexpr int step_warps = 8;   // that compute
constexpr int step_askers = 4;  // that ask for weights, a thread of each: fewer would be too slow
constexpr int step_threads = step_warps * 32;
// Of a thread, where the kernel begins with 168 for each.
constexpr int taker_registers = 216, asker_registers = 72;
static_assert(step_threads * taker_registers + step_askers * 32 * asker_registers <= 65536);
constexpr int norm_packs = 4;  // of 8 values, a thread: a width of at most 8192

#if defined(__CUDACC__)

// Of the warps that compute.
__device__ inline void meet_in_block() {
  asm volatile("bar.sync 1, %0;" ::"n"(step_threads) : "memory");
}

// A block's pairs of a lot. No product of pairs and blocks has more than 32 bits (as planned).
struct OwnPairs {
  int first, count;
};
__device__ inline OwnPairs own_pairs(const Lot& lot) {
  const auto pairs = static_cast<unsigned>(lot.pairs);
  const auto first = static_cast<int>(blockIdx.x * pairs / gridDim.x);
  return {first, static_cast<int>((blockIdx.x + 1) * pairs / gridDim.x) - first};
}
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

// The slots of one warp, in turn, over all pieces that it takes: each warp has a ring for itself,
// so that none can be a round ahead of what it waits for.
struct Turn {
  int warp = 0, own = 1, at = 0;
  unsigned round = 0;
  __device__ void begin(int of_warp, int slots) {
    warp = of_warp;
    own = slots / step_warps + (warp < slots % step_warps ? 1 : 0);
  }
  __device__ int slot() const { return warp + step_warps * at; }
  __device__ void next() {
    if (++at < own) return;
    at = 0;
    ++round;
  }
  __device__ Turn before() const {
    Turn turn = *this;
    if (turn.at-- > 0) return turn;
    turn.at = own - 1;
    --turn.round;
    return turn;
  }
};

// Where a thread that asks stands in the order of all pieces of the step, of which it has every so
// many'th.
class Cursor {
 public:
  // own: the block's pairs of each lot.
  __device__ Cursor(const PersistentStep& step, const OwnPairs* own, int rank)
      : step_(step), own_(own), last_(step.layer_count * lots_of_layer) {
    open(0);
    piece_ = rank;
    settle();
  }
  __device__ bool is_over() const { return turn_ > last_; }
  __device__ void next() {
    piece_ += step_askers;
    settle();
  }
  // Of the first and second row.
  __device__ const char* first() const { return row(pair_ * lot_.step); }
  __device__ const char* second() const { return row(second_row(lot_, pair_)); }
  __device__ int bytes() const { return bytes_of(lot_, piece_); }

 private:
  static constexpr int lots_of_layer = static_cast<int>(LotKind::head);

  __device__ void open(int turn) {
    turn_ = turn;
    if (is_over()) return;
    const int kind = turn == last_ ? lots_of_layer : turn % lots_of_layer;
    weight_ = static_cast<const char*>(
        turn == last_ ? step_.head
                      : weight_of(step_.layers[turn / lots_of_layer], static_cast<LotKind>(kind)));
    lot_ = step_.lots[kind];
    pair_ = own_[kind].first;
    end_ = pair_ + own_[kind].count;
  }
  __device__ static const void* weight_of(const CudaLayer& layer, LotKind kind) {
    if (kind == LotKind::qkv) return layer.qkv;
    if (kind == LotKind::output) return layer.output;
    return kind == LotKind::gate_up ? layer.gate_up : layer.down;
  }
  // piece_ may be beyond its pair, and the pair beyond its lot.
  __device__ void settle() {
    while (!is_over()) {
      for (; piece_ >= lot_.pieces; piece_ -= lot_.pieces) ++pair_;
      if (pair_ < end_) return;
      piece_ += (pair_ - end_) * lot_.pieces;
      open(turn_ + 1);
    }
  }
  __device__ const char* row(int i) const {
    return weight_ + static_cast<std::int64_t>(i) * lot_.row_bytes + piece_ * lot_.piece_bytes;
  }

  const PersistentStep& step_;
  const OwnPairs* own_;
  int last_, turn_, pair_ = 0, end_ = 0, piece_ = 0;
  Lot lot_{};
  const char* weight_ = nullptr;
};

// One of the threads that ask: for every so many'th piece, and for few at a time. With more the
// memory would be no faster, and whoever else asks would wait behind them. While the ring is full
// it goes on, at the memory's pace, with bringing pieces into the second cache, from where they
// come fast when there is room again: so memory need not wait where blocks wait for one another
// longer than a ring lasts.
class Asker {
 public:
  __device__ Asker(const PersistentStep& step, const Ring& ring, const OwnPairs* own, int rank)
      : step_(step), ring_(ring), at_(step, own, rank), ahead_(at_), policy_(used_once()) {
#pragma unroll
    for (int i = 0; i < served; ++i) turns_[i].begin(rank + step_askers * i, ring.count);
  }

  __device__ void run() {
    for (int asked = 0; !at_.is_over(); ++asked) {
      // What was read ahead comes from near, and takes nothing from the memory.
      if (far_ > 0) {
        if (asked >= served) await(turns_[0].before());
      } else {
        if (asked >= served / 2) await(turns_[served - served / 2].before());
      }
      const int slot = turns_[0].slot();
      if (turns_[0].round > 0)
        while (!is_past_gate(ring_.empty + slot, (turns_[0].round - 1) & 1)) read_ahead();
      ask(slot);
      if (far_ > 0) read_ahead();
      at_.next();
      if (far_ > 0) {
        --far_;
      } else {
        ahead_.next();
      }
      Turn now = turns_[0];
      now.next();
#pragma unroll
      for (int i = 0; i + 1 < served; ++i) turns_[i] = turns_[i + 1];
      turns_[served - 1] = now;
    }
  }

 private:
  static constexpr int served = step_warps / step_askers;  // warps, in turn

  __device__ void await(Turn turn) const { wait_at_gate(ring_.full + turn.slot(), turn.round & 1); }
  __device__ void ask(int slot) {
    std::uint64_t* gate = ring_.full + slot;
    unsigned char* to = ring_.slot(slot);
    const int bytes = at_.bytes();
    expect_bytes(gate, 2 * bytes);
    stream_bytes(to, at_.first(), bytes, gate, policy_);
    stream_bytes(to + ring_.slot_bytes / 2, at_.second(), bytes, gate, policy_);
  }

  __device__ void read_ahead() {
    if (far_ >= step_.most_ahead || ahead_.is_over()) return;
    const auto now = static_cast<unsigned>(clock());
    if (now - since_ < static_cast<unsigned>(step_.pace)) return;
    since_ = now;
    bring_closer(ahead_.first(), ahead_.bytes());
    bring_closer(ahead_.second(), ahead_.bytes());
    ahead_.next();
    ++far_;
  }

  const PersistentStep& step_;
  const Ring& ring_;
  Cursor at_, ahead_;   // ahead_ is far_ pieces further
  Turn turns_[served];  // of the next piece's warp, and of those after it
  std::uint64_t policy_;
  int far_ = 0;
  unsigned since_ = 0;  // clocks at the last piece that was read ahead
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
  __device__ explicit Taker(const Ring& ring) : ring_(ring) {
    turn_.begin(static_cast<int>(threadIdx.x / 32), ring.count);
  }

  // parts [pairs * pieces, 2]: the sums of this block's pieces with x, in shared memory.
  __device__ void take(const Lot& lot, int pairs, const S* x, float* parts) {
    const int lane = threadIdx.x % 32, all = pairs * lot.pieces;
    int i = next_, piece = next_;
    for (; i < all; i += step_warps) {
      while (piece >= lot.pieces) piece -= lot.pieces;
      const int slot = turn_.slot();
      wait_at_gate(ring_.full + slot, turn_.round & 1);
      float sums[2];
      multiply(ring_.slot(slot), x + piece * (lot.piece_bytes / static_cast<int>(sizeof(S))),
               bytes_of(lot, piece) / 16, sums);
      __syncwarp();
      if (lane == 0) arrive_at_gate(ring_.empty + slot);
#pragma unroll
      for (int r = 0; r < 2; ++r) sums[r] += __shfl_xor_sync(~0u, sums[r], 16);
      float sum = lane < 16 ? sums[0] : sums[1];
#pragma unroll
      for (int step = 8; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
      if (lane % 16 == 0) parts[2 * i + lane / 16] = sum;
      turn_.next();
      piece += step_warps;
    }
    next_ = i - all;
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
    constexpr int at_once = 4;
    float low[2][4] = {}, high[2][4] = {};
    for (int k = lane; k - lane < packs; k += at_once * 32) {
      uint4 first[at_once], second[at_once], here[at_once];
#pragma unroll
      for (int u = 0; u < at_once; ++u) {
        const bool is_there = k + 32 * u < packs;
        first[u] = is_there ? a[k + 32 * u] : nothing;
        second[u] = is_there ? b[k + 32 * u] : nothing;
        here[u] = is_there ? c[k + 32 * u] : nothing;
      }
#pragma unroll
      for (int u = 0; u < at_once; ++u) {
        if (k - lane + 32 * u >= packs) break;
        join_tile<S>(low[u % 2], first[u].x, second[u].x, first[u].y, second[u].y, here[u].x,
                     here[u].y);
        join_tile<S>(high[u % 2], first[u].z, second[u].z, first[u].w, second[u].w, here[u].z,
                     here[u].w);
      }
    }
    const bool is_own = lane % 4 == group / 2;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const float even = (low[0][2 * r] + low[1][2 * r]) + (high[0][2 * r] + high[1][2 * r]);
      const float odd =
          (low[0][2 * r + 1] + low[1][2 * r + 1]) + (high[0][2 * r + 1] + high[1][2 * r + 1]);
      sums[r] = !is_own ? 0 : group % 2 ? odd : even;
    }
  }

  const Ring& ring_;
  Turn turn_;
  int next_ = static_cast<int>(threadIdx.x / 32);  // of the next lot's pieces, this warp's first
};

#endif

}  // namespace pensive::kernels
