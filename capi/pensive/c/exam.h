/* exam: problems in; accuracy, tokens and honest intervals out. */
#ifndef PENSIVE_C_EXAM_H
#define PENSIVE_C_EXAM_H
#include "base.h"
#include "engine.h"
#include "judge.h"
#include "train.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A problem file, read. Immutable; any thread. */
typedef struct pensive_problem_file pensive_problem_file;

/* The names of the fields; null: "question", "answer", "id". `answer_after`: the reference is what
 * follows this text in the answer field ("#### " for GSM8K); null takes the field whole. */
typedef struct pensive_problem_fields {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */
  const char* question;
  const char* answer;
  const char* id;
  const char* answer_after;
} pensive_problem_fields;
#define PENSIVE_PROBLEM_FIELDS_INIT \
  { sizeof(pensive_problem_fields), 0, NULL, NULL, NULL, NULL }

/* Reads JSON lines. Fails with PENSIVE_CORRUPT_FILE, naming line and key. */
PENSIVE_API int32_t pensive_problem_file_load(const char* file,
                                              const pensive_problem_fields* fields,
                                              PENSIVE_OWN pensive_problem_file** problems,
                                              pensive_error** error);
/* The problems; the arrays live as long as the file's handle. */
PENSIVE_API int32_t pensive_problem_file_get(const pensive_problem_file* file,
                                             pensive_problems* problems, pensive_error** error);
PENSIVE_API void pensive_problem_file_free(pensive_problem_file* file);

typedef struct pensive_exam_options {
  uint32_t struct_size;
  int32_t samples;                    /* a problem; 0: 1 */
  const pensive_request* request;     /* sampling, limits, guides; no prompt; null: defaults */
  const pensive_prompting* prompting; /* null: the chat template over the question */
  uint64_t seed;                      /* arms with the same seed share their draws */
  void* user;
  void (*progress)(void* user, int32_t done, int32_t of); /* on the calling thread; may be null */
  const char* samples_file; /* where finished samples go as JSON lines; null: nowhere */
  int32_t resume;           /* 1: what samples_file holds is kept and not sat again; 0: lost */
  int32_t reserved;         /* 0 */
} pensive_exam_options;
#define PENSIVE_EXAM_OPTIONS_INIT \
  { sizeof(pensive_exam_options), 0, NULL, NULL, 0, NULL, NULL, NULL, 0, 0 }

/* One sitting of an exam. Immutable; any thread. */
typedef struct pensive_exam pensive_exam;

/* Asks all problems, judges the answers, sums up. The thread that steps the engine. */
PENSIVE_API int32_t pensive_exam_run(pensive_engine* engine, const pensive_problems* problems,
                                     const pensive_judge* judge,
                                     const pensive_exam_options* options,
                                     PENSIVE_OWN pensive_exam** exam, pensive_error** error);
/* What a samples_file holds. Fails with PENSIVE_CORRUPT_FILE, naming the line. */
PENSIVE_API int32_t pensive_exam_load(const char* samples_file, PENSIVE_OWN pensive_exam** exam,
                                      pensive_error** error);
PENSIVE_API void pensive_exam_free(pensive_exam* exam);

typedef struct pensive_exam_result {
  uint32_t struct_size;
  int32_t problems;
  int32_t samples; /* in all */
  int32_t reserved;
  double accuracy;
  double standard_error; /* clustered by problem */
  double low, high;      /* 95% */
  double mean_tokens;
  double mean_first_answer; /* where the first answer opens, share of the response */
  double truncated_share;
  double mean_think_tokens, mean_answer_tokens, mean_probe_tokens;
  double seconds_p50, seconds_p95; /* of a sample */
} pensive_exam_result;
#define PENSIVE_EXAM_RESULT_INIT \
  { sizeof(pensive_exam_result), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
PENSIVE_API int32_t pensive_exam_get_result(const pensive_exam* exam, pensive_exam_result* result,
                                            pensive_error** error);

typedef struct pensive_exam_sample {
  uint32_t struct_size;
  int32_t problem; /* index into the problems */
  int32_t sample;
  int32_t tokens; /* decoded after the prompt */
  double score;
  double first_answer;
  int32_t stopped; /* PENSIVE_STOP_… */
  int32_t think_tokens;
  int32_t answer_tokens;
  int32_t probe_tokens;
  double seconds;     /* from its start, waiting included */
  const char* answer; /* what it votes for; empty: nothing. Lives as long as the exam */
} pensive_exam_sample;
#define PENSIVE_EXAM_SAMPLE_INIT \
  { sizeof(pensive_exam_sample), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL }
/* Sample number `index`, ordered by problem, then sample. */
PENSIVE_API int32_t pensive_exam_get_sample(const pensive_exam* exam, int32_t index,
                                            pensive_exam_sample* sample, pensive_error** error);

/* A share with its 95% interval over problems. */
typedef struct pensive_exam_share {
  uint32_t struct_size;
  uint32_t reserved;
  double value;
  double low, high;
} pensive_exam_share;
#define PENSIVE_EXAM_SHARE_INIT \
  { sizeof(pensive_exam_share), 0, 0, 0, 0 }
/* The chance that one of k samples is right (Chen et al., arXiv 2107.03374, eq. 1). Fails where a
 * problem has fewer than k samples, or a score is neither 0 nor 1. */
PENSIVE_API int32_t pensive_exam_pass_at_k(const pensive_exam* exam, int32_t k,
                                           pensive_exam_share* share, pensive_error** error);
/* The chance that the answer most of k samples give is right: ties split, who has no answer does
 * not vote. Fails likewise. */
PENSIVE_API int32_t pensive_exam_majority_at_k(const pensive_exam* exam, int32_t k,
                                               pensive_exam_share* share, pensive_error** error);

typedef struct pensive_exam_difference {
  uint32_t struct_size;
  uint32_t reserved;
  double difference; /* accuracy of b minus accuracy of a */
  double low, high;  /* 95%, paired by problem */
  double token_difference;
  double errors_removed; /* share of a's errors that b does not make */
  double errors_low, errors_high;
  double p_value;             /* two-sided, that the arms do not differ: McNemar's or sign flips */
  int32_t improved, worsened; /* problems on which b scores higher, and lower */
} pensive_exam_difference;
#define PENSIVE_EXAM_DIFFERENCE_INIT \
  { sizeof(pensive_exam_difference), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
/* Two arms over the same problems. */
PENSIVE_API int32_t pensive_exam_compare(const pensive_exam* a, const pensive_exam* b,
                                         pensive_exam_difference* difference,
                                         pensive_error** error);

#ifdef __cplusplus
}
#endif
#endif
