// Vectors as wide as the compiler's target has them, and what loops do with them. Internal linkage
// throughout: each copy of the loops owns its code.
#pragma once
#include <cstdint>

#include "kernels/loops.h"

#define PENSIVE_INLINE inline __attribute__((always_inline))

namespace pensive::kernels {
namespace {

struct Brief {  // bfloat16: the upper half of a float
  std::uint16_t bits;
};
struct Half {  // float16: 5 bits of exponent, 10 of fraction
  std::uint16_t bits;
};

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
constexpr int tile_rows = 8;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
constexpr int tile_rows = 6;
#else
constexpr int vector_bytes = 16;
constexpr int tile_rows = 4;
#endif

template <class T>
struct WideOf;
template <>
struct WideOf<float> {
  static constexpr int lanes = vector_bytes / 4;
  typedef float Type __attribute__((vector_size(vector_bytes)));
  typedef std::int32_t Ints __attribute__((vector_size(vector_bytes)));
};
template <>
struct WideOf<double> {
  static constexpr int lanes = vector_bytes / 8;
  typedef double Type __attribute__((vector_size(vector_bytes)));
  typedef std::int64_t Ints __attribute__((vector_size(vector_bytes)));
};
template <class T>
using Wide = typename WideOf<T>::Type;

// What a storage type is computed in.
template <class S>
struct ComputeOf {
  using Type = float;
};
template <>
struct ComputeOf<double> {
  using Type = double;
};
template <class S>
using Compute = typename ComputeOf<S>::Type;

PENSIVE_INLINE float widen(float x) { return x; }
PENSIVE_INLINE double widen(double x) { return x; }
PENSIVE_INLINE float widen(Brief x) {
  std::uint32_t bits = static_cast<std::uint32_t>(x.bits) << 16;
  float value;
  __builtin_memcpy(&value, &bits, 4);
  return value;
}

PENSIVE_INLINE void narrow(float x, float* to) { *to = x; }
PENSIVE_INLINE void narrow(double x, double* to) { *to = x; }
PENSIVE_INLINE void narrow(float x, Brief* to) {  // to nearest, ties to even; NaN stays NaN
  std::uint32_t bits;
  __builtin_memcpy(&bits, &x, 4);
  std::uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  to->bits = static_cast<std::uint16_t>(x == x ? rounded : 0x7FC0);
}

// float16 to float32 and back, for words and vectors of words alike. A half's exponent and
// fraction, moved into a float's place, mean 2^112 times too little; the product sets subnormal
// ones right too.
template <class Words, class Floats>
PENSIVE_INLINE Floats half_to_float(Words half) {
  Words whole = (half & 0x7FFFu) << 13;
  Floats value;
  __builtin_memcpy(&value, &whole, sizeof value);
  value *= 0x1p112f;
  Words bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  Words is_special = (Words)(whole >= (0x7C00u << 13));  // all ones, or 1 for a single word
  bits |= (Words{} - (is_special & 1u)) & 0x7F800000u;
  bits |= (half & 0x8000u) << 16;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}
// To nearest, ties to even; infinite beyond the largest half; NaN stays NaN. The last bit of a
// float near 0.5 is worth the smallest half, so that adding 0.5 rounds what becomes subnormal.
template <class Words, class Floats>
PENSIVE_INLINE Words float_to_half(Floats value) {
  Words bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  Words sign = (bits >> 16) & 0x8000u, size = bits & 0x7FFFFFFFu;
  Floats magnitude;
  __builtin_memcpy(&magnitude, &size, sizeof magnitude);
  Floats sum = magnitude + 0.5f;
  Words subnormal;
  __builtin_memcpy(&subnormal, &sum, sizeof subnormal);
  subnormal -= 0x3F000000u;
  Words normal = (size - (112u << 23) + 0xFFFu + ((size >> 13) & 1u)) >> 13;
  const auto mask = [](auto is) { return Words{} - ((Words)is & 1u); };
  Words small = mask(size < (113u << 23)), large = mask(size >= 0x477FF000u);
  Words nan = mask(size > 0x7F800000u);
  Words half = (small & subnormal) | (~small & normal);
  half = (large & 0x7C00u) | (~large & half);
  half = (nan & 0x7E00u) | (~nan & half);
  return half | sign;
}

PENSIVE_INLINE float widen(Half x) {
  return half_to_float<std::uint32_t, float>(std::uint32_t{x.bits});
}
PENSIVE_INLINE void narrow(float x, Half* to) {
  to->bits = static_cast<std::uint16_t>(float_to_half<std::uint32_t, float>(x));
}

template <class T>
PENSIVE_INLINE Wide<T> load(const T* from) {
  Wide<T> value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
PENSIVE_INLINE Wide<float> load(const Brief* from) {
  typedef std::uint16_t Halves __attribute__((vector_size(vector_bytes / 2)));
  typedef std::uint32_t Words __attribute__((vector_size(vector_bytes)));
  Halves halves;
  __builtin_memcpy(&halves, from, sizeof halves);
  Words words = __builtin_convertvector(halves, Words) << 16;
  return (Wide<float>)words;
}
PENSIVE_INLINE Wide<float> load(const Half* from) {
  typedef std::uint16_t Halves __attribute__((vector_size(vector_bytes / 2)));
  typedef std::uint32_t Words __attribute__((vector_size(vector_bytes)));
  Halves halves;
  __builtin_memcpy(&halves, from, sizeof halves);
  return half_to_float<Words, Wide<float>>(__builtin_convertvector(halves, Words));
}
template <class T>
PENSIVE_INLINE void store(T* to, Wide<T> value) {
  __builtin_memcpy(to, &value, sizeof value);
}
PENSIVE_INLINE void store(Brief* to, Wide<float> value) {  // rounds as narrow() does
  typedef std::uint16_t Halves __attribute__((vector_size(vector_bytes / 2)));
  typedef std::uint32_t Words __attribute__((vector_size(vector_bytes)));
  Words bits = (Words)value, nan = (Words)(value != value);
  Words rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  Halves halves = __builtin_convertvector((rounded & ~nan) | (nan & 0x7FC0u), Halves);
  __builtin_memcpy(to, &halves, sizeof halves);
}
PENSIVE_INLINE void store(Half* to, Wide<float> value) {
  typedef std::uint16_t Halves __attribute__((vector_size(vector_bytes / 2)));
  typedef std::uint32_t Words __attribute__((vector_size(vector_bytes)));
  Halves halves = __builtin_convertvector(float_to_half<Words>(value), Halves);
  __builtin_memcpy(to, &halves, sizeof halves);
}
// The first `count` values, then zeros.
template <class S>
PENSIVE_INLINE Wide<Compute<S>> load_some(const S* from, std::int64_t count) {
  Wide<Compute<S>> value = {};
  for (std::int64_t i = 0; i < count; ++i) value[i] = widen(from[i]);
  return value;
}

template <class S>
PENSIVE_INLINE void store_some(S* to, Wide<Compute<S>> value, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) narrow(value[i], to + i);
}

template <class T>
PENSIVE_INLINE T sum_of(Wide<T> x) {
  T sum = 0;
  T parts[WideOf<T>::lanes];
  __builtin_memcpy(parts, &x, sizeof x);
  for (int half = WideOf<T>::lanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) parts[i] += parts[i + half];
  }
  sum = parts[0];
  return sum;
}

// exp(x) for x <= 88, within about one unit in the last place; 0 below -87.
PENSIVE_INLINE Wide<float> exp_of(Wide<float> x) {
  using Ints = WideOf<float>::Ints;
  Wide<float> zero = {};
  Wide<float> low = zero - 87.0f;
  Wide<float> clamped = x < low ? low : x;
  // Adding 1.5 * 2^23 rounds to a whole number, which then stands in the lowest bits.
  Wide<float> shifted = clamped * 1.44269504f + 12582912.0f;
  Wide<float> n = shifted - 12582912.0f;
  Wide<float> r = clamped - n * 0.693359375f + n * 2.12194440e-4f;
  Wide<float> p = r * (1.0f / 5040) + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r * r + r + 1.0f;
  Ints exponent = ((Ints)shifted << 23) + 0x3F800000;
  return x < low ? zero : p * (Wide<float>)exponent;
}
PENSIVE_INLINE Wide<double> exp_of(Wide<double> x) {
  for (int i = 0; i < WideOf<double>::lanes; ++i) x[i] = __builtin_exp(x[i]);
  return x;
}

// Lanes of a and b in turn: the first or the second half of that row.
#if defined(__AVX512F__)
PENSIVE_INLINE Wide<float> weave_low(Wide<float> a, Wide<float> b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
PENSIVE_INLINE Wide<float> weave_high(Wide<float> a, Wide<float> b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                 31);
}
PENSIVE_INLINE Wide<double> weave_low(Wide<double> a, Wide<double> b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
PENSIVE_INLINE Wide<double> weave_high(Wide<double> a, Wide<double> b) {
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
#elif defined(__AVX2__)
PENSIVE_INLINE Wide<float> weave_low(Wide<float> a, Wide<float> b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
PENSIVE_INLINE Wide<float> weave_high(Wide<float> a, Wide<float> b) {
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
PENSIVE_INLINE Wide<double> weave_low(Wide<double> a, Wide<double> b) {
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
}
PENSIVE_INLINE Wide<double> weave_high(Wide<double> a, Wide<double> b) {
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
}
#else
PENSIVE_INLINE Wide<float> weave_low(Wide<float> a, Wide<float> b) {
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
}
PENSIVE_INLINE Wide<float> weave_high(Wide<float> a, Wide<float> b) {
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
}
PENSIVE_INLINE Wide<double> weave_low(Wide<double> a, Wide<double> b) {
  return __builtin_shufflevector(a, b, 0, 2);
}
PENSIVE_INLINE Wide<double> weave_high(Wide<double> a, Wide<double> b) {
  return __builtin_shufflevector(a, b, 1, 3);
}
#endif

// Transposes a square of vectors: weaving the two halves log2(lanes) times.
template <class T>
PENSIVE_INLINE void transpose(Wide<T>* square) {
  constexpr int lanes = WideOf<T>::lanes;
#pragma GCC unroll 8
  for (int stage = 1; stage < lanes; stage *= 2) {
    Wide<T> woven[lanes];
#pragma GCC unroll 16
    for (int i = 0; i < lanes / 2; ++i) {
      woven[2 * i] = weave_low(square[i], square[i + lanes / 2]);
      woven[2 * i + 1] = weave_high(square[i], square[i + lanes / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) square[i] = woven[i];
  }
}

}  // namespace
}  // namespace pensive::kernels
