#include "engine/memory.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "base/inside.h"
#include "kernels/forward.h"
#include "kernels/kernels.h"
#include "kernels/packed.h"
#include "model/parts.h"

namespace pensive {
namespace {

constexpr std::int64_t mebibyte = std::int64_t{1} << 20;

// A CUDA context with libtorch's kernels, then cuBLAS with its workspaces, kernels that are loaded
// as they are used, graphs: 571 MB were seen beside R1-1.5B's weights, cache and
// tensors of steps, with what the allocator's blocks leave empty (docs/memory.md).
constexpr std::int64_t context_bytes = 600 * mebibyte;
constexpr std::int64_t library_bytes = 512 * mebibyte;
// The allocator's blocks are of whole 2 MiB: what each layer's keys and values may leave empty.
constexpr std::int64_t empty_layer_bytes = 4 * mebibyte;

void check_options(const EngineOptions& options) {
  const auto at_least = [](std::int64_t least, std::int64_t number, std::string_view name) {
    require(number >= least, ErrorCode::invalid_argument,
            fmt::format("{} of at least {}", name, least), std::to_string(number), "engine");
  };
  at_least(1, options.page_tokens, "page_tokens");
  at_least(0, options.cache_tokens, "cache_tokens");
  at_least(1, options.max_live_sequences, "max_live_sequences");
  at_least(1, options.max_tokens_per_step, "max_tokens_per_step");
}

void check_plan(const PlanOptions& plan) {
  require(plan.memory_bytes >= 0, ErrorCode::invalid_argument, "a memory of 0 bytes or more",
          std::to_string(plan.memory_bytes), "PlanOptions::memory_bytes");
  require(plan.context >= 0, ErrorCode::invalid_argument, "a context of 0 positions or more",
          std::to_string(plan.context), "PlanOptions::context");
}

void check_context(const PlanOptions& plan, const Sizes& sizes) {
  require(plan.context <= sizes.positions, ErrorCode::invalid_argument,
          fmt::format("a context of at most the model's {} positions", sizes.positions),
          std::to_string(plan.context), "PlanOptions::context");
}

// The decoder at its widest, then the head and the draw; see Decoder::forward() and Runner::run().
std::int64_t prompt_step_bytes(const Sizes& sizes, Arithmetic arithmetic, std::int64_t tokens,
                               std::int64_t drawn) {
  const std::int64_t size = sizes.value_bytes(), own = sizes.heads * sizes.head_dim;
  const std::int64_t keys = sizes.kv_heads * sizes.head_dim, wide = std::max<std::int64_t>(size, 4);
  const std::int64_t norms = sizes.has_query_key_norms ? 2 : 1;
  // On a CPU products of brief numbers may take a wide copy of what goes in.
  const bool widens = sizes.device.kind != DeviceKind::cuda && size < 4;
  // Embeddings, x before and after attention, its norm, projected and turned heads, and what
  // attention gives.
  const std::int64_t around = 4 * sizes.width + own + 2 * keys + norms * (own + keys) + own;
  const std::int64_t least = arithmetic == Arithmetic::fast ? sizes.least_gated_rows : tokens + 1;
  const std::int64_t fewer = std::min(tokens, least - 1);  // which keep gate and up
  const std::int64_t gated = std::max(tokens >= least ? tokens * (around + sizes.inner) : 0,
                                      fewer * (around + 3 * sizes.inner)) *
                             size;
  const std::int64_t down =
      (around + sizes.inner + 2 * sizes.width) * size + (widens ? sizes.inner * wide : 0);
  const std::int64_t arrays = 4 * 8 + sizes.head_dim * wide + 2 * 8;  // ids, places, angles
  const std::int64_t layers = std::max(gated, tokens * down) + tokens * arrays;
  // Logits as the product gives them, in float32, and once more while they are drawn from.
  const std::int64_t logits =
      drawn * sizes.vocab * 2 * wide + (tokens + 2 * drawn) * sizes.width * wide;
  return std::max(layers, logits) + mebibyte;
}

// Each thread's own room in the CPU's loops: scores and turned keys of attention, a panel of a
// product (lib/kernels/attention_cpu.cpp, product_loops.h).
std::int64_t thread_bytes(const Sizes& sizes, std::int64_t longest) {
  if (sizes.device.kind == DeviceKind::cuda) return 0;
  const std::int64_t wide = std::max<std::int64_t>(sizes.value_bytes(), 4);
  const std::int64_t scores = 131072 + sizes.heads / sizes.kv_heads * longest;
  return at::get_num_threads() * wide * (scores + 32768);
}

// The longest sequence that so many pages hold.
std::int64_t longest_of(const Sizes& sizes, const EngineOptions& options, std::int64_t pages) {
  const std::int64_t most = sizes.positions / options.page_tokens + 1;
  return std::min(sizes.positions, std::min(pages, most) * options.page_tokens);
}

bool takes_steps(const Sizes& sizes) {
  return sizes.device.kind == DeviceKind::cuda && sizes.scalar != at::kDouble;
}

// Of a step by our own kernels, without its draws: lib/kernels/cuda/step.h lays it out.
std::int64_t row_bytes(const Sizes& sizes, std::int64_t splits) {
  const std::int64_t own = sizes.heads * sizes.head_dim;
  const std::int64_t values =
      sizes.width + own + 2 * sizes.kv_heads * sizes.head_dim + own + 3 * sizes.inner;
  const std::int64_t shares = sizes.heads * (splits * (4 * sizes.head_dim + 8) + 32);
  return values * sizes.value_bytes() + 4 * sizes.width + shares;
}

// 64 splits of a row's cache are the most, 32 those of 8,192 positions.
std::int64_t splits_of(std::int64_t longest, bool is_few) {
  return longest > 8192 || is_few ? 64 : 32;
}

// What packed prompts on a card gather, of one layer; see Runner::prompts().
std::int64_t gathered_bytes(const Sizes& sizes, const EngineOptions& options,
                            std::int64_t longest) {
  const bool is_packed = sizes.device.kind == DeviceKind::cuda && sizes.value_bytes() == 2 &&
                         options.arithmetic == Arithmetic::fast;
  return is_packed ? most_gathered(longest, options) * sizes.position_bytes() / sizes.layers : 0;
}

// What row-invariant prompts on a card go through.
std::int64_t forward_bytes(const Sizes& sizes, const EngineOptions& options, std::int64_t pages) {
  return options.arithmetic == Arithmetic::row_invariant
             ? row_forward_bytes(sizes, longest_of(sizes, options, pages))
             : 0;
}

std::int64_t decode_step_bytes(const Sizes& sizes, const EngineOptions& options, std::int64_t rows,
                               std::int64_t pages) {
  if (!takes_steps(sizes) || !options.graphs) return 0;
  const bool is_few = rows <= 4 && options.arithmetic == Arithmetic::fast;
  const std::int64_t splits = splits_of(longest_of(sizes, options, pages), is_few);
  const std::int64_t row = row_bytes(sizes, splits) + 8 * sizes.vocab;  // logits, twice
  // What goes in and out, twice as much as is needed: tables of pages, wishes and their masks.
  const std::int64_t step = 2 * (4 * pages + rows * (sizes.vocab / 8 + 256));
  return rows * row + step + 36 * mebibyte;
}

struct Steps {
  std::int64_t prompt = 0, decode = 0;
};

Steps steps_of(const Sizes& sizes, const EngineOptions& options, std::int64_t pages) {
  const std::int64_t tokens = options.max_tokens_per_step;
  const std::int64_t rows = std::min<std::int64_t>(options.max_live_sequences, pages);
  const std::int64_t longest = longest_of(sizes, options, pages);
  return {prompt_step_bytes(sizes, options.arithmetic, tokens, std::min(rows, tokens)) +
              thread_bytes(sizes, longest) + gathered_bytes(sizes, options, longest) +
              forward_bytes(sizes, options, pages),
          decode_step_bytes(sizes, options, options.max_live_sequences, pages)};
}

// What the planned cache, or every sequence at its longest, comes to; never more than numbers of
// slots can tell.
std::int64_t most_pages(const Sizes& sizes, const EngineOptions& options) {
  const auto pages_for = [&](std::int64_t positions) {
    return (positions - 1) / options.page_tokens + 1;
  };
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max() - 1;
  const std::int64_t wished = options.cache_tokens > 0
                                  ? pages_for(options.cache_tokens)
                                  : options.max_live_sequences * pages_for(sizes.positions);
  return options.cache_tokens > 0 ? wished : std::min({wished, most, most / options.page_tokens});
}

std::int64_t pages_of(const Sizes& sizes, const EngineOptions& options, std::int64_t free_bytes) {
  const std::int64_t most = most_pages(sizes, options);
  if (options.cache_tokens > 0) return most;
  const std::int64_t page_bytes = sizes.position_bytes() * options.page_tokens;
  const std::int64_t share = free_bytes / (sizes.device.kind == DeviceKind::cuda ? 2 : 10);
  std::int64_t pages = std::clamp<std::int64_t>(share / page_bytes, 1, most);
  const Steps steps = steps_of(sizes, options, pages);
  return std::clamp<std::int64_t>((free_bytes - steps.prompt - steps.decode) / page_bytes, 1,
                                  pages);
}

std::string in_megabytes(std::int64_t bytes) {
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

// The most sequences of so many positions whose cache and steps fit.
int most_sequences(const Sizes& sizes, EngineOptions options, int context,
                   std::int64_t free_bytes) {
  const std::int64_t page_bytes = sizes.position_bytes() * options.page_tokens;
  const std::int64_t each = (context - 1) / options.page_tokens + 1;
  std::int64_t fitting = 0,
               too_many = std::max<std::int64_t>(0, free_bytes) / (each * page_bytes) + 1;
  while (fitting + 1 < too_many) {
    const std::int64_t middle = (fitting + too_many) / 2, pages = middle * each;
    options.max_live_sequences = static_cast<int>(std::min<std::int64_t>(middle, 1 << 30));
    const Steps steps = steps_of(sizes, options, pages);
    (pages * page_bytes + steps.prompt + steps.decode <= free_bytes ? fitting : too_many) = middle;
  }
  return static_cast<int>(std::min<std::int64_t>(fitting, 1 << 30));
}

std::int64_t memory_of(const Device& device, const PlanOptions& plan) {
  return plan.memory_bytes > 0 ? plan.memory_bytes : kernels::memory(device).free_bytes;
}

// Of a device that is there.
Sizes sizes_here(const Config& config, at::ScalarType scalar, const Device& device) {
  Sizes sizes = sizes_of(config, scalar, device);
  if (!config.has_mlp_bias)
    sizes.least_gated_rows = kernels::least_gated_rows(device, scalar, sizes.width, sizes.inner);
  return sizes;
}

Sizes sizes_of(const Model& model) {
  const Model::Parts& parts = model.parts();
  return sizes_here(parts.decoder->config(), parts.scalar, model.info().device);
}

}  // namespace

std::int64_t MemoryPlan::bytes() const noexcept {
  return weight_bytes + soft_bytes + cache_bytes + prompt_step_bytes + decode_step_bytes +
         training_bytes + runtime_bytes;
}

std::string_view MemoryPlan::to_lower() const noexcept {
  const std::array<std::pair<std::int64_t, std::string_view>, 4> parts = {
      {{cache_bytes, "cache_tokens"},
       {prompt_step_bytes, "max_tokens_per_step"},
       {decode_step_bytes, "max_live_sequences"},
       {training_bytes, "max_batch_tokens"}}};
  return std::ranges::max_element(parts, {}, [](const auto& part) { return part.first; })->second;
}

std::int64_t MemoryPlan::sequences(int positions) const noexcept {
  if (positions < 1 || page_tokens < 1) return 0;
  return cache_tokens / page_tokens / ((positions - 1) / page_tokens + 1);
}

std::int64_t most_gathered(std::int64_t longest, const EngineOptions& options) {
  return longest + std::int64_t{4} * options.max_tokens_per_step;
}

Sizes sizes_of(const Config& config, at::ScalarType scalar, const Device& device) {
  return {config.layers,
          config.width,
          config.inner,
          config.heads,
          config.kv_heads,
          config.head_dim,
          config.vocab_size,
          config.max_positions,
          scalar,
          device,
          config.has_query_key_norms};
}

std::int64_t row_forward_bytes(const Sizes& sizes, std::int64_t longest) {
  if (!takes_steps(sizes)) return 0;
  constexpr std::int64_t rounding = 65536;  // of the parts, and of the block
  return kernels::RowForward::most_rows * row_bytes(sizes, splits_of(longest, false)) + rounding;
}

MemoryPlan plan_engine(const Sizes& sizes, const EngineOptions& options, const PlanOptions& plan,
                       std::int64_t memory_bytes, std::int64_t taken_bytes,
                       std::int64_t training_bytes) {
  check_options(options);
  MemoryPlan made;
  made.training_bytes = training_bytes;
  made.device = sizes.device;
  made.memory_bytes = memory_bytes;
  if (options.soft) made.soft_bytes = options.soft->size() * sizes.width * sizes.value_bytes();
  if (sizes.device.kind == DeviceKind::cuda)
    made.runtime_bytes = library_bytes + sizes.layers * empty_layer_bytes;
  const std::int64_t free_bytes = memory_bytes - taken_bytes - made.soft_bytes - made.runtime_bytes;
  const std::int64_t page_bytes = sizes.position_bytes() * options.page_tokens;
  const std::int64_t pages = pages_of(sizes, options, free_bytes);
  const Steps steps = steps_of(sizes, options, pages);
  made.cache_bytes = pages > unlimited / page_bytes ? unlimited : pages * page_bytes;
  made.prompt_step_bytes = steps.prompt;
  made.decode_step_bytes = steps.decode;
  made.page_tokens = options.page_tokens;
  made.cache_tokens = pages > unlimited / made.page_tokens ? unlimited : pages * made.page_tokens;
  made.max_positions = static_cast<int>(sizes.positions);
  made.context = plan.context;
  if (plan.context > 0)
    made.most_sequences = most_sequences(sizes, options, plan.context, free_bytes - training_bytes);
  return made;
}

PlannedModel planned_model(const std::filesystem::path& directory, const ModelOptions& options,
                           const PlanOptions& plan) {
  check_plan(plan);
  check_directory(directory);
  const Config config = read_config(directory, options.unknown_keys, options.log);
  const Precision precision = settle(options.precision, config);
  // Of a card whose memory is told nothing else need be known.
  const bool is_told = plan.memory_bytes > 0 && options.device.kind == DeviceKind::cuda;
  const Device device = is_told ? options.device : kernels::resolve(options.device);
  check_runs_on(device, config, directory);
  if (!is_told) kernels::require_dtype(device, to_scalar(precision));
  PlannedModel model;
  model.sizes = is_told ? sizes_of(config, to_scalar(precision), device)
                        : sizes_here(config, to_scalar(precision), device);
  check_context(plan, model.sizes);
  model.weight_bytes = decoder_bytes(directory, config, precision);
  model.memory_bytes = memory_of(device, plan);
  if (is_told) model.runtime_bytes = context_bytes;
  return model;
}

MemoryPlan plan_memory(const PlannedModel& model, const EngineOptions& options,
                       const PlanOptions& plan) {
  MemoryPlan made = plan_engine(model.sizes, options, plan, model.memory_bytes,
                                model.weight_bytes + model.runtime_bytes, model.training_bytes);
  made.weight_bytes = model.weight_bytes;
  made.runtime_bytes += model.runtime_bytes;
  return made;
}

MemoryPlan plan_memory(const std::filesystem::path& directory, const ModelOptions& model,
                       const EngineOptions& options, const PlanOptions& plan) {
  return plan_memory(planned_model(directory, model, plan), options, plan);
}

MemoryPlan plan_memory(const Model& model, const EngineOptions& options, const PlanOptions& plan) {
  check_plan(plan);
  const Sizes sizes = sizes_of(model);
  check_context(plan, sizes);
  return plan_engine(sizes, options, plan, memory_of(model.info().device, plan), 0);
}

int pages_of(const Model& model, const EngineOptions& options) {
  const MemoryPlan plan = plan_memory(model, options, {});
  const std::string_view lower = plan.to_lower();
  require(plan.fits(), ErrorCode::out_of_memory,
          fmt::format("{} for an engine ({} of cache, {} for steps of prompts, {} for steps of "
                      "decoding, {} for libraries); lower {}",
                      in_megabytes(plan.bytes()), in_megabytes(plan.cache_bytes),
                      in_megabytes(plan.prompt_step_bytes), in_megabytes(plan.decode_step_bytes),
                      in_megabytes(plan.runtime_bytes), lower),
          fmt::format("{} free on {}", in_megabytes(plan.memory_bytes), to_string(plan.device)),
          fmt::format("EngineOptions::{}", lower));
  return static_cast<int>(plan.cache_tokens / plan.page_tokens);
}

}  // namespace pensive
