#include "kernels/packed.h"

#include <c10/core/GradMode.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/inside.h"
#include "kernels/cpu.h"
#include "kernels/upload.h"

namespace pensive::kernels {
namespace {

at::Tensor starts_of(const std::vector<std::int64_t>& counts, at::Device device) {
  std::vector<std::int32_t> starts(counts.size() + 1, 0);
  std::partial_sum(counts.begin(), counts.end(), starts.begin() + 1);
  return send(at::tensor(starts, at::kInt), device);
}

int longest_of(const std::vector<std::int64_t>& counts) {
  return counts.empty() ? 1 : static_cast<int>(*std::max_element(counts.begin(), counts.end()));
}

std::string sizes_of(const at::Tensor& x) { return c10::str(x.sizes(), " ", x.scalar_type()); }

void expect_packed(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                   const PackedBatch& batch) {
  const char* where = "packed_attention";
  require(queries.dim() == 3 && keys.dim() == 3 && keys.size(2) == queries.size(2) &&
              keys.size(1) > 0 && queries.size(1) % keys.size(1) == 0 &&
              keys.scalar_type() == queries.scalar_type(),
          ErrorCode::invalid_argument,
          "keys [rows, kv_heads, head_dim] like the queries, whose heads are whole groups",
          sizes_of(queries) + " queries, " + sizes_of(keys) + " keys", where);
  require(values.sizes() == keys.sizes() && values.scalar_type() == keys.scalar_type(),
          ErrorCode::invalid_argument, "values like the keys", sizes_of(values), where);
  require(batch.query_starts.scalar_type() == at::kInt &&
              batch.key_starts.scalar_type() == at::kInt && batch.query_starts.dim() == 1 &&
              batch.query_starts.sizes() == batch.key_starts.sizes(),
          ErrorCode::invalid_argument, "int32 starts, as many for queries and keys",
          sizes_of(batch.query_starts) + ", " + sizes_of(batch.key_starts), where);
}

// One sequence, in `exact`; queries [n, heads, dim], keys and values [m, kv_heads, dim].
at::Tensor attend(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
                  double scale) {
  const std::int64_t rows = queries.size(0), dim = queries.size(2), all = keys.size(0);
  const std::int64_t kv_heads = keys.size(1), group = queries.size(1) / kv_heads;
  const at::Tensor q = queries.transpose(0, 1).reshape({kv_heads, group, rows, dim});
  const at::Tensor k = keys.permute({1, 2, 0}).unsqueeze(1);  // [kv_heads, 1, dim, m]
  const at::Tensor v = values.transpose(0, 1).unsqueeze(1);   // [kv_heads, 1, m, dim]
  const at::Tensor scores = q.matmul(k) * scale;              // [kv_heads, group, n, m]
  const at::Tensor later =
      at::ones({rows, all}, scores.options().dtype(at::kBool)).triu(all - rows + 1);
  const at::Tensor shares =
      scores.masked_fill(later, -std::numeric_limits<double>::infinity()).softmax(-1);
  return shares.matmul(v).reshape({kv_heads * group, rows, dim}).transpose(0, 1);
}

void expect_logits(const at::Tensor& logits, const at::Tensor& tokens) {
  require(logits.dim() == 2 && logits.scalar_type() == wide_of(logits) && logits.is_contiguous() &&
              tokens.dim() == 1 && tokens.size(0) == logits.size(0) &&
              tokens.scalar_type() == at::kLong,
          ErrorCode::invalid_argument,
          "contiguous float32 or float64 logits [rows, vocab] and an int64 token for each row",
          sizes_of(logits) + ", " + sizes_of(tokens), "token_logprobs");
}

}  // namespace

PackedBatch pack(const std::vector<std::int64_t>& queries, const std::vector<std::int64_t>& keys,
                 at::Device device) {
  return {starts_of(queries, device), starts_of(keys, device), longest_of(queries),
          longest_of(keys)};
}

bool has_flash(const at::Tensor& queries) {
  const bool is_brief =
      queries.scalar_type() == at::kBFloat16 || queries.scalar_type() == at::kHalf;
  return queries.is_cuda() && is_brief && suits_flash(queries.size(-1)) &&
         cuda::capability(queries.device().index()).first >= 8;
}

at::Tensor packed_attention_slow(const at::Tensor& queries, const at::Tensor& keys,
                                 const at::Tensor& values, const PackedBatch& batch, double scale) {
  expect_packed(queries, keys, values, batch);
  const at::Tensor query_starts = batch.query_starts.cpu(), key_starts = batch.key_starts.cpu();
  const auto* from = query_starts.const_data_ptr<std::int32_t>();
  const auto* key_from = key_starts.const_data_ptr<std::int32_t>();
  const at::ScalarType exact = wide_of(queries);
  std::vector<at::Tensor> mixed;
  for (std::int64_t s = 0; s + 1 < query_starts.size(0); ++s) {
    const auto part = [&](const at::Tensor& x, const std::int32_t* starts) {
      return x.slice(0, starts[s], starts[s + 1]).to(exact);
    };
    mixed.push_back(attend(part(queries, from), part(keys, key_from), part(values, key_from), scale)
                        .to(queries.scalar_type()));
  }
  return mixed.empty() ? at::empty_like(queries) : at::cat(mixed);
}

at::Tensor packed_attention(const at::Tensor& queries, const at::Tensor& keys,
                            const at::Tensor& values, const PackedBatch& batch, double scale) {
  if (!has_flash(queries)) return packed_attention_slow(queries, keys, values, batch, scale);
  expect_packed(queries, keys, values, batch);
  const bool records = c10::GradMode::is_enabled() &&
                       (queries.requires_grad() || keys.requires_grad() || values.requires_grad());
  if (!records && cuda::takes_packed_attention(queries, keys, values))
    return cuda::packed_attention(queries, keys, values, batch, scale);
  // Rows of one query each would be taken for another case, whose backward differs.
  const std::int64_t longest = std::max(batch.longest_query, 2);
  return std::get<0>(at::_flash_attention_forward(
      queries, keys, values, batch.query_starts, batch.key_starts, longest, batch.longest_key,
      /*dropout_p=*/0.0, /*is_causal=*/true, /*return_debug_mask=*/false, scale));
}

TokenLogprobs token_logprobs(const at::Tensor& logits, const at::Tensor& tokens,
                             double temperature) {
  expect_logits(logits, tokens);
  if (logits.is_cuda() && logits.scalar_type() == at::kFloat)
    return cuda::token_logprobs(logits, tokens, temperature);
  const at::Tensor scaled = logits / temperature;
  const at::Tensor sums = scaled.logsumexp(-1);
  const at::Tensor all = scaled.sub_(sums.unsqueeze(1));
  const at::Tensor logprobs = all.gather(1, tokens.unsqueeze(1)).squeeze(1);
  // What cannot be drawn adds nothing: 0, not 0 times infinity.
  const at::Tensor finite = all.clamp_min(std::numeric_limits<float>::lowest());
  return {logprobs, -(all.exp() * finite).sum(-1), sums};
}

TokenLogprobs drawn_logprobs(const at::Tensor& logits, const at::Tensor& tokens,
                             double temperature) {
  expect_logits(logits, tokens);
  if (!logits.is_cuda()) return cpu::drawn_logprobs(logits, tokens, temperature);
  const TokenLogprobs found = cuda::drawn_logprobs(logits.to(at::kFloat), tokens, temperature);
  const at::ScalarType wide = logits.scalar_type();
  return {found.logprobs.to(wide), found.entropies.to(wide), found.sums.to(wide)};
}

at::Tensor token_logprobs_back(const at::Tensor& logits, const at::Tensor& tokens,
                               const TokenLogprobs& found, const at::Tensor& pulls,
                               double temperature, at::ScalarType scalar) {
  expect_logits(logits, tokens);
  if (logits.is_cuda() && logits.scalar_type() == at::kFloat)
    return cuda::token_logprobs_back(logits, tokens, found.sums, pulls, temperature, scalar);
  const at::Tensor each = (pulls / temperature).unsqueeze(1);
  at::Tensor gradient = (logits / temperature).sub_(found.sums.unsqueeze(1)).exp_().mul_(-each);
  gradient.scatter_add_(1, tokens.unsqueeze(1), each);
  return gradient.to(scalar);
}

at::Tensor add_linear(const at::Tensor& x, const at::Tensor& y, const at::Tensor& weight,
                      const at::Tensor& bias, Arithmetic arithmetic) {
  if (x.is_cuda() && arithmetic == Arithmetic::fast && !bias.defined()) {
    if (x.scalar_type() == y.scalar_type()) return at::addmm(x, y, weight.t());
    const bool records = c10::GradMode::is_enabled() && (x.requires_grad() || y.requires_grad());
    return records ? twin::add_product(x, y, weight) : at::addmm(x, y, weight.t(), x.scalar_type());
  }
  return x + linear(y, weight, bias, arithmetic);
}

}  // namespace pensive::kernels
