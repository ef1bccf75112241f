// The pages of the cache as numbers: who uses which, and which hold a known prefix.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/lane.h"
#include "pensive/base.h"

namespace pensive {

// A page is used by one sequence or, after a fork or a prefix hit, shared by several. A page nobody
// uses is free; if it has a name it can still be found, until it is taken for something else, the
// longest unused first. Values only; one thread at a time.
class PagePool {
 public:
  PagePool(int pages, int page_tokens, TokenId vocab_size);

  int size() const noexcept { return static_cast<int>(pages_.size()) - 1; }
  int page_tokens() const noexcept { return page_tokens_; }
  int free() const noexcept { return free_; }  // named ones too
  int users(int page) const { return at(page).users; }
  // Pages that so many positions need.
  int pages_for(std::int64_t positions) const noexcept {
    return static_cast<int>((positions + page_tokens_ - 1) / page_tokens_);
  }

  // A free page, used once from now on; nothing when there is none.
  std::optional<int> take();
  void share(int page);
  void release(int page);

  // The name of a full page after `before`. The version of the soft rows counts from the first
  // soft id on, so that earlier pages survive a change of the rows.
  Chain next(const Chain& before, std::span<const TokenId> page, std::uint64_t soft_version) const;
  // From now on `page` can be found. Of two pages with one name the first keeps it.
  void name(int page, const Chain& chain, std::span<const TokenId> tokens);
  // Takes the name away, before the page is written again.
  void forget(int page);
  void forget_unused();

  struct Match {
    std::vector<int> pages;  // shared for the caller
    std::vector<Chain> chain;
  };
  // The longest known prefix in full pages; never all of `tokens`, since the last token must be
  // computed for its logits.
  Match match(std::span<const TokenId> tokens, std::uint64_t soft_version);

 private:
  struct Page {
    int users = 0;
    int before = -1, after = -1;  // neighbours in the list of free pages
    bool is_named = false;
    std::uint64_t hash = 0;
  };
  Page& at(int page) { return pages_[static_cast<std::size_t>(page)]; }
  const Page& at(int page) const { return pages_[static_cast<std::size_t>(page)]; }
  std::span<TokenId> text(int page);
  void link(int page, int after);  // into the free list
  void unlink(int page);
  int end() const noexcept { return size(); }

  int page_tokens_;
  TokenId vocab_size_;
  int free_ = 0;
  std::vector<Page> pages_;     // the last one is the free list's end
  std::vector<TokenId> texts_;  // [pages, page_tokens]: what a named page holds
  std::unordered_map<std::uint64_t, int> named_;
};

}  // namespace pensive
