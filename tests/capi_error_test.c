/* What the C door refuses, and that it says why. */
#include "capi_test.h"

static void test_nulls(const World* world) {
  const int32_t bad = PENSIVE_INVALID_ARGUMENT;
  pensive_model* model = NULL;
  pensive_sequence* sequence = NULL;
  pensive_request request = PENSIVE_REQUEST_INIT;
  pensive_model_info info = PENSIVE_MODEL_INFO_INIT;
  pensive_trace trace = PENSIVE_TRACE_INIT;
  int32_t* ids = NULL;
  size_t count = 0;
  char* text = NULL;
  CHECK_FAILS(bad, "argument model", pensive_model_load(world->folder, NULL, NULL, &error));
  CHECK_FAILS(bad, "argument directory", pensive_model_load(NULL, NULL, &model, &error));
  CHECK_FAILS(bad, "argument model", pensive_model_get_info(NULL, &info, &error));
  CHECK_FAILS(bad, "null", pensive_model_get_info(world->model, NULL, &error));
  CHECK_FAILS(bad, "argument tokenizer",
              pensive_tokenizer_encode(NULL, "x", 1, 0, &ids, &count, &error));
  CHECK_FAILS(bad, "argument ids",
              pensive_tokenizer_decode(world->tokenizer, NULL, 2, 0, &text, NULL, &error));
  CHECK_FAILS(bad, "argument chat",
              pensive_tokenizer_encode_chat(world->tokenizer, NULL, &ids, &count, &error));
  CHECK_FAILS(bad, "argument engine", pensive_engine_start(NULL, &request, &sequence, &error));
  CHECK_FAILS(bad, "argument request",
              pensive_engine_start(world->engine, NULL, &sequence, &error));
  CHECK_FAILS(bad, "argument engine", pensive_engine_step(NULL, NULL, &error));
  CHECK_FAILS(bad, "argument sequences",
              pensive_engine_finish(world->engine, &sequence, 1, &error));
  CHECK_FAILS(bad, "argument sequence", pensive_sequence_get_trace(NULL, &trace, &error));
  CHECK_FAILS(bad, "argument sequence", pensive_sequence_next_event(NULL, NULL, &error));
  CHECK_FAILS(bad, "argument soft", pensive_soft_save(NULL, "x", NULL, &error));
  CHECK_FAILS(bad, "argument trainer", pensive_trainer_step(NULL, NULL, NULL, &error));
  CHECK_FAILS(bad, "argument judge", pensive_judge_new_correct(NULL, &error));
  CHECK(pensive_engine_step(NULL, NULL, NULL) == bad); /* without a slot */
}

static void test_structs(const World* world) {
  const int32_t bad = PENSIVE_INVALID_ARGUMENT;
  pensive_sequence* sequence = NULL;
  pensive_request request = PENSIVE_REQUEST_INIT;
  request.prompt = &world->closer;
  request.prompt_count = 1;
  request.struct_size = 0;
  CHECK_FAILS(bad, "struct_size", pensive_engine_start(world->engine, &request, &sequence, &error));
  request.struct_size = 0xdeadbeef;
  CHECK_FAILS(bad, "struct_size", pensive_engine_start(world->engine, &request, &sequence, &error));
  request.struct_size = sizeof request;
  request.given = 1u << 30;
  CHECK_FAILS(bad, "unknown bits",
              pensive_engine_start(world->engine, &request, &sequence, &error));
  request.given = 0;
  request.temperature = 0.5f; /* without its bit */
  CHECK_FAILS(bad, "temperature", pensive_engine_start(world->engine, &request, &sequence, &error));
  request.temperature = 0;
  request.reserved[6] = 1;
  CHECK_FAILS(bad, "reserved", pensive_engine_start(world->engine, &request, &sequence, &error));
  request.reserved[6] = 0;
  request.ignore_end_tokens = 2;
  CHECK_FAILS(bad, "0 or 1", pensive_engine_start(world->engine, &request, &sequence, &error));

  /* A caller with a newer header: welcome, as long as it does not use what is new. */
  struct {
    pensive_budget_options options;
    int32_t newer;
  } larger = {PENSIVE_BUDGET_OPTIONS_INIT, 0};
  pensive_guide* guide = NULL;
  larger.options.struct_size = sizeof larger;
  CHECK_OK(pensive_guide_new_budget(&larger.options, &guide, &error));
  pensive_guide_free(guide);
  larger.newer = 1;
  CHECK_FAILS(bad, "newer version", pensive_guide_new_budget(&larger.options, &guide, &error));
  CHECK(!guide);
  struct {
    pensive_event event;
    int32_t newer;
  } wide = {PENSIVE_EVENT_INIT, 77};
  wide.event.struct_size = sizeof wide;
  request.ignore_end_tokens = 0;
  CHECK_OK(pensive_engine_start(world->engine, &request, &sequence, &error));
  CHECK_OK(pensive_sequence_next_event(sequence, &wide.event, &error));
  CHECK(wide.newer == 0 && wide.event.struct_size == sizeof wide);
  pensive_sequence_free(sequence);
}

