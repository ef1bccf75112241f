// The inner loops of the CPU versions, compiled three times (for AVX-512, AVX2 and any processor)
// and picked when the program runs. Plain pointers: the three copies must share no inline code.
#pragma once
#include <cstdint>

#include "kernels/cuda.h"

namespace pensive::kernels {

// y = x W^T + bias; x is float (double for float64) whatever the weights are held in. Work is cut
// into panels of `panel_outputs` outputs times blocks of `row_block` rows.
struct Product {
  const void* x;       // [rows, in]
  const void* weight;  // [out, in]
  const void* bias;    // [out] or null
  void* y;             // [rows, out]
  std::int64_t rows, in, out, row_block;
  Scalar scalar;         // of weight, bias and y
  bool is_wide = false;  // y is float32 (float64 for float64)
};

// One piece of attention: some query rows of one sequence, under one key-value head.
struct AttendTask {
  std::int32_t sequence, kv_head, first_row, rows;  // first_row counts from the sequence's first
};

struct Attend {
  const void* queries;  // rows of heads * head_dim values, query_stride apart
  std::int64_t query_stride;
  const void* key_pages;  // [pages, page_tokens, kv_heads, head_dim]
  const void* value_pages;
  void* out;                   // [tokens, heads, head_dim]
  const std::int32_t* tables;  // [sequences, most_pages]
  const std::int32_t* starts;
  const std::int32_t* lengths;
  std::int64_t most_pages;
  std::int32_t heads, kv_heads, head_dim, page_tokens;
  double scale;
  Scalar scalar;
};

// What one pass over a row of logits finds.
struct RowFacts {
  double most = 0;  // the largest
  double sum = 0;   // of the finite ones
  std::int64_t finite = 0;
  bool is_bad = false;  // NaN or +infinity somewhere
};

struct Loops {
  std::int64_t (*panel_outputs)(Scalar scalar);
  // Tasks are panel + panels * row block. Scratch: product_scratch(p) values of the wide type.
  std::int64_t (*product_scratch)(const Product& p);
  void (*product)(const Product& p, std::int64_t first_task, std::int64_t last_task, void* scratch);
  // Few rows, each a dot product with every weight row: fastest when weights come from memory,
  // but bits depend on the number of rows. Outputs first to last.
  void (*few_rows)(const Product& p, std::int64_t first, std::int64_t last);

  std::int64_t (*attend_scratch)(const Attend& a, std::int64_t query_vectors, std::int64_t length);
  void (*attend)(const Attend& a, const AttendTask& task, void* scratch);

  void (*rms_norm)(const void* x, const void* weight, void* out, std::int64_t rows,
                   std::int64_t width, double epsilon, Scalar scalar);
  void (*silu_mul)(const void* gate_up, void* out, std::int64_t rows, std::int64_t inner,
                   Scalar scalar);
  // Rows of heads * head_dim values, x_stride apart; cosines and sines wide.
  void (*rotate)(const void* x, std::int64_t x_stride, const void* cosines, const void* sines,
                 void* out, std::int64_t tokens, std::int64_t heads, std::int64_t head_dim,
                 Scalar scalar);

  // For draws: float32 or float64 only.
  RowFacts (*row_facts)(const void* x, std::int64_t count, Scalar scalar);
  // Over the x that are at least `least`: the sum of exp(x - most), and of (x - most) exp(x -
  // most).
  void (*exp_sums)(const void* x, std::int64_t count, double most, double least, Scalar scalar,
                   double* sum, double* weighted);
  // z = (x - top) / temperature.
  void (*scale)(const void* x, void* z, std::int64_t count, double top, double temperature,
                Scalar scalar);
  // The first of the largest z + gumbel(key, index) among z at least `least`. Spoils `scores`.
  std::int64_t (*gumbel_argmax)(const void* z, void* scores, std::int64_t count, double least,
                                std::uint64_t key, Scalar scalar);
  std::int64_t (*first_equal)(const void* x, std::int64_t count, double value, Scalar scalar);
};

const Loops& loops_any();
const Loops& loops_avx2();
const Loops& loops_avx512();
// The widest that this processor runs.
const Loops& loops();

}  // namespace pensive::kernels
