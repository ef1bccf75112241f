// A loop of its own around an engine.
#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <future>
#include <thread>

#include "base/inside.h"
#include "engine/parts.h"

namespace pensive {

struct Job::State {
  State(Sequence sequence, JobListener listener)
      : sequence(std::move(sequence)), listener(std::move(listener)) {}

  Sequence sequence;  // the loop's alone until the job is finished
  JobListener listener;
  mutable std::mutex mutex;  // for the rest
  mutable std::condition_variable ended;
  std::vector<TextEvent> events;
  bool is_finished = false;
};

bool Job::finished() const noexcept {
  const std::lock_guard lock(state_->mutex);
  return state_->is_finished;
}

void Job::wait() const {
  std::unique_lock lock(state_->mutex);
  state_->ended.wait(lock, [&] { return state_->is_finished; });
}

bool Job::wait_for(double seconds) const {
  constexpr double longest = 1e9;
  const std::chrono::duration<double> time(std::clamp(seconds, 0.0, longest));
  std::unique_lock lock(state_->mutex);
  return state_->ended.wait_for(lock, time, [&] { return state_->is_finished; });
}

std::vector<TextEvent> Job::take_events() {
  const std::lock_guard lock(state_->mutex);
  return std::exchange(state_->events, {});
}

void Job::cancel() noexcept { state_->sequence.cancel(); }

const Trace& Job::trace() const {
  require(finished(), ErrorCode::invalid_argument, "a job that is finished", "one that runs",
          "Job::trace");
  return state_->sequence.trace();
}

struct Server::Parts {
  Parts(std::shared_ptr<Engine::Parts> engine, const ServeOptions& options)
      : engine(std::move(engine)), options(options) {}

  void run(std::promise<void>& started);
  void serve();
  bool take_in();
  void tell_all();
  void tell(const std::shared_ptr<Job::State>& job, bool is_finished);
  void close(bool cancels);
  void end(std::string_view where, bool cancels);
  bool is_loop() const { return std::this_thread::get_id() == thread.get_id(); }

