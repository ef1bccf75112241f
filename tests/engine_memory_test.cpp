// What plan_memory() says, held against what libtorch's allocators then say.
#include <ATen/Parallel.h>
#include <c10/core/CachingDeviceAllocator.h>

#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "counted.h"
#include "engine/memory.h"
#include "engine_helpers.h"
#include "kernels/packed.h"

namespace pensive::testing {
namespace {

struct Case {
  std::filesystem::path folder;
  Precision precision;
  int tokens, sequences;
  Arithmetic arithmetic = Arithmetic::fast;
  bool graphs = true;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Precision precision :
       {Precision::float32, Precision::bfloat16, Precision::float16, Precision::float64}) {
    all.push_back({PENSIVE_REASONER, precision, 256, 64});
    all.push_back({data("models/qwen3_default"), precision, 512, 3});
    all.push_back({data("models/plain"), precision, 64, 1});
    all.push_back({PENSIVE_REASONER, precision, 256, 64, Arithmetic::row_invariant});
    all.push_back({PENSIVE_REASONER, precision, 512, 3, Arithmetic::row_invariant, false});
  }
  return all;
}

std::string text_of(const Case& one) {
  return fmt::format("{} {} {} tokens {} sequences{}{}", one.folder.string(),
                     to_string(one.precision), one.tokens, one.sequences,
                     one.arithmetic == Arithmetic::fast ? "" : ", row-invariant",
                     one.graphs ? "" : ", no graphs");
}

// Prompts that fill whole steps, then tokens until all are done.
void run(Engine& engine, const Case& one) {
  const int limit = std::min(one.tokens / one.sequences, engine.model()->max_positions() - 8);
  std::vector<Sequence> sequences;
  for (int i = 0; i < one.sequences; ++i) {
    std::vector<TokenId> prompt = ids(i, limit);
    for (TokenId& id : prompt) id %= engine.model()->vocab_size();
    sequences.push_back(engine.start(plain_request(prompt, 1, 4)));
  }
  engine.finish(sequences);
}

EngineOptions options_of(const Case& one) {
  EngineOptions options;
  options.arithmetic = one.arithmetic;
  options.graphs = one.graphs;
  options.max_tokens_per_step = one.tokens;
  options.max_live_sequences = one.sequences;
  options.cache_tokens = one.tokens + 64 * one.sequences;
  return options;
}

TEST(Memory, IsOnACpuAsPlannedWeightByWeightAndStepByStep) {
  const Counting counting;
  Counted& counted = Counted::one();
  for (const Case& one : cases()) {
    SCOPED_TRACE(text_of(one));
    const ModelOptions how{.device = {DeviceKind::cpu}, .precision = one.precision};
    const EngineOptions options = options_of(one);
    const MemoryPlan plan = plan_memory(one.folder, how, options);
    EXPECT_TRUE(plan.fits());
    const std::int64_t before = counted.now;
    const auto model = Model::load(one.folder, how);
    EXPECT_EQ(counted.now - before, plan.weight_bytes);
    const std::int64_t loaded = counted.now;
    Engine engine(model, options);
    EXPECT_EQ(counted.now - loaded, plan.cache_bytes);
    EXPECT_EQ(plan.decode_step_bytes + plan.runtime_bytes, 0);
    const std::int64_t steps = peak_of([&] { run(engine, one); });
    EXPECT_LE(steps, plan.prompt_step_bytes);
    const std::int64_t threads = at::get_num_threads();  // each has room that it may not need
    EXPECT_GE(steps + (threads + 1) * (2 << 20), plan.prompt_step_bytes / 2);
  }
}

TEST(Memory, GoesOnAfterEveryPlaceWhereItMayEnd) {
  const Counting counting;
  Counted& counted = Counted::one();
  const Request request = plain_request(ids(3, 40), 5, 6);
  Engine plain(tiny_model(), exact());
  const std::vector<TokenId> expected = finish(plain, request);
  EngineOptions options = exact();
  options.max_tokens_per_step = 16;
  Engine engine(tiny_model(), options);
  Sequence sequence = engine.start(request);
  int refused = 0;
  for (std::int64_t place = 1; !sequence.finished();) {
    counted.refuses_in = place;
    try {
      engine.step();
      place = 1;  // all places of this step have been refused
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), ErrorCode::out_of_memory) << error.what();
      const bool is_decode = sequence.trace().decoded_tokens() > 0;
      EXPECT_THAT(error.what(),
                  ::testing::HasSubstr(is_decode ? "max_live_sequences" : "max_tokens_per_step"));
      ++refused;
      ++place;
    }
    counted.refuses_in = 0;
  }
  EXPECT_EQ(sequence.trace().kept(), expected);
  EXPECT_GT(refused, 100);
}

