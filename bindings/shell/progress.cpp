#include <fmt/core.h>
#include <unistd.h>

#include <condition_variable>
#include <csignal>
#include <mutex>
#include <thread>

#include "shell.h"

namespace pensive::shell {
namespace {

volatile std::sig_atomic_t interrupted = 0;

std::string clock_text(double seconds) {
  const int whole = static_cast<int>(seconds);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

}  // namespace

bool is_terminal(int descriptor) { return isatty(descriptor) == 1; }

void catch_interrupt() {
  interrupted = 0;
  std::signal(SIGINT, [](int) {
    interrupted = 1;
    std::signal(SIGINT, SIG_DFL);
  });
}

void catch_interrupts() {
  interrupted = 0;
  struct sigaction action = {};
  action.sa_handler = [](int) { interrupted = 1; };
  sigaction(SIGINT, &action, nullptr);
}

bool was_interrupted() { return interrupted != 0; }

struct Waiting::Parts {
  std::mutex mutex;
  std::condition_variable changed;
  bool is_over = false;
  std::thread thread;
};

Waiting::Waiting(std::string what) {
  if (!is_terminal(STDERR_FILENO)) return;
  parts_ = std::make_unique<Parts>();
  parts_->thread = std::thread([parts = parts_.get(), what = std::move(what)] {
    std::unique_lock lock(parts->mutex);
    bool is_shown = false;
    for (int seconds = 1;; ++seconds) {
      if (parts->changed.wait_for(lock, std::chrono::seconds(1), [&] { return parts->is_over; }))
        break;
      is_shown = true;
      fmt::print(stderr, "\r{} {}\033[K", what, clock_text(seconds));
      std::fflush(stderr);
    }
    if (is_shown) fmt::print(stderr, "\r\033[K");
    std::fflush(stderr);
  });
}

Waiting::~Waiting() {
  if (!parts_) return;
  {
    const std::lock_guard lock(parts_->mutex);
    parts_->is_over = true;
  }
  parts_->changed.notify_all();
  parts_->thread.join();
}

Progress::Progress(std::string title, int total)
    : title_(std::move(title)),
      total_(total),
      is_terminal_(is_terminal(STDERR_FILENO)),
      start_(std::chrono::steady_clock::now()),
      last_(start_) {}

Progress::~Progress() {
  if (is_terminal_) fmt::print(stderr, "\n");
}

void Progress::update(int done, std::string_view note) {
  const auto now = std::chrono::steady_clock::now();
  const double pause = is_terminal_ ? 0.1 : 5.0;
  if (done < total_ && std::chrono::duration<double>(now - last_).count() < pause) return;
  last_ = now;
  const double spent = std::chrono::duration<double>(now - start_).count();
  const double left = done > 0 ? spent / done * (total_ - done) : 0;
  if (!is_terminal_) {
    fmt::print(stderr, "{} {}/{} {} {}\n", title_, done, total_, clock_text(spent), note);
    return;
  }
  constexpr int width = 28;
  const int full = total_ > 0 ? static_cast<int>(static_cast<long>(width) * done / total_) : 0;
  std::string bar;
  for (int i = 0; i < width; ++i) bar += i < full ? "█" : "░";
  fmt::print(stderr, "\r{} {} {}/{}  {} left {}  {}\033[K", title_, bar, done, total_,
             clock_text(spent), clock_text(left), note);
  std::fflush(stderr);
}

}  // namespace pensive::shell
