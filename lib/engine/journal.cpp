#include "engine/journal.h"

namespace pensive {

void Journal::add_draw(TokenId id, const Stats& stats) {
  add(What::draw, draws_.size());
  // The likeliest others are in the trace.
  draws_.push_back({id, stats.logprob, stats.drawn_logprob, stats.entropy_nats, stats.top_token,
                    stats.top_logprob, static_cast<std::uint32_t>(watched_.size()),
                    static_cast<std::uint32_t>(stats.watched.size())});
  watched_.insert(watched_.end(), stats.watched.begin(), stats.watched.end());
}

void Journal::add_feed(std::span<const TokenId> tokens) {
  add(What::feed, feeds_.size());
  feeds_.emplace_back(tokens.begin(), tokens.end());
}

void Journal::add_answer(const ProbeReply& reply, int spent) {
  add(What::answer, replies_.size());
  replies_.push_back({{reply.tokens.begin(), reply.tokens.end()},
                      {reply.logprobs.begin(), reply.logprobs.end()},
                      std::string(reply.text),
                      reply.is_refused,
                      spent});
}

Stats Journal::stats(const Entry& entry) const {
  const Draw& draw = draws_[entry.place];
  Stats stats{draw.logprob, draw.drawn_logprob, draw.entropy_nats, draw.top_token,
              draw.top_logprob};
  stats.watched = std::span(watched_).subspan(draw.watched_begin, draw.watched_count);
  return stats;
}

}  // namespace pensive
