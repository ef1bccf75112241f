#include "pensive/engine.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string_view>
#include <utility>

#include "base/inside.h"
#include "engine/memory.h"
#include "engine/parts.h"
#include "engine/quietly.h"

namespace pensive {

Engine::Parts::Parts(std::shared_ptr<const Model> given_model, const EngineOptions& given_options,
                     int pages)
    : model(std::move(given_model)),
      options(given_options),
      scheduler(PagePool(pages, options.page_tokens, model->vocab_size()),
                {options.max_live_sequences, options.max_tokens_per_step, options.reuse_prefixes}),
      runner(model, options, pages),
      tokenizer_(model->tokenizer()) {
  tell_counts();
}

std::shared_ptr<const Tokenizer> Engine::Parts::tokenizer() {
  const std::lock_guard lock(mutex_);
  if (!options.soft || options.soft->size() == named_rows_) return tokenizer_;
  named_rows_ = options.soft->size();
  tokenizer_ = options.soft->tokenizer();
  return tokenizer_;
}

std::shared_ptr<Sequence::Parts> Engine::Parts::start(const Request& request) {
  const Call call(*this, "start");
  sweep();
  auto sequence = make_sequence(shared_from_this(), request);
  sequences_.push_back(sequence);
  begin(*sequence);
  return sequence;
}

std::shared_ptr<Sequence::Parts> Engine::Parts::submit(const Request& request) {
  auto sequence = make_sequence(shared_from_this(), request);
  mail(sequence);
  return sequence;
}

void Engine::Parts::mail(const std::shared_ptr<Sequence::Parts>& sequence) {
  const std::lock_guard lock(mutex_);
  mail_.push_back(sequence);
  ++calls;
}

void Engine::Parts::begin(Sequence::Parts& sequence) {
  next_deadline_ = std::min(next_deadline_, sequence.deadline);
  scheduler.add(sequence.record.lane);
  if (!sequence.is_cancelled && !sequence.is_dropped) sequence.guidance.start(sequence.record);
  attend(sequence);
}

std::shared_ptr<Sequence::Parts> Engine::Parts::fork(Sequence::Parts& parent, Draws draws) {
  require(is_open, ErrorCode::invalid_argument, "an engine that still exists", "none", "fork");
  const Call call(*this, "fork");
  sweep();
  auto sequence = std::make_shared<Sequence::Parts>(parent);
  if (draws == Draws::fresh) sequence->branch(++parent.forks);
  sequences_.push_back(sequence);
  next_deadline_ = std::min(next_deadline_, sequence->deadline);
  scheduler.adopt(sequence->record.lane);
  attend(*sequence);
  return sequence;
}

void Engine::Parts::feed(Sequence::Parts& sequence, std::span<const TokenId> tokens) {
  constexpr auto bad = ErrorCode::invalid_argument;
  require(is_open, bad, "an engine that still exists", "none", "feed");
  const Call call(*this, "feed");
  open_mail();  // it may have been submitted only
  require(!sequence.record.is_sealed(), bad, "a sequence that is not finished",
          to_string(sequence.record.trace.stopped), "feed");
  const TokenId limit = sequence.guidance.rules().id_limit;
  for (TokenId id : tokens)
    require(id >= 0 && id < limit, bad, fmt::format("ids from 0 to {}", limit - 1),
            std::to_string(id), "feed");
  sequence.guidance.feed(sequence.record, tokens);
  attend(sequence);
}

int Engine::Parts::step() {
  const Call call(*this, "step");
  sweep();
  const Plan& plan = scheduler.plan();
  for (Lane* lane : plan.cut) {
    lane->owner->record.seal(StopReason::length);
    attend(*lane->owner);
  }
  if (!plan.chunks.empty())
    compute(plan);
  else
    forget_flight();
  const int unfinished = scheduler.running() + scheduler.waiting();
  require(unfinished == 0 || !plan.chunks.empty() || !plan.cut.empty(), ErrorCode::internal,
          "something to compute", fmt::format("{} sequences that wait", unfinished), "engine");
  return unfinished;
}

void Engine::Parts::wish(const Plan& plan) {
  wishes_.rows.clear();
  wishes_.draws.clear();
  wishes_.scores.clear();
  std::int64_t row_of_chunk = 0;
  for (const Chunk& chunk : plan.chunks) {
    Sequence::Parts& sequence = *chunk.lane->owner;
    wishes_.rows.push_back(sequence.rows.get());
    ask_scores(chunk, row_of_chunk);
    row_of_chunk += chunk.count;
    if (!chunk.is_drawn) continue;
    kernels::DrawRow& row = wishes_.draws.emplace_back(sequence.draw);
    row.key = kernels::mix(sequence.key, sequence.record.clock());
    if (!sequence.steering) continue;
    if (sequence.steering->counts())
      sequence.tally.follow(chunk.lane->tokens, sequence.record.trace.prompt_tokens);
    sequence.steering->steer(row, sequence.tally, sequence.guidance.biases(),
                             sequence.guidance.mask());
  }
}

void Engine::Parts::compute(const Plan& plan) {
  Outcome outcome;
  try {
    // What takes most of a step that only decodes is logits.
    const bool is_decode = plan.tokens == std::ssize(plan.chunks);
    const auto work = [&] {
      wish(plan);
      outcome = carry_out(plan);
    };
    quietly(work,
            is_decode ? "EngineOptions::max_live_sequences" : "EngineOptions::max_tokens_per_step");
  } catch (...) {
    scheduler.roll_back();
    forget_flight();
    throw;
  }
  scheduler.commit();
  ++counters_.steps;
  counters_.computed_tokens += plan.tokens;
  hand_out_scores(plan, outcome.scored);
  hand_out(plan, outcome.drawn);
}

std::string Sequence::Parts::nothing_to_draw() const {
  const bool is_steered = !guidance.mask().empty() || !guidance.biases().empty() ||
                          (steering && (!steering->mask.empty() || !steering->biases.empty()));
  if (!is_steered) return "expected finite logits; found NaN or infinity (model)";
  const std::string* guide = guidance.wisher();
  return fmt::format(
      "expected a token that masks and biases leave, with a finite logit; found none (Sampling{})",
      guide ? fmt::format(", guide {}", *guide) : "");
}

void Engine::Parts::hand_out(const Plan& plan, const std::vector<kernels::Drawn>& drawn) {
  std::size_t next = 0;
  for (const Chunk& chunk : plan.chunks) {
    if (!chunk.is_drawn) continue;
    Sequence::Parts& sequence = *chunk.lane->owner;
    const kernels::Drawn& one = drawn[next++];
    if (one.is_finite) {
      const Stats stats{one.logprob,     one.drawn_logprob, one.entropy,       one.top_token,
                        one.top_logprob, one.watched,       one.listed_tokens, one.listed_logprobs};
      sequence.guidance.sampled(sequence.record, one.token, stats);
    } else {
      sequence.record.seal(StopReason::error, sequence.nothing_to_draw());
    }
    attend(sequence);
  }
}

// After anything has happened to a sequence: does what only the engine can.
void Engine::Parts::attend(Sequence::Parts& sequence) {
  if (sequence.asker != nullptr) return attend_probe(sequence);
  Record& record = sequence.record;
  while (!record.is_sealed() && sequence.guidance.probe() != nullptr && !sequence.probe) {
    if (start_probe(sequence)) continue;
    ProbeReply refusal;
    refusal.is_refused = true;
    sequence.guidance.answer(record, refusal, 0);
  }
  if (!record.is_sealed()) return;
  if (sequence.probe) {
    record.trace.probe_tokens += sequence.probe->record.decoded();
    scheduler.drop(sequence.probe->record.lane);
  }
  sequence.probe.reset();
  if (record.lane.stage != Stage::ended) scheduler.end(record.lane);
  sequence.is_ended = true;
}

// Begins what other threads have submitted. One by one: what fails leaves the rest for the next
// look.
void Engine::Parts::open_mail() {
  const auto take = [&](std::size_t& left) {
    const std::lock_guard lock(mutex_);
    left = std::min(left, mail_.size());  // what guides submit meanwhile is for later
    if (left-- == 0) return false;
    sequences_.push_back(mail_.front());
    mail_.pop_front();
    return true;
  };
  try {
    for (std::size_t left = SIZE_MAX; take(left);) begin(*sequences_.back());
  } catch (...) {
    ++calls;
    throw;
  }
}

// Where another thread has asked for something, or a time is over.
void Engine::Parts::sweep() {
  constexpr auto never = std::chrono::steady_clock::time_point::max();
  const auto now = next_deadline_ == never ? next_deadline_ : std::chrono::steady_clock::now();
  const bool is_late = next_deadline_ != never && now >= next_deadline_;
  if (calls.exchange(0) == 0 && !is_late) return;
  open_mail();
  next_deadline_ = never;
  for (const auto& sequence : sequences_) {
    if (sequence->is_dropped || sequence->record.is_sealed()) continue;
    if (sequence->is_cancelled) {
      sequence->record.seal(StopReason::cancelled);
    } else if (is_late && now >= sequence->deadline) {
      sequence->record.seal(StopReason::deadline);
    } else {
      next_deadline_ = std::min(next_deadline_, sequence->deadline);
      continue;
    }
    attend(*sequence);
  }
  std::erase_if(sequences_, [&](const std::shared_ptr<Sequence::Parts>& sequence) {
    if (!sequence->is_dropped) return false;
    if (sequence->probe) scheduler.drop(sequence->probe->record.lane);
    scheduler.drop(sequence->record.lane);
    return true;
  });
}

void Engine::Parts::fail_all(std::string_view error) {
  const Call call(*this, "fail_all");
  sweep();
  for (const auto& sequence : sequences_) {
    if (sequence->record.is_sealed()) continue;
    sequence->record.seal(StopReason::error, std::string(error));
    attend(*sequence);
  }
}

void Engine::Parts::tell_counts() noexcept {
  EngineCounters now = counters_;
  now.reused_tokens = scheduler.reused_tokens();
  now.preemptions = scheduler.preemptions();
  now.live = scheduler.running();
  now.waiting = scheduler.waiting();
  now.pages = scheduler.pool().size();
  now.free_pages = scheduler.pool().free();
  const std::lock_guard lock(mutex_);
  told_ = now;
}

EngineCounters Engine::Parts::count() const noexcept {
  const std::lock_guard lock(mutex_);
  return told_;
}

void Engine::Parts::clear_prefixes() {
  const Call call(*this, "clear_prefixes");
  sweep();
  scheduler.forget_prefixes();
}

void Engine::Parts::close() {
  is_open = false;
  if (gate.is_held()) return;
  std::vector<std::shared_ptr<Sequence::Parts>> sequences;  // let go of without the lock
  std::deque<std::shared_ptr<Sequence::Parts>> mail;
  const std::lock_guard lock(mutex_);
  sequences.swap(sequences_);
  mail.swap(mail_);
}

Engine::Engine(std::shared_ptr<const Model> model, const EngineOptions& options) {
  require(model != nullptr, ErrorCode::invalid_argument, "a model", "none", "Engine");
  require(!options.soft || options.soft->model() == model, ErrorCode::invalid_argument,
          "soft rows made for this very model", "those of another", "EngineOptions::soft");
  require(!options.soft || model->tokenizer()->size() <= model->vocab_size(),
          ErrorCode::unsupported,
          fmt::format("a tokenizer of at most {} ids, since soft rows take the ids after the "
                      "embedding's",
                      model->vocab_size()),
          fmt::format("{} ids", model->tokenizer()->size()), "EngineOptions::soft");
  const int pages = pages_of(*model, options);
  quietly([&] { parts_ = std::make_shared<Parts>(model, options, pages); },
          "EngineOptions::cache_tokens");
  if (options.log)
    options.log(LogLevel::info,
                fmt::format("cache: {} pages of {} positions, {} bytes each", pages,
                            options.page_tokens, parts_->runner.cache().page_bytes()));
}

Engine::~Engine() { parts_->close(); }

Turn::Turn(Engine& engine, Nested nested) : parts_(engine.parts()) {
  parts_->gate.hold("Turn", nested == Nested::allowed);
}
Turn::~Turn() {
  parts_->gate.let_go();
  if (!parts_->is_open) parts_->close();  // ~Engine left that to the last who holds it
}

Sequence Engine::start(const Request& request) { return Sequence(parts_->start(request)); }
Sequence Engine::submit(const Request& request) { return Sequence(parts_->submit(request)); }
int Engine::step() { return parts_->step(); }

void Engine::finish(std::span<Sequence> sequences) {
  for (const Sequence& sequence : sequences)
    require(sequence.parts() && sequence.parts()->engine == parts_, ErrorCode::invalid_argument,
            "sequences of this engine", "one of another", "finish");
  const Turn turn(*this);
  for (const Sequence& sequence : sequences)
    while (!sequence.finished()) step();
}

void Engine::finish(Sequence& sequence) { finish(std::span(&sequence, 1)); }
std::shared_ptr<const Model> Engine::model() const noexcept { return parts_->model; }
const EngineOptions& Engine::options() const noexcept { return parts_->options; }
EngineCounters Engine::counters() const noexcept { return parts_->count(); }
void Engine::clear_prefixes() { parts_->clear_prefixes(); }

}  // namespace pensive
