// What `pensive train` may be told.
#pragma once
#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pensive/exam.h"
#include "pensive/train.h"
#include "shell.h"

namespace pensive::shell {

struct TrainFlags {
  static constexpr const char* default_start = "Wait";
  ModelFlags model;
  RoomFlags room;
  RequestFlags request;
  ProblemFlags problems;
  TrainOptions train;
  std::string file, out, checkpoint, log, rates, name = "continue";
  std::optional<std::string> start;  // default_start; none may be given for a row of --soft
  std::string reward = "boxed+correct", grader;
  std::string graded_by;  // the grader's fingerprint, once rewards() has loaded it
  std::vector<int> times_from;
  std::vector<double> pass_rate;  // lowest, highest
  int steps = 40;
  int prompts = 24;
  int save_every = 1;
  bool resume = false;
  bool overwrite = false;

  void add_to(CLI::App& app);
  // Loads the grader. Throws invalid_argument for a reward that is none.
  std::vector<Reward> rewards();
  // With the rollouts' guides, of which the one that feeds the row.
  TrainOptions options(const Model& model, const SoftVocab& soft);
  // As TrainOptions::run has it: a line for each flag that the trainer does not see, and for a
  // cache that may end samples of which the trainer knows nothing, those of --pass-rate.
  std::string run(std::span<const Problem> all, const Engine& engine,
                  const TrainOptions& options) const;
  // Throws invalid_argument: nothing that is there already gets lost by a mistake.
  void check() const;
  // Likewise, where a run that goes on would write its row over something else.
  void check_out(const std::shared_ptr<const Model>& of) const;
  // All problems, or with --bad-lines skip those whose prompts fit. Throws invalid_argument.
  std::vector<Problem> with_prompts(const Trainer& trainer, const std::vector<Problem>& all) const;
};

// The problems whose rate lies within flags.pass_rate: measured, or read where a run that was
// interrupted has written them to flags.rates. Throws invalid_argument where none is left.
std::vector<Problem> keep_by_rate(const Trainer& trainer, const std::vector<Problem>& problems,
                                  const TrainFlags& flags);

}  // namespace pensive::shell
