// Carries a plan out on the device: flat arrays in, drawn tokens out. Makes no decision.
#pragma once
#include <ATen/ATen.h>
#include <c10/core/Stream.h>

#include <functional>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "engine/scheduler.h"
#include "kernels/decode.h"
#include "kernels/forward.h"
#include "kernels/packed.h"
#include "model/parts.h"

namespace pensive {

// Keys and values of all positions, in pages.
struct Cache {
  Cache(const Decoder& decoder, int pages, int page_tokens);
  ~Cache();
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;

  std::int64_t page_bytes() const;  // in all layers
  void copy(const std::vector<PageCopy>& copies);
  // page * page_tokens + place in it, of a position in these pages.
  std::int64_t slot(const std::vector<int>& pages, int position) const {
    const int page = pages[static_cast<std::size_t>(position / page_tokens)];
    return std::int64_t{page} * page_tokens + position % page_tokens;
  }
  // -> two of [layers, length, kv_heads, head_dim], copied.
  std::pair<at::Tensor, at::Tensor> gather(const std::vector<int>& pages, int length) const;

  int page_tokens;
  std::vector<at::Tensor> keys, values;  // a layer: [pages, page_tokens, kv_heads, head_dim]
};

// Weights and pages as decode steps and row-invariant prompts take them.
kernels::DecodeModel decode_model(const Decoder& decoder, const Cache& cache,
                                  Arithmetic arithmetic);

// Where a token's embedding stands: in the decoder's table, or from its vocab_size on in `soft`,
// [rows, width], which no other token needs.
const void* embedding_of(const Decoder& decoder, const at::Tensor* soft, TokenId id);

// One row of the plan whose logits are asked about the prompt's next token.
struct ScoreRow {
  std::int64_t row = 0;  // counted through the chunks
  TokenId token = -1;    // -1: a soft one, of which logits know nothing
  int listed = 0;
};

// What a plan needs beside its lanes.
struct Wishes {
  std::vector<const SoftVocab::Rows*> rows;  // one a chunk: for the soft ids in it
  std::vector<kernels::DrawRow> draws;       // one for each chunk that is drawn from
  std::vector<ScoreRow> scores;              // in the order of their rows
};

struct Outcome {
  std::vector<kernels::Drawn> drawn;   // one token for each chunk that is drawn from, in order
  std::vector<kernels::Drawn> scored;  // for each of Wishes::scores; its token means nothing
};

// Decode steps, whole, of a model and its cache; null where they cannot be done so.
using MakeSteps =
    std::function<std::unique_ptr<kernels::DecodeSteps>(kernels::DecodeModel model, int most_rows)>;

// The chunks of a plan that bring several tokens, as packed attention takes them.
struct Prompts {
  std::int64_t first = 0;  // lane and row of the first: before them each lane brings one row
  kernels::PackedBatch batch;
  at::Tensor
      slots;  // int64 [key rows]: where their keys stand; undefined where they bring them all
};

class Runner {
 public:
  Runner(std::shared_ptr<const Model> model, const EngineOptions& options, int pages);
  // Waits for what the card still does here: the pages go back to the stream they were made on.
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  // Before the first step.
  void decode_with(const MakeSteps& make);

  // What a plan copies comes before what it computes. Begins each step: what was computed under
  // another current stream is waited for, since a prompt's first pieces are not.
  void copy(const Plan& plan);
  // Any plan, operation by operation.
  Outcome compute(const Plan& plan, const Wishes& wishes);

  // Whether a plan may be launched instead: one token for each sequence, and all drawn from.
  bool is_decode(const Plan& plan, const Wishes& wishes) const;
  void launch(const Plan& plan, const Wishes& wishes);
  // The step after it, for the same sequences: each goes on with the token that is drawn for
  // `rows`, places in what was launched before. False: not now. At most two steps are in flight.
  bool launch_next(const Plan& plan, const std::vector<int>& rows,
                   const std::vector<kernels::DrawRow>& draws);
  // A token for each row of the step that was launched first.
  std::vector<kernels::Drawn> wait() { return decode_->wait(); }
  void forget() {
    if (decode_) decode_->forget();
  }

  const Cache& cache() const noexcept { return cache_; }

 private:
  void follow_stream();
  void lay_out(const Plan& plan);
  bool launch(const std::vector<kernels::DecodeRow>& rows,
              const std::vector<kernels::DrawRow>& draws);
  std::vector<kernels::Drawn> score(const at::Tensor& hidden, const Wishes& wishes) const;
  kernels::PagedBatch batch(const at::Tensor& arrays) const;
  std::optional<Prompts> prompts(const Plan& plan) const;
  at::Tensor embeddings(const Plan& plan, const Wishes& wishes) const;
  at::Tensor hidden(const Plan& plan, const Wishes& wishes, const at::Tensor& arrays);

  std::shared_ptr<const Model> model_;
  Arithmetic arithmetic_;
  int most_rows_;
  std::int64_t most_gathered_;
  LogSink log_;
  Cache cache_;
  std::unique_ptr<kernels::DecodeSteps> decode_;  // null: every step goes through the decoder
  std::unique_ptr<kernels::RowForward>
      forward_;                        // instead of it, where rows have bits of their own
  std::optional<c10::Stream> stream_;  // of the last step, on a card
  at::Tensor arena_;  // int64, grows: ids | positions | slots | drawn rows | int32: starts,
                      // lengths, tables
  std::int64_t tokens_ = 0, drawn_ = 0, lanes_ = 0, most_pages_ = 0, used_ = 0;
  int longest_query_ = 1, longest_length_ = 1;
};

}  // namespace pensive
