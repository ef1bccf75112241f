/* The C door's second half: answers, rows and how they are kept, exams. */
#include "capi_test.h"

static void test_answers(void) {
  char* answer = NULL;
  int32_t same = -1;
  CHECK_OK(pensive_find_answer("so \\boxed{42}.", PENSIVE_ZERO_TERMINATED, &answer, &error));
  CHECK(answer && strcmp(answer, "42") == 0);
  pensive_free(answer);
  CHECK_OK(pensive_find_answer("I do not know", PENSIVE_ZERO_TERMINATED, &answer, &error));
  CHECK(!answer);
  CHECK_OK(pensive_find_boxed("the answer is 7", PENSIVE_ZERO_TERMINATED, &answer, &error));
  CHECK(!answer);
  CHECK_OK(pensive_find_boxed("so \\boxed{42}.", PENSIVE_ZERO_TERMINATED, &answer, &error));
  CHECK(answer && strcmp(answer, "42") == 0);
  pensive_free(answer);
  CHECK_OK(pensive_same_answer("\\frac{1}{2}", "0.5", &same, &error));
  CHECK(same == 1);
  CHECK_OK(pensive_same_answer("1,000.0", "1000", &same, &error));
  CHECK(same == 1);
  CHECK_OK(pensive_same_answer("41", "42", &same, &error));
  CHECK(same == 0);
}

static void test_rows(const World* world) {
  char file[320];
  pensive_soft* loaded = NULL;
  float* values = NULL;
  float* again = NULL;
  size_t width = 0;
  size_t count = 0;
  char* name = NULL;
  int32_t id = 0;
  snprintf(file, sizeof file, "%s/row.safetensors", world->folder);
  CHECK_OK(pensive_soft_get_row(world->soft, world->row, &values, &width, &error));
  CHECK(width > 0);
  const uint64_t before = pensive_soft_version(world->soft);
  values[0] += 1;
  CHECK_OK(pensive_soft_set_row(world->soft, world->row, values, width, &error));
  CHECK(pensive_soft_version(world->soft) != before);
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "",
              pensive_soft_set_row(world->soft, world->row, values, width - 1, &error));
  CHECK_OK(pensive_soft_save(world->soft, file, "{\"steps\": 2}", &error));
  CHECK_OK(pensive_soft_load(world->model, file, &loaded, &error));
  pensive_soft* carried = NULL;
  char* from = NULL;
  CHECK_OK(pensive_soft_carry(world->model, file, &carried, &error));
  CHECK_OK(pensive_soft_get_carried_from(carried, &from, &error));
  CHECK(strcmp(from, "") == 0); /* the same model */
  pensive_free(from);
  pensive_soft_free(carried);
  CHECK_OK(pensive_soft_find(loaded, "again", &id, &error));
  CHECK(id == world->row && pensive_soft_size(loaded) == 1);
  CHECK_OK(pensive_soft_get_row(loaded, id, &again, &count, &error));
  CHECK(count == width && memcmp(values, again, width * sizeof *values) == 0);
  CHECK(pensive_soft_version(loaded) == pensive_soft_version(world->soft));
  CHECK_OK(pensive_soft_get_name(loaded, id, &name, &error));
  CHECK(strcmp(name, "again") == 0);
  pensive_exported exported = PENSIVE_EXPORTED_INIT;
  char folder[320];
  snprintf(folder, sizeof folder, "%s/exported", world->folder);
  CHECK_OK(pensive_soft_export(loaded, id, folder, NULL, &exported, &error));
  CHECK(exported.id > 0 && exported.weight_bytes > exported.added_bytes &&
        exported.added_bytes > 0);
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "does not exist yet",
              pensive_soft_export(loaded, id, folder, "<again>", &exported, &error));
  CHECK_OK(pensive_soft_find(loaded, "nobody", &id, &error));
  CHECK(id == -1);
  pensive_free(name);
  pensive_free(values);
  pensive_free(again);
  pensive_soft_free(loaded);
}

