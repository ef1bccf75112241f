// Decode steps of a shape with random weights and a random cache, straight through
// libpensive-cuda.so: since no prompt has to be read first, any batch and context can be timed.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string_view>
#include <vector>

#include "bench.h"
#include "kernels/cuda.h"
#include "runtime.h"
#include "shapes.h"

namespace pensive::bench {

class Steps {
 public:
  static constexpr int most_batch = 512;

  // On card 0, whose library is loaded (a model stands there). Throws std::runtime_error where
  // that is not so.
  explicit Steps(const Shape& shape);
  ~Steps();
  Steps(const Steps&) = delete;
  Steps& operator=(const Steps&) = delete;

  // What a step must read: every weight but the table of embeddings, every key and value.
  double bytes(int batch, int context) const;
  // Of the steps from now on.
  void compute_in(Arithmetic arithmetic) {
    model_.is_invariant = arithmetic == Arithmetic::row_invariant;
  }
  void compute_one_row(kernels::OneRow one_row) { model_.one_row = one_row; }
  // Microseconds of a step, its copies to the card and back included. Nothing where the card has
  // not enough memory.
  std::optional<Spread> time(int batch, int context, int repetitions);

  // Calls `begin` when all is warm; -> how many steps were done from then until it was over.
  int count(int batch, int context, const std::function<void()>& begin,
            const std::atomic<bool>& is_over);

  struct Part {
    std::string_view name;
    double us, bytes;  // of all layers; bytes of weights, cache and logits
  };
  // Each kind of kernel alone.
  std::vector<Part> profile(int batch, int context);

 private:
  struct Inputs;
  // Makes a cache, and calls `use` with a decoder and its inputs after a few steps, which load
  // kernels and capture the graph.
  void with_steps(int batch, int context, const std::function<void(void*, const Inputs&)>& use);
  void step(void* decoder, const Inputs& inputs);
  void* take(std::size_t bytes, std::vector<void*>* owner);
  void* random(std::int64_t count, double reach, double middle, std::vector<void*>* owner);
  void make_cache(int batch, int context);
  void drop(std::vector<void*>* owner);
  double cache_bytes(int batch, int context) const;
  int qkv_width() const { return (shape_.heads + 2 * shape_.kv_heads) * shape_.head_dim; }

  const Shape& shape_;
  Runtime calls_;
  const kernels::CudaTable* table_ = nullptr;
  std::vector<void*> weights_, cache_;
  std::vector<kernels::CudaLayer> layers_;
  kernels::CudaModel model_{};
  void* embeddings_ = nullptr;
};

}  // namespace pensive::bench
