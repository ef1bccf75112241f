// Running ahead: the next step is launched before the last one's tokens are seen. Whatever was
// thought of them then is compared with what is wanted now, row by row; who wants something else
// is computed again. Keys of draws count by the clock, so that nobody's tokens depend on it.
#include <algorithm>
#include <numeric>
#include <utility>

#include "engine/parts.h"

namespace pensive {

// Mostly rows and chunks stand in one order.
int Flight::find(const Lane& lane, std::size_t from) const {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const std::size_t at = (from + i) % rows.size();
    if (rows[at].order == lane.order) return static_cast<int>(at);
  }
  return -1;
}

// Where the token, its place and the wish are the same, so is all that came before it: a lane that
// was taken back further has more than one token to compute.
std::vector<int> Flight::find(const Plan& plan, const std::vector<kernels::DrawRow>& draws,
                              int page_tokens) const {
  std::vector<int> found;
  std::size_t next = 0, from = 0;
  for (const Chunk& chunk : plan.chunks) {
    found.push_back(-1);
    if (!chunk.is_drawn) continue;
    const kernels::DrawRow& wish = draws[next++];
    if (chunk.count != 1) continue;
    const int at = find(*chunk.lane, from);
    if (at < 0) continue;
    from = static_cast<std::size_t>(at) + 1;
    const Row& row = rows[static_cast<std::size_t>(at)];
    const auto place = static_cast<std::size_t>(chunk.first);
    const auto page = static_cast<std::size_t>(chunk.first / page_tokens);
    if (row.position == chunk.first && row.token == chunk.lane->tokens[place] &&
        row.page == chunk.lane->pages[page] && row.wish == wish)
      found.back() = at;
  }
  return found;
}

Outcome Engine::Parts::carry_out(const Plan& plan) {
  runner.copy(plan);
  bool is_whole = true;
  std::vector<int> rows = land(plan, is_whole);
  if (rows.empty()) {
    if (!runner.is_decode(plan, wishes_)) return runner.compute(plan, wishes_);
    runner.launch(plan, wishes_);
    rows.resize(plan.chunks.size());
    std::iota(rows.begin(), rows.end(), 0);
  }
  Flight next;
  if (is_whole && options.run_ahead) next = run_ahead(plan, rows);
  std::vector<kernels::Drawn> drawn = runner.wait();
  Outcome outcome;
  for (const int row : rows)
    outcome.drawn.push_back(std::move(drawn[static_cast<std::size_t>(row)]));
  for (std::size_t i = 0; i < next.rows.size(); ++i) next.rows[i].token = outcome.drawn[i].token;
  flight_ = std::move(next);
  return outcome;
}

// Leaves in the plan what is in flight already, and says which row of it each chunk is; nothing
// where the plan is to be computed as it is. Who is left out comes with the next step: to launch a
// second one beside it would keep everybody else waiting.
std::vector<int> Engine::Parts::land(const Plan& plan, bool& is_whole) {
  if (!flight_.is_up()) return {};
  std::vector<int> rows = flight_.find(plan, wishes_.draws, options.page_tokens);
  const auto landed = std::ranges::count_if(rows, [](int row) { return row >= 0; });
  counters_.ahead_dropped += std::ssize(flight_.rows) - landed;
  flight_.rows.clear();
  if (landed == 0) {
    runner.forget();
    return {};
  }
  is_whole = landed == std::ssize(rows);
  if (is_whole) return rows;
  std::vector<bool> kept;
  std::vector<kernels::DrawRow> draws;
  std::size_t next = 0;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    kept.push_back(rows[i] >= 0);
    if (!plan.chunks[i].is_drawn) continue;
    if (kept.back()) draws.push_back(std::move(wishes_.draws[next]));
    ++next;
  }
  scheduler.keep(kept);
  wishes_.draws.swap(draws);
  wishes_.scores.clear();
  std::erase(rows, -1);
  return rows;
}

// Launches the step after this one, where it can be foreseen; `rows` are the chunks' places in the
// step that is waited for.
Flight Engine::Parts::run_ahead(const Plan& plan, const std::vector<int>& rows) {
  for (const Chunk& chunk : plan.chunks) {
    const Sequence::Parts& sequence = *chunk.lane->owner;
    if (sequence.guidance.is_at_last(sequence.record) || !sequence.guidance.is_steady()) return {};
    // Penalties count the token that is not known yet.
    if (sequence.steering && sequence.steering->counts()) return {};
  }
  std::vector<kernels::DrawRow> draws = wishes_.draws;
  for (std::size_t i = 0; i < draws.size(); ++i) {
    const Sequence::Parts& sequence = *plan.chunks[i].lane->owner;
    draws[i].key = kernels::mix(sequence.key, sequence.record.clock() + 1);
  }
  if (!scheduler.reach_further() || !runner.launch_next(plan, rows, draws)) return {};
  Flight next;
  for (std::size_t i = 0; i < draws.size(); ++i) {
    const Lane& lane = *plan.chunks[i].lane;
    const int position = plan.chunks[i].first + 1;
    const auto page = static_cast<std::size_t>(position / options.page_tokens);
    next.rows.push_back({lane.order, position, lane.pages[page], std::move(draws[i])});
  }
  ++counters_.ahead_steps;
  return next;
}

void Engine::Parts::forget_flight() {
  counters_.ahead_dropped += std::ssize(flight_.rows);
  flight_.rows.clear();
  runner.forget();
}

}  // namespace pensive
