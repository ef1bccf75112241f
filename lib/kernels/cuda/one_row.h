// A step of one row by the kernel that stays: whether there can be one, and its launch.
#pragma once
#include <limits>

#include "kernels/cuda/step.h"

namespace pensive::kernels {

// Where it was seen to be faster than the chain (docs/one_row.md): nothing with less to read in a
// layer was timed. What it saves is much the same in every layer, and what it loses, since the
// chain's attention walks faster, grows with the bytes of keys and values there.
constexpr std::int64_t least_layer_bytes = std::int64_t{6} << 20,
                       most_cache_bytes = std::int64_t{32} << 20;

inline int most_positions(const CudaModel& model) {
  const std::int64_t position =
      2 * size_of(model.scalar) * std::int64_t{model.kv_heads} * model.head_dim;
  return static_cast<int>(most_cache_bytes / position);
}

inline std::int64_t layer_bytes(const CudaModel& model) {
  const std::int64_t own = std::int64_t{model.heads} * model.head_dim;
  const std::int64_t keys_and_values = std::int64_t{2} * model.kv_heads * model.head_dim;
  return size_of(model.scalar) * model.width *
         (2 * own + keys_and_values + std::int64_t{3} * model.inner);
}

class StayingRow {
 public:
  StayingRow() = default;
  ~StayingRow() {
    if (layers_) cudaFree(layers_);
  }
  StayingRow(const StayingRow&) = delete;
  StayingRow& operator=(const StayingRow&) = delete;

  int plan(const CudaModel& model, int capability, int device) {
    const bool is_asked = model.one_row == OneRow::stays;
    if (model.one_row == OneRow::chain) return cudaSuccess;
    if (!is_asked && layer_bytes(model) < least_layer_bytes) return cudaSuccess;
    if (!is_asked) longest_ = most_positions(model);
    int cores = 0, shared = 0, can_meet = 0;
    if (int error = cudaDeviceGetAttribute(&cores, cudaDevAttrMultiProcessorCount, device))
      return error;
    if (int error =
            cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device))
      return error;
    if (int error = cudaDeviceGetAttribute(&can_meet, cudaDevAttrCooperativeLaunch, device))
      return error;
    if (!can_meet || !plan_persistent(model, capability, cores, shared, step_)) return cudaSuccess;
    const std::size_t bytes = sizeof(CudaLayer) * static_cast<std::size_t>(model.layers);
    if (int error = cudaMalloc(&layers_, bytes)) return error;
    step_.layers = static_cast<const CudaLayer*>(layers_);
    return cudaMemcpy(layers_, model.host_layers, bytes, cudaMemcpyHostToDevice);
  }
  bool is_there() const { return layers_ != nullptr; }
  bool takes(int rows, int longest) const { return is_there() && rows == 1 && longest <= longest_; }

  // attention: as the chain would launch it.
  int launch(const DecodeAttention& attention, const Step& step, Scalar scalar) const {
    PersistentStep made = step_;
    made.step = step.places.rows;
    made.draw = step.places.draw;
    made.attention = attention;
    made.attention.splits = step_.attention.splits;
    made.attention.team = step_.attention.team;
    made.attention.stages = step_.attention.stages;
    made.packets = step.room.packets;
    made.logits = step.room.logits;
    return launch_persistent(made, scalar, step.way.stream);
  }

 private:
  PersistentStep step_{};
  void* layers_ = nullptr;                         // on the card
  int longest_ = std::numeric_limits<int>::max();  // row it takes
};

}  // namespace pensive::kernels
