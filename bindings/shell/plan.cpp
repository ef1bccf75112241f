// `pensive info --plan`: what fits, without loading any weights.
#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <charconv>

#include "pensive/train.h"
#include "shell.h"

namespace pensive::shell {
namespace {

double megabytes(std::int64_t bytes) { return static_cast<double>(bytes) / 1e6; }

// "80GiB", "512MB" or "1000000"; 0 for "".
std::int64_t bytes_of(const std::string& text) {
  if (text.empty()) return 0;
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string unit(end, text.data() + text.size());
  constexpr std::pair<std::string_view, double> units[] = {
      {"", 1},       {"KB", 1e3},     {"MB", 1e6},     {"GB", 1e9},    {"TB", 1e12},
      {"KiB", 1024}, {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
  const auto* const found =
      std::ranges::find(units, std::string_view(unit), [](const auto& one) { return one.first; });
  if (error != std::errc() || found == std::end(units) ||
      !(number > 0 && number * found->second < 1e18))
    throw Error(ErrorCode::invalid_argument,
                fmt::format("expected a size such as 80GiB or 512MB; found '{}' (--memory)", text));
  return static_cast<std::int64_t>(number * found->second);
}

void print_part(const char* name, std::int64_t bytes, const std::string& note) {
  if (bytes > 0) fmt::print("  {:<22}{:>12.1f} MB   {}\n", name, megabytes(bytes), note);
}

void print_parts(const MemoryPlan& plan, const EngineOptions& options, int batch_tokens) {
  print_part("weights", plan.weight_bytes, "with the angles of every position");
  print_part("soft rows", plan.soft_bytes, "");
  print_part("cache", plan.cache_bytes,
             fmt::format("{} positions of {} bytes", plan.cache_tokens,
                         plan.cache_bytes / std::max<std::int64_t>(1, plan.cache_tokens)));
  print_part("steps of prompts", plan.prompt_step_bytes,
             fmt::format("{} tokens at once", options.max_tokens_per_step));
  print_part("steps of decoding", plan.decode_step_bytes,
             fmt::format("{} sequences at once", options.max_live_sequences));
  print_part("a backward", plan.training_bytes, fmt::format("of {} tokens", batch_tokens));
  print_part("CUDA and libtorch", plan.runtime_bytes, "about");
  const std::int64_t left = plan.memory_bytes - plan.bytes();
  print_part("together", plan.bytes(),
             plan.fits()
                 ? fmt::format("fits; {:.1f} MB are left", megabytes(left))
                 : fmt::format("{:.1f} MB too much: lower {}", -megabytes(left), plan.to_lower()));
}

}  // namespace

void PlanFlags::add_to(CLI::App& app) {
  CLI::Option* plan =
      app.add_flag("--plan", is_asked,
                   "what fits into the device's memory, without loading weights")
          ->excludes(app.get_option("--soft"));  // whose rows only a loaded model tells
  app.add_option(
         "--memory", memory,
         "with --plan: what the device has, such as 80GiB, in place of what is free now; no "
         "card need be there")
      ->needs(plan);
  const auto add = [&app](const std::string& name, auto& number, CLI::Option* with,
                          const std::string& text) {
    app.add_option(name, number, text)->needs(with)->check(positive);
  };
  add("--batch", batch, plan, "with --plan: sequences that run at once");
  add("--context", context, plan, "with --plan: positions of each of them");
  add("--cache-tokens", cache_tokens, plan,
      "with --plan: positions of the cache; default: --batch times --context, or a share of the "
      "memory");
  add("--tokens-per-step", tokens_per_step, plan, "with --plan: of prompts, in one step");
  CLI::Option* train = app.add_flag("--train", trains, "with --plan: a backward, too")->needs(plan);
  app.add_option("--logprobs", logprobs, "with --train: fast, or exact as in pensive train")
      ->needs(train)
      ->check(CLI::IsMember({"fast", "exact"}).description(""))
      ->capture_default_str();
  add("--batch-tokens", batch_tokens, train,
      "with --train: tokens of one backward, which a longer sample exceeds; default: 4096");
  add(max_tokens_names, max_tokens, train,
      "with --train: most tokens of a sample, which goes through whole; default: 2048");
}

void print_plan(const ModelFlags& flags, const PlanFlags& asked) {
  const std::string folder = model_folder(flags.directory, flags.revision);
  EngineOptions options = flags.engine_options(nullptr);
  TrainOptions training;
  if (asked.batch > 0) options.max_live_sequences = asked.batch;
  if (asked.tokens_per_step > 0) options.max_tokens_per_step = asked.tokens_per_step;
  if (asked.batch_tokens > 0) training.max_batch_tokens = asked.batch_tokens;
  training.rollout.max_new_tokens =
      asked.max_tokens > 0 ? asked.max_tokens : RequestFlags().max_tokens;
  if (asked.logprobs == "exact") training.logprobs = Logprobs::exact;
  const std::int64_t pages = (asked.context - 1) / options.page_tokens + 1;
  if (asked.context > 0)
    options.cache_tokens = options.max_live_sequences * pages * options.page_tokens;
  if (asked.cache_tokens > 0) options.cache_tokens = asked.cache_tokens;
  const ModelOptions how = flags.model_options();
  const std::int64_t memory = bytes_of(asked.memory);
  const auto planned = [&](int context) {
    const PlanOptions plan{.memory_bytes = memory, .context = context};
    return asked.trains ? plan_memory(folder, how, options, training, plan)
                        : plan_memory(folder, how, options, plan);
  };
  const MemoryPlan plan = planned(asked.context);
  fmt::print("memory of {}, {:.1f} MB\n", to_string(plan.device), megabytes(plan.memory_bytes));
  print_parts(plan, options,
              std::max(training.max_batch_tokens,
                       std::min(plan.max_positions, training.rollout.max_new_tokens)));
  fmt::print("sequences at once         of that cache      at most\n");
  std::vector<int> contexts = {512, 1024, 2048, 8192, 32768, 131072};
  if (asked.context > 0) contexts = {asked.context};
  for (const int context : contexts) {
    if (asked.context == 0 && context > plan.max_positions) break;
    const MemoryPlan one = planned(context);
    fmt::print("  {:>8} positions {:>19} {:>12}\n", context, one.sequences(context),
               one.most_sequences);
  }
}

}  // namespace pensive::shell