static void count_progress(void* user, int32_t done, int32_t of) {
  CHECK(done <= of);
  *(int*)user = done;
}

static void test_exam(const World* world, const pensive_problems* problems) {
  int done = 0;
  pensive_judge* judge = NULL;
  pensive_exam* exam = NULL;
  pensive_request request = PENSIVE_REQUEST_INIT;
  pensive_exam_options options = PENSIVE_EXAM_OPTIONS_INIT;
  request.max_new_tokens = 64;
  options.request = &request;
  options.samples = 2;
  options.user = &done;
  options.progress = count_progress;
  CHECK_OK(pensive_judge_new_correct(&judge, &error));
  CHECK_OK(pensive_exam_run(world->engine, problems, judge, &options, &exam, &error));
  pensive_exam_result result = PENSIVE_EXAM_RESULT_INIT;
  CHECK_OK(pensive_exam_get_result(exam, &result, &error));
  const int32_t samples = 2 * (int32_t)problems->count;
  CHECK(result.problems == (int32_t)problems->count && result.samples == samples);
  CHECK(done == samples && result.mean_tokens > 0);
  CHECK(result.low <= result.accuracy && result.accuracy <= result.high);
  pensive_exam_sample sample = PENSIVE_EXAM_SAMPLE_INIT;
  CHECK_OK(pensive_exam_get_sample(exam, samples - 1, &sample, &error));
  CHECK(sample.problem == result.problems - 1 && sample.sample == 1);
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "index",
              pensive_exam_get_sample(exam, samples, &sample, &error));
  pensive_exam_difference difference = PENSIVE_EXAM_DIFFERENCE_INIT;
  CHECK_OK(pensive_exam_compare(exam, exam, &difference, &error));
  CHECK(difference.difference == 0 && difference.token_difference == 0);
  CHECK(difference.p_value == 1 && difference.improved == 0 && difference.worsened == 0);
  const double high = difference.high;
  CHECK(high > 0 && difference.detectable > high);
  if (result.accuracy < 1)
    CHECK(difference.errors_removed == 0 && difference.errors_low < 0 &&
          difference.errors_high > 0);
  else /* none to remove */
    CHECK(difference.errors_removed != difference.errors_removed);
  CHECK_OK(pensive_exam_compare_at(exam, exam, 0.99, &difference, &error));
  CHECK(difference.high > high);
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "confidence",
              pensive_exam_compare_at(exam, exam, 1, &difference, &error));
  CHECK(sample.answer && sample.seconds > 0 && sample.think_tokens + sample.answer_tokens > 0);
  pensive_exam_share share = PENSIVE_EXAM_SHARE_INIT;
  CHECK_OK(pensive_exam_pass_at_k(exam, 1, &share, &error));
  CHECK(share.value == result.accuracy && share.low <= share.value && share.value <= share.high);
  CHECK_OK(pensive_exam_majority_at_k(exam, 2, &share, &error));
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "at least 3 samples",
              pensive_exam_pass_at_k(exam, 3, &share, &error));

  const int32_t some[] = {samples - 1, 0};
  pensive_exam* part = NULL;
  CHECK_OK(pensive_exam_summarized(exam, some, 2, &part, &error));
  pensive_exam_result of_part = PENSIVE_EXAM_RESULT_INIT;
  CHECK_OK(pensive_exam_get_result(part, &of_part, &error));
  pensive_exam_sample first = PENSIVE_EXAM_SAMPLE_INIT;
  CHECK_OK(pensive_exam_get_sample(exam, 0, &first, &error));
  CHECK(of_part.samples == 2 && of_part.problems == result.problems);
  CHECK(of_part.mean_tokens == (first.tokens + sample.tokens) / 2.0);
  pensive_exam_free(part);
  const int32_t twice[] = {0, 0};
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "once",
              pensive_exam_summarized(exam, twice, 2, &part, &error));
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "index of a sample",
              pensive_exam_summarized(exam, &samples, 1, &part, &error));

  CHECK(sample.flops > 0 && result.mean_flops > 0 && sample.first_correct <= 1);
  CHECK(sample.is_boxed == 0 && result.strict_accuracy == 0 && result.boxed_share == 0);
  pensive_exam_scaling_result scaling = PENSIVE_EXAM_SCALING_RESULT_INIT;
  const pensive_exam* const runs[] = {exam, exam};
  const double least[] = {0, 0}, most[] = {64, 0};
  CHECK_OK(pensive_exam_scaling(runs, 2, NULL, NULL, &scaling, &error));
  CHECK(scaling.control != scaling.control && scaling.performance == result.accuracy);
  CHECK_OK(pensive_exam_scaling(runs, 2, least, most, &scaling, &error));
  CHECK(scaling.control == 0.5 && scaling.slope == 0);
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "both bounds",
              pensive_exam_scaling(runs, 2, least, NULL, &scaling, &error));

  char samples_file[320];
  snprintf(samples_file, sizeof samples_file, "%s/samples.jsonl", world->folder);
  options.samples_file = samples_file;
  pensive_exam *whole = NULL, *again = NULL, *loaded = NULL;
  CHECK_OK(pensive_exam_run(world->engine, problems, judge, &options, &whole, &error));
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "samples.jsonl",
              pensive_exam_run(world->engine, problems, judge, &options, &again, &error));
  options.resume = options.overwrite = 1;
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "both",
              pensive_exam_run(world->engine, problems, judge, &options, &again, &error));
  options.resume = 0;
  CHECK_OK(pensive_exam_run(world->engine, problems, judge, &options, &again, &error));
  pensive_exam_free(again);
  options.resume = 1;
  options.overwrite = 0;
  done = 0;
  CHECK_OK(pensive_exam_run(world->engine, problems, judge, &options, &again, &error));
  CHECK_OK(pensive_exam_load(samples_file, &loaded, &error));
  pensive_exam* const both[] = {again, loaded};
  for (int i = 0; i < 2; ++i) {
    pensive_exam_result other = PENSIVE_EXAM_RESULT_INIT;
    CHECK_OK(pensive_exam_get_result(both[i], &other, &error));
    CHECK(other.samples == samples && other.accuracy == result.accuracy);
    CHECK_OK(pensive_exam_compare(whole, both[i], &difference, &error));
    CHECK(difference.token_difference == 0);
  }
  options.seed = 9;
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "the seed",
              pensive_exam_run(world->engine, problems, judge, &options, &exam, &error));
  pensive_exam_free(loaded);
  pensive_exam_free(again);
  pensive_exam_free(whole);
  pensive_exam_free(exam);
  pensive_judge_free(judge);
}

