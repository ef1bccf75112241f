// Pages and the scheduler by themselves, with a cache of plain numbers for an oracle.
#include <map>
#include <memory>
#include <random>
#include <set>

#include "engine/pages.h"
#include "engine/scheduler.h"
#include "testing.h"

namespace pensive {
namespace {

constexpr TokenId vocab = 100;

std::vector<TokenId> count_from(TokenId first, int count) {
  std::vector<TokenId> ids;
  for (int i = 0; i < count; ++i) ids.push_back((first + i) % vocab);
  return ids;
}

// Names the full pages of `tokens` as a sequence that computed them would.
std::vector<int> fill(PagePool& pool, const std::vector<TokenId>& tokens, std::uint64_t version) {
  std::vector<int> pages;
  Chain chain;
  const auto width = static_cast<std::size_t>(pool.page_tokens());
  for (std::size_t at = 0; at + width <= tokens.size(); at += width) {
    pages.push_back(*pool.take());
    const auto own = std::span(tokens).subspan(at, width);
    chain = pool.next(chain, own, version);
    pool.name(pages.back(), chain, own);
  }
  return pages;
}

void release(PagePool& pool, const std::vector<int>& pages) {
  for (auto page = pages.rbegin(); page != pages.rend(); ++page) pool.release(*page);
}

TEST(PagePool, GivesEachPageOnceAndTakesItBack) {
  PagePool pool(3, 4, vocab);
  std::set<int> taken;
  for (int i = 0; i < 3; ++i) taken.insert(*pool.take());
  EXPECT_EQ(taken, (std::set<int>{0, 1, 2}));
  EXPECT_FALSE(pool.take());
  pool.share(1);
  pool.release(1);
  EXPECT_EQ(pool.free(), 0);
  pool.release(1);
  EXPECT_EQ(pool.free(), 1);
  EXPECT_EQ(pool.take(), 1);
}

TEST(PagePool, FindsAPrefixButNeverTheWholePrompt) {
  PagePool pool(8, 4, vocab);
  const auto tokens = count_from(0, 12);
  const auto pages = fill(pool, tokens, 0);
  release(pool, pages);
  EXPECT_EQ(pool.free(), 8);
  const PagePool::Match whole = pool.match(tokens, 0);
  EXPECT_EQ(whole.pages, std::vector<int>(pages.begin(), pages.begin() + 2));
  EXPECT_EQ(pool.free(), 6);
  auto longer = tokens;
  longer.push_back(1);
  EXPECT_EQ(pool.match(longer, 0).pages, pages);
  auto other = longer;
  other[5] = 99;
  EXPECT_EQ(pool.match(other, 0).pages.size(), 1u);
  EXPECT_EQ(pool.users(pages[0]), 3);
}

TEST(PagePool, ForgetsWhatIsTakenAgainLongestUnusedAndLastPageFirst) {
  PagePool pool(4, 4, vocab);
  const auto old = count_from(0, 8), young = count_from(50, 8);
  const auto old_pages = fill(pool, old, 0), young_pages = fill(pool, young, 0);
  release(pool, old_pages);
  release(pool, young_pages);
  EXPECT_EQ(pool.take(), old_pages[1]);
  auto longer = old;
  longer.push_back(1);
  const PagePool::Match rest = pool.match(longer, 0);
  EXPECT_EQ(rest.pages, std::vector<int>{old_pages[0]});
  EXPECT_EQ(pool.take(), young_pages[1]);
}

TEST(PagePool, ForgetsAllUnusedWhenAsked) {
  PagePool pool(4, 4, vocab);
  const auto tokens = count_from(0, 9);
  release(pool, fill(pool, tokens, 0));
  pool.forget_unused();
  EXPECT_TRUE(pool.match(tokens, 0).pages.empty());
}

TEST(PagePool, KeepsPagesBeforeASoftIdWhenTheRowsChange) {
  PagePool pool(8, 4, vocab);
  auto tokens = count_from(0, 13);
  tokens[5] = vocab;  // in the second page
  const auto pages = fill(pool, tokens, 1);
  EXPECT_EQ(pool.match(tokens, 1).pages, pages);
  EXPECT_EQ(pool.match(tokens, 2).pages, std::vector<int>{pages[0]});
}

TEST(PagePool, OfTwoEqualPagesTheFirstIsFound) {
  PagePool pool(8, 4, vocab);
  const auto tokens = count_from(0, 5);
  const auto first = fill(pool, tokens, 0), second = fill(pool, tokens, 0);
  EXPECT_EQ(pool.match(tokens, 0).pages, first);
  release(pool, second);
  EXPECT_EQ(pool.match(tokens, 0).pages, first);
}

// A cache whose slots hold, in place of keys and values, a hash of all tokens up to there.
class Oracle {
 public:
  Oracle(int pages, int page_tokens)
      : page_tokens_(page_tokens), slots_(static_cast<std::size_t>(pages * page_tokens)) {}