  const std::shared_ptr<Engine::Parts> engine;
  const ServeOptions options;
  std::vector<std::shared_ptr<Job::State>> running;  // the loop's alone
  mutable std::mutex mutex;                          // for the rest
  std::condition_variable wake;
  std::deque<std::shared_ptr<Job::State>> queue;
  ServerCounters counters;
  bool is_closed = false;      // takes no more
  bool is_cancelling = false;  // and cancels what it has
  std::mutex ending;           // for joining
  std::thread thread;
};

void Server::Parts::run(std::promise<void>& started) {
  try {
    engine->gate.hold("serve");
  } catch (...) {
    return started.set_exception(std::current_exception());
  }
  started.set_value();
  serve();
  engine->gate.let_go();
  if (!engine->is_open) engine->close();
}

void Server::Parts::serve() {
  while (take_in()) {
    try {
      engine->step();
    } catch (const std::exception& error) {
      // Sequences are as they were before; but what failed would fail again.
      engine->fail_all(error.what());
    }
    tell_all();
  }
}

// Waits for something to do; false where nothing ever will be.
bool Server::Parts::take_in() {
  std::unique_lock lock(mutex);
  wake.wait(lock, [&] { return is_closed || !queue.empty() || !running.empty(); });
  const auto places = static_cast<std::size_t>(engine->options.max_live_sequences);
  const auto now = std::chrono::steady_clock::now();
  for (auto job = queue.begin(); job != queue.end();) {
    const Sequence::Parts& sequence = *(*job)->sequence.parts();
    // Whoever is ended by the next step needs no place.
    const bool is_over = is_cancelling || sequence.is_cancelled || now >= sequence.deadline;
    if (!is_over && running.size() >= places) {
      ++job;
      continue;
    }
    engine->mail((*job)->sequence.parts());
    running.push_back(*job);
    job = queue.erase(job);
  }
  if (is_cancelling)
    for (const auto& job : running) job->sequence.cancel();
  counters.queued = static_cast<int>(queue.size());
  counters.running = static_cast<int>(running.size());
  return !running.empty();
}

void Server::Parts::tell_all() {
  std::vector<std::shared_ptr<Job::State>> left;
  std::vector<StopReason> reasons;
  for (const auto& job : running) {
    const bool is_finished = job->sequence.finished();
    if (is_finished)
      reasons.push_back(job->sequence.trace().stopped);
    else
      left.push_back(job);
    tell(job, is_finished);
  }
  running.swap(left);
  const std::lock_guard lock(mutex);
  counters.running = static_cast<int>(running.size());
  counters.finished += static_cast<std::int64_t>(reasons.size());
  counters.cancelled += std::ranges::count(reasons, StopReason::cancelled);
  counters.expired += std::ranges::count(reasons, StopReason::deadline);
  counters.failed += std::ranges::count(reasons, StopReason::error);
  counters.engine = engine->count();
}

void Server::Parts::tell(const std::shared_ptr<Job::State>& job, bool is_finished) {
  std::vector<TextEvent> events = job->sequence.take_events();
  if (events.empty() && !is_finished) return;
  {
    const std::lock_guard lock(job->mutex);
    job->is_finished = is_finished;
    if (!job->listener) std::ranges::move(events, std::back_inserter(job->events));
  }
  if (job->listener) {
    Job handle(job);
    try {
      job->listener(handle, events, is_finished);
    } catch (...) {
      job->sequence.cancel();
    }
    if (is_finished) job->listener = {};  // what it holds may hold the job
  }
  if (is_finished) job->ended.notify_all();
}

void Server::Parts::close(bool cancels) {
  {
    const std::lock_guard lock(mutex);
    is_closed = true;
    is_cancelling = is_cancelling || cancels;
  }
  wake.notify_all();
}

void Server::Parts::end(std::string_view where, bool cancels) {
  require(!is_loop(), ErrorCode::busy, "a call outside listeners", "one from a listener", where);
  close(cancels);
  const std::lock_guard lock(ending);
  if (thread.joinable()) thread.join();
}

Server::Server(Engine& engine, const ServeOptions& options)
    : parts_(std::make_shared<Parts>(engine.parts(), options)) {
  require(options.max_queued >= 1, ErrorCode::invalid_argument, "a max_queued of at least 1",
          std::to_string(options.max_queued), "ServeOptions");
  std::promise<void> started;
  parts_->thread = std::thread([parts = parts_, &started] { parts->run(started); });
  try {
    started.get_future().get();
  } catch (...) {
    parts_->thread.join();
    throw;
  }
}

Server::~Server() {
  if (!parts_->is_loop()) {
    stop();
    return;
  }
  // Dropped by a listener: the loop ends once that returns.
  parts_->close(true);
  parts_->thread.detach();
}

Job Server::submit(const Request& request, JobListener listener) {
  auto sequence = make_sequence(parts_->engine, request);
  auto job = std::make_shared<Job::State>(Sequence(std::move(sequence)), std::move(listener));
  {
    const std::lock_guard lock(parts_->mutex);
    require(!parts_->is_closed, ErrorCode::cancelled, "a server that takes requests",
            "one that was drained or stopped", "submit");
    const bool is_full = static_cast<int>(parts_->queue.size()) >= parts_->options.max_queued;
    parts_->counters.refused += is_full ? 1 : 0;
    require(!is_full, ErrorCode::busy,
            fmt::format("at most {} requests that wait", parts_->options.max_queued), "one more",
            "submit");
    parts_->queue.push_back(job);
    ++parts_->counters.submitted;
    ++parts_->counters.queued;
  }
  parts_->wake.notify_one();
  return Job(std::move(job));
}

void Server::drain() { parts_->end("drain", false); }
void Server::stop() { parts_->end("stop", true); }

ServerCounters Server::counters() const {
  const std::lock_guard lock(parts_->mutex);
  return parts_->counters;
}

std::unique_ptr<Server> serve(Engine& engine, const ServeOptions& options) {
  return std::make_unique<Server>(engine, options);
}

}  // namespace pensive
