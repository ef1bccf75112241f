/* Going back, scores, what a request may ask of its draws, and serving. */
#include <math.h>

#include "capi_test.h"

static pensive_request request_of(const int32_t* prompt, size_t count) {
  pensive_request request = PENSIVE_REQUEST_INIT;
  request.prompt = prompt;
  request.prompt_count = count;
  request.given = PENSIVE_GIVEN_SEED;
  request.seed = 3;
  request.max_new_tokens = 32;
  request.ignore_end_tokens = 1;
  return request;
}

static void test_rewinding(const World* world, const pensive_request* request) {
  pensive_sequence* paths[2] = {NULL, NULL};
  for (int i = 0; i < 2; ++i)
    CHECK_OK(pensive_engine_start(world->engine, request, &paths[i], &error));
  for (int i = 0; i < 9; ++i) CHECK_OK(pensive_engine_step(world->engine, NULL, &error));
  CHECK_OK(pensive_sequence_rewind(paths[1], 6, PENSIVE_DRAWS_SAME, &error));
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "tokens to take back",
              pensive_sequence_rewind(paths[1], 999, PENSIVE_DRAWS_SAME, &error));
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "draws", pensive_sequence_rewind(paths[1], 1, 7, &error));
  CHECK_OK(pensive_engine_finish(world->engine, paths, 2, &error));
  int32_t* ids[2];
  size_t counts[2];
  for (int i = 0; i < 2; ++i)
    CHECK_OK(pensive_sequence_get_response(paths[i], &ids[i], &counts[i], &error));
  CHECK(counts[0] == 32 && counts[1] == 32);
  CHECK(memcmp(ids[0], ids[1], 32 * sizeof(int32_t)) == 0);
  pensive_trace_action action = PENSIVE_TRACE_ACTION_INIT;
  CHECK_OK(pensive_sequence_get_action(paths[1], 0, &action, &error));
  CHECK(strcmp(action.kind, "rewind") == 0 && action.taken_back == 6);
  for (int i = 0; i < 2; ++i) {
    pensive_free(ids[i]);
    pensive_sequence_free(paths[i]);
  }
}

/* Scores are the logprobs that the trace tells of a prompt. */
static void test_scores(const World* world, pensive_request request) {
  pensive_sequence* sequence = NULL;
  const size_t half = request.prompt_count / 2;
  float scores[64];
  CHECK(request.prompt_count - half <= 64);
  CHECK_OK(pensive_engine_score(world->engine, request.prompt, half, request.prompt + half,
                                request.prompt_count - half, scores, &error));
  request.prompt_logprobs = 1;
  request.top_logprobs = 2;
  CHECK_OK(pensive_engine_submit(world->engine, &request, &sequence, &error));
  CHECK_OK(pensive_engine_finish(world->engine, &sequence, 1, &error));
  pensive_trace trace = PENSIVE_TRACE_INIT;
  CHECK_OK(pensive_sequence_get_trace(sequence, &trace, &error));
  for (size_t i = half; i < request.prompt_count; ++i)
    CHECK(fabsf(trace.logprobs[i] - scores[i - half]) < 1e-3f);
  CHECK(trace.top_count == 2 && trace.top_tokens[0] == -1 && isnan(trace.top_logprobs[1]));
  for (size_t i = 1; i < trace.count; ++i)
    CHECK(trace.top_logprobs[2 * i] >= trace.top_logprobs[2 * i + 1] &&
          trace.logprobs[i] <= trace.top_logprobs[2 * i] + 1e-6f);
  pensive_sequence_free(sequence);
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "no continuation",
              pensive_engine_score(world->engine, request.prompt, half, NULL, 0, scores, &error));
}

