// How a step that stays shares out its weights, and what stands in a block's shared memory.
#include <algorithm>

#include "kernels/cuda/persistent_attention.h"

namespace pensive::kernels {
namespace {

constexpr int pass_bytes = 512;  // of a row, that a warp takes at a time
// How far all threads that ask read ahead, and at which pace, as seen to be fastest on a card of
// 132 cores (docs/one_row.md): a little slower than the memory could, so that blocks do not wait
// long for one another; and not so far that the second cache (50 MB) would lose what is not used
// yet.
constexpr std::int64_t ahead_bytes = std::int64_t{28} << 20;
constexpr int clocks_a_kilobyte = 357;  // of a thread's pieces

Lot lot_of(std::int64_t rows, std::int64_t in, bool is_gated, int longest) {
  Lot lot{};
  lot.rows = static_cast<std::int32_t>(is_gated ? 2 * rows : rows);
  lot.pairs = static_cast<std::int32_t>(is_gated ? rows : (rows + 1) / 2);
  lot.step = is_gated ? 1 : 2;
  lot.apart = static_cast<std::int32_t>(is_gated ? rows : 1);
  lot.row_bytes = static_cast<std::int32_t>(in * 2);
  const int least = (lot.row_bytes + longest - 1) / longest;
  lot.piece_bytes = (lot.row_bytes + least - 1) / least;
  lot.piece_bytes = std::min((lot.piece_bytes + pass_bytes - 1) / pass_bytes * pass_bytes, longest);
  lot.pieces = (lot.row_bytes + lot.piece_bytes - 1) / lot.piece_bytes;
  return lot;
}

// Lots and ring for pieces of at most so many bytes. Gives the bytes of a layer that the ring
// holds; 0 where there is no room.
std::int64_t plan_ring(const CudaModel& model, std::int64_t most_shared, int longest,
                       PersistentStep& step) {
  const std::int64_t own_width = std::int64_t{model.heads} * model.head_dim;
  const std::int64_t qkv_width = own_width + std::int64_t{2} * model.kv_heads * model.head_dim;
  const Lot lots[lot_kinds] = {lot_of(qkv_width, model.width, false, longest),
                               lot_of(model.width, own_width, false, longest),
                               lot_of(model.inner, model.width, true, longest),
                               lot_of(model.width, model.inner, false, longest),
                               lot_of(model.vocab, model.width, false, longest)};
  std::int64_t bytes = 0, pieces = 0;
  int piece = 0;
  step.parts = 0;
  for (int i = 0; i < lot_kinds; ++i) {
    const Lot& lot = step.lots[i] = lots[i];
    const int pairs = (lot.pairs + step.blocks - 1) / step.blocks;
    step.parts = std::max(step.parts, (2 * pairs * lot.pieces + 31) / 32 * 32);
    piece = std::max(piece, (lot.piece_bytes + 127) / 128 * 128);
    if (i == static_cast<int>(LotKind::head)) break;
    bytes += std::int64_t{2} * lot.pairs * lot.row_bytes;
    pieces += std::int64_t{lot.pairs} * lot.pieces;
  }
  step.slot_bytes = 2 * piece;
  const std::int64_t attention = (std::int64_t{model.width} * 2 + 127) / 128 * 128 +
                                 (walk_heads + 2) * 128 * 2 + walk_warps * walk_heads * 8 +
                                 walk_warps * step.attention.stages * stage_bytes(model.head_dim);
  const std::int64_t widest = 2 * std::max<std::int64_t>(model.inner, own_width);
  step.near_bytes = static_cast<std::int32_t>((std::max(attention, widest) + 127) / 128 * 128);
  const int own_pairs =
      (step.lots[static_cast<int>(LotKind::output)].pairs + step.blocks - 1) / step.blocks;
  const std::int64_t rest = step.near_bytes + 4 * std::int64_t{step.parts} + 128 +
                            2 * sizeof(CudaLayer) + 2 * sizeof(DecodeAttention) + stretch_bytes +
                            pairs_bytes + 4 * std::int64_t{model.head_dim} + 8 * own_pairs;
  constexpr int gate_bytes = 16, most_slots = 64;
  const std::int64_t room = (most_shared - rest) / (step.slot_bytes + gate_bytes);
  step.slots = static_cast<std::int32_t>(std::min<std::int64_t>(room, most_slots));
  step.most_ahead = static_cast<std::int32_t>(
      ahead_bytes / (std::int64_t{step.blocks} * step_askers * step.slot_bytes));
  step.pace = clocks_a_kilobyte * step.slot_bytes / 1024;
  step.shared_bytes = rest + std::int64_t{step.slots} * (step.slot_bytes + gate_bytes);
  return step.slots >= step_warps ? step.slots * bytes / pieces : 0;
}

}  // namespace

Packets packets_at(const CudaModel& model, void* base, std::int64_t* bytes) {
  const std::int64_t dim = model.head_dim, own = model.heads * dim;
  DecodeAttention call{};
  call.heads = model.heads;
  call.kv_heads = model.kv_heads;
  const std::int64_t stretches =
      std::int64_t{model.heads} * std::max(1, most_cores / (model.kv_heads * head_parts(call)));
  *bytes = 0;
  const auto take = [&](std::int64_t count) -> void* {
    void* at = static_cast<char*>(base) + *bytes;
    *bytes += (count + 255) / 256 * 256;
    return at;
  };
  Packets packets{};
  packets.counters = static_cast<std::uint32_t*>(take(3 * 4));
  for (std::uint64_t*& row : packets.rows)
    row = static_cast<std::uint64_t*>(take(8 * std::int64_t{model.width}));
  packets.qkv = static_cast<std::uint32_t*>(take(4 * (own + 2 * model.kv_heads * dim)));
  packets.mixed = static_cast<std::uint32_t*>(take(4 * own));
  packets.gated = static_cast<std::uint32_t*>(take(4 * std::int64_t{model.inner}));
  packets.marks = static_cast<std::uint64_t*>(take(16 * stretches));
  packets.partials = static_cast<std::uint64_t*>(take(8 * stretches * dim));
  return packets;
}

bool plan_persistent(const CudaModel& model, int capability, int cores, std::int64_t most_shared,
                     PersistentStep& step) {
  const bool is_brief = model.scalar == Scalar::bfloat16 || model.scalar == Scalar::float16;
  if (capability != 90 || !is_brief) return false;
  if (model.width > norm_packs * step_threads * 8 || model.head_dim > 128 ||
      model.head_dim % 8 != 0 || std::int64_t{model.heads} * model.head_dim % 8 != 0)
    return false;
  step.blocks = std::min(cores, most_cores);
  step.attention.heads = model.heads;
  step.attention.kv_heads = model.kv_heads;
  step.attention.head_dim = model.head_dim;
  constexpr int most_rows = 1 << 24;  // so that 32 bits are enough to share them out
  if (model.vocab > most_rows || model.inner > most_rows) return false;
  const int owners = model.kv_heads * head_parts(step.attention);
  if (owners > step.blocks) return false;
  step.attention.splits = step.blocks / owners;
  step.attention.team = 1;
  step.attention.stages = 1;
  step.layer_count = model.layers;
  step.width = model.width;
  step.inner = model.inner;
  step.epsilon = static_cast<float>(model.epsilon);
  step.final_norm = model.final_norm;
  step.head = model.head;
  std::int64_t most = 0;
  int best = 0;
  for (int longest = 4 * pass_bytes; longest <= 8 * pass_bytes; longest += pass_bytes) {
    const std::int64_t held = plan_ring(model, most_shared, longest, step);
    if (held > most) best = longest;
    most = std::max(most, held);
  }
  return most > 0 && plan_ring(model, most_shared, best, step) > 0;
}

}  // namespace pensive::kernels
