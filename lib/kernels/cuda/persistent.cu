// A decode step of one row as one kernel, whose blocks stay from the embedding to the logits, one
// on each core. Memory never waits for arithmetic: weights stream into each block's ring in the
// order of their use, over layers and over the meetings at which blocks wait for one another; when
// one is over, what comes next is already near. The chain of kernels (decode.cpp) is its twin.
#include "kernels/cuda/near.h"
#include "kernels/cuda/persistent_places.h"
#include "kernels/cuda/warpgroup.h"

namespace pensive::kernels {
namespace {

// One block's way through the step: the same code for every lot, since what runs once in a layer
// comes from afar each time. A lot's turn: x is made, its products taken, shown, and awaited.
template <class S, int sets>
class Block {
 public:
  __device__ Block(const PersistentStep& step, const Ring& ring, const NearPlaces& places)
      : step_(step),
        places_(places),
        x_(reinterpret_cast<S*>(places.near)),
        taker_(ring),
        meeting_(step.packets.counters),
        turn_(step.packets.counters[2]),
        mine_(*places.mine) {}

  __device__ void run() {
    begin();
    constexpr int in_layer = static_cast<int>(LotKind::head);
    const int turns = step_.layer_count * in_layer;
#pragma unroll 1
    for (int turn = 0; turn <= turns; ++turn) {
      const int layer = turn / in_layer;
      const auto kind = turn == turns ? LotKind::head : static_cast<LotKind>(turn % in_layer);
      const CudaLayer& here = places_.layers[layer % 2];
      make_x(kind, here);
      embedding_ = nullptr;
      if (kind == LotKind::qkv) ++turn_;
      finish(kind, bias_of(kind, here));
      if (kind == LotKind::head) break;
      prepare(kind, layer);
      if (kind == LotKind::qkv) {
        attend(places_.calls[layer % 2]);
      } else {
        meet();
      }
    }
    // All others have read what they were, or this block could not be here.
    if (blockIdx.x == 0 && threadIdx.x == 0) {
      meeting_.leave();
      step_.packets.counters[2] = turn_;
    }
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
    ask_for_keys(places_.calls[0]);
  }

  __device__ void keep_own() {
    const Lot& of = lot(LotKind::output);
    const OwnPairs own = places_.pairs[static_cast<int>(LotKind::output)];
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

  __device__ void make_x(LotKind kind, const CudaLayer& layer) {
    const bool is_output = kind == LotKind::output;
    if (is_output || kind == LotKind::down)
      return hear_x(is_output ? step_.packets.mixed : step_.packets.gated,
                    is_output ? step_.attention.heads * step_.attention.head_dim : step_.inner);
    norm(step_.packets.rows[kind == LotKind::gate_up ? 0 : 1],
         kind == LotKind::gate_up ? layer.mlp_norm
         : kind == LotKind::head  ? step_.final_norm
                                  : layer.attention_norm);
  }

  // Asks for what the next turns begin with.
  __device__ void prepare(LotKind kind, int layer) {
    if (layer + 1 == step_.layer_count) return;
    const DecodeAttention& call = places_.calls[(layer + 1) % 2];
    if (kind == LotKind::output) fetch_layer(layer + 1);
    if (kind == LotKind::down) ask_for_keys(call);
    if (kind != LotKind::gate_up) return;
    ask_for_cache<S, step_threads>(call, mine_);
    if (threadIdx.x > 0 || blockIdx.x > 1) return;
    const CudaLayer& next = places_.layers[(layer + 1) % 2];
    bring_closer(blockIdx.x == 0 ? next.attention_norm : next.mlp_norm,
                 step_.width * static_cast<int>(sizeof(S)));
  }

  // This block's products of a lot with x, and biases, to where they belong; tells the others.
  __device__ void finish(LotKind kind, const void* bias) {
    const Lot& lot = this->lot(kind);
    const OwnPairs own = places_.pairs[static_cast<int>(kind)];
    const int mine = threadIdx.x;
    float early[2] = {};  // biases of this thread's first pair
    if (mine < own.count) add_biases(lot, own.first + mine, bias, early);
    taker_.take(lot, own.count, x_, places_.parts);
    meet_in_block();
#pragma unroll 1
    for (int i = mine; i < own.count; i += step_threads) {
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
    meet_in_block();
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
      tell_brief(step_.packets.qkv + first, sums[0]);
      tell_brief(step_.packets.qkv + second, sums[1]);
    } else if (kind == LotKind::gate_up) {
      const float gate = rounded<S>(sums[0]), up = rounded<S>(sums[1]);
      tell_brief(step_.packets.gated + first, gate / (1 + expf(-gate)) * up);
    } else {  // the row that layers add up
      float* own = places_.own + 2 * i;
      std::uint64_t* row = step_.packets.rows[kind == LotKind::output ? 0 : 1];
      own[0] += sums[0];
      own[1] += sums[1];
      tell(row + place_in_row(first), wide_packet(own[0], turn_));
      if (second != first) tell(row + place_in_row(second), wide_packet(own[1], turn_));
    }
  }
  __device__ void tell_brief(std::uint32_t* to, float value) const {
    S rounded;
    narrow(value, &rounded);
    tell(to, brief_packet(rounded, turn_));
  }
  // Of a packet: every thread that norms has eight values, two of which it reads at a time, beside
  // those of its neighbours.
  __device__ int place_in_row(int i) const {
    return (i % 8 / 2 * (step_.width / 8) + i / 8) * 2 + i % 2;
  }
  // Eight values of the row that layers add up, once they are there.
  __device__ void hear_row(const std::uint64_t* row, int k, float (&to)[8]) const {
    if (embedding_) return widen_pack<S>(*reinterpret_cast<const uint4*>(embedding_ + k), to);
    Packets16 packets[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) packets[i] = look_at_row(row, k, i);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      while (!packets[i].fit_wide(turn_)) packets[i] = look_at_row(row, k, i);
      to[2 * i] = wide_value(packets[i].a);
      to[2 * i + 1] = wide_value(packets[i].b);
    }
  }
  __device__ Packets16 look_at_row(const std::uint64_t* row, int k, int i) const {
    return look(static_cast<const void*>(row + 2 * (i * (step_.width / 8) + k / 8)));
  }

