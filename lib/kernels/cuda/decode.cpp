// Strings a decode step together, captures it as a graph and replays that.
#include "kernels/cuda/decode.h"

#include <c10/cuda/CUDAGuard.h>
#include <cublas_v2.h>

#include <map>
#include <vector>

#include "kernels/cuda/launch.h"

namespace pensive::kernels {
namespace {

constexpr std::int64_t cublas_bytes = std::int64_t{32} << 20;  // what it wants on the largest cards

std::int64_t size_of(Scalar scalar) { return scalar == Scalar::float32 ? 4 : 2; }

cudaDataType_t cublas_type(Scalar scalar) {
  if (scalar == Scalar::float32) return CUDA_R_32F;
  return scalar == Scalar::bfloat16 ? CUDA_R_16BF : CUDA_R_16F;
}

// What a step's launches depend on: one graph for each.
struct Size {
  int rows, splits;
  bool operator<(const Size& other) const {
    return rows != other.rows ? rows < other.rows : splits < other.splits;
  }
};

// Where a step's inputs and its workspace stand.
struct Places {
  const CudaDraw* draw;
  const CudaRow* rows;
  const std::int32_t* tables;
  void* workspace;
  bool operator==(const Places& other) const {
    return draw == other.draw && rows == other.rows && tables == other.tables &&
           workspace == other.workspace;
  }
};

// Enough splits for every row of at most so many positions; few sizes, since each gets a graph.
int splits_until(int longest, int rows) {
  int splits = 1;
  for (int length : {512, 2048, 8192, longest}) {
    const int here = length < longest ? length : longest, each = split_positions(here, rows);
    while (splits * each < here) splits *= 2;
  }
  return splits;
}

// Where a step's rows stand in the workspace.
struct Room {
  void *x, *normed, *qkv, *mixed, *gate_up, *inner, *logits, *cublas;
  float *scratch, *partials;
  float2* marks;
  int* arrivals;
  std::int64_t bytes = 0;

  Room(const CudaModel& model, Size step, void* base) {
    const std::int64_t rows = step.rows, splits = step.splits;
    const std::int64_t size = size_of(model.scalar), dim = model.head_dim, heads = model.heads;
    auto take = [&](std::int64_t count) -> void* {
      void* at = static_cast<char*>(base) + bytes;
      bytes += (count + 255) / 256 * 256;
      return at;
    };
    // First and always as long, so that it stays zero whatever the sizes of steps.
    arrivals = static_cast<int*>(take(model.most_rows * heads * 4));
    x = take(rows * model.width * 4);  // float32 in steps of many rows
    normed = take(rows * model.width * size);
    qkv = take(rows * (heads + 2 * model.kv_heads) * dim * size);
    mixed = take(rows * heads * dim * size);
    gate_up = take(rows * 2 * model.inner * size);
    inner = take(rows * model.inner * size);
    logits = take(rows * model.vocab * size);
    cublas = take(cublas_bytes);
    scratch = static_cast<float*>(take(rows * model.vocab * 4));
    const std::int64_t shares = splits > 1 ? rows * heads * splits : 0;
    partials = static_cast<float*>(take(shares * dim * 4));
    marks = static_cast<float2*>(take(shares * 8));
  }
};

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

  int run(const CudaDecodeCall& call, cudaStream_t stream, bool* captured) {
    const Size size{call.rows, splits_until(call.longest, call.rows)};
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
    const Way way{stream, capability_};
    const Scalar scalar = model_.scalar;
    Errors errors;
    // Comes after a copy, of which waiting for the kernel before would know nothing.
    const Way alone{stream, 0};
    const bool is_tiled = takes_tiles(size.rows, model_.width, scalar, way);
    const bool is_few = is_tiled || takes_product(size.rows, model_.width, scalar);
    errors += launch_embed(places_.rows, places_.draw, room.x, size.rows, model_.width, scalar,
                           is_few ? scalar : Scalar::float32, alone);
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
    errors += launch_step_draw(places_.draw, room.logits, room.scratch, size.rows, model_.vocab,
                               scalar, way);
    return errors.first;
  }

  int own_width() const { return model_.heads * model_.head_dim; }
  int qkv_width() const { return (model_.heads + 2 * model_.kv_heads) * model_.head_dim; }

