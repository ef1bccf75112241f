// Norm, activation, rotation, and the passes over a row of logits that a draw is made of.
#pragma once
#include "kernels/noise.h"
#include "kernels/wide.h"

namespace pensive::kernels {
namespace {

template <class S, class T = Compute<S>>
void rms_norm(const void* from, const void* weights, void* to, std::int64_t rows,
              std::int64_t width, double epsilon) {
  constexpr int lanes = WideOf<T>::lanes;
  const S* weight = static_cast<const S*>(weights);
  for (std::int64_t row = 0; row < rows; ++row) {
    const S* x = static_cast<const S*>(from) + row * width;
    S* out = static_cast<S*>(to) + row * width;
    Wide<T> squares = {};
    std::int64_t i = 0;
    for (; i + lanes <= width; i += lanes) {
      Wide<T> here = load(x + i);
      squares += here * here;
    }
    if (i < width) {
      Wide<T> here = load_some(x + i, width - i);
      squares += here * here;
    }
    T mean = sum_of<T>(squares) / static_cast<T>(width) + static_cast<T>(epsilon);
    T scale = T(1) / static_cast<T>(__builtin_sqrt(mean));
    for (i = 0; i + lanes <= width; i += lanes) {
      store(out + i, load(x + i) * scale * load(weight + i));
    }
    for (; i < width; ++i) narrow(widen(x[i]) * scale * widen(weight[i]), out + i);
  }
}

template <class S, class T = Compute<S>>
void silu_mul(const void* from, void* to, std::int64_t rows, std::int64_t inner) {
  constexpr int lanes = WideOf<T>::lanes;
  for (std::int64_t row = 0; row < rows; ++row) {
    const S* gate = static_cast<const S*>(from) + row * 2 * inner;
    S* out = static_cast<S*>(to) + row * inner;
    for (std::int64_t i = 0; i < inner; i += lanes) {
      std::int64_t left = inner - i < lanes ? inner - i : lanes;
      Wide<T> g = left == lanes ? load(gate + i) : load_some(gate + i, left);
      Wide<T> up = left == lanes ? load(gate + inner + i) : load_some(gate + inner + i, left);
      // Beyond 80 the exponential no longer matters, and must not overflow.
      Wide<T> most = Wide<T>{} + T(80), minus = -g;
      Wide<T> y = g / (T(1) + exp_of(minus > most ? most : minus)) * up;
      left == lanes ? store(out + i, y) : store_some(out + i, y, left);
    }
  }
}

// One head: the first half against the second.
template <class S, class T = Compute<S>>
PENSIVE_INLINE void rotate_head(const S* x, const T* c, const T* s, S* out, std::int64_t half) {
  constexpr int lanes = WideOf<T>::lanes;
  std::int64_t i = 0;
  for (; i + lanes <= half; i += lanes) {
    Wide<T> a = load(x + i), b = load(x + half + i), cosine = load(c + i), sine = load(s + i);
    store(out + i, a * cosine - b * sine);
    store(out + half + i, b * cosine + a * sine);
  }
  for (; i < half; ++i) {
    T a = widen(x[i]), b = widen(x[i + half]);
    narrow(a * c[i] - b * s[i], out + i);
    narrow(b * c[i] + a * s[i], out + i + half);
  }
}

template <class S, class T = Compute<S>>
void rotate(const void* from, std::int64_t x_stride, const void* cosines, const void* sines,
            void* to, std::int64_t tokens, std::int64_t heads, std::int64_t head_dim) {
  std::int64_t half = head_dim / 2;
  for (std::int64_t token = 0; token < tokens; ++token) {
    const T* c = static_cast<const T*>(cosines) + token * half;
    const T* s = static_cast<const T*>(sines) + token * half;
    for (std::int64_t head = 0; head < heads; ++head) {
      const S* x = static_cast<const S*>(from) + token * x_stride + head * head_dim;
      rotate_head(x, c, s, static_cast<S*>(to) + (token * heads + head) * head_dim, half);
    }
  }
}

template <class T>
RowFacts row_facts(const T* x, std::int64_t count) {
  constexpr int lanes = WideOf<T>::lanes;
  using Ints = typename WideOf<T>::Ints;
  const T infinity = T(__builtin_inf());
  Wide<T> mosts = Wide<T>{} - infinity, sums = {};
  Ints bad = {}, finite = {};
  double sum = 0;
  RowFacts facts;
  std::int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    Wide<T> here = load(x + i);
    Ints is_low = here == Wide<T>{} - infinity;
    bad |= (here != here) | (here == Wide<T>{} + infinity);
    mosts = here > mosts ? here : mosts;
    sums += is_low ? Wide<T>{} : here;
    finite -= ~is_low;
    if (i % (64 * lanes) == 63 * lanes) {  // short float sums, joined in double
      sum += sum_of<T>(sums);
      sums = Wide<T>{};
    }
  }
  sum += sum_of<T>(sums);
  double most = -__builtin_inf();
  for (int lane = 0; lane < lanes; ++lane) {
    most = mosts[lane] > most ? mosts[lane] : most;
    facts.is_bad |= bad[lane] != 0;
    facts.finite += finite[lane];
  }
  for (; i < count; ++i) {
    facts.is_bad |= x[i] != x[i] || x[i] == infinity;
    most = x[i] > most ? x[i] : most;
    if (x[i] != -infinity) sum += x[i], ++facts.finite;
  }
  facts.most = most;
  facts.sum = sum;
  return facts;
}

template <class T>
void exp_sums(const T* x, std::int64_t count, double most, double least, double* sum,
              double* weighted) {
  constexpr int lanes = WideOf<T>::lanes;
  const T top = static_cast<T>(most), bottom = static_cast<T>(least);
  *sum = *weighted = 0;
  Wide<T> sums = {}, weights = {};
  for (std::int64_t i = 0; i < count; i += lanes) {
    std::int64_t left = count - i;
    Wide<T> here = Wide<T>{} - T(__builtin_inf());
    if (left >= lanes) {
      here = load(x + i);
    } else {
      for (std::int64_t j = 0; j < left; ++j) here[j] = x[i + j];
    }
    // What lies 87 below adds nothing, and -infinity times 0 must not arise.
    Wide<T> far = Wide<T>{} - T(87), z = here - top;
    Wide<T> e = (here < bottom) | (z < far) ? Wide<T>{} : exp_of(z < far ? far : z);
    sums += e;
    weights += e * (z < far ? far : z);
    if (i % (16 * lanes) == 15 * lanes || left <= lanes) {  // short float sums, joined in double
      *sum += sum_of<T>(sums);
      *weighted += sum_of<T>(weights);
      sums = weights = Wide<T>{};
    }
  }
}

template <class T>
void scale(const T* x, T* z, std::int64_t count, double top, double temperature) {
  T most = static_cast<T>(top), divisor = static_cast<T>(temperature);
  for (std::int64_t i = 0; i < count; ++i) z[i] = (x[i] - most) / divisor;
}

template <class T>
std::int64_t first_equal(const T* x, std::int64_t count, double value) {
  constexpr std::int64_t stretch = 64;  // looked through without a branch
  T wanted = static_cast<T>(value);
  std::int64_t i = 0;
  for (bool is_near = false; i + stretch <= count && !is_near; i += is_near ? 0 : stretch) {
    int found = 0;
    for (std::int64_t j = 0; j < stretch; ++j) found |= x[i + j] == wanted;
    is_near = found != 0;
  }
  for (; i < count; ++i) {
    if (x[i] == wanted) return i;
  }
  return -1;
}

template <class T>
std::int64_t gumbel_argmax(const T* z, T* scores, std::int64_t count, double least,
                           std::uint64_t key) {
  T bottom = static_cast<T>(least), none = T(-__builtin_inf());
  for (std::int64_t i = 0; i < count; ++i) {
    T score = z[i] + gumbel_of(key, static_cast<std::uint32_t>(i));
    scores[i] = z[i] >= bottom ? score : none;
  }
  return first_equal(scores, count, row_facts(scores, count).most);
}

}  // namespace
}  // namespace pensive::kernels
