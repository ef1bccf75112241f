// Decides what a step computes, and whose pages give way when there are not enough. Plain values.
#pragma once
#include <cstdint>
#include <deque>
#include <unordered_set>
#include <vector>

#include "engine/lane.h"
#include "engine/pages.h"

namespace pensive {

// tokens [first, first + count) of one lane; the last of them is drawn from when it is the newest.
struct Chunk {
  Lane* lane = nullptr;
  int first = 0;
  int count = 0;
  bool is_drawn = false;
};

// A shared page that is about to be written: its content goes to a page of the lane's own. All
// copies of a plan read before any of them writes.
struct PageCopy {
  Lane* lane = nullptr;
  int index = 0;  // into lane->pages
  int from = 0;
  int to = 0;
};

struct Plan {
  std::vector<Chunk> chunks;
  std::vector<PageCopy> copies;
  std::vector<Lane*> cut;  // alone in the cache and still too long: to be ended
  int tokens = 0;
};

struct Limits {
  int lanes = 256;  // running at once
  int tokens_per_step = 2048;
  bool reuse_prefixes = true;
};

// Decodes first, then prompts in pieces, first come first served. Without a free page those give
// way who lose least: ended lanes that are merely kept, then waiting ones, then paused ones, then
// the youngest that runs. Whoever loses its pages computes them again later; nothing else is lost.
// Lanes are borrowed: drop() them before they go.
class Scheduler {
 public:
  Scheduler(PagePool pool, const Limits& limits) : pool_(std::move(pool)), limits_(limits) {}

  void add(Lane& lane);    // a new lane, without pages
  void adopt(Lane& lane);  // a copy of another lane: its pages are shared from now on
  void end(Lane& lane);    // computes no more; keeps its pages while nobody needs them
  void drop(Lane& lane);   // gives everything back
  // Its last tokens were taken back by the caller: their pages return, and if it had ended it runs
  // again when its turn comes.
  void go_back(Lane& lane);

  const Plan& plan();
  // Leaves out of the plan whichever chunks are not to be kept; they stay as they are.
  void keep(const std::vector<bool>& kept);
  // Takes, of those that nobody uses, the pages that each chunk's lane needs for one token more
  // than planned. False where there are not enough. What is not planned for next goes back then.
  bool reach_further();
  void commit();     // the plan was computed
  void roll_back();  // it was not: nothing counts as computed

  // No lane that comes finds a prefix any more that only ended ones, or nobody, uses.
  void forget_prefixes();

  const PagePool& pool() const noexcept { return pool_; }
  PagePool& pool() noexcept { return pool_; }
  int running() const noexcept;  // probes run in their asker's place
  int waiting() const noexcept;
  std::int64_t reused_tokens() const noexcept { return reused_; }
  std::int64_t preemptions() const noexcept { return preemptions_; }
  // Whether a lane of so many tokens, sharing `lane`'s first `cached`, would find its pages now.
  bool has_room(int cached, int tokens) const;

 private:
  void plan_decodes();
  void plan_prompts();
  void plan_waiting();
  void plan_something();
  void leave_one(Lane& lane);
  void match(Lane& lane);
  bool admit(Lane& lane);
  bool is_flying(const Lane& lane);
  bool prefill(Lane& lane);
  void put(Lane& lane, int count);
  bool reserve(Lane& lane, int count);
  void trim(Lane& lane);
  int fitting(const Lane& lane) const;
  bool copies_first(const Lane& lane) const;
  bool make_room(Lane& lane);
  bool reclaim(const Lane& asker);
  void preempt(Lane& lane);
  void release(Lane& lane);
  void leave(Lane& lane);
  int budget() const noexcept { return limits_.tokens_per_step - plan_.tokens; }

  PagePool pool_;
  Limits limits_;
  Plan plan_;
  std::vector<Lane*> running_;                // by order
  std::deque<Lane*> waiting_;                 // by order
  std::deque<Lane*> ended_;                   // that still have pages, oldest first
  std::unordered_set<std::uint64_t> flying_;  // names of pages that this plan is about to fill
  std::uint64_t orders_ = 0;
  std::int64_t reused_ = 0;
  std::int64_t preemptions_ = 0;
};

}  // namespace pensive
