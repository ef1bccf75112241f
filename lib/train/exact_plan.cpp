// Where suffixes stand while they go through the engine's kernels.
#include <algorithm>

#include "train/exact.h"

namespace pensive {
namespace {

class Planner {
 public:
  explicit Planner(const SuffixSetting& setting) : setting_(setting), page_(setting.page_tokens) {}

  void add(int index, const Suffix& suffix, std::int64_t first_row) {
    const std::vector<std::int64_t> known = constants_of(index, suffix);
    const std::size_t trunk = plan_.paths.size();
    plan_.trunks.emplace(index, trunk);
    add_trunk(suffix, first_row, known);
    std::vector<std::size_t> path_of;  // of each aside
    for (const auto& [from, to] : runs_of(suffix)) {
      const int before = suffix.asides[static_cast<std::size_t>(from)].parent - suffix.kept();
      const std::size_t parent = before < 0 ? trunk : path_of[static_cast<std::size_t>(before)];
      add_branch(suffix, from, to, plan_.paths[parent], first_row + suffix.kept(), known);
      path_of.resize(static_cast<std::size_t>(to), plan_.paths.size() - 1);
    }
  }
  ExactPlan take(std::int64_t rows) {
    plan_.rows = rows;
    return std::move(plan_);
  }

 private:
  // Their slots; none where there are no constants, or they are gone.
  std::vector<std::int64_t> constants_of(int index, const Suffix& suffix) {
    if (suffix.begins == 0 || !setting_.pages_of) return {};
    std::optional<PrefixPages> found = setting_.pages_of(index);
    if (!found) return {};
    plan_.keys = found->keys;
    plan_.values = found->values;
    return std::move(found->slots);
  }

  void add_trunk(const Suffix& suffix, std::int64_t first_row,
                 const std::vector<std::int64_t>& known) {
    ExactPath path;
    path.tokens = suffix.tokens;
    for (std::size_t at = 0; at + page() <= known.size(); at += page())
      path.pages.push_back(shared(known, at));
    fill(path, known, [&](int position) {
      return position < suffix.begins ? -1 : first_row + position - suffix.begins;
    });
    plan_.paths.push_back(std::move(path));
  }

  // The asides [from, to), behind some of another path.
  void add_branch(const Suffix& suffix, int from, int to, const ExactPath& parent,
                  std::int64_t first_aside, const std::vector<std::int64_t>& known) {
    const int depth = suffix.asides[static_cast<std::size_t>(from)].depth;
    ExactPath path;
    path.tokens.assign(parent.tokens.begin(), parent.tokens.begin() + depth);
    path.pages.assign(parent.pages.begin(), parent.pages.begin() + depth / page_);
    for (int i = from; i < to; ++i)
      path.tokens.push_back(suffix.asides[static_cast<std::size_t>(i)].token);
    fill(path, known, [&](int position) {
      return position < depth ? -1 : first_aside + from + position - depth;
    });
    plan_.paths.push_back(std::move(path));
  }

  // The page of ours that holds what a whole page of constants, from place `at` on, does.
  int shared(const std::vector<std::int64_t>& known, std::size_t at) {
    const auto [found, is_new] = copies_.try_emplace(known[at] / page_, plan_.pages);
    if (!is_new) return found->second;
    for (int i = 0; i < page_; ++i) copy(known[at + static_cast<std::size_t>(i)], plan_.pages, i);
    return plan_.pages++;
  }

  // Pages of its own behind those the path has, and what goes there: constants that are known, and
  // rows.
  template <class Place>
  void fill(ExactPath& path, const std::vector<std::int64_t>& known, Place place) {
    for (int position = static_cast<int>(path.pages.size()) * page_;
         position < static_cast<int>(path.tokens.size()); ++position) {
      if (position % page_ == 0) path.pages.push_back(plan_.pages++);
      const auto at = static_cast<std::size_t>(position);
      if (at < known.size())
        copy(known[at], path.pages.back(), position % page_);
      else
        path.rows.push_back({path.tokens[at], position, place(position)});
    }
  }

  std::size_t page() const { return static_cast<std::size_t>(page_); }

  void copy(std::int64_t slot, int page, int at) {
    plan_.from.push_back(slot);
    plan_.to.push_back(std::int64_t{page} * page_ + at);
  }

  const SuffixSetting& setting_;
  int page_;
  ExactPlan plan_;
  std::unordered_map<std::int64_t, int> copies_;  // of the engine's pages, ours
};

}  // namespace

ExactPlan plan_exact(const SuffixSetting& setting, std::span<const Suffix> suffixes,
                     const std::vector<int>& members, bool is_packed) {
  Planner planner(setting);
  std::int64_t longest = 0, rows = 0;
  for (const int s : members) longest = std::max<std::int64_t>(longest, suffixes[s].length());
  for (const int s : members) {
    planner.add(s, suffixes[s], rows);
    rows += is_packed ? suffixes[s].length() : longest;
  }
  return planner.take(rows);
}

}  // namespace pensive
