// What of a sample depends on the row. Its contexts are a tree: what was taken back was context
// too.
#include <algorithm>
#include <climits>

#include "train/steps.h"

namespace pensive {
namespace {

struct Tree {
  std::vector<int> parents;             // of each row of the trace the one that stood before it; -1
  std::vector<std::uint8_t> is_behind;  // the trained token is this or stood before it
};

Tree make_tree(const Trace& trace, std::span<const int> depths, TokenId row) {
  Tree tree;
  std::vector<int> standing;
  for (std::size_t i = 0; i < trace.tokens.size(); ++i) {
    standing.resize(static_cast<std::size_t>(depths[i]));
    const int parent = standing.empty() ? -1 : standing.back();
    tree.parents.push_back(parent);
    tree.is_behind.push_back(trace.tokens[i] == row || (parent >= 0 && tree.is_behind[parent]));
    standing.push_back(static_cast<int>(i));
  }
  return tree;
}

// Rows of the trace that were drawn behind the trained token.
std::vector<std::size_t> find_targets(const Trace& trace, const Tree& tree) {
  std::vector<std::size_t> targets;
  for (std::size_t i = 0; i < trace.tokens.size(); ++i)
    if (trace.origins[i] == Origin::sampled && tree.parents[i] >= 0 &&
        tree.is_behind[tree.parents[i]])
      targets.push_back(i);
  return targets;
}

}  // namespace

std::optional<Suffix> find_suffix(const Trace& trace, std::span<const int> depths, TokenId row) {
  const Tree tree = make_tree(trace, depths, row);
  const std::vector<std::size_t> targets = find_targets(trace, tree);
  if (targets.empty()) return std::nullopt;
  const std::size_t size = trace.tokens.size();
  std::vector<std::uint8_t> is_context(size);
  for (const std::size_t target : targets)
    for (int i = tree.parents[target]; i >= 0 && !is_context[i]; i = tree.parents[i])
      is_context[i] = 1;

  Suffix suffix;
  suffix.begins = INT_MAX;
  int ends = 0;
  for (std::size_t i = 0; i < size; ++i) {
    if (!is_context[i]) continue;
    const bool is_kept = !trace.is_taken_back[i];
    if (is_kept) ends = std::max(ends, depths[i] + 1);
    if (!is_kept || tree.is_behind[i]) suffix.begins = std::min(suffix.begins, depths[i]);
  }
  std::vector<int> rows(size);  // of the suffix
  for (std::size_t i = 0; i < size; ++i) {
    if (trace.is_taken_back[i] || depths[i] >= ends) continue;
    rows[i] = depths[i] - suffix.begins;
    suffix.tokens.push_back(trace.tokens[i]);
  }
  for (std::size_t i = 0; i < size; ++i) {
    if (!is_context[i] || !trace.is_taken_back[i]) continue;
    rows[i] = suffix.length();
    const int parent = tree.parents[i] < 0 ? -1 : rows[tree.parents[i]];
    suffix.asides.push_back({trace.tokens[i], parent, depths[i]});
  }
  for (const std::size_t i : targets)
    suffix.targets.push_back({rows[tree.parents[i]], trace.tokens[i], trace.drawn_logprobs[i]});
  return suffix;
}

std::int64_t drawn_tokens(const Trace& trace) noexcept {
  return std::count(trace.origins.begin(), trace.origins.end(), Origin::sampled);
}

}  // namespace pensive
