// One training step: roll out, judge, update the row, report.
#include "pensive/train.h"

#include <algorithm>
#include <chrono>
#include <new>

#include "base/inside.h"
#include "engine/supplied.h"
#include "train/parts.h"

namespace pensive {
namespace {

class Clock {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
  }

 private:
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

// Runs `work`, turning libtorch's exceptions into ours.
template <class Work>
auto translated(Work work) {
  constexpr std::string_view room = "room for one backward: lower max_batch_tokens";
  try {
    return work();
  } catch (const c10::OutOfMemoryError& error) {
    fail(ErrorCode::out_of_memory, room, error.what_without_backtrace(), "training step");
  } catch (const std::bad_alloc&) {
    fail(ErrorCode::out_of_memory, room, "too little memory", "training step");
  } catch (const c10::Error& error) {
    const std::string_view what = error.what_without_backtrace();
    const bool is_memory = what.find("allocate memory") != std::string_view::npos;
    fail(is_memory ? ErrorCode::out_of_memory : ErrorCode::device,
         is_memory ? room : "a step that the device carries out", what, "training step");
  }
}

}  // namespace

Trainer::Trainer(Engine& engine, std::shared_ptr<SoftVocab> soft, TokenId row,
                 std::vector<Reward> rewards, const TrainOptions& options) {
  require(soft != nullptr, ErrorCode::invalid_argument, "a SoftVocab", "none", "Trainer");
  require(engine.options().soft == soft, ErrorCode::invalid_argument,
          "an engine made with this SoftVocab (EngineOptions::soft)",
          engine.options().soft ? "another one" : "none", "Trainer");
  check_rewards(rewards);
  check_options(options);
  check_supplied(options.rollout, "TrainOptions::rollout", "TrainOptions::seed");
  require(options.logprobs == Logprobs::fast ||
              engine.options().arithmetic == Arithmetic::row_invariant,
          ErrorCode::invalid_argument,
          "an engine whose arithmetic is row-invariant, for exact logprobs",
          "one whose arithmetic is fast", "TrainOptions::logprobs");
  const Model& model = *engine.model();
  const double temperature = check_sampling(model, options.rollout.sampling);
  std::vector<float> started = soft->row(row);  // refuses an id that is no soft row
  parts_ = std::unique_ptr<Parts>(new Parts{
      .engine = engine,
      .soft = soft,
      .row = row,
      .rewards = std::move(rewards),
      .options = options,
      .tokenizer = soft->tokenizer(),
      .prompt_of = options.prompt_of ? options.prompt_of : chat_prompt(model.tokenizer()),
      .temperature = temperature,
      .started = std::move(started),
      .adam = {},
      .watch = {},
      .report = {},
      .example = {},
  });
}

Trainer::Trainer(Engine& engine, std::shared_ptr<SoftVocab> soft, TokenId row,
                 std::shared_ptr<const Judge> judge, const TrainOptions& options)
    : Trainer(engine, std::move(soft), row,
              std::vector<Reward>{{.name = "reward", .judge = std::move(judge)}}, options) {}

Trainer::~Trainer() = default;

int Trainer::steps_done() const noexcept { return parts_->steps; }
bool Trainer::has_stopped() const noexcept { return parts_->watch.has_stopped; }
std::optional<TrainReport> Trainer::last_report() const { return parts_->report; }
std::vector<float> Trainer::start_row() const { return parts_->started; }

TrainReport Trainer::step(std::span<const Problem> problems) {
  require(!problems.empty(), ErrorCode::invalid_argument, "at least one problem", "none",
          "Trainer::step");
  require(!has_stopped(), ErrorCode::invalid_argument,
          "a run whose reward has not fallen (TrainOptions::stop_errors)",
          fmt::format("one that stopped at step {}", steps_done()), "Trainer::step");
  return translated([&] {
    TrainReport report;
    std::optional<Problem> example = problems.front();
    const Clock rollout_clock;
    parts_->engine.clear_prefixes();  // a resumed run finds nothing there either
    const std::vector<Sequence> sequences =
        parts_->roll_out(problems, parts_->steps, parts_->options.branch);
    parts_->check_rollouts(problems, sequences);
    report.rollout_seconds = rollout_clock.seconds();
    const Clock judge_clock;
    const Scores scores = parts_->judge_all(problems, sequences);
    report.judge_seconds = judge_clock.seconds();
    const Clock update_clock;
    parts_->update(sequences, scores, report);
    report.update_seconds = update_clock.seconds();
    parts_->example = std::move(example);
    parts_->asked = std::max(parts_->asked, parts_->longest_asked(sequences));
    parts_->report = report;
    return report;
  });
}

}  // namespace pensive
