#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>

#include "base/inside.h"
#include "kernels/cpu.h"
#include "kernels/noise.h"

namespace pensive::kernels {
namespace {

std::string shape_of(const at::Tensor& tensor) {
  return c10::str(tensor.sizes(), " ", c10::toString(tensor.scalar_type()));
}

void expect(bool holds, const char* expected, const at::Tensor& found, const char* where) {
  if (!holds) fail(ErrorCode::invalid_argument, expected, shape_of(found), where);
}

bool records_gradient(const at::Tensor& a, const at::Tensor& b, const at::Tensor& c = {}) {
  return c10::GradMode::is_enabled() &&
         (a.requires_grad() || b.requires_grad() || (c.defined() && c.requires_grad()));
}

void expect_angles(const at::Tensor& cosines, const at::Tensor& sines, std::int64_t tokens,
                   std::int64_t head_dim, const at::Tensor& x, const char* where) {
  for (const at::Tensor& table : {cosines, sines})
    expect(table.dim() == 2 && table.size(0) == tokens && table.size(1) * 2 == head_dim &&
               table.scalar_type() == wide_of(x),
           "cosines and sines [tokens, head_dim / 2] in float32 (float64 for float64)", table,
           where);
}

// Whether a product of all these rows is ours; if not, linear() checks what it is given.
bool takes_many_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                     std::int64_t out_width, Arithmetic arithmetic) {
  const bool fits = x.dim() == 2 && weight.dim() == 2 && x.size(1) == weight.size(1);
  const bool is_like = weight.scalar_type() == x.scalar_type() && weight.device() == x.device();
  const bool suits_bias = !bias.defined() || (bias.dim() == 1 && bias.size(0) == weight.size(0) &&
                                              bias.scalar_type() == x.scalar_type() &&
                                              bias.device() == x.device() && bias.is_contiguous());
  return x.is_cuda() && arithmetic == Arithmetic::fast && fits && is_like && suits_bias &&
         !records_gradient(x, weight, bias) && cuda::takes_many_rows(x, weight, out_width);
}

void expect_cache(const at::Tensor& rows, const at::Tensor& key_pages,
                  const at::Tensor& value_pages, const char* where) {
  expect(rows.dim() == 3, "rows [tokens, heads, head_dim]", rows, where);
  expect(key_pages.dim() == 4 && key_pages.is_contiguous() && key_pages.size(3) == rows.size(2) &&
             key_pages.scalar_type() == rows.scalar_type(),
         "key pages [pages, page_tokens, kv_heads, head_dim] of the rows' type", key_pages, where);
  expect(value_pages.sizes() == key_pages.sizes() && value_pages.is_contiguous() &&
             value_pages.scalar_type() == key_pages.scalar_type(),
         "value pages like the key pages", value_pages, where);
}

}  // namespace

Scalar scalar_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return Scalar::float32;
    case at::kBFloat16:
      return Scalar::bfloat16;
    case at::kHalf:
      return Scalar::float16;
    case at::kDouble:
      return Scalar::float64;
    default:
      break;
  }
  fail(ErrorCode::unsupported, "float32, bfloat16, float16 or float64", shape_of(tensor),
       "kernels");
}

at::ScalarType wide_of(const at::Tensor& tensor) {
  return tensor.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                  Arithmetic arithmetic) {
  expect(x.dim() == 2 && weight.dim() == 2 && x.size(1) == weight.size(1),
         "rows as wide as the weight", x, "linear");
  expect(weight.scalar_type() == x.scalar_type() && weight.device() == x.device(),
         "a weight of the rows' type, on their device", weight, "linear");
  if (bias.defined()) {
    expect(bias.dim() == 1 && bias.size(0) == weight.size(0) &&
               bias.scalar_type() == x.scalar_type() && bias.device() == x.device(),
           "a bias for each row of the weight, of their type, on their device", bias, "linear");
  }
  if (arithmetic == Arithmetic::row_invariant) {
    if (records_gradient(x, weight, bias)) return twin::linear_invariant(x, weight, bias);
    if (x.is_cuda()) return cuda::linear_invariant(x, weight, bias);
    return cpu::linear_invariant(x, weight, bias);
  }
  if (x.is_cpu() && !records_gradient(x, weight, bias) && cpu::takes_own_loops(x, weight)) {
    return cpu::linear_own(x, weight, bias);
  }
  return bias.defined() ? at::linear(x, weight, bias) : at::linear(x, weight);
}

