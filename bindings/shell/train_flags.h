// What `pensive train` may be told.
#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "pensive/exam.h"
#include "pensive/train.h"
#include "shell.h"

namespace pensive::shell {

struct TrainFlags {
  ModelFlags model;
  RoomFlags room;
  RequestFlags request;
  ProblemFlags problems;
  TrainOptions train;
  std::string file, out, checkpoint, log, rates, name = "continue", start = "Wait";
  std::string reward = "boxed+correct", grader;
  std::vector<int> times_from;
  std::vector<double> pass_rate;  // lowest, highest
  int steps = 40;
  int prompts = 24;
  int save_every = 1;
  bool resume = false;
  bool overwrite = false;

  void add_to(CLI::App& app);
  // Loads the grader. Throws invalid_argument for a reward that is none.
  std::vector<Reward> rewards() const;
  // With the rollouts' guides, of which the one that feeds the row.
  TrainOptions options(const Model& model, const SoftVocab& soft);
};

// The problems whose rate lies within flags.pass_rate: measured, or read where a run that was
// interrupted has written them to flags.rates. Throws invalid_argument where none is left.
std::vector<Problem> keep_by_rate(const Trainer& trainer, const std::vector<Problem>& problems,
                                  const TrainFlags& flags);

}  // namespace pensive::shell
