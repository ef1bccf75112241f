// A decode step of one row as one kernel, whose blocks stay from the embedding to the logits, one
// on each core. Memory never waits for arithmetic: weights stream into each block's ring in the
// order of their use, over layers and over the meetings at which blocks wait for one another; when
// one is over, what comes next is already near. The chain of kernels (decode.cpp) is its twin.
#include "kernels/cuda/persistent_attention.h"

namespace pensive::kernels {
namespace {

// Where things stand in a block's shared memory. First what copies write.
struct Places {
  unsigned char *slots, *near;  // near: x, and behind it what attention needs
  std::uint64_t* gates;
  float *parts, *scratch;
  CudaLayer* layers;       // [2]: this and the next
  DecodeAttention* calls;  // [2]: likewise
  Mine* mine;
  float* angles;  // [2, head_dim / 2]: cosines and sines of the row's position
  float* own;     // this block's values of the row that layers add up
  __device__ Places(const PersistentStep& step, unsigned char* base) {
    slots = base;
    near = slots + static_cast<std::int64_t>(step.slots) * step.slot_bytes;
    gates = reinterpret_cast<std::uint64_t*>(near + step.near_bytes);
    parts = reinterpret_cast<float*>(gates + 2 * step.slots);
    scratch = parts + step.parts;
    layers = reinterpret_cast<CudaLayer*>(scratch + 32);
    calls = reinterpret_cast<DecodeAttention*>(layers + 2);
    mine = reinterpret_cast<Mine*>(calls + 2);
    static_assert(sizeof(Mine) <= stretch_bytes, "as planned");
    angles = reinterpret_cast<float*>(reinterpret_cast<unsigned char*>(mine) + stretch_bytes);
    own = angles + step.attention.head_dim;
  }
};

// Values that a norm weighs with, loaded before the row is there.
template <class S>
struct NormWeights {
  uint4 packs[norm_packs];
  __device__ void load(const void* weight, int width) {
#pragma unroll
    for (int i = 0; i < norm_packs; ++i) {
      const int k = (i * step_threads + static_cast<int>(threadIdx.x)) * 8;
      if (k < width) packs[i] = *reinterpret_cast<const uint4*>(static_cast<const S*>(weight) + k);
    }
  }
};

// One block's way through the step: the same code for every lot, since what runs once in a layer
// comes from afar each time. A lot's turn: x is made, its products taken, shown, and awaited.
template <class S, int sets>
class Block {
 public:
  __device__ Block(const PersistentStep& step, const Ring& ring, const Places& places)
      : step_(step),
        places_(places),
        x_(reinterpret_cast<S*>(places.near)),
        taker_(ring),
        meeting_(step.counter),
        mine_(*places.mine) {}

  __device__ void run() {
    begin();
    constexpr int in_layer = static_cast<int>(LotKind::head);
    const int turns = step_.layer_count * in_layer;
#pragma unroll 1
    for (int turn = 0; turn <= turns; ++turn) {
      const int layer = turn / in_layer;
      const auto kind = turn == turns ? LotKind::head : static_cast<LotKind>(turn % in_layer);
      make_x(kind);
      embedding_ = nullptr;
      finish(kind, bias_of(kind, places_.layers[layer % 2]));
      if (kind == LotKind::head) break;
      prepare(kind, layer);
      meet();
      if (kind == LotKind::qkv) attend(places_.calls[layer % 2]);
    }
    if (blockIdx.x == 0 && threadIdx.x == 0) meeting_.leave();
  }

 private:
  __device__ void begin() {
    const CudaRow row = step_.step[0];
    embedding_ = static_cast<const S*>(row.embedding);
    if (row.drawn >= 0)
      embedding_ += static_cast<std::int64_t>(step_.draw->tokens[row.drawn]) * step_.width;
    const int half = step_.attention.head_dim / 2;
    if (threadIdx.x == 0) {
      *places_.mine = find_stretch(step_.attention);
      places_.calls[0] = step_.attention;
      places_.calls[0].cosines = places_.angles;
      places_.calls[0].sines = places_.angles + half;
      places_.calls[1] = places_.calls[0];
    }
    for (int i = threadIdx.x; i < half; i += step_threads) {
      const std::int64_t at = static_cast<std::int64_t>(row.position) * half + i;
      places_.angles[i] = step_.attention.cosines[at];
      places_.angles[half + i] = step_.attention.sines[at];
    }
    keep_own();
    meet_in_block();
    fetch_layer(0);
    meet_in_block();
    weights_.load(places_.layers[0].attention_norm, step_.width);
    ask_for_keys(places_.calls[0]);
  }

  __device__ void keep_own() {
    const Lot& of = lot(LotKind::output);
    const OwnPairs own(of);
    for (int i = threadIdx.x; i < own.count; i += step_threads) {
      places_.own[2 * i] = widen(embedding_[first_row(of, own.first + i)]);
      places_.own[2 * i + 1] = widen(embedding_[second_row(of, own.first + i)]);
    }
  }