static void test_problem_kinds(const World* world) {
  char path[320];
  snprintf(path, sizeof path, "%s/svamp.json", world->folder);
  FILE* out = fopen(path, "w");
  CHECK(out != NULL);
  fputs("[{\"ID\": \"c-1\", \"Body\": \"A\", \"Question\": \"B?\", \"Answer\": 1.0}, {\"ID\": 2}]",
        out);
  fclose(out);
  pensive_problem_file* file = NULL;
  pensive_problem_fields fields = PENSIVE_PROBLEM_FIELDS_INIT;
  fields.kind = "auto";
  CHECK_FAILS(PENSIVE_CORRUPT_FILE, "entry 2",
              pensive_problem_file_load(path, &fields, &file, &error));
  fields.skip_broken = 1;
  fields.kind = "svamp";
  CHECK_OK(pensive_problem_file_load(path, &fields, &file, &error));
  pensive_problems problems = PENSIVE_PROBLEMS_INIT;
  CHECK_OK(pensive_problem_file_get(file, &problems, &error));
  CHECK(problems.count == 1 && strcmp(problems.questions[0], "A. B?") == 0);
  CHECK(strcmp(problems.ids[0], "c-1") == 0 && strcmp(problems.references[0], "1.0") == 0);
  CHECK(pensive_problem_file_broken(file) == 1 && !pensive_problem_file_broken_why(file, 1));
  CHECK(strstr(pensive_problem_file_broken_why(file, 0), "entry 2") != NULL);
  pensive_problem_file_free(file);
  out = fopen(path, "w");
  CHECK(out != NULL);
  fputs("{\"question\": \"q\", \"answer\": \"9\", \"how\": [\"4\", 5, 9], \"long\": 64}\n", out);
  fclose(out);
  fields.kind = "auto"; /* plain, since names are given */
  fields.intermediates = "how";
  fields.target_tokens = "long";
  CHECK_OK(pensive_problem_file_load(path, &fields, &file, &error));
  CHECK_OK(pensive_problem_file_get(file, &problems, &error));
  CHECK(problems.count == 1 && problems.target_tokens[0] == 64);
  CHECK(problems.intermediate_counts[0] == 2 && strcmp(problems.intermediates[0][1], "5") == 0);
  pensive_problem_file_free(file);
  out = fopen(path, "w");
  CHECK(out != NULL);
  fputs("{\"question\": \"q\", \"answer\": \"so\\n#### 7\"}\n", out);
  fclose(out);
  CHECK_OK(pensive_problem_file_load(path, NULL, &file, &error)); /* found by its keys */
  CHECK_OK(pensive_problem_file_get(file, &problems, &error));
  CHECK(problems.count == 1 && strcmp(problems.references[0], "7") == 0);
  pensive_problem_file_free(file);
  out = fopen(path, "w");
  CHECK(out != NULL);
  fputs("{\"question\": \"q\", \"answer\": \"9\", \"how\": [\"4\", 5, 9]}\n", out);
  fclose(out);
  fields.skip_broken = 0;
  fields.target_tokens = "how";
  CHECK_FAILS(PENSIVE_CORRUPT_FILE, "a number of tokens",
              pensive_problem_file_load(path, &fields, &file, &error));
  fields.kind = "swamp";
  CHECK_FAILS(PENSIVE_INVALID_ARGUMENT, "svamp",
              pensive_problem_file_load(path, &fields, &file, &error));
}

