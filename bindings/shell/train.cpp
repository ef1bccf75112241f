#include "pensive/train.h"

#include <fmt/core.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "pensive/exam.h"
#include "shell.h"

namespace pensive::shell {
namespace {

struct Flags {
  ModelFlags model;
  RequestFlags request;
  ProblemFields fields;
  TrainOptions train;
  std::string file, out, checkpoint, log, name = "continue", start = "Wait";
  int steps = 40;
  int prompts = 24;
  int save_every = 10;
  bool resume = false;
};

nlohmann::ordered_json to_json(const TrainReport& report) {
  return {{"step", report.step},
          {"mean_reward", report.mean_reward},
          {"mean_tokens", report.mean_tokens},
          {"spread_share", report.spread_share},
          {"loss", report.loss},
          {"gradient_norm", report.gradient_norm},
          {"clip_share", report.clip_share},
          {"row_norm", report.row_norm},
          {"row_distance", report.row_distance},
          {"mean_logprob_gap", report.mean_logprob_gap},
          {"max_logprob_gap", report.max_logprob_gap},
          {"rollout_seconds", report.rollout_seconds},
          {"update_seconds", report.update_seconds}};
}

// The problems of step `step`: a fresh shuffle each time the file is used up, so that a resumed run
// sees what the undisturbed one would have.
std::vector<Problem> problems_of_step(const std::vector<Problem>& all, int step,
                                      const Flags& flags) {
  std::vector<Problem> chosen;
  const std::size_t n = all.size();
  const std::size_t first =
      static_cast<std::size_t>(step) * static_cast<std::size_t>(flags.prompts);
  std::vector<std::size_t> order(n);
  std::size_t shuffled = n;  // which pass over the file `order` belongs to; n: none yet
  for (std::size_t i = first; i < first + static_cast<std::size_t>(flags.prompts); ++i) {
    if (shuffled != i / n) {
      shuffled = i / n;
      for (std::size_t k = 0; k < n; ++k) order[k] = k;
      std::mt19937_64 random(flags.train.seed * 1000003 + shuffled);
      for (std::size_t k = n; k > 1; --k) std::swap(order[k - 1], order[random() % k]);
    }
    chosen.push_back(all[order[i % n]]);
  }
  return chosen;
}

// Whatever ends the run, what was learned so far is kept.
class Keeper {
 public:
  Keeper(const Trainer& trainer, const Flags& flags)
      : trainer_(trainer), flags_(flags), saved_(trainer.steps_done()) {}
  ~Keeper() {
    try {
      save();
    } catch (const Error& error) {
      fmt::print(stderr, "pensive: the last checkpoint was not written: {}\n", error.what());
    }
  }
  void save() {
    if (flags_.checkpoint.empty() || saved_ == trainer_.steps_done()) return;
    trainer_.save_checkpoint(flags_.checkpoint);
    saved_ = trainer_.steps_done();
  }

