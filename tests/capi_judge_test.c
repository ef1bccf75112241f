/* Judges: what each gives to a sequence whose tokens are known. */
#include <math.h>

#include "capi_test.h"

typedef struct {
  int asked;
  int32_t status;
  int32_t reply;
  int freed;
} Grader;

static int32_t grade(void* user, const char* prompt, size_t prompt_size, int32_t* is_right) {
  Grader* grader = user;
  ++grader->asked;
  CHECK(strlen(prompt) == prompt_size && strstr(prompt, "correct answer: 24 student's"));
  *is_right = grader->reply;
  return grader->status;
}
static void free_grader(void* user) { ++((Grader*)user)->freed; }

/* How problem and response look to a judge that was given one through the arrays. */
static int32_t score_target(void* user, const pensive_problem* problem,
                            const pensive_response* response, double* score) {
  CHECK(response->tokens == 4 && response->segment_count == 1);
  CHECK(response->segment_is_thinking[0] == 1 && response->segment_begins[0] == 0);
  CHECK(response->segment_tokens[0] == response->think_tokens);
  CHECK(response->segment_text_sizes[0] == response->thinking_size);
  CHECK(strcmp(response->segment_texts[0], response->thinking) == 0);
  CHECK(problem->intermediate_count == (problem->target_tokens == 1 ? 2 : 0));
  if (problem->intermediate_count > 0) CHECK(strcmp(problem->intermediates[1], "2") == 0);
  *score = problem->target_tokens;
  ++*(int*)user;
  return PENSIVE_OK;
}

static double score_of(const pensive_sequence* sequence, const pensive_judge* judge) {
  double score = -99;
  CHECK_OK(pensive_sequence_score(sequence, judge, "12 + 3 * 4", "24", &score, &error));
  return score;
}

static void test_lengths(const pensive_sequence* sequence, int32_t tokens) {
  pensive_judge *one = NULL, *price = NULL, *made = NULL;
  CHECK_OK(pensive_judge_new_token_price(0.5, &price, &error));
  CHECK(score_of(sequence, price) == -0.5 * tokens);
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "finite price",
              pensive_judge_new_token_price(NAN, &made, &error));
  /* Minus the price per token is one per token. */
  CHECK_OK(pensive_judge_new_sum(price, price, -3.0, &one, &error));
  CHECK(score_of(sequence, one) == tokens);
  pensive_length_options options = PENSIVE_LENGTH_OPTIONS_INIT;
  options.target_tokens = tokens + 100;
  CHECK_OK(pensive_judge_new_lcpo_exact(one, &options, &made, &error));
  CHECK(fabs(score_of(sequence, made) - (tokens - 0.03)) < 1e-9);
  pensive_judge_free(made);
  CHECK_OK(pensive_judge_new_lcpo_max(one, &options, &made, &error));
  CHECK(fabs(score_of(sequence, made) - tokens * 0.53) < 1e-9);
  pensive_judge_free(made);
  CHECK_OK(pensive_judge_new_lcpo_max(one, NULL, &made, &error));
  double score = 0;
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "target_tokens",
              pensive_sequence_score(sequence, made, NULL, "24", &score, &error));
  pensive_judge_free(made);
  options.per_token = -1;
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "per_token",
              pensive_judge_new_lcpo_exact(one, &options, &made, &error));
  pensive_judge_free(one);
  pensive_judge_free(price);
}

static void test_hybrid(const pensive_sequence* sequence) {
  Grader grader = {0, PENSIVE_OK, 1, 0};
  pensive_grader_callbacks callbacks = PENSIVE_GRADER_CALLBACKS_INIT;
  pensive_judge *inner = NULL, *made = NULL;
  CHECK_OK(pensive_judge_new_correct_boxed(&inner, &error));
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "ask",
              pensive_judge_new_hybrid(inner, &callbacks, &made, &error));
  callbacks.ask = grade;
  callbacks.user = &grader;
  callbacks.destroy = free_grader;
  CHECK_OK(pensive_judge_new_hybrid(inner, &callbacks, &made, &error));
  /* The embedded model answers without a box. */
  CHECK(score_of(sequence, inner) == 0);
  CHECK(score_of(sequence, made) == 1 && grader.asked == 1);
  grader.reply = 0;
  CHECK(score_of(sequence, made) == 0 && grader.asked == 2);
  grader.status = PENSIVE_CANCELLED;
  double score = 0;
  CHECK_FAILS(PENSIVE_CANCELLED, "ask",
              pensive_sequence_score(sequence, made, "?", "24", &score, &error));
  CHECK(grader.freed == 0);
  pensive_judge_free(made);
  CHECK(grader.freed == 1);
  pensive_judge_free(inner);
}

