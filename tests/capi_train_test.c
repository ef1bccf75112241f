/* The C door's trainer: what it may be told, what it reports, its checkpoints. */
#include "capi_test.h"

typedef struct {
  int asked;
  pensive_trainer* trainer; /* the one that asks */
} Judged;

/* Rewards an even number of thinking tokens: something that differs within a group. What the
 * trainer is in the middle of can be neither kept nor replaced. */
static int32_t score_even(void* user, const pensive_problem* problem,
                          const pensive_response* response, double* score) {
  CHECK(problem->question && response->text[response->text_size] == '\0');
  Judged* judged = user;
  ++judged->asked;
  CHECK_FAILS(PENSIVE_BUSY, "one caller at a time",
              pensive_trainer_save_checkpoint(judged->trainer, "/nonexistent/pensive", &error));
  CHECK_FAILS(PENSIVE_BUSY, "one caller at a time",
              pensive_trainer_resume(judged->trainer, "/nonexistent/pensive", &error));
  *score = response->think_tokens % 2 == 0;
  return PENSIVE_OK;
}
static int32_t score_refuses(void* user, const pensive_problem* problem,
                             const pensive_response* response, double* score) {
  (void)user, (void)problem, (void)response, (void)score;
  return PENSIVE_DEADLINE;
}

static pensive_judge* judge_of(int32_t (*score)(void*, const pensive_problem*,
                                                const pensive_response*, double*),
                               void* user) {
  pensive_judge_callbacks callbacks = PENSIVE_JUDGE_CALLBACKS_INIT;
  callbacks.user = user;
  callbacks.score = score;
  pensive_judge* judge = NULL;
  CHECK_OK(pensive_judge_new(&callbacks, &judge, &error));
  return judge;
}

static int32_t prompt_of(void* user, const pensive_problem* problem, const int32_t** ids,
                         size_t* count) {
  static int32_t prompt[256];
  int32_t* asked = ask(user, problem->question, count);
  CHECK(*count <= 256);
  memcpy(prompt, asked, *count * sizeof *prompt);
  pensive_free(asked);
  *ids = prompt;
  return PENSIVE_OK;
}

/* The options of a small training run; `guide` feeds the row wherever the thinking would end. */
static pensive_train_options training(const World* world, pensive_request* rollout,
                                      pensive_prompting* prompting, pensive_guide** guide) {
  pensive_continue_options again = PENSIVE_CONTINUE_OPTIONS_INIT;
  again.with = &world->row;
  again.with_count = 1;
  CHECK_OK(pensive_guide_new_continue(&again, guide, &error));
  rollout->guides = guide;
  rollout->guide_count = 1;
  rollout->max_new_tokens = 96;
  rollout->given = PENSIVE_GIVEN_TEMPERATURE;
  rollout->temperature = 1;
  prompting->user = (void*)world;
  prompting->prompt_of = prompt_of;
  pensive_train_options options = PENSIVE_TRAIN_OPTIONS_INIT;
  options.rollout = rollout;
  options.prompting = prompting;
  options.group_size = 4;
  options.seed = 5;
  return options;
}

