// The randomness of draws, one text for CPU and CUDA (C++17): a hash of key and counter, and the
// Gumbel noise made of it. Logarithms are our own so that both sides agree to the last bits.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define PENSIVE_BOTH static __host__ __device__ inline
#else
#define PENSIVE_BOTH static inline __attribute__((always_inline))
#endif

namespace pensive::kernels {

// The finalizer of splitmix64: every bit of the input reaches every bit of the output.
PENSIVE_BOTH std::uint64_t scramble(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

PENSIVE_BOTH float float_of_bits(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

PENSIVE_BOTH std::uint32_t bits_of_float(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// Natural logarithm of a normal positive float, within about one unit in the last place.
PENSIVE_BOTH float log_of(float x) {
  std::uint32_t bits = bits_of_float(x);
  // Brings the fraction into [sqrt(1/2), sqrt(2)).
  std::int32_t exponent = static_cast<std::int32_t>(bits - 0x3F3504F3u) >> 23;
  float f = float_of_bits(bits - (static_cast<std::uint32_t>(exponent) << 23)) - 1.0f;
  // log((1 + s) / (1 - s)) = 2 s + 2 s^3 / 3 + …, with s = f / (2 + f), |s| < 0.1716.
  float s = f / (2.0f + f);
  float z = s * s;
  float tail = z * (0.66666667f + z * (0.4f + z * (0.28571430f + z * 0.22222222f)));
  float half_square = 0.5f * f * f;
  float e = static_cast<float>(exponent);
  return e * 0.693359375f + (f - (half_square - s * (half_square + tail)) + e * -2.12194440e-4f);
}

// The random bits of one token under one key.
PENSIVE_BOTH std::uint32_t noise_bits(std::uint64_t key, std::uint32_t token) {
  std::uint64_t hash =
      scramble(key + (static_cast<std::uint64_t>(token) + 1) * 0x9E3779B97F4A7C15ull);
  return static_cast<std::uint32_t>(hash >> 32);
}

// Uniform in (0, 1], with full precision near 0.
PENSIVE_BOTH float uniform_of_bits(std::uint32_t bits) {
  return (static_cast<float>(bits >> 1) + 0.25f) * 4.6566129e-10f;
}

// Standard Gumbel noise, -log(E) with E exponential. The small values of E decide draws, so E
// is made as -log(1 - v) from a v with full precision near 0.
PENSIVE_BOTH float gumbel_of_bits(std::uint32_t bits) {
  float v = uniform_of_bits(bits);
  float rest = uniform_of_bits(~bits);  // 1 - v, above 0
  float u = 1.0f - v;
  float log = log_of(v < 0.5f ? u : rest);
  // For small v, log(u) is corrected by what rounding took from u.
  float taken = u == 1.0f ? 1.0f : 1.0f - u;
  float small = u == 1.0f ? v : -log * (v / taken);
  return -log_of(v < 0.5f ? small : -log);
}

PENSIVE_BOTH float gumbel_of(std::uint64_t key, std::uint32_t token) {
  return gumbel_of_bits(noise_bits(key, token));
}

}  // namespace pensive::kernels
