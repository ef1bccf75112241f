// One copy of the loops as a table. Included by loops_any.cpp, loops_avx2.cpp and
// loops_avx512.cpp, which differ in the compiler's target alone.
#pragma once
#include "kernels/attention_loops.h"
#include "kernels/row_loops.h"

namespace pensive::kernels {
namespace {

// Calls the template argument that a Scalar names.
#define PENSIVE_BY_SCALAR(scalar, function, ...)                  \
  ((scalar) == Scalar::float64    ? function<double>(__VA_ARGS__) \
   : (scalar) == Scalar::bfloat16 ? function<Brief>(__VA_ARGS__)  \
   : (scalar) == Scalar::float16  ? function<Half>(__VA_ARGS__)   \
                                  : function<float>(__VA_ARGS__))
#define PENSIVE_BY_WIDTH(scalar, function, x, ...)                                    \
  ((scalar) == Scalar::float64 ? function(static_cast<const double*>(x), __VA_ARGS__) \
                               : function(static_cast<const float*>(x), __VA_ARGS__))

template <class S>
std::int64_t product_room(const Product& p) {
  return (panel_depth + (p.rows < p.row_block ? p.rows : p.row_block)) * panel_width<Compute<S>>;
}

template <class S>
std::int64_t attend_room(const Attend& a, std::int64_t vectors, std::int64_t length) {
  return AttendRoom<Compute<S>>(vectors, a.head_dim, length).end;
}

template <class T>
void scale_into(const T* x, void* z, std::int64_t count, double top, double temperature) {
  scale(x, static_cast<T*>(z), count, top, temperature);
}

template <class T>
std::int64_t gumbel_argmax_of(const T* z, void* scores, std::int64_t count, double least,
                              std::uint64_t key) {
  return gumbel_argmax(z, static_cast<T*>(scores), count, least, key);
}

constexpr Loops table = {
    [](Scalar s) -> std::int64_t {
      return s == Scalar::float64 ? panel_width<double> : panel_width<float>;
    },
    [](const Product& p) { return PENSIVE_BY_SCALAR(p.scalar, product_room, p); },
    [](const Product& p, std::int64_t first, std::int64_t last, void* scratch) {
      PENSIVE_BY_SCALAR(p.scalar, product, p, first, last, scratch);
    },
    [](const Product& p, std::int64_t first, std::int64_t last) {
      PENSIVE_BY_SCALAR(p.scalar, few_rows, p, first, last);
    },
    [](const Attend& a, std::int64_t vectors, std::int64_t length) {
      return PENSIVE_BY_SCALAR(a.scalar, attend_room, a, vectors, length);
    },
    [](const Attend& a, const AttendTask& task, void* scratch) {
      PENSIVE_BY_SCALAR(a.scalar, attend_task, a, task, scratch);
    },
    [](const void* x, const void* weight, void* out, std::int64_t rows, std::int64_t width,
       double epsilon,
       Scalar s) { PENSIVE_BY_SCALAR(s, rms_norm, x, weight, out, rows, width, epsilon); },
    [](const void* gate_up, void* out, std::int64_t rows, std::int64_t inner, Scalar s) {
      PENSIVE_BY_SCALAR(s, silu_mul, gate_up, out, rows, inner);
    },
    [](const void* x, std::int64_t stride, const void* cosines, const void* sines, void* out,
       std::int64_t tokens, std::int64_t heads, std::int64_t head_dim, Scalar s) {
      PENSIVE_BY_SCALAR(s, rotate, x, stride, cosines, sines, out, tokens, heads, head_dim);
    },
    [](const void* x, std::int64_t count, Scalar s) {
      return PENSIVE_BY_WIDTH(s, row_facts, x, count);
    },
    [](const void* x, std::int64_t count, double most, double least, Scalar s, double* sum,
       double* weighted) { PENSIVE_BY_WIDTH(s, exp_sums, x, count, most, least, sum, weighted); },
    [](const void* x, void* z, std::int64_t count, double top, double temperature, Scalar s) {
      PENSIVE_BY_WIDTH(s, scale_into, x, z, count, top, temperature);
    },
    [](const void* z, void* scores, std::int64_t count, double least, std::uint64_t key, Scalar s) {
      return PENSIVE_BY_WIDTH(s, gumbel_argmax_of, z, scores, count, least, key);
    },
    [](const void* x, std::int64_t count, double value, Scalar s) {
      return PENSIVE_BY_WIDTH(s, first_equal, x, count, value);
    },
};

}  // namespace
}  // namespace pensive::kernels