  __device__ void meet() {
    meeting_.next();
    if (threadIdx.x == 0) meeting_.wait();
    meet_in_block();
  }

  // x = rms_norm(row), rounded.
  __device__ void norm(const std::uint64_t* row, const void* weight) {
    const int width = step_.width, lane = threadIdx.x % 32;
    uint4 packs[norm_packs];  // of the weight, asked for together with the row
#pragma unroll
    for (int i = 0; i < norm_packs; ++i) {
      const int k = (i * step_threads + static_cast<int>(threadIdx.x)) * 8;
      if (k < width) packs[i] = *reinterpret_cast<const uint4*>(static_cast<const S*>(weight) + k);
    }
    float values[norm_packs][8];
    float squares = 0;
#pragma unroll
    for (int i = 0; i < norm_packs; ++i) {
      const int k = (i * step_threads + static_cast<int>(threadIdx.x)) * 8;
      if (k >= width) continue;
      hear_row(row, k, values[i]);
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
      widen_pack<S>(packs[i], weights);
      Pack16<S> made;
#pragma unroll
      for (int e = 0; e < 8; ++e) narrow(values[i][e] * scale * weights[e], &made.values[e]);
      *reinterpret_cast<Pack16<S>*>(x_ + k) = made;
    }
    meet_in_block();
  }

  // x = what blocks tell. Most of a thread's loads are under way together.
  __device__ void hear_x(const std::uint32_t* from, int values) {
    constexpr int at_once = 10;
#pragma unroll 1
    for (int first = threadIdx.x * 4; first < values; first += at_once * step_threads * 4) {
      Packets16 packets[at_once];
#pragma unroll
      for (int u = 0; u < at_once; ++u) {
        const int k = first + u * step_threads * 4;
        if (k < values) packets[u] = look(static_cast<const void*>(from + k));
      }
#pragma unroll
      for (int u = 0; u < at_once; ++u) {
        const int k = first + u * step_threads * 4;
        if (k >= values) continue;
        while (!packets[u].fit_brief(turn_)) packets[u] = look(static_cast<const void*>(from + k));
        const auto low = [](std::uint64_t two) {
          return __byte_perm(static_cast<unsigned>(two), static_cast<unsigned>(two >> 32), 0x5410);
        };
        *reinterpret_cast<uint2*>(x_ + k) = make_uint2(low(packets[u].a), low(packets[u].b));
      }
    }
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
    meeting_.next();
    if (mine_.begin < mine_.end) {
      if (threadIdx.x == 0) meeting_.wait();
      meet_in_block();
      Stretch<S, sets>(call, mine_, behind_x()).run(step_.packets, turn_);
    }
    if (threadIdx.x == 0) meeting_.arrive();
    meet();
  }

  const PersistentStep& step_;
  const NearPlaces& places_;
  S* x_;
  const S* embedding_ = nullptr;  // until something was added to it
  Taker<S> taker_;
  Meeting meeting_;
  unsigned turn_;  // of the layer: the number of what is told; at first of the last one before
  const Mine& mine_;
};

template <class S, int sets>
__global__ void __launch_bounds__(step_threads + step_askers * 32, 1)
    stay(const __grid_constant__ PersistentStep step) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) unsigned char base[];
  const NearPlaces places(step, base);
  const Ring ring{places.slots, places.gates, places.gates + step.slots, step.slots,
                  step.slot_bytes};
  if (step.step[0].position < 0) return;
  if (threadIdx.x == 0) ring.open();
  if (threadIdx.x < lot_kinds) places.pairs[threadIdx.x] = own_pairs(step.lots[threadIdx.x]);
  __syncthreads();
  if (threadIdx.x < step_threads) {
    take_registers<taker_registers>();
    Block<S, sets>(step, ring, places).run();
  } else {
    give_registers<asker_registers>();
    if (threadIdx.x % 32 == 0) Asker(step, ring, places.pairs, threadIdx.x / 32 - step_warps).run();
  }
#endif
}

template <class S, int sets>
int launch(const PersistentStep& step, cudaStream_t stream) {
  const auto kernel = stay<S, sets>;
  if (int error = allow_near_memory<stay<S, sets>>()) return error;
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
