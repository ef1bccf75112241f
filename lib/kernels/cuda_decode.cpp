#include <c10/core/DeviceGuard.h>

#include <algorithm>
#include <utility>

#include "base/inside.h"
#include "kernels/cpu.h"
#include "kernels/decode.h"
#include "kernels/parcel.h"

namespace pensive::kernels {
namespace {

constexpr std::int64_t least_bytes = 1 << 16;

const void* pointer(const at::Tensor& x) { return x.defined() ? x.const_data_ptr() : nullptr; }

// A block on the card with its twin in pinned memory; grows, and then stands elsewhere.
struct Block {
  at::Tensor card, host;

  void reserve(std::int64_t bytes, at::Device device) {
    if (card.defined() && card.numel() >= bytes) return;
    const std::int64_t size = std::max(least_bytes, 2 * bytes);
    // Both or none: where memory ends between them, the block stays as it was.
    at::Tensor larger = at::zeros({size}, at::dtype(at::kByte).device(device));
    host = at::empty({size}, at::dtype(at::kByte).pinned_memory(true));
    card = std::move(larger);
  }
  std::byte* on_card() const { return static_cast<std::byte*>(card.mutable_data_ptr()); }
  std::byte* on_host() const { return static_cast<std::byte*>(host.mutable_data_ptr()); }
};

// Few sizes, so that few graphs are captured.
int padded(int rows, int most) {
  int size = 1;
  while (size < rows) size *= 2;
  return std::min(size, most);
}

}  // namespace

struct DecodeSteps::Parts {
  DecodeModel model;
  at::Device device = at::kCPU;
  int most_rows = 0, captures = 0;
  std::int64_t vocab = 0, page_tokens = 0;
  void* decoder = nullptr;
  Block step, results;
  at::Tensor workspace;
  cuda::Parcel sent, back;
  std::size_t rows_at = 0, tables_at = 0;  // in `sent`

  Parts() = default;
  Parts(const Parts&) = delete;
  Parts& operator=(const Parts&) = delete;
  ~Parts();
  CudaModel describe(const std::vector<CudaLayer>& layers) const;
  cuda::DrawParcel pack(std::span<const DecodeRow> rows, const std::vector<DrawRow>& wishes);
  void reserve(int size, int longest);
};

DecodeSteps::Parts::~Parts() {
  if (can_free(device)) {
    const c10::DeviceGuard guard(device);
    if (decoder) cuda::table().free_decoder(decoder);
    return;
  }
  for (at::Tensor* tensor : {&step.card, &step.host, &results.card, &results.host, &workspace})
    static_cast<void>(tensor->unsafeReleaseTensorImpl());
}

CudaModel DecodeSteps::Parts::describe(const std::vector<CudaLayer>& layers) const {
  const DecodeLayer& first = model.layers.front();
  const auto size = [](const at::Tensor& x, std::int64_t dimension) {
    return static_cast<std::int32_t>(x.size(dimension));
  };
  CudaModel made{};
  made.layers = static_cast<std::int32_t>(layers.size());
  made.width = size(model.head, 1);
  made.inner = size(first.down, 1);
  made.heads = model.heads;
  made.kv_heads = size(first.key_pages, 2);
  made.head_dim = size(first.key_pages, 3);
  made.vocab = size(model.head, 0);
  made.page_tokens = size(first.key_pages, 1);
  made.most_rows = most_rows;
  made.scalar = scalar_of(model.head);
  made.epsilon = model.epsilon;
  made.cosines = model.cosines.const_data_ptr<float>();
  made.sines = model.sines.const_data_ptr<float>();
  made.final_norm = pointer(model.final_norm);
  made.head = pointer(model.head);
  made.host_layers = layers.data();
  return made;
}

// Everything the card needs to know of the step. Where its pointers point is known once the block
// is there.
cuda::DrawParcel DecodeSteps::Parts::pack(std::span<const DecodeRow> rows,
                                          const std::vector<DrawRow>& wishes) {
  // As many in every step, so that what follows always stands at the same place.
  std::vector<CudaRow> described(static_cast<std::size_t>(most_rows), CudaRow{nullptr, -1, 0});
  std::vector<std::int32_t> tables;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    described[i] = {rows[i].embedding, rows[i].position, static_cast<std::int32_t>(tables.size())};
    const auto pages = static_cast<std::ptrdiff_t>(rows[i].position / page_tokens + 1);
    tables.insert(tables.end(), rows[i].pages.begin(), rows[i].pages.begin() + pages);
  }
  sent.clear();
  back.clear();
  const std::size_t draw_at = sent.add_room<CudaDraw>(1);
  rows_at = sent.add(described);
  tables_at = sent.add(tables);
  cuda::DrawParcel draws(wishes, static_cast<std::size_t>(vocab), sent, back);

