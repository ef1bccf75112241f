// Decode, prefill, the price of row-invariant arithmetic, one training step.
#include "bench.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "pensive/exam.h"
#include "pensive/guides.h"
#include "pensive/train.h"
#include "shapes.h"

namespace pensive::bench {
namespace {

using Clock = std::chrono::steady_clock;

}  // namespace

Spread spread_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return {values[values.size() / 2], values.front(), values.back()};
}

Lines::Lines(const std::string& folder, const std::string& name, const Device& device)
    : hardware_(hardware(device)) {
  if (folder.empty()) return;
  std::filesystem::create_directories(folder);
  const std::string kind = to_string(device).substr(0, 4);
  file_ = std::fopen(fmt::format("{}/{}-{}.jsonl", folder, name, kind).c_str(), "w");
}

Lines::~Lines() {
  if (file_ != nullptr) std::fclose(file_);
}

void Lines::print(std::string_view line) const {
  line.remove_suffix(1);  // its brace
  const std::string whole = fmt::format(R"({},"hardware":"{}"}})", line, hardware_);
  fmt::print("{}\n", whole);
  std::fflush(stdout);
  if (file_ == nullptr) return;
  fmt::print(file_, "{}\n", whole);
  std::fflush(file_);
}

Bench::Bench(const Options& options)
    : options_(options),
      model_(Model::load(options.model, {.device = Device::parse(options.device),
                                         .precision = options.precision})) {
  const bool is_steps = options.grid || options.profile || options.invariant;
  std::string name =
      is_steps ? options.shape : std::filesystem::path(options.model).filename().string();
  if (options.training) {
    const bool is_uneven = options.mean_tokens > 0;
    name += options.only_overlap ? "-overlap" : is_uneven ? "-uneven" : "-training";
    if (options.exact_logprobs) name += "-exact";
  }
  if (is_steps) name += options.grid ? "-grid" : options.profile ? "-parts" : "-invariant";
  if (options.only_engine) name += "-engine";
  if (options.only_forks) name += "-forks";
  lines_ = std::make_unique<const Lines>(options.out, name, model_->info().device);
}

std::string Bench::label() const {
  const std::string name = std::filesystem::path(options_.model).filename().string();
  return options_.shape == "own" ? "real " + name : name;
}

void Bench::report(std::string_view name, std::string_view unit, const Spread& spread,
                   std::string_view shape) {
  print(fmt::format(
      R"({{"case":"{}","shape":"{}","unit":"{}","median":{:.4g},"low":{:.4g},"high":{:.4g},"n":{},"device":"{}","precision":"{}","model":"{}"}})",
      name, shape, unit, spread.median, spread.low, spread.high, options_.repetitions,
      to_string(model_->info().device), to_string(model_->info().precision), label()));
}

// Distinct prompts, so that no prefix is shared.
std::vector<TokenId> Bench::prompt(int length, int salt) const {
  std::vector<TokenId> ids(static_cast<std::size_t>(length));
  unsigned state = 12345u + static_cast<unsigned>(salt) * 7919u;
  for (TokenId& id : ids) {
    state = state * 1664525u + 1013904223u;
    id = static_cast<TokenId>((state >> 8) % static_cast<unsigned>(model_->tokenizer()->size()));
  }
  return ids;
}

// Tokens a second of decode alone, a repetition each; as many sequences as may live. Prompts come
// in one after another, so that some end earlier: what is measured lies between the last prompt and
// the first end, where every step has all of them.
std::vector<double> Bench::decode_rates(const EngineOptions& options, int context, int new_tokens) {
  const int batch = options.max_live_sequences;
  Engine engine(model_, options);
  std::vector<double> rates;
  for (int repeat = 0; repeat <= options_.repetitions; ++repeat) {
    std::vector<Sequence> sequences;
    for (int i = 0; i < batch; ++i) {
      Request request;
      request.prompt = prompt(context, repeat * batch + i);
      request.max_new_tokens = new_tokens;
      request.ignore_end_tokens = true;
      request.sampling.seed = 1;
      sequences.push_back(engine.start(request));
    }
    const auto is_prompt = [](const Sequence& one) { return one.trace().decoded_tokens() == 0; };
    do engine.step();
    while (std::any_of(sequences.begin(), sequences.end(), is_prompt));
    engine.step();
    const auto before = engine.counters().computed_tokens;
    const auto start = Clock::now();
    const auto is_over = [](const Sequence& one) { return one.finished(); };
    do engine.step();
    while (std::none_of(sequences.begin(), sequences.end(), is_over));
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    const auto tokens = static_cast<double>(engine.counters().computed_tokens - before);
    if (repeat > 0) rates.push_back(tokens / seconds);  // the first warms up
    engine.finish(sequences);
  }
  return rates;
}

