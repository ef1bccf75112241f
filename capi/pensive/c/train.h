/* train: improves one soft row by reinforcement; the model never changes. */
#ifndef PENSIVE_C_TRAIN_H
#define PENSIVE_C_TRAIN_H
#include "base.h"
#include "engine.h"
#include "judge.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One thread at a time, the one that steps the engine. Keeps its engine, rows and judge alive. */
typedef struct pensive_trainer pensive_trainer;

/* Problems as arrays of `count` texts: to pass a part of them, move the pointers. */
typedef struct pensive_problems {
  uint32_t struct_size;
  uint32_t reserved;      /* 0 */
  const char* const* ids; /* null: their numbers */
  const char* const* questions;
  const char* const* references;
  size_t count;
  const int32_t*
      target_tokens; /* null: nothing is asked of the length; else as in pensive_problem */
  /* Of each problem the right answers of its steps, and how many; both null: none. */
  const char* const* const* intermediates;
  const size_t* intermediate_counts;
} pensive_problems;
#define PENSIVE_PROBLEMS_INIT \
  { sizeof(pensive_problems), 0, NULL, NULL, NULL, 0, NULL, NULL, NULL }

/* How a problem becomes a prompt: the chat template over `system` (null: no system message) and the
 * question; or, where `prompt_of` is given, what it returns: ids that stay the callback's and are
 * copied when it returns. Anything but PENSIVE_OK fails the call that asked, with that status. */
typedef struct pensive_prompting {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */
  const char* system;
  void* user;
  int32_t (*prompt_of)(void* user, const pensive_problem* problem, const int32_t** ids,
                       size_t* count);
  void (*destroy)(void* user); /* may be null */
} pensive_prompting;
#define PENSIVE_PROMPTING_INIT \
  { sizeof(pensive_prompting), 0, NULL, NULL, NULL, NULL }

/* Where the samples of a problem part: each begins at the prompt, or one goes on to its first soft
 * token and is forked there, which costs less and has less variance. */
typedef enum pensive_branch {
  PENSIVE_BRANCH_AT_PROMPT = 0,
  PENSIVE_BRANCH_AT_SOFT_TOKEN = 1
} pensive_branch;

/* What a reward less its group's mean is divided by, plus 1e-4; none: nothing. */
typedef enum pensive_advantage_scale {
  PENSIVE_SCALE_GROUP = 0, /* the standard deviation of the group's rewards, with n - 1 */
  PENSIVE_SCALE_BATCH = 1, /* that of all rewards of the step */
  PENSIVE_SCALE_NONE = 2
} pensive_advantage_scale;

/* What the sum over tokens is divided by; groups without spread are always counted. */
typedef enum pensive_denominator {
  PENSIVE_DENOMINATOR_DRAWN_TOKENS = 0,  /* all that were drawn: TRL's loss "dapo" */
  PENSIVE_DENOMINATOR_SUFFIX_TOKENS = 1, /* those drawn after the first soft token */
  PENSIVE_DENOMINATOR_CONSTANT = 2       /* samples x constant_tokens: TRL's "dr_grpo" */
} pensive_denominator;

typedef enum pensive_rate_unit {
  PENSIVE_RATE_ABSOLUTE = 0,
  PENSIVE_RATE_START_RMS = 1 /* multiples of the start row's root mean square */
} pensive_rate_unit;

/* Samples that a limit ended: judged as any other; with the reward 0; or judged and counted in
 * their group, but without a loss of their own. */
typedef enum pensive_truncated {
  PENSIVE_TRUNCATED_JUDGED = 0,
  PENSIVE_TRUNCATED_ZERO = 1,
  PENSIVE_TRUNCATED_MASKED = 2
} pensive_truncated;

/* How an update finds the logprobs of the tokens that were drawn: by a forward of its own; or by
 * the engine's kernels, bit for bit as they were drawn, so that the gap is 0. The latter wants an
 * engine that is row_invariant, and takes longer. */
typedef enum pensive_logprobs {
  PENSIVE_LOGPROBS_FAST = 0,
  PENSIVE_LOGPROBS_EXACT = 1
} pensive_logprobs;

#define PENSIVE_MAX_REWARDS 8

/* Members that are 0 mean the number named, or that the thing named is not done. include/pensive/
 * train.h tells more of each. */
