// What a Trainer holds between steps.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/inside.h"
#include "pensive/train.h"
#include "train/steps.h"
#include "train/watch.h"

namespace pensive {

// Throw invalid_argument, naming the option.
void check_options(const TrainOptions& options);
void check_rewards(std::span<const Reward> rewards);
// The rollouts' temperature; refuses what the loss is not of.
double check_sampling(const Model& model, const Sampling& sampling);

// What the judges say of a step's samples.
struct Scores {
  at::Tensor rewards;                  // float64 [problems, group]
  std::vector<double> mean_parts;      // of each Reward
  std::vector<std::uint8_t> is_ended;  // a sample: 1 where a limit ended it
};

// What one update learns from: the suffixes, and the sequences they are of.
struct Lesson {
  std::vector<Suffix> suffixes;
  std::vector<std::size_t> sources;
  std::int64_t drawn = 0;      // tokens of all sequences, with and without an advantage
  std::int64_t decoded = 0;    // likewise
  std::int64_t dependent = 0;  // drawn behind the row, in all samples that are not masked
  bool has_advantage = false;  // any of the suffixes
};

struct Trainer::Parts {
  Engine& engine;
  std::shared_ptr<SoftVocab> soft;
  TokenId row = 0;
  std::vector<Reward> rewards;
  TrainOptions options;
  std::shared_ptr<const Tokenizer> tokenizer;  // also knows the soft rows by name
  PromptOf prompt_of;
  double temperature = 1;      // of the rollouts
  std::vector<float> started;  // the row when training began
  Adam adam;
  Watch watch;
  int steps = 0;
  int asked = 0;  // the longest sequence that the requests of the steps so far allow
  std::optional<TrainReport> report;  // of the last step
  std::optional<Problem> example;  // the first of the last step: its prompt shows the system text

  // All that a resumed run must have in common with the run that wrote its checkpoint, as text.
  nlohmann::ordered_json settings() const;
  // The longest sequence that the engine holds: the model's positions, or the cache's.
  int longest_held() const;
  // The longest that these could have become, were there no cache.
  int longest_asked(std::span<const Sequence> sequences) const;
  // group_size finished sequences a problem, problem by problem; `round` keys the draws, and
  // `first` is the place of the first of these problems among those of the round. Samples part at
  // `branch`.
  std::vector<Sequence> roll_out(std::span<const Problem> problems, std::uint64_t round,
                                 Branch branch, std::size_t first = 0) const;
  // A request for the samples of one problem, its prompt aside.
  Request request_of(std::uint64_t seed) const;
  // Whether a group's other samples are forks of its first, and whether they may begin yet.
  bool is_forked(const Sequence& first, Branch branch) const;
  bool may_branch(const Sequence& first, Branch branch) const;
  // Throws where a sample ended with an error, or was drawn from what the loss is not of.
  void check_rollouts(std::span<const Problem> problems, std::span<const Sequence> sequences) const;
  Scores judge_all(std::span<const Problem> problems, std::span<const Sequence> sequences) const;
  // All inner steps, on `values` and `next`, which are the row and the optimizer after them.
  void learn(std::span<const Sequence> sequences, Lesson& lesson, std::vector<float>& values,
             Adam& next, TrainReport& report) const;
  // All inner steps on copies, handed over at the end: an Error on the way leaves all as it was.
  void update(std::span<const Sequence> sequences, const Scores& scores, TrainReport& report);
};

}  // namespace pensive
