// Blocks of a cluster: who they are, how they wait for each other, where they reach into each
// other's memory. Before 9.0 every block is alone.
#pragma once
#include <cooperative_groups.h>

namespace pensive::kernels {

#if defined(__CUDACC__)

// All threads of all blocks arrive before any goes on; what they wrote before is there after.
__device__ inline void arrive_at_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
#endif
}
__device__ inline void wait_for_cluster() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}
// Where the same shared variable of another block stands.
template <class T>
__device__ T* in_block(T* mine, int rank) {
#if __CUDA_ARCH__ >= 900
  return cooperative_groups::this_cluster().map_shared_rank(mine, rank);
#else
  return mine;
#endif
}

#endif

}  // namespace pensive::kernels
