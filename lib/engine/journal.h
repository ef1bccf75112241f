// All that a sequence was told from outside, in order: draws, fed tokens, answers to probes. What
// its guides and its record are follows from it, so that it can be told again up to any token.
#pragma once
#include <climits>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/blocks.h"
#include "engine/record.h"
#include "pensive/think.h"

namespace pensive {

class Journal {
 public:
  struct Reply {
    std::vector<TokenId> tokens;
    std::vector<float> logprobs;
    std::string text;
    bool is_refused = false;
    int spent = 0;
  };
  enum class What : std::uint8_t { begin, draw, feed, answer };
  struct Entry {
    std::uint32_t place = 0;  // in the list of its kind
    int most_rows = INT_MAX;  // where a rewind cut short what followed from it
    What what = What::begin;
  };

  void add_begin() { add(What::begin, 0); }
  void add_draw(TokenId id, const Stats& stats);
  void add_feed(std::span<const TokenId> tokens);
  void add_answer(const ProbeReply& reply, int spent);
  // What followed from the last entry ended at so many rows.
  void cut(int rows) { entries_.back().most_rows = rows; }

  const Blocks<Entry>& entries() const noexcept { return entries_; }
  TokenId drawn(const Entry& entry) const { return draws_[entry.place].id; }
  Stats stats(const Entry& entry) const;
  const std::vector<TokenId>& fed(const Entry& entry) const { return feeds_[entry.place]; }
  const Reply& reply(const Entry& entry) const { return replies_[entry.place]; }

 private:
  struct Draw {
    TokenId id = 0;
    float logprob = 0, drawn_logprob = 0, entropy_nats = 0;
    TokenId top_token = 0;
    float top_logprob = 0;
    std::uint32_t watched_begin = 0, watched_count = 0;
  };
  void add(What what, std::size_t place) {
    entries_.push_back({static_cast<std::uint32_t>(place), INT_MAX, what});
  }

  Blocks<Entry> entries_;  // forks share them
  Blocks<Draw> draws_;
  std::vector<float> watched_;
  std::vector<std::vector<TokenId>> feeds_;
  std::vector<Reply> replies_;
};

}  // namespace pensive
