/* The C door, as a C11 program uses it: the whole life of a request. */
#include "capi_test.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

int failures = 0;

enum { SKIPPED = 77 };

/* Before libtorch is open nothing crashes, and what goes wrong is said. */
static void test_opening(void) {
  pensive_open_options options = PENSIVE_OPEN_OPTIONS_INIT;
  CHECK_OK(PENSIVE_START(&error));
  CHECK(pensive_check_abi(99, 0, NULL) == PENSIVE_ABI_MISMATCH);
  CHECK_FAILS(PENSIVE_ABI_MISMATCH, "99.0", pensive_check_abi(99, 0, &error));
  CHECK_FAILS(PENSIVE_ABI_MISMATCH, "1.77", pensive_check_abi(PENSIVE_ABI_MAJOR, 77, &error));
  CHECK(strcmp(pensive_status_name(PENSIVE_NOT_FOUND), "not_found") == 0);
  CHECK(strcmp(pensive_status_name(99), "unknown") == 0 && strchr(pensive_version(), '.'));
  CHECK(pensive_struct_size("pensive_request") == sizeof(pensive_request));
  CHECK(pensive_struct_size("pensive_nothing") == 0 && pensive_struct_size(NULL) == 0);
  pensive_model_free(NULL);
  pensive_sequence_cancel(NULL);
  pensive_error_free(NULL);
  pensive_free(NULL);
  CHECK(pensive_sequence_finished(NULL) == 1 && pensive_soft_size(NULL) == 0);

  options.torch_folder = "/nonexistent/pensive";
  CHECK_FAILS(PENSIVE_NOT_FOUND, "/nonexistent/pensive", pensive_open(&options, &error));
  options.struct_size = 3;
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "found 3", pensive_open(&options, &error));
  options.struct_size = sizeof options;
  options.torch_folder = PENSIVE_TORCH_LIB;
  CHECK_OK(pensive_open(&options, &error));
  CHECK_OK(pensive_open(&options, &error));
  CHECK_OK(pensive_open(NULL, &error));
  options.torch_folder = "/nonexistent/pensive";
  CHECK_FAILS(PENSIVE_ABI_MISMATCH, "another one", pensive_open(&options, &error));
}

static void count_line(void* user, int32_t level, const char* text) {
  CHECK(level == PENSIVE_LOG_INFO || level == PENSIVE_LOG_WARNING);
  CHECK(text && *text);
  ++*(int*)user;
}
static void mark(void* user) { *(int*)user += 1000; }

static int open_world(World* world, const char* directory) {
  int lines = 0;
  pensive_log log = PENSIVE_LOG_INIT;
  log.user = &lines;
  log.line = count_line;
  log.destroy = mark;
  pensive_model_options options = PENSIVE_MODEL_OPTIONS_INIT;
  options.device = "cpu";
  options.log = &log;
  CHECK_FAILS(PENSIVE_NOT_FOUND, "/nonexistent/pensive",
              pensive_model_load("/nonexistent/pensive", &options, &world->model, &error));
  CHECK(lines < 1000 && !world->model); /* a call that fails leaves `user` to its caller */
  CHECK_OK(pensive_model_load(directory, &options, &world->model, &error));
  if (!world->model) return 0;
  CHECK_OK(pensive_model_get_tokenizer(world->model, &world->tokenizer, &error));
  CHECK_OK(pensive_tokenizer_find(world->tokenizer, "</think>", &world->closer, &error));
  CHECK_OK(pensive_soft_new(world->model, &world->soft, &error));
  const int32_t start[] = {world->closer};
  CHECK_OK(pensive_soft_add(world->soft, "again", start, 1, &world->row, &error));
  pensive_engine_options engine = PENSIVE_ENGINE_OPTIONS_INIT;
  engine.soft = world->soft;
  engine.cache_tokens = 8192;
  engine.without_graphs = 2;
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "without_graphs",
              pensive_engine_new(world->model, &engine, &world->engine, &error));
  engine.without_graphs = 1; /* a CPU has none */
  engine.without_run_ahead = 2;
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "without_run_ahead",
              pensive_engine_new(world->model, &engine, &world->engine, &error));
  engine.without_run_ahead = 1; /* nor does it run ahead */
  CHECK_OK(pensive_engine_new(world->model, &engine, &world->engine, &error));
  return failures == 0;
}

