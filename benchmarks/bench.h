// One benchmark program: each case is one JSON line. Figures count on the device that is named, and
// as ratios within one run.
#pragma once
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "pensive/train.h"

namespace pensive::bench {

struct Options {
  std::string model = "examples/reasoner";
  std::string device = "auto";
  Precision precision = Precision::as_stored;
  std::string out;  // a folder; empty: standard output only
  int repetitions = 5;
  bool single = false;       // only what peers are compared with
  bool only_guides = false;  // what each costs
  bool only_engine = false;  // running ahead or not, all guides together, forks
  bool only_forks = false;
  bool only_memory = false;  // loading, and what was planned and taken
  bool graphs = true, run_ahead = true;

  std::string shape;  // a random checkpoint of this shape instead of `model`; "own": `model` itself
  std::string shapes;                        // the folder where such are kept
  bool grid = false, profile = false;        // single steps, and their parts
  bool invariant = false;                    // the price of row-invariant steps
  Arithmetic arithmetic = Arithmetic::fast;  // of `profile`
  bool training = false;                     // prefill and training, not decode
  bool only_grpo = false;                    // of these, whole training steps
  bool only_prefill = false;                 // of these, prompts
  bool only_overlap = false;                 // of these, decode steps and backwards at once
  bool exact_logprobs = false;               // of training steps, in turns with fast ones
  bool waits = false;                        // each training step for a line of standard input
  std::vector<int> batch_tokens;             // of a backward, in turns; empty: the default
  int samples = 512, new_tokens = 512;       // of a training step, and of each
  int mean_tokens = 0;                       // of samples whose lengths differ; 0: all are as long
  int prompt_tokens = 2048;                  // of prefill

  bool has_random_weights() const { return !shape.empty() && shape != "own"; }
};

struct Shape;

// Lines of JSON to standard output and, where there is a folder, to a file in it. Each gets the
// name of the card or processor.
class Lines {
 public:
  Lines(const std::string& folder, const std::string& name, const Device& device);
  ~Lines();
  Lines(const Lines&) = delete;
  Lines& operator=(const Lines&) = delete;
  void print(std::string_view line) const;

 private:
  std::string hardware_;
  std::FILE* file_ = nullptr;
};

// How fast weights come to the device, plainly and overlapped, in turns, with the page cache warm
// and cold; and on a card what was planned beside what was taken.
void memory(const Options& options);

// Of the repetitions.
struct Spread {
  double median = 0, low = 0, high = 0;
};

Spread spread_of(std::vector<double> values);

class Bench {
 public:
  explicit Bench(const Options& options);

  void run_ahead(bool does) { options_.run_ahead = does; }
  void decode(int batch, Arithmetic arithmetic);
  void prefill(int length);
  // Decode of a random checkpoint, with the share of what the card's memory allows: every weight
  // but the embedding table, and every key and value, read once a step.
  void decode_share(int batch, int context, int new_tokens, double copy_bytes_per_second);
  // Steps of every batch and context, each as a share of what the card's memory allows.
  void grid(const Shape& shape, double copy_bytes_per_second);
  // What row-invariant arithmetic costs a step, in turns with the fast one.
  void invariant(const Shape& shape);
  // Where the time of a step goes, kernel by kernel.
  void profile(const Shape& shape, double copy_bytes_per_second);
  void train_step(int prompts, int group, Branch branch);
  // FLOP/s of products in this precision, of two square matrices that fill the device.
  double product_rate() const;
  // Prefill of prompts in one step; a model's FLOP are those of its products and its attention.
  void prefill_share(int prompts, int length, double product_flops_per_second);
  // Whole training steps with the row fed at half and rewards by chance: seconds by phase, the
  // update's rate and memory, the gap between the engine's logprobs and the trainer's.
  void grpo(int prompts, int group, int new_tokens);
  // The gradient from the row on against that of whole sequences.
  void suffix_share(int count, int length);
  // Decode steps and backwards at once.
  void overlap(const Shape& shape, int batch);
  // What every guide of the catalogue costs, armed and never firing: tokens/s over those without
  // one, taken in turns.
  void guides(int batch);
  // The same of all that only watch together, and of all but those that ask the model.
  void all_guides(int batch);
  // One of each of the catalogue but those that ask the model, set so that it never acts.
  std::vector<std::shared_ptr<const Guide>> armed_guides(bool may_steer) const;
  // The host's time for a decode step on a card that needs none.
  void host(int batch, std::string_view name,
            const std::vector<std::shared_ptr<const Guide>>& guides);
  // The host's time for one fork of a sequence so long, or as long as the model's can be; of it so
  // many tokens are its prompt, 0: nearly all.
  void fork(int most_length, int prompt_tokens);

 private:
  class Grpo;
  std::vector<Request> guided_requests(
      int batch, int salt, const std::vector<std::shared_ptr<const Guide>>& guides) const;
  void compare_guides(Engine& engine, std::string_view name,
                      const std::vector<std::shared_ptr<const Guide>>& guides);
  // What lines call the model: its folder's name, with "real" before it for --shape own.
  std::string label() const;
  void report(std::string_view name, std::string_view unit, const Spread& spread,
              std::string_view shape);
  void print(std::string_view line) const { lines_->print(line); }
  std::vector<double> decode_rates(const EngineOptions& options, int context, int new_tokens);
  std::vector<TokenId> prompt(int length, int salt) const;
  std::vector<std::vector<TokenId>> prompts(int count, int length) const;

  Options options_;
  std::shared_ptr<const Model> model_;
  std::unique_ptr<const Lines> lines_;
};

}  // namespace pensive::bench
