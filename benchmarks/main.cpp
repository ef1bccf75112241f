// What the benchmark program takes, and which cases that asks for.
#include <fmt/core.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <filesystem>
#include <map>

#include "bench.h"
#include "shapes.h"

namespace pensive::bench {
namespace {

void add_where(CLI::App& app, Options& options) {
  static const std::map<std::string, Precision> precisions = {{"float32", Precision::float32},
                                                              {"bfloat16", Precision::bfloat16},
                                                              {"float16", Precision::float16}};
  app.add_option("-m,--model", options.model, "a checkpoint's folder")->capture_default_str();
  app.add_option("--device", options.device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  app.add_option_function<std::string>(
         "--precision", [&](const std::string& name) { options.precision = precisions.at(name); },
         "default: as stored")
      ->check(CLI::IsMember(precisions));
  app.add_option("--out", options.out, "a folder for the lines");
  app.add_option("--repetitions", options.repetitions)
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("!--no-graphs", options.graphs, "decode without CUDA graphs");
  app.add_flag("!--no-run-ahead", options.run_ahead, "steps wait for guides");
}

void add_what(CLI::App& app, Options& options) {
  app.add_flag("--single", options.single, "only what peers are compared with");
  app.add_flag("--guides", options.only_guides, "only what guides cost");
  app.add_flag("--engine", options.only_engine,
               "only the engine's own part: running ahead or not, all guides together, forks");
  app.add_flag("--forks", options.only_forks, "only forks");
  app.add_flag("--memory", options.only_memory,
               "how fast weights load, and what was planned and taken");
  app.add_option(
      "--shape", options.shape,
      "r1-1.5b, llama-1b or smollm2: decode of random weights of that shape, and its share of the "
      "card's copy bandwidth; --model gives the tokenizer. own: of the checkpoint itself");
  options.shapes = (std::filesystem::temp_directory_path() / "pensive-shapes").string();
  app.add_option("--shapes", options.shapes, "where such checkpoints are written, and kept")
      ->capture_default_str();
  app.add_flag("--grid", options.grid,
               "with --shape: single steps of batches 1 to 256 at contexts 512, 8,192 and 32,768");
  app.add_flag("--profile", options.profile, "with --shape: where the time of a step goes");
  app.add_flag("--invariant", options.invariant,
               "with --shape: what row-invariant steps cost; with --profile: the parts of those");
}

void add_training(CLI::App& app, Options& options) {
  app.add_flag("--training", options.training, "with --shape: prefill and training");
  app.add_flag("--grpo", options.only_grpo, "with --training: whole training steps only");
  app.add_flag("--prefill", options.only_prefill, "with --training: prompts only");
  app.add_flag("--overlap", options.only_overlap,
               "with --training: only decode steps and backwards at once");
  app.add_flag("--exact-logprobs", options.exact_logprobs,
               "of --training's steps: exact logprobs in turns with fast ones, both after "
               "row-invariant rollouts");
  app.add_option("--samples", options.samples, "of --training, in groups of 16")
      ->capture_default_str();
  app.add_option("--new-tokens", options.new_tokens, "of a sample")->capture_default_str();
  app.add_option("--mean-tokens", options.mean_tokens,
                 "of --training's samples, whose lengths then differ, up to --new-tokens");
  app.add_option("--prompt-tokens", options.prompt_tokens, "of --training's prefill")
      ->capture_default_str();
  app.add_option("--batch-tokens", options.batch_tokens,
                 "of a backward, several in turns; default: the trainer's");
  app.add_flag("--wait", options.waits,
               "each training step waits for a line of standard input, so that peers can have "
               "their turns");
}

void measure_steps(const Options& options) {
  const Shape& shape = shape_named(options.shape);
  Bench bench(options);
  const double copies = copy_bandwidth();
  if (options.grid) bench.grid(shape, copies);
  if (options.profile) bench.profile(shape, copies);
  if (options.invariant && !options.profile) bench.invariant(shape);
}

void measure_training(const Options& options, Bench& bench) {
  if (options.only_overlap) {
    for (const int batch : {8, 64}) bench.overlap(shape_named(options.shape), batch);
    return;
  }
  if (!options.only_grpo) {
    const double product = bench.product_rate();
    for (const int prompts : {1, 4, 8})
      bench.prefill_share(prompts, options.prompt_tokens, product);
    if (options.only_prefill) return;
    bench.suffix_share(std::min(options.samples, 32), 512);
  }
  bench.grpo(options.samples / 16, 16, options.new_tokens);
}

void measure_forks(Bench& bench) {
  for (const int prompt_tokens : {0, 64}) bench.fork(8192, prompt_tokens);
}

void measure_engine(const Options& options, Bench& bench) {
  const double copies = options.shape.empty() ? 0 : copy_bandwidth();
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
  measure_forks(bench);
}

void measure_shape(const Options& options, Bench& bench) {
  const double copies = copy_bandwidth();
  bench.decode_share(1, 64, 512, copies);
  if (!options.single)
    for (const int batch : {2, 4, 8, 16, 32}) bench.decode_share(batch, 512, 64, copies);
  bench.decode_share(64, 512, 128, copies);
  if (options.single) {
    const double product = bench.product_rate();
    for (const int prompts : {1, 4}) bench.prefill_share(prompts, options.prompt_tokens, product);
  } else {
    bench.decode_share(1, 8192, 64, copies);
  }
}

void measure_model(const Options& options, Bench& bench) {
  if (options.only_guides) {
    for (int batch : {1, 64}) bench.guides(batch);
    return;
  }
  if (options.single) {
    bench.decode(1, Arithmetic::fast);
    bench.prefill(512);
    return;
  }
  for (int batch : {1, 8, 64, 192}) bench.decode(batch, Arithmetic::fast);
  for (int batch : {1, 64}) bench.decode(batch, Arithmetic::row_invariant);
  bench.prefill(512);
  for (int batch : {1, 64}) bench.guides(batch);
  if (!std::filesystem::exists(std::filesystem::path(options.model) / "problems")) return;
  for (const Branch branch : {Branch::at_prompt, Branch::at_soft_token})
    bench.train_step(24, 8, branch);
}

void measure(Options options) {
  if (options.invariant) options.arithmetic = Arithmetic::row_invariant;
  if (options.grid || options.profile || options.invariant) return measure_steps(options);
  if (options.has_random_weights()) {
    const std::filesystem::path made = std::filesystem::path(options.shapes) / options.shape;
    if (!std::filesystem::exists(made / "model.safetensors"))
      write_checkpoint(shape_named(options.shape), options.model, made);
    options.model = made.string();
  }
  if (options.only_memory) return memory(options);
  Bench bench(options);
  if (options.training) return measure_training(options, bench);
  if (options.only_forks) return measure_forks(bench);
  if (options.only_engine) return measure_engine(options, bench);
  return options.shape.empty() ? measure_model(options, bench) : measure_shape(options, bench);
}

}  // namespace
}  // namespace pensive::bench

int main(int argc, char** argv) try {
  pensive::bench::Options options;
  CLI::App app("pensive's benchmarks: one JSON line a case");
  pensive::bench::add_where(app, options);
  pensive::bench::add_what(app, options);
  pensive::bench::add_training(app, options);
  CLI11_PARSE(app, argc, argv);
  pensive::bench::measure(options);
  return 0;
} catch (const std::exception& error) {
  fmt::print(stderr, "pensive-bench: {}\n", error.what());
  return 1;
}
