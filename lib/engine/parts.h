// What Engine and Sequence are made of.
#pragma once
#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/flight.h"
#include "engine/gate.h"
#include "engine/guidance.h"
#include "engine/record.h"
#include "engine/runner.h"
#include "engine/scheduler.h"
#include "engine/steering.h"
#include "model/parts.h"
#include "pensive/engine.h"

namespace pensive {

// A sequence before its first token: what telling it again begins with.
struct Beginning {
  Record record;
  std::shared_ptr<const Rules> rules;
  std::vector<std::shared_ptr<const Guide>> guides;
};

struct Sequence::Parts {
  Parts(std::shared_ptr<Engine::Parts> engine, Record record, Guidance guidance);
  // A fork: everything but what belongs to the one sequence only.
  Parts(const Parts& other);
  // Draws of its own from here on.
  void branch(std::uint32_t number);
  // Why a draw gave no token.
  std::string nothing_to_draw() const;

  std::shared_ptr<Engine::Parts> engine;
  std::shared_ptr<const Beginning> beginning;  // null for a probe
  Record record;
  Guidance guidance;
  std::shared_ptr<const SoftVocab::Rows> rows;  // as they were when it started; may be null
  kernels::DrawRow draw;                        // temperature, top_k, top_p, min_p
  std::shared_ptr<const Steering> steering;     // null for a probe
  Tally tally;                                  // where the steering counts
  std::uint64_t key = 0;                        // of seed, sample and path
  std::uint32_t forks = 0;                      // with draws of their own, so far
  std::atomic<bool> is_cancelled = false;
  std::atomic<bool> is_dropped = false;
  std::atomic<bool> is_ended = false;  // what other threads may see of the record being sealed
  std::chrono::steady_clock::time_point deadline = std::chrono::steady_clock::time_point::max();

  // A probe is a sequence in the hands of the one that asked.
  std::shared_ptr<Parts> probe;
  Parts* asker = nullptr;
  std::vector<std::string> stop_texts;
  int fed_tokens = 0;
  std::size_t fed_bytes = 0;  // of their text
};

// The engine's Sequences hold it, and it holds them: ~Engine cuts the circle.
struct Engine::Parts : std::enable_shared_from_this<Engine::Parts> {
  Parts(std::shared_ptr<const Model> model, const EngineOptions& options, int pages);

  std::shared_ptr<Sequence::Parts> start(const Request& request);
  // From any thread.
  std::shared_ptr<Sequence::Parts> submit(const Request& request);
  void mail(const std::shared_ptr<Sequence::Parts>& sequence);
  std::shared_ptr<Sequence::Parts> fork(Sequence::Parts& parent, Draws draws);
  void feed(Sequence::Parts& sequence, std::span<const TokenId> tokens);
  void rewind(Sequence::Parts& sequence, int count, Draws draws);
  int step();
  std::vector<float> score(std::span<const TokenId> prompt, std::span<const TokenId> continuation);
  // Ends every sequence with StopReason::error.
  void fail_all(std::string_view error);
  // From any thread: as it was when the last call ended.
  EngineCounters count() const noexcept;
  void clear_prefixes();
  // Lets go of all sequences; while a Turn or a server's loop holds it, leaves that to its end.
  void close();
  // The tokenizer that knows the soft rows by name.
  std::shared_ptr<const Tokenizer> tokenizer();

  std::shared_ptr<const Model> model;
  EngineOptions options;
  Scheduler scheduler;
  Runner runner;
  Gate gate;
  std::atomic<int> calls = 0;  // sequences submitted, dropped or cancelled since the last look
  std::atomic<bool> is_open = true;  // false once the Engine is gone

  // A call that changes something: nobody else's turn, and counted when it ends.
  class Call {
   public:
    Call(Parts& parts, std::string_view where) : parts_(parts), visit_(parts.gate, where) {}
    ~Call() { parts_.tell_counts(); }
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;

   private:
    Parts& parts_;
    Gate::Visit visit_;
  };

 private:
  void tell_counts() noexcept;
  void begin(Sequence::Parts& sequence);
  void open_mail();
  void sweep();
  void wish(const Plan& plan);
  void compute(const Plan& plan);
  Outcome carry_out(const Plan& plan);
  std::vector<int> land(const Plan& plan, bool& is_whole);
  Flight run_ahead(const Plan& plan, const std::vector<int>& rows);
  void forget_flight();
  void ask_scores(const Chunk& chunk, std::int64_t row);
  void hand_out_scores(const Plan& plan, const std::vector<kernels::Drawn>& scored);
  void hand_out(const Plan& plan, const std::vector<kernels::Drawn>& drawn);
  void attend(Sequence::Parts& sequence);
  bool start_probe(Sequence::Parts& asker);
  void attend_probe(Sequence::Parts& probe);

  std::vector<std::shared_ptr<Sequence::Parts>> sequences_;
  mutable std::mutex mutex_;  // for the next two, and the tokenizer
  std::deque<std::shared_ptr<Sequence::Parts>> mail_;
  EngineCounters told_;  // what other threads see of counters_
  std::chrono::steady_clock::time_point next_deadline_ =
      std::chrono::steady_clock::time_point::max();
  Wishes wishes_;
  Flight flight_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  int named_rows_ = 0;  // that tokenizer_ knows
  EngineCounters counters_;
};

// Checks a request and makes a sequence of it; nothing is queued yet.
std::shared_ptr<Sequence::Parts> make_sequence(const std::shared_ptr<Engine::Parts>& engine,
                                               const Request& request);

}  // namespace pensive