/* Every option at once, and rewards by name. */
static void test_options(const World* world, const pensive_problems* problems) {
  Judged judged = {0, NULL};
  pensive_judge* even = judge_of(score_even, &judged);
  pensive_judge* boxed = NULL;
  CHECK_OK(pensive_judge_new_boxed(&boxed, &error));
  pensive_request rollout = PENSIVE_REQUEST_INIT;
  pensive_prompting prompting = PENSIVE_PROMPTING_INIT;
  pensive_guide* guide = NULL;
  pensive_train_options options = training(world, &rollout, &prompting, &guide);
  const char* const names[] = {"even", "boxed"};
  const pensive_judge* const judges[] = {even, boxed};
  const double weights[] = {0.5, 2};
  rollout.guides = NULL;
  rollout.guide_count = 0;
  options.one_of = &guide;
  options.one_of_count = 1;
  options.reward_names = names;
  options.reward_judges = judges;
  options.reward_weights = weights;
  options.reward_count = 2;
  options.clip_high = 0.3;
  options.max_importance_weight = 2;
  options.kl = 0.1;
  options.pull = 0.1;
  options.max_row_distance = 0.125;
  options.stop_errors = -1;
  options.learning_rate = 1;
  options.inner_steps = 2;
  options.advantage_scale = PENSIVE_SCALE_NONE;
  options.denominator = PENSIVE_DENOMINATOR_CONSTANT;
  options.constant_tokens = 50;
  options.rate_unit = PENSIVE_RATE_START_RMS;
  options.truncated = PENSIVE_TRUNCATED_MASKED;
  options.answer_tokens = 20;
  pensive_trainer* trainer = NULL;
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "both",
              pensive_trainer_new(world->engine, world->soft, world->row, even, &options, &trainer,
                                  &error));
  options.denominator = 3;
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "denominator",
              pensive_trainer_new(world->engine, world->soft, world->row, NULL, &options, &trainer,
                                  &error));
  options.denominator = PENSIVE_DENOMINATOR_CONSTANT;
  options.logprobs = 2;
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "logprobs",
              pensive_trainer_new(world->engine, world->soft, world->row, NULL, &options, &trainer,
                                  &error));
  options.logprobs = PENSIVE_LOGPROBS_EXACT;
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "row-invariant",
              pensive_trainer_new(world->engine, world->soft, world->row, NULL, &options, &trainer,
                                  &error));
  options.logprobs = PENSIVE_LOGPROBS_FAST;
  CHECK_OK(pensive_trainer_new(world->engine, world->soft, world->row, NULL, &options, &trainer,
                               &error));
  judged.trainer = trainer;
  double rates[3] = {-1, -1, -1};
  CHECK_OK(pensive_trainer_pass_rates(trainer, problems, even, rates, &error));
  CHECK(judged.asked == 12 && rates[0] >= 0 && rates[2] >= 0 && rates[2] <= 1);
  pensive_train_report report = PENSIVE_TRAIN_REPORT_INIT;
  CHECK_OK(pensive_trainer_step(trainer, problems, &report, &error));
  CHECK(report.part_count == 2 && report.learning_rate > 0 && report.mean_weight > 0);
  const double parts = 0.5 * report.mean_parts[0] + 2 * report.mean_parts[1];
  CHECK(report.mean_reward > parts - 1e-9 && report.mean_reward < parts + 1e-9);
  CHECK(report.row_distance <= 0.1250001 && report.has_stopped == 0 && report.judge_seconds > 0);
  CHECK(pensive_trainer_has_stopped(trainer) == 0 && pensive_trainer_has_stopped(NULL) == 0);
  pensive_trainer_free(trainer);
  options.reward_count = 0; /* the paper's */
  CHECK_OK(pensive_trainer_new(world->engine, world->soft, world->row, NULL, &options, &trainer,
                               &error));
  pensive_trainer_free(trainer);
  pensive_guide_free(guide);
  pensive_judge_free(even);
  pensive_judge_free(boxed);
}

static void test_exact_logprobs(const World* world, const pensive_problems* problems) {
  pensive_engine_options exact = PENSIVE_ENGINE_OPTIONS_INIT;
  exact.soft = world->soft;
  exact.cache_tokens = 8192;
  exact.row_invariant = 1;
  pensive_engine* engine = NULL;
  CHECK_OK(pensive_engine_new(world->model, &exact, &engine, &error));
  pensive_request rollout = PENSIVE_REQUEST_INIT;
  pensive_prompting prompting = PENSIVE_PROMPTING_INIT;
  pensive_guide* guide = NULL;
  pensive_train_options options = training(world, &rollout, &prompting, &guide);
  Judged judged = {0, NULL};
  pensive_judge* judge = judge_of(score_even, &judged);
  for (options.logprobs = PENSIVE_LOGPROBS_FAST; options.logprobs <= PENSIVE_LOGPROBS_EXACT;
       ++options.logprobs) {
    pensive_trainer* trainer = NULL;
    CHECK_OK(
        pensive_trainer_new(engine, world->soft, world->row, judge, &options, &trainer, &error));
    judged.trainer = trainer;
    pensive_train_report report = PENSIVE_TRAIN_REPORT_INIT;
    CHECK_OK(pensive_trainer_step(trainer, problems, &report, &error));
    CHECK(report.gradient_norm > 0);
    CHECK((report.max_logprob_gap == 0) == (options.logprobs == PENSIVE_LOGPROBS_EXACT));
    pensive_trainer_free(trainer);
  }
  pensive_guide_free(guide);
  pensive_judge_free(judge);
  pensive_engine_free(engine);
}

static int32_t too_long(void* user, const pensive_problem* problem, const int32_t** ids,
                        size_t* count) {
  static int32_t prompt[1 << 16];
  (void)user;
  *ids = prompt;
  *count = strcmp(problem->id, "long") == 0 ? sizeof prompt / sizeof *prompt : 8;
  return PENSIVE_OK;
}

static void test_prompts(const World* world) {
  pensive_prompting prompting = PENSIVE_PROMPTING_INIT;
  prompting.prompt_of = too_long;
  pensive_train_options options = PENSIVE_TRAIN_OPTIONS_INIT;
  options.prompting = &prompting;
  pensive_trainer* trainer = NULL;
  CHECK_OK(pensive_trainer_new(world->engine, world->soft, world->row, NULL, &options, &trainer,
                               &error));
  const char* const ids[] = {"short", "long"};
  const char* const texts[] = {"q", "q"};
  pensive_problems problems = PENSIVE_PROBLEMS_INIT;
  problems.ids = ids;
  problems.questions = texts;
  problems.references = texts;
  problems.count = 1;
  CHECK_OK(pensive_trainer_check_prompts(trainer, &problems, &error));
  problems.count = 2;
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "problem long",
              pensive_trainer_check_prompts(trainer, &problems, &error));
  pensive_trainer_free(trainer);
}

