// What one backward takes, before it is tried.
#include <ATen/Parallel.h>

#include <algorithm>

#include "kernels/forward.h"
#include "kernels/packed.h"
#include "train/steps.h"

namespace pensive {
namespace {

// What the allocator's blocks leave empty on a card: up to 0.8 GB was seen, a tenth of which the
// formula has to spare.
constexpr std::int64_t empty_bytes = std::int64_t{512} << 20;

// Packed suffixes go behind prefixes twice as long as they are, padded ones behind prefixes four
// times as long (plan_batches). Where less is free, batches become smaller, or layers are computed
// twice (choose_way).
Load load_of(const Sizes& sizes, const TrainOptions& options) {
  const bool is_cuda = sizes.device.kind == DeviceKind::cuda;
  Load load;
  // Of a card from 8.0 on, which need not be there.
  load.is_packed = is_cuda && sizes.value_bytes() == 2 && kernels::suits_flash(sizes.head_dim);
  load.tokens = options.max_batch_tokens;
  load.prefix_tokens = load.tokens * (load.is_packed ? 2 : 4);
  load.longest = std::min<std::int64_t>(sizes.positions, 2 * options.rollout.max_new_tokens);
  load.logits = most_logits(is_cuda);
  load.is_exact = load.recomputes = options.logprobs == Logprobs::exact;
  return load;
}

}  // namespace

std::int64_t backward_bytes(const Sizes& sizes, const Load& load) {
  const bool is_cuda = sizes.device.kind == DeviceKind::cuda;
  const std::int64_t size = sizes.value_bytes(), width = sizes.width, inner = sizes.inner;
  const std::int64_t wide = std::max<std::int64_t>(size, 4);  // of what layers add up
  const std::int64_t own = sizes.heads * sizes.head_dim, keys = sizes.kv_heads * sizes.head_dim;
  const std::int64_t tokens = load.tokens, rows = tokens + load.prefix_tokens;
  // Inputs of both norms; queries, keys and the mixed values; gate and up; what norms over heads
  // are of; sums of the weights; keys and values, own ones and those before, side by side.
  const std::int64_t kept =
      2 * own + keys + 2 * inner + (sizes.has_query_key_norms ? own + 2 * keys : 0);
  const std::int64_t layer =
      tokens * (2 * width * wide + kept * size + 4 * (2 + sizes.heads)) + rows * 2 * keys * size;
  // Of one layer on its way back. On a card: gradients of the above, of keys once a query head, in
  // float32 of the queries. On a CPU: libtorch's derivatives of the gate and of the norms.
  const std::int64_t passing =
      is_cuda ? tokens * (3 * width * wide + (width + 4 * inner + 2 * own) * size + 4 * own) +
                    rows * 4 * own * size
              : tokens * 6 * wide * (inner + width);
  const std::int64_t ends = tokens * 4 * width * wide;
  // Scores of libtorch's attention on a CPU, 256 by 512 a thread, and what brief types round them
  // to.
  const std::int64_t scores =
      is_cuda ? 0
              : at::get_num_threads() * std::int64_t{256} * 512 * (wide + (size < 4 ? size : 0));
  const std::int64_t head = std::min(load.logits, tokens * sizes.vocab) * (is_cuda ? 8 : 6 * wide);
  // Padded suffixes have copies of the keys and values before them, and a mask.
  const std::int64_t padding =
      load.is_packed ? 0
                     : load.prefix_tokens * sizes.position_bytes() +
                           tokens * (sizes.heads / sizes.kv_heads) * load.longest * size;
  // Pages of the exact forward, whose last ones are not full; its workspace; hidden states; and
  // what a few of its rows take on their way, where they do not go through kernels of their own.
  constexpr std::int64_t piece = kernels::RowForward::most_rows;
  const std::int64_t exact =
      load.is_exact
          ? rows * 9 / 8 * sizes.position_bytes() + row_forward_bytes(sizes, sizes.positions) +
                (tokens + piece) * width * (size + wide) + sizes.layers * piece * width * wide +
                (is_cuda ? 0 : piece * (4 * inner + 2 * own + 4 * keys + 4 * width) * wide)
          : 0;
  return (load.recomputes ? sizes.layers * tokens * width * wide + layer : sizes.layers * layer) +
         passing + scores + ends + head + padding + exact;
}

MemoryPlan plan_memory(const std::filesystem::path& directory, const ModelOptions& model,
                       const EngineOptions& options, const TrainOptions& training,
                       const PlanOptions& plan) {
  const PlannedModel planned = planned_model(directory, model, plan);
  MemoryPlan made = plan_memory(planned, options, plan);
  const bool is_cuda = planned.sizes.device.kind == DeviceKind::cuda;
  made.training_bytes =
      backward_bytes(planned.sizes, load_of(planned.sizes, training)) + (is_cuda ? empty_bytes : 0);
  return made;
}

}  // namespace pensive
