// train: improves one row of a SoftVocab by reinforcement; the model never changes.
//
// Group-relative policy optimization (GRPO) as in "Learning a Continue-Thinking Token" (arXiv
// 2506.11274, section 2.3 and Table 4), with gradients computed from the first soft token on only:
// attention is causal, so nothing before it depends on the row. docs/math.md derives it.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "pensive/engine.h"
#include "pensive/judge.h"

namespace pensive {

// Where the samples of a problem part. What precedes the first soft token does not depend on the
// row: sampling it once for the whole group costs less and leaves the gradient unbiased, with less
// variance (docs/math.md).
enum class Branch : std::uint8_t {
  at_prompt,     // each sample begins at the prompt, as in the paper
  at_soft_token  // one sample goes on to its first soft token, and is forked there
};

struct TrainOptions {
  // Temperature, limits and guides of the rollouts; each problem supplies the prompt. Top-k and
  // top-p must be off, and guides may neither bias nor mask a draw: the loss is that of the whole
  // distribution.
  Request rollout{};
  PromptOf prompt_of{};  // empty: chat_prompt(tokenizer)
  int group_size = 16;   // samples a problem
  Branch branch = Branch::at_prompt;
  double learning_rate =
      0.02;             // Adam's, on the row itself; a step moves it by about rate x sqrt(width)
  int total_steps = 0;  // cosine decay to 0 over this many steps; 0 keeps the rate
  double clip = 0.2;
  int inner_steps = 1;           // mu: updates from one set of rollouts
  double max_gradient_norm = 0;  // 0: not clipped
  std::uint64_t seed = 0;
  int max_batch_tokens =
      16384;  // padded suffix positions in one backward; lower it for less memory
};

struct TrainReport {
  int step = 0;  // counted from 1
  double mean_reward = 0;
  double mean_tokens = 0;   // decoded after the prompt
  double spread_share = 0;  // groups whose rewards differ; the others teach nothing
  double loss = 0;          // of the suffix tokens, at the first inner step
  double gradient_norm = 0;
  double clip_share = 0;  // suffix tokens whose ratio was clipped, last inner step
  double row_norm = 0;
  double row_distance = 0;      // from where the row started
  double mean_logprob_gap = 0;  // |engine - trainer| over sampled suffix tokens, nats
  double max_logprob_gap = 0;
  double rollout_seconds = 0;
  double update_seconds = 0;
};

// One thread at a time, the one that steps the engine.
class PENSIVE_EXPORT Trainer {
 public:
  // `row` is the id of the soft row to improve; the engine must have been made with `soft`.
  // The rollout's guides are expected to feed it. The engine must outlive the trainer. Throws
  // invalid_argument or unsupported.
  Trainer(Engine& engine, std::shared_ptr<SoftVocab> soft, TokenId row,
          std::shared_ptr<const Judge> judge, const TrainOptions& options);
  ~Trainer();

  // Rolls out, judges, and updates the row once (inner_steps times). A step in which no group has
  // spread moves nothing, except that the schedule advances. On an Error nothing has changed.
  TrainReport step(std::span<const Problem> problems);
  int steps_done() const noexcept;

  // Row, optimizer state and step count, written aside and renamed. resume() throws
  // invalid_argument for a checkpoint of another model, row or setting, naming both values; guides
  // are compared by name, prompt_of by the prompt it makes of one problem of the last step.
  void save_checkpoint(const std::filesystem::path& file) const;
  void resume(const std::filesystem::path& file);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace pensive
