// What fits, computed before it is tried.
#pragma once
#include <cstdint>
#include <limits>

#include "model/checkpoint.h"
#include "pensive/engine.h"

namespace pensive {

// What a part of a plan is at most: a sum of sixteen is still a number.
inline constexpr std::int64_t unlimited = std::numeric_limits<std::int64_t>::max() / 16;

// What the sizes of buffers follow from.
struct Sizes {
  std::int64_t layers = 0, width = 0, inner = 0, heads = 0, kv_heads = 0, head_dim = 0, vocab = 0;
  std::int64_t positions = 0;
  at::ScalarType scalar = at::kFloat;
  Device device{};
  bool has_query_key_norms = false;
  // A step of so many tokens or more keeps no gate and up (kernels::least_gated_rows()); of a card
  // that need not be there, nobody knows.
  std::int64_t least_gated_rows = std::numeric_limits<std::int64_t>::max();

  std::int64_t value_bytes() const { return static_cast<std::int64_t>(c10::elementSize(scalar)); }
  // Keys and values of one position, in all layers.
  std::int64_t position_bytes() const { return 2 * value_bytes() * layers * kv_heads * head_dim; }
};
Sizes sizes_of(const Config& config, at::ScalarType scalar, const Device& device);

// Positions whose keys and values packed prompts may gather from the pages at once: one sequence at
// its longest, and some. Steps of more go row by row, which gathers nothing.
std::int64_t most_gathered(std::int64_t longest, const EngineOptions& options);

// What kernels::RowForward takes for sequences of at most so many positions; 0 where there is none.
std::int64_t row_forward_bytes(const Sizes& sizes, std::int64_t longest);

// Of an engine, in `memory_bytes` of which `taken_bytes` are spoken for and `training_bytes` will
// be taken beside it. Throws invalid_argument for options that can never work.
MemoryPlan plan_engine(const Sizes& sizes, const EngineOptions& options, const PlanOptions& plan,
                       std::int64_t memory_bytes, std::int64_t taken_bytes,
                       std::int64_t training_bytes = 0);

// A checkpoint as far as plans need it: understood, its weights measured and not read.
struct PlannedModel {
  Sizes sizes;
  std::int64_t weight_bytes = 0;
  std::int64_t memory_bytes = 0;    // given, or free now
  std::int64_t runtime_bytes = 0;   // of CUDA, where the memory was given whole
  std::int64_t training_bytes = 0;  // of a backward beside the engine, where one is planned
};
PlannedModel planned_model(const std::filesystem::path& directory, const ModelOptions& options,
                           const PlanOptions& plan);
MemoryPlan plan_memory(const PlannedModel& model, const EngineOptions& options,
                       const PlanOptions& plan);

// The pages of an engine of a loaded model. Throws out_of_memory, naming the number to lower, where
// they, or the steps beside them, do not fit what is free now.
int pages_of(const Model& model, const EngineOptions& options);

}  // namespace pensive
