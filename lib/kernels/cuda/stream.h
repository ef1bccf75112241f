// Bytes that stream from memory into a ring of slots near a core, in the order in which they will
// be used, however long their users wait for one another meanwhile; and how all blocks of a launch
// wait for one another. From capability 9.0 on.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

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

// What blocks of a launch tell one another: packets, each a value with the number of its turn
// beside it. Whoever waits for it reads it until the number fits, so that a value is told in the
// time of one write and one read, without a fence. Who writes, and who reads, are there together (a
// cooperative launch: all blocks or none, so that nobody waits for a block that waits for room).
//
// Wide packets: a float and 32 bits of the turn. Brief: 16 bits of a value, 16 of the turn; turns
// count on, and what a packet held before is of the turn before.
__device__ inline std::uint64_t wide_packet(float value, unsigned turn) {
  return std::uint64_t{turn} << 32 | __float_as_uint(value);
}
template <class S>
__device__ std::uint32_t brief_packet(S value, unsigned turn) {
  static_assert(sizeof(S) == 2, "16 bits");
  std::uint16_t bits;
  memcpy(&bits, &value, 2);
  return turn << 16 | bits;
}
__device__ inline float wide_value(std::uint64_t packet) {
  return __uint_as_float(static_cast<unsigned>(packet));
}
template <class S>
__device__ S brief_value(std::uint32_t packet) {
  const auto bits = static_cast<std::uint16_t>(packet);
  S value;
  memcpy(&value, &bits, 2);
  return value;
}
__device__ inline bool fits_wide(std::uint64_t packet, unsigned turn) {
  return static_cast<unsigned>(packet >> 32) == turn;
}
__device__ inline bool fits_brief(std::uint32_t packet, unsigned turn) {
  return packet >> 16 == (turn & 0xffff);
}

__device__ inline void tell(std::uint64_t* to, std::uint64_t packet) {
  asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(to), "l"(packet) : "memory");
}
__device__ inline void tell(std::uint32_t* to, std::uint32_t packet) {
  asm volatile("st.relaxed.gpu.global.u32 [%0], %1;" ::"l"(to), "r"(packet) : "memory");
}
__device__ inline std::uint32_t look(const std::uint32_t* from) {
  std::uint32_t packet;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(packet) : "l"(from) : "memory");
  return packet;
}

// Two wide packets or four brief ones, 16 bytes.
struct Packets16 {
  std::uint64_t a, b;
  __device__ bool fit_wide(unsigned turn) const { return fits_wide(a, turn) && fits_wide(b, turn); }
  __device__ bool fit_brief(unsigned turn) const {
    const std::uint64_t numbers = std::uint64_t{turn & 0xffff} << 16 | std::uint64_t{turn} << 48;
    constexpr std::uint64_t mask = 0xffff0000ffff0000;
    return ((a ^ numbers) & mask) == 0 && ((b ^ numbers) & mask) == 0;
  }
};
__device__ inline void tell(void* to, Packets16 packets) {
  asm volatile("st.relaxed.gpu.global.v2.u64 [%0], {%1, %2};" ::"l"(to), "l"(packets.a),
               "l"(packets.b)
               : "memory");
}
__device__ inline Packets16 look(const void* from) {
  Packets16 packets;
  asm volatile("ld.relaxed.gpu.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(packets.a), "=l"(packets.b)
               : "l"(from)
               : "memory");
  return packets;
}

// Where all blocks of a launch wait until most likely all has been told, so that not every thread
// looks again and again: one of each block does, at a counter that counts on from launch to launch.
struct Meeting {
  std::uint32_t* counter;  // [2]: arrivals ever, and those before this launch
  std::uint32_t target;

  // After what the kernels before have written is there.
  __device__ explicit Meeting(std::uint32_t* counter) : counter(counter), target(counter[1]) {}
  // One thread, after the block has told what it has.
  __device__ void arrive() {
#if __CUDA_ARCH__ >= 900
    asm volatile("red.relaxed.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
#endif
  }
  // All count along; one thread waits.
  __device__ void next() { target += gridDim.x; }
  __device__ void wait() const {
    while (static_cast<std::int32_t>(look(counter) - target) < 0) {
    }
  }
  // One thread of the launch, once all blocks have met at least once.
  __device__ void leave() const { counter[1] = target; }
};

#endif

}  // namespace pensive::kernels
