// How suffixes go through the model: which together, and what is kept of the way there.
#include <algorithm>
#include <numeric>

#include "engine/memory.h"
#include "kernels/packed.h"
#include "train/batch.h"

namespace pensive {
namespace {

constexpr int least_tokens = 2048;  // fewer leave an H100 idle

std::int64_t sum_of(std::span<const Suffix> suffixes, int (*of)(const Suffix&)) {
  return std::accumulate(suffixes.begin(), suffixes.end(), std::int64_t{0},
                         [&](std::int64_t sum, const Suffix& suffix) { return sum + of(suffix); });
}

// Like `all`, whose tokens have prefixes in proportion, but of so many tokens.
Load part_of(Load all, std::int64_t tokens) {
  all.prefix_tokens =
      static_cast<std::int64_t>(static_cast<double>(all.prefix_tokens) /
                                static_cast<double>(all.tokens) * static_cast<double>(tokens));
  all.tokens = tokens;
  return all;
}

// The most tokens, up to `most`, whose backward fits `room` bytes.
std::int64_t fitting(const Sizes& sizes, const Load& all, std::int64_t most, std::int64_t room) {
  std::int64_t fits = 0, too_many = most + 1;
  while (fits + 1 < too_many) {
    const std::int64_t middle = (fits + too_many) / 2;
    (backward_bytes(sizes, part_of(all, middle)) <= room ? fits : too_many) = middle;
  }
  return fits;
}

// The most of what `of` gives, for each of them.
std::int64_t padded(std::span<const Suffix> suffixes, int (*of)(const Suffix&)) {
  int most = 0;
  for (const Suffix& suffix : suffixes) most = std::max(most, of(suffix));
  return most * std::ssize(suffixes);
}

// All suffixes together.
Load load_of(std::span<const Suffix> suffixes, const SuffixSetting& setting, const Way& way) {
  const auto all_of = way.is_packed ? sum_of : padded;
  Load all;
  all.tokens = all_of(suffixes, [](const Suffix& s) { return s.length(); });
  all.prefix_tokens = all_of(suffixes, [](const Suffix& s) { return s.begins; });
  for (const Suffix& suffix : suffixes)
    all.longest = std::max<std::int64_t>(all.longest, suffix.begins + suffix.length());
  all.logits = setting.max_logits;
  all.is_packed = way.is_packed;
  all.recomputes = way.recomputes;
  all.is_exact = setting.logprobs == Logprobs::exact;
  return all;
}

}  // namespace

Way choose_way(const SuffixSetting& setting, std::span<const Suffix> suffixes,
               std::optional<std::int64_t> free_bytes) {
  const Config& config = setting.decoder.config();
  Way way;
  way.is_packed = setting.layout == Layout::packed;
  if (setting.layout == Layout::automatic)
    way.is_packed = kernels::has_flash(at::empty({0, 1, config.head_dim}, setting.rows.options()));
  // Gradients go back through exact rows layer by layer.
  const bool is_exact = setting.logprobs == Logprobs::exact;
  way.recomputes = setting.recompute == Recompute::always || is_exact;
  way.batch_tokens = setting.max_batch_tokens;
  Load all = load_of(suffixes, setting, way);
  if (!free_bytes || all.tokens == 0 || setting.recompute != Recompute::automatic) return way;

  const Device device{setting.rows.is_cuda() ? DeviceKind::cuda : DeviceKind::cpu};
  const Sizes sizes = sizes_of(config, setting.rows.scalar_type(), device);
  const std::int64_t room = *free_bytes / 10 * 9;
  const std::int64_t wanted = std::min<std::int64_t>(way.batch_tokens, all.tokens);
  std::int64_t longest = 0;
  for (const Suffix& suffix : suffixes) longest = std::max<std::int64_t>(longest, suffix.length());
  const std::int64_t most = std::max(wanted, longest);
  std::int64_t fits = fitting(sizes, all, most, room);
  // A suffix goes through whole; below so many tokens computing twice costs less than an idle card.
  if (fits < std::max(longest, std::min<std::int64_t>(wanted, least_tokens))) {
    way.recomputes = all.recomputes = true;
    fits = fitting(sizes, all, most, room);
  }
  way.batch_tokens =
      static_cast<int>(std::clamp<std::int64_t>(fits, 1, std::max(1, way.batch_tokens)));
  return way;
}

std::vector<std::vector<int>> plan_batches(std::span<const Suffix> suffixes, int max_batch_tokens) {
  constexpr int small_batch_tokens = 1024;  // below this, fewer calls are worth the padding
  std::vector<int> order(suffixes.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return suffixes[a].length() > suffixes[b].length(); });
  std::vector<std::vector<int>> batches;
  std::int64_t length = 0, prefix = 0;
  for (const int s : order) {
    const std::int64_t members = batches.empty() ? 0 : std::ssize(batches.back());
    const std::int64_t longest_prefix = std::max<std::int64_t>(prefix, suffixes[s].begins);
    const bool fits = members > 0 && (members + 1) * length <= max_batch_tokens &&
                      (members + 1) * longest_prefix <= std::int64_t{4} * max_batch_tokens;
    const bool is_alike =
        suffixes[s].length() * 8 >= length * 7 || (members + 1) * length <= small_batch_tokens;
    if (fits && is_alike) {
      prefix = longest_prefix;
    } else {
      batches.emplace_back();
      length = suffixes[s].length();
      prefix = suffixes[s].begins;
    }
    batches.back().push_back(s);
  }
  return batches;
}

std::vector<std::vector<int>> plan_packs(std::span<const Suffix> suffixes, int max_batch_tokens) {
  const std::int64_t all = sum_of(suffixes, [](const Suffix& s) { return s.length(); });
  const std::int64_t packs = (all + max_batch_tokens - 1) / max_batch_tokens;
  const std::int64_t even = packs == 0 ? 0 : (all + packs - 1) / packs;
  std::vector<std::vector<int>> batches;
  std::int64_t tokens = 0;
  for (int s = 0; s < static_cast<int>(suffixes.size()); ++s) {
    const int length = suffixes[s].length();
    if (batches.empty() || tokens >= even || tokens + length > max_batch_tokens) {
      batches.emplace_back();
      tokens = 0;
    }
    batches.back().push_back(s);
    tokens += length;
  }
  const auto size = [&](const std::vector<int>& batch) {
    return std::accumulate(batch.begin(), batch.end(), std::int64_t{0},
                           [&](std::int64_t sum, int s) { return sum + suffixes[s].length(); });
  };
  std::ranges::stable_sort(batches, std::ranges::greater(), size);
  return batches;
}

}  // namespace pensive
