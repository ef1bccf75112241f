#include "pensive/train.h"

#include "handles.h"

namespace door {

std::shared_ptr<User> prompting_in(const pensive_prompting* prompting,
                                   std::shared_ptr<const pensive::Tokenizer> tokenizer,
                                   pensive::PromptOf& prompt_of) {
  const auto given = struct_in(prompting, "pensive_prompting");
  check_zero(given.reserved, "pensive_prompting.reserved");
  if (given.prompt_of && given.system) refuse("system or prompt_of", "both", "pensive_prompting");
  if (!given.prompt_of) {
    if (given.system) prompt_of = pensive::chat_prompt(std::move(tokenizer), given.system);
    if (given.user || given.destroy)
      refuse("prompt_of beside user and destroy", "none", "pensive_prompting");
    return nullptr;
  }
  auto user = std::make_shared<User>(given.user, given.destroy);
  prompt_of = [user, callback = given.prompt_of](const pensive::Problem& problem) {
    const ProblemView asked(problem);
    const int32_t* ids = nullptr;
    size_t count = 0;
    check_callback(callback(user->user, &asked.value, &ids, &count), "prompt_of");
    return copy_in(ids, count, "ids of prompt_of");
  };
  return user;
}

std::vector<pensive::Problem> problems_in(const pensive_problems* problems) {
  const auto given = struct_in(&need(problems, "problems"), "pensive_problems");
  check_zero(given.reserved, "pensive_problems.reserved");
  const auto questions = array_in(given.questions, given.count, "pensive_problems.questions");
  const auto references = array_in(given.references, given.count, "pensive_problems.references");
  std::vector<pensive::Problem> wanted;
  for (size_t i = 0; i < given.count; ++i) {
    std::string id = std::to_string(i);
    if (given.ids) id = text_in(given.ids[i], "pensive_problems.ids");
    wanted.push_back({std::move(id),
                      std::string(text_in(questions[i], "pensive_problems.questions")),
                      std::string(text_in(references[i], "pensive_problems.references"))});
    if (given.target_tokens) wanted.back().target_tokens = given.target_tokens[i];
  }
  return wanted;
}

int32_t trainer_new(pensive_engine* engine, pensive_soft* soft, int32_t row,
                    const pensive_judge* judge, const pensive_train_options* options,
                    pensive_trainer** trainer, pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(trainer, "trainer");
    const auto value = need(engine, "engine").value;
    const auto given = struct_in(options, "pensive_train_options");
    pensive::TrainOptions wanted;
    wanted.rollout = request_in(given.rollout);
    const auto user = prompting_in(given.prompting, value->model()->tokenizer(), wanted.prompt_of);
    if (given.branch != PENSIVE_BRANCH_AT_PROMPT && given.branch != PENSIVE_BRANCH_AT_SOFT_TOKEN)
      refuse("a pensive_branch", std::to_string(given.branch), "pensive_train_options.branch");
    wanted.branch = static_cast<pensive::Branch>(given.branch);
    wanted.group_size = number_or(given.group_size, wanted.group_size);
    wanted.learning_rate = number_or(given.learning_rate, wanted.learning_rate);
    wanted.clip = number_or(given.clip, wanted.clip);
    wanted.max_gradient_norm = given.max_gradient_norm;
    wanted.seed = given.seed;
    wanted.total_steps = given.total_steps;
    wanted.inner_steps = number_or(given.inner_steps, wanted.inner_steps);
    wanted.max_batch_tokens = number_or(given.max_batch_tokens, wanted.max_batch_tokens);
    slot = new pensive_trainer{value, pensive::Trainer(*value, need(soft, "soft").value, row,
                                                       need(judge, "judge").value, wanted)};
    if (user) user->is_ours = true;
  });
}

void trainer_free(pensive_trainer* trainer) { delete trainer; }

int32_t trainer_step(pensive_trainer* trainer, const pensive_problems* problems,
                     pensive_train_report* report, pensive_error** error) {
  return guard(error, [&] {
    pensive_trainer& value = need(trainer, "trainer");
    if (report)
      check_size(report->struct_size, first_size<pensive_train_report>, "pensive_train_report");
    const auto wanted = problems_in(problems);
    const pensive::Turn turn(*value.engine, pensive::Turn::Nested::refused);
    const pensive::TrainReport from = value.value.step(wanted);
    if (!report) return;
    pensive_train_report to{};
    to.step = from.step;
    to.mean_reward = from.mean_reward;
    to.mean_tokens = from.mean_tokens;
    to.spread_share = from.spread_share;
    to.loss = from.loss;
    to.gradient_norm = from.gradient_norm;
    to.clip_share = from.clip_share;
    to.row_norm = from.row_norm;
    to.row_distance = from.row_distance;
    to.mean_logprob_gap = from.mean_logprob_gap;
    to.max_logprob_gap = from.max_logprob_gap;
    to.rollout_seconds = from.rollout_seconds;
    to.update_seconds = from.update_seconds;
    struct_out(report, to, "pensive_train_report");
  });
}

int32_t trainer_steps_done(const pensive_trainer* trainer) {
  return trainer ? trainer->value.steps_done() : 0;
}

int32_t trainer_save_checkpoint(const pensive_trainer* trainer, const char* file,
                                pensive_error** error) {
  return guard(error, [&] {
    const pensive_trainer& value = need(trainer, "trainer");
    const pensive::Turn turn(*value.engine, pensive::Turn::Nested::refused);
    value.value.save_checkpoint(text_in(file, "file"));
  });
}

int32_t trainer_resume(pensive_trainer* trainer, const char* file, pensive_error** error) {
  return guard(error, [&] {
    pensive_trainer& value = need(trainer, "trainer");
    const pensive::Turn turn(*value.engine, pensive::Turn::Nested::refused);
    value.value.resume(text_in(file, "file"));
  });
}

}  // namespace door
