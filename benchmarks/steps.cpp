#include "steps.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace pensive::bench {
namespace {

using Clock = std::chrono::steady_clock;
using namespace kernels;

constexpr int page_tokens = 16;
constexpr double spare_bytes = 3e9;  // workspace and what the driver keeps

void check(int error, std::string_view what) {
  if (error != 0) throw std::runtime_error(fmt::format("{}: CUDA error {}", what, error));
}

std::uint16_t bfloat(float x) {
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(x) >> 16);
}

}  // namespace

// What one step is given and where it answers.
struct Steps::Inputs {
  const Runtime& calls;
  void *host = nullptr, *card = nullptr, *answers = nullptr, *host_answers = nullptr;
  void* workspace = nullptr;
  std::size_t used = sizeof(CudaDraw);
  CudaDecodeCall call{};

  static constexpr std::size_t answer_bytes = 1 << 16;
  static constexpr std::size_t count_bytes(int batch) {  // of answers: four parts, 16 for each row
    return static_cast<std::size_t>(batch) * 64;
  }

  Inputs(const Steps& steps, void* decoder, int batch, int context) : calls(steps.calls_) {
    const int pages = (context + page_tokens - 1) / page_tokens;
    const std::size_t most = static_cast<std::size_t>(batch) * (4u * pages + 256u) + (1u << 16);
    check(calls.allocate_host(&host, most), "the step's inputs");
    check(calls.allocate(&card, most), "the step's inputs");
    check(calls.allocate(&answers, answer_bytes), "the step's answers");
    check(calls.allocate_host(&host_answers, answer_bytes), "the step's answers");
    std::vector<CudaRow> rows(most_batch, CudaRow{nullptr, -1, 0, -1, 0});
    std::vector<std::int32_t> tables;
    for (int i = 0; i < batch; ++i) {
      const auto* embedding = static_cast<const std::uint16_t*>(steps.embeddings_) +
                              std::int64_t{i} * steps.shape_.width;
      rows[static_cast<std::size_t>(i)] = {embedding, context - 1,
                                           static_cast<std::int32_t>(tables.size()), -1, 0};
      for (int page = 0; page < pages; ++page) tables.push_back(i * pages + page);
    }
    call.card_rows = put(rows);
    call.tables = put(tables);
    const CudaDraw draw = wishes(batch, steps.shape_.vocab);
    std::memcpy(host, &draw, sizeof draw);
    call.rows = batch;
    call.longest = context;
    call.step = card;
    call.draw = static_cast<const CudaDraw*>(card);
    call.host_step = host;
    call.step_bytes = static_cast<std::int64_t>(used);
    call.workspace_bytes = steps.table_->workspace_bytes(decoder, batch, context);
    check(calls.allocate(&workspace, static_cast<std::size_t>(call.workspace_bytes)), "workspace");
    check(calls.set(workspace, 0, static_cast<std::size_t>(call.workspace_bytes)), "workspace");
    call.workspace = workspace;
    call.results = answers;
    call.host_results = host_answers;
    call.result_bytes = static_cast<std::int64_t>(count_bytes(batch));
  }
  ~Inputs() {
    for (void* block : {card, answers, workspace}) calls.release(block);
    for (void* block : {host, host_answers}) calls.release_host(block);
  }
  Inputs(const Inputs&) = delete;
  Inputs& operator=(const Inputs&) = delete;

  // Behind what is there already; -> where it will stand on the card.
  template <class T>
  const T* put(const std::vector<T>& values) {
    used = (used + 15) / 16 * 16;
    const std::size_t at = used;
    std::memcpy(static_cast<std::byte*>(host) + at, values.data(), values.size() * sizeof(T));
    used += values.size() * sizeof(T);
    return reinterpret_cast<const T*>(static_cast<std::byte*>(card) + at);
  }