at::Tensor linear_wide(const at::Tensor& x, const at::Tensor& weight, Arithmetic arithmetic) {
  const bool is_brief = weight.element_size() == 2 && weight.scalar_type() == x.scalar_type();
  const bool is_ours =
      x.is_cuda() || arithmetic == Arithmetic::row_invariant || cpu::takes_own_loops(x, weight);
  if (!is_brief || !is_ours || records_gradient(x, weight))
    return linear(x, weight, {}, arithmetic).to(wide_of(x));
  expect(x.dim() == 2 && weight.dim() == 2 && x.size(1) == weight.size(1),
         "rows as wide as the weight", x, "linear_wide");
  expect(weight.device() == x.device(), "a weight on the rows' device", weight, "linear_wide");
  if (x.is_cpu()) return cpu::linear_wide(x, weight, arithmetic);
  if (arithmetic == Arithmetic::row_invariant) return cuda::linear_invariant_wide(x, weight);
  return at::mm(x, weight.t(), at::kFloat);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon,
                    Arithmetic arithmetic) {
  const bool is_wide = x.is_cuda() && x.scalar_type() == at::kFloat && weight.element_size() == 2;
  expect(x.dim() >= 1 && weight.dim() == 1 && x.size(-1) == weight.size(0) &&
             (is_wide || weight.scalar_type() == x.scalar_type()),
         "rows as wide as the weight and of its type (on CUDA also float32)", x, "rms_norm");
  if (records_gradient(x, weight)) return twin::rms_norm(x, weight, epsilon);
  return x.is_cuda() ? cuda::rms_norm(x, weight, epsilon, arithmetic)
                     : cpu::rms_norm(x, weight, epsilon);
}

at::Tensor silu_mul(const at::Tensor& gate_up) {
  expect(gate_up.dim() == 2 && gate_up.size(1) % 2 == 0, "[rows, 2 * inner]", gate_up, "silu_mul");
  if (records_gradient(gate_up, gate_up)) return twin::silu_mul(gate_up);
  return gate_up.is_cuda() ? cuda::silu_mul(gate_up) : cpu::silu_mul(gate_up);
}

at::Tensor silu_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       Arithmetic arithmetic) {
  if (takes_many_rows(x, weight, bias, weight.size(0) / 2, arithmetic) && !bias.defined() &&
      weight.size(0) % 2 == 0)
    return cuda::silu_linear(x, weight);
  return silu_mul(linear(x, weight, bias, arithmetic));
}

Turned linear_rotated(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      const at::Tensor& cosines, const at::Tensor& sines, std::int64_t turned_heads,
                      Arithmetic arithmetic) {
  const std::int64_t head_dim = 2 * cosines.size(1), heads = weight.size(0) / head_dim;
  expect(weight.size(0) == heads * head_dim && turned_heads <= heads && turned_heads > 0,
         "a weight of whole heads, of which some are rotated", weight, "linear_rotated");
  const auto parts = [&](const at::Tensor& qkv) {
    return qkv.view({x.size(0), heads, head_dim})
        .split_with_sizes({turned_heads, heads - turned_heads}, 1);
  };
  if (takes_many_rows(x, weight, bias, weight.size(0), arithmetic) &&
      (head_dim == 64 || head_dim == 128)) {
    expect_angles(cosines, sines, x.size(0), head_dim, x, "linear_rotated");
    const auto both = parts(cuda::linear_rotated(x, weight, bias, cosines, sines, turned_heads));
    return {both[0], both[1]};
  }
  const auto both = parts(linear(x, weight, bias, arithmetic));
  return {rotate(both[0], cosines, sines), both[1]};
}

at::Tensor rotate(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines) {
  expect(x.dim() == 3 && x.size(2) % 2 == 0, "[tokens, heads, even head_dim]", x, "rotate");
  expect_angles(cosines, sines, x.size(0), x.size(2), x, "rotate");
  if (records_gradient(x, cosines)) return twin::rotate(x, cosines, sines);
  return x.is_cuda() ? cuda::rotate(x, cosines, sines) : cpu::rotate(x, cosines, sines);
}

void write_pages(const at::Tensor& keys, const at::Tensor& values, at::Tensor& key_pages,
                 at::Tensor& value_pages, const PagedBatch& batch) {
  expect_cache(keys, key_pages, value_pages, "write_pages");
  expect(key_pages.size(2) == keys.size(1), "as many key-value heads in the pages", key_pages,
         "write_pages");
  expect(values.sizes() == keys.sizes() && values.scalar_type() == keys.scalar_type(),
         "values like the keys", values, "write_pages");
  expect(batch.slots.dim() == 1 && batch.slots.size(0) == keys.size(0) &&
             batch.slots.scalar_type() == at::kLong,
         "an int64 slot for each row", batch.slots, "write_pages");
  if (keys.size(0) == 0) return;
  if (keys.is_cuda()) return cuda::write_pages(keys, values, key_pages, value_pages, batch);
  cpu::write_pages(keys, values, key_pages, value_pages, batch);
}

