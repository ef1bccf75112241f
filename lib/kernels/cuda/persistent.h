// A decode step of one row as one kernel that stays: see persistent.cu.
#pragma once
#include "kernels/cuda/decode.h"

namespace pensive::kernels {

constexpr int most_cores = 160;  // of a card, as far as there is room for their partial sums

// How the rows of one kind of weight are shared out: in pairs, an even stretch of them to each
// block, and each pair in pieces that are as long as a slot of the ring holds.
struct Lot {
  std::int32_t pairs, step, apart;  // pair p: rows p * step and p * step + apart
  std::int32_t rows, row_bytes;     // a second row that is not there is the last
  std::int32_t pieces, piece_bytes;
};

enum class LotKind : std::int32_t { qkv, output, gate_up, down, head };
constexpr int lot_kinds = 5;

// Where blocks tell one another what they have (stream.h). Zero at first, and nothing else is ever
// written there.
struct Packets {
  // [3]: arrivals at meetings ever, and before this launch; layers before it, which number turns.
  std::uint32_t* counters;
  std::uint64_t* rows[2];  // [width]: what layers add up, after attention and at the end
  std::uint32_t *qkv, *mixed,
      *gated;  // [(heads + 2 kv_heads) * head_dim], [heads * head_dim], [inner]
  std::uint64_t *marks, *partials;  // [heads, splits, 2], [heads, splits, head_dim]
};
// At `base`, whose bytes are told too.
Packets packets_at(const CudaModel& model, void* base, std::int64_t* bytes);

struct PersistentStep {
  Packets packets;
  const CudaLayer* layers;  // on the card
  std::int32_t layer_count, width, inner;
  float epsilon;
  const void *final_norm, *head;
  const CudaRow* step;
  const CudaDraw* draw;
  DecodeAttention attention;  // but for what differs from layer to layer
  float* logits;
  Lot lots[lot_kinds];
  std::int32_t slots, slot_bytes;  // of the ring
  std::int32_t most_ahead, pace;   // pieces that a thread reads ahead, clocks between them
  std::int32_t near_bytes, parts;  // of x and attention; sums of a block's pieces
  std::int32_t blocks;
  std::int64_t shared_bytes;
};

// Fills in what follows from the model and the card's cores; false where the chain of kernels has
// to do it.
bool plan_persistent(const CudaModel& model, int capability, int cores, std::int64_t most_shared,
                     PersistentStep& step);
int launch_persistent(const PersistentStep& step, Scalar scalar, cudaStream_t stream);

}  // namespace pensive::kernels
