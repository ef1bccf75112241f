// Strings the kernels of a decode step together.
#include "kernels/cuda/step.h"

#include <c10/cuda/CUDAGuard.h>

#include <vector>

#include "kernels/cuda/gemm.h"
#include "kernels/cuda/graphs.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/one_row.h"
#include "kernels/cuda/step_attention.h"
#include "kernels/cuda/wide.h"

namespace pensive::kernels {
namespace {

class Decoder {
 public:
  Decoder(const CudaModel& model, int device) : model_(model), device_(device) {
    layers_.assign(model.host_layers, model.host_layers + model.layers);
    model_.host_layers = layers_.data();
  }
  ~Decoder() {
    if (cublas_) cublasDestroy(cublas_);
    for (cudaEvent_t event : done_)
      if (event) cudaEventDestroy(event);
  }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  int open() {
    int major = 0, minor = 0;
    for (cudaEvent_t& event : done_)
      if (int error = cudaEventCreateWithFlags(&event, cudaEventDisableTiming)) return error;
    if (int error = graphs_.open()) return error;
    if (int error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device_))
      return error;
    if (int error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device_))
      return error;
    capability_ = major * 10 + minor;
    if (int error = wide_.open(device_)) return error;
    if (model_.is_invariant) return cudaSuccess;
    if (cublasCreate(&cublas_) != CUBLAS_STATUS_SUCCESS) return cudaErrorInitializationError;
    cublasSetMathMode(cublas_, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
    if (int error = staying_.plan(model_, capability_, device_)) return error;
    if (!staying_.is_there()) model_.one_row = OneRow::chain;
    return cudaSuccess;
  }

  const CudaModel& model() const { return model_; }

  Size size_for(int rows, int longest) const {
    if (staying_.takes(rows, longest))
      return {.rows = 1,
              .splits = 1,
              .team = 1,
              .stages = 1,
              .is_large = false,
              .is_short = true,
              .stays = true};
    return chain_size(rows, longest);
  }
  Size chain_size(int rows, int longest) const {
    const int pairs = pairs_for(rows), team = team_for(rows, longest);
    const bool is_large = has_large_blocks_for(rows, longest);
    const int counted = is_large ? 2 * team : team;  // a large block as two
    const auto each = [&](int length) {
      if (team == 0) return split_positions(length, model_.is_invariant ? few_rows + 1 : rows);
      return model_.is_invariant ? own_positions(length, team)
                                 : team_positions(length, longest, pairs, counted);
    };
    const bool is_short = longest <= short_positions,
               is_one_chunk = longest <= counted * block_positions;
    return {rows, splits_until(longest, each), team, is_one_chunk ? 1 : 2, is_large, is_short,
            false};
  }

  int run(const CudaDecodeCall& call, cudaStream_t stream, bool* captured) {
    const Size size = size_for(call.rows, call.longest);
    const Room room(model_, size, call.workspace);
    if (room.bytes > call.workspace_bytes || call.rows > model_.most_rows)
      return cudaErrorInvalidValue;
    const Places places{call.draw, call.card_rows, call.tables, call.workspace};
    if (!(places == places_)) {
      graphs_.forget();
      places_ = places;
    }
    int error =
        cudaMemcpyAsync(call.step, call.host_step, static_cast<std::size_t>(call.step_bytes),
                        cudaMemcpyHostToDevice, stream);
    if (error == cudaSuccess)
      error = graphs_.run(size, stream, captured,
                          [&](cudaStream_t on) { return launch(size, room, on); });
    if (error == cudaSuccess && !takes_results(asked_of(call)))
      error = cudaMemcpyAsync(call.host_results, call.results,
                              static_cast<std::size_t>(call.result_bytes), cudaMemcpyDeviceToHost,
                              stream);
    return error == cudaSuccess ? cudaEventRecord(done_[call.flight], stream) : error;
  }

  // As the host has it.
  static const CudaDraw& asked_of(const CudaDecodeCall& call) {
    const auto at = reinterpret_cast<const char*>(call.draw) - static_cast<const char*>(call.step);
    return *reinterpret_cast<const CudaDraw*>(static_cast<const char*>(call.host_step) + at);
  }

  int await(std::int32_t flight) { return cudaEventSynchronize(done_[flight]); }
  std::int64_t forward_bytes(int rows, int longest) const {
    return Room(model_, size_for(rows, longest), nullptr, false).bytes;
  }

