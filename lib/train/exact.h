// The forward of suffixes by the engine's row-invariant kernels, over pages of their own: what the
// engine drew from, bit for bit, and nobody else's pages are written.
#pragma once
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "engine/runner.h"
#include "train/batch.h"

namespace pensive {

// One token on its way through the kernels.
struct ExactRow {
  TokenId token = 0;
  int position = 0;
  std::int64_t place = -1;  // among the batch's rows; -1: only its keys and values are wanted
};

// One sequence as the kernels see it: a sample's kept tokens, or what was taken back behind some of
// them. Its first pages may be another's.
struct ExactPath {
  std::vector<TokenId> tokens;  // all, from the first position on
  std::vector<int> pages;
  std::vector<ExactRow> rows;  // in the order of their positions, up to the last
};

// A batch's way through the kernels. Plain values.
struct ExactPlan {
  std::vector<ExactPath> paths;                 // none shares pages of a later one
  std::unordered_map<int, std::size_t> trunks;  // of each suffix, the path of its kept tokens
  std::vector<std::int64_t> from, to;           // slots: constants to copy from the engine's pages
  // Those pages, a layer each; null where none are copied.
  const std::vector<at::Tensor>*keys = nullptr, *values = nullptr;
  int pages = 0;
  std::int64_t rows = 0;  // of the batch
};

// Constants come from setting.pages_of where it has them, each page once for all suffixes that
// share it; else they are computed from the first token on. A path that leaves another in the
// middle of a page computes what stands before it there once more: the bits are the same.
ExactPlan plan_exact(const SuffixSetting& setting, std::span<const Suffix> suffixes,
                     const std::vector<int>& members, bool is_packed);

// What the forward leaves of a batch's rows. Zeros where a row is padding.
struct ExactRows {
  at::Tensor hidden;  // [rows, width], normed
  at::Tensor inputs;  // [layers + 1, rows, width]: what the layers add up, before each and after
                      // the last, as wide as the kernels have it; undefined where not asked for
};

class ExactForward {
 public:
  // With room for the largest of the batches.
  ExactForward(const SuffixSetting& setting, std::span<const Suffix> suffixes,
               const std::vector<std::vector<int>>& batches, bool is_packed);

  ExactRows run(std::size_t batch, bool keeps_inputs);
  // The constants before a suffix of the batch that ran last.
  PrefixPages pages_of(const Suffix& suffix, int index) const;
  CachedPrefix prefix_of(const Suffix& suffix, int index) const;

 private:
  struct Piece;
  static std::vector<Piece> pieces_of(const ExactPlan& plan);
  void copy_constants(const ExactPlan& plan);
  at::Tensor through_kernels(const Piece& piece, const at::Tensor& inputs);
  at::Tensor through_decoder(const Piece& piece, const at::Tensor& inputs);
  kernels::PagedBatch paged(const Piece& piece) const;

  const SuffixSetting& setting_;
  std::vector<ExactPlan> plans_;
  const ExactPlan* now_ = nullptr;
  std::unique_ptr<Cache> cache_;
  std::unique_ptr<kernels::RowForward> kernels_;  // null: through the decoder
};

}  // namespace pensive
