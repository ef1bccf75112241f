// Wishes travel to the card in one copy, results come back in one.
#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include <cstring>

#include "kernels/cpu.h"

namespace pensive::kernels::cuda {
namespace {

// Arrays one behind the other in one block of bytes, each on a multiple of 8.
class Parcel {
 public:
  template <class T>
  std::size_t add(const std::vector<T>& values) {
    std::size_t at = add_room<T>(values.size());
    if (!values.empty()) std::memcpy(bytes_.data() + at, values.data(), values.size() * sizeof(T));
    return at;
  }
  template <class T>
  std::size_t add_room(std::size_t count) {
    std::size_t at = bytes_.size();
    bytes_.resize(at + (count * sizeof(T) + 7) / 8 * 8);
    return at;
  }
  at::Tensor to(at::Device device) {
    auto size = static_cast<int64_t>(bytes_.size());
    return at::from_blob(bytes_.data(), {size}, at::TensorOptions(at::kByte)).to(device);
  }

 private:
  std::vector<std::byte> bytes_;
};

template <class T>
T* part(const at::Tensor& block, std::size_t at) {
  return reinterpret_cast<T*>(static_cast<std::byte*>(block.mutable_data_ptr()) + at);
}

// The wishes of all rows, column by column.
struct Wishes {
  std::vector<float> temperatures, top_ps, min_zs, bias_logits, bias_times, bias_repetitions,
      bias_penalties;
  std::vector<std::int32_t> top_ks, bias_starts{0}, bias_tokens, mask_rows, watch_starts{0},
      watched, list_starts{0};
  std::vector<std::uint64_t> keys;
  std::vector<std::uint32_t> masks;

  Wishes(const std::vector<DrawRow>& rows, std::size_t vocab) {
    const std::size_t mask_words = (vocab + 31) / 32;
    for (const DrawRow& row : rows) {
      temperatures.push_back(row.temperature);
      top_ks.push_back(row.top_k);
      top_ps.push_back(row.top_p);
      min_zs.push_back(log_of_min_p(row));
      keys.push_back(row.key);
      bias_tokens.insert(bias_tokens.end(), row.bias_tokens.begin(), row.bias_tokens.end());
      bias_logits.insert(bias_logits.end(), row.bias_logits.begin(), row.bias_logits.end());
      add(bias_times, row.bias_times_max_minus_mean, 0);
      add(bias_repetitions, row.bias_repetitions, 1);
      add(bias_penalties, row.bias_penalties, 0);
      bias_starts.push_back(static_cast<std::int32_t>(bias_tokens.size()));
      watched.insert(watched.end(), row.watched.begin(), row.watched.end());
      watch_starts.push_back(static_cast<std::int32_t>(watched.size()));
      list_starts.push_back(list_starts.back() +
                            std::min(row.listed, static_cast<std::int32_t>(vocab)));
      mask_rows.push_back(row.mask.empty() ? -1
                                           : static_cast<std::int32_t>(masks.size() / mask_words));
      if (row.mask.empty()) continue;
      std::size_t words = std::min(row.mask.size(), mask_words);
      masks.insert(masks.end(), row.mask.begin(), row.mask.begin() + static_cast<long>(words));
      masks.resize(masks.size() + mask_words - words);
    }
  }

