// Strings a decode step together, captures it as a graph and replays that.
#include "kernels/cuda/step.h"

#include <c10/cuda/CUDAGuard.h>
#include <cublas_v2.h>

#include <algorithm>
#include <map>
#include <vector>

#include "kernels/cuda/launch.h"

namespace pensive::kernels {
namespace {

cudaDataType_t cublas_type(Scalar scalar) {
  if (scalar == Scalar::float32) return CUDA_R_32F;
  return scalar == Scalar::bfloat16 ? CUDA_R_16BF : CUDA_R_16F;
}

// Errors of launches, the first of which counts.
struct Errors {
  int first = 0;
  void operator+=(int error) {
    if (first == 0) first = error;
  }
};

class Decoder {
 public:
  Decoder(const CudaModel& model, int device) : model_(model), device_(device) {
    layers_.assign(model.host_layers, model.host_layers + model.layers);
    model_.host_layers = layers_.data();
  }
  ~Decoder() {
    forget();
    if (cublas_) cublasDestroy(cublas_);
    if (side_) cudaStreamDestroy(side_);
    for (cudaEvent_t event : done_)
      if (event) cudaEventDestroy(event);
  }
  Decoder(const Decoder&) = delete;
  Decoder& operator=(const Decoder&) = delete;

  int open() {
    int major = 0, minor = 0;
    for (cudaEvent_t& event : done_)
      if (int error = cudaEventCreateWithFlags(&event, cudaEventDisableTiming)) return error;
    if (int error = cudaStreamCreateWithFlags(&side_, cudaStreamNonBlocking)) return error;
    if (int error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device_))
      return error;
    if (int error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device_))
      return error;
    capability_ = major * 10 + minor;
    if (cublasCreate(&cublas_) != CUBLAS_STATUS_SUCCESS) return cudaErrorInitializationError;
    cublasSetMathMode(cublas_, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
    return cudaSuccess;
  }

  const CudaModel& model() const { return model_; }

  Size size_for(int rows, int longest) const {
    const int pairs = pairs_for(rows), team = team_for(rows, longest);
    const auto each = [&](int length) {
      return team > 0 ? team_positions(length, longest, pairs, team)
                      : split_positions(length, rows);
    };
    const bool is_short = longest <= short_positions,
               is_one_chunk = longest <= team * block_positions;
    return {rows, splits_until(longest, each), team, is_one_chunk ? 1 : 2, is_short};
  }

  int run(const CudaDecodeCall& call, cudaStream_t stream, bool* captured) {
    const Size size = size_for(call.rows, call.longest);
    const Room room(model_, size, call.workspace);
    if (room.bytes > call.workspace_bytes || call.rows > model_.most_rows)
      return cudaErrorInvalidValue;
    const Places places{call.draw, call.card_rows, call.tables, call.workspace};
    if (!(places == places_)) {
      forget();
      places_ = places;
    }
    int error =
        cudaMemcpyAsync(call.step, call.host_step, static_cast<std::size_t>(call.step_bytes),
                        cudaMemcpyHostToDevice, stream);
    if (error == cudaSuccess) error = compute(size, room, stream, captured);
    if (error == cudaSuccess)
      error = cudaMemcpyAsync(call.host_results, call.results,
                              static_cast<std::size_t>(call.result_bytes), cudaMemcpyDeviceToHost,
                              stream);
    return error == cudaSuccess ? cudaEventRecord(done_[call.flight], stream) : error;
  }

  int await(std::int32_t flight) { return cudaEventSynchronize(done_[flight]); }

  int profile(const CudaDecodeCall& call, cudaStream_t stream, float* us) {
    const Size size = size_for(call.rows, call.longest);
    const Room room(model_, size, call.workspace);
    int error = cudaSuccess;
    for (int part = 0; part < step_parts && error == cudaSuccess; ++part) {
      cudaGraphExec_t graph = nullptr;
      only_ = part;
      launches_ = 0;
      error = capture(size, room, &graph);
      us[part] = 0;
      if (error == cudaSuccess && launches_ > 0) error = time_graph(graph, stream, &us[part]);
      if (graph) cudaGraphExecDestroy(graph);
    }
    only_ = everything;
    return error;
  }

