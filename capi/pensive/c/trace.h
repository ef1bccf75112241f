/* trace: everything that happened to one sequence, in columns. */
#ifndef PENSIVE_C_TRACE_H
#define PENSIVE_C_TRACE_H
#include "base.h"
#include "engine.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Columns of `count` entries, one per token: first the prompt, then all that was decoded in the
 * order in which it was, including what was taken back. A view: it lives until the engine steps, or
 * the sequence is fed or freed. Belongs to the thread that steps. */
typedef struct pensive_trace {
  uint32_t struct_size;
  int32_t stopped; /* PENSIVE_STOP_… */
  size_t count;
  const int32_t* tokens;
  const float* logprobs;       /* untruncated, temperature 1; NaN where not sampled */
  const float* drawn_logprobs; /* of the distribution it was drawn from; NaN likewise */
  const float* entropies_nats; /* untruncated, temperature 1; NaN likewise */
  const uint8_t* segments;     /* PENSIVE_SEGMENT_… */
  const uint8_t* origins;      /* PENSIVE_ORIGIN_… */
  const uint8_t* is_marker;
  const uint8_t* is_taken_back; /* 1 for tokens that a guide or the caller took back */
  int32_t prompt_tokens;
  int32_t probe_tokens;   /* fed and decoded on the side; not in the columns */
  int32_t decoded_tokens; /* everything after the prompt, taken back and probes too */
  int32_t think_tokens;   /* kept, markers not counted */
  int32_t answer_tokens;  /* likewise */
  int32_t action_count;
  uint64_t seed; /* what draws were keyed by: seed, sample, then path */
  const uint32_t* path;
  size_t path_count;
  const char* error; /* for PENSIVE_STOP_ERROR; else "" */
  uint32_t sample;
  int32_t top_count;         /* entries a token in the next two; 0: none were asked for */
  const int32_t* top_tokens; /* the likeliest first; -1 where there are none */
  const float* top_logprobs;
  const char* stop_text;     /* for PENSIVE_STOP_STOP_TEXT: the one that came; else "" */
  const uint8_t* is_steered; /* 1 where biases or a mask of guides were on the draw */
  const float* seconds;      /* when it came, from the request's start on; NaN for the prompt */
} pensive_trace;
#define PENSIVE_TRACE_INIT                                                                         \
  {                                                                                                \
    sizeof(pensive_trace), 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, \
        0, NULL, 0, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL                                       \
  }
PENSIVE_API int32_t pensive_sequence_get_trace(const pensive_sequence* sequence,
                                               pensive_trace* trace, pensive_error** error);

/* One thing a guide had done. The texts live as long as the trace's view. */
typedef struct pensive_trace_action {
  uint32_t struct_size;
  int32_t position;   /* index into the columns of the token after which it was done */
  const char* guide;  /* its name */
  const char* kind;   /* "force", "close", "probe", "stop", "rewind", "bias", "allow" */
  const char* reason; /* "budget", "brake", …; of a rewind, "same" or "fresh"; or "" */
  int32_t tokens;     /* fed; for a probe, fed and decoded */
  int32_t taken_back;
  int32_t draws;    /* of "bias" and "allow": how many in a row were steered like that */
  float seconds;    /* from the request's start on; of a probe, when it was answered */
  const char* text; /* of a probe: what it decoded; else "" */
} pensive_trace_action;
#define PENSIVE_TRACE_ACTION_INIT \
  { sizeof(pensive_trace_action), 0, NULL, NULL, NULL, 0, 0, 0, 0, NULL }
/* The action number `index`, 0 to action_count - 1. */
PENSIVE_API int32_t pensive_sequence_get_action(const pensive_sequence* sequence, int32_t index,
                                                pensive_trace_action* action,
                                                pensive_error** error);

/* Every token that was kept after the prompt. */
PENSIVE_API int32_t pensive_sequence_get_response(const pensive_sequence* sequence,
                                                  PENSIVE_OWN int32_t** ids, size_t* count,
                                                  pensive_error** error);

/* Writes the trace as one JSON line. `append`: 1 adds to what is there, 0 replaces the file. */
PENSIVE_API int32_t pensive_sequence_save_trace(const pensive_sequence* sequence, const char* file,
                                                int32_t append, pensive_error** error);

/* What a trace is measured by. Zero and NULL mean the defaults. */
typedef struct pensive_measure_options {
  uint32_t struct_size;
  uint32_t reserved;
  const char* reference;    /* the right answer; NULL: none is known */
  const char* answer_after; /* a step's answer stands behind this, such as "= "; NULL: it is found
                               as pensive_find_answer() does */
  const char* step_end;     /* what ends a step of thinking; NULL: a line end */
} pensive_measure_options;
#define PENSIVE_MEASURE_OPTIONS_INIT \
  { sizeof(pensive_measure_options), 0, NULL, NULL, NULL }

/* Tokens are after the prompt. A number without a meaning is -1, or NaN. */
typedef struct pensive_measures {
  uint32_t struct_size;
  int32_t decoded_tokens; /* the sum of the next five */
  int32_t think_tokens;
  int32_t answer_tokens;
  int32_t marker_tokens;
  int32_t taken_back_tokens;
  int32_t probe_tokens;
  int32_t forced_tokens;    /* of those kept */
  int32_t steered_tokens;   /* drawn under biases or a mask */
  int32_t tokens_to_answer; /* everything decoded before the first token of the answer */
  int32_t doubts;           /* "wait", "hmm", …: terms that the thinking holds */
  int32_t switches;         /* "alternatively" */
  int32_t answers;          /* that the thinking came to */
  int32_t answer_changes;
  int32_t first_think_tokens; /* until it first came to the reference, or to the final answer */
  int32_t think_tokens_after; /* after that */
  int32_t is_right;           /* 1 or 0 where there is a reference */
  int32_t reserved;
  double share_to_answer;
  double seconds_to_answer;
  double seconds; /* when the last token came */
  double doubt_share;
  double switch_interval;
  double eta;                /* first_think_tokens / think_tokens */
  double overthink_score;    /* self-braking, arXiv 2505.14604; beta 0.1 */
  double outcome_efficiency; /* arXiv 2412.21187 */
  double underthinking;      /* xi, arXiv 2501.18585 */
} pensive_measures;
#define PENSIVE_MEASURES_INIT                                                                      \
  {                                                                                                \
    sizeof(pensive_measures), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
        0, 0, 0                                                                                    \
  }
/* `options` may be NULL. */
PENSIVE_API int32_t pensive_sequence_measure(const pensive_sequence* sequence,
                                             const pensive_measure_options* options,
                                             pensive_measures* measures, pensive_error** error);

#ifdef __cplusplus
}
#endif
#endif