  // One launch after the other: prompts are too unlike each other for graphs.
  int forward(const CudaForward& call, cudaStream_t stream) const {
    const Size size = size_for(call.rows, call.longest);
    const Room room(model_, size, call.workspace, false);
    if (!model_.is_invariant || room.bytes > call.workspace_bytes || call.rows > model_.most_rows)
      return cudaErrorInvalidValue;
    const Way way{stream, capability_, -1, true};
    const Step step{size, {nullptr, call.card_rows, call.tables, call.workspace}, room, way, true};
    Errors errors;
    errors +=
        launch_embed(call.card_rows, nullptr, room.x, call.rows, model_.width, model_.scalar, way);
    int layer = 0;  // whose input is kept where somebody goes back through them
    const auto keep = [&] {
      if (call.inputs)
        errors +=
            cudaMemcpyAsync(call.inputs + layer++ * call.inputs_stride, room.x,
                            sizeof(float) * static_cast<std::size_t>(call.rows * model_.width),
                            cudaMemcpyDeviceToDevice, stream);
    };
    launch_layers(step, errors, keep);
    keep();
    errors += launch_add_norm(room.x, nullptr, model_.final_norm, call.hidden, call.rows,
                              model_.width, model_.epsilon, model_.scalar, way);
    return errors.first;
  }

  // Of the chain's kernels: one that stays has no parts that could be timed alone.
  int profile(const CudaDecodeCall& call, cudaStream_t stream, float* us) {
    const Size size = chain_size(call.rows, call.longest);
    const Room room(model_, size, call.workspace);
    int error = room.bytes > call.workspace_bytes ? cudaErrorInvalidValue : cudaSuccess;
    for (int part = 0; part < step_parts && error == cudaSuccess; ++part) {
      cudaGraphExec_t graph = nullptr;
      only_ = part;
      launches_ = 0;
      error = graphs_.capture([&](cudaStream_t on) { return launch(size, room, on); }, &graph);
      us[part] = 0;
      if (error == cudaSuccess && launches_ > 0) error = time_graph(graph, stream, &us[part]);
      if (graph) cudaGraphExecDestroy(graph);
    }
    only_ = everything;
    return error;
  }

 private:
  // A step's rows times their blocks of heads, on tensor cores.
  int pairs_for(int rows) const {
    const int group = model_.heads / model_.kv_heads;
    return rows * model_.kv_heads * ((group + most_group - 1) / most_group);
  }
  // Blocks that share a split there; 0 without them.
  int team_for(int rows, int longest) const {
    const Way way{nullptr, capability_};
    if (!takes_attention_tiles(model_.head_dim, model_.scalar, way)) return 0;
    if (!way.has_clusters()) return 1;
    if (model_.is_invariant) return own_team;
    return has_large_blocks_for(rows, longest) ? large_team(pairs_for(rows))
                                               : team_blocks(longest, pairs_for(rows));
  }
  bool has_large_blocks_for(int rows, int longest) const {
    const Way way{nullptr, capability_};
    return !model_.is_invariant && way.has_clusters() &&
           takes_attention_tiles(model_.head_dim, model_.scalar, way) &&
           has_large_blocks(longest, pairs_for(rows));
  }

  int attend(const Step& step, const CudaLayer& layer, const void* bias) const {
    return launch_attention(attention_of(model_, step, layer, bias), model_.scalar, step.way);
  }

  // As seen on a card: with 16 rows' teams in pairs on a core, attention takes 12 us, else 18.
  int near_percent(Size size) const {
    const bool is_pairs = !model_.is_invariant && wide_.is_there() && size.rows > before_wide &&
                          size.rows <= few_tile_rows;
    return is_pairs ? 100 : size.near_percent();
  }

  int launch(Size size, const Room& room, cudaStream_t stream) const {
    const Way way{stream, capability_,
                  size.team > 0 && capability_ >= 90 ? near_percent(size) : -1};
    const Step step{size, places_, room, way, false};
    Errors errors;
    // Comes after a copy, of which waiting for the kernel before would know nothing.
    if (!size.stays && wants(StepPart::embed)) {
      errors += launch_embed(places_.rows, places_.draw, room.x, size.rows, model_.width,
                             model_.scalar, {stream, 0});
    }
    if (size.stays) {
      errors += staying_.launch(attention_of(model_, step, layers_.front(), nullptr), step,
                                model_.scalar);
    } else if (model_.is_invariant || is_few(size.rows, way)) {
      launch_layers(step, errors, [] {});
      product(step, errors, StepPart::head, Into::wide, room.x, model_.final_norm, model_.head,
              nullptr, room.logits, model_.width, model_.vocab);
    } else {
      if (cublasSetStream(cublas_, stream) != CUBLAS_STATUS_SUCCESS ||
          cublasSetWorkspace(cublas_, room.cublas, cublas_bytes) != CUBLAS_STATUS_SUCCESS)
        return cudaErrorInvalidValue;
      launch_many(step, errors);
    }
    if (wants(StepPart::draw))
      errors +=
          launch_step_draw(places_.draw, room.logits, room.scratch, size.rows, model_.vocab, way);
    return errors.first;
  }