  // Five kernels a layer, which read each weight once.
  void launch_few(Size size, const Room& room, Way way, Errors& errors) const {
    const int width = model_.width;
    const auto product = [&](Into into, const void* x, const void* norm, const void* weight,
                             const void* bias, void* out, int in, int out_width) {
      errors += launch_product(
          {into, x, norm, model_.epsilon, weight, bias, out, size.rows, in, out_width},
          model_.scalar, way);
    };
    for (const CudaLayer& layer : layers_) {
      product(Into::plain, room.x, layer.attention_norm, layer.qkv, layer.qkv_bias, room.qkv, width,
              qkv_width());
      errors += attend(attention(size, layer, room, nullptr), way);
      product(Into::added, room.mixed, nullptr, layer.output, layer.output_bias, room.x,
              own_width(), width);
      product(Into::gated, room.x, layer.mlp_norm, layer.gate_up, layer.gate_up_bias, room.inner,
              width, model_.inner);
      product(Into::added, room.inner, nullptr, layer.down, layer.down_bias, room.x, model_.inner,
              width);
    }
    product(Into::plain, room.x, model_.final_norm, model_.head, nullptr, room.logits, width,
            model_.vocab);
  }

  // Tensor cores for the products that take long; norms for themselves before them, since too many
  // blocks would do them over. Of one or two rows the others have more to gain from starting early.
  void launch_tiled(Size size, const Room& room, Way way, Errors& errors) const {
    const int width = model_.width;
    const bool is_few = size.rows <= 2 && takes_product(size.rows, width, model_.scalar);
    const auto made = [&](Into into, const void* x, const void* norm, const void* weight,
                          const void* bias, void* out, int in, int out_width) {
      return Product{into, x, norm, model_.epsilon, weight, bias, out, size.rows, in, out_width};
    };
    const auto tiled = [&](Into into, const void* x, const void* norm, const void* weight,
                           const void* bias, void* out, int in, int out_width) {
      if (norm) {
        errors += launch_add_norm(room.x, nullptr, norm, room.normed, size.rows, width,
                                  model_.epsilon, model_.scalar, model_.scalar, way);
      }
      errors += launch_tiles(
          made(into, norm ? room.normed : x, nullptr, weight, bias, out, in, out_width),
          model_.scalar, way);
    };
    const auto brief = [&](Into into, const void* x, const void* norm, const void* weight,
                           const void* bias, void* out, int in, int out_width) {
      if (!is_few) return tiled(into, x, norm, weight, bias, out, in, out_width);
      errors +=
          launch_product(made(into, x, norm, weight, bias, out, in, out_width), model_.scalar, way);
    };
    for (const CudaLayer& layer : layers_) {
      brief(Into::plain, room.x, layer.attention_norm, layer.qkv, layer.qkv_bias, room.qkv, width,
            qkv_width());
      errors += attend(attention(size, layer, room, nullptr), way);
      brief(Into::added, room.mixed, nullptr, layer.output, layer.output_bias, room.x, own_width(),
            width);
      tiled(Into::gated, room.x, layer.mlp_norm, layer.gate_up, layer.gate_up_bias, room.inner,
            width, model_.inner);
      tiled(Into::added, room.inner, nullptr, layer.down, layer.down_bias, room.x, model_.inner,
            width);
    }
    tiled(Into::plain, room.x, model_.final_norm, model_.head, nullptr, room.logits, width,
          model_.vocab);
  }

  // cuBLAS for the products, one kernel between two of them. What layers add up is float32.
  void launch_many(Size size, const Room& room, Way way, Errors& errors) {
    const int rows = size.rows, width = model_.width, inner = model_.inner;
    const void* bias = nullptr;  // of the product before, which is added with the next norm
    const auto norm = [&](const void* weight) {
      errors += launch_add_norm(room.x, bias, weight, room.normed, rows, width, model_.epsilon,
                                model_.scalar, Scalar::float32, way);
    };
    for (const CudaLayer& layer : layers_) {
      norm(layer.attention_norm);
      errors += multiply(room.normed, layer.qkv, room.qkv, rows, width, qkv_width(), false);
      errors += attend(attention(size, layer, room, layer.qkv_bias), way);
      errors += multiply(room.mixed, layer.output, room.x, rows, own_width(), width, true);
      bias = layer.output_bias;
      norm(layer.mlp_norm);
      errors += multiply(room.normed, layer.gate_up, room.gate_up, rows, width, 2 * inner, false);
      errors += launch_gate(room.gate_up, layer.gate_up_bias, room.inner, rows, inner,
                            model_.scalar, way);
      errors += multiply(room.inner, layer.down, room.x, rows, inner, width, true);
      bias = layer.down_bias;
    }
    norm(model_.final_norm);
    errors += multiply(room.normed, model_.head, room.logits, rows, width, model_.vocab, false);
  }

  CudaModel model_;
  int device_;
  std::vector<CudaLayer> layers_;
  cudaEvent_t done_[2] = {};     // of each flight
  cudaStream_t side_ = nullptr;  // graphs are captured here: the default stream cannot be
  cublasHandle_t cublas_ = nullptr;
  int capability_ = 0;
  std::map<Size, cudaGraphExec_t> graphs_;
  Places places_{};  // that the graphs know
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
  const Size size{rows, splits_until(longest, rows)};
  return Room(static_cast<const Decoder*>(decoder)->model(), size, nullptr).bytes;
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
