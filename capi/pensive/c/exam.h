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

/* The names of the fields; null: as `kind` has them, or without one "question", "answer", "id".
 * `question` is a text, or a chat: then what the user says last in it. `answer_after`: the
 * reference is what follows this text in the answer field ("#### " for GSM8K); null takes the field
 * whole. */
typedef struct pensive_problem_fields {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */
  const char* question;
  const char* answer;
  const char* id;
  const char* answer_after;
  const char* body; /* a field that stands before the question, as SVAMP's Body does; or null */
  /* "plain" (question, answer), "gsm8k", "svamp", "math500", "aime" or "math"; "auto" or null:
   * found by the first problem's keys, but "plain" where one of the names here is given. Names
   * given go before a kind's own. */
  const char* kind;
  int32_t skip_broken; /* 1: what is no such problem is passed over; 0: it is an error */
  int32_t reserved2;   /* 0 */
  /* A list of the steps' right answers, or a text of which the results of its calculations are
   * taken, 4 of "<<2+2=4>>"; null: the list "intermediates" of those problems that have one. */
  const char* intermediates;
  const char* target_tokens; /* a whole number; null: "target_tokens", where there is one */
} pensive_problem_fields;
#define PENSIVE_PROBLEM_FIELDS_INIT \
  { sizeof(pensive_problem_fields), 0, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL }

/* Reads JSON lines, or one JSON array. Fails with PENSIVE_CORRUPT_FILE, naming line and key. */
PENSIVE_API int32_t pensive_problem_file_load(const char* file,
                                              const pensive_problem_fields* fields,
                                              PENSIVE_OWN pensive_problem_file** problems,
                                              pensive_error** error);
/* The problems; the arrays live as long as the file's handle. */
PENSIVE_API int32_t pensive_problem_file_get(const pensive_problem_file* file,
                                             pensive_problems* problems, pensive_error** error);
/* How many lines or entries were passed over, and why the one number `index` was, or null. The text
 * lives as long as the file's handle. */
PENSIVE_API int32_t pensive_problem_file_broken(const pensive_problem_file* file);
PENSIVE_API const char* pensive_problem_file_broken_why(const pensive_problem_file* file,
                                                        int32_t index);
PENSIVE_API void pensive_problem_file_free(pensive_problem_file* file);

typedef struct pensive_exam_options {
  uint32_t struct_size;
  int32_t samples;                    /* a problem; 0: 1 */
  const pensive_request* request;     /* sampling, guides; no prompt, no seed; null: defaults */
  const pensive_prompting* prompting; /* null: the chat template over the question */
  uint64_t seed;                      /* arms with the same seed share their draws */
  void* user;
  void (*progress)(void* user, int32_t done, int32_t of); /* on the calling thread; may be null */
  const char* samples_file; /* where finished samples go as JSON lines; null: nowhere */
  /* A samples_file that holds something already is refused (PENSIVE_INVALID_ARGUMENT) but for
   * one of these, 1: it is kept and not sat again, where it is of these problems (by id, question
   * and reference), samples and seed: judge, request and engine are not compared; it is lost when
   * the first sample is there. */
  int32_t resume;
  int32_t overwrite;
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
/* The result of some samples of another alone, such as the long ones: those at `indices` of
 * pensive_exam_get_sample, each at most once, over as many problems. */
PENSIVE_API int32_t pensive_exam_summarized(const pensive_exam* exam, const int32_t* indices,
                                            size_t count, PENSIVE_OWN pensive_exam** some,
                                            pensive_error** error);

typedef struct pensive_exam_result {
  uint32_t struct_size;
  int32_t problems;
  int32_t samples; /* in all */
  int32_t reserved;
  double accuracy;
  double standard_error; /* what other problems would change: clustered by problem */
  double low, high;      /* 95% */
  double mean_tokens;
  double mean_first_answer; /* where the first answer opens, share of the response */
  double truncated_share;
  double mean_think_tokens, mean_answer_tokens, mean_probe_tokens;
  double seconds_p50, seconds_p95; /* of a sample */
  /* Likewise where the first partial answer opens (one of the problem's intermediates or its
   * reference; without intermediates, the first that another follows), and the first right one. */
  double mean_first_partial, mean_first_correct;
  double strict_accuracy; /* of the answers in \boxed{} only */
  double strict_low, strict_high;
  double boxed_share;
  double mean_flops;              /* of all that was decoded after the prompt, probes included */
  double tokens_low, tokens_high; /* 95% of mean_tokens, over problems */
  double sample_error; /* what other samples would change; NaN where a problem has one alone */
} pensive_exam_result;
#define PENSIVE_EXAM_RESULT_INIT                                                                   \
  {                                                                                                \
    sizeof(pensive_exam_result), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
        0, 0, 0                                                                                    \
  }
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
  double first_partial, first_correct;
  double strict_score; /* the score where the answer stands in a box, else 0 */
  double flops;
  int32_t is_boxed;
  int32_t reserved;
} pensive_exam_sample;
#define PENSIVE_EXAM_SAMPLE_INIT \
  { sizeof(pensive_exam_sample), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, 0, 0, 0, 0, 0, 0 }
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

/* s1's measures of a way to think longer (arXiv 2501.19393, section 3.2), over runs on the same
 * problems with different budgets. */
typedef struct pensive_exam_scaling_result {
  uint32_t struct_size;
  uint32_t reserved;
  double control;     /* share of runs whose thinking is as long as was asked; NaN: nothing was */
  double slope;       /* mean over pairs: accuracy, a share, for each thinking token more */
  double performance; /* the best accuracy */
} pensive_exam_scaling_result;
#define PENSIVE_EXAM_SCALING_RESULT_INIT \
  { sizeof(pensive_exam_scaling_result), 0, 0, 0, 0 }
/* `least` and `most`: the mean thinking tokens that were asked of each run, or both null. */
PENSIVE_API int32_t pensive_exam_scaling(const pensive_exam* const* runs, size_t count,
                                         const double* least, const double* most,
                                         pensive_exam_scaling_result* result,
                                         pensive_error** error);

typedef struct pensive_exam_difference {
  uint32_t struct_size;
  uint32_t reserved;
  double difference; /* accuracy of b minus accuracy of a */
  double low, high;  /* 95%, paired by problem */
  double token_difference;
  double errors_removed; /* share of a's errors that b does not make; NaN, as its interval, where a
                          * makes none */
  double errors_low, errors_high;
  double p_value;             /* two-sided, that the arms do not differ: McNemar's or sign flips */
  int32_t improved, worsened; /* problems on which b scores higher, and lower */
  double detectable; /* the smallest difference that four of five such exams would show; 1: none */
} pensive_exam_difference;
#define PENSIVE_EXAM_DIFFERENCE_INIT \
  { sizeof(pensive_exam_difference), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
/* Two arms over the same problems. */
PENSIVE_API int32_t pensive_exam_compare(const pensive_exam* a, const pensive_exam* b,
                                         pensive_exam_difference* difference,
                                         pensive_error** error);
/* With intervals of another confidence than 0.95, such as 1 - 0.05 / m for one of m arms. */
PENSIVE_API int32_t pensive_exam_compare_at(const pensive_exam* a, const pensive_exam* b,
                                            double confidence, pensive_exam_difference* difference,
                                            pensive_error** error);

#ifdef __cplusplus
}
#endif
#endif
