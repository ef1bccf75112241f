// What a decode step's graph depends on, and where its rows stand in the workspace.
#pragma once
#include <algorithm>
#include <tuple>
#include <vector>

#include "kernels/cuda/persistent.h"

namespace pensive::kernels {

constexpr std::int64_t cublas_bytes = std::int64_t{32} << 20;  // what it wants on the largest cards

inline std::int64_t size_of(Scalar scalar) { return scalar == Scalar::float32 ? 4 : 2; }

// What a step's launches depend on: one graph for each.
struct Size {
  int rows, splits, team, stages;
  bool is_large;  // attention's blocks are
  bool is_short;  // no row is longer than short_positions
  bool stays;     // one row, by the kernel that stays
  // As seen on a card: with more, products have less of the first cache than they need; with less,
  // attention of several chunks a warp does not find room for a second block.
  int near_percent() const { return stages == 1 || rows <= few_rows ? 44 : -1; }
  bool operator<(const Size& other) const {
    return std::tie(rows, splits, team, stages, is_large, is_short, stays) <
           std::tie(other.rows, other.splits, other.team, other.stages, other.is_large,
                    other.is_short, other.stays);
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
template <class Each>
int splits_until(int longest, Each each) {
  int most = 1, splits = 1;
  for (int length = block_positions; length < longest + block_positions;
       length += block_positions) {
    const int here = length < longest ? length : longest, positions = each(here);
    most = std::max(most, (here + positions - 1) / positions);
  }
  while (splits < most) splits *= 2;
  return splits;
}

// Where a step's rows stand in the workspace.
struct Room {
  float* x;  // what the layers add up
  void *normed, *qkv, *mixed, *gate_up, *inner, *cublas;
  float *logits, *scratch, *partials;
  float2* marks;
  int* arrivals;
  Packets packets{};
  std::int64_t bytes = 0;

  // has_draws: whether there are logits to draw from.
  Room(const CudaModel& model, Size step, void* base, bool has_draws = true) {
    const std::int64_t rows = step.rows, splits = step.splits;
    const std::int64_t size = size_of(model.scalar), dim = model.head_dim, heads = model.heads;
    auto take = [&](std::int64_t count) -> void* {
      void* at = static_cast<char*>(base) + bytes;
      bytes += (count + 255) / 256 * 256;
      return at;
    };
    // First and always as long, so that it stays zero whatever the sizes of steps.
    arrivals = static_cast<int*>(take(model.most_rows * heads * 8 * 4));
    if (model.one_row != OneRow::chain && !model.is_invariant) {  // likewise
      std::int64_t count = 0;
      packets_at(model, nullptr, &count);
      packets = packets_at(model, take(count), &count);
    }
    x = static_cast<float*>(take(rows * model.width * 4));
    normed = take(rows * model.width * size);
    qkv = take(rows * (heads + 2 * model.kv_heads) * dim * size);
    mixed = take(rows * heads * dim * size);
    gate_up = take(rows * 2 * model.inner * size);
    inner = take(rows * model.inner * size);
    const std::int64_t drawn = has_draws ? rows : 0;
    logits = static_cast<float*>(take(drawn * model.vocab * 4));
    cublas = take(model.is_invariant ? 0 : cublas_bytes);
    scratch = static_cast<float*>(take(drawn * draw_stride(model.vocab) * 4));
    std::int64_t shares = splits > 1 ? rows * heads * splits : 0;
    partials = static_cast<float*>(take(shares * dim * 4));
    marks = static_cast<float2*>(take(shares * 8));
  }
};

// A step's launches: what they depend on, read and write. launch_* in decode.cpp.
struct Step {
  Size size;
  Places places;
  Room room;
  Way way;
  bool is_prompt;  // rows may be of one sequence, and nothing is drawn
};

// Errors of launches, the first of which counts.
struct Errors {
  int first = 0;
  void operator+=(int error) {
    if (first == 0) first = error;
  }
};

// Median microseconds of a graph.
inline int time_graph(cudaGraphExec_t graph, cudaStream_t stream, float* us) {
  constexpr int replays = 15, warm = 4;
  cudaEvent_t begin = nullptr, end = nullptr;
  std::vector<float> times;
  int error = cudaEventCreate(&begin);
  if (error == cudaSuccess) error = cudaEventCreate(&end);
  for (int i = 0; i < replays && error == cudaSuccess; ++i) {
    float milliseconds = 0;
    cudaEventRecord(begin, stream);
    error = cudaGraphLaunch(graph, stream);
    cudaEventRecord(end, stream);
    if (error == cudaSuccess) error = cudaEventSynchronize(end);
    if (error == cudaSuccess) error = cudaEventElapsedTime(&milliseconds, begin, end);
    if (i >= warm) times.push_back(milliseconds * 1e3f);
  }
  if (begin) cudaEventDestroy(begin);
  if (end) cudaEventDestroy(end);
  std::sort(times.begin(), times.end());
  *us = times.empty() ? 0 : times[times.size() / 2];
  return error;
}

}  // namespace pensive::kernels
