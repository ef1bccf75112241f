#include "engine/runner.h"

#include <c10/core/impl/VirtualGuardImpl.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/inside.h"
#include "engine/memory.h"
#include "engine/paged.h"
#include "kernels/upload.h"

namespace pensive {
namespace {

at::Tensor index_of(const std::vector<std::int64_t>& values, at::Device device) {
  return kernels::send(at::tensor(values, at::kLong), device);  // [values]
}

// Soft rows that chunks of the plan really use; usually one version, or none.
std::vector<const SoftVocab::Rows*> versions(const Plan& plan, const Wishes& wishes,
                                             TokenId vocab_size) {
  std::vector<const SoftVocab::Rows*> found;
  for (std::size_t i = 0; i < plan.chunks.size(); ++i) {
    const Chunk& chunk = plan.chunks[i];
    const auto first = chunk.lane->tokens.begin() + chunk.first;
    const bool has_soft =
        std::any_of(first, first + chunk.count, [&](TokenId id) { return id >= vocab_size; });
    if (has_soft && std::ranges::find(found, wishes.rows[i]) == found.end())
      found.push_back(wishes.rows[i]);
  }
  return found;
}

const void* embedding_of(const Model& model, const SoftVocab::Rows* rows, TokenId id) {
  return embedding_of(*model.parts().decoder, rows != nullptr ? &rows->rounded : nullptr, id);
}

}  // namespace

const void* embedding_of(const Decoder& decoder, const at::Tensor* soft, TokenId id) {
  const TokenId words = decoder.config().vocab_size;
  const at::Tensor& table = id < words ? decoder.weights().embedding : *soft;
  const std::int64_t row = id < words ? id : id - words;
  return static_cast<const char*>(table.const_data_ptr()) +
         row * table.size(1) * static_cast<std::int64_t>(table.element_size());
}

kernels::DecodeModel decode_model(const Decoder& decoder, const Cache& cache,
                                  Arithmetic arithmetic) {
  const Weights& weights = decoder.weights();
  kernels::DecodeModel made;
  made.arithmetic = arithmetic;
  made.heads = decoder.config().heads;
  made.epsilon = decoder.config().norm_epsilon;
  made.cosines = decoder.cosines();
  made.sines = decoder.sines();
  made.final_norm = weights.final_norm;
  made.head = weights.head;
  for (std::size_t i = 0; i < weights.layers.size(); ++i) {
    const LayerWeights& layer = weights.layers[i];
    made.layers.push_back({layer.attention_norm, layer.qkv, layer.qkv_bias, layer.query_norm,
                           layer.key_norm, layer.output, layer.output_bias, layer.mlp_norm,
                           layer.gate_up, layer.gate_up_bias, layer.down, layer.down_bias,
                           cache.keys[i], cache.values[i]});
  }
  return made;
}

Cache::Cache(const Decoder& decoder, int pages, int page_tokens) : page_tokens(page_tokens) {
  const Config& config = decoder.config();
  const at::Tensor& like = decoder.weights().embedding;
  const auto options = at::dtype(like.scalar_type()).device(like.device());
  for (int layer = 0; layer < config.layers; ++layer)
    for (auto* tensors : {&keys, &values})
      tensors->push_back(
          at::empty({pages, page_tokens, config.kv_heads, config.head_dim}, options));
}

Cache::~Cache() {
  for (auto* tensors : {&keys, &values}) {
    for (at::Tensor& tensor : *tensors) {
      if (!kernels::can_free(tensor.device())) static_cast<void>(tensor.unsafeReleaseTensorImpl());
    }
  }
}

std::int64_t Cache::page_bytes() const {
  std::int64_t bytes = 0;
  for (const auto* tensors : {&keys, &values})
    for (const at::Tensor& tensor : *tensors)
      bytes += static_cast<std::int64_t>(tensor.nbytes()) / tensor.size(0);
  return bytes;
}

void Cache::copy(const std::vector<PageCopy>& copies) {
  if (copies.empty()) return;
  std::vector<std::int64_t> from, to;
  for (const PageCopy& copy : copies) {
    from.push_back(copy.from);
    to.push_back(copy.to);
  }
  const at::Tensor sources = index_of(from, keys.front().device());
  const at::Tensor targets = index_of(to, keys.front().device());
  for (auto* tensors : {&keys, &values})
    for (at::Tensor& pages : *tensors)
      pages.index_copy_(0, targets, pages.index_select(0, sources));
}

std::pair<at::Tensor, at::Tensor> Cache::gather(const std::vector<int>& pages, int length) const {
  const int count = (length + page_tokens - 1) / page_tokens;
  const at::Tensor table = index_of({pages.begin(), pages.begin() + count}, keys.front().device());
  const auto collect = [&](const std::vector<at::Tensor>& layers) {
    std::vector<at::Tensor> rows;
    for (const at::Tensor& layer : layers)
      rows.push_back(layer.index_select(0, table).flatten(0, 1).narrow(0, 0, length));
    return at::stack(rows);  // [layers, length, kv_heads, head_dim]
  };
  return {collect(keys), collect(values)};
}

Runner::Runner(std::shared_ptr<const Model> model, const EngineOptions& options, int pages)
    : model_(std::move(model)),
      arithmetic_(options.arithmetic),
      most_rows_(options.max_live_sequences),
      most_gathered_(
          most_gathered(std::min<std::int64_t>(model_->max_positions(),
                                               std::int64_t{pages} * options.page_tokens),
                        options)),
      log_(options.log),
      cache_(*model_->parts().decoder, pages, options.page_tokens) {
  if (arithmetic_ == Arithmetic::row_invariant)
    forward_ =
        kernels::RowForward::make(decode_model(*model_->parts().decoder, cache_, arithmetic_));
  if (options.graphs) decode_with(kernels::DecodeSteps::make);
}

Runner::~Runner() {
  if (!stream_ || !kernels::can_free(stream_->device())) return;
  try {
    const c10::impl::VirtualGuardImpl streams(stream_->device_type());
    streams.synchronizeStream(*stream_);
  } catch (const c10::Error&) {  // of a card that has failed; whoever uses it next is told
  }
}

void Runner::decode_with(const MakeSteps& make) {
  decode_ = make(decode_model(*model_->parts().decoder, cache_, arithmetic_), most_rows_);
}

// Everything the device needs to know of the plan, in one array and so in one transfer.
void Runner::lay_out(const Plan& plan) {
  tokens_ = plan.tokens;
  lanes_ = static_cast<std::int64_t>(plan.chunks.size());
  drawn_ = most_pages_ = 0;
  longest_query_ = longest_length_ = 1;
  for (const Chunk& chunk : plan.chunks) {
    drawn_ += chunk.is_drawn ? 1 : 0;
    longest_query_ = std::max(longest_query_, chunk.count);
    longest_length_ = std::max(longest_length_, chunk.first + chunk.count);
  }
  most_pages_ = (longest_length_ + cache_.page_tokens - 1) / cache_.page_tokens;
  const std::int64_t small = 2 * lanes_ + 1 + lanes_ * most_pages_;
  used_ = 3 * tokens_ + drawn_ + (small + 1) / 2;
  if (!arena_.defined() || arena_.numel() < used_)
    arena_ = at::empty({2 * used_}, at::dtype(at::kLong));

  auto* ids = arena_.data_ptr<std::int64_t>();
  std::int64_t* positions = ids + tokens_;
  std::int64_t* slots = positions + tokens_;
  std::int64_t* drawn = slots + tokens_;
  auto* starts = reinterpret_cast<std::int32_t*>(drawn + drawn_);
  std::int32_t* lengths = starts + lanes_ + 1;
  std::int32_t* table = lengths + lanes_;
  std::int64_t row = 0;
  *starts++ = 0;
  for (const Chunk& chunk : plan.chunks) {
    const std::vector<int>& pages = chunk.lane->pages;
    for (int at = chunk.first; at < chunk.first + chunk.count; ++at, ++row) {
      ids[row] = chunk.lane->tokens[static_cast<std::size_t>(at)];
      positions[row] = at;
      slots[row] = cache_.slot(pages, at);
    }
    if (chunk.is_drawn) *drawn++ = row - 1;
    *starts++ = static_cast<std::int32_t>(row);
    *lengths++ = chunk.first + chunk.count;
    const auto own = std::min<std::int64_t>(most_pages_, static_cast<std::int64_t>(pages.size()));
    std::copy(pages.begin(), pages.begin() + own, table);
    std::fill(table + own, table + most_pages_, 0);
    table += most_pages_;
  }
}

kernels::PagedBatch Runner::batch(const at::Tensor& arrays) const {
  kernels::PagedBatch batch;
  const at::Tensor small = arrays.narrow(0, 3 * tokens_ + drawn_, used_ - 3 * tokens_ - drawn_)
                               .view(at::kInt);  // starts | lengths | tables
  batch.slots = arrays.narrow(0, 2 * tokens_, tokens_);
  batch.starts = small.narrow(0, 0, lanes_ + 1);
  batch.lengths = small.narrow(0, lanes_ + 1, lanes_);
  batch.tables = small.narrow(0, 2 * lanes_ + 1, lanes_ * most_pages_).view({lanes_, most_pages_});
  batch.longest_query = longest_query_;
  batch.longest_length = longest_length_;
  return batch;
}

// Nothing where attention of single rows does as well, or better: of few tokens, where there is no
// flash attention or every row's bits must be its own, and where many short pieces stand behind
// long sequences, whose keys would all be gathered.
std::optional<Prompts> Runner::prompts(const Plan& plan) const {
  constexpr std::int64_t few = 64;
  if (arithmetic_ != Arithmetic::fast || !kernels::has_flash(cache_.keys.front()))
    return std::nullopt;
  const auto brings_several = [](const Chunk& chunk) { return chunk.count > 1; };
  const auto begin = std::ranges::find_if(plan.chunks, brings_several);
  Prompts made;
  made.first = begin - plan.chunks.begin();
  if (plan.tokens - made.first < few) return std::nullopt;
  std::vector<std::int64_t> queries, keys, slots;
  std::int64_t positions = 0;
  bool is_whole = true;
  for (auto chunk = begin; chunk != plan.chunks.end(); ++chunk) {
    queries.push_back(chunk->count);
    keys.push_back(chunk->first + chunk->count);
    positions += keys.back();
    is_whole = is_whole && chunk->first == 0;
  }
  if (!is_whole && positions > most_gathered_) return std::nullopt;
  const at::Device device = cache_.keys.front().device();
  made.batch = kernels::pack(queries, keys, device);
  if (is_whole) return made;
  for (auto chunk = begin; chunk != plan.chunks.end(); ++chunk)
    for (int at = 0; at < chunk->first + chunk->count; ++at)
      slots.push_back(cache_.slot(chunk->lane->pages, at));
  made.slots = index_of(slots, device);
  return made;
}

at::Tensor Runner::embeddings(const Plan& plan, const Wishes& wishes) const {
  const at::Tensor ids = arena_.narrow(0, 0, tokens_);  // [tokens], on the CPU
  const TokenId vocab_size = model_->vocab_size();
  const auto found = versions(plan, wishes, vocab_size);
  if (found.size() < 2) return embed(*model_, found.empty() ? nullptr : found[0], ids);

  // Sequences keep the rows they started with, so one batch may hold several versions of an id.
  at::Tensor rows = embed(*model_, nullptr, at::where(ids < vocab_size, ids, 0));
  for (const SoftVocab::Rows* version : found) {
    std::vector<std::int64_t> places;
    std::int64_t row = 0;
    for (std::size_t i = 0; i < plan.chunks.size(); ++i)
      for (int end = plan.chunks[i].count, at = 0; at < end; ++at, ++row)
        if (wishes.rows[i] == version && ids.data_ptr<std::int64_t>()[row] >= vocab_size)
          places.push_back(row);
    const at::Tensor own = index_of(places, at::kCPU);
    rows.index_copy_(0, own.to(rows.device()), embed(*model_, version, ids.index_select(0, own)));
  }
  return rows;  // [tokens, width]
}

// A few rows at a time: the logits of a whole prompt would need more memory than all else.
std::vector<kernels::Drawn> Runner::score(const at::Tensor& hidden, const Wishes& wishes) const {
  constexpr std::size_t most_rows = 64;
  std::vector<kernels::Drawn> scored;
  for (std::size_t first = 0; first < wishes.scores.size(); first += most_rows) {
    std::vector<std::int64_t> rows;
    std::vector<kernels::DrawRow> asked;
    for (std::size_t i = first; i < std::min(first + most_rows, wishes.scores.size()); ++i) {
      const ScoreRow& score = wishes.scores[i];
      rows.push_back(score.row);
      kernels::DrawRow& row = asked.emplace_back();
      row.temperature = 0;
      row.listed = score.listed;
      if (score.token >= 0) row.watched = {score.token};
    }
    const at::Tensor chosen = hidden.index_select(0, index_of(rows, hidden.device()));
    const at::Tensor logits = model_->parts().decoder->head(chosen, arithmetic_);  // [rows, vocab]
    for (kernels::Drawn& one : kernels::draw(logits, asked)) scored.push_back(std::move(one));
  }
  return scored;
}

bool Runner::is_decode(const Plan& plan, const Wishes& wishes) const {
  return decode_ && wishes.scores.empty() && std::ssize(plan.chunks) <= decode_->most_rows() &&
         std::ranges::all_of(plan.chunks,
                             [](const Chunk& chunk) { return chunk.count == 1 && chunk.is_drawn; });
}

void Runner::launch(const Plan& plan, const Wishes& wishes) {
  std::vector<kernels::DecodeRow> rows;
  for (std::size_t i = 0; i < plan.chunks.size(); ++i) {
    const Chunk& chunk = plan.chunks[i];
    const TokenId id = chunk.lane->tokens[static_cast<std::size_t>(chunk.first)];
    rows.push_back({embedding_of(*model_, wishes.rows[i], id), chunk.first, chunk.lane->pages});
  }
  launch(rows, wishes.draws);
}

bool Runner::launch_next(const Plan& plan, const std::vector<int>& rows,
                         const std::vector<kernels::DrawRow>& draws) {
  const void* table = embedding_of(*model_, nullptr, 0);  // no soft token is ever drawn
  std::vector<kernels::DecodeRow> next;
  for (std::size_t i = 0; i < plan.chunks.size(); ++i) {
    const Chunk& chunk = plan.chunks[i];
    next.push_back({table, chunk.first + 1, chunk.lane->pages, rows[i]});
  }
  return launch(next, draws);
}

bool Runner::launch(const std::vector<kernels::DecodeRow>& rows,
                    const std::vector<kernels::DrawRow>& draws) {
  const int before = decode_->captures();
  const bool is_launched = decode_->launch(rows, draws);
  if (log_ && decode_->captures() > before)
    log_(LogLevel::info,
         fmt::format("graphs: {} captured, the newest for decode steps of {} sequences",
                     decode_->captures(), rows.size()));
  return is_launched;
}

void Runner::follow_stream() {
  const at::Device device = cache_.keys.front().device();
  if (!device.is_cuda()) return;
  const c10::impl::VirtualGuardImpl streams(device.type());
  const c10::Stream now = streams.getStream(device);
  if (stream_ && *stream_ != now) streams.synchronizeDevice(device.index());
  stream_ = now;
}

void Runner::copy(const Plan& plan) {
  follow_stream();
  if (plan.copies.empty()) return;
  if (decode_) decode_->settle();
  cache_.copy(plan.copies);
}

// Of all of the plan's tokens: [tokens, width].
at::Tensor Runner::hidden(const Plan& plan, const Wishes& wishes, const at::Tensor& arrays) {
  if (forward_) {
    std::vector<kernels::DecodeRow> rows;
    for (std::size_t i = 0; i < plan.chunks.size(); ++i) {
      const Chunk& chunk = plan.chunks[i];
      for (int at = chunk.first; at < chunk.first + chunk.count; ++at) {
        const TokenId id = chunk.lane->tokens[static_cast<std::size_t>(at)];
        rows.push_back({embedding_of(*model_, wishes.rows[i], id), at, chunk.lane->pages});
      }
    }
    return forward_->forward(rows);
  }
  const at::Tensor positions = arrays.narrow(0, tokens_, tokens_);
  const kernels::PagedBatch pages = batch(arrays);
  const std::optional<Prompts> several = prompts(plan);
  PagedAttention attention(cache_, pages, model_->info().head_dim, several);
  return model_->parts().decoder->forward(embeddings(plan, wishes), positions, attention,
                                          arithmetic_);
}

Outcome Runner::compute(const Plan& plan, const Wishes& wishes) {
  if (decode_) decode_->settle();
  lay_out(plan);
  const Model::Parts& parts = model_->parts();
  const at::Tensor arrays = kernels::send(arena_.narrow(0, 0, used_), parts.device);
  at::Tensor hidden = this->hidden(plan, wishes, arrays);
  Outcome outcome;
  outcome.scored = score(hidden, wishes);
  if (drawn_ == 0) return outcome;

  if (drawn_ < tokens_) hidden = hidden.index_select(0, arrays.narrow(0, 3 * tokens_, drawn_));
  const at::Tensor logits = parts.decoder->head(hidden, arithmetic_);  // [drawn, vocab]
  outcome.drawn = kernels::draw(logits, wishes.draws);
  return outcome;
}

}  // namespace pensive