static void test_values(const World* world) {
  const int32_t bad = PENSIVE_INVALID_ARGUMENT;
  pensive_model* model = NULL;
  pensive_soft* soft = NULL;
  pensive_sequence* sequence = NULL;
  pensive_guide* guide = NULL;
  int32_t* ids = NULL;
  size_t count = 0;
  int32_t id = 0;
  pensive_model_options options = PENSIVE_MODEL_OPTIONS_INIT;
  options.device = "abacus";
  CHECK_FAILS(bad, "abacus", pensive_model_load(world->folder, &options, &model, &error));
  options.device = NULL;
  options.precision = 9;
  CHECK_FAILS(bad, "precision", pensive_model_load(world->folder, &options, &model, &error));
  options.precision = PENSIVE_PRECISION_FLOAT16;
  options.unknown_keys = 2;
  CHECK_FAILS(bad, "unknown_keys", pensive_model_load(world->folder, &options, &model, &error));
  /* A program built before unknown_keys came: what stands behind its struct is not read. */
  options.struct_size = 24;
  CHECK_FAILS(PENSIVE_NOT_FOUND, "", pensive_model_load(world->folder, &options, &model, &error));
  options.struct_size = 20;
  CHECK_FAILS(bad, "struct_size", pensive_model_load(world->folder, &options, &model, &error));
  options.struct_size = sizeof options;
  options.unknown_keys = PENSIVE_UNKNOWN_KEYS_WARN;
  options.reserved = 1;
  CHECK_FAILS(bad, "reserved", pensive_model_load(world->folder, &options, &model, &error));
  CHECK_FAILS(PENSIVE_NOT_FOUND, "", pensive_model_load(world->folder, NULL, &model, &error));
  CHECK_FAILS(PENSIVE_NOT_FOUND, "",
              pensive_soft_load(world->model, "/nonexistent/pensive", &soft, &error));
  CHECK_FAILS(bad, "how",
              pensive_tokenizer_encode(world->tokenizer, "1", 1, 64, &ids, &count, &error));
  CHECK_FAILS(bad, "", pensive_soft_add(world->soft, "again", &world->closer, 1, &id, &error));
  pensive_request request = PENSIVE_REQUEST_INIT;
  CHECK_FAILS(bad, "", pensive_engine_start(world->engine, &request, &sequence, &error));
  const int32_t beyond = world->row + 1;
  request.prompt = &beyond;
  request.prompt_count = 1;
  CHECK_FAILS(bad, "", pensive_engine_start(world->engine, &request, &sequence, &error));
  CHECK(!sequence);
  pensive_continue_options nothing = PENSIVE_CONTINUE_OPTIONS_INIT;
  CHECK_FAILS(bad, "", pensive_guide_new_continue(&nothing, &guide, &error));
  pensive_guide_callbacks callbacks = PENSIVE_GUIDE_CALLBACKS_INIT;
  callbacks.name = "mute";
  CHECK_FAILS(bad, "on_token", pensive_guide_new(&callbacks, &guide, &error));
}