  void copy(const std::vector<PageCopy>& copies) {
    const auto before = slots_;
    for (const PageCopy& copy : copies)
      for (int i = 0; i < page_tokens_; ++i) slots_[at(copy.to, i)] = before[at(copy.from, i)];
  }

  void compute(const Chunk& chunk) {
    std::uint64_t hash = 7;
    for (int i = 0; i < chunk.first + chunk.count; ++i) {
      hash = hash * 1000003 + static_cast<std::uint64_t>(chunk.lane->tokens[i]) + 1;
      const int page = chunk.lane->pages[i / page_tokens_];
      std::uint64_t& slot = slots_[at(page, i % page_tokens_)];
      if (i >= chunk.first) slot = hash;
      ASSERT_EQ(slot, hash) << "position " << i << " of " << chunk.first << "+" << chunk.count;
    }
  }

  void spoil(const Chunk& chunk) {
    for (int i = chunk.first; i < chunk.first + chunk.count; ++i)
      slots_[at(chunk.lane->pages[i / page_tokens_], i % page_tokens_)] = 0;
  }

 private:
  std::size_t at(int page, int offset) const {
    return static_cast<std::size_t>(page * page_tokens_ + offset);
  }
  int page_tokens_;
  std::vector<std::uint64_t> slots_;
};

// Random lives of lanes over a small cache.
class Play {
 public:
  Play(std::uint64_t seed, int pages, Limits limits)
      : random_(seed),
        limits_(limits),
        scheduler_(PagePool(pages, 4, vocab), limits),
        oracle_(pages, 4),
        pages_(pages) {}

  void step() {
    const Plan& plan = scheduler_.plan();
    check(plan);
    for (Lane* lane : plan.cut) scheduler_.end(*lane);
    if (draw(10) == 0) {  // the step fails, after copies or before
      if (draw(2) == 0) oracle_.copy(plan.copies);
      for (const Chunk& chunk : plan.chunks) oracle_.spoil(chunk);
      scheduler_.roll_back();
      return;
    }
    oracle_.copy(plan.copies);
    if (draw(4) == 0) leave_out(plan);
    const bool is_ahead = draw(2) == 0 && scheduler_.reach_further();
    for (const Chunk& chunk : plan.chunks) oracle_.compute(chunk);
    if (is_ahead) run_ahead(plan);
    scheduler_.commit();
    for (const Chunk& chunk : std::vector<Chunk>(plan.chunks))
      if (chunk.is_drawn) decode(*chunk.lane);
  }

  void mutate() {
    const int what = draw(12);
    if (what < 3 && lanes_.size() < 12) return start();
    if (lanes_.empty()) return;
    const auto which = static_cast<std::size_t>(draw(static_cast<int>(lanes_.size())));
    Lane& lane = *lanes_[which];
    if (what < 5 && lanes_.size() < 12) return fork(lane);
    if (what == 5) return drop(which);
    if (lane.stage == Stage::ended) return;
    if (what == 6) scheduler_.end(lane);
    if (what == 7) rewind(lane, 6);
    if (what == 8) lane.is_paused = draw(2) == 0;
  }

  // Whatever was planned, unpaused lanes come to their ends.
  void drain() {
    for (auto& lane : lanes_) lane->is_paused = false;
    for (int i = 0; i < 2000 && scheduler_.running() + scheduler_.waiting() > 0; ++i) step();
    EXPECT_EQ(scheduler_.running() + scheduler_.waiting(), 0);
    while (!lanes_.empty()) drop(0);
    EXPECT_EQ(scheduler_.pool().free(), pages_);
  }

