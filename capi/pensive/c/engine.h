/* engine: the one thing that runs. Many sequences go through the model together. */
#ifndef PENSIVE_C_ENGINE_H
#define PENSIVE_C_ENGINE_H
#include "base.h"
#include "model.h"
#include "think.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Advances every live sequence together. One thread at a time: a second one that meanwhile steps,
 * starts, forks, feeds, rewinds, trains or clears, and a callback that does, gets PENSIVE_BUSY.
 * Any thread may submit, and read the counters. */
typedef struct pensive_engine pensive_engine;

/* One live path through the cache. pensive_sequence_cancel() and pensive_sequence_free() may be
 * called from any thread, all else from the one that steps. A sequence keeps what it needs of its
 * engine alive; freeing it returns its pages. */
typedef struct pensive_sequence pensive_sequence;

typedef struct pensive_engine_options {
  uint32_t struct_size;
  int32_t page_tokens;         /* 0: 16 */
  const pensive_soft* soft;    /* rows that prompts and guides may feed; null: none */
  const pensive_log* log;      /* null: nobody listens */
  int64_t cache_tokens;        /* positions the cache can hold; 0: chosen by free memory */
  int32_t max_live_sequences;  /* more wait their turn; 0: 256 */
  int32_t max_tokens_per_step; /* 0: 2048 */
  uint8_t row_invariant;       /* 1: the same bits alone and in any batch, at a price in speed */
  uint8_t forget_prefixes;     /* 1: do not match prompts against pages computed before */
  uint8_t without_graphs;      /* 1: no CUDA graphs for decode steps; slower, to compare with */
  uint8_t without_run_ahead;   /* 1: guides are waited for before the next step is launched */
  uint8_t reserved[4];         /* 0 */
} pensive_engine_options;
#define PENSIVE_ENGINE_OPTIONS_INIT                                                    \
  {                                                                                    \
    sizeof(pensive_engine_options), 0, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, { 0, 0, 0, 0 } \
  }

PENSIVE_API int32_t pensive_engine_new(const pensive_model* model,
                                       const pensive_engine_options* options,
                                       PENSIVE_OWN pensive_engine** engine, pensive_error** error);
PENSIVE_API void pensive_engine_free(pensive_engine* engine);

/* What a model and an engine ask of their device, in bytes, before any of it is there. Weights,
 * soft rows and cache are exact, a step is the largest that the options allow. Row-invariant
 * prompts on a card work in room for 256 rows, part of prompt_step_bytes. */
typedef struct pensive_memory_plan {
  uint32_t struct_size;
  int32_t page_tokens;
  int64_t memory_bytes;      /* that there are for all of this */
  int64_t bytes;             /* all of this, together */
  int64_t weight_bytes;      /* and the angles of every position */
  int64_t soft_bytes;        /* rows of pensive_engine_options.soft */
  int64_t cache_bytes;       /* keys and values */
  int64_t prompt_step_bytes; /* a step of max_tokens_per_step: activations and logits */
  int64_t decode_step_bytes; /* what graphs of max_live_sequences rows work in */
  int64_t training_bytes;    /* of one backward, where training was planned for */
  int64_t runtime_bytes;     /* of CUDA and libtorch for themselves; 0 on a CPU */
  int64_t cache_tokens;      /* positions the cache will hold */
  int32_t most_sequences;    /* that could decode at once at `context`; 0 where it was not asked */
  uint8_t fits;              /* 1: bytes <= memory_bytes */
  uint8_t reserved[3];       /* 0 */
  const char* to_lower; /* the option that lowers the largest part; lives as the program does */
} pensive_memory_plan;
#define PENSIVE_MEMORY_PLAN_INIT \
  { sizeof(pensive_memory_plan), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, {0, 0, 0}, NULL }

/* Reads config.json and the heads of the safetensors of a folder, no weights. `training`: its
 * backward is planned for too, of max_batch_tokens or of one sample of rollout's max_new_tokens
 * where that is more; null: none. `memory_bytes`: what the device has; 0: what is free on it now;
 * given, no card need be there. `context`: how many sequences of so many positions could decode at
 * once if the cache took what all else leaves, at most the model's; 0: not asked. A plan that does
 * not fit is PENSIVE_OK. */
struct pensive_train_options;
PENSIVE_API int32_t pensive_plan_memory(const char* directory, const pensive_model_options* model,
                                        const pensive_engine_options* options,
                                        const struct pensive_train_options* training,
                                        int64_t memory_bytes, int32_t context,
                                        pensive_memory_plan* plan, pensive_error** error);

