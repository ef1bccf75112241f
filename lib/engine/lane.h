// One sequence's way through the cache: its tokens and the pages that hold them. Plain values.
#pragma once
#include <algorithm>
#include <climits>
#include <cstdint>
#include <vector>

#include "pensive/engine.h"

namespace pensive {

// The name of a full page and all before it: equal names, equal keys and values.
struct Chain {
  std::uint64_t hash = 0;
  bool has_soft = false;  // a soft id stands in this page or before it
};

enum class Stage : std::uint8_t { idle, waiting, running, ended };

// A step computes tokens [cached, size): one for a decode, more for prompts, forced tokens and
// whoever lost its pages. The scheduler owns every member but `tokens`.
struct Lane {
  std::vector<TokenId> tokens;  // the prompt and all that is kept
  int cached = 0;               // how many of them, from the first, stand in pages
  std::vector<int> pages;       // in order; may reach beyond `cached`
  std::vector<Chain> chain;     // names of the full pages
  std::uint64_t soft_version = 0;
  std::uint64_t order = 0;  // first come, first served
  // The first position whose logits are wanted for the prompt's token after it: everything from
  // here on is computed, whatever the cache knows. The engine counts it up.
  int unscored = INT_MAX;
  Stage stage = Stage::idle;
  bool is_paused = false;  // waits for the answer to a probe
  bool is_probe = false;   // such an answer; runs in its asker's place
  Sequence::Parts* owner = nullptr;

  int size() const noexcept { return static_cast<int>(tokens.size()); }
  int missing() const noexcept { return size() - cached; }
  void take_back(int count) {
    tokens.resize(tokens.size() - static_cast<std::size_t>(count));
    cached = std::min(cached, size());
  }
};

}  // namespace pensive