static void test_model_and_text(const World* world) {
  pensive_model_info info = PENSIVE_MODEL_INFO_INIT;
  CHECK_OK(pensive_model_get_info(world->model, &info, &error));
  CHECK(info.layers > 0 && info.vocab_size > 0 && info.parameters > 0 && info.family);
  CHECK(strcmp(info.device, "cpu") == 0 && info.struct_size == sizeof info);
  CHECK(world->row == info.vocab_size);
  const int32_t* stops = NULL;
  size_t stop_count = 0;
  CHECK_OK(pensive_model_get_stop_tokens(world->model, &stops, &stop_count, &error));
  CHECK(stop_count > 0 && stops[0] >= 0);

  int32_t* ids = NULL;
  size_t count = 0;
  char* text = NULL;
  size_t size = 0;
  CHECK_OK(pensive_tokenizer_encode(world->tokenizer, "12 + 3 and more", 6, PENSIVE_ENCODE_BARE,
                                    &ids, &count, &error));
  CHECK(count == 4);
  CHECK_OK(pensive_tokenizer_decode(world->tokenizer, ids, count, 0, &text, &size, &error));
  CHECK(size == 6 && strcmp(text, "12 + 3") == 0);
  pensive_free(text);
  pensive_free(ids);
  ids = ask(world, "12 + 3", &count);
  CHECK(count > 4);
  pensive_free(ids);
  int32_t id = 0;
  CHECK_OK(pensive_tokenizer_find(world->tokenizer, "no such token", &id, &error));
  CHECK(id == -1 && pensive_tokenizer_size(world->tokenizer) > 0);

  pensive_tokenizer* named = NULL;
  CHECK_OK(pensive_tokenizer_with_soft(world->tokenizer, world->soft, &named, &error));
  CHECK_OK(pensive_tokenizer_decode(named, &world->row, 1, 1, &text, NULL, &error));
  CHECK(strstr(text, "again"));
  pensive_free(text);
  pensive_tokenizer_free(named);
}

static void test_chat(const World* world) {
  char *text = NULL, *plain = NULL;
  pensive_chat chat = PENSIVE_CHAT_INIT;
  chat.messages_json = "[{\"role\": \"user\", \"content\": \"12 + 3\", \"name\": null}]";
  chat.tools_json = "[{\"type\": \"function\"}]";
  chat.template_name = "default";
  CHECK_OK(pensive_tokenizer_render_chat(world->tokenizer, &chat, &text, NULL, &error));

  const char* const roles[] = {"user"};
  const char* const contents[] = {"12 + 3"};
  chat = (pensive_chat)PENSIVE_CHAT_INIT;
  chat.roles = roles;
  chat.contents = contents;
  chat.count = 1;
  chat.struct_size = offsetof(pensive_chat, messages_json); /* a program of version 1.0 */
  chat.messages_json = "not looked at";
  CHECK_OK(pensive_tokenizer_render_chat(world->tokenizer, &chat, &plain, NULL, &error));
  CHECK(strcmp(text, plain) == 0);
  pensive_free(text);
  pensive_free(plain);

  const int32_t bad = PENSIVE_INVALID_ARGUMENT;
  chat.struct_size = sizeof chat;
  CHECK_FAILS(bad, "beside messages_json",
              pensive_tokenizer_render_chat(world->tokenizer, &chat, &text, NULL, &error));
  chat.count = 0;
  CHECK_FAILS(bad, "messages_json",
              pensive_tokenizer_render_chat(world->tokenizer, &chat, &text, NULL, &error));
  chat.messages_json = "[]";
  chat.tools_json = "{}";
  CHECK_FAILS(bad, "tools_json",
              pensive_tokenizer_render_chat(world->tokenizer, &chat, &text, NULL, &error));
  chat.tools_json = NULL;
  chat.template_name = "none";
  CHECK_FAILS(PENSIVE_NOT_FOUND, "none",
              pensive_tokenizer_render_chat(world->tokenizer, &chat, &text, NULL, &error));

  CHECK_OK(pensive_tokenizer_get_template_name(world->tokenizer, 0, &text, &error));
  CHECK(strcmp(text, "default") == 0);
  pensive_free(text);
  CHECK_FAILS(PENSIVE_NOT_FOUND, "below 1",
              pensive_tokenizer_get_template_name(world->tokenizer, 1, &text, &error));
}