/* `sequence` has an answer, and no box. */
static void test_lenient_hybrid(const pensive_sequence* sequence) {
  Grader grader = {0, PENSIVE_OK, 1, 0};
  pensive_grader_callbacks callbacks = PENSIVE_GRADER_CALLBACKS_INIT;
  pensive_judge *inner = NULL, *made = NULL;
  CHECK_OK(pensive_judge_new_correct_boxed(&inner, &error));
  callbacks.ask = grade;
  callbacks.user = &grader;
  callbacks.is_lenient = 2;
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "is_lenient",
              pensive_judge_new_hybrid(inner, &callbacks, &made, &error));
  callbacks.is_lenient = 1;
  CHECK_OK(pensive_judge_new_hybrid(inner, &callbacks, &made, &error));
  CHECK(score_of(sequence, made) == 0 && grader.asked == 0);
  pensive_judge_free(made);
  callbacks.is_lenient = 0;
  CHECK_OK(pensive_judge_new_hybrid(inner, &callbacks, &made, &error));
  CHECK(score_of(sequence, made) == 1 && grader.asked == 1);
  pensive_judge_free(made);
  /* As a program has it that was compiled before. */
  callbacks.is_lenient = 1;
  callbacks.struct_size = (uint32_t)offsetof(pensive_grader_callbacks, is_lenient);
  CHECK_OK(pensive_judge_new_hybrid(inner, &callbacks, &made, &error));
  CHECK(score_of(sequence, made) == 1 && grader.asked == 2);
  pensive_judge_free(made);
  pensive_judge_free(inner);
}

static void test_targets(const World* world) {
  int asked = 0;
  pensive_judge_callbacks callbacks = PENSIVE_JUDGE_CALLBACKS_INIT;
  callbacks.score = score_target;
  callbacks.user = &asked;
  pensive_judge* judge = NULL;
  CHECK_OK(pensive_judge_new(&callbacks, &judge, &error));
  const char* const questions[] = {"1 + 2", "3 * 4"};
  const char* const references[] = {"3", "12"};
  const int32_t targets[] = {1, 0};
  pensive_problems problems = PENSIVE_PROBLEMS_INIT;
  problems.questions = questions;
  problems.references = references;
  problems.target_tokens = targets;
  const char* const steps[] = {"1", "2"};
  const char* const* const intermediates[] = {steps, NULL};
  const size_t counts[] = {2, 0};
  problems.intermediates = intermediates;
  problems.count = 2;
  pensive_request request = PENSIVE_REQUEST_INIT;
  request.max_new_tokens = 4;
  pensive_exam_options options = PENSIVE_EXAM_OPTIONS_INIT;
  options.request = &request;
  pensive_exam* exam = NULL;
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "intermediate_counts",
              pensive_exam_run(world->engine, &problems, judge, &options, &exam, &error));
  problems.intermediate_counts = counts;
  CHECK_OK(pensive_exam_run(world->engine, &problems, judge, &options, &exam, &error));
  pensive_exam_result result = PENSIVE_EXAM_RESULT_INIT;
  CHECK_OK(pensive_exam_get_result(exam, &result, &error));
  CHECK(asked == 2 && result.accuracy == 0.5);
  pensive_exam_free(exam);
  pensive_judge_free(judge);
}

void test_judges(const World* world) {
  size_t count = 0;
  int32_t* prompt = ask(world, "12 + 3 * 4", &count);
  pensive_request request = PENSIVE_REQUEST_INIT;
  request.prompt = prompt;
  request.prompt_count = count;
  request.max_new_tokens = 24;
  pensive_sequence* sequence = NULL;
  CHECK_OK(pensive_engine_start(world->engine, &request, &sequence, &error));
  CHECK_OK(pensive_engine_finish(world->engine, &sequence, 1, &error));
  pensive_trace trace = PENSIVE_TRACE_INIT;
  CHECK_OK(pensive_sequence_get_trace(sequence, &trace, &error));
  int32_t tokens = 0;
  for (size_t i = (size_t)trace.prompt_tokens; i < trace.count; ++i)
    tokens += !trace.is_marker[i] && !trace.is_taken_back[i];
  test_lengths(sequence, tokens);
  test_hybrid(sequence);
  test_targets(world);
  pensive_sequence_free(sequence);
  request.max_new_tokens = 500;
  CHECK_OK(pensive_engine_start(world->engine, &request, &sequence, &error));
  CHECK_OK(pensive_engine_finish(world->engine, &sequence, 1, &error));
  test_lenient_hybrid(sequence);
  pensive_sequence_free(sequence);
  free(prompt);
}
