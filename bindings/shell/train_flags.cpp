#include "train_flags.h"

#include <fmt/core.h>

#include "pensive/guides.h"
#include "rewards.h"

namespace pensive::shell {
namespace {

template <class Choice>
void add_choice(CLI::App& app, const std::string& name, Choice& choice, const std::string& text,
                const std::vector<std::pair<std::string, Choice>>& names) {
  std::string known;
  for (const auto& [word, value] : names) known += (known.empty() ? ": " : ", ") + word;
  app.add_option(name, choice, text + known)
      ->transform(CLI::CheckedTransformer(names).description(""))
      ->default_str(names.front().first);
}

void add_loss(CLI::App& app, TrainOptions& train) {
  add_choice<AdvantageScale>(app, "--scale", train.advantage_scale,
                             "the deviation that advantages are divided by",
                             {{"group", AdvantageScale::group},
                              {"batch", AdvantageScale::batch},
                              {"none", AdvantageScale::none}});
  add_choice<Denominator>(app, "--denominator", train.denominator, "what the loss is divided by",
                          {{"drawn", Denominator::drawn_tokens},
                           {"suffix", Denominator::suffix_tokens},
                           {"constant", Denominator::constant}});
  app.add_option("--constant-tokens", train.constant_tokens,
                 "a sample's part of --denominator constant; 0: --max-tokens")
      ->check(not_negative);
  app.add_option("--clip", train.clip, "of the ratio, below 1")->capture_default_str();
  app.add_option("--clip-high", train.clip_high, "of the ratio, above 1; 0: as --clip")
      ->capture_default_str();
  app.add_option("--inner-steps", train.inner_steps, "updates from one set of rollouts")
      ->check(positive)
      ->capture_default_str();
  add_choice<Logprobs>(app, "--logprobs", train.logprobs,
                       "of drawn tokens in the update (exact: the bits they were drawn with, "
                       "slower, needs --row-invariant)",
                       {{"fast", Logprobs::fast}, {"exact", Logprobs::exact}});
  app.add_option(
         "--max-weight", train.max_importance_weight,
         "weigh tokens by trainer's over engine's probability, cut here; 0: not; TRL's is 2")
      ->capture_default_str();
  app.add_option("--kl", train.kl, "beta: times the divergence from the start row")
      ->capture_default_str();
  app.add_option("--pull", train.pull, "times half the squared distance from the start row")
      ->capture_default_str();
}

void add_optimizer(CLI::App& app, TrainOptions& train) {
  app.add_option("--lr", train.learning_rate, "Adam's rate on the row")
      ->check(positive)
      ->capture_default_str();
  add_choice<RateUnit>(app, "--lr-unit", train.rate_unit, "what --lr counts in",
                       {{"absolute", RateUnit::absolute}, {"start-rms", RateUnit::start_rms}});
  app.add_option("--max-grad-norm", train.max_gradient_norm, "0: gradients are not clipped")
      ->capture_default_str();
  auto* norm = app.add_option("--max-norm", train.max_row_norm, "the row's; 0: no bound")
                   ->capture_default_str();
  app.add_option("--max-distance", train.max_row_distance, "from the start row; 0: no bound")
      ->excludes(norm)
      ->capture_default_str();
  app.add_option("--stop-errors", train.stop_errors,
                 "stop at the best row when the reward falls so many standard errors below its "
                 "start; 0: never")
      ->capture_default_str();
}

void add_samples(CLI::App& app, TrainFlags& flags) {
  app.add_option("--prompts", flags.prompts, "problems a step")
      ->check(positive)
      ->capture_default_str();
  app.add_option("--group", flags.train.group_size, "samples a problem")
      ->check(CLI::Range(2, 1024))
      ->capture_default_str();
  add_choice<Branch>(app, "--branch", flags.train.branch,
                     "where the samples of a problem part (soft-token: cheaper, less noisy)",
                     {{"prompt", Branch::at_prompt}, {"soft-token", Branch::at_soft_token}});
  app.add_option("--times-from", flags.times_from,
                 "each problem's samples are continued one of these many times, such as 1,2,3")
      ->delimiter(',')
      ->check(positive);
  app.add_option("--answer-tokens", flags.train.answer_tokens,
                 "of --max-tokens, kept for the answer: the thinking is closed in time; the paper "
                 "kept 1024")
      ->check(not_negative)
      ->capture_default_str();
  add_choice<Truncated>(
      app, "--truncated", flags.train.truncated, "samples that a limit ends are",
      {{"judged", Truncated::judged}, {"zero", Truncated::zero}, {"masked", Truncated::masked}});
  auto* rate = app.add_option("--pass-rate", flags.pass_rate,
                              "train only on problems of which, before training, a share from LOW "
                              "to HIGH of --group samples is right")
                   ->expected(2)
                   ->delimiter(',');
  app.add_option("--rates", flags.rates, "keep these shares here; read again by --resume")
      ->needs(rate);
}

void add_files(CLI::App& app, TrainFlags& flags) {
  auto* checkpoint =
      app.add_option("--checkpoint", flags.checkpoint, "keep the state here while training");
  app.add_option("--save-every", flags.save_every, "steps between checkpoints")
      ->check(positive)
      ->needs(checkpoint)
      ->capture_default_str();
  auto* resume =
      app.add_flag("--resume", flags.resume, "go on from --checkpoint")->needs(checkpoint);
  app.add_flag("--overwrite", flags.overwrite, "take the place of files that exist")
      ->excludes(resume);
  app.add_option("--log", flags.log, "write every step as a JSON line");
}

}  // namespace

void TrainFlags::add_to(CLI::App& app) {
  request.temperature = 0.9f;  // the paper's
  request.top_p = 1.0f;
  request.top_k = 0;
  model.add_to(app);
  room.add_to(app);
  app.add_option("--batch-tokens", train.max_batch_tokens,
                 "in one backward, at most; a longer sample by itself")
      ->check(positive)
      ->capture_default_str();
  app.add_option("file", file, "problems, one JSON object a line")->required();
  app.add_option("-o,--out", out, "where the row goes (.safetensors)")->required();
  app.add_option("--name", name, "the row's name")->capture_default_str();
  app.add_option("--start", start, "the word whose embedding it starts from")
      ->default_str(default_start);
  app.add_option("--reward", reward, std::string(reward_help))->capture_default_str();
  app.add_option(
      "--grader", grader,
      "the folder of a checkpoint that grades in hybrid(R): asked only where a response has "
      "no box");
  app.add_option("--steps", steps)->check(positive)->capture_default_str();
  add_samples(app, *this);
  add_loss(app, train);
  add_optimizer(app, train);
  add_files(app, *this);
  problems.add_to(app);
  request.add_to(app);
  app.remove_option(app.get_option("--continue"));  // it is what is being learned
  // The loss is that of the whole distribution.
  app.get_option("--temp")->description("above 0; default: 0.9, the paper's");
  app.get_option("--top-p")->description("1, which is the default, whatever the checkpoint says");
  app.get_option("--top-k")->description(
      "0, all, which is the default, whatever the checkpoint says");
  app.get_option("--times-from")->excludes(app.get_option("--times"));
}

std::vector<Reward> TrainFlags::rewards() {
  if (asks_a_model(reward) == grader.empty())
    throw Error(ErrorCode::invalid_argument,
                grader.empty()
                    ? "expected a model that grades in hybrid(…); found none (--grader)"
                    : "expected a hybrid(…) in which it grades; found '" + reward + "' (--grader)");
  // What is wrong with the text is said before a model is loaded.
  if (!grader.empty()) parse_rewards(reward, [](const std::string&) { return std::string(); });
  if (grader.empty()) return parse_rewards(reward, {});
  const GradingModel grading = make_grader(model, grader);
  graded_by = fmt::format("{:016x}", grading.fingerprint);
  return parse_rewards(reward, grading.ask);
}

TrainOptions TrainFlags::options(const Model& model, const SoftVocab& soft) {
  request.steering.continue_with = name;
  TrainOptions options = train;
  if (times_from.empty()) {
    options.rollout = request.request(model, soft);
  } else {
    // The last guide is the one that continues: it is one of several instead.
    for (const int times : times_from) {
      request.steering.times = times;
      options.rollout = request.request(model, soft);
      options.one_of.push_back(options.rollout.guides.back());
      options.rollout.guides.pop_back();
    }
  }
  options.prompt_of = chat_prompt(model.tokenizer(), request.system);
  options.total_steps = steps;
  options.seed = request.seed.value_or(0);
  return options;
}

}  // namespace pensive::shell
