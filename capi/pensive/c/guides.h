/* guides: all that the library brings to steer the thinking, from a line of text. */
#ifndef PENSIVE_C_GUIDES_H
#define PENSIVE_C_GUIDES_H
#include "base.h"
#include "engine.h"
#include "text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* `spec` is NAME or NAME:KEY=VALUE,KEY=VALUE, such as "budget:max=2048,window=64". A value with a
 * comma stands in double quotes, with \" \\ and \n as in JSON. Words are turned into ids by
 * `tokenizer`; `markers` null: found in it, or none. Fails with PENSIVE_INVALID_ARGUMENT, naming
 * what is known, for a name, key or value that is not. */
PENSIVE_API int32_t pensive_guide_parse(const char* spec, const pensive_tokenizer* tokenizer,
                                        const pensive_markers* markers,
                                        PENSIVE_OWN pensive_guide** guide, pensive_error** error);

/* One setting of a guide: its key, its default ("required" where there is none), what it does. */
typedef struct pensive_guide_key {
  const char* name;
  const char* fallback;
  const char* meaning;
} pensive_guide_key;
/* What a guide does and where its rule is from. All of it is valid as long as the program runs. */
typedef struct pensive_guide_info {
  uint32_t struct_size;
  int32_t key_count;
  const char* name;
  const char* source;
  const char* meaning;
  const pensive_guide_key* keys;
} pensive_guide_info;
#define PENSIVE_GUIDE_INFO_INIT \
  { sizeof(pensive_guide_info), 0, NULL, NULL, NULL, NULL }
/* The guides that pensive_guide_parse() knows, in alphabetical order; 0 while libtorch is closed.
 */
PENSIVE_API int32_t pensive_guide_count(void);
/* Fails with PENSIVE_INVALID_ARGUMENT outside 0 to count - 1. */
PENSIVE_API int32_t pensive_guide_describe(int32_t index, pensive_guide_info* info,
                                           pensive_error** error);

#ifdef __cplusplus
}
#endif
#endif