TEST(Memory, IsRefusedBeforeItIsTriedWithTheNumberToLower) {
  const auto refused = [](std::string_view name, EngineOptions options) {
    EXPECT_ERROR(Engine(tiny_model(), options), ErrorCode::out_of_memory,
                 fmt::format("lower {}", name));
  };
  refused("cache_tokens", {.cache_tokens = std::int64_t{1} << 40});
  refused("cache_tokens", {.cache_tokens = std::numeric_limits<std::int64_t>::max()});
  refused("max_tokens_per_step", {.max_tokens_per_step = 1 << 30});
}

// A card need not be there when its memory is told.
TEST(Memory, OfACardIsPlannedWithoutOne) {
  constexpr std::int64_t gibibyte = std::int64_t{1} << 30;
  const std::filesystem::path folder = PENSIVE_REASONER;
  const ModelOptions how{.device = {DeviceKind::cuda}};
  const PlanOptions card{.memory_bytes = 4 * gibibyte, .context = 500};
  const MemoryPlan plan = plan_memory(folder, how, {}, card);
  EXPECT_TRUE(plan.fits());
  EXPECT_EQ(plan.memory_bytes, 4 * gibibyte);
  EXPECT_GT(plan.decode_step_bytes, 0);
  EXPECT_GT(plan.runtime_bytes, 0);
  EXPECT_EQ(plan_memory(folder, how, {.graphs = false}, card).decode_step_bytes, 0);
  // Row-invariant prompts have room of their own, with graphs and without.
  const auto prompts = [&](Arithmetic arithmetic, bool graphs) {
    const EngineOptions options{.arithmetic = arithmetic, .cache_tokens = 4096, .graphs = graphs};
    return plan_memory(folder, how, options, card).prompt_step_bytes;
  };
  const Sizes sizes = planned_model(folder, how, card).sizes;
  const std::int64_t row = 4 * sizes.width + 3 * sizes.inner * sizes.value_bytes();  // at least
  const std::int64_t fast = prompts(Arithmetic::fast, false);
  EXPECT_EQ(prompts(Arithmetic::fast, true), fast);
  EXPECT_GT(prompts(Arithmetic::row_invariant, false), fast + 256 * row);
  EXPECT_EQ(prompts(Arithmetic::row_invariant, true), prompts(Arithmetic::row_invariant, false));

  const auto at_once = [&](int sequences) {
    const std::int64_t pages = (card.context - 1) / 16 + 1;
    EngineOptions options;
    options.max_live_sequences = sequences;
    options.cache_tokens = sequences * pages * 16;
    return plan_memory(folder, how, options, card);
  };
  ASSERT_GT(plan.most_sequences, 1);
  EXPECT_TRUE(at_once(plan.most_sequences).fits());
  EXPECT_GE(at_once(plan.most_sequences).sequences(card.context), plan.most_sequences);
  EXPECT_FALSE(at_once(plan.most_sequences + 1).fits());

  const MemoryPlan little = plan_memory(folder, how, {}, {.memory_bytes = 1000, .context = 500});
  EXPECT_FALSE(little.fits());
  EXPECT_EQ(little.most_sequences, 0);
  EXPECT_ERROR(plan_memory(folder, how, {}, {.memory_bytes = -1}), ErrorCode::invalid_argument,
               "memory_bytes");
  EXPECT_ERROR(plan_memory(folder, how, {.page_tokens = 0}, card), ErrorCode::invalid_argument,
               "page_tokens");
  EXPECT_ERROR(plan_memory("no/such/folder", how, {}, card), ErrorCode::not_found, "no/such");
  const PlanOptions endless{.memory_bytes = 4 * gibibyte, .context = 1 << 30};
  EXPECT_ERROR(plan_memory(folder, how, {}, endless), ErrorCode::invalid_argument, "positions");
  EXPECT_ERROR(plan_memory(*tiny_model(), {}, endless), ErrorCode::invalid_argument, "positions");
}

TEST(Memory, IsOnACardAsPlanned) {
  if (!has_cuda()) GTEST_SKIP() << "no CUDA card here";
  tiny_model(DeviceKind::cuda);  // libtorch's card is awake from here on
  c10::DeviceAllocator& allocator = *c10::getDeviceAllocator(at::kCUDA);
  const auto held = [&](auto member) {
    return (allocator.getDeviceStats(0).allocated_bytes[0]).*member;
  };
  using Stat = c10::CachingAllocator::Stat;
  for (const Case& one : cases()) {
    SCOPED_TRACE(text_of(one));
    const ModelOptions how{.device = {DeviceKind::cuda}, .precision = one.precision};
    const EngineOptions options = options_of(one);
    const MemoryPlan plan = plan_memory(one.folder, how, options);
    EXPECT_TRUE(plan.fits());
    const std::int64_t before = held(&Stat::current);
    const auto model = Model::load(one.folder, how);
    constexpr std::int64_t rounding = 512 * 400;  // a tensor's share of a block, of all tensors
    EXPECT_NEAR(held(&Stat::current) - before, plan.weight_bytes, rounding);
    const std::int64_t loaded = held(&Stat::current);
    Engine engine(model, options);
    EXPECT_NEAR(held(&Stat::current) - loaded, plan.cache_bytes, rounding);
    const std::int64_t ready = held(&Stat::current);
    allocator.resetPeakStats(0);
    run(engine, one);
    run(engine, one);  // graphs are captured the second time
    const std::int64_t steps = held(&Stat::peak) - ready;
    EXPECT_LE(steps, plan.prompt_step_bytes + plan.decode_step_bytes + plan.runtime_bytes);
    fmt::print("{} {}: {:.1f} MB in steps, planned {:.1f} + {:.1f}\n",
               one.folder.filename().string(), to_string(one.precision),
               1e-6 * static_cast<double>(steps),
               1e-6 * static_cast<double>(plan.prompt_step_bytes),
               1e-6 * static_cast<double>(plan.decode_step_bytes));
  }
}