  // Temperature 1, nothing cut or steered.
  CudaDraw wishes(int batch, int vocab) {
    const auto count = static_cast<std::size_t>(batch);
    const std::vector<float> ones(count, 1.0f);
    const std::vector<float> nothing(count, -std::numeric_limits<float>::infinity());
    const std::vector<std::int32_t> zeros(count + 1, 0), none(count, -1);
    std::vector<std::uint64_t> keys(count);
    for (std::size_t i = 0; i < count; ++i) keys[i] = 77 + i;
    CudaDraw draw{};
    draw.rows = batch;
    draw.vocab = vocab;
    draw.temperatures = put(ones);
    draw.top_ps = put(ones);
    draw.min_zs = put(nothing);
    draw.top_ks = put(zeros);
    draw.keys = put(keys);
    draw.bias_starts = draw.watch_starts = draw.list_starts = put(zeros);
    draw.mask_rows = put(none);
    auto* out = static_cast<std::byte*>(answers);
    const auto part = [&](std::size_t index) { return out + index * count * 16; };
    draw.tokens = reinterpret_cast<std::int32_t*>(part(0));
    draw.top_tokens = reinterpret_cast<std::int32_t*>(part(1));
    draw.is_finite = reinterpret_cast<std::int32_t*>(part(2));
    draw.logprobs = reinterpret_cast<float*>(part(3));
    draw.results = answers;
    draw.host_results = host_answers;
    draw.result_bytes = static_cast<std::int64_t>(count_bytes(batch));
    return draw;
  }
};

Steps::Steps(const Shape& shape) : shape_(shape) {
  void* library = dlopen("libpensive-cuda.so", RTLD_NOW | RTLD_NOLOAD);
  void* opener = library ? dlsym(library, "pensive_cuda_table") : nullptr;
  if (!opener || !calls_.is_there()) throw std::runtime_error("steps are timed on a CUDA card");
  table_ = reinterpret_cast<CudaTableFunction>(opener)();
  const std::int64_t width = shape.width, inner = shape.inner, qkv = qkv_width();
  const std::int64_t own = std::int64_t{shape.heads} * shape.head_dim;
  const auto matrix = [&](std::int64_t out, std::int64_t in) {
    return random(out * in, std::sqrt(3.0 / static_cast<double>(in)), 0, &weights_);
  };
  const auto norm = [&] { return random(width, 0.1, 1, &weights_); };
  for (int i = 0; i < shape.layers; ++i) {
    CudaLayer layer{};
    layer.attention_norm = norm();
    layer.qkv = matrix(qkv, width);
    if (shape.has_qkv_bias) layer.qkv_bias = random(qkv, 0.1, 0, &weights_);
    layer.output = matrix(width, own);
    layer.mlp_norm = norm();
    layer.gate_up = matrix(2 * inner, width);
    layer.down = matrix(width, inner);
    layers_.push_back(layer);
  }
  constexpr std::int64_t positions = 1 << 17;
  const std::size_t angles = static_cast<std::size_t>(positions * shape.head_dim / 2);
  const std::vector<float> cosines(angles, 0.8f), sines(angles, 0.6f);
  const auto table_of = [&](const std::vector<float>& values) {
    void* table = take(values.size() * 4, &weights_);
    check(calls_.copy_now(table, values.data(), values.size() * 4, Runtime::to_card), "angles");
    return static_cast<const float*>(table);
  };
  model_.layers = shape.layers;
  model_.width = shape.width;
  model_.inner = shape.inner;
  model_.heads = shape.heads;
  model_.kv_heads = shape.kv_heads;
  model_.head_dim = shape.head_dim;
  model_.vocab = shape.vocab;
  model_.page_tokens = page_tokens;
  model_.most_rows = most_batch;
  model_.scalar = Scalar::bfloat16;
  model_.epsilon = 1e-6;
  model_.cosines = table_of(cosines);
  model_.sines = table_of(sines);
  model_.final_norm = norm();
  model_.head = matrix(shape.vocab, width);
  embeddings_ = random(width * most_batch, 1.7, 0, &weights_);
}

Steps::~Steps() {
  drop(&cache_);
  drop(&weights_);
}

void* Steps::take(std::size_t bytes, std::vector<void*>* owner) {
  void* block = nullptr;
  check(calls_.allocate(&block, bytes), "memory");
  owner->push_back(block);
  return block;
}

void Steps::drop(std::vector<void*>* owner) {
  for (void* block : *owner) calls_.release(block);
  owner->clear();
}

// Uniform bfloat16 numbers; beyond a block of them they repeat.
void* Steps::random(std::int64_t count, double reach, double middle, std::vector<void*>* owner) {
  constexpr std::int64_t block = 1 << 20;
  const std::int64_t own = std::min(count, block);
  std::vector<std::uint16_t> values(static_cast<std::size_t>(own));
  std::uint64_t state = 0x9E3779B97F4A7C15ull + owner->size();
  for (std::uint16_t& value : values) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    const double unit = static_cast<double>(static_cast<std::int32_t>(state >> 32)) / 2147483648.0;
    value = bfloat(static_cast<float>(unit * reach + middle));
  }
  auto* made = static_cast<std::uint16_t*>(take(static_cast<std::size_t>(count) * 2, owner));
  check(calls_.copy_now(made, values.data(), values.size() * 2, Runtime::to_card), "numbers");
  for (std::int64_t there = own; there < count;) {
    const std::int64_t more = std::min(there, count - there);
    check(calls_.copy_now(made + there, made, static_cast<std::size_t>(more) * 2,
                          Runtime::within_card),
          "numbers");
    there += more;
  }
  return made;
}

