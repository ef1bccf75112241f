// Naive float64 versions of the kernels, and random batches to hold them against.
#pragma once
#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "kernels/kernels.h"
#include "pensive/base.h"

namespace pensive::kernels {

// Of random inputs; others with every PENSIVE_SEED.
inline void seed(std::uint64_t salt) {
  const char* given = std::getenv("PENSIVE_SEED");
  at::manual_seed(salt + 1000 * (given == nullptr ? 0 : std::strtoull(given, nullptr, 10)));
}

// While it lives, what at::empty() gives is full of NaN, or of the largest number: what a kernel
// leaves out is seen. PENSIVE_UNPOISONED=1 leaves memory as it comes, for tools that watch over
// what was never written.
class Poison {
 public:
  explicit Poison(bool is_on = std::getenv("PENSIVE_UNPOISONED") == nullptr)
      : before_(at::globalContext().deterministicAlgorithms()) {
    set(is_on);
  }
  ~Poison() { set(before_); }
  Poison(const Poison&) = delete;
  Poison& operator=(const Poison&) = delete;

 private:
  static void set(bool is_on) {
    at::globalContext().setDeterministicAlgorithms(is_on, /*warn_only=*/true);
    at::globalContext().setDeterministicFillUninitializedMemory(true);
  }
  bool before_;
};

// Tests that run on a card, and are skipped where there is none.
class OnCard : public testing::Test {
 protected:
  explicit OnCard(std::uint64_t salt) : salt_(salt) {}
  void SetUp() override {
    setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", 0);  // else libtorch warns of cuBLAS
    try {
      card_ = to_torch(resolve({DeviceKind::cuda, 0}));
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
    seed(salt_);
    poison_.emplace();
  }

  at::Device card_ = at::kCPU;

 private:
  std::uint64_t salt_;
  std::optional<Poison> poison_;
};

inline at::Tensor random(at::IntArrayRef shape, at::ScalarType scalar) {
  return at::randn(shape, at::kDouble).to(scalar);
}

// || a - b || / || b ||, in float64; NaN counts as infinitely wrong.
inline double error(const at::Tensor& a, const at::Tensor& b) {
  at::Tensor wide = b.to(at::kCPU, at::kDouble);
  double gap = (a.to(at::kCPU, at::kDouble) - wide).norm().item<double>();
  double result = gap / (wide.norm().item<double>() + 1e-300);
  return std::isnan(result) ? INFINITY : result;
}

inline double tolerance(at::ScalarType scalar) {
  if (scalar == at::kDouble) return 1e-13;
  return scalar == at::kFloat ? 2e-6 : 4e-3;
}

inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  if (a.sizes() != b.sizes() || a.scalar_type() != b.scalar_type()) return false;
  at::Tensor x = a.cpu().contiguous(), y = b.cpu().contiguous();
  return x.numel() == 0 || std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0;
}

// Calls each of these so often, in threads of their own; what one of them throws is a failure.
inline void call_at_once(const std::vector<std::function<void()>>& calls, int rounds) {
  std::vector<std::string> errors(calls.size());
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < calls.size(); ++i)
    threads.emplace_back([&, i] {
      try {
        for (int round = 0; round < rounds; ++round) calls[i]();
      } catch (const std::exception& error) {
        errors[i] = error.what();
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(errors, std::vector<std::string>(calls.size()));
}

// One sequence of a random batch: positions in the cache and query rows at its end.
struct Part {
  int length, queries;
};

struct AttentionCase {
  at::Tensor queries, key_pages, value_pages;
  PagedBatch batch;
  std::vector<Part> parts;
  double scale = 0.125;
};

struct AttentionShape {
  int heads = 6, kv_heads = 2, head_dim = 32, page_tokens = 16;
};

// Pages are handed out in random order; those of nobody hold NaN.
inline AttentionCase attention_case(const AttentionShape& shape, const std::vector<Part>& parts,
                                    at::ScalarType scalar) {
  AttentionCase made;
  made.parts = parts;
  int pages = 3, most = 1, tokens = 0;
  std::vector<int> starts{0}, lengths;
  for (const Part& part : parts) {
    int needed = (part.length + shape.page_tokens - 1) / shape.page_tokens;
    pages += needed;
    most = std::max(most, needed);
    tokens += part.queries;
    starts.push_back(tokens);
    lengths.push_back(part.length);
    made.batch.longest_query = std::max(made.batch.longest_query, part.queries);
    made.batch.longest_length = std::max(made.batch.longest_length, part.length);
  }
  at::Tensor order = at::randperm(pages, at::kInt);
  at::Tensor tables = at::full({static_cast<int64_t>(parts.size()), most}, pages - 1, at::kInt);
  std::vector<int64_t> sizes{pages, shape.page_tokens, shape.kv_heads, shape.head_dim};
  made.key_pages = at::full(sizes, NAN, at::kDouble).to(scalar);
  made.value_pages = made.key_pages.clone();
  int next = 0;
  for (std::size_t s = 0; s < parts.size(); ++s) {
    for (int p = 0; p * shape.page_tokens < parts[s].length; ++p, ++next) {
      int page = order[next].item<int>();
      int here = std::min(shape.page_tokens, parts[s].length - p * shape.page_tokens);
      tables[static_cast<int64_t>(s)][p] = page;
      for (at::Tensor* cache : {&made.key_pages, &made.value_pages}) {
        (*cache)[page]
            .narrow(0, 0, here)
            .copy_(random({here, shape.kv_heads, shape.head_dim}, scalar));
      }
    }
  }
  made.batch.tables = tables;
  made.batch.starts = at::tensor(starts, at::kInt);
  made.batch.lengths = at::tensor(lengths, at::kInt);
  made.queries = random({tokens, shape.heads, shape.head_dim}, scalar);
  return made;
}

// The keys or values of one sequence, [length, kv_heads, head_dim] in float64.
inline at::Tensor gathered(const AttentionCase& made, const at::Tensor& pages, std::size_t s) {
  int64_t length = made.parts[s].length, tokens = pages.size(1);
  at::Tensor table = made.batch.tables[static_cast<int64_t>(s)].to(at::kLong);
  return pages.index_select(0, table.narrow(0, 0, (length + tokens - 1) / tokens))
      .reshape({-1, pages.size(2), pages.size(3)})
      .narrow(0, 0, length)
      .to(at::kDouble);
}

inline at::Tensor naive_attention(const AttentionCase& made) {
  at::Tensor out = at::full(made.queries.sizes(), NAN, at::kDouble);
  int64_t group = made.queries.size(1) / made.key_pages.size(2), first = 0;
  for (std::size_t s = 0; s < made.parts.size(); ++s) {
    int64_t n = made.parts[s].queries, length = made.parts[s].length;
    at::Tensor keys = gathered(made, made.key_pages, s);
    at::Tensor values = gathered(made, made.value_pages, s);
    at::Tensor hidden = at::ones({n, length}, at::kBool).triu(length - n + 1);
    for (int64_t h = 0; h < made.queries.size(1); ++h) {
      at::Tensor query = made.queries.narrow(0, first, n).select(1, h).to(at::kDouble);
      at::Tensor scores = at::matmul(query, keys.select(1, h / group).t()) * made.scale;
      at::Tensor weights = at::softmax(scores.masked_fill(hidden, -INFINITY), 1);
      out.narrow(0, first, n).select(1, h).copy_(at::matmul(weights, values.select(1, h / group)));
    }
    first += n;
  }
  return out;
}

inline at::Tensor attend(const AttentionCase& made) {
  return paged_attention(made.queries, made.key_pages, made.value_pages, made.batch, made.scale);
}

}  // namespace pensive::kernels
