// Rewards as `pensive train --reward` spells them.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pensive/train.h"
#include "shell.h"

namespace pensive::shell {

// What may stand in a text of rewards, for a help text.
inline constexpr std::string_view reward_help =
    "boxed, correct, strict (correct in a box) or price (-1 a token), or a sum of them such as "
    "correct+0.001*price. Of another R: lcpo-exact(R), lcpo-max(R), hybrid(R); also with "
    "target=TOKENS (default: each problem's own), per-token=0.0003, offset=0.5 (lcpo-max), "
    "find=lenient (hybrid): lcpo-max(correct,target=512)";

// The terms of the sum, each named by its text without the weight. `ask` grades in hybrid(R); it
// may be empty where none is. Throws invalid_argument for a text that is none.
std::vector<Reward> parse_rewards(std::string_view text, const AskModel& ask);
// Whether a text of rewards has a hybrid(R).
bool asks_a_model(std::string_view text);

// A checkpoint that grades, greedily, one prompt after the other. Loaded here.
struct GradingModel {
  AskModel ask;
  std::uint64_t fingerprint = 0;
};
GradingModel make_grader(ModelFlags model, const std::string& directory);

// Who says what is right in an exam.
struct Grading {
  std::shared_ptr<const Judge> judge;
  std::string model;  // fingerprint of the checkpoint that grades; empty: none does
};
struct GraderFlags {
  std::string directory;

  void add_to(CLI::App& app);
  // correct(); with a checkpoint named hybrid(correct()), which asks it: the paper's grading.
  Grading load(const ModelFlags& model) const;
};

}  // namespace pensive::shell
