// How suffixes go through the model: which together, and what is kept of the way there.
#include <algorithm>
#include <numeric>

#include "kernels/packed.h"
#include "train/batch.h"

namespace pensive {
namespace {

// More fill an H100 no better; fewer leave it idle.
constexpr int enough_tokens = 8192, least_tokens = 2048;

std::int64_t sum_of(std::span<const Suffix> suffixes, int (*of)(const Suffix&)) {
  return std::accumulate(suffixes.begin(), suffixes.end(), std::int64_t{0},
                         [&](std::int64_t sum, const Suffix& suffix) { return sum + of(suffix); });
}

// The most tokens whose backward fits `room` bytes, where `prefixes` come before a token.
std::int64_t fitting(const SuffixSetting& setting, double prefixes, bool recomputes,
                     std::int64_t room) {
  constexpr std::int64_t sample = 1024;
  const std::int64_t bytes =
      suffix_bytes(setting.decoder.config(), setting.rows.scalar_type(), sample,
                   static_cast<std::int64_t>(prefixes * sample), recomputes);
  return std::max<std::int64_t>(0, room) * sample / bytes;
}

}  // namespace

std::int64_t suffix_bytes(const Config& config, at::ScalarType scalar, std::int64_t tokens,
                          std::int64_t prefix_tokens, bool recomputes) {
  const auto each = static_cast<std::int64_t>(at::elementSize(scalar));
  const std::int64_t wide = std::max<std::int64_t>(each, 4);  // of what layers add up
  const std::int64_t width = config.width, inner = config.inner;
  const std::int64_t own = std::int64_t{config.heads} * config.head_dim;
  const std::int64_t keys = std::int64_t{config.kv_heads} * config.head_dim;
  const std::int64_t rows = tokens + prefix_tokens;
  // Inputs of both norms; queries, keys and the mixed values; gate and up; sums of the weights.
  const std::int64_t layer = tokens * (wide * 2 * width + each * (2 * own + keys + 2 * inner)) +
                             each * rows * 2 * keys + 4 * tokens * config.heads;
  // Of one layer on its way back: gradients of the above, of keys once a query head, in float32 of
  // the queries.
  const std::int64_t passing = tokens * (wide * 3 * width + each * (width + 4 * inner + 2 * own)) +
                               each * rows * 4 * own + 4 * tokens * own;
  const std::int64_t ends = wide * tokens * 4 * width;
  return (recomputes ? config.layers * wide * tokens * width + layer : config.layers * layer) +
         passing + ends;
}

Way choose_way(const SuffixSetting& setting, std::span<const Suffix> suffixes,
               std::optional<std::int64_t> free_bytes) {
  const Config& config = setting.decoder.config();
  Way way;
  way.is_packed = setting.layout == Layout::packed;
  if (setting.layout == Layout::automatic)
    way.is_packed = kernels::has_flash(at::empty({0, 1, config.head_dim}, setting.rows.options()));
  way.recomputes = setting.recompute == Recompute::always;
  way.batch_tokens = setting.max_batch_tokens;
  if (way.is_packed) way.batch_tokens = std::min(way.batch_tokens, enough_tokens);
  const std::int64_t tokens = sum_of(suffixes, [](const Suffix& s) { return s.length(); });
  if (!free_bytes || tokens == 0 || setting.recompute != Recompute::automatic) return way;

  const double prefixes =
      static_cast<double>(sum_of(suffixes, [](const Suffix& s) { return s.begins; })) /
      static_cast<double>(tokens);
  std::int64_t longest = 0;
  for (const Suffix& suffix : suffixes) longest = std::max<std::int64_t>(longest, suffix.length());
  const std::int64_t head = setting.max_logits * 8, room = *free_bytes / 10 * 9 - head;
  const std::int64_t wanted = std::min<std::int64_t>(way.batch_tokens, tokens);
  std::int64_t fits = fitting(setting, prefixes, false, room);
  // A suffix goes through whole; below so many tokens computing twice costs less than an idle card.
  if (fits < std::max(longest, std::min<std::int64_t>(wanted, least_tokens))) {
    way.recomputes = true;
    fits = fitting(setting, prefixes, true, room);
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
  return batches;
}

}  // namespace pensive