 private:
  const Trainer& trainer_;
  const Flags& flags_;
  int saved_;
};

void run_steps(Trainer& trainer, const std::vector<Problem>& problems, const Flags& flags) {
  std::ofstream log;
  if (!flags.log.empty()) {
    log.open(flags.log, flags.resume ? std::ios::app : std::ios::trunc);
    if (!log)
      throw Error(ErrorCode::io, "expected a file to write to; found none (" + flags.log + ")");
  }
  Keeper keeper(trainer, flags);
  Progress progress("train", flags.steps);
  catch_interrupt();
  progress.update(trainer.steps_done());
  while (trainer.steps_done() < flags.steps && !was_interrupted()) {
    const auto report = trainer.step(problems_of_step(problems, trainer.steps_done(), flags));
    if (log.is_open()) log << to_json(report).dump() << std::endl;
    progress.update(report.step, fmt::format("reward {:.3f}  tokens {:.0f}", report.mean_reward,
                                             report.mean_tokens));
    if (report.step % flags.save_every == 0) keeper.save();
  }
}

void train(Flags& flags) {
  const auto problems = load_problems(flags.file, flags.fields);
  if (problems.empty()) {
    throw Error(ErrorCode::invalid_argument, "expected problems; found none (" + flags.file + ")");
  }
  const auto model = flags.model.load();
  const auto soft = flags.model.load_soft(model);
  TokenId row = 0;
  if (auto known = soft->find(flags.name)) {
    row = *known;
  } else {
    row = soft->add(flags.name, word(*model, *soft, flags.start));
  }
  Engine engine(model, flags.model.engine_options(soft));
  flags.request.steering.continue_with = flags.name;
  flags.train.rollout = flags.request.request(*model, *soft);
  flags.train.prompt_of = chat_prompt(model->tokenizer(), flags.request.system);
  flags.train.total_steps = flags.steps;
  flags.train.seed = flags.request.seed.value_or(0);
  Trainer trainer(engine, soft, row, correct(), flags.train);
  if (flags.resume) trainer.resume(flags.checkpoint);
  soft->save(flags.out);  // a place that cannot be written is found before the work, not after it
  run_steps(trainer, problems, flags);
  const nlohmann::ordered_json record = {
      {"steps", trainer.steps_done()},
      {"prompts", flags.prompts},
      {"group_size", flags.train.group_size},
      {"branch", flags.train.branch == Branch::at_prompt ? "prompt" : "soft-token"},
      {"learning_rate", flags.train.learning_rate},
      {"seed", flags.train.seed},
      {"start", flags.start}};
  soft->save(flags.out, record.dump());
  fmt::print(stderr, "{} step(s) done; '{}' is in {}\n", trainer.steps_done(), flags.name,
             flags.out);
}

}  // namespace

void add_train(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  flags->request.temperature = 1.0f;
  flags->request.top_p = 1.0f;
  flags->request.top_k = 0;
  CLI::App* command = app.add_subcommand("train", "learn one continue-thinking word by GRPO");
  flags->model.add_to(*command);
  command->add_option("file", flags->file, "problems, one JSON object a line")->required();
  command->add_option("-o,--out", flags->out, "where the row goes (.safetensors)")->required();
  command->add_option("--name", flags->name, "the row's name")->capture_default_str();
  command->add_option("--start", flags->start, "the word whose embedding it starts from")
      ->capture_default_str();
  command->add_option("--steps", flags->steps)->check(CLI::PositiveNumber)->capture_default_str();
  command->add_option("--prompts", flags->prompts, "problems a step")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--group", flags->train.group_size, "samples a problem")
      ->check(CLI::Range(2, 1024))
      ->capture_default_str();
  const std::map<std::string, Branch> branches = {{"prompt", Branch::at_prompt},
                                                  {"soft-token", Branch::at_soft_token}};
  command
      ->add_option(
          "--branch", flags->train.branch,
          "where the samples of a problem part: prompt, or soft-token (cheaper, less noisy)")
      ->transform(CLI::CheckedTransformer(branches).description(""))
      ->default_str("prompt");
  command->add_option("--lr", flags->train.learning_rate, "Adam's rate on the row")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--inner-steps", flags->train.inner_steps, "updates from one set of rollouts")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  auto* checkpoint =
      command->add_option("--checkpoint", flags->checkpoint, "keep the state here while training");
  command->add_option("--save-every", flags->save_every, "steps between checkpoints")
      ->check(CLI::PositiveNumber)
      ->needs(checkpoint)
      ->capture_default_str();
  command->add_flag("--resume", flags->resume, "go on from --checkpoint")->needs(checkpoint);
  command->add_option("--log", flags->log, "write every step as a JSON line");
  add_fields(*command, flags->fields);
  flags->request.add_to(*command);
  command->remove_option(command->get_option("--continue"));  // it is what is being learned
  command->callback([flags] { train(*flags); });
}

}  // namespace pensive::shell
