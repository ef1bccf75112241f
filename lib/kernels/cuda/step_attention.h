// The attention of a step's layer, as its kernels take it.
#pragma once
#include "kernels/cuda/step.h"

namespace pensive::kernels {

// bias: of q/k/v, where the product left it to attention; may be null.
inline DecodeAttention attention_of(const CudaModel& model, const Step& step,
                                    const CudaLayer& layer, const void* bias) {
  const Size size = step.size;
  const Room& room = step.room;
  DecodeAttention attention{};
  attention.step = step.places.rows;
  attention.tables = step.places.tables;
  attention.qkv = room.qkv;
  attention.qkv_bias = bias;
  attention.query_norm = layer.query_norm;
  attention.key_norm = layer.key_norm;
  attention.epsilon = model.epsilon;
  attention.cosines = model.cosines;
  attention.sines = model.sines;
  attention.key_pages = layer.key_pages;
  attention.value_pages = layer.value_pages;
  attention.out = room.mixed;
  attention.partials = room.partials;
  attention.marks = room.marks;
  attention.arrivals = room.arrivals;
  attention.rows = size.rows;
  attention.heads = model.heads;
  attention.kv_heads = model.kv_heads;
  attention.head_dim = model.head_dim;
  attention.page_tokens = model.page_tokens;
  attention.splits = size.splits;
  attention.team = size.team;
  attention.stages = size.stages;
  attention.is_large = size.is_large;
  attention.longest = size.is_short ? short_positions : short_positions + 1;
  attention.is_invariant = model.is_invariant;
  attention.is_written = step.is_prompt;
  attention.page_shift = -1;
  for (int shift = 0; shift < 16; ++shift)
    if (1 << shift == model.page_tokens) attention.page_shift = shift;
  return attention;
}

inline int launch_attention(const DecodeAttention& call, Scalar scalar, Way way) {
  const int error = call.is_written ? launch_own_positions(call, scalar, way) : cudaSuccess;
  if (error != cudaSuccess) return error;
  return takes_attention_tiles(call.head_dim, scalar, way)
             ? launch_attention_tiles(call, scalar, way)
             : launch_decode_attention(call, scalar, way);
}

}  // namespace pensive::kernels
