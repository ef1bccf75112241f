// Captures launches as graphs, one for each size of step, and replays them.
#pragma once
#include <cuda_runtime_api.h>

#include <map>

#include "kernels/cuda/step.h"

namespace pensive::kernels {

class Graphs {
 public:
  Graphs() = default;
  ~Graphs() {
    forget();
    if (side_) cudaStreamDestroy(side_);
  }
  Graphs(const Graphs&) = delete;
  Graphs& operator=(const Graphs&) = delete;

  int open() { return cudaStreamCreateWithFlags(&side_, cudaStreamNonBlocking); }

  // launch(stream) -> error. The first run of a size loads what a capture could not.
  template <class Launch>
  int run(const Size& size, cudaStream_t stream, bool* captured, Launch launch) {
    auto [found, is_new] = graphs_.emplace(size, nullptr);
    if (is_new) return launch(stream);
    if (!found->second) {
      if (int error = capture(launch, &found->second)) return error;
      *captured = true;
    }
    return cudaGraphLaunch(found->second, stream);
  }

  template <class Launch>
  int capture(Launch launch, cudaGraphExec_t* exec) {
    int error = cudaStreamBeginCapture(side_, cudaStreamCaptureModeThreadLocal);
    if (error != cudaSuccess) return error;
    const int launched = launch(side_);
    cudaGraph_t graph = nullptr;
    error = cudaStreamEndCapture(side_, &graph);
    if (launched != cudaSuccess) error = launched;
    if (error == cudaSuccess) error = cudaGraphInstantiate(exec, graph, 0);
    if (graph) cudaGraphDestroy(graph);
    cudaGetLastError();  // leaves no error behind for the host's next check
    return error;
  }

  void forget() {
    for (auto& [size, graph] : graphs_)
      if (graph) cudaGraphExecDestroy(graph);
    graphs_.clear();
  }

 private:
  cudaStream_t side_ = nullptr;  // graphs are captured here: the default stream cannot be
  std::map<Size, cudaGraphExec_t> graphs_;
};

}  // namespace pensive::kernels