static void test_wishes(const World* world, pensive_request request) {
  const int32_t allowed[2] = {request.prompt[0], request.prompt[1]};
  const float bias = 100;
  pensive_sequence* sequence = NULL;
  pensive_request wish = request;
  wish.allowed_tokens = allowed;
  wish.allowed_count = 2;
  wish.bias_tokens = &allowed[1];
  wish.biases = &bias;
  wish.bias_count = 1;
  wish.presence_penalty = 1;
  wish.frequency_penalty = 1;
  wish.given |= PENSIVE_GIVEN_MIN_P | PENSIVE_GIVEN_REPETITION_PENALTY;
  wish.min_p = 0.1f;
  wish.repetition_penalty = 1.5f;
  CHECK_OK(pensive_engine_start(world->engine, &wish, &sequence, &error));
  CHECK_OK(pensive_engine_finish(world->engine, &sequence, 1, &error));
  pensive_trace trace = PENSIVE_TRACE_INIT;
  CHECK_OK(pensive_sequence_get_trace(sequence, &trace, &error));
  CHECK(trace.tokens[request.prompt_count] == allowed[1]);
  for (size_t i = request.prompt_count; i < trace.count; ++i)
    CHECK(trace.tokens[i] == allowed[0] || trace.tokens[i] == allowed[1]);
  pensive_sequence_free(sequence);
  wish.given = 0;
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "seed",
              pensive_engine_start(world->engine, &wish, &sequence, &error));
  wish = request;
  wish.min_p = 0.1f;
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "min_p",
              pensive_engine_start(world->engine, &wish, &sequence, &error));
  wish = request;
  wish.struct_size = offsetof(pensive_request, min_p); /* an older caller's */
  wish.min_p = NAN;
  CHECK_OK(pensive_engine_start(world->engine, &wish, &sequence, &error));
  pensive_sequence_free(sequence);
  wish = request;
  wish.timeout_seconds = 1e-9;
  CHECK_OK(pensive_engine_start(world->engine, &wish, &sequence, &error));
  CHECK_OK(pensive_engine_finish(world->engine, &sequence, 1, &error));
  CHECK_OK(pensive_sequence_get_trace(sequence, &trace, &error));
  CHECK(trace.stopped == PENSIVE_STOP_DEADLINE);
  pensive_sequence_free(sequence);
}

typedef struct {
  size_t shown, ends, destroyed;
  char text[4096];
} Told;

static void on_text(void* user, const pensive_event* event) {
  Told* told = user;
  CHECK(told->shown + event->size < sizeof told->text);
  memcpy(told->text + told->shown, event->text, event->size);
  told->shown += event->size;
}
static void on_end(void* user, const pensive_trace* trace) {
  ((Told*)user)->ends += trace->stopped == PENSIVE_STOP_LENGTH;
}
static void on_destroy(void* user) { ++((Told*)user)->destroyed; }

static void test_serving(const World* world, const pensive_request* request) {
  pensive_serve_options options = PENSIVE_SERVE_OPTIONS_INIT;
  pensive_server* server = NULL;
  pensive_job* jobs[2] = {NULL, NULL};
  Told told = {0, 0, 0, ""};
  pensive_listener listener = PENSIVE_LISTENER_INIT;
  listener.user = &told;
  listener.on_text = on_text;
  listener.on_end = on_end;
  listener.destroy = on_destroy;
  CHECK_OK(pensive_server_new(world->engine, &options, &server, &error));
  CHECK_FAILS(PENSIVE_BUSY, "another thread", pensive_engine_step(world->engine, NULL, &error));
  CHECK_OK(pensive_server_submit(server, request, &listener, &jobs[0], &error));
  CHECK_OK(pensive_server_submit(server, request, NULL, &jobs[1], &error));
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "job",
              pensive_server_submit(server, request, NULL, NULL, &error));
  int32_t finished = 0;
  for (int i = 0; i < 2; ++i) {
    while (!finished) CHECK_OK(pensive_job_wait(jobs[i], 1, &finished, &error));
    CHECK(pensive_job_finished(jobs[i]));
    finished = 0;
  }
  CHECK_OK(pensive_server_drain(server, &error));
  CHECK(told.ends == 1 && told.destroyed == 1);
  char text[4096] = "";
  for (;;) {
    pensive_event event = PENSIVE_EVENT_INIT;
    CHECK_OK(pensive_job_next_event(jobs[1], &event, &error));
    if (!event.text) break;
    strncat(text, event.text, sizeof text - strlen(text) - 1);
  }
  CHECK(told.shown > 0 && strlen(text) == told.shown && memcmp(text, told.text, told.shown) == 0);
  pensive_trace trace = PENSIVE_TRACE_INIT;
  CHECK_OK(pensive_job_get_trace(jobs[1], &trace, &error));
  CHECK(trace.count == request->prompt_count + 32);
  pensive_server_counters counters = PENSIVE_SERVER_COUNTERS_INIT;
  CHECK_OK(pensive_server_get_counters(server, &counters, &error));
  CHECK(counters.submitted == 2 && counters.finished == 2 && counters.failed == 0);
  CHECK_FAILS(PENSIVE_CANCELLED, "drained or stopped",
              pensive_server_submit(server, request, &listener, NULL, &error));
  CHECK(told.destroyed == 1); /* still the caller's */
  pensive_job_cancel(jobs[0]);
  pensive_job_free(jobs[0]);
  pensive_server_free(server);
  pensive_job_free(jobs[1]);
}

