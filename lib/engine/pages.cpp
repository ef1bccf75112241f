#include "engine/pages.h"

#include <algorithm>

namespace pensive {
namespace {

std::uint64_t stir(std::uint64_t hash, std::uint64_t value) {
  hash = (hash ^ value) * 0x9fb21c651e98df25ULL;
  hash ^= hash >> 29;
  hash *= 0xd6e8feb86659fd93ULL;
  return hash ^ (hash >> 32);
}

}  // namespace

PagePool::PagePool(int pages, int page_tokens, TokenId vocab_size)
    : page_tokens_(page_tokens),
      vocab_size_(vocab_size),
      pages_(static_cast<std::size_t>(pages) + 1),
      texts_(static_cast<std::size_t>(pages) * static_cast<std::size_t>(page_tokens)) {
  at(end()).before = at(end()).after = end();
  for (int page = 0; page < pages; ++page) link(page, at(end()).before);
}

void PagePool::link(int page, int after) {
  Page& own = at(page);
  own.before = after;
  own.after = at(after).after;
  at(own.after).before = page;
  at(after).after = page;
  ++free_;
}

void PagePool::unlink(int page) {
  Page& own = at(page);
  at(own.before).after = own.after;
  at(own.after).before = own.before;
  own.before = own.after = -1;
  --free_;
}

std::span<TokenId> PagePool::text(int page) {
  const auto width = static_cast<std::size_t>(page_tokens_);
  return std::span(texts_).subspan(static_cast<std::size_t>(page) * width, width);
}

std::optional<int> PagePool::take() {
  if (free_ == 0) return std::nullopt;
  const int page = at(end()).after;
  unlink(page);
  forget(page);
  at(page).users = 1;
  return page;
}

void PagePool::share(int page) {
  if (at(page).users++ == 0) unlink(page);
}

void PagePool::release(int page) {
  if (--at(page).users > 0) return;
  // Nameless pages go first, so that prefixes live as long as they can.
  link(page, at(page).is_named ? at(end()).before : end());
}

Chain PagePool::next(const Chain& before, std::span<const TokenId> page,
                     std::uint64_t soft_version) const {
  Chain chain = before;
  for (TokenId id : page) {
    chain.has_soft = chain.has_soft || id >= vocab_size_;
    chain.hash = stir(chain.hash, static_cast<std::uint64_t>(id) + 1);
  }
  if (chain.has_soft) chain.hash = stir(chain.hash, soft_version);
  return chain;
}

void PagePool::name(int page, const Chain& chain, std::span<const TokenId> tokens) {
  if (at(page).is_named || !named_.try_emplace(chain.hash, page).second) return;
  at(page).is_named = true;
  at(page).hash = chain.hash;
  std::copy(tokens.begin(), tokens.end(), text(page).begin());
}

void PagePool::forget(int page) {
  if (!at(page).is_named) return;
  named_.erase(at(page).hash);
  at(page).is_named = false;
}

void PagePool::forget_unused() {
  for (int page = at(end()).after; page != end(); page = at(page).after) forget(page);
}

PagePool::Match PagePool::match(std::span<const TokenId> tokens, std::uint64_t soft_version) {
  Match found;
  Chain chain;
  const auto width = static_cast<std::size_t>(page_tokens_);
  for (std::size_t start = 0; start + width < tokens.size(); start += width) {
    const auto wanted = tokens.subspan(start, width);
    chain = next(chain, wanted, soft_version);
    const auto known = named_.find(chain.hash);
    // The tokens are compared too: a hash alone could confuse two prompts.
    if (known == named_.end() || !std::ranges::equal(wanted, text(known->second))) break;
    share(known->second);
    found.pages.push_back(known->second);
    found.chain.push_back(chain);
  }
  return found;
}

}  // namespace pensive
