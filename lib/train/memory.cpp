// What one backward takes, before it is tried.
#include <algorithm>

#include "engine/memory.h"
#include "train/steps.h"

namespace pensive {
namespace {

// On a card suffixes are packed, no more at a time, behind prefixes as long as they are; the head's
// logits have a way back of their own. Where less is free, layers are computed twice (way.cpp).
std::int64_t packed_bytes(const Sizes& sizes, const TrainOptions& options) {
  Config config;
  config.layers = static_cast<int>(sizes.layers);
  config.width = static_cast<int>(sizes.width);
  config.inner = static_cast<int>(sizes.inner);
  config.heads = static_cast<int>(sizes.heads);
  config.kv_heads = static_cast<int>(sizes.kv_heads);
  config.head_dim = static_cast<int>(sizes.head_dim);
  const std::int64_t tokens = std::min(options.max_batch_tokens, 8192);
  return suffix_bytes(config, sizes.scalar, tokens, tokens, false) +
         std::min(most_logits(true), tokens * sizes.vocab) * 8;
}

// Padded suffixes: what autograd keeps of each layer, the constants before the suffixes, and the
// widest moment on the way back.
std::int64_t padded_bytes(const Sizes& sizes, const TrainOptions& options) {
  const std::int64_t size = sizes.value_bytes(), wide = std::max<std::int64_t>(size, 4);
  const std::int64_t own = sizes.heads * sizes.head_dim, keys = sizes.kv_heads * sizes.head_dim;
  const std::int64_t tokens = options.max_batch_tokens, prefixes = 4 * tokens;
  // Inputs of both norms, gate and up, queries and what attention gave.
  const std::int64_t kept =
      2 * sizes.inner + 2 * own + (sizes.has_query_key_norms ? own + 2 * keys : 0);
  // Keys and values, own ones and those before, side by side.
  const std::int64_t joined = (tokens + prefixes) * 2 * keys;
  const std::int64_t layers =
      sizes.layers *
      ((tokens * kept + joined) * size + tokens * (2 * sizes.width * wide + 4 * (2 + sizes.heads)));
  const std::int64_t constants = prefixes * sizes.position_bytes();
  const std::int64_t longest =
      std::min<std::int64_t>(sizes.positions, 2 * options.rollout.max_new_tokens);
  const std::int64_t mask = tokens * (sizes.heads / sizes.kv_heads) * longest * size;
  const std::int64_t widest = tokens * (6 * sizes.inner * wide + 6 * sizes.width * wide);
  const std::int64_t logits = std::min(most_logits(false), tokens * sizes.vocab) * 6 * wide;
  return layers + constants + mask + std::max(widest, logits);
}

}  // namespace

MemoryPlan plan_memory(const std::filesystem::path& directory, const ModelOptions& model,
                       const EngineOptions& options, const TrainOptions& training,
                       const PlanOptions& plan) {
  const PlannedModel planned = planned_model(directory, model, plan);
  MemoryPlan made = plan_memory(planned, options, plan);
  const bool is_cuda = planned.sizes.device.kind == DeviceKind::cuda;
  made.training_bytes =
      is_cuda ? packed_bytes(planned.sizes, training) : padded_bytes(planned.sizes, training);
  return made;
}

}  // namespace pensive
