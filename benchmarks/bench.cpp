// Decode, prefill, the price of row-invariant arithmetic, one training step.
#include "bench.h"

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
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
  }
  if (is_steps) name += options.grid ? "-grid" : options.profile ? "-parts" : "-invariant";
  if (options.only_engine) name += "-engine";
  lines_ = std::make_unique<const Lines>(options.out, name, model_->info().device);
}

void Bench::report(std::string_view name, std::string_view unit, const Spread& spread,
                   std::string_view shape) {
  print(fmt::format(
      R"({{"case":"{}","shape":"{}","unit":"{}","median":{:.4g},"low":{:.4g},"high":{:.4g},"n":{},"device":"{}","precision":"{}","model":"{}"}})",
      name, shape, unit, spread.median, spread.low, spread.high, options_.repetitions,
      to_string(model_->info().device), to_string(model_->info().precision),
      std::filesystem::path(options_.model).filename().string()));
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
      options_.shape, batch, context, context + new_tokens, rate.median, rate.low, rate.high,
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

int main(int argc, char** argv) try {
  using namespace pensive;
  bench::Options options;
  CLI::App app("pensive's benchmarks: one JSON line a case");
  app.add_option("-m,--model", options.model, "a checkpoint's folder")->capture_default_str();
  app.add_option("--device", options.device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  const std::map<std::string, Precision> precisions = {{"float32", Precision::float32},
                                                       {"bfloat16", Precision::bfloat16},
                                                       {"float16", Precision::float16}};
  app.add_option_function<std::string>(
         "--precision", [&](const std::string& name) { options.precision = precisions.at(name); },
         "default: as stored")
      ->check(CLI::IsMember(precisions));
  app.add_option("--out", options.out, "a folder for the lines");
  app.add_option("--repetitions", options.repetitions)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--single", options.single, "one sequence only: what peers are compared with");
  app.add_flag("--guides", options.only_guides, "only what guides cost");
  app.add_flag("--engine", options.only_engine,
               "only the engine's own part: running ahead or not, all guides together, forks");
  app.add_option(
      "--shape", options.shape,
      "r1-1.5b, llama-1b or smollm2: decode of random weights of that shape, and its share of the "
      "card's copy bandwidth; --model gives the tokenizer");
  app.add_flag("--grid", options.grid,
               "with --shape: single steps of batches 1 to 256 at contexts 512, 8,192 and 32,768");
  app.add_flag("--profile", options.profile, "with --shape: where the time of a step goes");
  app.add_flag("--invariant", options.invariant,
               "with --shape: what row-invariant steps cost; with --profile: the parts of those");
  std::string folder = (std::filesystem::temp_directory_path() / "pensive-shapes").string();
  app.add_option("--shapes", folder, "where such checkpoints are written, and kept")
      ->capture_default_str();
  app.add_flag("!--no-graphs", options.graphs, "decode without CUDA graphs");
  app.add_flag("!--no-run-ahead", options.run_ahead, "steps wait for guides");
  app.add_flag("--training", options.training, "with --shape: prefill and training");
  int most_samples = 512, new_tokens = 512, prompt_tokens = 2048;
  app.add_option("--samples", most_samples, "of --training, in groups of 16")
      ->capture_default_str();
  app.add_option("--new-tokens", new_tokens, "of a sample")->capture_default_str();
  app.add_option("--batch-tokens", options.batch_tokens,
                 "of a backward, several in turns; default: the trainer's");
  app.add_flag("--grpo", options.only_grpo, "with --training: whole training steps only");
  bool only_prefill = false;
  app.add_flag("--prefill", only_prefill, "with --training: prompts only");
  app.add_option("--mean-tokens", options.mean_tokens,
                 "of --training's samples, whose lengths then differ, up to --new-tokens");
  app.add_flag("--wait", options.waits,
               "each training step waits for a line of standard input, so that peers can have "
               "their turns");
  app.add_flag("--overlap", options.only_overlap,
               "with --training: only decode steps and backwards at once");
  app.add_option("--prompt-tokens", prompt_tokens, "of --training's prefill")
      ->capture_default_str();
  bool only_memory = false;
  app.add_flag("--memory", only_memory, "how fast weights load, and what was planned and taken");
  CLI11_PARSE(app, argc, argv);
  if (options.invariant) options.arithmetic = Arithmetic::row_invariant;
  if (options.grid || options.profile || options.invariant) {
    const bench::Shape& shape = bench::shape_named(options.shape);
    bench::Bench bench(options);
    const double copies = bench::copy_bandwidth();
    if (options.grid) bench.grid(shape, copies);
    if (options.profile) bench.profile(shape, copies);
    if (options.invariant && !options.profile) bench.invariant(shape);
    return 0;
  }
  if (!options.shape.empty()) {
    const std::filesystem::path made = std::filesystem::path(folder) / options.shape;
    if (!std::filesystem::exists(made / "model.safetensors"))
      bench::write_checkpoint(bench::shape_named(options.shape), options.model, made);
    options.model = made.string();
  }
  if (only_memory) {
    bench::memory(options);
    return 0;
  }
  bench::Bench bench(options);
  if (options.training) {
    if (options.only_overlap) {
      for (const int batch : {8, 64}) bench.overlap(bench::shape_named(options.shape), batch);
      return 0;
    }
    if (!options.only_grpo) {
      const double product = bench.product_rate();
      for (const int prompts : {1, 4, 8}) bench.prefill_share(prompts, prompt_tokens, product);
      if (only_prefill) return 0;
      bench.suffix_share(std::min(most_samples, 32), 512);
    }
    bench.grpo(most_samples / 16, 16, new_tokens);
    return 0;
  }
  if (options.only_engine) {
    const double copies = options.shape.empty() ? 0 : bench::copy_bandwidth();
    for (const bool run_ahead : {true, false}) {
      bench.run_ahead(run_ahead);
      bench.decode_share(1, 64, 512, copies);
      bench.all_guides(1);
      for (const int batch : {1, 64}) {
        bench.host(batch, "no guides", {});
        bench.host(batch, "guides that only watch", bench.armed_guides(false));
        bench.host(batch, "and those that steer", bench.armed_guides(true));
      }
    }
    bench.fork(8192);
    return 0;
  }
  if (!options.shape.empty()) {
    const double copies = bench::copy_bandwidth();
    bench.decode_share(1, 64, 512, copies);
    for (const int batch : {2, 4, 8, 16, 32}) bench.decode_share(batch, 512, 64, copies);
    bench.decode_share(64, 512, 128, copies);
    bench.decode_share(1, 8192, 64, copies);
    return 0;
  }
  if (options.only_guides) {
    for (int batch : {1, 64}) bench.guides(batch);
    return 0;
  }
  if (options.single) {
    bench.decode(1, Arithmetic::fast);
    bench.prefill(512);
    return 0;
  }
  for (int batch : {1, 8, 64, 192}) bench.decode(batch, Arithmetic::fast);
  for (int batch : {1, 64}) bench.decode(batch, Arithmetic::row_invariant);
  bench.prefill(512);
  for (int batch : {1, 64}) bench.guides(batch);
  if (std::filesystem::exists(std::filesystem::path(options.model) / "problems")) {
    for (const Branch branch : {Branch::at_prompt, Branch::at_soft_token})
      bench.train_step(24, 8, branch);
  }
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "pensive-bench: {}\n", error.what());
  return 1;
}