 private:
  int compute(Size size, const Room& room, cudaStream_t stream, bool* captured) {
    // The first run of a size loads what a capture could not.
    auto [found, is_new] = graphs_.emplace(size, nullptr);
    if (is_new) return launch(size, room, stream);
    if (!found->second) {
      if (int error = capture(size, room, &found->second)) return error;
      *captured = true;
    }
    return cudaGraphLaunch(found->second, stream);
  }

  void forget() {
    for (auto& [size, graph] : graphs_)
      if (graph) cudaGraphExecDestroy(graph);
    graphs_.clear();
  }

  int capture(Size size, const Room& room, cudaGraphExec_t* exec) {
    int error = cudaStreamBeginCapture(side_, cudaStreamCaptureModeThreadLocal);
    if (error != cudaSuccess) return error;
    const int launched = launch(size, room, side_);
    cudaGraph_t graph = nullptr;
    error = cudaStreamEndCapture(side_, &graph);
    if (launched != cudaSuccess) error = launched;
    if (error == cudaSuccess) error = cudaGraphInstantiate(exec, graph, 0);
    if (graph) cudaGraphDestroy(graph);
    cudaGetLastError();  // leaves no error behind for the host's next check
    return error;
  }

  // out = x W^T, or out += x W^T, then of float32.
  int multiply(const void* x, const void* weight, void* out, int rows, int in, int width,
               bool adds) {
    const float one = 1, before = adds ? 1 : 0;
    const cudaDataType_t type = cublas_type(model_.scalar), of_out = adds ? CUDA_R_32F : type;
    const cublasStatus_t status = cublasGemmEx(
        cublas_, CUBLAS_OP_T, CUBLAS_OP_N, width, rows, in, &one, weight, type, in, x, type, in,
        &before, out, of_out, width, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT);
    return status == CUBLAS_STATUS_SUCCESS ? cudaSuccess : cudaErrorLaunchFailure;
  }

  // A step's rows times their blocks of heads, on tensor cores.
  int pairs_for(int rows) const {
    const int group = model_.heads / model_.kv_heads;
    return rows * model_.kv_heads * ((group + most_group - 1) / most_group);
  }
  // Blocks that share a split there; 0 without them.
  int team_for(int rows, int longest) const {
    const Way way{nullptr, capability_};
    if (!takes_attention_tiles(model_.head_dim, model_.scalar, way)) return 0;
    return way.overlaps() ? team_blocks(longest, pairs_for(rows)) : 1;
  }

  DecodeAttention attention(Size size, const CudaLayer& layer, const Room& room,
                            const void* bias) const {
    DecodeAttention attention{};
    attention.step = places_.rows;
    attention.tables = places_.tables;
    attention.qkv = room.qkv;
    attention.qkv_bias = bias;
    attention.query_norm = layer.query_norm;
    attention.key_norm = layer.key_norm;
    attention.epsilon = model_.epsilon;
    attention.cosines = model_.cosines;
    attention.sines = model_.sines;
    attention.key_pages = layer.key_pages;
    attention.value_pages = layer.value_pages;
    attention.out = room.mixed;
    attention.partials = room.partials;
    attention.marks = room.marks;
    attention.arrivals = room.arrivals;
    attention.rows = size.rows;
    attention.heads = model_.heads;
    attention.kv_heads = model_.kv_heads;
    attention.head_dim = model_.head_dim;
    attention.page_tokens = model_.page_tokens;
    attention.splits = size.splits;
    attention.team = size.team;
    attention.stages = size.stages;
    attention.longest = size.is_short ? short_positions : short_positions + 1;
    attention.page_shift = -1;
    for (int shift = 0; shift < 16; ++shift)
      if (1 << shift == model_.page_tokens) attention.page_shift = shift;
    return attention;
  }