static void test_training(const World* world, const pensive_problems* problems) {
  Judged judged = {0, NULL};
  pensive_judge* judge = judge_of(score_even, &judged);
  pensive_judge* refusing = judge_of(score_refuses, NULL);
  pensive_request rollout = PENSIVE_REQUEST_INIT;
  pensive_prompting prompting = PENSIVE_PROMPTING_INIT;
  pensive_guide* guide = NULL;
  pensive_train_options options = training(world, &rollout, &prompting, &guide);
  pensive_trainer* trainer = NULL;
  pensive_trainer* second = NULL;
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "",
              pensive_trainer_new(world->engine, world->soft, world->row + 9, judge, &options,
                                  &trainer, &error));
  options.branch = 7;
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "branch",
              pensive_trainer_new(world->engine, world->soft, world->row, judge, &options, &trainer,
                                  &error));
  options.branch = PENSIVE_BRANCH_AT_SOFT_TOKEN;
  CHECK_OK(pensive_trainer_new(world->engine, world->soft, world->row, judge, &options, &trainer,
                               &error));
  judged.trainer = trainer;
  pensive_train_report report = PENSIVE_TRAIN_REPORT_INIT;
  const uint64_t before = pensive_soft_version(world->soft);
  for (int step = 1; step <= 2; ++step) {
    CHECK_OK(pensive_trainer_step(trainer, problems, &report, &error));
    CHECK(report.step == step && report.mean_tokens > 0 && report.row_norm > 0);
    CHECK(report.mean_reward >= 0 && report.mean_reward <= 1);
  }
  CHECK(judged.asked == 2 * 4 * (int)problems->count && pensive_trainer_steps_done(trainer) == 2);
  CHECK((pensive_soft_version(world->soft) != before) == (report.row_distance > 0));

  char file[320];
  snprintf(file, sizeof file, "%s/checkpoint", world->folder);
  CHECK_OK(pensive_trainer_save_checkpoint(trainer, file, &error));
  pensive_trainer_free(trainer);
  CHECK_OK(pensive_trainer_new(world->engine, world->soft, world->row, judge, &options, &second,
                               &error));
  pensive_train_report last = PENSIVE_TRAIN_REPORT_INIT;
  CHECK_OK(pensive_trainer_get_last_report(second, &last, &error));
  CHECK(last.step == 0);
  CHECK_OK(pensive_trainer_resume(second, file, &error));
  CHECK(pensive_trainer_steps_done(second) == 2);
  CHECK_OK(pensive_trainer_get_last_report(second, &last, &error));
  CHECK(memcmp(&last, &report, sizeof last) == 0);
  CHECK_OK(pensive_trainer_check_prompts(second, problems, &error));
  CHECK_FAILS(PENSIVE_NOT_FOUND, "",
              pensive_trainer_resume(second, "/nonexistent/pensive", &error));
  pensive_trainer_free(second);
  options.branch = PENSIVE_BRANCH_AT_PROMPT;
  CHECK_OK(pensive_trainer_new(world->engine, world->soft, world->row, judge, &options, &second,
                               &error));
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "branch", pensive_trainer_resume(second, file, &error));
  pensive_trainer_free(second);
  options.branch = PENSIVE_BRANCH_AT_SOFT_TOKEN;
  options.run = "other problems";
  CHECK_OK(pensive_trainer_new(world->engine, world->soft, world->row, judge, &options, &second,
                               &error));
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "run = other problems",
              pensive_trainer_resume(second, file, &error));
  pensive_trainer_free(second);
  options.struct_size = (uint32_t)offsetof(pensive_train_options, run); /* as compiled before */
  CHECK_OK(pensive_trainer_new(world->engine, world->soft, world->row, judge, &options, &second,
                               &error));
  CHECK_OK(pensive_trainer_resume(second, file, &error));
  pensive_trainer_free(second);
  test_prompts(world);

  CHECK_OK(pensive_trainer_new(world->engine, world->soft, world->row, refusing, &options, &trainer,
                               &error));
  const uint64_t kept = pensive_soft_version(world->soft);
  CHECK_FAILS(PENSIVE_DEADLINE, "score", pensive_trainer_step(trainer, problems, NULL, &error));
  CHECK(pensive_trainer_steps_done(trainer) == 0 && pensive_soft_version(world->soft) == kept);
  pensive_trainer_free(trainer);
  pensive_guide_free(guide);
  pensive_judge_free(judge);
  pensive_judge_free(refusing);
}

void test_trainer(const World* world, const pensive_problems* problems) {
  test_options(world, problems);
  test_exact_logprobs(world, problems);
  test_training(world, problems);
}
