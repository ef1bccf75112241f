// `pensive train`: a row learned by GRPO, kept at every step.
#include "pensive/train.h"

#include <fmt/core.h>

#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <random>

#include "pensive/exam.h"
#include "train_flags.h"
#include "train_lines.h"

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

// Whatever ends the run, what was learned so far is kept: the state and the row.
class Keeper {
 public:
  Keeper(const Trainer& trainer, const SoftVocab& soft, const TrainFlags& flags)
      : trainer_(trainer), soft_(soft), flags_(flags), saved_(trainer.steps_done()) {}
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;
  ~Keeper() {
    if (saved_ == trainer_.steps_done()) return;
    attempt("state", [&] { save_state(); });
    attempt("row", [&] { soft_.save(flags_.out); });
  }
  void save() {
    if (saved_ == trainer_.steps_done()) return;
    save_state();
    soft_.save(flags_.out);
    saved_ = trainer_.steps_done();
  }

 private:
  void save_state() const {
    if (!flags_.checkpoint.empty()) trainer_.save_checkpoint(flags_.checkpoint);
  }
  template <class Write>
  static void attempt(std::string_view what, const Write& write) {
    try {
      write();
    } catch (const std::exception& error) {
      fmt::print(stderr, "pensive: the last {} was not written: {}\n", what, error.what());
    }
  }

  const Trainer& trainer_;
  const SoftVocab& soft_;
  const TrainFlags& flags_;
  int saved_;
};

// A run that fails before its first step leaves no files of its own: the corrected command would be
// refused for them. What an interrupted run, or --rates, can be gone on with stays.
class Begun {
 public:
  Begun(const Trainer& trainer, const TrainFlags& flags) : trainer_(trainer), rates_(flags.rates) {
    for (const std::string* file : {&flags.out, &flags.checkpoint, &flags.log})
      if (!file->empty() && !exists(*file)) files_.push_back(*file);
  }
  Begun(const Begun&) = delete;
  Begun& operator=(const Begun&) = delete;
  ~Begun() {
    if (is_kept_ || was_interrupted() || trainer_.steps_done() > 0 || exists(rates_)) return;
    std::error_code none;
    for (const std::string& file : files_) std::filesystem::remove(file, none);
  }
  void keep() { is_kept_ = true; }

 private:
  // A link counts, wherever it leads.
  static bool exists(const std::string& file) {
    std::error_code none;
    return !file.empty() && std::filesystem::exists(std::filesystem::symlink_status(file, none));
  }

  const Trainer& trainer_;
  std::string rates_;
  std::vector<std::string> files_;
  bool is_kept_ = false;
};

// What stays of a log that is gone on with: the steps that the checkpoint has.
struct Kept {
  std::uintmax_t bytes = 0;
  int last = 0;  // step
};

int step_of(const std::string& line, const std::string& where) {
  const auto entry = Json::parse(line, nullptr, false);
  const bool has_step =
      entry.is_object() && entry.contains("step") && entry["step"].is_number_integer();
  const auto step = has_step ? entry["step"].get<std::int64_t>() : 0;
  if (step < 1 || step > std::numeric_limits<int>::max())
    throw Error(ErrorCode::invalid_argument,
                fmt::format("expected a step of a training run; found '{}' ({})",
                            line.substr(0, 60), where));
  return static_cast<int>(step);
}

// Throws invalid_argument for a file of something else.
Kept kept_of(const TrainFlags& flags, int steps_done) {
  Kept kept;
  if (!flags.resume) return kept;
  const std::vector<std::string> lines = whole_lines(flags.log, "{\"step\":");
  std::size_t count = 0;
  for (; count < lines.size(); ++count) {
    const int step = step_of(lines[count], fmt::format("{}, line {}", flags.log, count + 1));
    if (step > steps_done) break;
    kept.last = step;
  }
  kept.bytes = bytes_of(lines, count);
  return kept;
}