  int attend(const DecodeAttention& call, Way way) const {
    return takes_attention_tiles(model_.head_dim, model_.scalar, way)
               ? launch_attention_tiles(call, model_.scalar, way)
               : launch_decode_attention(call, model_.scalar, way);
  }

  int launch(Size size, const Room& room, cudaStream_t stream) {
    const Way way{stream, capability_,
                  size.team > 0 && capability_ >= 90 ? size.near_percent() : -1};
    const Scalar scalar = model_.scalar;
    Errors errors;
    // Comes after a copy, of which waiting for the kernel before would know nothing.
    const Way alone{stream, 0};
    const bool is_tiled = takes_tiles(size.rows, model_.width, scalar, way);
    const bool is_few = is_tiled || takes_product(size.rows, model_.width, scalar);
    if (wants(StepPart::embed)) {
      errors += launch_embed(places_.rows, places_.draw, room.x, size.rows, model_.width, scalar,
                             is_few ? scalar : Scalar::float32, alone);
    }
    if (is_tiled) {
      launch_tiled(size, room, way, errors);
    } else if (is_few) {
      launch_few(size, room, way, errors);
    } else {
      if (cublasSetStream(cublas_, stream) != CUBLAS_STATUS_SUCCESS ||
          cublasSetWorkspace(cublas_, room.cublas, cublas_bytes) != CUBLAS_STATUS_SUCCESS)
        return cudaErrorInvalidValue;
      launch_many(size, room, way, errors);
    }
    if (wants(StepPart::draw))
      errors += launch_step_draw(places_.draw, room.logits, room.scratch, size.rows, model_.vocab,
                                 scalar, way);
    return errors.first;
  }

  // Whether kernels of a part are launched; counts them.
  bool wants(StepPart part) {
    if (only_ != everything && only_ != static_cast<int>(part)) return false;
    ++launches_;
    return true;
  }

  int own_width() const { return model_.heads * model_.head_dim; }
  int qkv_width() const { return (model_.heads + 2 * model_.kv_heads) * model_.head_dim; }

  // Five kernels a layer, which read each weight once.
  void launch_few(Size size, const Room& room, Way way, Errors& errors) {
    const int width = model_.width;
    const auto product = [&](StepPart part, Into into, const void* x, const void* norm,
                             const void* weight, const void* bias, void* out, int in,
                             int out_width) {
      if (!wants(part)) return;
      errors += launch_product(
          {into, x, norm, model_.epsilon, weight, bias, out, size.rows, in, out_width},
          model_.scalar, way);
    };
    for (const CudaLayer& layer : layers_) {
      product(StepPart::qkv, Into::plain, room.x, layer.attention_norm, layer.qkv, layer.qkv_bias,
              room.qkv, width, qkv_width());
      if (wants(StepPart::attention)) errors += attend(attention(size, layer, room, nullptr), way);
      product(StepPart::output, Into::added, room.mixed, nullptr, layer.output, layer.output_bias,
              room.x, own_width(), width);
      product(StepPart::gate_up, Into::gated, room.x, layer.mlp_norm, layer.gate_up,
              layer.gate_up_bias, room.inner, width, model_.inner);
      product(StepPart::down, Into::added, room.inner, nullptr, layer.down, layer.down_bias, room.x,
              model_.inner, width);
    }
    product(StepPart::head, Into::plain, room.x, model_.final_norm, model_.head, nullptr,
            room.logits, width, model_.vocab);
  }

