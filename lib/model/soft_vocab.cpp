#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "kernels/kernels.h"
#include "kernels/upload.h"
#include "model/safetensors.h"
#include "model/soft_parts.h"

namespace pensive {
namespace {

constexpr std::string_view where = "SoftVocab";

std::span<const std::byte> bytes_of(const at::Tensor& tensor) {
  return {static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()};
}

bool is_utf8(std::string_view text) { return to_utf8(text) == text; }

// The row an id names, or an error that names the limits.
std::size_t index_of(TokenId id, const Model& model, std::size_t rows) {
  const std::int64_t first = model.vocab_size();
  const std::int64_t index = std::int64_t{id} - first;
  require(index >= 0 && index < static_cast<std::int64_t>(rows), ErrorCode::invalid_argument,
          fmt::format("the id of a soft row, from {} and below {}", first,
                      first + static_cast<std::int64_t>(rows)),
          fmt::format("{}", id), where);
  return static_cast<std::size_t>(index);
}

// Mean of the embeddings of some tokens: float32 [1, width] on the CPU.
at::Tensor mean_embedding(const Model& model, std::span<const TokenId> ids) {
  require(!ids.empty(), ErrorCode::invalid_argument, "at least one token to start from", "none",
          where);
  at::Tensor list = at::empty({static_cast<std::int64_t>(ids.size())}, at::kLong);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    require(ids[i] >= 0 && ids[i] < model.vocab_size(), ErrorCode::invalid_argument,
            fmt::format("ids from 0 and below {} to start from", model.vocab_size()),
            fmt::format("{}", ids[i]), where);
    list[static_cast<std::int64_t>(i)] = ids[i];
  }
  const at::Tensor rows = embed(model, nullptr, list).to(at::kCPU);
  return rows.to(at::kDouble).mean(0, true).to(at::kFloat);
}

}  // namespace

std::shared_ptr<const SoftVocab::Rows> snapshot(const Model& model, const at::Tensor& master) {
  const Model::Parts& parts = model.parts();
  auto rows = std::make_shared<SoftVocab::Rows>();
  rows->master = master;
  const at::Tensor rounded = master.to(parts.scalar).contiguous();
  require(at::isfinite(rounded).all().item<bool>(), ErrorCode::invalid_argument,
          fmt::format("values that {} can hold", to_string(parts.info.precision)), "a larger one",
          where);
  rows->rounded = rounded.to(parts.device);
  // The model's part keeps two models' versions apart; the width follows from it.
  const std::uint64_t key =
      kernels::mix(parts.info.fingerprint, static_cast<std::uint64_t>(parts.scalar));
  rows->version = kernels::mix(key, hash_bytes(bytes_of(rounded)));
  return rows;
}

SoftVocab::SoftVocab(std::shared_ptr<const Model> model) : parts_(std::make_unique<Parts>()) {
  require(model != nullptr, ErrorCode::invalid_argument, "a model", "none", where);
  const PlainTensors plain;
  parts_->model = std::move(model);
  parts_->rows = snapshot(*parts_->model, at::empty({0, parts_->model->info().width}, at::kFloat));
}

SoftVocab::~SoftVocab() = default;

SoftVocab::Rows::~Rows() {
  if (rounded.defined() && !kernels::can_free(rounded.device())) {
    static_cast<void>(rounded.unsafeReleaseTensorImpl());
  }
}

TokenId SoftVocab::add(std::string_view name, std::span<const TokenId> start_at_mean_of) {
  const PlainTensors plain;
  const Model& model = *parts_->model;
  require(!name.empty(), ErrorCode::invalid_argument, "a name", "an empty one", where);
  require(is_utf8(name), ErrorCode::invalid_argument, "a name in UTF-8", in_quotes(name), where);
  require(!find(name), ErrorCode::invalid_argument, "a name that is free", in_quotes(name), where);
  const std::int64_t id = std::int64_t{model.vocab_size()} + size();
  require(id < std::numeric_limits<TokenId>::max(), ErrorCode::invalid_argument,
          "an id that is free", "none", where);
  const at::Tensor row = mean_embedding(model, start_at_mean_of);
  auto next = snapshot(model, at::cat({rows()->master, row}));
  const std::lock_guard lock(parts_->mutex);
  parts_->names.emplace_back(name);
  parts_->starts.emplace_back(start_at_mean_of.begin(), start_at_mean_of.end());
  parts_->rows = std::move(next);
  return static_cast<TokenId>(id);
}

