/* text: text to token ids and back, exactly as a checkpoint's own files define it. */
#ifndef PENSIVE_C_TEXT_H
#define PENSIVE_C_TEXT_H
#include "base.h"
#include "model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Immutable; any number of threads may share one. */
typedef struct pensive_tokenizer pensive_tokenizer;

/* The tokenizer of a loaded model. */
PENSIVE_API int32_t pensive_model_get_tokenizer(const pensive_model* model,
                                                PENSIVE_OWN pensive_tokenizer** tokenizer,
                                                pensive_error** error);
/* Reads tokenizer.json, and the chat template where there is one, out of a checkpoint's folder. */
PENSIVE_API int32_t pensive_tokenizer_load(const char* directory,
                                           PENSIVE_OWN pensive_tokenizer** tokenizer,
                                           pensive_error** error);
/* The same tokenizer that also prints the rows of `soft` by name, as they are now. */
PENSIVE_API int32_t pensive_tokenizer_with_soft(const pensive_tokenizer* tokenizer,
                                                const pensive_soft* soft,
                                                PENSIVE_OWN pensive_tokenizer** named,
                                                pensive_error** error);
PENSIVE_API void pensive_tokenizer_free(pensive_tokenizer* tokenizer);

/* How to encode; the bits may be joined. */
enum {
  /* Leave out the special tokens (such as a BOS) that the tokenizer puts around a text. */
  PENSIVE_ENCODE_BARE = 1,
  /* Spell special tokens written out in the text ("<|im_end|>") as ordinary text. For text that
   * comes from users. */
  PENSIVE_ENCODE_LITERAL = 2
};

/* `ids` receives `count` ids, to be freed with pensive_free(). */
PENSIVE_API int32_t pensive_tokenizer_encode(const pensive_tokenizer* tokenizer, const char* text,
                                             size_t size, uint32_t how, PENSIVE_OWN int32_t** ids,
                                             size_t* count, pensive_error** error);

/* A conversation: message i is contents[i], said by roles[i] ("system", "user", "assistant", or
 * whatever the template knows); or, instead of these, messages_json: a list of objects with any
 * keys, such as tool_calls, tool_call_id, reasoning_content and lists of content parts. */
typedef struct pensive_chat {
  uint32_t struct_size;
  uint8_t leave_open; /* 1: do not end with the opening of the assistant's turn */
  uint8_t reserved[3];
  const char* const* roles;
  const char* const* contents;
  size_t count;
  const char* variables_json; /* a JSON object of template variables, such as
                                 {"enable_thinking": false}; null: none */
  const char* messages_json;  /* null: roles and contents */
  const char* tools_json;     /* a JSON list of tools, in the form of OpenAI's; null: none */
  const char* template_name;  /* one of the checkpoint's; null: "tool_use" where there are tools and
                                 a template of that name, else "default" */
} pensive_chat;
#define PENSIVE_CHAT_INIT \
  { sizeof(pensive_chat), 0, {0, 0, 0}, NULL, NULL, 0, NULL, NULL, NULL, NULL }

/* Renders with the checkpoint's template and encodes. Fails with PENSIVE_UNSUPPORTED where the
 * checkpoint has no template, PENSIVE_NOT_FOUND where it has none of that name,
 * PENSIVE_INVALID_ARGUMENT where the template refuses. */
PENSIVE_API int32_t pensive_tokenizer_encode_chat(const pensive_tokenizer* tokenizer,
                                                  const pensive_chat* chat,
                                                  PENSIVE_OWN int32_t** ids, size_t* count,
                                                  pensive_error** error);
PENSIVE_API int32_t pensive_tokenizer_render_chat(const pensive_tokenizer* tokenizer,
                                                  const pensive_chat* chat, PENSIVE_OWN char** text,
                                                  size_t* size, pensive_error** error);
/* The name of template `index` of the checkpoint, in the order of the alphabet; PENSIVE_NOT_FOUND
 * past the last. */
PENSIVE_API int32_t pensive_tokenizer_get_template_name(const pensive_tokenizer* tokenizer,
                                                        int32_t index, PENSIVE_OWN char** name,
                                                        pensive_error** error);

/* `keep_special`: 1 prints special tokens too, 0 leaves them out. `size` may be null. */
PENSIVE_API int32_t pensive_tokenizer_decode(const pensive_tokenizer* tokenizer, const int32_t* ids,
                                             size_t count, int32_t keep_special,
                                             PENSIVE_OWN char** text, size_t* size,
                                             pensive_error** error);

/* The id of the token spelled exactly so; -1 where there is none. */
PENSIVE_API int32_t pensive_tokenizer_find(const pensive_tokenizer* tokenizer, const char* token,
                                           int32_t* id, pensive_error** error);
/* Number of ids the tokenizer knows; 0 for null. The embedding may have more rows. */
PENSIVE_API int32_t pensive_tokenizer_size(const pensive_tokenizer* tokenizer);

#ifdef __cplusplus
}
#endif
#endif
