// What a Trainer holds between steps.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/inside.h"
#include "pensive/train.h"
#include "train/steps.h"

namespace pensive {

struct Trainer::Parts {
  Engine& engine;
  std::shared_ptr<SoftVocab> soft;
  TokenId row = 0;
  std::shared_ptr<const Judge> judge;
  TrainOptions options;
  std::shared_ptr<const Tokenizer> tokenizer;  // also knows the soft rows by name
  PromptOf prompt_of;
  double temperature = 1;      // of the rollouts
  std::vector<float> started;  // the row when training began
  Adam adam;
  int steps = 0;
  std::optional<Problem> example;  // the first of the last step: its prompt shows the system text

  // All that a resumed run must have in common with the run that wrote its checkpoint, as text.
  nlohmann::ordered_json settings() const;
  // group_size finished sequences a problem, problem by problem.
  std::vector<Sequence> roll_out(std::span<const Problem> problems);
  // Whether a group's other samples are forks of its first, and whether they may begin yet.
  bool is_forked(const Sequence& first) const;
  bool may_branch(const Sequence& first) const;
  // Throws where a sample ended with an error, or was drawn from what the loss is not of.
  void check_rollouts(std::span<const Problem> problems, std::span<const Sequence> sequences) const;
  // float64 [problems, group]
  at::Tensor judge_all(std::span<const Problem> problems,
                       std::span<const Sequence> sequences) const;
  // All inner steps on copies, handed over at the end: an Error on the way leaves all as it was.
  void update(std::span<const Sequence> sequences, const at::Tensor& rewards, TrainReport& report);
};

}  // namespace pensive
