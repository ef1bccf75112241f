// Bytes that stream from memory into a ring of slots near a core, in the order in which they will
// be used, however long their users wait for one another meanwhile; and how all blocks of a launch
// wait for one another. From capability 9.0 on.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

namespace pensive::kernels {

#if defined(__CUDACC__)

__device__ inline unsigned near_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// A barrier in shared memory, of `arrivals` threads, whose phases take turns.
__device__ inline void make_gate(std::uint64_t* gate, int arrivals) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(near_address(gate)), "r"(arrivals)
               : "memory");
#endif
}
// Gates that were made are there for copies too.
__device__ inline void show_gates() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}
__device__ inline void arrive_at_gate(std::uint64_t* gate) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(near_address(gate)) : "memory");
#endif
}
// Arrives; the phase ends when so many bytes have come too.
__device__ inline void expect_bytes(std::uint64_t* gate, int bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(near_address(gate)),
               "r"(bytes)
               : "memory");
#endif
}
// Until the phase of that parity has ended. A phase further back looks like one to come.
__device__ inline void wait_at_gate(std::uint64_t* gate, unsigned parity) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}\n" ::"r"(near_address(gate)),
      "r"(parity)
      : "memory");
#endif
}
// Whether it has.
__device__ inline bool is_past_gate(std::uint64_t* gate, unsigned parity) {
  unsigned done = 1;
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "mbarrier.test_wait.parity.shared::cta.b64 done, [%1], %2;\n"
      "selp.u32 %0, 1, 0, done;\n"
      "}\n"
      : "=r"(done)
      : "r"(near_address(gate)), "r"(parity)
      : "memory");
#endif
  return done != 0;
}
// To the second cache; bytes and address are multiples of 16.
__device__ inline void bring_closer(const void* from, int bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
#endif
}
// `bytes`, and both addresses, are multiples of 16. The bytes are used once.
__device__ inline void stream_bytes(void* to, const void* from, int bytes, std::uint64_t* gate,
                                    std::uint64_t policy) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
      " [%0], [%1], %2, [%3], %4;" ::"r"(near_address(to)),
      "l"(from), "r"(bytes), "r"(near_address(gate)), "l"(policy)
      : "memory");
#endif
}
__device__ inline std::uint64_t used_once() {
  std::uint64_t policy = 0;
#if __CUDA_ARCH__ >= 900
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
#endif
  return policy;
}

// All blocks of a launch, which are there together (a cooperative launch: all or none, so that
// nobody waits for a block that waits for room). Counts on from launch to launch.
struct Meeting {
  std::uint32_t* counter;  // [2]: arrivals ever, and those before this launch
  std::uint32_t target;

  // After what the kernels before have written is there.
  __device__ explicit Meeting(std::uint32_t* counter) : counter(counter), target(counter[1]) {}
  // One thread, after all that the block has to show.
  __device__ void arrive() {
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.acq_rel.gpu;" ::: "memory");
    asm volatile("red.relaxed.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
#endif
  }
  // All count along; one thread waits.
  __device__ void next() { target += gridDim.x; }
  __device__ void wait() const {
#if __CUDA_ARCH__ >= 900
    std::uint32_t seen;
    do {
      asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(counter) : "memory");
    } while (static_cast<std::int32_t>(seen - target) < 0);
#endif
  }
  // One thread of the launch, once all blocks have met at least once.
  __device__ void leave() const { counter[1] = target; }
};

#endif

}  // namespace pensive::kernels
