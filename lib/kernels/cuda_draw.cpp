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
  std::vector<float> temperatures, top_ps, bias_logits, bias_times;
  std::vector<std::int32_t> top_ks, bias_starts{0}, bias_tokens, mask_rows, watch_starts{0},
      watched;
  std::vector<std::uint64_t> keys;
  std::vector<std::uint32_t> masks;

  Wishes(const std::vector<DrawRow>& rows, std::size_t mask_words) {
    for (const DrawRow& row : rows) {
      temperatures.push_back(row.temperature);
      top_ks.push_back(row.top_k);
      top_ps.push_back(row.top_p);
      keys.push_back(row.key);
      bias_tokens.insert(bias_tokens.end(), row.bias_tokens.begin(), row.bias_tokens.end());
      bias_logits.insert(bias_logits.end(), row.bias_logits.begin(), row.bias_logits.end());
      bias_times.insert(bias_times.end(), row.bias_times_max_minus_mean.begin(),
                        row.bias_times_max_minus_mean.end());
      bias_times.resize(bias_tokens.size());
      bias_starts.push_back(static_cast<std::int32_t>(bias_tokens.size()));
      watched.insert(watched.end(), row.watched.begin(), row.watched.end());
      watch_starts.push_back(static_cast<std::int32_t>(watched.size()));
      mask_rows.push_back(row.mask.empty() ? -1
                                           : static_cast<std::int32_t>(masks.size() / mask_words));
      if (row.mask.empty()) continue;
      std::size_t words = std::min(row.mask.size(), mask_words);
      masks.insert(masks.end(), row.mask.begin(), row.mask.begin() + static_cast<long>(words));
      masks.resize(masks.size() + mask_words - words);
    }
  }
};

std::vector<Drawn> unpack(const at::Tensor& block, const std::vector<DrawRow>& rows,
                          const std::size_t (&places)[5]) {
  const auto* tokens = part<std::int32_t>(block, places[0]);
  const auto* top_tokens = part<std::int32_t>(block, places[1]);
  const auto* is_finite = part<std::int32_t>(block, places[2]);
  const auto* logprobs = part<float>(block, places[3]);
  const auto* watched = part<float>(block, places[4]);
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
  }
  return drawn;
}

}  // namespace

std::vector<Drawn> draw(const at::Tensor& logits, const std::vector<DrawRow>& rows) {
  c10::DeviceGuard guard(logits.device());
  at::Tensor from = logits.to(at::kFloat).contiguous();
  auto vocab = static_cast<std::size_t>(from.size(1));
  Wishes wishes(rows, (vocab + 31) / 32);
  Parcel parcel;
  std::size_t in[] = {parcel.add(wishes.temperatures), parcel.add(wishes.top_ks),
                      parcel.add(wishes.top_ps),       parcel.add(wishes.keys),
                      parcel.add(wishes.bias_starts),  parcel.add(wishes.bias_tokens),
                      parcel.add(wishes.bias_logits),  parcel.add(wishes.bias_times),
                      parcel.add(wishes.mask_rows),    parcel.add(wishes.masks),
                      parcel.add(wishes.watch_starts), parcel.add(wishes.watched)};
  std::size_t count = rows.size();
  Parcel room;
  std::size_t out[] = {room.add_room<std::int32_t>(count), room.add_room<std::int32_t>(count),
                       room.add_room<std::int32_t>(count), room.add_room<float>(4 * count),
                       room.add_room<float>(wishes.watched.size())};
  at::Tensor sent = parcel.to(from.device());
  at::Tensor results = room.to(from.device());
  at::Tensor scratch = at::empty_like(from);
  CudaDraw call{static_cast<std::int32_t>(count),
                static_cast<std::int32_t>(vocab),
                from.const_data_ptr<float>(),
                part<float>(sent, in[0]),
                part<std::int32_t>(sent, in[1]),
                part<float>(sent, in[2]),
                part<std::uint64_t>(sent, in[3]),
                part<std::int32_t>(sent, in[4]),
                part<std::int32_t>(sent, in[5]),
                part<float>(sent, in[6]),
                part<float>(sent, in[7]),
                part<std::int32_t>(sent, in[8]),
                part<std::uint32_t>(sent, in[9]),
                part<std::int32_t>(sent, in[10]),
                part<std::int32_t>(sent, in[11]),
                scratch.mutable_data_ptr<float>(),
                part<std::int32_t>(results, out[0]),
                part<float>(results, out[3]),
                part<std::int32_t>(results, out[1]),
                part<float>(results, out[4]),
                part<std::int32_t>(results, out[2])};
  check(table().draw(call, table().current_stream(from.device().index())), "draw");
  return unpack(results.cpu(), rows, out);
}

}  // namespace pensive::kernels::cuda
