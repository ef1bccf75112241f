// Wishes travel to the card in one copy, results come back in one.
#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "kernels/cpu.h"
#include "kernels/parcel.h"
#include "kernels/upload.h"

namespace pensive::kernels::cuda {
namespace {

// A column that may be empty, as long as the biased tokens are.
void add(std::vector<float>& column, const std::vector<float>& values, std::size_t tokens,
         float otherwise) {
  column.insert(column.end(), values.begin(), values.end());
  column.resize(tokens, otherwise);
}

template <class T>
T* part(std::byte* block, std::size_t at) {
  return reinterpret_cast<T*>(block + at);
}

template <class T>
const T* part(const std::byte* block, std::size_t at) {
  return reinterpret_cast<const T*>(block + at);
}

}  // namespace

DrawParcel::Columns::Columns(const std::vector<DrawRow>& rows, std::size_t vocab) {
  const std::size_t mask_words = (vocab + 31) / 32;
  for (const DrawRow& row : rows) {
    temperatures.push_back(row.temperature);
    top_ks.push_back(row.top_k);
    top_ps.push_back(row.top_p);
    min_zs.push_back(log_of_min_p(row));
    keys.push_back(row.key);
    bias_tokens.insert(bias_tokens.end(), row.bias_tokens.begin(), row.bias_tokens.end());
    bias_logits.insert(bias_logits.end(), row.bias_logits.begin(), row.bias_logits.end());
    add(bias_times, row.bias_times_max_minus_mean, bias_tokens.size(), 0);
    add(bias_repetitions, row.bias_repetitions, bias_tokens.size(), 1);
    add(bias_penalties, row.bias_penalties, bias_tokens.size(), 0);
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

DrawParcel::DrawParcel(const std::vector<DrawRow>& rows, std::size_t vocab, Parcel& sent,
                       Parcel& back)
    : columns_(rows, vocab), rows_(rows.size()), vocab_(vocab) {
  const Columns& c = columns_;
  in_ = {sent.add(c.temperatures), sent.add(c.top_ks),           sent.add(c.top_ps),
         sent.add(c.keys),         sent.add(c.bias_starts),      sent.add(c.bias_tokens),
         sent.add(c.bias_logits),  sent.add(c.bias_times),       sent.add(c.mask_rows),
         sent.add(c.masks),        sent.add(c.watch_starts),     sent.add(c.watched),
         sent.add(c.min_zs),       sent.add(c.bias_repetitions), sent.add(c.bias_penalties),
         sent.add(c.list_starts)};
  const auto listed = static_cast<std::size_t>(c.list_starts.back());
  out_ = {back.add_room<std::int32_t>(rows_),
          back.add_room<std::int32_t>(rows_),
          back.add_room<std::int32_t>(rows_),
          back.add_room<float>(4 * rows_),
          back.add_room<float>(c.watched.size()),
          back.add_room<std::int32_t>(listed),
          back.add_room<float>(listed)};
}

CudaDraw DrawParcel::call(std::byte* sent, std::byte* back) const {
  CudaDraw call{};
  call.rows = static_cast<std::int32_t>(rows_);
  call.vocab = static_cast<std::int32_t>(vocab_);
  call.temperatures = part<float>(sent, in_[0]);
  call.top_ks = part<std::int32_t>(sent, in_[1]);
  call.top_ps = part<float>(sent, in_[2]);
  call.keys = part<std::uint64_t>(sent, in_[3]);
  call.bias_starts = part<std::int32_t>(sent, in_[4]);
  call.bias_tokens = part<std::int32_t>(sent, in_[5]);
  call.bias_logits = part<float>(sent, in_[6]);
  call.bias_times = part<float>(sent, in_[7]);
  call.mask_rows = part<std::int32_t>(sent, in_[8]);
  call.masks = part<std::uint32_t>(sent, in_[9]);
  call.watch_starts = part<std::int32_t>(sent, in_[10]);
  call.watch_tokens = part<std::int32_t>(sent, in_[11]);
  call.min_zs = part<float>(sent, in_[12]);
  call.bias_repetitions = part<float>(sent, in_[13]);
  call.bias_penalties = part<float>(sent, in_[14]);
  call.list_starts = part<std::int32_t>(sent, in_[15]);
  call.tokens = part<std::int32_t>(back, out_[0]);
  call.top_tokens = part<std::int32_t>(back, out_[1]);
  call.is_finite = part<std::int32_t>(back, out_[2]);
  call.logprobs = part<float>(back, out_[3]);
  call.watched = part<float>(back, out_[4]);
  call.listed_tokens = part<std::int32_t>(back, out_[5]);
  call.listed_logprobs = part<float>(back, out_[6]);
  return call;
}

std::vector<Drawn> DrawParcel::unpack(const std::byte* back) const {
  const auto* tokens = part<std::int32_t>(back, out_[0]);
  const auto* top_tokens = part<std::int32_t>(back, out_[1]);
  const auto* is_finite = part<std::int32_t>(back, out_[2]);
  const auto* logprobs = part<float>(back, out_[3]);
  const auto* watched = part<float>(back, out_[4]);
  const auto* listed_tokens = part<std::int32_t>(back, out_[5]);
  const auto* listed_logprobs = part<float>(back, out_[6]);
  std::vector<Drawn> drawn(rows_);
  for (std::size_t row = 0; row < rows_; ++row, logprobs += 4) {
    Drawn& one = drawn[row];
    one.is_finite = is_finite[row] == 1;
    if (!one.is_finite) continue;
    one.token = tokens[row];
    one.logprob = logprobs[0];
    one.drawn_logprob = logprobs[1];
    one.entropy = logprobs[2];
    one.top_token = top_tokens[row];
    one.top_logprob = logprobs[3];
    one.watched.assign(watched + columns_.watch_starts[row],
                       watched + columns_.watch_starts[row + 1]);
    const std::int32_t first = columns_.list_starts[row], last = columns_.list_starts[row + 1];
    one.listed_tokens.assign(listed_tokens + first, listed_tokens + last);
    one.listed_logprobs.assign(listed_logprobs + first, listed_logprobs + last);
  }
  return drawn;
}

std::vector<Drawn> draw(const at::Tensor& logits, const std::vector<DrawRow>& rows) {
  c10::DeviceGuard guard(logits.device());
  at::Tensor from = logits.to(at::kFloat).contiguous();
  Parcel sent, room;
  const DrawParcel parcel(rows, static_cast<std::size_t>(from.size(1)), sent, room);
  const auto bytes = at::TensorOptions(at::kByte);
  const auto size_of = [](const Parcel& one) { return static_cast<std::int64_t>(one.size()); };
  const at::Tensor wishes = send(at::from_blob(sent.data(), {size_of(sent)}, bytes), from.device());
  const at::Tensor results = at::zeros({size_of(room)}, bytes.device(from.device()));
  at::Tensor scratch = at::empty(
      {from.size(0), draw_stride(static_cast<std::int32_t>(from.size(1)))}, from.options());
  CudaDraw call = parcel.call(static_cast<std::byte*>(wishes.mutable_data_ptr()),
                              static_cast<std::byte*>(results.mutable_data_ptr()));
  call.logits = from.const_data_ptr<float>();
  call.scratch = scratch.mutable_data_ptr<float>();
  check(table().draw(call, stream_of(from)), "draw");
  const at::Tensor back = results.cpu();
  return parcel.unpack(static_cast<const std::byte*>(back.const_data_ptr()));
}

}  // namespace pensive::kernels::cuda
