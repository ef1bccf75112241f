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
} pensive_problems;
#define PENSIVE_PROBLEMS_INIT \
  { sizeof(pensive_problems), 0, NULL, NULL, NULL, 0, NULL }

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

/* Members that are 0 mean the number named. */
typedef struct pensive_train_options {
  uint32_t struct_size;
  int32_t group_size;                 /* samples a problem; 16 */
  const pensive_request* rollout;     /* temperature, limits, guides; no prompt; null: defaults */
  const pensive_prompting* prompting; /* null: the chat template over the question */
  double learning_rate;               /* Adam's, on the row itself; 0.02 */
  double clip;                        /* 0.2 */
  double max_gradient_norm;           /* not clipped */
  uint64_t seed;
  int32_t total_steps;      /* cosine decay to 0 over this many; 0 keeps the rate */
  int32_t inner_steps;      /* updates from one set of rollouts; 1 */
  int32_t max_batch_tokens; /* padded positions in one backward; 16384 */
  int32_t branch;           /* a pensive_branch */
} pensive_train_options;
#define PENSIVE_TRAIN_OPTIONS_INIT \
  { sizeof(pensive_train_options), 0, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0 }

/* `row` is the id of the soft row to improve; the engine must have been made with `soft`. The
 * rollout's guides are expected to feed it. */
PENSIVE_API int32_t pensive_trainer_new(pensive_engine* engine, pensive_soft* soft, int32_t row,
                                        const pensive_judge* judge,
                                        const pensive_train_options* options,
                                        PENSIVE_OWN pensive_trainer** trainer,
                                        pensive_error** error);
PENSIVE_API void pensive_trainer_free(pensive_trainer* trainer);

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
  double mean_logprob_gap; /* |engine - trainer| over sampled suffix tokens, nats */
  double max_logprob_gap;
  double rollout_seconds;
  double update_seconds;
} pensive_train_report;
#define PENSIVE_TRAIN_REPORT_INIT \
  { sizeof(pensive_train_report), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/* Rolls out, judges, and updates the row once. `report` may be null. On failure nothing changed. */
PENSIVE_API int32_t pensive_trainer_step(pensive_trainer* trainer, const pensive_problems* problems,
                                         pensive_train_report* report, pensive_error** error);
PENSIVE_API int32_t pensive_trainer_steps_done(const pensive_trainer* trainer); /* 0 for null */

/* Row, optimizer state and step count; whole, or not there. Resuming refuses a checkpoint of
 * another model, row or setting, naming both values. */
PENSIVE_API int32_t pensive_trainer_save_checkpoint(const pensive_trainer* trainer,
                                                    const char* file, pensive_error** error);
PENSIVE_API int32_t pensive_trainer_resume(pensive_trainer* trainer, const char* file,
                                           pensive_error** error);

#ifdef __cplusplus
}
#endif
#endif