int32_t* ask(const World* world, const char* question, size_t* count) {
  const char* const roles[] = {"user"};
  const char* const contents[] = {question};
  pensive_chat chat = PENSIVE_CHAT_INIT;
  chat.roles = roles;
  chat.contents = contents;
  chat.count = 1;
  chat.variables_json = "{\"loud\": false}";
  int32_t* ids = NULL;
  CHECK_OK(pensive_tokenizer_encode_chat(world->tokenizer, &chat, &ids, count, &error));
  return ids;
}

/* A guide that counts, forces one token after the third, and has the sixth drawn again. */
typedef struct {
  int tokens;
  int32_t force;
  int* alive;
  int32_t banned;
} Counter;

static int32_t on_token(void* user, const pensive_moment* moment, pensive_action* action) {
  Counter* counter = user;
  CHECK(moment->struct_size == sizeof *moment);
  CHECK(moment->tokens[moment->token_count - 1] == moment->token);
  if (moment->origin == PENSIVE_ORIGIN_SAMPLED)
    CHECK(moment->watched_count == 1 && moment->watched[0] <= 0);
  CHECK(moment->next != PENSIVE_SEGMENT_PROMPT && moment->pending_tokens == 0);
  static const float never = -INFINITY;
  if (++counter->tokens == 6) {
    counter->banned = moment->token;
    action->kind = PENSIVE_FORCE;
    action->replaces_last = 1;
    action->bias_tokens = &counter->banned;
    action->bias_logits = &never;
    action->bias_count = 1;
  }
  if (counter->tokens != 3) return PENSIVE_OK;
  action->kind = PENSIVE_FORCE;
  action->tokens = &counter->force;
  action->token_count = 1;
  return PENSIVE_OK;
}
static void* clone(void* user) {
  Counter* copy = malloc(sizeof *copy);
  *copy = *(Counter*)user;
  ++*copy->alive;
  return copy;
}
static void destroy(void* user) {
  --*((Counter*)user)->alive;
  free(user);
}

static pensive_guide* counting_guide(const World* world, int* alive) {
  pensive_guide_callbacks callbacks = PENSIVE_GUIDE_CALLBACKS_INIT;
  Counter first = {0, world->row, alive, 0};
  callbacks.name = "counter";
  callbacks.watches = &world->closer;
  callbacks.watch_count = 1;
  callbacks.user = clone(&first);
  callbacks.on_token = on_token;
  callbacks.clone = clone;
  callbacks.destroy = destroy;
  pensive_guide* guide = NULL;
  CHECK_OK(pensive_guide_new(&callbacks, &guide, &error));
  return guide;
}