int SoftVocab::size() const noexcept {
  const std::lock_guard lock(parts_->mutex);
  return static_cast<int>(parts_->names.size());
}

std::optional<TokenId> SoftVocab::find(std::string_view name) const {
  const std::lock_guard lock(parts_->mutex);
  const auto found = std::find(parts_->names.begin(), parts_->names.end(), name);
  if (found == parts_->names.end()) return std::nullopt;
  return parts_->model->vocab_size() + static_cast<TokenId>(found - parts_->names.begin());
}

std::string SoftVocab::name(TokenId id) const {
  const std::lock_guard lock(parts_->mutex);
  return parts_->names[index_of(id, *parts_->model, parts_->names.size())];
}

std::vector<TokenId> SoftVocab::start(TokenId id) const {
  const std::lock_guard lock(parts_->mutex);
  return parts_->starts[index_of(id, *parts_->model, parts_->starts.size())];
}

std::string SoftVocab::carried_from() const { return parts_->carried_from; }

std::shared_ptr<const Tokenizer> SoftVocab::tokenizer() const {
  std::vector<std::pair<TokenId, std::string>> names;
  {
    const std::lock_guard lock(parts_->mutex);
    for (const std::string& name : parts_->names)
      names.emplace_back(parts_->model->vocab_size() + static_cast<TokenId>(names.size()), name);
  }
  return parts_->model->tokenizer()->with_names(names);
}

std::vector<float> SoftVocab::row(TokenId id) const {
  const std::shared_ptr<const Rows> now = rows();
  const auto width = static_cast<std::size_t>(now->master.size(1));
  const std::size_t index =
      index_of(id, *parts_->model, static_cast<std::size_t>(now->master.size(0)));
  const float* first = now->master.const_data_ptr<float>() + index * width;
  return {first, first + width};
}

void SoftVocab::set_row(TokenId id, std::span<const float> values) {
  const PlainTensors plain;
  const Model& model = *parts_->model;
  at::Tensor master = rows()->master.clone();
  const std::size_t index = index_of(id, model, static_cast<std::size_t>(master.size(0)));
  const auto width = static_cast<std::size_t>(master.size(1));
  require(values.size() == width, ErrorCode::invalid_argument, fmt::format("{} values", width),
          fmt::format("{}", values.size()), where);
  const bool is_finite =
      std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
  require(is_finite, ErrorCode::invalid_argument, "finite values", "an infinite one or a NaN",
          where);
  std::memcpy(master.mutable_data_ptr<float>() + index * width, values.data(), values.size_bytes());
  auto next = snapshot(model, master);
  const std::lock_guard lock(parts_->mutex);
  parts_->rows = std::move(next);
}

std::uint64_t SoftVocab::version() const noexcept { return rows()->version; }

std::shared_ptr<const Model> SoftVocab::model() const noexcept { return parts_->model; }

std::shared_ptr<const SoftVocab::Rows> SoftVocab::rows() const {
  const std::lock_guard lock(parts_->mutex);
  return parts_->rows;
}

at::Tensor embed(const Model& model, const SoftVocab::Rows* rows, const at::Tensor& ids) {
  const Model::Parts& parts = model.parts();
  if (ids.numel() == 0) return parts.decoder->embed(kernels::send(ids, parts.device));
  const std::int64_t vocab = model.vocab_size();
  const std::int64_t limit = vocab + (rows == nullptr ? 0 : rows->rounded.size(0));
  const std::int64_t least = ids.min().item<std::int64_t>(), most = ids.max().item<std::int64_t>();
  require(least >= 0 && most < limit, ErrorCode::invalid_argument,
          fmt::format("ids from 0 and below {} ({} of the model, {} soft)", limit, vocab,
                      limit - vocab),
          fmt::format("{}", least < 0 ? least : most), "embed");
  if (most < vocab) return parts.decoder->embed(kernels::send(ids, parts.device));
  const at::Tensor soft = (ids >= vocab).nonzero().squeeze(1);   // [soft]
  const at::Tensor indices = ids.index_select(0, soft) - vocab;  // [soft]
  at::Tensor out = parts.decoder->embed(kernels::send(ids.clamp_max(vocab - 1), parts.device));
  const at::Tensor taken = rows->rounded.index_select(0, kernels::send(indices, parts.device));
  return out.index_copy(0, kernels::send(soft, parts.device), taken);
}

}  // namespace pensive
