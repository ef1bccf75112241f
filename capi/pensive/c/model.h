/* model: a checkpoint, frozen; and embeddings it was not born with. */
#ifndef PENSIVE_C_MODEL_H
#define PENSIVE_C_MODEL_H
#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the weights are held and multiplied in. Sums run in float32, also for the two brief ones.
 * float64 is for tests. */
enum {
  PENSIVE_PRECISION_AS_STORED = 0,
  PENSIVE_PRECISION_FLOAT32 = 1,
  PENSIVE_PRECISION_BFLOAT16 = 2,
  PENSIVE_PRECISION_FLOAT64 = 3,
  PENSIVE_PRECISION_FLOAT16 = 4
};

/* What to do about a key of config.json that is not known. Keys that are known to change the result
 * in ways that are not done are refused either way. */
enum {
  PENSIVE_UNKNOWN_KEYS_REFUSE = 0,
  PENSIVE_UNKNOWN_KEYS_WARN = 1 /* the log gets a line; results may differ from Transformers' */
};

/* A checkpoint, loaded and frozen. Immutable: any number of threads and engines may share one. What
 * is made from a model keeps what it needs of it, so it may be freed at any time. */
typedef struct pensive_model pensive_model;

typedef struct pensive_model_options {
  uint32_t struct_size;
  int32_t precision;      /* PENSIVE_PRECISION_… */
  const char* device;     /* "auto", "cpu", "cuda" or "cuda:1"; null: auto */
  const pensive_log* log; /* null: nobody listens */
  int32_t unknown_keys;   /* PENSIVE_UNKNOWN_KEYS_… */
  int32_t reserved;
} pensive_model_options;
#define PENSIVE_MODEL_OPTIONS_INIT \
  { sizeof(pensive_model_options), 0, NULL, NULL, 0, 0 }

/* Reads config.json, generation_config.json, the weights (*.safetensors) and the tokenizer from a
 * Hugging Face directory. Everything is checked before it is used. */
PENSIVE_API int32_t pensive_model_load(const char* directory, const pensive_model_options* options,
                                       PENSIVE_OWN pensive_model** model, pensive_error** error);
PENSIVE_API void pensive_model_free(pensive_model* model);

/* Which of the optional numbers of a struct are given; the others mean their default. */
enum {
  PENSIVE_GIVEN_TEMPERATURE = 1,
  PENSIVE_GIVEN_TOP_P = 2,
  PENSIVE_GIVEN_TOP_K = 4,
  PENSIVE_GIVEN_SEED = 8,
  PENSIVE_GIVEN_BEGINS_IN = 16,
  PENSIVE_GIVEN_MIN_P = 32,
  PENSIVE_GIVEN_REPETITION_PENALTY = 64
};

typedef struct pensive_model_info {
  uint32_t struct_size;
  int32_t layers;
  int32_t width;
  int32_t heads;
  int32_t kv_heads;
  int32_t head_dim;
  int32_t vocab_size; /* rows of the embedding; ids from here on name soft rows */
  int32_t max_positions;
  int32_t precision;    /* the one it was loaded in */
  int32_t device_index; /* which card; 0 on a CPU */
  int64_t parameters;
  int64_t weight_bytes;
  uint64_t fingerprint; /* of config and weights; path and sharding do not count */
  const char* family;   /* model_type of config.json; lives as long as the model */
  const char* device;   /* "cpu" or "cuda"; lives as long as the program */
  uint8_t is_tied;      /* 1: the head is the embedding */
  uint8_t reserved[3];
  uint32_t defaults_given; /* PENSIVE_GIVEN_TEMPERATURE …: what generation_config.json gives */
  float default_temperature;
  float default_top_p;
  int32_t default_top_k;
  float default_min_p;
  float default_repetition_penalty;
  int32_t reserved_tail;
} pensive_model_info;
#define PENSIVE_MODEL_INFO_INIT                                                                  \
  {                                                                                              \
    sizeof(pensive_model_info), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, 0, {0, 0, 0}, 0, \
        0, 0, 0, 0, 0, 0                                                                         \
  }

