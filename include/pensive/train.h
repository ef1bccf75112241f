// train: improves one row of a SoftVocab by reinforcement; the model never changes.
//
// Group-relative policy optimization (GRPO) as in "Learning a Continue-Thinking Token" (arXiv
// 2506.11274, section 2.3 and Table 4), with gradients computed from the first soft token on only:
// attention is causal, so nothing before it depends on the row. docs/math.md derives it.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
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

// What a reward less its group's mean is divided by, plus 1e-4. TRL calls it scale_rewards.
enum class AdvantageScale : std::uint8_t {
  group,  // the standard deviation of the group's rewards, with n - 1
  batch,  // that of all rewards of the step
  none    // 1, exactly (Dr. GRPO, arXiv 2503.20783)
};

// What the sum over tokens is divided by; groups without spread are always counted. The whole
// step's, however it is cut into batches.
enum class Denominator : std::uint8_t {
  drawn_tokens,   // all that were drawn after the prompts: TRL's loss "dapo"
  suffix_tokens,  // of these, those that the loss may depend on: drawn after the first soft token
  constant        // samples times constant_tokens: TRL's loss "dr_grpo"
};

enum class RateUnit : std::uint8_t {
  absolute,
  start_rms  // the root of the mean square of the row's numbers when training began
};

// Samples that a limit ended.
enum class Truncated : std::uint8_t {
  judged,  // as any other
  zero,    // have the reward 0 whatever the judges would say
  masked   // judged, and in the group's mean and deviation, but without a loss of their own
};

// How an update finds the logprobs of the tokens that were drawn.
enum class Logprobs : std::uint8_t {
  // By a forward of its own, packed, as fast as it can be: they differ from the engine's by what
  // the precision leaves (TrainReport::mean_logprob_gap).
  fast,
  // By the engine's row-invariant kernels: of the row that drew them they are the engine's, bit for
  // bit, so that the gap is 0 and every first ratio 1. Gradients go back through each layer from
  // the input it had there. Wants an engine whose arithmetic is row-invariant. An update takes two
  // to three times as long, of small models on a card up to five (docs/training.md).
  exact
};

// One term of the reward. Reports tell its mean without the weight.
struct Reward {
  std::string name;
  std::shared_ptr<const Judge> judge;
  double weight = 1;
};
// The paper's: boxed() and correct(), 1 each.
PENSIVE_EXPORT std::vector<Reward> paper_rewards();

struct TrainOptions {
  // Temperature (unset: the paper's 0.9), limits and guides of the rollouts; each problem supplies
  // the prompt. Top-k, top-p, min-p, penalties, biases and masks must be off, and guides may
  // neither bias nor mask a draw: the loss is that of the whole distribution.
  // With a prompt, a seed or a sample it is refused.
  Request rollout{};
  PromptOf prompt_of{};  // empty: chat_prompt(tokenizer)
  // Each problem's samples get one of these in front of rollout.guides, all equally likely, such as
  // continue_thinking() once, twice and three times. Empty: none.
  std::vector<std::shared_ptr<const Guide>> one_of{};
  // So many of rollout.max_new_tokens are kept for the answer: when the others are used up, the
  // thinking is closed wherever it stands. 0: none. The paper kept 1,024.
  int answer_tokens = 0;
  Truncated truncated = Truncated::judged;
  int group_size = 16;  // samples a problem
  Branch branch = Branch::at_prompt;

  AdvantageScale advantage_scale = AdvantageScale::group;
  Denominator denominator = Denominator::drawn_tokens;
  int constant_tokens = 0;  // of Denominator::constant; 0: rollout.max_new_tokens
  double clip = 0.2;        // ratios below 1 - clip earn nothing more
  double clip_high = 0;     // likewise above 1 + clip_high; 0: as clip
  int inner_steps = 1;      // mu: updates from one set of rollouts
  Logprobs logprobs = Logprobs::fast;
  // Each token's loss is weighted by min(p_trainer / p_engine, this), both before the first update;
  // 0: not at all. TRL's cap is 2.
  double max_importance_weight = 0;
  // beta: adds it times KL(row || the row when training began) by the k3 estimate of the drawn
  // tokens, exp(d) - d - 1 with d = logprob(then) - logprob(now). Costs one more forward a step.
  double kl = 0;
  double pull = 0;  // adds it times half the squared distance from where the row started

  // Adam's, on the row itself; a step moves it by about rate x sqrt(width).
  double learning_rate = 0.02;
  RateUnit rate_unit = RateUnit::absolute;
  int total_steps = 0;           // cosine decay to 0 over this many steps; 0 keeps the rate
  double max_gradient_norm = 0;  // 0: not clipped
  // After an update the row is drawn back to this norm, or to this distance from where it started.
  // At most one of the two; 0: no bound.
  double max_row_norm = 0;
  double max_row_distance = 0;
  // Stops where the mean reward of the last four steps is this many standard errors (of the
  // difference, over problems) below that of the first four; the row is then the best one of the
  // run: that before the last of the four steps with the highest mean. 0: never stops.
  double stop_errors = 3;