/* The ids by which a checkpoint opens and closes its thinking and its answers. */
typedef struct pensive_markers {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */
  const int32_t* think_open;
  size_t think_open_count;
  const int32_t* think_close;
  size_t think_close_count;
  const int32_t* answer_open;
  size_t answer_open_count;
  const int32_t* answer_close;
  size_t answer_close_count;
} pensive_markers;
#define PENSIVE_MARKERS_INIT \
  { sizeof(pensive_markers), 0, NULL, 0, NULL, 0, NULL, 0, NULL, 0 }

/* What to generate. Everything is copied; nothing need outlive the call that takes it. */
typedef struct pensive_request {
  uint32_t struct_size;
  uint32_t given;        /* PENSIVE_GIVEN_… bits: which of the next four, and begins_in, count */
  float temperature;     /* else from the checkpoint, else 1; 0 is greedy */
  float top_p;           /* else from the checkpoint, else 1 */
  int32_t top_k;         /* else from the checkpoint, else 0 = all */
  int32_t begins_in;     /* PENSIVE_SEGMENT_…: where the text goes on after the prompt; else the
                            prompt's last marker tells */
  uint64_t seed;         /* else a fresh one, recorded in the trace */
  const int32_t* prompt; /* at least one; soft ids allowed; for trainer and exam: none */
  size_t prompt_count;
  pensive_guide* const* guides; /* the first that wants something has its way; may be null */
  size_t guide_count;
  const pensive_markers* markers; /* null: found in the tokenizer, or none */
  const int32_t* closing;         /* what a close feeds; none: the marker's own text */
  size_t closing_count;
  const int32_t* extra_stop_tokens;
  size_t extra_stop_count;
  int32_t max_new_tokens;    /* kept, forced and taken back together; 0: 4096 */
  uint32_t sample;           /* the number of this sample of the request; keys the draws */
  uint8_t ignore_end_tokens; /* 1: go on after the model ends its turn */
  uint8_t reserved[7];       /* 0 */
  float min_p;               /* given; else 0: keeps what is so likely, measured by the likeliest */
  float repetition_penalty; /* given; else 1: over prompt and output, as in Transformers and vLLM */
  float presence_penalty;   /* over the output, as OpenAI defines these two */
  float frequency_penalty;
  const int32_t* bias_tokens; /* each once */
  const float* biases;        /* added to their logits; -infinity bans */
  size_t bias_count;
  const int32_t* allowed_tokens; /* none: all */
  size_t allowed_count;
  const int32_t* banned_tokens;
  size_t banned_count;
  const char* const* stop_texts; /* end it wherever tokens begin and end; never streamed */
  size_t stop_text_count;
  double timeout_seconds;  /* from here to PENSIVE_STOP_DEADLINE; 0: never */
  int32_t top_logprobs;    /* how many of the likeliest tokens the trace tells: 0 to 20 */
  uint8_t prompt_logprobs; /* 1: the trace tells them of the prompt too */
  uint8_t reserved_2[3];   /* 0 */
} pensive_request;
#define PENSIVE_REQUEST_INIT                                                                      \
  {                                                                                               \
    sizeof(pensive_request), 0, 0, 0, 0, 0, 0, NULL, 0, NULL, 0, NULL, NULL, 0, NULL, 0, 0, 0, 0, \
        {0, 0, 0, 0, 0, 0, 0}, 0, 0, 0, 0, NULL, NULL, 0, NULL, 0, NULL, 0, NULL, 0, 0, 0, 0, {   \
      0, 0, 0                                                                                     \
    }                                                                                             \
  }

/* Checks and queues; no device work. */
PENSIVE_API int32_t pensive_engine_start(pensive_engine* engine, const pensive_request* request,
                                         PENSIVE_OWN pensive_sequence** sequence,
                                         pensive_error** error);
/* The same from any thread, also while another one steps: the next call that steps takes it in.
 * Until it has finished only pensive_sequence_finished(), _cancel() and _free() are for that
 * thread. */
PENSIVE_API int32_t pensive_engine_submit(pensive_engine* engine, const pensive_request* request,
                                          PENSIVE_OWN pensive_sequence** sequence,
                                          pensive_error** error);
