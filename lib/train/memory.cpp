// What one backward takes, before it is tried.
#include <ATen/Parallel.h>

#include <algorithm>

#include "kernels/forward.h"
#include "kernels/packed.h"
#include "train/parts.h"
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
  const std::int64_t batch = options.max_batch_tokens, drawn = options.rollout.max_new_tokens;
  const std::int64_t before = load.is_packed ? 2 : 4;
  // A suffix goes through whole, however long it is; before it lies what the positions leave.
  const std::int64_t whole = std::min(sizes.positions, drawn);
  load.tokens = std::max(batch, whole);
  load.prefix_tokens = std::max(before * batch, std::min(before * whole, sizes.positions - whole));
  load.longest = std::min(sizes.positions, 2 * drawn);
  load.logits = most_logits(is_cuda);
  load.is_exact = load.recomputes = options.logprobs == Logprobs::exact;
  return load;
}

// The same sum in whole numbers, or about: of sizes that no whole number tells.
template <class Number>
struct Terms {
  explicit Terms(const Sizes& sizes, const Load& load)
      : is_cuda(sizes.device.kind == DeviceKind::cuda),
        is_packed(load.is_packed),
        has_query_key_norms(sizes.has_query_key_norms),
        size(number(sizes.value_bytes())),
        wide(std::max<Number>(size, 4)),
        width(number(sizes.width)),
        inner(number(sizes.inner)),
        layers(number(sizes.layers)),
        heads(number(sizes.heads)),
        own(heads * number(sizes.head_dim)),
        keys(number(sizes.kv_heads) * number(sizes.head_dim)),
        vocab(number(sizes.vocab)),
        position(2 * size * layers * keys),
        shared(number(sizes.heads / sizes.kv_heads)),
        tokens(number(load.tokens)),
        before(number(load.prefix_tokens)),
        rows(tokens + before),
        longest(number(load.longest)),
        logits(number(load.logits)),
        workspace(number(row_forward_bytes(sizes, sizes.positions))) {}
  static Number number(std::int64_t one) { return static_cast<Number>(one); }

  Number layer() const;
  Number passing() const;
  Number head() const;
  Number padding() const;
  Number exact() const;

  bool is_cuda, is_packed, has_query_key_norms;
  Number size, wide;  // bytes of a value; of what layers add up
  Number width, inner, layers, heads, own, keys, vocab;
  Number position;  // as Sizes::position_bytes()
  Number shared;    // query heads of each key's
  Number tokens, before, rows, longest, logits, workspace;
};

// Inputs of both norms; queries, keys and the mixed values; gate and up; what norms over heads
// are of; sums of the weights; keys and values, own ones and those before, side by side.
template <class Number>
Number Terms<Number>::layer() const {
  const Number kept = 2 * own + keys + 2 * inner + (has_query_key_norms ? own + 2 * keys : 0);
  return tokens * (2 * width * wide + kept * size + 4 * (2 + heads)) + rows * 2 * keys * size;
}

// Of one layer on its way back. On a card: gradients of the above, of keys once a query head, in
// float32 of the queries. On a CPU: libtorch's derivatives of the gate and of the norms.
template <class Number>
Number Terms<Number>::passing() const {
  return is_cuda ? tokens * (3 * width * wide + (width + 4 * inner + 2 * own) * size + 4 * own) +
                       rows * 4 * own * size
                 : tokens * 6 * wide * (inner + width);
}

// And what comes before it. Scores of libtorch's attention on a CPU, 256 by 512 a thread, and what
// brief types round them to.
template <class Number>
Number Terms<Number>::head() const {
  const Number ends = tokens * 4 * width * wide;
  const Number scores =
      is_cuda ? 0 : number(at::get_num_threads()) * 256 * 512 * (wide + (size < 4 ? size : 0));
  return ends + scores + std::min(logits, tokens * vocab) * (is_cuda ? 8 : 6 * wide);
}

// Padded suffixes have copies of the keys and values before them, and a mask.
template <class Number>
Number Terms<Number>::padding() const {
  return is_packed ? 0 : before * position + tokens * shared * longest * size;
}

// Pages of the exact forward, whose last ones are not full; its workspace; hidden states; and
// what a few of its rows take on their way, where they do not go through kernels of their own.
template <class Number>
Number Terms<Number>::exact() const {
  constexpr Number piece = kernels::RowForward::most_rows;
  return rows * 9 / 8 * position + workspace + (tokens + piece) * width * (size + wide) +
         layers * piece * width * wide +
         (is_cuda ? 0 : piece * (4 * inner + 2 * own + 4 * keys + 4 * width) * wide);
}

template <class Number>
Number bytes_of(const Sizes& sizes, const Load& load) {
  const Terms<Number> of(sizes, load);
  return (load.recomputes ? of.layers * of.tokens * of.width * of.wide + of.layer()
                          : of.layers * of.layer()) +
         of.passing() + of.head() + of.padding() + (load.is_exact ? of.exact() : 0);
}

}  // namespace

std::int64_t backward_bytes(const Sizes& sizes, const Load& load) {
  return bytes_of<double>(sizes, load) < static_cast<double>(unlimited)
             ? bytes_of<std::int64_t>(sizes, load)
             : unlimited;
}

MemoryPlan plan_memory(const std::filesystem::path& directory, const ModelOptions& model,
                       const EngineOptions& options, const TrainOptions& training,
                       const PlanOptions& plan) {
  check_options(training);
  PlannedModel planned = planned_model(directory, model, plan);
  const bool is_cuda = planned.sizes.device.kind == DeviceKind::cuda;
  planned.training_bytes =
      backward_bytes(planned.sizes, load_of(planned.sizes, training)) + (is_cuda ? empty_bytes : 0);
  return plan_memory(planned, options, plan);
}

}  // namespace pensive
