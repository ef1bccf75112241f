#include "engine/scheduler.h"

#include <algorithm>
#include <optional>
#include <unordered_map>

namespace pensive {
namespace {

template <class Lanes>
void insert_by_order(Lanes& lanes, Lane& lane) {
  const auto place =
      std::upper_bound(lanes.begin(), lanes.end(), &lane,
                       [](const Lane* a, const Lane* b) { return a->order < b->order; });
  lanes.insert(place, &lane);
}

template <class Lanes>
void erase(Lanes& lanes, Lane& lane) {
  const auto place = std::find(lanes.begin(), lanes.end(), &lane);
  if (place != lanes.end()) lanes.erase(place);
}

}  // namespace

void Scheduler::add(Lane& lane) {
  lane.order = ++orders_;
  lane.stage = Stage::waiting;
  waiting_.push_back(&lane);
}

void Scheduler::adopt(Lane& lane) {
  // Only what is cached is shared; the pages after it stay with the original alone.
  lane.pages.resize(static_cast<std::size_t>(pool_.pages_for(lane.cached)));
  for (int page : lane.pages) pool_.share(page);
  add(lane);
}

void Scheduler::end(Lane& lane) {
  leave(lane);
  trim(lane);
  lane.stage = Stage::ended;
  if (!lane.pages.empty()) ended_.push_back(&lane);
}

void Scheduler::drop(Lane& lane) {
  leave(lane);
  release(lane);
  lane.stage = Stage::idle;
}

void Scheduler::go_back(Lane& lane) {
  trim(lane);
  if (lane.stage != Stage::ended) return;
  leave(lane);
  insert_by_order(waiting_, lane);
  lane.stage = Stage::waiting;
}

void Scheduler::leave(Lane& lane) {
  if (lane.stage == Stage::running) erase(running_, lane);
  if (lane.stage == Stage::waiting) erase(waiting_, lane);
  if (lane.stage == Stage::ended) erase(ended_, lane);
}

const Plan& Scheduler::plan() {
  plan_.chunks.clear();
  plan_.copies.clear();
  plan_.cut.clear();
  plan_.tokens = 0;
  flying_.clear();
  for (Lane* lane : running_) {
    leave_one(*lane);
    // Lanes that decode would take the same pages again.
    if (lane->is_paused || lane->missing() != 1) trim(*lane);
  }
  plan_decodes();
  plan_prompts();
  plan_waiting();
  if (plan_.chunks.empty()) plan_something();
  return plan_;
}

void Scheduler::keep(const std::vector<bool>& kept) {
  std::vector<Chunk> chunks;
  for (std::size_t i = 0; i < kept.size(); ++i) {
    if (kept[i])
      chunks.push_back(plan_.chunks[i]);
    else
      plan_.tokens -= plan_.chunks[i].count;
  }
  plan_.chunks.swap(chunks);
}

bool Scheduler::reach_further() {
  for (const Chunk& chunk : plan_.chunks) {
    std::vector<int>& pages = chunk.lane->pages;
    while (std::ssize(pages) < pool_.pages_for(chunk.first + chunk.count + 1)) {
      const std::optional<int> page = pool_.take();
      if (!page) return false;
      pages.push_back(*page);
    }
  }
  return true;
}

void Scheduler::commit() {
  const auto width = static_cast<std::size_t>(pool_.page_tokens());
  for (const Chunk& chunk : plan_.chunks) {
    Lane& lane = *chunk.lane;
    lane.cached += chunk.count;
    while ((lane.chain.size() + 1) * width <= static_cast<std::size_t>(lane.cached)) {
      const std::size_t index = lane.chain.size();
      const auto tokens = std::span(lane.tokens).subspan(index * width, width);
      const Chain before = index > 0 ? lane.chain.back() : Chain{};
      lane.chain.push_back(pool_.next(before, tokens, lane.soft_version));
      if (limits_.reuse_prefixes) pool_.name(lane.pages[index], lane.chain.back(), tokens);
    }
  }
}

void Scheduler::roll_back() {
  // Whether a copy was made is not known, so the copied part is computed again.
  for (const PageCopy& copy : plan_.copies)
    copy.lane->cached = std::min(copy.lane->cached, copy.index * pool_.page_tokens());
}

// Ended lanes keep their pages, for forks and for going back; but not under a name.
void Scheduler::forget_prefixes() {
  pool_.forget_unused();
  std::unordered_map<int, int> users;  // of a page, among ended lanes
  for (const Lane* lane : ended_)
    for (int page : lane->pages)
      if (++users[page] == pool_.users(page)) pool_.forget(page);
}

int Scheduler::running() const noexcept {
  const auto counts = [](const Lane* lane) { return !lane->is_probe; };
  return static_cast<int>(std::ranges::count_if(running_, counts));
}

int Scheduler::waiting() const noexcept {
  const auto counts = [](const Lane* lane) { return !lane->is_probe; };
  return static_cast<int>(std::ranges::count_if(waiting_, counts));
}

void Scheduler::plan_decodes() {
  for (std::size_t i = 0; i < running_.size() && budget() > 0; ++i) {
    Lane& lane = *running_[i];
    if (lane.is_paused || lane.missing() != 1) continue;
    if (reserve(lane, 1)) {
      put(lane, 1);
      continue;
    }
    if (make_room(lane)) put(lane, 1);
    // It left, or older paused ones did: what stood behind it moved up.
    i = static_cast<std::size_t>(std::ranges::upper_bound(running_, lane.order, {}, &Lane::order) -
                                 running_.begin()) -
        1;
  }
}

void Scheduler::plan_prompts() {
  for (Lane* lane : running_) {
    if (budget() <= 0) return;
    if (lane->is_paused || lane->missing() < 2) continue;
    is_flying(*lane);
    prefill(*lane);
  }
}

void Scheduler::plan_waiting() {
  int places = limits_.lanes - running();
  for (std::size_t i = 0; i < waiting_.size() && budget() > 0;) {
    Lane& lane = *waiting_[i];
    const bool has_place = places > 0 || lane.is_probe;
    if (has_place && !lane.is_paused) match(lane);
    if (lane.is_paused || !has_place || is_flying(lane)) {
      ++i;
      continue;
    }
    if (!admit(lane)) return;
    if (!lane.is_probe) --places;
    prefill(lane);
  }
}

// The last token is always computed, for its logits.
void Scheduler::leave_one(Lane& lane) {
  if (lane.missing() == 0) --lane.cached;
}

// Exchanges what a waiting lane has for a longer known prefix, if there is one.
void Scheduler::match(Lane& lane) {
  leave_one(lane);
  trim(lane);
  if (!limits_.reuse_prefixes) return;
  std::span<const TokenId> tokens = lane.tokens;
  if (lane.unscored < lane.size())
    tokens = tokens.first(static_cast<std::size_t>(lane.unscored) + 1);
  PagePool::Match found = pool_.match(tokens, lane.soft_version);
  const int known = static_cast<int>(found.pages.size()) * pool_.page_tokens();
  if (known > lane.cached) {
    reused_ += known - lane.cached;
    std::swap(lane.pages, found.pages);
    std::swap(lane.chain, found.chain);
    lane.cached = known;
  }
  for (auto page = found.pages.rbegin(); page != found.pages.rend(); ++page) pool_.release(*page);
}

// Lets a waiting lane run if its whole text, and one token more, find pages.
bool Scheduler::admit(Lane& lane) {
  const auto room = [&] {
    const int held = static_cast<int>(lane.pages.size()) - (copies_first(lane) ? 1 : 0);
    return pool_.pages_for(lane.size() + 1) - held <= pool_.free();
  };
  while (!room()) {
    if (ended_.empty()) return false;
    Lane& oldest = *ended_.front();
    ended_.pop_front();
    release(oldest);
  }
  erase(waiting_, lane);
  insert_by_order(running_, lane);
  lane.stage = Stage::running;
  return true;
}

// Whether another lane is filling, in this very plan, the page that this one would fill first:
// then waiting one step turns the work into a prefix hit.
bool Scheduler::is_flying(const Lane& lane) {
  const auto width = static_cast<std::size_t>(pool_.page_tokens());
  const std::size_t index =
      std::min(lane.chain.size(), static_cast<std::size_t>(lane.cached) / width);
  if (!limits_.reuse_prefixes || (index + 1) * width >= lane.tokens.size()) return false;
  const Chain before = index > 0 ? lane.chain[index - 1] : Chain{};
  const auto page = std::span(lane.tokens).subspan(index * width, width);
  return !flying_.insert(pool_.next(before, page, lane.soft_version).hash).second;
}

// When nothing else could be planned: the oldest lane goes on, whoever must give way.
void Scheduler::plan_something() {
  if (!plan_.cut.empty()) return;
  const auto can_run = [](const Lane* lane) { return !lane->is_paused; };
  auto first = std::ranges::find_if(running_, can_run);
  if (first == running_.end()) {
    const auto next = std::ranges::find_if(waiting_, can_run);
    if (next == waiting_.end()) return;
    Lane& lane = **next;
    waiting_.erase(next);
    match(lane);
    insert_by_order(running_, lane);
    lane.stage = Stage::running;
    first = std::ranges::find(running_, &lane);
  }
  Lane& lane = **first;
  if (make_room(lane)) prefill(lane);
}

bool Scheduler::prefill(Lane& lane) {
  int count = std::min(lane.missing(), budget());
  while (count > 0 && !reserve(lane, count)) {
    if (!ended_.empty()) {
      Lane& oldest = *ended_.front();
      ended_.pop_front();
      release(oldest);
      continue;
    }
    count = std::min(count - 1, fitting(lane));
  }
  if (count <= 0) return false;
  put(lane, count);
  return true;
}

void Scheduler::put(Lane& lane, int count) {
  plan_.chunks.push_back({&lane, lane.cached, count, count == lane.missing()});
  plan_.tokens += count;
}

// Pages beyond what is cached hold nothing anybody needs.
void Scheduler::trim(Lane& lane) {
  const auto needed = static_cast<std::size_t>(pool_.pages_for(lane.cached));
  while (lane.pages.size() > needed) {
    pool_.release(lane.pages.back());
    lane.pages.pop_back();
  }
  const auto full = static_cast<std::size_t>(lane.cached / pool_.page_tokens());
  if (lane.chain.size() > full) lane.chain.resize(full);
}

bool Scheduler::copies_first(const Lane& lane) const {
  if (lane.cached % pool_.page_tokens() == 0) return false;
  return pool_.users(lane.pages[static_cast<std::size_t>(lane.cached / pool_.page_tokens())]) > 1;
}

int Scheduler::fitting(const Lane& lane) const {
  const int pages =
      static_cast<int>(lane.pages.size()) + pool_.free() - (copies_first(lane) ? 1 : 0);
  return pages * pool_.page_tokens() - lane.cached;
}

bool Scheduler::has_room(int cached, int tokens) const {
  // One more than needed, since a shared page that is not full is copied.
  int free = pool_.free() - 1;
  for (const Lane* lane : ended_)
    for (int page : lane->pages) free += pool_.users(page) == 1 ? 1 : 0;
  // The next plan gives these back.
  for (const Lane* lane : running_)
    free += static_cast<int>(lane->pages.size()) - pool_.pages_for(lane->cached);
  return pool_.pages_for(tokens) - cached / pool_.page_tokens() <= free;
}

// Pages for the next `count` tokens of a lane, and the first of them its own to write: all or none.
bool Scheduler::reserve(Lane& lane, int count) {
  trim(lane);
  const bool copies = copies_first(lane);
  const int more = pool_.pages_for(lane.cached + count) - static_cast<int>(lane.pages.size());
  if (more + (copies ? 1 : 0) > pool_.free()) return false;
  if (lane.cached % pool_.page_tokens() != 0) {
    const int index = lane.cached / pool_.page_tokens();
    int& page = lane.pages[static_cast<std::size_t>(index)];
    if (copies) {
      plan_.copies.push_back({&lane, index, page, *pool_.take()});
      pool_.release(page);
      page = plan_.copies.back().to;
    } else {
      pool_.forget(page);
    }
  }
  for (int i = 0; i < more; ++i) lane.pages.push_back(*pool_.take());
  return true;
}

// Takes pages from others until the lane's next token has one. False: the lane itself gave way.
bool Scheduler::make_room(Lane& lane) {
  while (!reserve(lane, 1)) {
    if (reclaim(lane)) continue;
    if (running_.size() == 1) {
      plan_.cut.push_back(&lane);
      return false;
    }
    Lane& youngest = *running_.back();
    preempt(youngest);
    if (&youngest == &lane) return false;
  }
  return true;
}

bool Scheduler::reclaim(const Lane& asker) {
  if (!ended_.empty()) {
    Lane& oldest = *ended_.front();
    ended_.pop_front();
    release(oldest);
    return true;
  }
  for (auto lane = waiting_.rbegin(); lane != waiting_.rend(); ++lane) {
    if ((*lane)->pages.empty()) continue;
    release(**lane);
    return true;
  }
  const auto paused = std::ranges::find_if(
      running_, [&](const Lane* lane) { return lane->is_paused && lane != &asker; });
  if (paused == running_.end()) return false;
  preempt(**paused);
  return true;
}

void Scheduler::preempt(Lane& lane) {
  erase(running_, lane);
  release(lane);
  insert_by_order(waiting_, lane);
  lane.stage = Stage::waiting;
  ++preemptions_;
}

// Last page first: of a prefix that nobody uses, the end is lost before the beginning.
void Scheduler::release(Lane& lane) {
  for (auto page = lane.pages.rbegin(); page != lane.pages.rend(); ++page) pool_.release(*page);
  lane.pages.clear();
  lane.chain.clear();
  lane.cached = 0;
}

}  // namespace pensive