/* The logprob of each id of `continuation`, were it to follow `prompt`; `logprobs` has room for
 * them. Steps until it is computed. */
PENSIVE_API int32_t pensive_engine_score(pensive_engine* engine, const int32_t* prompt,
                                         size_t prompt_count, const int32_t* continuation,
                                         size_t continuation_count, float* logprobs,
                                         pensive_error** error);
/* Computes one batch. `unfinished` (may be null) receives how many sequences are not finished. A
 * failing step leaves every sequence as it was. */
PENSIVE_API int32_t pensive_engine_step(pensive_engine* engine, int32_t* unfinished,
                                        pensive_error** error);
/* Steps until these are finished. */
PENSIVE_API int32_t pensive_engine_finish(pensive_engine* engine,
                                          pensive_sequence* const* sequences, size_t count,
                                          pensive_error** error);
/* Forgets every prefix that no unfinished sequence uses; finished ones keep their pages. */
PENSIVE_API int32_t pensive_engine_clear_prefixes(pensive_engine* engine, pensive_error** error);

typedef struct pensive_engine_counters {
  uint32_t struct_size;
  int32_t live;
  int64_t steps;
  int64_t computed_tokens; /* positions that went through the model */
  int64_t reused_tokens;   /* positions found in the cache */
  int64_t preemptions;
  int32_t waiting;
  int32_t pages;
  int32_t free_pages; /* includes pages kept only for prefixes */
  int32_t reserved;
  int64_t ahead_steps;   /* launched before guides had seen the tokens they go on with */
  int64_t ahead_dropped; /* rows of these that were not wanted in the end */
} pensive_engine_counters;
#define PENSIVE_ENGINE_COUNTERS_INIT \
  { sizeof(pensive_engine_counters), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }
PENSIVE_API int32_t pensive_engine_get_counters(const pensive_engine* engine,
                                                pensive_engine_counters* counters,
                                                pensive_error** error);

/* 1 when the sequence has ended, 0 while it runs; 1 for null. From any thread. */
PENSIVE_API int32_t pensive_sequence_finished(const pensive_sequence* sequence);

/* One piece of text. Markers are never part of it. */
typedef struct pensive_event {
  uint32_t struct_size;
  int32_t segment;  /* PENSIVE_SEGMENT_THINK or PENSIVE_SEGMENT_ANSWER */
  int32_t index;    /* counts the segments of this kind from 0 */
  int32_t reserved; /* 0 */
  const char* text; /* zero-terminated; null: nothing new now */
  size_t size;
} pensive_event;
#define PENSIVE_EVENT_INIT \
  { sizeof(pensive_event), 0, 0, 0, NULL, 0 }
/* Takes the next piece. Ask until `text` is null, then step. What may still be taken back is held
 * until it cannot. `text` lives until the next call with this sequence. */
PENSIVE_API int32_t pensive_sequence_next_event(pensive_sequence* sequence, pensive_event* event,
                                                pensive_error** error);

/* Whether a fork draws what its parent will draw (replay) or its own (search). */
enum { PENSIVE_DRAWS_SAME = 0, PENSIVE_DRAWS_FRESH = 1 };
/* A second path that shares every page so far; guides are cloned. */
PENSIVE_API int32_t pensive_sequence_fork(const pensive_sequence* sequence, int32_t draws,
                                          PENSIVE_OWN pensive_sequence** fork,
                                          pensive_error** error);
/* Feeds tokens as if a guide had forced them. */
PENSIVE_API int32_t pensive_sequence_feed(pensive_sequence* sequence, const int32_t* ids,
                                          size_t count, pensive_error** error);
/* Goes back to where the last `tokens` kept tokens had not come yet; with PENSIVE_DRAWS_SAME it
 * then draws what it drew, with PENSIVE_DRAWS_FRESH something new. Their pages return, and
 * segments, guides, limits and text are as they were; the guides are cloned anew and told again
 * what they were told until then. A finished sequence runs on, a cancelled one does not. The tokens
 * stay in the trace, as taken back. */
PENSIVE_API int32_t pensive_sequence_rewind(pensive_sequence* sequence, size_t tokens,
                                            int32_t draws, pensive_error** error);
/* Ends the sequence at the next step. From any thread, and from callbacks. */
PENSIVE_API void pensive_sequence_cancel(pensive_sequence* sequence);
PENSIVE_API void pensive_sequence_free(pensive_sequence* sequence);

#ifdef __cplusplus
}
#endif
#endif
