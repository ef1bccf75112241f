// A step of one row by the kernel that stays: whether there can be one, and its launch.
#pragma once
#include "kernels/cuda/step.h"

namespace pensive::kernels {

class StayingRow {
 public:
  StayingRow() = default;
  ~StayingRow() {
    if (layers_) cudaFree(layers_);
  }
  StayingRow(const StayingRow&) = delete;
  StayingRow& operator=(const StayingRow&) = delete;

  int plan(const CudaModel& model, int capability, int device) {
    if (model.one_row == OneRow::chain) return cudaSuccess;
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

  // attention: as the chain would launch it.
  int launch(const DecodeAttention& attention, const Step& step, Scalar scalar) const {
    PersistentStep made = step_;
    made.step = step.places.rows;
    made.draw = step.places.draw;
    made.attention = attention;
    made.attention.splits = step_.attention.splits;
    made.attention.team = step_.attention.team;
    made.attention.stages = step_.attention.stages;
    made.x = step.room.x;
    made.qkv = step.room.qkv;
    made.gated = step.room.inner;
    made.logits = step.room.logits;
    made.counter = step.room.counter;
    return launch_persistent(made, scalar, step.way.stream);
  }

 private:
  PersistentStep step_{};
  void* layers_ = nullptr;  // on the card
};

}  // namespace pensive::kernels
