/* What the parts of the C test share: checks, and the handles that are open. */
#ifndef CAPI_TEST_H
#define CAPI_TEST_H
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pensive.h"

extern int failures;

#define CHECK(condition)                                                        \
  do {                                                                          \
    if (!(condition)) {                                                         \
      ++failures;                                                               \
      fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
    }                                                                           \
  } while (0)

/* The call succeeds and leaves no error; nothing makes sense after one that does not. */
#define CHECK_OK(call)                                                                          \
  do {                                                                                          \
    pensive_error* error = NULL;                                                                \
    const int32_t status_ = (call);                                                             \
    if (status_ != PENSIVE_OK || error) {                                                       \
      fprintf(stderr, "%s:%d: %s: %s (%s)\n", __FILE__, __LINE__, pensive_status_name(status_), \
              pensive_error_message(error), #call);                                             \
      exit(1);                                                                                  \
    }                                                                                           \
  } while (0)

/* The call fails so, and its error says the same and holds `part`. */
#define CHECK_FAILS(expected, part, call)                                                      \
  do {                                                                                         \
    pensive_error* error = NULL;                                                               \
    const int32_t status_ = (call);                                                            \
    if (status_ != (expected) || pensive_error_status(error) != (expected) ||                  \
        !strstr(pensive_error_message(error), (part))) {                                       \
      ++failures;                                                                              \
      fprintf(stderr, "%s:%d: expected %s with '%s'; found %s: %s (%s)\n", __FILE__, __LINE__, \
              pensive_status_name(expected), (part), pensive_status_name(status_),             \
              pensive_error_message(error), #call);                                            \
    }                                                                                          \
    pensive_error_free(error);                                                                 \
  } while (0)

typedef struct {
  pensive_model* model;
  pensive_tokenizer* tokenizer;
  pensive_engine* engine;
  pensive_soft* soft;
  int32_t row;
  int32_t closer;   /* the id of </think> */
  char folder[256]; /* scratch */
} World;

/* The ids of a question put to the model, to be freed. */
int32_t* ask(const World* world, const char* question, size_t* count);

void test_errors(const World* world);
void test_engine(const World* world);
void test_judges(const World* world);
void test_learning(const World* world);
void test_trainer(const World* world, const pensive_problems* problems);

#endif