  step.reserve(static_cast<std::int64_t>(sent.size()), device);
  results.reserve(static_cast<std::int64_t>(back.size()), device);
  sent.put(draw_at, draws.call(step.on_card(), results.on_card()));
  std::memcpy(step.on_host(), sent.data(), sent.size());
  return draws;
}

void DecodeSteps::Parts::reserve(int size, int longest) {
  const std::int64_t bytes = cuda::table().workspace_bytes(decoder, size, longest);
  if (workspace.defined() && workspace.numel() >= bytes) return;
  workspace.reset();
  workspace = at::zeros({bytes}, at::dtype(at::kByte).device(device));
}

DecodeSteps::DecodeSteps(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}
DecodeSteps::~DecodeSteps() = default;
int DecodeSteps::most_rows() const noexcept { return parts_->most_rows; }
int DecodeSteps::captures() const noexcept { return parts_->captures; }

std::unique_ptr<DecodeSteps> DecodeSteps::make(DecodeModel model, int most_rows) {
  const at::Tensor& head = model.head;
  if (!head.is_cuda() || head.scalar_type() == at::kDouble || model.layers.empty()) return nullptr;
  const DecodeLayer& first = model.layers.front();
  const std::int64_t pack = 16 / static_cast<std::int64_t>(head.element_size());
  const std::int64_t head_dim = first.key_pages.size(3);
  for (const std::int64_t size : {head.size(1), first.down.size(1), head_dim})
    if (size % pack != 0) return nullptr;
  if (head_dim > most_cuda_head_dim) return nullptr;

  auto parts = std::make_unique<Parts>();
  parts->device = head.device();
  parts->most_rows = most_rows;
  parts->vocab = head.size(0);
  parts->page_tokens = first.key_pages.size(1);
  parts->model = std::move(model);
  std::vector<CudaLayer> layers;
  for (const DecodeLayer& layer : parts->model.layers)
    layers.push_back({pointer(layer.attention_norm), pointer(layer.qkv), pointer(layer.qkv_bias),
                      pointer(layer.query_norm), pointer(layer.key_norm), pointer(layer.output),
                      pointer(layer.output_bias), pointer(layer.mlp_norm), pointer(layer.gate_up),
                      pointer(layer.gate_up_bias), pointer(layer.down), pointer(layer.down_bias),
                      layer.key_pages.mutable_data_ptr(), layer.value_pages.mutable_data_ptr()});
  const c10::DeviceGuard guard(parts->device);
  cuda::check(
      cuda::table().make_decoder(parts->describe(layers), parts->device.index(), &parts->decoder),
      "decode");
  return std::unique_ptr<DecodeSteps>(new DecodeSteps(std::move(parts)));
}

std::vector<Drawn> DecodeSteps::run(std::span<const DecodeRow> rows,
                                    const std::vector<DrawRow>& wishes) {
  Parts& parts = *parts_;
  const int count = static_cast<int>(rows.size());
  require(count > 0 && count <= parts.most_rows && wishes.size() == rows.size(),
          ErrorCode::internal, fmt::format("1 to {} rows, a wish for each", parts.most_rows),
          fmt::format("{} rows, {} wishes", rows.size(), wishes.size()), "decode");
  const c10::DeviceGuard guard(parts.device);
  const int size = padded(count, parts.most_rows);
  int longest = 1;
  for (const DecodeRow& row : rows) longest = std::max(longest, row.position + 1);
  const cuda::DrawParcel draws = parts.pack(rows, wishes);
  parts.reserve(size, longest);

  CudaDecodeCall call{};
  call.rows = size;
  call.longest = longest;
  call.step = parts.step.on_card();
  call.draw = reinterpret_cast<const CudaDraw*>(parts.step.on_card());
  call.card_rows = reinterpret_cast<const CudaRow*>(parts.step.on_card() + parts.rows_at);
  call.tables = reinterpret_cast<const std::int32_t*>(parts.step.on_card() + parts.tables_at);
  call.host_step = parts.step.on_host();
  call.step_bytes = static_cast<std::int64_t>(parts.sent.size());
  call.workspace = parts.workspace.mutable_data_ptr();
  call.workspace_bytes = parts.workspace.numel();
  call.results = parts.results.on_card();
  call.host_results = parts.results.on_host();
  call.result_bytes = static_cast<std::int64_t>(parts.back.size());
  std::int32_t captured = 0;
  const CudaTable& calls = cuda::table();
  cuda::check(
      calls.decode(parts.decoder, call, calls.current_stream(parts.device.index()), &captured),
      "decode");
  parts.captures += captured;
  return draws.unpack(parts.results.on_host());
}

}  // namespace pensive::kernels
