#include <c10/core/DeviceGuard.h>

#include <algorithm>
#include <array>
#include <deque>
#include <utility>

#include "base/inside.h"
#include "kernels/cpu.h"
#include "kernels/decode.h"
#include "kernels/describe.h"
#include "kernels/parcel.h"

namespace pensive::kernels {
namespace {

constexpr std::int64_t least_bytes = 1 << 16;

// A block on the card with its twins in pinned memory, one for each step that can be in flight.
// Grows, and then stands elsewhere.
struct Block {
  at::Tensor card;
  std::array<at::Tensor, 2> hosts;

  bool holds(std::size_t bytes) const {
    return card.defined() && card.numel() >= static_cast<std::int64_t>(bytes);
  }
  void reserve(std::size_t bytes, at::Device device) {
    if (holds(bytes)) return;
    const std::int64_t size = std::max(least_bytes, 2 * static_cast<std::int64_t>(bytes));
    // All or none: where memory ends between them, the block stays as it was.
    at::Tensor larger = at::zeros({size}, at::dtype(at::kByte).device(device));
    std::array<at::Tensor, 2> pinned;
    for (at::Tensor& one : pinned)
      one = at::empty({size}, at::dtype(at::kByte).pinned_memory(true));
    hosts = std::move(pinned);
    card = std::move(larger);
  }
  std::byte* on_card() const { return static_cast<std::byte*>(card.mutable_data_ptr()); }
  std::byte* on_host(int flight) const {
    return static_cast<std::byte*>(hosts[static_cast<std::size_t>(flight)].mutable_data_ptr());
  }
};

// Few sizes, so that few graphs are captured.
int padded(int rows, int most) {
  int size = 1;
  while (size < rows) size *= 2;
  return std::min(size, most);
}

class CudaSteps final : public DecodeSteps {
 public:
  CudaSteps(DecodeModel model, int most_rows);
  ~CudaSteps() override;

  bool launch(std::span<const DecodeRow> rows, const std::vector<DrawRow>& wishes) override;
  std::vector<Drawn> wait() override;
  void forget() override { flying_.clear(); }
  void settle() override;
  int most_rows() const noexcept override { return most_rows_; }
  int captures() const noexcept override { return captures_; }

 private:
  struct Flight {
    int number = 0;  // 0 or 1
    cuda::DrawParcel draws;
  };
  cuda::DrawParcel pack(std::span<const DecodeRow> rows, const std::vector<DrawRow>& wishes);
  bool make_room(std::int64_t workspace_bytes);
  CudaDecodeCall call(int rows, int longest, int flight) const;
  void await(int flight) const;

