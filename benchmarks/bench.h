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
  bool single = false, only_guides = false;
  std::string shape;  // a random checkpoint of this shape instead of `model`
  bool graphs = true;
  bool grid = false, profile = false;  // of `shape`
};

struct Shape;

// Of the repetitions.
struct Spread {
  double median = 0, low = 0, high = 0;
};

Spread spread_of(std::vector<double> values);

class Bench {
 public:
  explicit Bench(const Options& options);
  ~Bench();

  void decode(int batch, Arithmetic arithmetic);
  void prefill(int length);
  // Decode of a random checkpoint, with the share of what the card's memory allows: every weight
  // but the embedding table, and every key and value, read once a step.
  void decode_share(int batch, int context, int new_tokens, double copy_bytes_per_second);
  // Steps of every batch and context, each as a share of what the card's memory allows.
  void grid(const Shape& shape, double copy_bytes_per_second);
  // Where the time of a step goes, kernel by kernel.
  void profile(const Shape& shape, double copy_bytes_per_second);
  void train_step(int prompts, int group, Branch branch);
  // What every guide of the catalogue costs, armed and never firing: tokens/s over those without
  // one, taken in turns.
  void guides(int batch);

 private:
  void report(std::string_view name, std::string_view unit, const Spread& spread,
              std::string_view shape);
  void print(std::string_view line);
  std::vector<double> decode_rates(const EngineOptions& options, int context, int new_tokens);
  std::vector<TokenId> prompt(int length, int salt) const;

  Options options_;
  std::shared_ptr<const Model> model_;
  std::FILE* file_ = nullptr;
};

}  // namespace pensive::bench
