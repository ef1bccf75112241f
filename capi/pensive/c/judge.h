/* judge: a response to a number. */
#ifndef PENSIVE_C_JUDGE_H
#define PENSIVE_C_JUDGE_H
#include "base.h"
#include "engine.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Immutable and thread-safe; may be freed at any time. */
typedef struct pensive_judge pensive_judge;
PENSIVE_API void pensive_judge_free(pensive_judge* judge);

/* 1 when the final answer of a response is the problem's reference, else 0. */
PENSIVE_API int32_t pensive_judge_new_correct(PENSIVE_OWN pensive_judge** judge,
                                              pensive_error** error);
/* Likewise, where an answer counts in a box only. */
PENSIVE_API int32_t pensive_judge_new_correct_boxed(PENSIVE_OWN pensive_judge** judge,
                                                    pensive_error** error);
/* 1 when the response holds a \boxed{…} answer, else 0. */
PENSIVE_API int32_t pensive_judge_new_boxed(PENSIVE_OWN pensive_judge** judge,
                                            pensive_error** error);
/* The sum of `first` and `weight` times `second`. */
PENSIVE_API int32_t pensive_judge_new_sum(const pensive_judge* first, const pensive_judge* second,
                                          double weight, PENSIVE_OWN pensive_judge** judge,
                                          pensive_error** error);

/* Minus `per_token` for each token of thinking and answer. */
PENSIVE_API int32_t pensive_judge_new_token_price(double per_token,
                                                  PENSIVE_OWN pensive_judge** judge,
                                                  pensive_error** error);

/* Length Controlled Policy Optimization (arXiv 2503.04697, equations 1 and 2). n is the response's
 * tokens, t the target. Null options: the defaults. */
typedef struct pensive_length_options {
  uint32_t struct_size;
  int32_t target_tokens; /* 0: each problem's own; one without is refused when it is scored */
  double per_token;      /* the paper's alpha; 0: 0.0003 */
  double offset;         /* the paper's delta, of lcpo_max only; 0: 0.5 */
} pensive_length_options;
#define PENSIVE_LENGTH_OPTIONS_INIT \
  { sizeof(pensive_length_options), 0, 0, 0 }
/* What `inner` gives minus per_token |t - n|. */
PENSIVE_API int32_t pensive_judge_new_lcpo_exact(const pensive_judge* inner,
                                                 const pensive_length_options* options,
                                                 PENSIVE_OWN pensive_judge** judge,
                                                 pensive_error** error);
/* What `inner` gives times per_token (t - n) + offset, cut to 0 and 1. */
PENSIVE_API int32_t pensive_judge_new_lcpo_max(const pensive_judge* inner,
                                               const pensive_length_options* options,
                                               PENSIVE_OWN pensive_judge** judge,
                                               pensive_error** error);

/* One problem, and one response to it, for the duration of a callback. Texts are zero-terminated,
 * and may hold further zero bytes where a size stands beside them. */
typedef struct pensive_problem {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */
  const char* id;
  const char* question;
  const char* reference;            /* the right answer, as text */
  const char* const* intermediates; /* right answers of its steps, in order, without the last */
  size_t intermediate_count;
  int32_t target_tokens;  /* how long the response shall be; 0: nothing is asked */
  uint32_t reserved_tail; /* 0 */
} pensive_problem;
typedef struct pensive_response {
  uint32_t struct_size;
  uint8_t is_truncated; /* 1: ended by a limit rather than by an end token */
  uint8_t reserved[3];
  const char* text; /* thinking and answer, with the markers between them */
  size_t text_size;
  const char* thinking; /* all thinking, joined */
  size_t thinking_size;
  const char* answer; /* all answers, joined; empty when none was opened */
  size_t answer_size;
  int32_t think_tokens;
  int32_t answer_tokens;
  /* The stretches of thinking and the answers, in order: each an entry of these five arrays. */
  size_t segment_count;
  const char* const* segment_texts; /* without the markers between them */
  const size_t* segment_text_sizes;
  const int32_t* segment_begins; /* tokens before it; its opening marker belongs to it */
  const int32_t* segment_tokens; /* kept, markers not counted */
  const uint8_t* segment_is_thinking;
  int32_t tokens;         /* all that were kept after the prompt, markers too */
  uint32_t reserved_tail; /* 0 */
} pensive_response;

/* A judge of your own. `score` may be called from several threads at once. Returning anything but
 * PENSIVE_OK fails the call that asked, with that status. */
typedef struct pensive_judge_callbacks {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */
  void* user;
  int32_t (*score)(void* user, const pensive_problem* problem, const pensive_response* response,
                   double* score);
  void (*destroy)(void* user); /* may be null */
} pensive_judge_callbacks;
#define PENSIVE_JUDGE_CALLBACKS_INIT \
  { sizeof(pensive_judge_callbacks), 0, NULL, NULL, NULL }
PENSIVE_API int32_t pensive_judge_new(const pensive_judge_callbacks* callbacks,
                                      PENSIVE_OWN pensive_judge** judge, pensive_error** error);

/* Lets a language model grade. `ask` gets a prompt for it (the question, the reference, the
 * response: arXiv 2506.11274) and sets `is_right` to 1 where the reply begins with "True", else to
 * 0. It may be called from several threads at once. Returning anything but PENSIVE_OK fails the
 * call that asked, with that status. */
typedef struct pensive_grader_callbacks {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */
  void* user;
  int32_t (*ask)(void* user, const char* prompt, size_t prompt_size, int32_t* is_right);
  void (*destroy)(void* user); /* may be null */
  int32_t is_lenient;     /* 1: an answer without a box is one too, as pensive_find_answer() has
                             it; 0: only one in a box, as in the paper */
  uint32_t reserved_tail; /* 0 */
} pensive_grader_callbacks;
#define PENSIVE_GRADER_CALLBACKS_INIT \
  { sizeof(pensive_grader_callbacks), 0, NULL, NULL, NULL, 0, 0 }
/* What `inner` gives where the response has an answer; only elsewhere is the grader asked, for 1 or
 * 0. */
PENSIVE_API int32_t pensive_judge_new_hybrid(const pensive_judge* inner,
                                             const pensive_grader_callbacks* grader,
                                             PENSIVE_OWN pensive_judge** judge,
                                             pensive_error** error);

/* What `judge` gives to this sequence as a response to a question whose answer is `reference`. */
PENSIVE_API int32_t pensive_sequence_score(const pensive_sequence* sequence,
                                           const pensive_judge* judge, const char* question,
                                           const char* reference, double* score,
                                           pensive_error** error);

/* The final answer written in a text; `answer` receives null where none is written. */
PENSIVE_API int32_t pensive_find_answer(const char* response, size_t size,
                                        PENSIVE_OWN char** answer, pensive_error** error);
/* Likewise, what stands in the last box only. */
PENSIVE_API int32_t pensive_find_boxed(const char* response, size_t size, PENSIVE_OWN char** answer,
                                       pensive_error** error);
/* `same` receives 1 where two answers are the same, else 0: numbers of any length, LaTeX, units,
 * lists, intervals, matrices, equations, expressions, choices, text (pensive/judge.h says what
 * counts). Never more than 10 ms. */
PENSIVE_API int32_t pensive_same_answer(const char* a, const char* b, int32_t* same,
                                        pensive_error** error);

#ifdef __cplusplus
}
#endif
#endif
