#include "train/exact.h"

#include <c10/core/GradMode.h>

#include <algorithm>

#include "engine/paged.h"

namespace pensive {

// Rows that go through together: stretches of paths, in order.
struct ExactForward::Piece {
  struct Part {
    const ExactPath* path;
    std::span<const ExactRow> rows;
  };
  std::vector<Part> parts;
  std::int64_t count = 0;
};

namespace {

// Of a batch's rows, those that have a place there.
struct Wanted {
  std::vector<std::int64_t> which, places;
  bool is_all = false;  // in one stretch
};

template <class Piece>
Wanted wanted_of(const Piece& piece) {
  Wanted wanted;
  std::int64_t row = 0;
  for (const auto& part : piece.parts)
    for (const ExactRow& one : part.rows) {
      if (one.place >= 0) {
        wanted.which.push_back(row);
        wanted.places.push_back(one.place);
      }
      ++row;
    }
  wanted.is_all = std::ssize(wanted.which) == row;
  for (std::size_t i = 1; i < wanted.places.size(); ++i)
    wanted.is_all = wanted.is_all && wanted.places[i] == wanted.places[i - 1] + 1;
  return wanted;
}

}  // namespace

ExactForward::ExactForward(const SuffixSetting& setting, std::span<const Suffix> suffixes,
                           const std::vector<std::vector<int>>& batches, bool is_packed)
    : setting_(setting) {
  int pages = 1;
  for (const std::vector<int>& members : batches) {
    plans_.push_back(plan_exact(setting, suffixes, members, is_packed));
    pages = std::max(pages, plans_.back().pages);
  }
  cache_ = std::make_unique<Cache>(setting.decoder, pages, setting.page_tokens);
  kernels_ =
      kernels::RowForward::make(decode_model(setting.decoder, *cache_, Arithmetic::row_invariant));
}

ExactRows ExactForward::run(std::size_t batch, bool keeps_inputs) {
  const c10::NoGradGuard no_gradient;
  const ExactPlan& plan = plans_[batch];
  const Config& config = setting_.decoder.config();
  const at::TensorOptions options = setting_.rows.options().requires_grad(false);
  now_ = &plan;
  copy_constants(plan);
  ExactRows made;
  made.hidden = at::zeros({plan.rows, config.width}, options);
  const auto wide = kernels_ ? options.dtype(at::kFloat) : options;
  if (keeps_inputs) made.inputs = at::zeros({config.layers + 1, plan.rows, config.width}, wide);
  for (const Piece& piece : pieces_of(plan)) {
    const Wanted wanted = wanted_of(piece);
    at::Tensor inputs;
    if (keeps_inputs && !wanted.which.empty())
      inputs = wanted.is_all ? made.inputs.narrow(1, wanted.places.front(), piece.count)
                             : at::empty({config.layers + 1, piece.count, config.width}, wide);
    const at::Tensor hidden =
        kernels_ ? through_kernels(piece, inputs) : through_decoder(piece, inputs);
    if (wanted.which.empty()) continue;  // all of them stand before the suffixes
    const at::Tensor which = to_device(wanted.which, hidden.device()),
                     places = to_device(wanted.places, hidden.device());
    made.hidden.index_copy_(0, places, hidden.index_select(0, which));
    if (keeps_inputs && !wanted.is_all)
      made.inputs.index_copy_(1, places, inputs.index_select(1, which));
  }
  return made;
}

void ExactForward::copy_constants(const ExactPlan& plan) {
  if (plan.from.empty()) return;
  const at::Device device = setting_.rows.device();
  const at::Tensor from = to_device(plan.from, device), to = to_device(plan.to, device);
  const auto copy = [&](const std::vector<at::Tensor>& theirs, std::vector<at::Tensor>& ours) {
    for (std::size_t layer = 0; layer < ours.size(); ++layer)
      ours[layer].flatten(0, 1).index_copy_(0, to,
                                            theirs[layer].flatten(0, 1).index_select(0, from));
  };
  copy(*plan.keys, cache_->keys);
  copy(*plan.values, cache_->values);
}

std::vector<ExactForward::Piece> ExactForward::pieces_of(const ExactPlan& plan) {
  constexpr std::int64_t most = kernels::RowForward::most_rows;
  std::vector<Piece> pieces;
  for (const ExactPath& path : plan.paths)
    for (std::span<const ExactRow> rest = path.rows; !rest.empty();) {
      if (pieces.empty() || pieces.back().count == most) pieces.emplace_back();
      Piece& piece = pieces.back();
      const std::int64_t here = std::min<std::int64_t>(most - piece.count, std::ssize(rest));
      piece.parts.push_back({&path, rest.first(static_cast<std::size_t>(here))});
      piece.count += here;
      rest = rest.subspan(static_cast<std::size_t>(here));
    }
  return pieces;
}

at::Tensor ExactForward::through_kernels(const Piece& piece, const at::Tensor& inputs) {
  std::vector<kernels::DecodeRow> rows;
  for (const Piece::Part& part : piece.parts)
    for (const ExactRow& row : part.rows)
      rows.push_back({embedding_of(setting_.decoder, &setting_.rows, row.token), row.position,
                      part.path->pages});
  return kernels_->forward(rows, inputs);
}

at::Tensor ExactForward::through_decoder(const Piece& piece, const at::Tensor& inputs) {
  const Decoder& decoder = setting_.decoder;
  const at::Device device = setting_.rows.device();
  std::vector<std::int64_t> ids, positions;
  for (const Piece::Part& part : piece.parts)
    for (const ExactRow& row : part.rows) {
      ids.push_back(row.token);
      positions.push_back(row.position);
    }
  const kernels::PagedBatch batch = paged(piece);
  const std::optional<Prompts> none;
  PagedAttention attention(*cache_, batch, decoder.config().head_dim, none);
  const Angles angles = decoder.angles(to_device(positions, device));
  at::Tensor x = embed(setting_, std::move(ids));
  for (int layer = 0; layer < decoder.config().layers; ++layer) {
    if (inputs.defined()) inputs.select(0, layer).copy_(x);
    x = decoder.layer(layer, x, angles, attention, Arithmetic::row_invariant);
  }
  if (inputs.defined()) inputs.select(0, decoder.config().layers).copy_(x);
  return decoder.finish(x, Arithmetic::row_invariant);
}

kernels::PagedBatch ExactForward::paged(const Piece& piece) const {
  const at::Device device = setting_.rows.device();
  std::vector<std::int64_t> slots;
  std::vector<std::int32_t> starts{0}, lengths, tables;
  kernels::PagedBatch batch;
  std::size_t most_pages = 0;
  for (const Piece::Part& part : piece.parts)
    most_pages = std::max(most_pages, part.path->pages.size());
  for (const Piece::Part& part : piece.parts) {
    const std::vector<int>& pages = part.path->pages;
    for (const ExactRow& row : part.rows) slots.push_back(cache_->slot(pages, row.position));
    starts.push_back(static_cast<std::int32_t>(slots.size()));
    lengths.push_back(part.rows.back().position + 1);
    batch.longest_query = std::max(batch.longest_query, static_cast<int>(part.rows.size()));
    batch.longest_length = std::max(batch.longest_length, lengths.back());
    tables.insert(tables.end(), pages.begin(), pages.end());
    tables.resize(lengths.size() * most_pages, 0);
  }
  const auto brief = [&](const std::vector<std::int32_t>& values) {
    return at::tensor(values, at::kInt).to(device);
  };
  batch.slots = to_device(slots, device);
  batch.starts = brief(starts);
  batch.lengths = brief(lengths);
  batch.tables = brief(tables).view({std::ssize(lengths), static_cast<std::int64_t>(most_pages)});
  return batch;
}

PrefixPages ExactForward::pages_of(const Suffix& suffix, int index) const {
  PrefixPages found{&cache_->keys, &cache_->values, {}};
  const std::vector<int>& pages = now_->paths[now_->trunks.at(index)].pages;
  for (int at = 0; at < suffix.begins; ++at) found.slots.push_back(cache_->slot(pages, at));
  return found;
}

CachedPrefix ExactForward::prefix_of(const Suffix& suffix, int index) const {
  auto [keys, values] = cache_->gather(now_->paths[now_->trunks.at(index)].pages, suffix.begins);
  return {std::move(keys), std::move(values)};
}

}  // namespace pensive