TEST(Memory, OfAPromptOnACardIsAsPlanned) {
  // Of one large enough that on 9.0 gate and up are never there, and of the largest where they are.
  if (!has_cuda()) GTEST_SKIP() << "no CUDA card here";
  c10::DeviceAllocator& allocator = *c10::getDeviceAllocator(at::kCUDA);
  const auto stats = [&] { return allocator.getDeviceStats(0).allocated_bytes[0]; };
  for (const Precision precision : {Precision::float32, Precision::bfloat16, Precision::float16})
    for (const int tokens : {1020, 6000}) {
      const Case one{PENSIVE_REASONER, precision, tokens, 10, Arithmetic::fast, false};
      const ModelOptions how{.device = {DeviceKind::cuda}, .precision = precision};
      EngineOptions options = options_of(one);
      options.reuse_prefixes = false;
      const MemoryPlan plan = plan_memory(one.folder, how, options);
      const MemoryPlan of_any_card =
          plan_memory(one.folder, how, options, {.memory_bytes = std::int64_t{1} << 33});
      const auto model = Model::load(one.folder, how);
      Engine engine(model, options);
      run(engine, one);  // what libtorch keeps for its products is taken from here on
      const std::int64_t before = stats().current;
      allocator.resetPeakStats(0);
      run(engine, one);
      const std::int64_t taken = stats().peak - before;
      EXPECT_LE(taken, plan.prompt_step_bytes) << tokens << " " << to_string(precision);
      EXPECT_GT(taken, plan.prompt_step_bytes / 2) << tokens << " " << to_string(precision);
      fmt::print("{} tokens, {}: {:.1f} MB taken, {:.1f} planned, {:.1f} for any card\n", tokens,
                 to_string(precision), 1e-6 * static_cast<double>(taken),
                 1e-6 * static_cast<double>(plan.prompt_step_bytes),
                 1e-6 * static_cast<double>(of_any_card.prompt_step_bytes));
      EXPECT_LE(plan.prompt_step_bytes, of_any_card.prompt_step_bytes);
      const bool is_gated =
          precision != Precision::float32 &&
          kernels::least_gated_rows(model->info().device, at::kHalf, 192, 512) <= tokens;
      EXPECT_EQ(plan.prompt_step_bytes < of_any_card.prompt_step_bytes, is_gated);
    }
}

TEST(Memory, APlanRefusesWhatLoadingWouldOfNamesAndShapes) {
  const ModelOptions how{.device = {DeviceKind::cpu}};
  const PlanOptions card{.memory_bytes = std::int64_t{80} << 30};
  const std::pair<const char*, int> changes[] = {
      {"num_hidden_layers", 3}, {"num_hidden_layers", 1},   {"vocab_size", 65},
      {"intermediate_size", 0}, {"intermediate_size", 47},  {"hidden_size", 36},
      {"head_dim", 4},          {"num_key_value_heads", 1}, {"head_dim", 512}};
  for (const auto& [key, value] : changes) {
    const TempDir folder;
    write_tiny(folder.path());
    nlohmann::json config = nlohmann::json::parse(read_file(folder.path() / "config.json"));
    config[key] = value;
    write_file(folder.path() / "config.json", config.dump());
    const auto planned = error_of([&] { plan_memory(folder.path(), how, {}, card); });
    const auto loaded = error_of([&] { Model::load(folder.path(), how); });
    ASSERT_TRUE(planned && loaded) << key << " " << value;
    EXPECT_STREQ(planned->what(), loaded->what());
    EXPECT_EQ(planned->code(), loaded->code());
    if (value != 512) continue;
    EXPECT_ERROR(plan_memory(folder.path(), {.device = {DeviceKind::cuda}}, {}, card),
                 ErrorCode::unsupported, "a head_dim of at most 256 on CUDA");
  }
  const TempDir folder;
  write_tiny(folder.path());
  EXPECT_NO_THROW(plan_memory(folder.path(), how, {}, card));
}

}  // namespace
}  // namespace pensive::testing