  __device__ const Lot& lot(LotKind kind) const { return step_.lots[static_cast<int>(kind)]; }
  __device__ static const void* bias_of(LotKind kind, const CudaLayer& layer) {
    switch (kind) {
      case LotKind::qkv:
        return layer.qkv_bias;
      case LotKind::output:
        return layer.output_bias;
      case LotKind::gate_up:
        return layer.gate_up_bias;
      case LotKind::down:
        return layer.down_bias;
      case LotKind::head:
        break;
    }
    return nullptr;
  }

  __device__ void make_x(LotKind kind) {
    if (kind == LotKind::output) return join(step_.attention);
    if (kind == LotKind::down) return fetch_x(step_.gated, step_.inner);
    norm();
  }

  // Loads what the next turns begin with, before the wait.
  __device__ void prepare(LotKind kind, int layer) {
    const CudaLayer& here = places_.layers[layer % 2];
    const CudaLayer& next = places_.layers[(layer + 1) % 2];
    const bool is_last = layer + 1 == step_.layer_count;
    if (kind == LotKind::output) {
      weights_.load(here.mlp_norm, step_.width);
      if (!is_last) fetch_layer(layer + 1);
    }
    if (kind == LotKind::down) {
      weights_.load(is_last ? step_.final_norm : next.attention_norm, step_.width);
      if (!is_last) ask_for_keys(places_.calls[(layer + 1) % 2]);
    }
  }

  // This block's products of a lot with x, and biases, to where they belong. Where the others are
  // to see them, by one warp: whose first lane then says so.
  __device__ void finish(LotKind kind, const void* bias) {
    const Lot& lot = this->lot(kind);
    const OwnPairs own(lot);
    const int mine = threadIdx.x, threads = kind == LotKind::head ? step_threads : 32;
    float early[2] = {};  // biases of this thread's first pair
    if (mine < threads && mine < own.count) add_biases(lot, own.first + mine, bias, early);
    taker_.take(lot, own.count, x_, places_.parts);
    meet_in_block();
    if (mine >= threads) return;
#pragma unroll 1
    for (int i = mine; i < own.count; i += threads) {
      float sums[2] = {};
      for (int piece = 0; piece < lot.pieces; ++piece) {
        const float* parts = places_.parts + 2 * (i * lot.pieces + piece);
        sums[0] += parts[0];
        sums[1] += parts[1];
      }
      if (i == mine) {
        sums[0] += early[0];
        sums[1] += early[1];
      } else {
        add_biases(lot, own.first + i, bias, sums);
      }
      put(kind, i, first_row(lot, own.first + i), second_row(lot, own.first + i), sums);
    }
    if (kind == LotKind::head) return;
    __syncwarp();
    if (mine == 0) meeting_.arrive();
  }
  __device__ static void add_biases(const Lot& lot, int pair, const void* bias, float (&to)[2]) {
    if (!bias) return;
    to[0] += widen(static_cast<const S*>(bias)[first_row(lot, pair)]);
    to[1] += widen(static_cast<const S*>(bias)[second_row(lot, pair)]);
  }

  // i: of this block's pairs.
  __device__ void put(LotKind kind, int i, int first, int second, const float (&sums)[2]) {
    if (kind == LotKind::head) {
      step_.logits[first] = sums[0];
      step_.logits[second] = sums[1];
    } else if (kind == LotKind::qkv) {
      narrow(sums[0], static_cast<S*>(step_.qkv) + first);
      narrow(sums[1], static_cast<S*>(step_.qkv) + second);
    } else if (kind == LotKind::gate_up) {
      const float gate = rounded<S>(sums[0]), up = rounded<S>(sums[1]);
      narrow(gate / (1 + expf(-gate)) * up, static_cast<S*>(step_.gated) + first);
    } else {  // the row that layers add up
      float* own = places_.own + 2 * i;
      step_.x[first] = own[0] += sums[0];
      if (second != first) step_.x[second] = own[1] += sums[1];
    }
  }

  __device__ void meet() {
    meeting_.next();
    if (threadIdx.x == 0) meeting_.wait();
    meet_in_block();
  }
  __device__ void show_and_meet() {
    meet_in_block();
    if (threadIdx.x == 0) meeting_.arrive();
    meet();
  }

  // Eight values of the row that layers add up.
  __device__ void load_row(int k, float (&to)[8]) const {
    if (embedding_) return widen_pack<S>(*reinterpret_cast<const uint4*>(embedding_ + k), to);
    const auto* from = reinterpret_cast<const float4*>(step_.x + k);
    const float4 low = from[0], high = from[1];
    memcpy(to, &low, 16);
    memcpy(to + 4, &high, 16);
  }

