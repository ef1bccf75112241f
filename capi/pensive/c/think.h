/* think: guides, small state machines that steer a sequence: three of them, or your own. */
#ifndef PENSIVE_C_THINK_H
#define PENSIVE_C_THINK_H
#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a token belongs to. Markers belong to the segment that they open or close. */
enum { PENSIVE_SEGMENT_PROMPT = 0, PENSIVE_SEGMENT_THINK = 1, PENSIVE_SEGMENT_ANSWER = 2 };
enum {
  PENSIVE_MARKER_NONE = 0,
  PENSIVE_MARKER_THINK_OPEN = 1,
  PENSIVE_MARKER_THINK_CLOSE = 2,
  PENSIVE_MARKER_ANSWER_OPEN = 3,
  PENSIVE_MARKER_ANSWER_CLOSE = 4
};
/* How a token came to be. */
enum { PENSIVE_ORIGIN_PROMPT = 0, PENSIVE_ORIGIN_SAMPLED = 1, PENSIVE_ORIGIN_FORCED = 2 };
enum {
  PENSIVE_STOP_RUNNING = 0,   /* not finished */
  PENSIVE_STOP_END_TOKEN = 1, /* the model ended its turn */
  PENSIVE_STOP_LENGTH = 2,    /* max_new_tokens, or the model's positions, are used up */
  PENSIVE_STOP_GUIDE = 3,     /* a guide asked for it */
  PENSIVE_STOP_CANCELLED = 4, /* pensive_sequence_cancel() */
  PENSIVE_STOP_ERROR = 5,     /* a guide failed; the trace says how */
  PENSIVE_STOP_STOP_TEXT = 6, /* one of the request's stop texts came */
  PENSIVE_STOP_DEADLINE = 7   /* the request's time was over */
};
enum { PENSIVE_CLOSE_BUDGET = 0, PENSIVE_CLOSE_BRAKE = 1, PENSIVE_CLOSE_OTHER = 2 };

/* A prototype: every sequence that is started with it, and every fork, gets a clone of its own.
 * Immutable; any number of requests and threads may share one, and it may be freed at any time. */
typedef struct pensive_guide pensive_guide;
PENSIVE_API void pensive_guide_free(pensive_guide* guide);

typedef struct pensive_budget_options {
  uint32_t struct_size;
  int32_t max_think_tokens; /* over all thinking; 0: 2048 */
  int32_t window_tokens;    /* this long before the limit a sentence end closes already; 0: 32, or
                               the limit where that is less; -1: none */
  int32_t reserved;         /* 0 */
} pensive_budget_options;
#define PENSIVE_BUDGET_OPTIONS_INIT \
  { sizeof(pensive_budget_options), 0, 0, 0 }
/* Ends the thinking by the limit: at a line or sentence end shortly before it, else at it. */
PENSIVE_API int32_t pensive_guide_new_budget(const pensive_budget_options* options,
                                             PENSIVE_OWN pensive_guide** guide,
                                             pensive_error** error);

typedef struct pensive_continue_options {
  uint32_t struct_size;
  int32_t times;            /* closers replaced before one is let through; 0: 1 */
  const int32_t* with;      /* what replaces a closer: a word, or one soft id */
  size_t with_count;        /* at least 1 */
  int32_t max_think_tokens; /* closers from here on are let through; 0: no limit */
  int32_t reserved;         /* 0 */
} pensive_continue_options;
#define PENSIVE_CONTINUE_OPTIONS_INIT \
  { sizeof(pensive_continue_options), 0, NULL, 0, 0, 0 }
/* Continue-thinking (arXiv 2506.11274): a sampled closer of the thinking is replaced in place. */
PENSIVE_API int32_t pensive_guide_new_continue(const pensive_continue_options* options,
                                               PENSIVE_OWN pensive_guide** guide,
                                               pensive_error** error);

typedef struct pensive_margin_brake_options {
  uint32_t struct_size;
  float max_margin_nats;    /* 0: 0.1; below 0: exactly none */
  const int32_t* closer;    /* the ids that close the thinking; of several the first is watched */
  size_t closer_count;      /* at least 1 */
  int32_t min_think_tokens; /* no brake before this many */
  int32_t reserved;         /* 0 */
} pensive_margin_brake_options;
#define PENSIVE_MARGIN_BRAKE_OPTIONS_INIT \
  { sizeof(pensive_margin_brake_options), 0, NULL, 0, 0, 0 }
/* ThinkBrake (arXiv 2510.00546): after a line or sentence end in thinking, closes there if the best
 * logprob exceeds the closer's by at most the margin. */
PENSIVE_API int32_t pensive_guide_new_margin_brake(const pensive_margin_brake_options* options,
                                                   PENSIVE_OWN pensive_guide** guide,
                                                   pensive_error** error);

