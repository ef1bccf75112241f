// The Rust door: `tokenizers` and `minijinja` behind plain C functions.
//
// A function that can fail returns a PensiveDoorStatus and, unless it is pensive_door_ok, leaves
// what went wrong in `error`. No panic comes through. Texts are UTF-8 with a length, not
// terminated by a zero. Texts and ids that a function hands out are the caller's, to be
// given back with pensive_door_free_text() and pensive_door_free_ids(); the ones passed in are
// borrowed for the call. A door is immutable: any number of threads may use one.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct PensiveDoor PensiveDoor;

typedef struct PensiveDoorText {
  char* data;
  size_t size;
} PensiveDoorText;

typedef struct PensiveDoorIds {
  int32_t* data;
  size_t size;
} PensiveDoorIds;

typedef enum PensiveDoorStatus {
  pensive_door_ok = 0,
  pensive_door_bad_file = 1,      // the tokenizer or the template is broken
  pensive_door_bad_argument = 2,  // this text, id or conversation cannot be done
  pensive_door_internal = 3,      // a panic; `error` holds its message
  pensive_door_endless = 4        // a template that was stopped; what it took stays taken
} PensiveDoorStatus;

// How decoding puts tokens together.
typedef enum PensiveDoorJoin {
  pensive_door_windowed = 0,      // a token's text depends on its neighbours
  pensive_door_concatenated = 1,  // the bytes of the pieces, one after the other
  pensive_door_spaced = 2         // the same with a space between them
} PensiveDoorJoin;

enum { pensive_door_known = 1, pensive_door_special = 2, pensive_door_byte = 4 };

// What there is to know of every id from 0 to the largest.
typedef struct PensiveDoorVocabulary {
  PensiveDoorText bytes;  // all pieces, one after the other; empty where windowed
  PensiveDoorIds ends;    // [ids] where each piece ends
  PensiveDoorText flags;  // [ids] known, special, byte
  int32_t size;           // ids that are known
  int32_t join;           // PensiveDoorJoin
} PensiveDoorVocabulary;

int32_t pensive_door_open(const char* json, size_t size, PensiveDoor** door,
                          PensiveDoorVocabulary* vocabulary, PensiveDoorText* error);
void pensive_door_close(PensiveDoor* door);

// The same tokenizer that also decodes each of these ids as its name. Shares what it can.
int32_t pensive_door_name(const PensiveDoor* door, const int32_t* ids, const PensiveDoorText* names,
                          size_t count, PensiveDoor** named, PensiveDoorText* error);

int32_t pensive_door_encode(const PensiveDoor* door, const char* text, size_t size,
                            int32_t add_special, int32_t parse_special, PensiveDoorIds* ids,
                            PensiveDoorText* error);
int32_t pensive_door_decode(const PensiveDoor* door, const int32_t* ids, size_t count,
                            int32_t keep_special, PensiveDoorText* text, PensiveDoorText* error);

// The id of a spelling, or -1; the spelling of an id, with data null where there is none.
int32_t pensive_door_find(const PensiveDoor* door, const char* text, size_t size);
PensiveDoorText pensive_door_spelling(const PensiveDoor* door, int32_t id);

// Renders a Jinja template over the members of a JSON object. One that takes too much memory or
// time is stopped; its thread and memory are lost, so it should not be tried again.
int32_t pensive_door_render(const char* source, size_t source_size, const char* context,
                            size_t context_size, PensiveDoorText* text, PensiveDoorText* error);

void pensive_door_free_text(PensiveDoorText text);
void pensive_door_free_ids(PensiveDoorIds ids);

#ifdef __cplusplus
}
#endif