  // x = rms_norm(row), rounded.
  __device__ void norm() {
    const int width = step_.width, lane = threadIdx.x % 32;
    float values[norm_packs][8];
    float squares = 0;
#pragma unroll
    for (int i = 0; i < norm_packs; ++i) {
      const int k = (i * step_threads + static_cast<int>(threadIdx.x)) * 8;
      if (k >= width) continue;
      load_row(k, values[i]);
#pragma unroll
      for (int e = 0; e < 8; ++e) squares += values[i][e] * values[i][e];
    }
#pragma unroll
    for (int step = 16; step > 0; step /= 2) squares += __shfl_xor_sync(~0u, squares, step);
    if (lane == 0) places_.scratch[threadIdx.x / 32] = squares;
    meet_in_block();
    float sum = 0;
#pragma unroll
    for (int w = 0; w < step_warps; ++w) sum += places_.scratch[w];
    const float scale = 1 / sqrtf(sum / static_cast<float>(width) + step_.epsilon);
#pragma unroll
    for (int i = 0; i < norm_packs; ++i) {
      const int k = (i * step_threads + static_cast<int>(threadIdx.x)) * 8;
      if (k >= width) continue;
      float weights[8];
      widen_pack<S>(weights_.packs[i], weights);
      Pack16<S> made;
#pragma unroll
      for (int e = 0; e < 8; ++e) narrow(values[i][e] * scale * weights[e], &made.values[e]);
      *reinterpret_cast<Pack16<S>*>(x_ + k) = made;
    }
    meet_in_block();
  }

  // x = what is there.
  __device__ void fetch_x(const void* from, int values) {
    for (int k = threadIdx.x * 8; k < values; k += step_threads * 8)
      bring(x_ + k, static_cast<const S*>(from) + k, true);
    close_group();
    wait_for_group<0>();
    meet_in_block();
  }

  // What is known of a layer, near: its pointers would be waited for.
  __device__ void fetch_layer(int i) {
    constexpr int words = sizeof(CudaLayer) / 8;
    static_assert(sizeof(CudaLayer) % 8 == 0 && words < step_threads, "a word a thread");
    const CudaLayer& layer = step_.layers[i];
    const int word = threadIdx.x;
    if (word < words)
      reinterpret_cast<std::uint64_t*>(places_.layers + i % 2)[word] =
          reinterpret_cast<const std::uint64_t*>(&layer)[word];
    if (word != words) return;
    DecodeAttention& call = places_.calls[i % 2];
    call.query_norm = layer.query_norm;
    call.key_norm = layer.key_norm;
    call.key_pages = layer.key_pages;
    call.value_pages = layer.value_pages;
  }

  // Attention's place, behind the normed row that is read meanwhile.
  __device__ unsigned char* behind_x() const {
    return places_.near + (step_.width * static_cast<int>(sizeof(S)) + 127) / 128 * 128;
  }
  __device__ void ask_for_keys(const DecodeAttention& call) {
    Stretch<S, sets>(call, mine_, behind_x()).ask();
  }
  __device__ void attend(const DecodeAttention& call) {
    if (mine_.begin < mine_.end) Stretch<S, sets>(call, mine_, behind_x()).run();
    show_and_meet();
  }
  // x = what the stretches become.
  __device__ void join(const DecodeAttention& call) {
    if (mine_.splits > 1 && mine_.splits <= few_stretches) {
      join_few(call, mine_.splits, x_);
      return meet_in_block();
    }
    if (mine_.splits > 1) {
      join_many<S>(call, mine_.splits);
      show_and_meet();
    }
    fetch_x(call.out, call.heads * call.head_dim);
  }

  const PersistentStep& step_;
  const Places& places_;
  S* x_;
  const S* embedding_ = nullptr;  // until something was added to it
  Taker<S> taker_;
  Meeting meeting_;
  const Mine& mine_;
  NormWeights<S> weights_;
};

template <class S, int sets>
__global__ void __launch_bounds__(step_threads + step_askers * 32, 1)
    stay(const __grid_constant__ PersistentStep step) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) unsigned char base[];
  const Places places(step, base);
  const Ring ring{places.slots, places.gates, places.gates + step.slots, step.slots,
                  step.slot_bytes};
  if (step.step[0].position < 0) return;
  if (threadIdx.x == 0) ring.open();
  __syncthreads();
  if (threadIdx.x < step_threads) return Block<S, sets>(step, ring, places).run();
  if (threadIdx.x % 32 == 0) Asker(step, ring, threadIdx.x / 32 - step_warps).run();
#endif
}

template <class S, int sets>
int launch(const PersistentStep& step, cudaStream_t stream) {
  const auto kernel = stay<S, sets>;
  if (int error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       static_cast<int>(step.shared_bytes)))
    return error;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(step.blocks));
  config.blockDim = dim3(step_threads + step_askers * 32);
  config.dynamicSmemBytes = static_cast<std::size_t>(step.shared_bytes);
  config.stream = stream;
  // All blocks or none: they wait for one another, also where another engine has work on the card.
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = 1;
  config.attrs = &attribute;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, step);
}

}  // namespace

int launch_persistent(const PersistentStep& step, Scalar scalar, cudaStream_t stream) {
  if (scalar == Scalar::bfloat16)
    return step.attention.head_dim <= 64 ? launch<__nv_bfloat16, 1>(step, stream)
                                         : launch<__nv_bfloat16, 2>(step, stream);
  return step.attention.head_dim <= 64 ? launch<__half, 1>(step, stream)
                                       : launch<__half, 2>(step, stream);
}

}  // namespace pensive::kernels
