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
    if (!given.intermediates) continue;
    need(given.intermediate_counts, "pensive_problems.intermediate_counts");
    const std::size_t count = given.intermediate_counts[i];
    for (const char* one :
         array_in(given.intermediates[i], count, "pensive_problems.intermediates"))
      wanted.back().intermediates.emplace_back(text_in(one, "pensive_problems.intermediates"));
  }
  return wanted;
}

static std::vector<pensive::Reward> rewards_in(const pensive_train_options& given,
                                               const pensive_judge* judge) {
  if (given.reward_count == 0 && judge) return {{"reward", judge->value, 1}};
  if (given.reward_count == 0) return pensive::paper_rewards();
  if (judge) refuse("a judge or rewards", "both", "pensive_train_options.reward_judges");
  if (given.reward_count > PENSIVE_MAX_REWARDS)
    refuse("at most 8 rewards", std::to_string(given.reward_count),
           "pensive_train_options.reward_count");
  const auto names = array_in(given.reward_names, given.reward_count, "reward_names");
  const auto judges = array_in(given.reward_judges, given.reward_count, "reward_judges");
  std::vector<pensive::Reward> rewards;
  for (size_t i = 0; i < given.reward_count; ++i)
    rewards.push_back({std::string(text_in(names[i], "reward_names")),
                       need(judges[i], "reward_judges").value,
                       given.reward_weights ? given.reward_weights[i] : 1});
  return rewards;
}

template <typename Choice>
static Choice choice_of(int32_t value, Choice last, const char* name) {
  return static_cast<Choice>(choice_in(value, static_cast<int32_t>(last), name));
}

pensive::TrainOptions train_options_in(const pensive_train_options& given) {
  pensive::TrainOptions wanted;
  wanted.rollout = request_in(given.rollout);
  wanted.branch =
      choice_of(given.branch, pensive::Branch::at_soft_token, "pensive_train_options.branch");
  wanted.advantage_scale = choice_of(given.advantage_scale, pensive::AdvantageScale::none,
                                     "pensive_train_options.advantage_scale");
  wanted.denominator = choice_of(given.denominator, pensive::Denominator::constant,
                                 "pensive_train_options.denominator");
  wanted.rate_unit =
      choice_of(given.rate_unit, pensive::RateUnit::start_rms, "pensive_train_options.rate_unit");
  wanted.truncated =
      choice_of(given.truncated, pensive::Truncated::masked, "pensive_train_options.truncated");
  wanted.logprobs =
      choice_of(given.logprobs, pensive::Logprobs::exact, "pensive_train_options.logprobs");
  check_zero(given.reserved, "pensive_train_options.reserved");
  for (const auto* guide : array_in(given.one_of, given.one_of_count, "one_of"))
    wanted.one_of.push_back(need(guide, "pensive_train_options.one_of").value);
  wanted.group_size = number_or(given.group_size, wanted.group_size);
  wanted.learning_rate = number_or(given.learning_rate, wanted.learning_rate);
  wanted.clip = number_or(given.clip, wanted.clip);
  wanted.clip_high = given.clip_high;
  wanted.max_importance_weight = given.max_importance_weight;
  wanted.kl = given.kl;
  wanted.pull = given.pull;
  wanted.max_gradient_norm = given.max_gradient_norm;
  wanted.max_row_norm = given.max_row_norm;
  wanted.max_row_distance = given.max_row_distance;
  wanted.stop_errors = given.stop_errors < 0 ? 0 : number_or(given.stop_errors, wanted.stop_errors);
  wanted.constant_tokens = given.constant_tokens;
  wanted.answer_tokens = given.answer_tokens;
  wanted.seed = given.seed;
  wanted.total_steps = given.total_steps;
  wanted.inner_steps = number_or(given.inner_steps, wanted.inner_steps);
  wanted.max_batch_tokens = number_or(given.max_batch_tokens, wanted.max_batch_tokens);
  wanted.run = text_or(given.run, "");
  return wanted;
}

int32_t trainer_new(pensive_engine* engine, pensive_soft* soft, int32_t row,
                    const pensive_judge* judge, const pensive_train_options* options,
                    pensive_trainer** trainer, pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(trainer, "trainer");
    const auto value = need(engine, "engine").value;
    const auto given = struct_in(options, "pensive_train_options");
    auto rewards = rewards_in(given, judge);
    pensive::TrainOptions wanted = train_options_in(given);
    const auto user = prompting_in(given.prompting, value->model()->tokenizer(), wanted.prompt_of);
    slot = new pensive_trainer{
        value, pensive::Trainer(*value, need(soft, "soft").value, row, std::move(rewards), wanted)};
    if (user) user->is_ours = true;
  });
}

void trainer_free(pensive_trainer* trainer) { delete trainer; }

static pensive_train_report report_out(const pensive::TrainReport& from) {
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
  to.judge_seconds = from.judge_seconds;
  std::ranges::copy(from.mean_parts, to.mean_parts);
  to.truncated_share = from.truncated_share;
  to.entropy_nats = from.entropy_nats;
  to.kl_nats = from.kl_nats;
  to.mean_weight = from.mean_weight;
  to.learning_rate = from.learning_rate;
  to.part_count = static_cast<int32_t>(from.mean_parts.size());
  to.best_step = from.best_step;
  to.has_stopped = from.has_stopped ? 1 : 0;
  return to;
}

int32_t trainer_step(pensive_trainer* trainer, const pensive_problems* problems,
                     pensive_train_report* report, pensive_error** error) {
  return guard(error, [&] {
    pensive_trainer& value = need(trainer, "trainer");
    if (report)
      check_size(report->struct_size, first_size<pensive_train_report>, "pensive_train_report");
    const auto wanted = problems_in(problems);
    const pensive::Turn turn(*value.engine, pensive::Turn::Nested::refused);
    const pensive::TrainReport from = value.value.step(wanted);
    if (report) struct_out(report, report_out(from), "pensive_train_report");
  });
}

int32_t trainer_steps_done(const pensive_trainer* trainer) {
  return trainer ? trainer->value.steps_done() : 0;
}

int32_t trainer_has_stopped(const pensive_trainer* trainer) {
  return trainer && trainer->value.has_stopped() ? 1 : 0;
}

int32_t trainer_get_last_report(const pensive_trainer* trainer, pensive_train_report* report,
                                pensive_error** error) {
  return guard(error, [&] {
    const pensive_trainer& value = need(trainer, "trainer");
    const pensive::Turn turn(*value.engine, pensive::Turn::Nested::refused);
    struct_out(report, report_out(value.value.last_report().value_or(pensive::TrainReport{})),
               "pensive_train_report");
  });
}

int32_t trainer_check_prompts(pensive_trainer* trainer, const pensive_problems* problems,
                              pensive_error** error) {
  return guard(error, [&] {
    const pensive_trainer& value = need(trainer, "trainer");
    const auto wanted = problems_in(problems);
    const pensive::Turn turn(*value.engine, pensive::Turn::Nested::refused);
    for (const pensive::Problem& problem : wanted) value.value.check_prompt(problem);
  });
}

int32_t trainer_pass_rates(pensive_trainer* trainer, const pensive_problems* problems,
                           const pensive_judge* judge, double* rates, pensive_error** error) {
  return guard(error, [&] {
    const pensive_trainer& value = need(trainer, "trainer");
    need(rates, "rates");
    const auto wanted = problems_in(problems);
    const pensive::Turn turn(*value.engine, pensive::Turn::Nested::refused);
    std::ranges::copy(value.value.pass_rates(wanted, *need(judge, "judge").value), rates);
  });
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
