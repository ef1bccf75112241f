#include "pensive/exam.h"

#include "handles.h"

struct pensive_problem_file {
  std::vector<pensive::Problem> problems;
  std::vector<const char*> ids{};
  std::vector<const char*> questions{};
  std::vector<const char*> references{};
  std::vector<int32_t> targets{};
  std::vector<std::vector<const char*>> steps{};
  std::vector<const char* const*> intermediates{};
  std::vector<std::size_t> intermediate_counts{};
  std::vector<std::string> broken{};
};

struct pensive_exam {
  pensive::ExamResult value;
};

namespace door {

int32_t problem_file_load(const char* file, const pensive_problem_fields* fields,
                          pensive_problem_file** problems, pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(problems, "problems");
    const auto given = struct_in(fields, "pensive_problem_fields");
    check_zero(given.reserved, "pensive_problem_fields.reserved");
    check_zero(given.reserved2, "pensive_problem_fields.reserved2");
    const bool skips = flag_in(given.skip_broken, "pensive_problem_fields.skip_broken");
    const std::string_view kind = given.kind ? given.kind : "auto";
    const bool has_names = given.question || given.answer || given.id || given.answer_after ||
                           given.body || given.intermediates || given.target_tokens;
    // Whoever names fields tells the kind by it.
    auto wanted = pensive::problem_fields(kind == "auto" && has_names ? "plain" : kind);
    if (given.question) wanted.question = given.question;
    if (given.answer) wanted.answer = given.answer;
    if (given.id) wanted.id = given.id;
    if (given.answer_after) wanted.answer_after = given.answer_after;
    if (given.body) wanted.body = given.body;
    if (given.intermediates) wanted.intermediates = given.intermediates;
    if (given.target_tokens) wanted.target_tokens = given.target_tokens;
    auto read = std::make_unique<pensive_problem_file>();
    read->problems =
        pensive::load_problems(text_in(file, "file"), wanted, skips ? &read->broken : nullptr);
    for (const pensive::Problem& problem : read->problems) {
      read->ids.push_back(problem.id.c_str());
      read->questions.push_back(problem.question.c_str());
      read->references.push_back(problem.reference.c_str());
      read->targets.push_back(problem.target_tokens);
      std::vector<const char*>& steps = read->steps.emplace_back();
      for (const std::string& one : problem.intermediates) steps.push_back(one.c_str());
      read->intermediates.push_back(steps.data());
      read->intermediate_counts.push_back(steps.size());
    }
    slot = read.release();
  });
}

int32_t problem_file_get(const pensive_problem_file* file, pensive_problems* problems,
                         pensive_error** error) {
  return guard(error, [&] {
    const pensive_problem_file& from = need(file, "file");
    pensive_problems to{};
    to.ids = from.ids.data();
    to.questions = from.questions.data();
    to.references = from.references.data();
    to.count = from.problems.size();
    to.target_tokens = from.targets.data();
    to.intermediates = from.intermediates.data();
    to.intermediate_counts = from.intermediate_counts.data();
    struct_out(problems, to, "pensive_problems");
  });
}

int32_t problem_file_broken(const pensive_problem_file* file) {
  return file ? static_cast<int32_t>(file->broken.size()) : 0;
}

const char* problem_file_broken_why(const pensive_problem_file* file, int32_t index) {
  if (index < 0 || index >= problem_file_broken(file)) return nullptr;
  return file->broken[static_cast<std::size_t>(index)].c_str();
}

void problem_file_free(pensive_problem_file* file) { delete file; }

int32_t exam_run(pensive_engine* engine, const pensive_problems* problems,
                 const pensive_judge* judge, const pensive_exam_options* options,
                 pensive_exam** exam, pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(exam, "exam");
    const auto value = need(engine, "engine").value;
    const auto given = struct_in(options, "pensive_exam_options");
    pensive::ExamOptions wanted;
    wanted.request = request_in(given.request);
    const auto user = prompting_in(given.prompting, value->model()->tokenizer(), wanted.prompt_of);
    wanted.samples = number_or(given.samples, wanted.samples);
    wanted.seed = given.seed;
    if (given.progress)
      wanted.progress = [&given](int done, int of) { given.progress(given.user, done, of); };
    wanted.samples_file = text_or(given.samples_file, "");
    const bool resume = flag_in(given.resume, "pensive_exam_options.resume");
    const bool overwrite = flag_in(given.overwrite, "pensive_exam_options.overwrite");
    if (resume && overwrite) refuse("resume or overwrite", "both", "pensive_exam_options");
    if (resume) wanted.if_begun = pensive::IfBegun::resume;
    if (overwrite) wanted.if_begun = pensive::IfBegun::restart;
    const auto asked = problems_in(problems);
    const pensive::Turn turn(*value, pensive::Turn::Nested::refused);
    slot = new pensive_exam{pensive::examine(*value, asked, *need(judge, "judge").value, wanted)};
    if (user) user->is_ours = true;
  });
}

int32_t exam_load(const char* samples_file, pensive_exam** exam, pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(exam, "exam");
    slot = new pensive_exam{pensive::load_exam(text_in(samples_file, "samples_file"))};
  });
}

void exam_free(pensive_exam* exam) { delete exam; }

int32_t exam_summarized(const pensive_exam* exam, const int32_t* indices, size_t count,
                        pensive_exam** some, pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(some, "some");
    const pensive::ExamResult& from = need(exam, "exam").value;
    std::vector<pensive::ExamSample> samples;
    std::vector<bool> is_taken(from.samples.size());
    for (const int32_t index : array_in(indices, count, "indices")) {
      if (index < 0 || static_cast<std::size_t>(index) >= from.samples.size() || is_taken[index])
        refuse("the index of a sample, once", std::to_string(index), "argument indices");
      is_taken[index] = true;
      samples.push_back(from.samples[index]);
    }
    slot = new pensive_exam{pensive::summarized(std::move(samples), from.problems)};
  });
}

