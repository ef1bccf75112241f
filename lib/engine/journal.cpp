#include "engine/journal.h"

namespace pensive {

void Journal::add_draw(TokenId id, const Stats& stats) {
  entries_.push_back({What::draw, draws_.size()});
  Draw& draw = draws_.emplace_back();
  draw.id = id;
  draw.stats = stats;
  draw.stats.watched = {};
  draw.stats.top_tokens = {};  // the trace has them
  draw.stats.top_logprobs = {};
  draw.watched_begin = watched_.size();
  draw.watched_count = stats.watched.size();
  watched_.insert(watched_.end(), stats.watched.begin(), stats.watched.end());
}

void Journal::add_feed(std::span<const TokenId> tokens) {
  entries_.push_back({What::feed, feeds_.size()});
  feeds_.emplace_back(tokens.begin(), tokens.end());
}

void Journal::add_answer(const ProbeReply& reply, int spent) {
  entries_.push_back({What::answer, replies_.size()});
  replies_.push_back({{reply.tokens.begin(), reply.tokens.end()},
                      {reply.logprobs.begin(), reply.logprobs.end()},
                      std::string(reply.text),
                      reply.is_refused,
                      spent});
}

Stats Journal::stats(const Entry& entry) const {
  const Draw& draw = draws_[entry.place];
  Stats stats = draw.stats;
  stats.watched = std::span(watched_).subspan(draw.watched_begin, draw.watched_count);
  return stats;
}

}  // namespace pensive
