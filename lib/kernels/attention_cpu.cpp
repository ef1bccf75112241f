#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "base/inside.h"
#include "kernels/cpu.h"
#include "kernels/loops.h"

namespace pensive::kernels::cpu {
namespace {

// Enough query rows a task that turning the keys pays, few enough that scores stay in the cache.
constexpr int64_t most_scores = 131072;
constexpr int64_t most_rows = 64;
constexpr int64_t little_work = 65536;  // multiply-adds not worth waking a thread for

struct Plan {
  std::vector<AttendTask> tasks;
  int64_t scratch = 0;  // values of the wide type
  int64_t work = 0;     // multiply-adds in all
};

Plan plan(const Attend& a, int64_t sequences) {
  Plan plan;
  int64_t group = a.heads / a.kv_heads;
  for (int32_t s = 0; s < sequences; ++s) {
    int32_t rows = a.starts[s + 1] - a.starts[s];
    int64_t length = a.lengths[s];
    require(rows >= 0 && rows <= length && length <= a.most_pages * a.page_tokens,
            ErrorCode::internal, "as many positions as query rows, and pages for them",
            fmt::format("{} rows, {} positions", rows, length), "paged_attention");
    int64_t at_once = std::clamp<int64_t>(most_scores / (group * length + 1), 1, most_rows);
    for (int32_t head = 0; head < a.kv_heads; ++head) {
      for (int32_t row = 0; row < rows; row += static_cast<int32_t>(at_once)) {
        auto here = static_cast<int32_t>(std::min<int64_t>(at_once, rows - row));
        plan.tasks.push_back({s, head, row, here});
        plan.scratch = std::max(plan.scratch, loops().attend_scratch(a, here * group, length));
        plan.work += (here * group + 4) * length * a.head_dim * 2;
      }
    }
  }
  return plan;
}

}  // namespace

at::Tensor paged_attention(const at::Tensor& queries, const at::Tensor& key_pages,
                           const at::Tensor& value_pages, const PagedBatch& batch, double scale) {
  bool holds = queries.stride(2) == 1 && queries.stride(1) == queries.size(2);
  at::Tensor from = holds ? queries : queries.contiguous();
  at::Tensor tables = batch.tables.contiguous(), starts = batch.starts.contiguous();
  at::Tensor lengths = batch.lengths.contiguous();
  at::Tensor out = at::empty(queries.sizes(), queries.options());
  Attend a{from.const_data_ptr(),
           from.stride(0),
           key_pages.const_data_ptr(),
           value_pages.const_data_ptr(),
           out.mutable_data_ptr(),
           tables.const_data_ptr<int32_t>(),
           starts.const_data_ptr<int32_t>(),
           lengths.const_data_ptr<int32_t>(),
           tables.size(1),
           static_cast<int32_t>(queries.size(1)),
           static_cast<int32_t>(key_pages.size(2)),
           static_cast<int32_t>(queries.size(2)),
           static_cast<int32_t>(key_pages.size(1)),
           scale,
           scalar_of(queries)};
  Plan todo = plan(a, tables.size(0));
  auto tasks = static_cast<int64_t>(todo.tasks.size());
  int64_t grain = tasks * little_work / (todo.work + 1) + 1;
  at::parallel_for(0, tasks, grain, [&](int64_t first, int64_t last) {
    at::Tensor scratch = at::empty({todo.scratch}, at::TensorOptions(wide_of(queries)));
    for (int64_t i = first; i < last; ++i) {
      loops().attend(a, todo.tasks[i], scratch.mutable_data_ptr());
    }
  });
  return out;
}

}  // namespace pensive::kernels::cpu
