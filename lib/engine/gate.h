// Who may call an engine now. One thread at a time; and while guides are asked, nobody.
#pragma once
#include <atomic>
#include <string_view>
#include <thread>

#include "base/inside.h"

namespace pensive {

class Gate {
 public:
  // Keeps other threads out until let_go(). Its holder may hold it several times over, where
  // `may_nest`.
  void hold(std::string_view where, bool may_nest = true) {
    const std::thread::id me = std::this_thread::get_id();
    std::thread::id nobody;
    if (owner_.load() != me && !owner_.compare_exchange_strong(nobody, me))
      refuse("another thread", where);
    if (is_asking_ || (depth_ > 0 && !may_nest)) refuse("a guide or a callback", where);
    ++depth_;
  }
  void let_go() noexcept {
    if (--depth_ == 0) owner_.store({});
  }

  // By anybody.
  bool is_held() const noexcept { return owner_.load() != std::thread::id{}; }

  // Held, and refused to the guides that the call asks.
  class Visit {
   public:
    Visit(Gate& gate, std::string_view where) : gate_(gate) {
      gate_.hold(where);
      gate_.is_asking_ = true;
    }
    ~Visit() {
      gate_.is_asking_ = false;
      gate_.let_go();
    }
    Visit(const Visit&) = delete;
    Visit& operator=(const Visit&) = delete;

   private:
    Gate& gate_;
  };

 private:
  [[noreturn]] static void refuse(std::string_view found, std::string_view where) {
    fail(ErrorCode::busy, "one caller at a time, outside guides",
         fmt::format("a call from {} while the engine is at work", found), where);
  }

  std::atomic<std::thread::id> owner_{};
  // The owner's alone.
  int depth_ = 0;
  bool is_asking_ = false;
};

}  // namespace pensive
