#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <utility>

#include "base/inside.h"
#include "kernels/cpu.h"
#include "kernels/describe.h"
#include "kernels/forward.h"
#include "kernels/parcel.h"
#include "kernels/upload.h"

namespace pensive::kernels {
namespace {

class CudaRows final : public RowForward {
 public:
  explicit CudaRows(DecodeModel model)
      : model_(std::move(model)), decoder_(cuda::make_decoder(model_, most_rows)) {}
  ~CudaRows() override;
  at::Tensor forward(std::span<const DecodeRow> rows, const at::Tensor& inputs) override;

 private:
  void settle();
  void make_room(int longest);
  void launch(std::span<const DecodeRow> rows, const at::Tensor& hidden, const at::Tensor& inputs);

  DecodeModel model_;
  void* decoder_;
  void* stream_ = nullptr;  // of the last launch
  at::Tensor workspace_;    // grows; bytes, zero at first
  cuda::Parcel sent_;
};

CudaRows::~CudaRows() {
  if (can_free(model_.head.device())) {
    const c10::DeviceGuard guard(model_.head.device());
    cuda::table().free_decoder(decoder_);
    return;
  }
  static_cast<void>(workspace_.unsafeReleaseTensorImpl());
}

at::Tensor CudaRows::forward(std::span<const DecodeRow> rows, const at::Tensor& inputs) {
  const c10::DeviceGuard guard(model_.head.device());
  const auto count = static_cast<std::int64_t>(rows.size()), width = model_.head.size(1);
  require(!inputs.defined() ||
              (inputs.dim() == 3 && inputs.size(0) == std::ssize(model_.layers) + 1 &&
               inputs.size(1) == count && inputs.size(2) == width &&
               inputs.scalar_type() == at::kFloat && inputs.device() == model_.head.device() &&
               inputs.stride(1) == width && inputs.stride(2) == 1),
          ErrorCode::internal, "float32 inputs [layers + 1, rows, width], rows together",
          inputs.defined() ? c10::str(inputs.sizes(), " ", inputs.scalar_type()) : "none",
          "forward");
  settle();
  at::Tensor hidden = at::empty({count, width}, model_.head.options());
  for (std::size_t first = 0; first < rows.size(); first += most_rows) {
    const std::size_t here = std::min<std::size_t>(most_rows, rows.size() - first);
    const auto from = static_cast<std::int64_t>(first), size = static_cast<std::int64_t>(here);
    launch(rows.subspan(first, here), hidden.narrow(0, from, size),
           inputs.defined() ? inputs.narrow(1, from, size) : inputs);
  }
  return hidden;
}

// What other streams still do comes first; and the workspace is given back to the stream it is of.
void CudaRows::settle() {
  const at::Device device = model_.head.device();
  void* const stream = cuda::table().current_stream(device.index());
  if (std::exchange(stream_, stream) == stream || !workspace_.defined()) return;
  c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
  workspace_.reset();
}

// Always for all rows, so that it grows with the splits of the longest alone.
void CudaRows::make_room(int longest) {
  const std::int64_t bytes = cuda::table().forward_bytes(decoder_, most_rows, longest);
  if (workspace_.defined() && workspace_.numel() >= bytes) return;
  workspace_.reset();
  workspace_ = at::zeros({bytes}, at::dtype(at::kByte).device(model_.head.device()));
}

void CudaRows::launch(std::span<const DecodeRow> rows, const at::Tensor& hidden,
                      const at::Tensor& inputs) {
  const at::Device device = model_.head.device();
  const std::int64_t page_tokens = model_.layers.front().key_pages.size(1);
  const CudaTable& calls = cuda::table();
  std::vector<CudaRow> described;
  std::vector<std::int32_t> tables;
  int longest = 1;
  const int* before = nullptr;
  std::int32_t at = 0;
  for (const DecodeRow& row : rows) {
    // Rows of one sequence share its table, which the last of them needs the most of.
    if (row.pages.data() != before) {
      at = static_cast<std::int32_t>(tables.size());
      tables.insert(tables.end(), row.pages.begin(), row.pages.end());
      before = row.pages.data();
    }
    require(row.drawn < 0 && row.position / page_tokens < std::ssize(row.pages),
            ErrorCode::internal, "an embedding, and pages as far as its position, for each row",
            fmt::format("position {}, {} pages", row.position, row.pages.size()), "forward");
    described.push_back({row.embedding, row.position, at, -1, 0});
    longest = std::max(longest, row.position + 1);
  }
  sent_.clear();
  const std::size_t rows_at = sent_.add(described), tables_at = sent_.add(tables);
  const at::Tensor block =
      send(at::from_blob(sent_.data(), {static_cast<std::int64_t>(sent_.size())},
                         at::TensorOptions(at::kByte)),
           device);
  const auto count = static_cast<std::int32_t>(rows.size());
  make_room(longest);
  const auto* on_card = static_cast<const std::byte*>(block.const_data_ptr());
  CudaForward call{};
  call.rows = count;
  call.longest = longest;
  call.card_rows = reinterpret_cast<const CudaRow*>(on_card + rows_at);
  call.tables = reinterpret_cast<const std::int32_t*>(on_card + tables_at);
  call.workspace = workspace_.mutable_data_ptr();
  call.workspace_bytes = workspace_.numel();
  call.hidden = hidden.mutable_data_ptr();
  if (inputs.defined()) {
    call.inputs = inputs.mutable_data_ptr<float>();
    call.inputs_stride = inputs.stride(0);
  }
  cuda::check(calls.forward(decoder_, call, stream_), "forward");
}

}  // namespace

std::unique_ptr<RowForward> RowForward::make(DecodeModel model) {
  require(model.arithmetic == Arithmetic::row_invariant, ErrorCode::internal,
          "row-invariant arithmetic", "fast", "forward");
  if (!cuda::takes_steps(model)) return nullptr;
  return std::make_unique<CudaRows>(std::move(model));
}

}  // namespace pensive::kernels