void Bench::decode(int batch, Arithmetic arithmetic) {
  EngineOptions engine_options;
  engine_options.arithmetic = arithmetic;
  engine_options.max_live_sequences = batch;
  engine_options.graphs = options_.graphs;
  engine_options.run_ahead = options_.run_ahead;
  report(arithmetic == Arithmetic::fast ? "decode" : "decode, row-invariant", "tokens/s",
         spread_of(decode_rates(engine_options, 64, 96)),
         fmt::format("batch {}, context 64 to 160", batch));
}

void Bench::decode_share(int batch, int context, int new_tokens, double copy_bytes_per_second) {
  context = std::min(context, model_->max_positions() - new_tokens);
  EngineOptions engine_options;
  engine_options.max_live_sequences = batch;
  engine_options.cache_tokens = std::int64_t{batch} * (context + new_tokens + 64);
  engine_options.reuse_prefixes = false;
  engine_options.graphs = options_.graphs;
  engine_options.run_ahead = options_.run_ahead;
  const Spread rate = spread_of(decode_rates(engine_options, context, new_tokens));
  const ModelInfo& info = model_->info();
  const double value_bytes =
      static_cast<double>(info.weight_bytes) / static_cast<double>(info.parameters);
  const double table = info.is_tied ? 0 : value_bytes * info.vocab_size * info.width;
  const double positions = context + 0.5 * new_tokens;
  const double cache = 2 * value_bytes * info.layers * info.kv_heads * info.head_dim * positions;
  const double bytes = static_cast<double>(info.weight_bytes) - table + batch * cache;
  const double limit = batch * copy_bytes_per_second / bytes;
  print(fmt::format(
      R"({{"case":"decode share","shape":"{}, batch {}, context {} to {}","unit":"tokens/s","median":{:.1f},"low":{:.1f},"high":{:.1f},"n":{},"copy_TB_per_s":{:.3f},"limit":{:.1f},"share":{:.3f},"graphs":{},"run_ahead":{},"device":"{}","precision":"{}"}})",
      label(), batch, context, context + new_tokens, rate.median, rate.low, rate.high,
      options_.repetitions, copy_bytes_per_second / 1e12, limit,
      limit > 0 ? rate.median / limit : 0, options_.graphs, engine_options.run_ahead,
      to_string(info.device), to_string(info.precision)));
}

void Bench::prefill(int length) {
  Engine engine(model_, {.max_tokens_per_step = length, .reuse_prefixes = false});
  std::vector<double> rates;
  for (int repeat = 0; repeat <= options_.repetitions; ++repeat) {
    Request request;
    request.prompt = prompt(length, repeat);
    request.max_new_tokens = 1;
    request.ignore_end_tokens = true;
    const auto start = Clock::now();
    Sequence sequence = engine.start(request);
    engine.finish(sequence);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (repeat > 0) rates.push_back(length / seconds);
  }
  report("prefill", "tokens/s", spread_of(rates), fmt::format("1 x {}", length));
}

void Bench::train_step(int prompts, int group, Branch branch) {
  const auto problems =
      load_problems(std::filesystem::path(options_.model) / "problems" / "train.jsonl");
  auto soft = std::make_shared<SoftVocab>(model_);
  const TokenId row = soft->add("learned", model_->tokenizer()->encode("Wait", {AddSpecial::no}));
  Engine engine(model_, {.soft = soft, .max_live_sequences = prompts * group});
  TrainOptions options;
  options.rollout.guides = {continue_thinking({.with = {row}})};
  options.rollout.sampling.temperature = 1.0f;
  options.group_size = group;
  options.branch = branch;
  Trainer trainer(engine, soft, row, correct(), options);
  std::vector<double> rollout, update, whole;
  for (int repeat = 0; repeat <= options_.repetitions; ++repeat) {
    const auto first = static_cast<std::size_t>(repeat * prompts);
    const TrainReport report =
        trainer.step(std::span(problems).subspan(first, static_cast<std::size_t>(prompts)));
    if (repeat == 0) continue;
    rollout.push_back(report.rollout_seconds);
    update.push_back(report.update_seconds);
    whole.push_back(report.rollout_seconds + report.update_seconds);
  }
  const std::string shape =
      fmt::format("{} prompts x {} samples, parting at the {}", prompts, group,
                  branch == Branch::at_prompt ? "prompt" : "soft token");
  report("train step: rollout", "s", spread_of(rollout), shape);
  report("train step: update", "s", spread_of(update), shape);
  report("train step", "s", spread_of(whole), shape);
}

}  // namespace pensive::bench