typedef struct pensive_train_options {
  uint32_t struct_size;
  int32_t group_size;                 /* samples a problem; 16 */
  const pensive_request* rollout;     /* temperature (0.9), guides; no prompt, no seed; or null */
  const pensive_prompting* prompting; /* null: the chat template over the question */
  double learning_rate;               /* Adam's, on the row itself; 0.02 */
  double clip;                        /* 0.2 */
  double max_gradient_norm;           /* not clipped */
  uint64_t seed;
  int32_t total_steps;      /* cosine decay to 0 over this many; 0 keeps the rate */
  int32_t inner_steps;      /* updates from one set of rollouts; 1 */
  int32_t max_batch_tokens; /* in one backward at most, a longer sample's by itself; 4096 */
  int32_t branch;           /* a pensive_branch */
  /* Rewards besides a single judge: names that differ, judges, weights (null: 1 each); at most
   * PENSIVE_MAX_REWARDS. */
  const char* const* reward_names;
  const pensive_judge* const* reward_judges;
  const double* reward_weights;
  size_t reward_count;
  /* Each problem's samples get one of these in front of the other guides; may be null. */
  pensive_guide* const* one_of;
  size_t one_of_count;
  double clip_high;             /* as clip */
  double max_importance_weight; /* tokens are not weighted; TRL's cap is 2 */
  double kl;                    /* beta: no KL with the start row */
  double pull;                  /* no L2 pull to the start row */
  double max_row_norm;          /* no bound; */
  double max_row_distance;      /* at most one of these two */
  double stop_errors;           /* 3; below 0: never stops for a fallen reward */
  int32_t advantage_scale;      /* a pensive_advantage_scale */
  int32_t denominator;          /* a pensive_denominator */
  int32_t constant_tokens;      /* rollout->max_new_tokens */
  int32_t rate_unit;            /* a pensive_rate_unit */
  int32_t truncated;            /* a pensive_truncated */
  int32_t answer_tokens;        /* no tokens are kept for the answer */
  /* What this run is of, in any words, for pensive_trainer_resume() to compare: what decides what
   * is learned and the trainer cannot see, such as which problems, and what callbacks do. */
  const char* run;
  int32_t logprobs;  /* a pensive_logprobs; since 1.4 */
  uint32_t reserved; /* 0 */
} pensive_train_options;
#define PENSIVE_TRAIN_OPTIONS_INIT                                                             \
  {                                                                                            \
    sizeof(pensive_train_options), 0, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, 0, \
        NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 0, 0                             \
  }

/* `row` is the id of the soft row to improve; the engine must have been made with `soft`. The
 * rollout's guides are expected to feed it. `judge` is the reward where the options name none; null
 * then too: the paper's, boxed and correct. */
PENSIVE_API int32_t pensive_trainer_new(pensive_engine* engine, pensive_soft* soft, int32_t row,
                                        const pensive_judge* judge,
                                        const pensive_train_options* options,
                                        PENSIVE_OWN pensive_trainer** trainer,
                                        pensive_error** error);
PENSIVE_API void pensive_trainer_free(pensive_trainer* trainer);

/* Suffix tokens are those that went through the backward. */
typedef struct pensive_train_report {
  uint32_t struct_size;
  int32_t step; /* counted from 1 */
  double mean_reward;
  double mean_tokens;  /* decoded after the prompt */
  double spread_share; /* groups whose rewards differ; the others teach nothing */
  double loss;         /* at the first inner step */
  double gradient_norm;
  double clip_share; /* suffix tokens whose ratio was clipped, last inner step */
  double row_norm;
  double row_distance;     /* from where the row started */
  double mean_logprob_gap; /* |engine - trainer| over suffix tokens, nats */
  double max_logprob_gap;
  double rollout_seconds;
  double update_seconds;
  double judge_seconds;
  double mean_parts[PENSIVE_MAX_REWARDS]; /* of each reward, unweighted */
  double truncated_share;                 /* samples that a limit ended */
  double entropy_nats;                    /* of a suffix token's distribution */
  double kl_nats;                         /* of a suffix token; 0 without options.kl */
  double mean_weight;                     /* importance weight of a suffix token */
  double learning_rate;                   /* of this step, absolute */
  int32_t part_count;                     /* of mean_parts */
  int32_t best_step;   /* whose rollouts were by the best row so far; 0: not known yet */
  int32_t has_stopped; /* 1: the reward had fallen; no update, the row is the best one */
  int32_t reserved;    /* 0 */
} pensive_train_report;
#define PENSIVE_TRAIN_REPORT_INIT                                                                  \
  {                                                                                                \
    sizeof(pensive_train_report), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}, 0, 0, 0, 0, 0, 0, \
        0, 0, 0                                                                                    \
  }

/* Rolls out, judges, and updates the row once. `report` may be null. On failure nothing changed. */
PENSIVE_API int32_t pensive_trainer_step(pensive_trainer* trainer, const pensive_problems* problems,
                                         pensive_train_report* report, pensive_error** error);
PENSIVE_API int32_t pensive_trainer_steps_done(const pensive_trainer* trainer); /* 0 for null */
/* 1 after a step that has stopped: no other can be done. 0 for null. */
PENSIVE_API int32_t pensive_trainer_has_stopped(const pensive_trainer* trainer);

/* The report of the last step, also of one that was done before resuming; `step` is 0 before the
 * first. */
PENSIVE_API int32_t pensive_trainer_get_last_report(const pensive_trainer* trainer,
                                                    pensive_train_report* report,
                                                    pensive_error** error);
/* Makes the problems' prompts, one after the other, and fails as a step with the first that fails,
 * naming its problem: before a long run, not in the midst of it. */
PENSIVE_API int32_t pensive_trainer_check_prompts(pensive_trainer* trainer,
                                                  const pensive_problems* problems,
                                                  pensive_error** error);

/* Fills `rates`, one a problem, with the mean score of group_size samples of it, with the row as it
 * is: to leave out beforehand what is solved always or never. Changes nothing. */
PENSIVE_API int32_t pensive_trainer_pass_rates(pensive_trainer* trainer,
                                               const pensive_problems* problems,
                                               const pensive_judge* judge, double* rates,
                                               pensive_error** error);

/* Row, optimizer state, last report and step count; whole, or not there. Resuming refuses a
 * checkpoint of another model, row, setting or `run`, naming both values. Judges and guides that
 * are callbacks are compared by their names only. */
PENSIVE_API int32_t pensive_trainer_save_checkpoint(const pensive_trainer* trainer,
                                                    const char* file, pensive_error** error);
PENSIVE_API int32_t pensive_trainer_resume(pensive_trainer* trainer, const char* file,
                                           pensive_error** error);

#ifdef __cplusplus
}
#endif
#endif