  std::uint64_t seed = 0;
  // Suffix positions in one backward at most, on a CPU with padding; fewer where a card has not the
  // memory. A longer suffix goes through whole, by itself. Twice as many take twice the memory and
  // are hardly faster (docs/training.md).
  int max_batch_tokens = 4096;

  // What this run is of, for resume() to compare: all that decides what is learned and that the
  // trainer cannot see, such as which problems, in which order, what a judge or a guide of the
  // caller's own was made with, and who grades. In any words; a difference is told by its line.
  std::string run{};
};

// Also what one backward takes, as MemoryPlan::training_bytes: of max_batch_tokens, or of one
// suffix of rollout.max_new_tokens (at most the model's positions) where that is more. It comes on
// top of a full cache and the steps: sequences keep their pages until the update is done. Throws
// invalid_argument for numbers of `training` that Trainer refuses.
PENSIVE_EXPORT MemoryPlan plan_memory(const std::filesystem::path& directory,
                                      const ModelOptions& model, const EngineOptions& options,
                                      const TrainOptions& training, const PlanOptions& plan = {});

// Of suffix tokens, those that went through the backward are meant: drawn after the first soft
// token of a sample with an advantage (with kl, of any sample).
struct TrainReport {
  int step = 0;  // counted from 1
  double mean_reward = 0;
  std::vector<double> mean_parts;  // of each Reward, in order
  double mean_tokens = 0;          // decoded after the prompt
  double truncated_share = 0;      // samples that a limit ended
  double spread_share = 0;         // groups whose rewards differ; the others teach nothing
  double loss = 0;                 // at the first inner step, as are the next two
  double gradient_norm = 0;        // before it is clipped
  double entropy_nats = 0;         // of a suffix token's distribution at the rollout's temperature
  double kl_nats = 0;              // k3 of a suffix token; 0 where TrainOptions::kl is 0
  double clip_share = 0;           // suffix tokens whose ratio was clipped, last inner step
  double mean_weight = 1;          // of a suffix token: see max_importance_weight
  double learning_rate = 0;        // that of this step, in absolute numbers
  double row_norm = 0;
  double row_distance = 0;      // from where the row started
  double mean_logprob_gap = 0;  // |engine - trainer| over suffix tokens, nats
  double max_logprob_gap = 0;
  double rollout_seconds = 0;
  double judge_seconds = 0;
  double update_seconds = 0;
  bool has_stopped = false;  // see stop_errors: this step did not update, the row is the best one
  int best_step = 0;         // whose rollouts were by the best row so far; 0: not known yet
};

// One thread at a time, the one that steps the engine.
class PENSIVE_EXPORT Trainer {
 public:
  // `row` is the id of the soft row to improve; the engine must have been made with `soft`.
  // The rollout's guides are expected to feed it. The engine must outlive the trainer. Throws
  // invalid_argument or unsupported. Names of rewards are UTF-8.
  Trainer(Engine& engine, std::shared_ptr<SoftVocab> soft, TokenId row, std::vector<Reward> rewards,
          const TrainOptions& options);
  // One reward, named "reward".
  Trainer(Engine& engine, std::shared_ptr<SoftVocab> soft, TokenId row,
          std::shared_ptr<const Judge> judge, const TrainOptions& options);
  ~Trainer();

  // Rolls out, judges, and updates the row once (inner_steps times). A step in which no group has
  // spread moves nothing, except that the schedule advances. On an Error nothing has changed. After
  // a step that has stopped, throws invalid_argument.
  TrainReport step(std::span<const Problem> problems);
  int steps_done() const noexcept;
  bool has_stopped() const noexcept;
  // That of the last step, also of one that was done before resume(); nothing before the first.
  std::optional<TrainReport> last_report() const;
  // The row when training began; after resume() as the checkpoint has it.
  std::vector<float> start_row() const;
  // Makes the problem's prompt and does nothing with it. Throws what step() would, such as
  // invalid_argument where it is longer than the cache: before a long run, not in the midst of it.
  void check_prompt(const Problem& problem) const;

  // The mean score of group_size samples of each problem, with the row as it is: with correct(),
  // how often each is solved, to leave out before training what is solved always or never. The
  // samples part at the prompt, whatever options.branch says. Changes nothing; draws of their own.
  std::vector<double> pass_rates(std::span<const Problem> problems, const Judge& judge) const;

  // Row, optimizer state, rewards so far, last report and step count, written aside and renamed.
  // resume() throws invalid_argument for a checkpoint of another model, precision, arithmetic, row,
  // setting or TrainOptions::run, naming both values; and for a cache that may have ended sequences
  // of the steps so far elsewhere: one of another length, where the shorter of the two does not
  // hold the longest prompt and max_new_tokens together. (Steps to come are as this cache has
  // them.) What checkpoints of older versions do not tell is taken to be the same. Guides and
  // judges of this library are compared with all their options, but for functions; others by their
  // names; prompt_of by the prompt it makes of one problem of the last step. Where arithmetic is
  // row-invariant, a resumed run on a CPU has the bits of an undisturbed one; on a card its
  // rollouts have, while updates add up as the card's free memory and libtorch's attention allow.
  void save_checkpoint(const std::filesystem::path& file) const;
  void resume(const std::filesystem::path& file);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace pensive