 private:
  int draw(int below) { return static_cast<int>(random_() % static_cast<unsigned>(below)); }

  void leave_out(const Plan& plan) {
    std::vector<bool> kept;
    int tokens = 0;
    for (const Chunk& chunk : plan.chunks) {
      kept.push_back(draw(2) == 0);
      tokens += kept.back() ? chunk.count : 0;
    }
    scheduler_.keep(kept);
    ASSERT_EQ(plan.tokens, tokens);
    ASSERT_EQ(std::ssize(plan.chunks), std::ranges::count(kept, true));
  }

  // The next token of each lane comes to the cache, and turns out to be another one.
  void run_ahead(const Plan& plan) {
    for (const Chunk& chunk : plan.chunks) {
      const int place = chunk.first + chunk.count;
      const int page = chunk.lane->pages[static_cast<std::size_t>(place / 4)];
      ASSERT_EQ(scheduler_.pool().users(page), 1);
      oracle_.spoil({chunk.lane, place, 1});
    }
  }

  void start() {
    auto lane = std::make_unique<Lane>();
    lane->tokens = count_from(draw(3), 1 + draw(18));
    if (!seen_.empty() && draw(2) == 0)
      lane->tokens = seen_[static_cast<std::size_t>(draw(static_cast<int>(seen_.size())))];
    scheduler_.add(*lane);
    lanes_.push_back(std::move(lane));
  }

  void fork(Lane& lane) {
    auto other = std::make_unique<Lane>(lane);
    other->is_paused = false;
    scheduler_.adopt(*other);
    if (lane.stage == Stage::ended) scheduler_.end(*other);
    lanes_.push_back(std::move(other));
  }

  void drop(std::size_t which) {
    scheduler_.drop(*lanes_[which]);
    lanes_.erase(lanes_.begin() + static_cast<std::ptrdiff_t>(which));
  }

  void rewind(Lane& lane, int most) {
    const int back = std::min(draw(most), lane.size() - 1);
    seen_.push_back(lane.tokens);  // may come again, and must not meet what is there now
    seen_.back().push_back(1);
    lane.take_back(back);
    for (int i = draw(4); i > 0; --i) lane.tokens.push_back(draw(2));
  }

  void decode(Lane& lane) {
    lane.tokens.push_back(draw(2));
    if (draw(12) == 0) rewind(lane, 8);
    if (lane.size() > 40 || draw(30) == 0) scheduler_.end(lane);
  }

  void check(const Plan& plan) {
    int tokens = 0, live = 0;
    std::map<int, int> writers;
    for (const Chunk& chunk : plan.chunks) {
      ASSERT_GT(chunk.count, 0);
      ASSERT_EQ(chunk.first, chunk.lane->cached);
      ASSERT_EQ(chunk.lane->stage, Stage::running);
      ASSERT_FALSE(chunk.lane->is_paused);
      tokens += chunk.count;
      const int first = chunk.first / 4, last = (chunk.first + chunk.count - 1) / 4;
      for (int i = first; i <= last; ++i) {
        ASSERT_EQ(++writers[chunk.lane->pages[i]], 1) << "two lanes write one page";
        ASSERT_EQ(scheduler_.pool().users(chunk.lane->pages[i]), 1);
      }
    }
    for (const auto& lane : lanes_) live += lane->stage == Stage::running ? 1 : 0;
    ASSERT_LE(tokens, limits_.tokens_per_step);
    ASSERT_EQ(tokens, plan.tokens);
    ASSERT_LE(live, limits_.lanes);
  }