/* What is left out of the text is what a stop text begins with. */
static void test_stopping(const World* world, pensive_request request) {
  pensive_sequence* sequence = NULL;
  char text[4096] = "";
  const char* stop = NULL;
  char wanted[3] = "";
  for (int run = 0; run < 2; ++run) {
    CHECK_OK(pensive_engine_start(world->engine, &request, &sequence, &error));
    CHECK_OK(pensive_engine_finish(world->engine, &sequence, 1, &error));
    char seen[4096] = "";
    for (;;) {
      pensive_event event = PENSIVE_EVENT_INIT;
      CHECK_OK(pensive_sequence_next_event(sequence, &event, &error));
      if (!event.text) break;
      strncat(seen, event.text, sizeof seen - strlen(seen) - 1);
    }
    pensive_trace trace = PENSIVE_TRACE_INIT;
    CHECK_OK(pensive_sequence_get_trace(sequence, &trace, &error));
    if (run == 0) {
      strcpy(text, seen);
      CHECK(strlen(text) > 8 && trace.stop_text[0] == '\0');
      memcpy(wanted, text + 5, 2);
      stop = wanted;
      request.stop_texts = &stop;
      request.stop_text_count = 1;
    } else {
      CHECK(trace.stopped == PENSIVE_STOP_STOP_TEXT && strcmp(trace.stop_text, wanted) == 0);
      CHECK(!strstr(seen, wanted) && strncmp(seen, text, strlen(seen)) == 0);
    }
    pensive_sequence_free(sequence);
  }
}

static void test_memory(void) {
  pensive_engine_options options = PENSIVE_ENGINE_OPTIONS_INIT;
  options.cache_tokens = 8192;
  pensive_model_options model = PENSIVE_MODEL_OPTIONS_INIT;
  model.device = "cpu";
  pensive_memory_plan plan = PENSIVE_MEMORY_PLAN_INIT;
  CHECK_OK(pensive_plan_memory(PENSIVE_REASONER, &model, &options, NULL, 0, 512, &plan, &error));
  CHECK(plan.fits && plan.cache_tokens == 8192 && plan.most_sequences > 16);
  CHECK(plan.weight_bytes > 0 && plan.training_bytes == 0 && plan.runtime_bytes == 0);
  model.device = "cuda"; /* none need be there */
  pensive_train_options training = PENSIVE_TRAIN_OPTIONS_INIT;
  CHECK_OK(pensive_plan_memory(PENSIVE_REASONER, &model, &options, &training, 1 << 20, 0, &plan,
                               &error));
  CHECK(!plan.fits && plan.memory_bytes == 1 << 20 && plan.bytes > plan.training_bytes);
  CHECK(plan.training_bytes > 0 && strcmp(plan.to_lower, "max_batch_tokens") == 0);
  const int64_t usual = plan.training_bytes;
  pensive_request rollout = PENSIVE_REQUEST_INIT;
  rollout.max_new_tokens = 2000000000; /* more than there are positions */
  training.rollout = &rollout;
  CHECK_OK(pensive_plan_memory(PENSIVE_REASONER, &model, &options, &training, 1 << 20, 0, &plan,
                               &error));
  CHECK(plan.training_bytes == usual && !plan.fits);
  training.max_batch_tokens = -5;
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "max_batch_tokens",
              pensive_plan_memory(PENSIVE_REASONER, &model, &options, &training, 1 << 20, 0, &plan,
                                  &error));
  CHECK_FAILS(
      PENSIVE_INVALID_ARGUMENT, "positions",
      pensive_plan_memory(PENSIVE_REASONER, &model, &options, NULL, 1 << 20, 1025, &plan, &error));
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "memory_bytes",
              pensive_plan_memory(PENSIVE_REASONER, &model, &options, NULL, -1, 0, &plan, &error));
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "directory",
              pensive_plan_memory(NULL, &model, &options, NULL, 0, 0, &plan, &error));
}

void test_engine(const World* world) {
  test_memory();
  size_t count = 0;
  int32_t* prompt = ask(world, "7 * 8 - 5", &count);
  const pensive_request request = request_of(prompt, count);
  test_rewinding(world, &request);
  test_scores(world, request);
  test_wishes(world, request);
  test_stopping(world, request);
  test_serving(world, &request);
  pensive_free(prompt);
}