  // Tensor cores for the products that take long; norms for themselves before them, since too many
  // blocks would do them over. Of one or two rows the others have more to gain from starting early.
  void launch_tiled(Size size, const Room& room, Way way, Errors& errors) {
    const int width = model_.width;
    const bool is_few = size.rows <= 2 && takes_product(size.rows, width, model_.scalar);
    const auto made = [&](Into into, const void* x, const void* norm, const void* weight,
                          const void* bias, void* out, int in, int out_width) {
      return Product{into, x, norm, model_.epsilon, weight, bias, out, size.rows, in, out_width};
    };
    const auto tiled = [&](StepPart part, Into into, const void* x, const void* norm,
                           const void* weight, const void* bias, void* out, int in, int out_width) {
      if (norm && wants(StepPart::norm)) {
        errors += launch_add_norm(room.x, nullptr, norm, room.normed, size.rows, width,
                                  model_.epsilon, model_.scalar, model_.scalar, way);
      }
      if (!wants(part)) return;
      errors += launch_tiles(
          made(into, norm ? room.normed : x, nullptr, weight, bias, out, in, out_width),
          model_.scalar, way);
    };
    const auto brief = [&](StepPart part, Into into, const void* x, const void* norm,
                           const void* weight, const void* bias, void* out, int in, int out_width) {
      if (!is_few) return tiled(part, into, x, norm, weight, bias, out, in, out_width);
      if (!wants(part)) return;
      errors +=
          launch_product(made(into, x, norm, weight, bias, out, in, out_width), model_.scalar, way);
    };
    for (const CudaLayer& layer : layers_) {
      brief(StepPart::qkv, Into::plain, room.x, layer.attention_norm, layer.qkv, layer.qkv_bias,
            room.qkv, width, qkv_width());
      if (wants(StepPart::attention)) errors += attend(attention(size, layer, room, nullptr), way);
      brief(StepPart::output, Into::added, room.mixed, nullptr, layer.output, layer.output_bias,
            room.x, own_width(), width);
      tiled(StepPart::gate_up, Into::gated, room.x, layer.mlp_norm, layer.gate_up,
            layer.gate_up_bias, room.inner, width, model_.inner);
      tiled(StepPart::down, Into::added, room.inner, nullptr, layer.down, layer.down_bias, room.x,
            model_.inner, width);
    }
    tiled(StepPart::head, Into::plain, room.x, model_.final_norm, model_.head, nullptr, room.logits,
          width, model_.vocab);
  }

  // cuBLAS for the products, one kernel between two of them. What layers add up is float32.
  void launch_many(Size size, const Room& room, Way way, Errors& errors) {
    const int rows = size.rows, width = model_.width, inner = model_.inner;
    const void* bias = nullptr;  // of the product before, which is added with the next norm
    const auto norm = [&](const void* weight) {
      if (!wants(StepPart::norm)) return;
      errors += launch_add_norm(room.x, bias, weight, room.normed, rows, width, model_.epsilon,
                                model_.scalar, Scalar::float32, way);
    };
    const auto product = [&](StepPart part, const void* x, const void* weight, void* out, int in,
                             int out_width, bool adds) {
      if (wants(part)) errors += multiply(x, weight, out, rows, in, out_width, adds);
    };
    for (const CudaLayer& layer : layers_) {
      norm(layer.attention_norm);
      product(StepPart::qkv, room.normed, layer.qkv, room.qkv, width, qkv_width(), false);
      if (wants(StepPart::attention))
        errors += attend(attention(size, layer, room, layer.qkv_bias), way);
      product(StepPart::output, room.mixed, layer.output, room.x, own_width(), width, true);
      bias = layer.output_bias;
      norm(layer.mlp_norm);
      product(StepPart::gate_up, room.normed, layer.gate_up, room.gate_up, width, 2 * inner, false);
      if (wants(StepPart::gate))
        errors += launch_gate(room.gate_up, layer.gate_up_bias, room.inner, rows, inner,
                              model_.scalar, way);
      product(StepPart::down, room.inner, layer.down, room.x, inner, width, true);
      bias = layer.down_bias;
    }
    norm(model_.final_norm);
    product(StepPart::head, room.normed, model_.head, room.logits, width, model_.vocab, false);
  }

  CudaModel model_;
  int device_;
  std::vector<CudaLayer> layers_;
  cudaEvent_t done_[2] = {};     // of each flight
  cudaStream_t side_ = nullptr;  // graphs are captured here: the default stream cannot be
  cublasHandle_t cublas_ = nullptr;
  int capability_ = 0;
  std::map<Size, cudaGraphExec_t> graphs_;
  static constexpr int everything = -1;
  int only_ = everything, launches_ = 0;  // the part that is launched, and how often
  Places places_{};                       // that the graphs know
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