at::Tensor paged_attention(const at::Tensor& queries, const at::Tensor& key_pages,
                           const at::Tensor& value_pages, const PagedBatch& batch, double scale) {
  expect_cache(queries, key_pages, value_pages, "paged_attention");
  expect(key_pages.size(2) > 0 && queries.size(1) % key_pages.size(2) == 0,
         "query heads in whole groups over the key-value heads", queries, "paged_attention");
  expect(batch.tables.dim() == 2 && batch.tables.scalar_type() == at::kInt,
         "int32 tables [sequences, most_pages]", batch.tables, "paged_attention");
  int64_t sequences = batch.tables.size(0);
  expect(batch.starts.dim() == 1 && batch.starts.size(0) == sequences + 1 &&
             batch.starts.scalar_type() == at::kInt,
         "int32 starts [sequences + 1]", batch.starts, "paged_attention");
  expect(batch.lengths.dim() == 1 && batch.lengths.size(0) == sequences &&
             batch.lengths.scalar_type() == at::kInt,
         "int32 lengths [sequences]", batch.lengths, "paged_attention");
  if (queries.size(0) == 0) return at::empty_like(queries, at::MemoryFormat::Contiguous);
  if (queries.is_cuda())
    return cuda::paged_attention(queries, key_pages, value_pages, batch, scale);
  return cpu::paged_attention(queries, key_pages, value_pages, batch, scale);
}

std::vector<Drawn> draw(const at::Tensor& logits, const std::vector<DrawRow>& rows) {
  expect(logits.dim() == 2 && logits.size(0) == static_cast<int64_t>(rows.size()) &&
             logits.size(1) > 0 && logits.scalar_type() == wide_of(logits),
         "float32 or float64 logits [rows, vocab], a row for each wish", logits, "draw");
  int64_t vocab = logits.size(1);
  for (const DrawRow& row : rows) {
    require(std::isfinite(row.temperature) && row.temperature >= 0, ErrorCode::invalid_argument,
            "a temperature of at least 0", std::to_string(row.temperature), "draw");
    require(row.top_p > 0 && row.top_p <= 1, ErrorCode::invalid_argument,
            "a top_p above 0 and at most 1", std::to_string(row.top_p), "draw");
    require(row.top_k >= 0, ErrorCode::invalid_argument, "a top_k of at least 0",
            std::to_string(row.top_k), "draw");
    require(row.min_p >= 0 && row.min_p <= 1, ErrorCode::invalid_argument, "a min_p from 0 to 1",
            std::to_string(row.min_p), "draw");
    require(row.listed >= 0, ErrorCode::invalid_argument, "a listed of at least 0",
            std::to_string(row.listed), "draw");
    bool is_even = row.bias_tokens.size() == row.bias_logits.size();
    for (const auto* column :
         {&row.bias_times_max_minus_mean, &row.bias_repetitions, &row.bias_penalties})
      is_even = is_even && (column->empty() || column->size() == row.bias_tokens.size());
    require(is_even, ErrorCode::invalid_argument, "a logit for each biased token",
            std::to_string(row.bias_tokens.size()) + " tokens", "draw");
    for (float repetition : row.bias_repetitions)
      require(repetition > 0 && std::isfinite(repetition), ErrorCode::invalid_argument,
              "a repetition penalty above 0", std::to_string(repetition), "draw");
    for (const auto* tokens : {&row.bias_tokens, &row.watched}) {
      for (std::int32_t token : *tokens) {
        if (token < 0 || token >= vocab) {
          fail(ErrorCode::invalid_argument, fmt::format("tokens below {}", vocab),
               std::to_string(token), "draw");
        }
      }
    }
  }
  if (rows.empty()) return {};
  return logits.is_cuda() ? cuda::draw(logits, rows) : cpu::draw(logits, rows);
}

float gumbel(std::uint64_t key, std::uint32_t token) { return gumbel_of(key, token); }

std::uint64_t mix(std::uint64_t key, std::uint64_t value) {
  return scramble(scramble(key + 0x9E3779B97F4A7C15ull) ^ (value + 0x632BE59BD9B4E019ull));
}

}  // namespace pensive::kernels