// The steps as JSON lines.
class Log {
 public:
  Log(const TrainFlags& flags, const Kept& kept, const Trainer& trainer,
      std::span<const Reward> rewards)
      : rewards_(rewards), lines_(flags.log, kept.bytes) {
    // Written after the state, the last line may be missing.
    const std::optional<TrainReport> report = trainer.last_report();
    if (flags.resume && report && kept.last + 1 == report->step) add(*report);
  }
  void add(const TrainReport& report) {
    lines_.add(to_json(report, rewards_).dump(-1, ' ', false, Json::error_handler_t::replace));
  }

 private:
  std::span<const Reward> rewards_;
  LineFile lines_;
};

void run_steps(Trainer& trainer, const std::vector<Problem>& problems, Keeper& keeper, Log& log,
               const TrainFlags& flags) {
  Progress progress("train", flags.steps);
  progress.update(trainer.steps_done());
  while (trainer.steps_done() < flags.steps && !trainer.has_stopped() && !was_interrupted()) {
    const auto report = trainer.step(problems_of_step(problems, trainer.steps_done(), flags));
    // The state first: it has the report, from which a line that is missing is written.
    if (report.step % flags.save_every == 0) keeper.save();
    log.add(report);
    progress.update(report.step, fmt::format("reward {:.3f}  tokens {:.0f}", report.mean_reward,
                                             report.mean_tokens));
  }
}

TokenId row_of(const Model& model, SoftVocab& soft, const TrainFlags& flags) {
  const auto known = soft.find(flags.name);
  if (!known)
    return soft.add(flags.name, word(model, soft, flags.start.value_or(TrainFlags::default_start)));
  if (flags.start)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("expected a row that is not there yet; found '{}' in {} (--start)",
                            flags.name, flags.model.soft_file));
  return *known;
}

// Rates are those of the row that training started from, not of the one it has come to.
std::vector<Problem> at_rates(const Trainer& trainer, SoftVocab& soft, TokenId row,
                              const std::vector<Problem>& problems, const TrainFlags& flags) {
  if (flags.pass_rate.empty()) return problems;
  const std::vector<float> learned = soft.row(row);
  soft.set_row(row, trainer.start_row());
  auto kept = keep_by_rate(trainer, problems, flags);
  soft.set_row(row, learned);
  return kept;
}

std::string record_of(const Trainer& trainer, const TrainFlags& flags) {
  const Json record = {
      {"steps", trainer.steps_done()},
      {"prompts", flags.prompts},
      {"group_size", flags.train.group_size},
      {"branch", flags.train.branch == Branch::at_prompt ? "prompt" : "soft-token"},
      {"reward", flags.reward},
      {"learning_rate", flags.train.learning_rate},
      {"seed", flags.request.seed.value_or(0)},
      {"start", flags.start.value_or(TrainFlags::default_start)}};
  return record.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void train(TrainFlags& flags) {
  flags.check();
  const std::vector<Reward> rewards = flags.rewards();
  auto problems = flags.problems.load(flags.file);
  const auto model = flags.model.load();
  const auto soft = flags.model.load_soft(model);
  flags.check_out(model);
  const TokenId row = row_of(*model, *soft, flags);
  Engine engine(model, flags.room.apply(flags.model.engine_options(soft)));
  TrainOptions options = flags.options(*model, *soft);
  problems = flags.with_prompts(Trainer(engine, soft, row, rewards, options), problems);
  options.run = flags.run(problems, engine, options);
  Trainer trainer(engine, soft, row, rewards, options);
  catch_interrupt();
  if (flags.resume) trainer.resume(flags.checkpoint);
  const Kept kept = kept_of(flags, trainer.steps_done());
  // Places that cannot be written are found before the work, and a run that is killed in its rates
  // or its first step can be resumed.
  Begun begun(trainer, flags);
  if (!flags.checkpoint.empty()) trainer.save_checkpoint(flags.checkpoint);
  soft->save(flags.out);
  Log log(flags, kept, trainer, rewards);
  problems = at_rates(trainer, *soft, row, problems, flags);
  Keeper keeper(trainer, *soft, flags);
  run_steps(trainer, problems, keeper, log, flags);
  begun.keep();
  keeper.save();
  soft->save(flags.out, record_of(trainer, flags));
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
