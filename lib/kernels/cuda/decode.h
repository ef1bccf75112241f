// What decode steps are made of: the launching functions that decode.cpp strings together.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda.h"

namespace pensive::kernels {

constexpr int most_splits = 64;  // of one row's cache, over blocks
constexpr int most_group = 8;    // query heads of a block of attention

// How many positions of a row's cache one block reads, a multiple of 64. By the row's own length,
// and whether the step has so few rows that these alone would leave most of the card idle; so that
// a row's bits do not depend on its neighbours.
constexpr int few_rows = 4;
#if defined(__CUDACC__)
__host__ __device__
#endif
    inline int
    split_positions(int length, int rows) {
  int least = length <= 512 ? 64 : length <= 2048 ? 128 : length <= 8192 ? 256 : 512;
  int even = (length + most_splits * 64 - 1) / (most_splits * 64) * 64;
  if (rows <= few_rows) return even > 64 ? even : 64;
  return even > least ? even : least;
}

// The same on tensor cores, where a team of blocks reads a stretch of positions: all of a row where
// the step's longest is short enough, unless that would leave lone blocks with an idle card.
// `pairs` are the step's rows times their blocks of heads; a large block counts as two of a team.
constexpr int block_positions = 64;  // of a block at a time
constexpr int short_positions = 2048;
constexpr int many_blocks = 132;  // keep a large card busy
#if defined(__CUDACC__)
__host__ __device__
#endif
    inline int
    team_positions(int length, int longest, int pairs, int team) {
  if (longest <= short_positions && (team > 1 || pairs >= many_blocks)) return short_positions;
  int unit = team * block_positions;
  int blocks = (length + block_positions - 1) / block_positions;
  int share = (pairs * blocks + many_blocks - 1) / many_blocks;
  int even = (length + most_splits * unit - 1) / (most_splits * unit) * unit;
  int wanted = share * unit < short_positions ? share * unit : short_positions;
  return even > wanted ? even : wanted;
}
// Blocks of a team: where splits need not meet in memory, as many as there is room for; else pairs,
// which find a place sooner.
inline int team_blocks(int longest, int pairs) {
  int blocks = longest <= short_positions ? 8 : 2;
  while (blocks > 1 && pairs * blocks > 2 * many_blocks) blocks /= 2;
  return blocks;
}
// Whether blocks of twice as many warps are faster there, one for each core or for every other:
// what these share they need not meet for. As seen on a card (docs/performance.md).
constexpr int few_pairs = 16;
inline bool has_large_blocks(int longest, int pairs) {
  return longest <= short_positions && pairs > few_pairs && pairs <= many_blocks;
}
inline int large_team(int pairs) { return 2 * pairs <= many_blocks ? 2 : 1; }

// Row-invariant: by the row's own length alone, for teams of one size.
#if defined(__CUDACC__)
__host__ __device__
#endif
    inline int
    own_positions(int length, int team) {
  int unit = team * block_positions, wanted = (team > 1 ? 16 : 4) * block_positions;
  int even = (length + most_splits * unit - 1) / (most_splits * unit) * unit;
  return even > wanted ? even : wanted;
}
constexpr int own_team = 2;  // where there are clusters

// Where launches go, and what the card there can do.
struct Way {
  cudaStream_t stream;
  int capability;  // 90 for 9.0
  // How much of a core's near memory is to be shared memory, of the most there is; -1: as each
  // kernel needs. Where kernels overlap, all should say the same: a core that is not empty cannot
  // change it. The rest is the first cache, through which weights come.
  int near_percent = -1;
  bool waits = false;  // for the kernel before, whatever the card can do
  bool has_clusters() const { return capability >= 90; }
  // A kernel's blocks may come while those of the one before it still run: they fetch what no
  // kernel writes, then wait.
  bool overlaps() const { return has_clusters() && !waits; }
};

// What becomes of a product.
enum class Into : std::int32_t {
  plain,  // out = x W^T + bias
  added,  // out += x W^T + bias, out in float32
  gated,  // out = silu(gate) * up, of W = gate | up
  wide    // out = x W^T in float32
};

struct Product {
  Into into;
  const void* x;     // [rows, in]; float32 where it is normed
  const void* norm;  // [in]: x is normed first (rms_norm); null: as it is
  double epsilon;
  const void* weight;  // [out, in]; gated: [2 * out, in]
  const void* bias;    // [out]; gated: [2 * out]; may be null
  void* out;           // [rows, out]
  std::int32_t rows, in, out_width;
};

// Rows of `in` values are whole packs of 16 bytes. For at most 8 rows; added takes no norm, the
// others need one.
bool takes_product(int rows, int in, Scalar scalar);
int launch_product(const Product& product, Scalar scalar, Way way);
// For the two brief types on tensor cores (from 8.0 on), fastest for at most 16 rows; without norm.
// A row's bits do not depend on how many there are.
bool takes_tiles(int in, Scalar scalar, Way way);
int launch_tiles(const Product& product, Scalar scalar, Way way);
// Any number of rows, whose bits do not depend on it: on tensor cores where they take it, else in
// eights; without norm.
int launch_invariant(const Product& product, Scalar scalar, Way way);

// x [rows, width] = the rows' embeddings, zeros where there is no row. draw->tokens still holds
// what the step before has drawn. What layers add up to x is float32 throughout.
int launch_embed(const CudaRow* step, const CudaDraw* draw, float* x, int rows, int width,
                 Scalar scalar, Way way);
// x += bias where there is one; out = rms_norm(x). In place for x.
int launch_add_norm(float* x, const void* bias, const void* weight, void* out, int rows, int width,
                    double epsilon, Scalar scalar, Way way);
// out = silu(gate) * up of gate_up + bias; bias may be null.
int launch_gate(const void* gate_up, const void* bias, void* out, int rows, int inner,
                Scalar scalar, Way way);

struct DecodeAttention {
  const CudaRow* step;
  const std::int32_t* tables;
  const void* qkv;                    // [rows, (heads + 2 kv_heads) * head_dim], as projected
  const void* qkv_bias;               // added first; may be null
  const void *query_norm, *key_norm;  // [head_dim] or null
  double epsilon;
  const float *cosines, *sines;
  void *key_pages, *value_pages;
  void* out;        // [rows, heads * head_dim]
  float* partials;  // [rows, heads, splits, head_dim]
  float2* marks;    // [rows, heads, splits]: largest score, sum of the weights
  int* arrivals;    // [rows, kv_heads * groups, team], zero before and after
  std::int32_t rows, heads, kv_heads, head_dim, page_tokens, splits;
  std::int32_t page_shift;  // its logarithm where it is a power of two, else -1
  std::int32_t team;        // blocks that share a split, on tensor cores
  std::int32_t stages;      // chunks of positions a warp has under way there, 1 or 2
  bool is_large;            // a block there has eight warps, else four
  std::int32_t longest;     // of the step's rows, about
  bool is_invariant;        // splits go by a row's own length
  bool is_written;          // the cache has the rows' own positions
};
// Turns keys and writes the rows' own positions to the cache, as attention does: before it, where
// rows are of one sequence and see each other.
int launch_own_positions(const DecodeAttention& call, Scalar scalar, Way way);
// Norms and turns queries and keys, writes the new position to the cache, and attends to all.
int launch_decode_attention(const DecodeAttention& call, Scalar scalar, Way way);

// The same on tensor cores.
bool takes_attention_tiles(int head_dim, Scalar scalar, Way way);
int launch_attention_tiles(const DecodeAttention& call, Scalar scalar, Way way);

// Whether the draw of a step itself takes its results to pinned memory.
#if defined(__CUDACC__)
__host__ __device__
#endif
    inline bool
    takes_results(const CudaDraw& draw) {
  return draw.rows == 1 && draw.host_results != nullptr;
}
// The draw of a step, from logits [rows, vocab].
int launch_step_draw(const CudaDraw* draw, const float* logits, float* scratch, int rows, int vocab,
                     Way way);

#if defined(__CUDACC__)

// Blocks of the next kernel may come.
__device__ inline void let_next_come() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}
// All that the kernels before this one wrote is there.
__device__ inline void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// team: blocks of a cluster along x, 1 for none.
template <class... Parameters, class... Arguments>
int start_teams(void (*kernel)(Parameters...), dim3 grid, int threads, int team, std::size_t shared,
                Way way, Arguments... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared;
  config.stream = way.stream;
  cudaLaunchAttribute attributes[3]{};
  unsigned count = 0;
  if (team > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count++].val.clusterDim = {static_cast<unsigned>(team), 1, 1};
  }
  if (way.overlaps()) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count++].val.programmaticStreamSerializationAllowed = 1;
  }
  if (way.near_percent >= 0) {
    attributes[count].id = cudaLaunchAttributePreferredSharedMemoryCarveout;
    attributes[count++].val.sharedMemCarveout = way.near_percent;
  }
  config.attrs = attributes;
  config.numAttrs = count;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

template <class... Parameters, class... Arguments>
int start(void (*kernel)(Parameters...), dim3 grid, int threads, std::size_t shared, Way way,
          Arguments... arguments) {
  return start_teams(kernel, grid, threads, 1, shared, way, arguments...);
}

// V values that are loaded at once, 16 bytes.
template <class S>
struct alignas(16) Pack16 {
  static constexpr int size = 16 / sizeof(S);
  S values[size];
};

#endif

}  // namespace pensive::kernels