double Steps::cache_bytes(int batch, int context) const {
  return 4.0 * shape_.layers * shape_.kv_heads * shape_.head_dim * batch * context;
}

double Steps::bytes(int batch, int context) const {
  const double width = shape_.width, own = shape_.heads * shape_.head_dim;
  const double layer = width * (qkv_width() + own + 3.0 * shape_.inner);
  return 2 * (shape_.layers * layer + width * shape_.vocab) + cache_bytes(batch, context);
}

void Steps::make_cache(int batch, int context) {
  drop(&cache_);
  const std::int64_t pages = std::int64_t{batch} * ((context + page_tokens - 1) / page_tokens);
  const std::int64_t count = pages * page_tokens * shape_.kv_heads * shape_.head_dim;
  for (CudaLayer& layer : layers_) {
    layer.key_pages = random(count, 1, 0, &cache_);
    layer.value_pages = random(count, 1, 0, &cache_);
  }
  model_.host_layers = layers_.data();
}

void Steps::step(void* decoder, const Inputs& inputs) {
  std::int32_t captured = 0;
  check(table_->decode(decoder, inputs.call, table_->current_stream(0), &captured), "decode");
  check(table_->await_decode(decoder, inputs.call.flight), "decode");
}

void Steps::with_steps(int batch, int context,
                       const std::function<void(void*, const Inputs&)>& use) {
  constexpr int warm = 5;
  make_cache(batch, context);
  void* decoder = nullptr;
  check(table_->make_decoder(model_, 0, &decoder), "decoder");
  {
    const Inputs inputs(*this, decoder, batch, context);
    for (int i = 0; i < warm; ++i) step(decoder, inputs);
    use(decoder, inputs);
  }
  table_->free_decoder(decoder);
}

std::optional<Spread> Steps::time(int batch, int context, int repetitions) {
  drop(&cache_);
  std::int64_t free = 0, total = 0;
  check(table_->memory(0, &free, &total), "memory");
  if (cache_bytes(batch, context) + spare_bytes > static_cast<double>(free)) return std::nullopt;
  std::vector<double> times;
  with_steps(batch, context, [&](void* decoder, const Inputs& inputs) {
    for (int i = 0; i < repetitions; ++i) {
      const auto start = Clock::now();
      step(decoder, inputs);
      times.push_back(std::chrono::duration<double>(Clock::now() - start).count() * 1e6);
    }
  });
  return spread_of(std::move(times));
}

int Steps::count(int batch, int context, const std::function<void()>& begin,
                 const std::atomic<bool>& is_over) {
  int done = 0;
  with_steps(batch, context, [&](void* decoder, const Inputs& inputs) {
    begin();
    for (; !is_over; ++done) step(decoder, inputs);
  });
  return done;
}

std::vector<Steps::Part> Steps::profile(int batch, int context) {
  float us[step_parts] = {};
  with_steps(batch, context, [&](void* decoder, const Inputs& inputs) {
    check(table_->profile(decoder, inputs.call, table_->current_stream(0), us), "profile");
  });
  const int layers = shape_.layers;
  const double width = shape_.width, own = shape_.heads * shape_.head_dim;
  const auto weights = [&](double out, double in) { return 2 * layers * out * in; };
  const auto of = [&](StepPart part) { return static_cast<double>(us[static_cast<int>(part)]); };
  return {{"embed", of(StepPart::embed), 2 * width * batch},
          {"norm", of(StepPart::norm), 0},
          {"q/k/v", of(StepPart::qkv), weights(qkv_width(), width)},
          {"attention", of(StepPart::attention), cache_bytes(batch, context)},
          {"output", of(StepPart::output), weights(width, own)},
          {"gate-up", of(StepPart::gate_up), weights(2.0 * shape_.inner, width)},
          {"gate", of(StepPart::gate), 0},
          {"down", of(StepPart::down), weights(width, shape_.inner)},
          {"head", of(StepPart::head), 2 * width * shape_.vocab},
          {"draw", of(StepPart::draw), 4.0 * batch * shape_.vocab}};
}

}  // namespace pensive::bench
