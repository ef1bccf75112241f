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
  const char* stop_text; /* for PENSIVE_STOP_STOP_TEXT: the one that came; else "" */
} pensive_trace;
#define PENSIVE_TRACE_INIT                                                                         \
  {                                                                                                \
    sizeof(pensive_trace), 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, \
        0, NULL, 0, NULL, 0, 0, NULL, NULL, NULL                                                   \
  }
PENSIVE_API int32_t pensive_sequence_get_trace(const pensive_sequence* sequence,
                                               pensive_trace* trace, pensive_error** error);

/* One thing a guide had done. The texts live as long as the trace's view. */
typedef struct pensive_trace_action {
  uint32_t struct_size;
  int32_t position;   /* index into the columns of the token after which it was done */
  const char* guide;  /* its name */
  const char* kind;   /* "force", "close", "probe", "stop", "rewind" */
  const char* reason; /* "budget", "brake", …; of a rewind, "same" or "fresh"; or "" */
  int32_t tokens;     /* fed; for a probe, fed and decoded */
  int32_t taken_back;
} pensive_trace_action;
#define PENSIVE_TRACE_ACTION_INIT \
  { sizeof(pensive_trace_action), 0, NULL, NULL, NULL, 0, 0 }
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

#ifdef __cplusplus
}
#endif
#endif