  // Whether kernels of a part are launched; counts them.
  bool wants(StepPart part) const {
    if (only_ != everything && only_ != static_cast<int>(part)) return false;
    ++launches_;
    return true;
  }

  int own_width() const { return model_.heads * model_.head_dim; }
  int qkv_width() const { return (model_.heads + 2 * model_.kv_heads) * model_.head_dim; }

  // Whether our own products of few rows are the fastest, which read each weight once.
  static constexpr int few_tile_rows = 16, before_wide = 8;
  bool is_few(int rows, Way way) const {
    return takes_tiles(model_.width, model_.scalar, way)
               ? rows <= (wide_.is_there() ? before_wide : few_tile_rows)
               : takes_product(rows, model_.width, model_.scalar);
  }

  // Whether our own product of many rows is the fastest. Beyond 64 of them cuBLAS is, where the
  // weight is small or much is written.
  bool is_wide(const Product& product) const {
    if (product.rows > most_wide_rows || !wide_.takes(product, model_.scalar)) return false;
    return product.rows <= 64 || product.into == Into::gated || product.in > product.out_width;
  }

  // Tensor cores for the products that take long; norms for themselves before them, since too many
  // blocks would do them over. Of one or two rows the others have more to gain from starting early,
  // with their norm inside.
  bool goes_plain(StepPart part, int rows, Way way) const {
    if (model_.is_invariant || !takes_product(rows, model_.width, model_.scalar)) return false;
    const bool is_brief = part == StepPart::qkv || part == StepPart::output;
    return !takes_tiles(model_.width, model_.scalar, way) || (is_brief && rows <= 2);
  }

  // x: float32 where there is a norm.
  void product(const Step& step, Errors& errors, StepPart part, Into into, const void* x,
               const void* norm, const void* weight, const void* bias, void* out, int in,
               int out_width) const {
    const int rows = step.size.rows;
    const bool is_plain = goes_plain(part, rows, step.way);
    if (norm && !is_plain && wants(StepPart::norm)) {
      errors += launch_add_norm(step.room.x, nullptr, norm, step.room.normed, rows, in,
                                model_.epsilon, model_.scalar, step.way);
    }
    if (!wants(part)) return;
    Product made{into, x, norm, model_.epsilon, weight, bias, out, rows, in, out_width};
    if (norm && !is_plain) {
      made.x = step.room.normed;
      made.norm = nullptr;
    }
    errors += is_plain              ? launch_product(made, model_.scalar, step.way)
              : model_.is_invariant ? wide_.launch_alike(made, model_.scalar, step.way)
                                    : launch_invariant(made, model_.scalar, step.way);
  }

  // All layers with our own products; before() comes before each.
  template <class Before>
  void launch_layers(const Step& step, Errors& errors, Before before) const {
    const Room& room = step.room;
    const int width = model_.width;
    for (const CudaLayer& layer : layers_) {
      before();
      product(step, errors, StepPart::qkv, Into::plain, room.x, layer.attention_norm, layer.qkv,
              layer.qkv_bias, room.qkv, width, qkv_width());
      if (wants(StepPart::attention)) errors += attend(step, layer, nullptr);
      product(step, errors, StepPart::output, Into::added, room.mixed, nullptr, layer.output,
              layer.output_bias, room.x, own_width(), width);
      product(step, errors, StepPart::gate_up, Into::gated, room.x, layer.mlp_norm, layer.gate_up,
              layer.gate_up_bias, room.inner, width, model_.inner);
      product(step, errors, StepPart::down, Into::added, room.inner, nullptr, layer.down,
              layer.down_bias, room.x, model_.inner, width);
    }
  }