/* Guides that misbehave: in their status, in their action, by calling back. */
typedef struct {
  pensive_engine* engine;
  pensive_sequence* sequence;
} Inside;
static int32_t refuses(void* user, const pensive_moment* moment, pensive_action* action) {
  (void)user, (void)moment, (void)action;
  return PENSIVE_IO;
}
static int32_t confuses(void* user, const pensive_moment* moment, pensive_action* action) {
  (void)user, (void)moment;
  action->kind = PENSIVE_STOP;
  action->replaces_last = 1;
  return PENSIVE_OK;
}
static int32_t reenters(void* user, const pensive_moment* moment, pensive_action* action) {
  Inside* inside = user;
  pensive_sequence* other = NULL;
  const int32_t busy = PENSIVE_BUSY;
  CHECK_FAILS(busy, "one caller at a time", pensive_engine_step(inside->engine, NULL, &error));
  CHECK_FAILS(busy, "one caller at a time", pensive_engine_clear_prefixes(inside->engine, &error));
  CHECK_FAILS(busy, "one caller at a time",
              pensive_sequence_fork(inside->sequence, 0, &other, &error));
  CHECK_FAILS(busy, "one caller at a time",
              pensive_sequence_feed(inside->sequence, &moment->token, 1, &error));
  CHECK_FAILS(busy, "one caller at a time",
              pensive_sequence_rewind(inside->sequence, 0, 0, &error));
  CHECK(!other);
  action->kind = PENSIVE_STOP;
  return PENSIVE_OK;
}
static int32_t forks(void* user, const pensive_moment* moment, pensive_action* action) {
  (void)moment, (void)action;
  pensive_sequence* fork = NULL;
  return pensive_sequence_fork(((Inside*)user)->sequence, PENSIVE_DRAWS_FRESH, &fork, NULL);
}

static void test_guide(const World* world,
                       int32_t (*on_token)(void*, const pensive_moment*, pensive_action*),
                       int32_t stopped, const char* part) {
  pensive_guide_callbacks callbacks = PENSIVE_GUIDE_CALLBACKS_INIT;
  callbacks.name = "bad";
  Inside inside = {world->engine, NULL};
  callbacks.user = &inside;
  callbacks.on_token = on_token;
  pensive_guide* guide = NULL;
  pensive_sequence* sequence = NULL;
  CHECK_OK(pensive_guide_new(&callbacks, &guide, &error));
  pensive_request request = PENSIVE_REQUEST_INIT;
  size_t count = 0;
  int32_t* prompt = ask(world, "1 + 1", &count);
  request.prompt = prompt;
  request.prompt_count = count;
  request.guides = &guide;
  request.guide_count = 1;
  request.max_new_tokens = 16;
  CHECK_OK(pensive_engine_start(world->engine, &request, &sequence, &error));
  inside.sequence = sequence;
  CHECK_OK(pensive_engine_finish(world->engine, &sequence, 1, &error));
  pensive_trace trace = PENSIVE_TRACE_INIT;
  CHECK_OK(pensive_sequence_get_trace(sequence, &trace, &error));
  CHECK(trace.stopped == stopped && strstr(trace.error, part));
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "", pensive_sequence_feed(sequence, prompt, 1, &error));
  pensive_sequence_free(sequence);
  pensive_guide_free(guide);
  pensive_free(prompt);
}

static void test_specs(const World* world) {
  const int32_t bad = PENSIVE_INVALID_ARGUMENT;
  pensive_guide* guide = NULL;
  pensive_guide_info info = PENSIVE_GUIDE_INFO_INIT;
  CHECK_FAILS(bad, "budget, ",
              pensive_guide_parse("bugdet", world->tokenizer, NULL, &guide, &error));
  CHECK_FAILS(bad, "a whole number",
              pensive_guide_parse("budget:max=x", world->tokenizer, NULL, &guide, &error));
  CHECK_FAILS(bad, "argument tokenizer",
              pensive_guide_parse("budget:max=9", NULL, NULL, &guide, &error));
  CHECK(guide == NULL);
  CHECK_FAILS(bad, "below", pensive_guide_describe(pensive_guide_count(), &info, &error));
  CHECK_FAILS(bad, "below", pensive_guide_describe(-1, &info, &error));
  for (int32_t i = 0; i < pensive_guide_count(); ++i) {
    CHECK_OK(pensive_guide_describe(i, &info, &error));
    CHECK(strlen(info.name) > 0 && strlen(info.source) > 0 && strlen(info.meaning) > 0);
    for (int32_t key = 0; key < info.key_count; ++key) CHECK(strlen(info.keys[key].meaning) > 0);
    if (strcmp(info.name, "budget") == 0) CHECK(strcmp(info.keys[0].name, "max") == 0);
  }
}

void test_errors(const World* world) {
  test_specs(world);
  test_nulls(world);
  test_structs(world);
  test_values(world);
  test_guide(world, refuses, PENSIVE_STOP_ERROR, "status 5");
  test_guide(world, confuses, PENSIVE_STOP_ERROR, "belong to its kind");
  test_guide(world, reenters, PENSIVE_STOP_GUIDE, "");
  test_guide(world, forks, PENSIVE_STOP_ERROR, "status 10");
}
