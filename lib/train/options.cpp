// What a trainer takes, and what it refuses.
#include <cmath>

#include "train/parts.h"

namespace pensive {
namespace {

constexpr float paper_temperature = 0.9f;

void check_number(bool holds, std::string_view expected, double found, std::string_view name) {
  require(holds, ErrorCode::invalid_argument, expected, fmt::format("{}", found),
          fmt::format("TrainOptions::{}", name));
}

void check_not_negative(double found, std::string_view name) {
  check_number(std::isfinite(found) && found >= 0, "0 or more", found, name);
}

void check_counts(const TrainOptions& options) {
  const auto at_least = [](int least, std::string_view of, int found, std::string_view name) {
    check_number(found >= least, fmt::format("at least {} {}", least, of), found, name);
  };
  at_least(2, "samples a problem", options.group_size, "group_size");
  at_least(0, "steps", options.total_steps, "total_steps");
  at_least(1, "inner step", options.inner_steps, "inner_steps");
  at_least(1, "token", options.max_batch_tokens, "max_batch_tokens");
  at_least(0, "tokens", options.constant_tokens, "constant_tokens");
  at_least(0, "tokens", options.answer_tokens, "answer_tokens");
  at_least(1, "token", options.rollout.max_new_tokens, "rollout.max_new_tokens");
  check_number(options.answer_tokens < options.rollout.max_new_tokens,
               fmt::format("less than rollout.max_new_tokens = {}", options.rollout.max_new_tokens),
               options.answer_tokens, "answer_tokens");
  check_number(options.constant_tokens == 0 || options.denominator == Denominator::constant,
               "0 without Denominator::constant", options.constant_tokens, "constant_tokens");
}

}  // namespace

void check_options(const TrainOptions& options) {
  check_counts(options);
  check_number(std::isfinite(options.learning_rate) && options.learning_rate > 0, "a positive rate",
               options.learning_rate, "learning_rate");
  check_number(options.clip > 0 && options.clip < 1, "a number between 0 and 1", options.clip,
               "clip");
  check_not_negative(options.clip_high, "clip_high");
  check_not_negative(options.max_importance_weight, "max_importance_weight");
  check_not_negative(options.kl, "kl");
  check_not_negative(options.pull, "pull");
  check_not_negative(options.max_gradient_norm, "max_gradient_norm");
  check_not_negative(options.max_row_norm, "max_row_norm");
  check_not_negative(options.max_row_distance, "max_row_distance");
  check_not_negative(options.stop_errors, "stop_errors");
  check_number(options.max_row_norm == 0 || options.max_row_distance == 0,
               "max_row_norm or max_row_distance, not both", options.max_row_distance,
               "max_row_distance");
  for (const auto& guide : options.one_of)
    require(guide != nullptr, ErrorCode::invalid_argument, "guides", "an empty one",
            "TrainOptions::one_of");
}

void check_rewards(std::span<const Reward> rewards) {
  require(!rewards.empty(), ErrorCode::invalid_argument, "a judge", "none", "Trainer");
  for (std::size_t i = 0; i < rewards.size(); ++i) {
    const Reward& reward = rewards[i];
    const std::string where = fmt::format("reward {}", in_quotes(reward.name));
    require(reward.judge != nullptr, ErrorCode::invalid_argument, "a judge", "none", where);
    require(to_utf8(reward.name) == reward.name, ErrorCode::invalid_argument, "a name in UTF-8",
            in_quotes(reward.name), where);
    require(std::isfinite(reward.weight), ErrorCode::invalid_argument, "a finite weight",
            fmt::format("{}", reward.weight), where);
    for (const Reward& other : rewards.first(i))
      require(other.name != reward.name, ErrorCode::invalid_argument, "names that differ",
              "it twice", where);
  }
}

double check_sampling(const Model& model, const Sampling& sampling) {
  const GenerationDefaults& defaults = model.defaults();
  const auto settled = [](const auto& mine, const auto& theirs, auto otherwise) {
    return mine ? *mine : theirs.value_or(otherwise);
  };
  const float temperature = sampling.temperature.value_or(paper_temperature);
  const float top_p = settled(sampling.top_p, defaults.top_p, 1.0f);
  const int top_k = settled(sampling.top_k, defaults.top_k, 0);
  require(std::isfinite(temperature) && temperature > 0, ErrorCode::invalid_argument,
          "a temperature above 0: greedy rollouts have no spread", fmt::format("{}", temperature),
          "TrainOptions::rollout.sampling.temperature");
  constexpr std::string_view source = " (rollout.sampling, else generation_config.json)";
  require(top_k <= 0 || top_k >= model.vocab_size(), ErrorCode::unsupported,
          "top_k = 0: the loss is that of the whole distribution",
          fmt::format("{}{}", top_k, source), "TrainOptions::rollout.sampling.top_k");
  const auto refuse = [](bool is_neutral, std::string_view what) {
    require(is_neutral, ErrorCode::unsupported,
            fmt::format("no {}: the loss is that of the model's own distribution", what), "one",
            "TrainOptions::rollout.sampling");
  };
  refuse(settled(sampling.min_p, defaults.min_p, 0.0f) == 0, "min_p");
  refuse(settled(sampling.repetition_penalty, defaults.repetition_penalty, 1.0f) == 1,
         "repetition_penalty");
  refuse(sampling.presence_penalty == 0, "presence_penalty");
  refuse(sampling.frequency_penalty == 0, "frequency_penalty");
  refuse(sampling.logit_bias.empty(), "logit_bias");
  refuse(sampling.allowed_tokens.empty() && sampling.banned_tokens.empty(),
         "allowed_tokens or banned_tokens");
  require(top_p >= 1, ErrorCode::unsupported,
          "top_p = 1: the loss is that of the whole distribution",
          fmt::format("{}{}", top_p, source), "TrainOptions::rollout.sampling.top_p");
  return temperature;
}

std::vector<Reward> paper_rewards() { return {{"boxed", boxed(), 1}, {"correct", correct(), 1}}; }

}  // namespace pensive