PENSIVE_API int32_t pensive_model_get_info(const pensive_model* model, pensive_model_info* info,
                                           pensive_error** error);
/* Tokens that end a turn. The array lives as long as the model. */
PENSIVE_API int32_t pensive_model_get_stop_tokens(const pensive_model* model, const int32_t** ids,
                                                  size_t* count, pensive_error** error);

/* Rows beyond the vocabulary. Row i answers to the id vocab_size + i; such an id can be fed and
 * never be sampled. Held in float32. One thread at a time may change a soft vocabulary; any number
 * may start sequences with it meanwhile, and a sequence keeps the rows it started with. */
typedef struct pensive_soft pensive_soft;

PENSIVE_API int32_t pensive_soft_new(const pensive_model* model, PENSIVE_OWN pensive_soft** soft,
                                     pensive_error** error);
/* Fails with PENSIVE_INVALID_ARGUMENT, naming both models, for a file made for another one. */
PENSIVE_API int32_t pensive_soft_load(const pensive_model* model, const char* file,
                                      PENSIVE_OWN pensive_soft** soft, pensive_error** error);
/* As pensive_soft_load(), and takes rows that were made for another model of the same width (from a
 * base model to its finetune, say). They remember it: the other model, or an empty text. */
PENSIVE_API int32_t pensive_soft_carry(const pensive_model* model, const char* file,
                                       PENSIVE_OWN pensive_soft** soft, pensive_error** error);
PENSIVE_API int32_t pensive_soft_get_carried_from(const pensive_soft* soft, PENSIVE_OWN char** from,
                                                  pensive_error** error);
/* Written aside and renamed: whole, or not there. `training_json`: a JSON object for the reader's
 * use, or null. */
PENSIVE_API int32_t pensive_soft_save(const pensive_soft* soft, const char* file,
                                      const char* training_json, pensive_error** error);
PENSIVE_API void pensive_soft_free(pensive_soft* soft);

/* A new row, starting at the mean of the embeddings of these tokens; `id` receives its id. */
PENSIVE_API int32_t pensive_soft_add(pensive_soft* soft, const char* name,
                                     const int32_t* start_at_mean_of, size_t count, int32_t* id,
                                     pensive_error** error);
PENSIVE_API int32_t pensive_soft_size(const pensive_soft* soft); /* rows; 0 for null */
/* `id` receives -1 where no row has this name. */
PENSIVE_API int32_t pensive_soft_find(const pensive_soft* soft, const char* name, int32_t* id,
                                      pensive_error** error);
PENSIVE_API int32_t pensive_soft_get_name(const pensive_soft* soft, int32_t id,
                                          PENSIVE_OWN char** name, pensive_error** error);
PENSIVE_API int32_t pensive_soft_get_row(const pensive_soft* soft, int32_t id,
                                         PENSIVE_OWN float** values, size_t* count,
                                         pensive_error** error);
PENSIVE_API int32_t pensive_soft_set_row(pensive_soft* soft, int32_t id, const float* values,
                                         size_t count, pensive_error** error);
/* A hash of the rows' bits; 0 for null. */
PENSIVE_API uint64_t pensive_soft_version(const pensive_soft* soft);

/* What pensive_soft_export() wrote. */
typedef struct pensive_exported {
  uint32_t struct_size;
  int32_t id; /* of the token, in the folder that was written */
  int64_t weight_bytes;
  int64_t added_bytes; /* of these what the checkpoint had not: a head that was tied, a row */
} pensive_exported;
#define PENSIVE_EXPORTED_INIT \
  { sizeof(pensive_exported), 0, 0, 0 }
/* A copy of the model's folder at `to`, which may not exist, in which the row `id` is a token of
 * its own, spelled `token` (null: <|NAME|>), for programs that know nothing of soft rows. Its logit
 * is always 0; generation_config.json suppresses it, which Transformers heeds and vLLM does not. */
PENSIVE_API int32_t pensive_soft_export(const pensive_soft* soft, int32_t id, const char* to,
                                        const char* token, pensive_exported* exported,
                                        pensive_error** error);

#ifdef __cplusplus
}
#endif
#endif