/* One token and its surroundings, for the duration of the call. */
typedef struct pensive_moment {
  uint32_t struct_size;
  int32_t token;
  const int32_t* tokens; /* the prompt and all that is kept, ending with `token` */
  size_t token_count;
  int32_t prompt_tokens; /* how many of them are prompt */
  int32_t segment;       /* PENSIVE_SEGMENT_… */
  int32_t origin;        /* PENSIVE_ORIGIN_… */
  int32_t completes;     /* the PENSIVE_MARKER_… whose last token this is */
  int32_t marker_tokens; /* its length in tokens */
  int32_t think_tokens;  /* thinking tokens kept so far, markers not counted */
  int32_t new_tokens;    /* kept tokens after the prompt */
  int32_t top_token;     /* the likeliest token */
  float top_logprob;
  float logprob; /* at temperature 1, before any bias; NaN for forced tokens */
  float entropy_nats;
  float reserved;
  const char* text; /* what this token added to the text; not zero-terminated */
  size_t text_size;
  const char* tail; /* the last 64 bytes or so of the text; not zero-terminated */
  size_t tail_size;
  const float* watched; /* logprobs of pensive_guide_callbacks.watches; sampled tokens only */
  size_t watched_count;
  int32_t next;           /* PENSIVE_SEGMENT_… where the next token will stand */
  int32_t pending_tokens; /* how many of the last may still become a marker */
} pensive_moment;

/* What a guide wants. The members of one kind are read, the others must stay zero. */
enum {
  PENSIVE_PROCEED = 0, /* go on; the biases hold for the next step only */
  PENSIVE_ALLOW = 1,   /* the next step may draw only tokens t whose bit t % 32 of mask[t / 32] is
                          set; missing words are zeros */
  PENSIVE_FORCE = 2,   /* take the last `replaces_last` tokens back, then feed `tokens`; with
                          none of them, what stood there is drawn again, under what guides wished
                          for that draw and these biases */
  PENSIVE_CLOSE = 3,   /* end the thinking: take back `replaces_last`, then, at the next line or
                          sentence end but at most `within_tokens` later, feed the closing */
  PENSIVE_PROBE = 4,   /* ask on the side: fork from `from_back` tokens back, feed `tokens`, decode
                          without guides; on_probe() receives the result */
  PENSIVE_STOP = 5     /* end the sequence here */
};

/* Arrays stay the callback's; they are copied when it returns. */
typedef struct pensive_action {
  uint32_t struct_size; /* set by pensive before the call */
  int32_t kind;         /* PENSIVE_PROCEED … */
  const int32_t*
      bias_tokens; /* proceed, force: the logit of bias_tokens[i] grows by bias_logits[i] */
  const float* bias_logits;         /* null: 0 */
  const float* bias_max_minus_mean; /* and by this times (max - mean of the logits); null: 0 */
  size_t bias_count;
  const uint32_t* mask; /* allow */
  size_t mask_words;
  const int32_t* tokens; /* force, probe */
  size_t token_count;
  const char* const* stop_texts; /* probe: ends at any of these */
  size_t stop_text_count;
  int32_t replaces_last;  /* force, close */
  int32_t reason;         /* close: PENSIVE_CLOSE_… */
  int32_t within_tokens;  /* close */
  int32_t from_back;      /* probe */
  int32_t max_new_tokens; /* probe; 0: 16 */
  float temperature;      /* probe; 0 is greedy */
} pensive_action;

typedef struct pensive_probe_reply {
  uint32_t struct_size;
  uint8_t is_refused; /* 1: no page was free, nothing was decoded */
  uint8_t reserved[3];
  const int32_t* tokens; /* what was decoded */
  const float* logprobs; /* of each, at temperature 1 */
  size_t count;
  const char* text; /* not zero-terminated */
  size_t text_size;
} pensive_probe_reply;

/* A guide of your own. Callbacks run on the thread that steps the engine; one that returns anything
 * but PENSIVE_OK ends its own sequence with PENSIVE_STOP_ERROR, others go on. `action` arrives as
 * PENSIVE_PROCEED without biases: what is not touched means "go on". */
typedef struct pensive_guide_callbacks {
  uint32_t struct_size;
  uint8_t needs_markers;  /* 1: a request without thinking markers is refused */
  uint8_t reserved[3];    /* 0 */
  const char* name;       /* what traces call it; copied; at least one character */
  const int32_t* watches; /* tokens whose logprobs every moment shall hold; copied; may be null */
  size_t watch_count;
  void* user;
  /* Every token, forced ones too. Required. */
  int32_t (*on_token)(void* user, const pensive_moment* moment, pensive_action* action);
  /* Once, before the first token; `moment->token` is the last of the prompt. May be null. */
  int32_t (*on_start)(void* user, const pensive_moment* moment, pensive_action* action);
  /* The result of a PENSIVE_PROBE. Null: proceeds. */
  int32_t (*on_probe)(void* user, const pensive_probe_reply* reply, pensive_action* action);
  /* What was really carried out (biases and masks left out), whoever asked; was_mine is 1 where
   * this guide did. May be null. */
  int32_t (*on_done)(void* user, const pensive_action* done, int32_t was_mine);
  /* A state for another sequence, equal to this one; null means out of memory. Each state is
   * destroyed by itself. Without this callback all sequences share `user`. */
  void* (*clone)(void* user);
  void (*destroy)(void* user); /* may be null */
} pensive_guide_callbacks;
#define PENSIVE_GUIDE_CALLBACKS_INIT                                                            \
  {                                                                                             \
    sizeof(pensive_guide_callbacks), 0, {0, 0, 0}, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, \
        NULL, NULL                                                                              \
  }
PENSIVE_API int32_t pensive_guide_new(const pensive_guide_callbacks* callbacks,
                                      PENSIVE_OWN pensive_guide** guide, pensive_error** error);

#ifdef __cplusplus
}
#endif
#endif