static void check_trace(const World* world, const pensive_sequence* sequence, size_t prompt) {
  pensive_trace trace = PENSIVE_TRACE_INIT;
  CHECK_OK(pensive_sequence_get_trace(sequence, &trace, &error));
  CHECK(trace.stopped != PENSIVE_STOP_RUNNING && trace.seed == 7);
  CHECK((size_t)trace.prompt_tokens == prompt && trace.count > prompt);
  CHECK(trace.tokens[prompt + 3] == world->row);
  CHECK(trace.origins[prompt + 3] == PENSIVE_ORIGIN_FORCED);
  CHECK(isnan(trace.logprobs[prompt + 3]) && trace.logprobs[prompt] <= 0);
  CHECK(trace.entropies_nats[prompt] >= 0 && trace.is_taken_back[prompt] == 0);
  CHECK(trace.is_taken_back[prompt + 5] == 1 && trace.is_taken_back[prompt + 6] == 0);
  CHECK(trace.tokens[prompt + 6] != trace.tokens[prompt + 5]);
  CHECK(trace.action_count >= 1);
  CHECK(isnan(trace.seconds[0]) && trace.seconds[prompt] >= 0 && trace.is_steered[prompt] == 0);
  pensive_measure_options how = PENSIVE_MEASURE_OPTIONS_INIT;
  how.reference = "no such answer";
  how.answer_after = "= ";
  pensive_measures measures = PENSIVE_MEASURES_INIT;
  CHECK_OK(pensive_sequence_measure(sequence, &how, &measures, &error));
  CHECK(measures.decoded_tokens == trace.decoded_tokens && measures.is_right == 0);
  CHECK(measures.think_tokens == trace.think_tokens && measures.forced_tokens >= 1);
  CHECK(measures.first_think_tokens == -1 && isnan(measures.eta));
  CHECK(measures.underthinking == 0 && measures.seconds >= (double)trace.seconds[prompt]);
  CHECK_OK(pensive_sequence_measure(sequence, NULL, &measures, &error));
  CHECK(measures.is_right == -1);
  how.step_end = "";
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "step_end",
              pensive_sequence_measure(sequence, &how, &measures, &error));
  how.step_end = NULL;
  how.reserved = 1;
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "reserved",
              pensive_sequence_measure(sequence, &how, &measures, &error));
  pensive_trace_action action = PENSIVE_TRACE_ACTION_INIT;
  CHECK_OK(pensive_sequence_get_action(sequence, 0, &action, &error));
  CHECK(strcmp(action.guide, "counter") == 0 && strcmp(action.kind, "force") == 0);
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "index",
              pensive_sequence_get_action(sequence, trace.action_count, &action, &error));
  int32_t* response = NULL;
  size_t count = 0;
  CHECK_OK(pensive_sequence_get_response(sequence, &response, &count, &error));
  CHECK(count <= trace.count - prompt && response[0] == trace.tokens[prompt]);
  pensive_free(response);
}

/* Starts with guides, streams what comes, forks at the end. */
static void test_generating(const World* world) {
  int alive = 0;
  pensive_budget_options budget = PENSIVE_BUDGET_OPTIONS_INIT;
  budget.max_think_tokens = 24;
  pensive_guide* guides[2] = {counting_guide(world, &alive), NULL};
  CHECK_OK(pensive_guide_new_budget(&budget, &guides[1], &error));
  pensive_request request = PENSIVE_REQUEST_INIT;
  size_t count = 0;
  int32_t* prompt = ask(world, "12 + 3 * 4", &count);
  request.prompt = prompt;
  request.prompt_count = count;
  request.guides = guides;
  request.guide_count = 2;
  request.given = PENSIVE_GIVEN_SEED | PENSIVE_GIVEN_TEMPERATURE;
  request.seed = 7;
  request.temperature = 1;
  request.max_new_tokens = 64;
  pensive_sequence* sequence = NULL;
  CHECK_OK(pensive_engine_start(world->engine, &request, &sequence, &error));
  pensive_free(prompt);
  pensive_guide_free(guides[0]);
  pensive_guide_free(guides[1]);
  CHECK(alive >= 1);

  size_t shown = 0;
  pensive_event event = PENSIVE_EVENT_INIT;
  do {
    int32_t unfinished = 0;
    CHECK_OK(pensive_engine_step(world->engine, &unfinished, &error));
    for (;;) {
      CHECK_OK(pensive_sequence_next_event(sequence, &event, &error));
      if (!event.text) break;
      CHECK(strlen(event.text) == event.size);
      CHECK(event.segment == PENSIVE_SEGMENT_THINK || event.segment == PENSIVE_SEGMENT_ANSWER);
      shown += event.size;
    }
  } while (!pensive_sequence_finished(sequence));
  CHECK(shown > 0);
  check_trace(world, sequence, count);

  pensive_engine_counters counters = PENSIVE_ENGINE_COUNTERS_INIT;
  CHECK_OK(pensive_engine_get_counters(world->engine, &counters, &error));
  CHECK(counters.steps > 0 && counters.computed_tokens > (int64_t)count);
  CHECK(counters.ahead_steps == 0 && counters.ahead_dropped == 0);
  char file[320];
  snprintf(file, sizeof file, "%s/trace.jsonl", world->folder);
  CHECK_OK(pensive_sequence_save_trace(sequence, file, 0, &error));
  CHECK_OK(pensive_sequence_save_trace(sequence, file, 1, &error));
  pensive_sequence_free(sequence);
  CHECK_OK(pensive_engine_step(world->engine, NULL, &error));
  CHECK(alive == 0);
}