  std::mt19937_64 random_;
  Limits limits_;
  Scheduler scheduler_;
  Oracle oracle_;
  int pages_;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::vector<std::vector<TokenId>> seen_;
};

void play(int pages, const Limits& limits) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    Play play(seed, pages, limits);
    for (int i = 0; i < 300 && !::testing::Test::HasFatalFailure(); ++i) {
      play.mutate();
      play.step();
    }
    play.drain();
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(Scheduler, KeepsEveryCachedPositionRight) { play(64, {8, 32, true}); }
TEST(Scheduler, KeepsThemRightWhenPagesAreScarce) { play(14, {8, 32, true}); }
TEST(Scheduler, KeepsThemRightWhenHardlyOneFits) { play(6, {8, 5, true}); }
TEST(Scheduler, KeepsThemRightWithoutReuse) { play(20, {4, 16, false}); }

Lane lane_of(std::vector<TokenId> tokens) {
  Lane lane;
  lane.tokens = std::move(tokens);
  return lane;
}

void run(Scheduler& scheduler) {
  for (const Chunk& chunk : scheduler.plan().chunks)
    if (chunk.is_drawn) chunk.lane->owner = nullptr;
  scheduler.commit();
}

TEST(Scheduler, ComputesDecodesBeforePrompts) {
  Scheduler scheduler(PagePool(32, 4, vocab), {8, 6, true});
  Lane first = lane_of(count_from(0, 3)), second = lane_of(count_from(20, 20));
  scheduler.add(first);
  run(scheduler);
  first.tokens.push_back(9);
  scheduler.add(second);
  const Plan& plan = scheduler.plan();
  ASSERT_EQ(plan.chunks.size(), 2u);
  EXPECT_EQ(plan.chunks[0].lane, &first);
  EXPECT_TRUE(plan.chunks[0].is_drawn);
  EXPECT_EQ(plan.chunks[1].lane, &second);
  EXPECT_EQ(plan.chunks[1].count, 5);
  EXPECT_FALSE(plan.chunks[1].is_drawn);
}

TEST(Scheduler, LetsEqualPromptsWaitForTheFirstOfThem) {
  Scheduler scheduler(PagePool(32, 4, vocab), {8, 100, true});
  Lane first = lane_of(count_from(0, 10)), second = lane_of(count_from(0, 10));
  scheduler.add(first);
  scheduler.add(second);
  EXPECT_EQ(scheduler.plan().chunks.size(), 1u);
  scheduler.commit();
  first.tokens.push_back(5);
  const Plan& plan = scheduler.plan();
  ASSERT_EQ(plan.chunks.size(), 2u);
  EXPECT_EQ(plan.chunks[1].first, 8);
  EXPECT_EQ(plan.chunks[1].count, 2);
  EXPECT_EQ(scheduler.reused_tokens(), 8);
}

TEST(Scheduler, TakesPagesOfEndedLanesBeforeItPreempts) {
  Scheduler scheduler(PagePool(4, 4, vocab), {8, 100, true});
  Lane held = lane_of(count_from(0, 8)), live = lane_of(count_from(30, 7));
  scheduler.add(held);
  run(scheduler);
  scheduler.end(held);
  scheduler.add(live);
  run(scheduler);
  EXPECT_EQ(held.cached, 8);
  live.tokens.insert(live.tokens.end(), 4, 1);
  run(scheduler);
  EXPECT_EQ(held.cached, 0);
  EXPECT_EQ(live.cached, 11);
  EXPECT_EQ(scheduler.preemptions(), 0);
}

TEST(Scheduler, PreemptsTheYoungestAndLaterGoesOnWithIt) {
  Scheduler scheduler(PagePool(4, 4, vocab), {8, 100, false});
  Lane old = lane_of(count_from(0, 7)), young = lane_of(count_from(30, 6));
  scheduler.add(old);
  scheduler.add(young);
  run(scheduler);
  for (Lane* lane : {&old, &young}) lane->tokens.push_back(1);
  run(scheduler);
  for (Lane* lane : {&old, &young}) lane->tokens.push_back(1);
  run(scheduler);  // old needs a third page
  EXPECT_EQ(scheduler.preemptions(), 1);
  EXPECT_EQ(young.stage, Stage::waiting);
  EXPECT_EQ(young.cached, 0);
  EXPECT_EQ(young.size(), 8);
  scheduler.drop(old);
  run(scheduler);
  EXPECT_EQ(young.cached, 8);
}

TEST(Scheduler, CutsALaneThatAloneIsTooLong) {
  Scheduler scheduler(PagePool(2, 4, vocab), {8, 100, true});
  Lane lane = lane_of(count_from(0, 8));
  scheduler.add(lane);
  run(scheduler);
  lane.tokens.push_back(1);
  EXPECT_EQ(scheduler.plan().cut, std::vector<Lane*>{&lane});
}

}  // namespace
}  // namespace pensive