  DecodeModel model_;
  at::Device device_;
  int most_rows_, captures_ = 0;
  std::int64_t vocab_, page_tokens_;
  void* decoder_;
  void* stream_ = nullptr;     // of the last launch
  std::deque<Flight> flying_;  // not waited for
  int next_ = 0;               // the number of the next
  Block step_, results_;
  at::Tensor workspace_;
  cuda::Parcel sent_, back_;
  std::size_t draw_at_ = 0, rows_at_ = 0, tables_at_ = 0;  // in `sent_`
};

CudaSteps::CudaSteps(DecodeModel model, int most_rows)
    : model_(std::move(model)),
      device_(model_.head.device()),
      most_rows_(most_rows),
      vocab_(model_.head.size(0)),
      page_tokens_(model_.layers.front().key_pages.size(1)),
      decoder_(cuda::make_decoder(model_, most_rows)) {}

CudaSteps::~CudaSteps() {
  if (can_free(device_)) {
    const c10::DeviceGuard guard(device_);
    // What is in flight reads and writes what is about to be freed; an error there is too late.
    for (const int flight : {0, 1}) cuda::table().await_decode(decoder_, flight);
    cuda::table().free_decoder(decoder_);
    return;
  }
  for (Block* block : {&step_, &results_}) {
    static_cast<void>(block->card.unsafeReleaseTensorImpl());
    for (at::Tensor& host : block->hosts) static_cast<void>(host.unsafeReleaseTensorImpl());
  }
  static_cast<void>(workspace_.unsafeReleaseTensorImpl());
}

// Everything the card needs to know of the step but for where the blocks are.
cuda::DrawParcel CudaSteps::pack(std::span<const DecodeRow> rows,
                                 const std::vector<DrawRow>& wishes) {
  // As many in every step, so that what follows always stands at the same place.
  std::vector<CudaRow> described(static_cast<std::size_t>(most_rows_),
                                 CudaRow{nullptr, -1, 0, -1, 0});
  std::vector<std::int32_t> tables;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    described[i] = {rows[i].embedding, rows[i].position, static_cast<std::int32_t>(tables.size()),
                    rows[i].drawn, 0};
    const auto pages = static_cast<std::ptrdiff_t>(rows[i].position / page_tokens_ + 1);
    tables.insert(tables.end(), rows[i].pages.begin(), rows[i].pages.begin() + pages);
  }
  sent_.clear();
  back_.clear();
  draw_at_ = sent_.add_room<CudaDraw>(1);
  rows_at_ = sent_.add(described);
  tables_at_ = sent_.add(tables);
  return {wishes, static_cast<std::size_t>(vocab_), sent_, back_};
}

// False where something would have to move that a step in flight uses.
bool CudaSteps::make_room(std::int64_t workspace_bytes) {
  const bool has_workspace = workspace_.defined() && workspace_.numel() >= workspace_bytes;
  if (has_workspace && step_.holds(sent_.size()) && results_.holds(back_.size())) return true;
  if (!flying_.empty()) return false;
  for (const int flight : {0, 1}) await(flight);  // what was forgotten
  step_.reserve(sent_.size(), device_);
  results_.reserve(back_.size(), device_);
  if (has_workspace) return true;
  workspace_.reset();
  workspace_ = at::zeros({workspace_bytes}, at::dtype(at::kByte).device(device_));
  return true;
}

CudaDecodeCall CudaSteps::call(int rows, int longest, int flight) const {
  CudaDecodeCall call{};
  call.rows = rows;
  call.longest = longest;
  call.step = step_.on_card();
  call.draw = reinterpret_cast<const CudaDraw*>(step_.on_card() + draw_at_);
  call.card_rows = reinterpret_cast<const CudaRow*>(step_.on_card() + rows_at_);
  call.tables = reinterpret_cast<const std::int32_t*>(step_.on_card() + tables_at_);
  call.host_step = step_.on_host(flight);
  call.step_bytes = static_cast<std::int64_t>(sent_.size());
  call.workspace = workspace_.mutable_data_ptr();
  call.workspace_bytes = workspace_.numel();
  call.results = results_.on_card();
  call.host_results = results_.on_host(flight);
  call.result_bytes = static_cast<std::int64_t>(back_.size());
  call.flight = flight;
  return call;
}

bool CudaSteps::launch(std::span<const DecodeRow> rows, const std::vector<DrawRow>& wishes) {
  const int count = static_cast<int>(rows.size());
  require(count > 0 && count <= most_rows_ && wishes.size() == rows.size(), ErrorCode::internal,
          fmt::format("1 to {} rows, a wish for each", most_rows_),
          fmt::format("{} rows, {} wishes", rows.size(), wishes.size()), "decode");
  require(flying_.size() < 2, ErrorCode::internal, "at most two steps in flight", "a third",
          "decode");
  const c10::DeviceGuard guard(device_);
  const CudaTable& calls = cuda::table();
  const int size = padded(count, most_rows_);
  int longest = 1;
  for (const DecodeRow& row : rows) longest = std::max(longest, row.position + 1);
  cuda::DrawParcel draws = pack(rows, wishes);
  if (!make_room(calls.workspace_bytes(decoder_, size, longest))) return false;
  settle();
  await(next_);  // its block in pinned memory may still be read for one that was forgotten
  CudaDraw draw = draws.call(step_.on_card(), results_.on_card());
  draw.results = results_.on_card();
  draw.host_results = results_.on_host(next_);
  draw.result_bytes = static_cast<std::int64_t>(back_.size());
  sent_.put(draw_at_, draw);
  std::memcpy(step_.on_host(next_), sent_.data(), sent_.size());

  std::int32_t captured = 0;
  stream_ = calls.current_stream(device_.index());
  cuda::check(calls.decode(decoder_, call(size, longest, next_), stream_, &captured), "decode");
  captures_ += captured;
  flying_.push_back({next_, std::move(draws)});
  next_ = 1 - next_;
  return true;
}

std::vector<Drawn> CudaSteps::wait() {
  require(!flying_.empty(), ErrorCode::internal, "a step in flight", "none", "decode");
  const Flight first = std::move(flying_.front());
  flying_.pop_front();
  await(first.number);
  return first.draws.unpack(results_.on_host(first.number));
}

void CudaSteps::settle() {
  const c10::DeviceGuard guard(device_);
  if (stream_ == cuda::table().current_stream(device_.index())) return;
  for (const int flight : {0, 1}) await(flight);
}

void CudaSteps::await(int flight) const {
  cuda::check(cuda::table().await_decode(decoder_, flight), "decode");
}

}  // namespace

std::unique_ptr<DecodeSteps> DecodeSteps::make(DecodeModel model, int most_rows) {
  if (!cuda::takes_steps(model)) return nullptr;
  return std::make_unique<CudaSteps>(std::move(model), most_rows);
}

}  // namespace pensive::kernels