  // Products of many rows, ours or cuBLAS's, one kernel between two of them.
  void launch_many(const Step& step, Errors& errors) const {
    const Room& room = step.room;
    const int rows = step.size.rows, width = model_.width, inner = model_.inner;
    const void* bias = nullptr;  // of the product before, which is added with the next norm
    const auto norm = [&](const void* weight) {
      if (!wants(StepPart::norm)) return;
      errors += launch_add_norm(room.x, bias, weight, room.normed, rows, width, model_.epsilon,
                                model_.scalar, step.way);
    };
    const auto of = [&](Into into, const void* x, const void* weight, void* out, int in,
                        int width) {
      return Product{into, x, nullptr, 0, weight, nullptr, out, rows, in, width};
    };
    const auto product = [&](StepPart part, const Product& made) {
      if (wants(part))
        errors += is_wide(made) ? wide_.launch(made, model_.scalar, step.way)
                                : multiply(cublas_, made, model_.scalar);
    };
    for (const CudaLayer& layer : layers_) {
      norm(layer.attention_norm);
      product(StepPart::qkv, of(Into::plain, room.normed, layer.qkv, room.qkv, width, qkv_width()));
      if (wants(StepPart::attention)) errors += attend(step, layer, layer.qkv_bias);
      product(StepPart::output,
              of(Into::added, room.mixed, layer.output, room.x, own_width(), width));
      bias = layer.output_bias;
      norm(layer.mlp_norm);
      Product gated = of(Into::gated, room.normed, layer.gate_up, room.inner, width, inner);
      gated.bias = layer.gate_up_bias;
      if (is_wide(gated)) {
        product(StepPart::gate_up, gated);
      } else {
        product(StepPart::gate_up,
                of(Into::plain, room.normed, layer.gate_up, room.gate_up, width, 2 * inner));
        if (wants(StepPart::gate))
          errors += launch_gate(room.gate_up, layer.gate_up_bias, room.inner, rows, inner,
                                model_.scalar, step.way);
      }
      product(StepPart::down, of(Into::added, room.inner, layer.down, room.x, inner, width));
      bias = layer.down_bias;
    }
    norm(model_.final_norm);
    product(StepPart::head,
            of(Into::wide, room.normed, model_.head, room.logits, width, model_.vocab));
  }

  CudaModel model_;
  int device_;
  std::vector<CudaLayer> layers_;
  cudaEvent_t done_[2] = {};  // of each flight
  cublasHandle_t cublas_ = nullptr;
  int capability_ = 0;
  StayingRow staying_;
  WideProducts wide_;
  Graphs graphs_;
  static constexpr int everything = -1;
  int only_ = everything;     // the part that is launched,
  mutable int launches_ = 0;  // and how often
  Places places_{};           // that the graphs know
};

}  // namespace

int make_decoder(const CudaModel& model, int device, void** host_decoder) try {
  c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device));
  auto* decoder = new Decoder(model, device);
  if (int error = decoder->open()) {
    delete decoder;
    return error;
  }
  *host_decoder = decoder;
  return cudaSuccess;
} catch (const c10::Error&) {
  return cudaErrorInvalidDevice;
}

void free_decoder(void* decoder) { delete static_cast<Decoder*>(decoder); }

std::int64_t workspace_bytes(const void* decoder, std::int32_t rows, std::int32_t longest) {
  const auto* made = static_cast<const Decoder*>(decoder);
  return Room(made->model(), made->size_for(rows, longest), nullptr).bytes;
}

std::int64_t forward_bytes(const void* decoder, std::int32_t rows, std::int32_t longest) {
  return static_cast<const Decoder*>(decoder)->forward_bytes(rows, longest);
}

int forward(void* decoder, const CudaForward& call, void* stream) {
  return static_cast<const Decoder*>(decoder)->forward(call, static_cast<cudaStream_t>(stream));
}

int profile(void* decoder, const CudaDecodeCall& call, void* stream, float* host_us) {
  return static_cast<Decoder*>(decoder)->profile(call, static_cast<cudaStream_t>(stream), host_us);
}

int decode(void* decoder, const CudaDecodeCall& call, void* stream, std::int32_t* host_captured) {
  bool captured = false;
  const int error =
      static_cast<Decoder*>(decoder)->run(call, static_cast<cudaStream_t>(stream), &captured);
  *host_captured = captured ? 1 : 0;
  return error;
}

int await_decode(void* decoder, std::int32_t flight) {
  return static_cast<Decoder*>(decoder)->await(flight);
}

}  // namespace pensive::kernels