void test_learning(const World* world) {
  test_problem_kinds(world);
  test_answers();
  test_rows(world);
  const char* const questions[] = {"12 + 3 * 4", "7 * 8 - 5", "20 + 22"};
  const char* const references[] = {"24", "51", "42"};
  pensive_problems problems = PENSIVE_PROBLEMS_INIT;
  problems.questions = questions;
  problems.references = references;
  problems.count = 3;
  test_trainer(world, &problems);
  test_exam(world, &problems);

  char file[320];
  snprintf(file, sizeof file, "%s/problems.jsonl", world->folder);
  FILE* lines = fopen(file, "w");
  CHECK(lines);
  if (!lines) return;
  fputs("{\"q\": \"1 + 1\", \"a\": \"two #### 2\"}\n{\"q\": \"2 + 2\", \"a\": \"#### 4\"}\n",
        lines);
  fclose(lines);
  pensive_problem_fields fields = PENSIVE_PROBLEM_FIELDS_INIT;
  fields.question = "q";
  fields.answer = "a";
  fields.answer_after = "#### ";
  pensive_problem_file* read = NULL;
  CHECK_OK(pensive_problem_file_load(file, &fields, &read, &error));
  CHECK_OK(pensive_problem_file_get(read, &problems, &error));
  CHECK(problems.count == 2 && strcmp(problems.references[0], "2") == 0);
  pensive_problem_file_free(read);
  CHECK_FAILS(PENSIVE_CORRUPT_FILE, "found q, a",
              pensive_problem_file_load(file, NULL, &read, &error));
}
