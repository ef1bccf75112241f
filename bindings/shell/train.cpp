// `pensive train`: a row learned by GRPO, kept at every step.
#include "pensive/train.h"

#include <fmt/core.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "pensive/exam.h"
#include "train_flags.h"

namespace pensive::shell {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const TrainReport& report, std::span<const Reward> rewards) {
  Json parts;
  for (std::size_t i = 0; i < rewards.size(); ++i) parts[rewards[i].name] = report.mean_parts[i];
  return {{"step", report.step},
          {"mean_reward", report.mean_reward},
          {"rewards", parts},
          {"mean_tokens", report.mean_tokens},
          {"truncated_share", report.truncated_share},
          {"spread_share", report.spread_share},
          {"loss", report.loss},
          {"gradient_norm", report.gradient_norm},
          {"entropy_nats", report.entropy_nats},
          {"kl_nats", report.kl_nats},
          {"clip_share", report.clip_share},
          {"mean_weight", report.mean_weight},
          {"learning_rate", report.learning_rate},
          {"row_norm", report.row_norm},
          {"row_distance", report.row_distance},
          {"mean_logprob_gap", report.mean_logprob_gap},
          {"max_logprob_gap", report.max_logprob_gap},
          {"rollout_seconds", report.rollout_seconds},
          {"judge_seconds", report.judge_seconds},
          {"update_seconds", report.update_seconds},
          {"best_step", report.best_step},
          {"has_stopped", report.has_stopped}};
}

// The problems of step `step`: a fresh shuffle each time the file is used up, so that a resumed run
// sees what the undisturbed one would have.
std::vector<Problem> problems_of_step(const std::vector<Problem>& all, int step,
                                      const TrainFlags& flags) {
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
      std::mt19937_64 random(flags.request.seed.value_or(0) * 1000003 + shuffled);
      for (std::size_t k = n; k > 1; --k) std::swap(order[k - 1], order[random() % k]);
    }
    chosen.push_back(all[order[i % n]]);
  }
  return chosen;
}

// Whatever ends the run, what was learned so far is kept.
class Keeper {
 public:
  Keeper(const Trainer& trainer, const TrainFlags& flags)
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
  const TrainFlags& flags_;
  int saved_;
};

// The steps as JSON lines. Of a run that is resumed, those stay that its checkpoint has.
class Log {
 public:
  Log(const std::string& file, bool resume, int steps_done) : file_(file) {
    if (file.empty()) return;
    std::string kept;
    std::ifstream before(file);
    std::string line;
    while (resume && std::getline(before, line) && !before.eof()) {
      const auto entry = Json::parse(line, nullptr, false);
      if (!entry.is_object() || entry.value("step", 0) < 1 || entry.value("step", 0) > steps_done)
        break;
      kept += line + "\n";
    }
    before.close();
    out_.open(file, std::ios::trunc);
    write(kept);
  }
  void add(const Json& entry) {
    if (!file_.empty()) write(entry.dump() + "\n");
  }

 private:
  void write(const std::string& text) {
    out_ << text << std::flush;
    if (!out_)
      throw Error(ErrorCode::io,
                  "expected a file with room to write to; found none (" + file_ + ")");
  }
  std::string file_;
  std::ofstream out_;
};

void run_steps(Trainer& trainer, const std::vector<Problem>& problems,
               std::span<const Reward> rewards, const TrainFlags& flags) {
  Log log(flags.log, flags.resume, trainer.steps_done());
  Keeper keeper(trainer, flags);
  Progress progress("train", flags.steps);
  progress.update(trainer.steps_done());
  while (trainer.steps_done() < flags.steps && !trainer.has_stopped() && !was_interrupted()) {
    const auto report = trainer.step(problems_of_step(problems, trainer.steps_done(), flags));
    log.add(to_json(report, rewards));
    progress.update(report.step, fmt::format("reward {:.3f}  tokens {:.0f}", report.mean_reward,
                                             report.mean_tokens));
    if (report.step % flags.save_every == 0) keeper.save();
  }
}

// Nothing that is there already gets lost by a mistake.
void check_places(const TrainFlags& flags) {
  if (flags.resume || flags.overwrite) return;
  for (const std::string& file : {flags.out, flags.checkpoint, flags.log, flags.rates})
    check_new(file, "--resume goes on from a checkpoint, --overwrite takes its place");
}

void train(TrainFlags& flags) {
  const std::vector<Reward> rewards = flags.rewards();
  check_places(flags);
  auto problems = flags.problems.load(flags.file);
  const auto model = flags.model.load();
  const auto soft = flags.model.load_soft(model);
  TokenId row = 0;
  if (auto known = soft->find(flags.name)) {
    row = *known;
  } else {
    row = soft->add(flags.name, word(*model, *soft, flags.start));
  }
  Engine engine(model, flags.room.apply(flags.model.engine_options(soft)));
  Trainer trainer(engine, soft, row, rewards, flags.options(*model, *soft));
  catch_interrupt();
  // Before the checkpoint's row is there: rates are those of the row that training starts from.
  if (!flags.pass_rate.empty()) problems = keep_by_rate(trainer, problems, flags);
  if (flags.resume) trainer.resume(flags.checkpoint);
  // Places that cannot be written are found before the work, and a run that is killed in its first
  // step can be resumed.
  if (!flags.checkpoint.empty()) trainer.save_checkpoint(flags.checkpoint);
  soft->save(flags.out);
  run_steps(trainer, problems, rewards, flags);
  const Json record = {
      {"steps", trainer.steps_done()},
      {"prompts", flags.prompts},
      {"group_size", flags.train.group_size},
      {"branch", flags.train.branch == Branch::at_prompt ? "prompt" : "soft-token"},
      {"reward", flags.reward},
      {"learning_rate", flags.train.learning_rate},
      {"seed", flags.request.seed.value_or(0)},
      {"start", flags.start}};
  soft->save(flags.out, record.dump());
  if (trainer.has_stopped())
    fmt::print(stderr, "the reward had fallen (--stop-errors): this is the best row of the run\n");
  fmt::print(stderr, "{} step(s) done; '{}' is in {}\n", trainer.steps_done(), flags.name,
             flags.out);
}

}  // namespace

void add_train(CLI::App& app) {
  auto flags = std::make_shared<TrainFlags>();
  CLI::App* command = app.add_subcommand("train", "learn one continue-thinking word by GRPO");
  flags->add_to(*command);
  command->callback([flags] { train(*flags); });
}

}  // namespace pensive::shell