/* A fork with the same draws says the same; feeding and cancelling take effect. */
static void test_forking(const World* world) {
  pensive_request request = PENSIVE_REQUEST_INIT;
  size_t count = 0;
  int32_t* prompt = ask(world, "7 * 8 - 5", &count);
  request.prompt = prompt;
  request.prompt_count = count;
  request.given = PENSIVE_GIVEN_SEED;
  request.seed = 3;
  request.max_new_tokens = 32;
  request.ignore_end_tokens = 1;
  pensive_sequence* paths[3] = {NULL, NULL, NULL};
  CHECK_OK(pensive_engine_start(world->engine, &request, &paths[0], &error));
  for (int i = 0; i < 5; ++i) CHECK_OK(pensive_engine_step(world->engine, NULL, &error));
  CHECK_OK(pensive_sequence_fork(paths[0], PENSIVE_DRAWS_SAME, &paths[1], &error));
  CHECK_OK(pensive_sequence_fork(paths[0], PENSIVE_DRAWS_FRESH, &paths[2], &error));
  CHECK_OK(pensive_sequence_feed(paths[2], &world->row, 1, &error));
  CHECK_OK(pensive_engine_step(world->engine, NULL, &error));
  pensive_sequence_cancel(paths[2]);
  CHECK_OK(pensive_engine_finish(world->engine, paths, 3, &error));
  pensive_trace traces[3] = {PENSIVE_TRACE_INIT, PENSIVE_TRACE_INIT, PENSIVE_TRACE_INIT};
  for (int i = 0; i < 3; ++i) CHECK_OK(pensive_sequence_get_trace(paths[i], &traces[i], &error));
  CHECK(traces[0].stopped == PENSIVE_STOP_LENGTH && traces[2].stopped == PENSIVE_STOP_CANCELLED);
  CHECK(traces[0].count == count + 32 && traces[1].count == count + 32);
  CHECK(memcmp(traces[0].tokens, traces[1].tokens, traces[0].count * sizeof(int32_t)) == 0);
  CHECK(traces[2].path_count == 1);
  for (int i = 0; i < 3; ++i) pensive_sequence_free(paths[i]);
  pensive_free(prompt);
}

static void close_world(World* world) {
  static const char* const files[] = {"trace.jsonl", "row.safetensors", "checkpoint",
                                      "problems.jsonl"};
  for (size_t i = 0; i < sizeof files / sizeof *files; ++i) {
    char file[320];
    snprintf(file, sizeof file, "%s/%s", world->folder, files[i]);
    unlink(file);
  }
  rmdir(world->folder);
  pensive_model_free(world->model); /* what is made from a model keeps it */
  pensive_engine_free(world->engine);
  pensive_soft_free(world->soft);
  pensive_tokenizer_free(world->tokenizer);
}

int main(int argument_count, char** arguments) {
  const char* directory = argument_count > 1 ? arguments[1] : PENSIVE_REASONER;
  char weights[1024];
  struct stat found;
  World world = {NULL, NULL, NULL, NULL, 0, 0, "/tmp/pensive_capi_XXXXXX"};
  test_opening();
  snprintf(weights, sizeof weights, "%s/model.safetensors", directory);
  if (failures == 0 && stat(weights, &found) != 0) {
    printf("skipped: there is no %s\n", weights);
    return SKIPPED;
  }
  CHECK(mkdtemp(world.folder));
  if (failures == 0 && open_world(&world, directory)) {
    test_model_and_text(&world);
    test_chat(&world);
    test_errors(&world);
    test_generating(&world);
    test_forking(&world);
    test_engine(&world);
    test_judges(&world);
    test_learning(&world);
  }
  close_world(&world);
  printf("%d failures\n", failures);
  return failures != 0;
}