  // A column that may be empty, as long as the biased tokens are.
  void add(std::vector<float>& column, const std::vector<float>& values, float otherwise) const {
    column.insert(column.end(), values.begin(), values.end());
    column.resize(bias_tokens.size(), otherwise);
  }
};

std::vector<Drawn> unpack(const at::Tensor& block, const std::vector<DrawRow>& rows,
                          const std::vector<std::int32_t>& list_starts,
                          const std::size_t (&places)[7]) {
  const auto* tokens = part<std::int32_t>(block, places[0]);
  const auto* top_tokens = part<std::int32_t>(block, places[1]);
  const auto* is_finite = part<std::int32_t>(block, places[2]);
  const auto* logprobs = part<float>(block, places[3]);
  const auto* watched = part<float>(block, places[4]);
  const auto* listed_tokens = part<std::int32_t>(block, places[5]);
  const auto* listed_logprobs = part<float>(block, places[6]);
  std::vector<Drawn> drawn(rows.size());
  for (std::size_t row = 0; row < rows.size(); ++row, logprobs += 4) {
    Drawn& one = drawn[row];
    one.is_finite = is_finite[row] == 1;
    std::size_t count = rows[row].watched.size();
    watched += count;
    if (!one.is_finite) continue;
    one.token = tokens[row];
    one.logprob = logprobs[0];
    one.drawn_logprob = logprobs[1];
    one.entropy = logprobs[2];
    one.top_token = top_tokens[row];
    one.top_logprob = logprobs[3];
    one.watched.assign(watched - count, watched);
    std::int32_t first = list_starts[row], last = list_starts[row + 1];
    one.listed_tokens.assign(listed_tokens + first, listed_tokens + last);
    one.listed_logprobs.assign(listed_logprobs + first, listed_logprobs + last);
  }
  return drawn;
}

}  // namespace

std::vector<Drawn> draw(const at::Tensor& logits, const std::vector<DrawRow>& rows) {
  c10::DeviceGuard guard(logits.device());
  at::Tensor from = logits.to(at::kFloat).contiguous();
  auto vocab = static_cast<std::size_t>(from.size(1));
  Wishes wishes(rows, vocab);
  Parcel parcel;
  std::size_t in[] = {parcel.add(wishes.temperatures),   parcel.add(wishes.top_ks),
                      parcel.add(wishes.top_ps),         parcel.add(wishes.keys),
                      parcel.add(wishes.bias_starts),    parcel.add(wishes.bias_tokens),
                      parcel.add(wishes.bias_logits),    parcel.add(wishes.bias_times),
                      parcel.add(wishes.mask_rows),      parcel.add(wishes.masks),
                      parcel.add(wishes.watch_starts),   parcel.add(wishes.watched),
                      parcel.add(wishes.min_zs),         parcel.add(wishes.bias_repetitions),
                      parcel.add(wishes.bias_penalties), parcel.add(wishes.list_starts)};
  std::size_t count = rows.size();
  auto listed = static_cast<std::size_t>(wishes.list_starts.back());
  Parcel room;
  std::size_t out[] = {room.add_room<std::int32_t>(count),
                       room.add_room<std::int32_t>(count),
                       room.add_room<std::int32_t>(count),
                       room.add_room<float>(4 * count),
                       room.add_room<float>(wishes.watched.size()),
                       room.add_room<std::int32_t>(listed),
                       room.add_room<float>(listed)};
  at::Tensor sent = parcel.to(from.device());
  at::Tensor results = room.to(from.device());
  at::Tensor scratch = at::empty_like(from);
  CudaDraw call{};
  call.rows = static_cast<std::int32_t>(count);
  call.vocab = static_cast<std::int32_t>(vocab);
  call.logits = from.const_data_ptr<float>();
  call.temperatures = part<float>(sent, in[0]);
  call.top_ks = part<std::int32_t>(sent, in[1]);
  call.top_ps = part<float>(sent, in[2]);
  call.keys = part<std::uint64_t>(sent, in[3]);
  call.bias_starts = part<std::int32_t>(sent, in[4]);
  call.bias_tokens = part<std::int32_t>(sent, in[5]);
  call.bias_logits = part<float>(sent, in[6]);
  call.bias_times = part<float>(sent, in[7]);
  call.mask_rows = part<std::int32_t>(sent, in[8]);
  call.masks = part<std::uint32_t>(sent, in[9]);
  call.watch_starts = part<std::int32_t>(sent, in[10]);
  call.watch_tokens = part<std::int32_t>(sent, in[11]);
  call.min_zs = part<float>(sent, in[12]);
  call.bias_repetitions = part<float>(sent, in[13]);
  call.bias_penalties = part<float>(sent, in[14]);
  call.list_starts = part<std::int32_t>(sent, in[15]);
  call.scratch = scratch.mutable_data_ptr<float>();
  call.tokens = part<std::int32_t>(results, out[0]);
  call.top_tokens = part<std::int32_t>(results, out[1]);
  call.is_finite = part<std::int32_t>(results, out[2]);
  call.logprobs = part<float>(results, out[3]);
  call.watched = part<float>(results, out[4]);
  call.listed_tokens = part<std::int32_t>(results, out[5]);
  call.listed_logprobs = part<float>(results, out[6]);
  check(table().draw(call, table().current_stream(from.device().index())), "draw");
  return unpack(results.cpu(), rows, wishes.list_starts, out);
}

}  // namespace pensive::kernels::cuda