int32_t exam_get_result(const pensive_exam* exam, pensive_exam_result* result,
                        pensive_error** error) {
  return guard(error, [&] {
    const pensive::ExamResult& from = need(exam, "exam").value;
    pensive_exam_result to{};
    to.problems = from.problems;
    to.samples = static_cast<int32_t>(from.samples.size());
    to.accuracy = from.accuracy;
    to.standard_error = from.standard_error;
    to.low = from.low;
    to.high = from.high;
    to.mean_tokens = from.mean_tokens;
    to.mean_first_answer = from.mean_first_answer;
    to.truncated_share = from.truncated_share;
    to.mean_think_tokens = from.mean_think_tokens;
    to.mean_answer_tokens = from.mean_answer_tokens;
    to.mean_probe_tokens = from.mean_probe_tokens;
    to.seconds_p50 = from.seconds_p50;
    to.seconds_p95 = from.seconds_p95;
    to.mean_first_partial = from.mean_first_partial;
    to.mean_first_correct = from.mean_first_correct;
    to.strict_accuracy = from.strict_accuracy;
    to.strict_low = from.strict_low;
    to.strict_high = from.strict_high;
    to.boxed_share = from.boxed_share;
    to.mean_flops = from.mean_flops;
    to.tokens_low = from.tokens_low;
    to.tokens_high = from.tokens_high;
    to.sample_error = from.sample_error;
    struct_out(result, to, "pensive_exam_result");
  });
}

int32_t exam_get_sample(const pensive_exam* exam, int32_t index, pensive_exam_sample* sample,
                        pensive_error** error) {
  return guard(error, [&] {
    const auto& samples = need(exam, "exam").value.samples;
    if (index < 0 || static_cast<std::size_t>(index) >= samples.size())
      refuse("an index below " + std::to_string(samples.size()), std::to_string(index), "index");
    const pensive::ExamSample& from = samples[static_cast<std::size_t>(index)];
    pensive_exam_sample to{};
    to.problem = from.problem;
    to.sample = from.sample;
    to.tokens = from.tokens;
    to.score = from.score;
    to.first_answer = from.first_answer;
    to.stopped = static_cast<int32_t>(from.stopped);
    to.think_tokens = from.think_tokens;
    to.answer_tokens = from.answer_tokens;
    to.probe_tokens = from.probe_tokens;
    to.seconds = from.seconds;
    to.answer = from.answer.c_str();
    to.first_partial = from.first_partial;
    to.first_correct = from.first_correct;
    to.strict_score = from.strict_score;
    to.flops = from.flops;
    to.is_boxed = from.is_boxed ? 1 : 0;
    struct_out(sample, to, "pensive_exam_sample");
  });
}

static void share_out(const pensive::Share& from, pensive_exam_share* share) {
  pensive_exam_share to{};
  to.value = from.value;
  to.low = from.low;
  to.high = from.high;
  struct_out(share, to, "pensive_exam_share");
}

int32_t exam_pass_at_k(const pensive_exam* exam, int32_t k, pensive_exam_share* share,
                       pensive_error** error) {
  return guard(error, [&] { share_out(pensive::pass_at_k(need(exam, "exam").value, k), share); });
}

int32_t exam_majority_at_k(const pensive_exam* exam, int32_t k, pensive_exam_share* share,
                           pensive_error** error) {
  return guard(error,
               [&] { share_out(pensive::majority_at_k(need(exam, "exam").value, k), share); });
}

int32_t exam_scaling(const pensive_exam* const* runs, size_t count, const double* least,
                     const double* most, pensive_exam_scaling_result* result,
                     pensive_error** error) {
  return guard(error, [&] {
    std::vector<pensive::ExamResult> results;
    for (const pensive_exam* run : array_in(runs, count, "runs"))
      results.push_back(need(run, "runs").value);
    if (!least != !most) refuse("both bounds or none", "one", "argument least");
    std::vector<pensive::TokenRange> ranges;
    for (std::size_t i = 0; least && i < count; ++i) ranges.push_back({least[i], most[i]});
    const pensive::Scaling from = pensive::scaling(results, ranges);
    pensive_exam_scaling_result to{};
    to.control = from.control;
    to.slope = from.slope;
    to.performance = from.performance;
    struct_out(result, to, "pensive_exam_scaling_result");
  });
}

int32_t exam_compare(const pensive_exam* a, const pensive_exam* b,
                     pensive_exam_difference* difference, pensive_error** error) {
  return exam_compare_at(a, b, 0.95, difference, error);
}

int32_t exam_compare_at(const pensive_exam* a, const pensive_exam* b, double confidence,
                        pensive_exam_difference* difference, pensive_error** error) {
  return guard(error, [&] {
    const pensive::Paired from =
        pensive::compare(need(a, "a").value, need(b, "b").value, confidence);
    pensive_exam_difference to{};
    to.difference = from.difference;
    to.low = from.low;
    to.high = from.high;
    to.token_difference = from.token_difference;
    to.errors_removed = from.errors_removed;
    to.errors_low = from.errors_low;
    to.errors_high = from.errors_high;
    to.p_value = from.p_value;
    to.improved = from.improved;
    to.worsened = from.worsened;
    to.detectable = from.detectable;
    struct_out(difference, to, "pensive_exam_difference");
  });
}

}  // namespace door
