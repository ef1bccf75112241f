// Products in a fixed order: every output is one chain of multiply-adds over the inner dimension,
// from first to last, so that its bits depend on its own row and nothing else.
#pragma once
#include "kernels/wide.h"

namespace pensive::kernels {
namespace {

constexpr std::int64_t panel_depth =
    256;  // with two vectors a row, a panel stays in the first cache

template <class T>
constexpr int panel_width = 2 * WideOf<T>::lanes;

// Turns `panel_width` rows of `depth` values (null: zeros) into a panel [depth, panel_width].
template <class S, class T = Compute<S>>
void fill_panel(const S* const* rows, std::int64_t depth, T* panel) {
  constexpr int lanes = WideOf<T>::lanes;
  for (int half = 0; half < 2; ++half) {
    for (std::int64_t at = 0; at < depth; at += lanes) {
      std::int64_t left = depth - at < lanes ? depth - at : lanes;
      Wide<T> square[lanes];
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) {
        const S* row = rows[half * lanes + i];
        square[i] = !row ? Wide<T>{} : left == lanes ? load(row + at) : load_some(row + at, left);
      }
      transpose<T>(square);
      T* to = panel + at * panel_width<T> + half * lanes;
      if (left == lanes) {
#pragma GCC unroll 16
        for (int i = 0; i < lanes; ++i) store(to + i * panel_width<T>, square[i]);
      } else {
        for (std::int64_t i = 0; i < left; ++i) store(to + i * panel_width<T>, square[i]);
      }
    }
  }
}

// out [R, panel_width] (+)= x [R, depth] times panel [depth, panel_width].
template <class T, int R>
void tile(const T* x, std::int64_t x_stride, const T* panel, std::int64_t depth, T* out,
          std::int64_t out_stride, bool adds) {
  constexpr int lanes = WideOf<T>::lanes;
  Wide<T> left[R], right[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    left[r] = adds ? load(out + r * out_stride) : Wide<T>{};
    right[r] = adds ? load(out + r * out_stride + lanes) : Wide<T>{};
  }
  for (std::int64_t i = 0; i < depth; ++i) {
    Wide<T> a = load(panel + i * 2 * lanes), b = load(panel + i * 2 * lanes + lanes);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      left[r] += x[r * x_stride + i] * a;
      right[r] += x[r * x_stride + i] * b;
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    store(out + r * out_stride, left[r]);
    store(out + r * out_stride + lanes, right[r]);
  }
}

template <class T, int R = tile_rows>
PENSIVE_INLINE void tile_of(std::int64_t rows, const T* x, std::int64_t x_stride, const T* panel,
                            std::int64_t depth, T* out, std::int64_t out_stride, bool adds) {
  if constexpr (R > 1) {
    if (rows < R) {
      return tile_of<T, R - 1>(rows, x, x_stride, panel, depth, out, out_stride, adds);
    }
  }
  tile<T, R>(x, x_stride, panel, depth, out, out_stride, adds);
}

template <class T>
void rows_times_panel(std::int64_t rows, const T* x, std::int64_t x_stride, const T* panel,
                      std::int64_t depth, T* out, std::int64_t out_stride, bool adds) {
  for (std::int64_t row = 0; row < rows; row += tile_rows) {
    std::int64_t left = rows - row < tile_rows ? rows - row : tile_rows;
    tile_of<T>(left, x + row * x_stride, x_stride, panel, depth, out + row * out_stride, out_stride,
               adds);
  }
}

template <class S, class T = Compute<S>>
void product_task(const Product& p, std::int64_t panel_index, std::int64_t first_row, T* scratch) {
  constexpr int width = panel_width<T>;
  const S* weight = static_cast<const S*>(p.weight);
  const S* bias = static_cast<const S*>(p.bias);
  std::int64_t rows = p.rows - first_row < p.row_block ? p.rows - first_row : p.row_block;
  std::int64_t output = panel_index * width;
  std::int64_t outputs = p.out - output < width ? p.out - output : width;
  T* panel = scratch;
  T* sums = scratch + panel_depth * width;
  for (std::int64_t at = 0; at < p.in; at += panel_depth) {
    std::int64_t depth = p.in - at < panel_depth ? p.in - at : panel_depth;
    const S* weights[width];
    for (int i = 0; i < width; ++i) {
      weights[i] = i < outputs ? weight + (output + i) * p.in + at : nullptr;
    }
    fill_panel(weights, depth, panel);
    rows_times_panel(rows, static_cast<const T*>(p.x) + first_row * p.in + at, p.in, panel, depth,
                     sums, width, at > 0);
  }
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t place = (first_row + row) * p.out + output;
    const T* sum = sums + row * width;
    if (p.is_wide) {
      T* y = static_cast<T*>(p.y) + place;
      for (std::int64_t i = 0; i < outputs; ++i)
        y[i] = sum[i] + (bias ? widen(bias[output + i]) : T(0));
      continue;
    }
    S* y = static_cast<S*>(p.y) + place;
    constexpr int lanes = WideOf<T>::lanes;
    if (outputs == width && !bias) {
      store(y, load(sum));
      store(y + lanes, load(sum + lanes));
    } else if (outputs == width) {
      store(y, load(sum) + load(bias + output));
      store(y + lanes, load(sum + lanes) + load(bias + output + lanes));
    } else {
      for (std::int64_t i = 0; i < outputs; ++i) {
        narrow(sum[i] + (bias ? widen(bias[output + i]) : T(0)), y + i);
      }
    }
  }
}

template <class S, class T = Compute<S>>
void product(const Product& p, std::int64_t first_task, std::int64_t last_task, void* scratch) {
  std::int64_t panels = (p.out + panel_width<T> - 1) / panel_width<T>;
  for (std::int64_t task = first_task; task < last_task; ++task) {
    product_task<S>(p, task % panels, task / panels * p.row_block, static_cast<T*>(scratch));
  }
}

// R rows of x against one row of weights, with four chains a row.
template <class S, int R, class T = Compute<S>>
void dots(const Product& p, std::int64_t first, std::int64_t last) {
  constexpr int lanes = WideOf<T>::lanes, chains = 4;
  const T* x = static_cast<const T*>(p.x);
  for (std::int64_t output = first; output < last; ++output) {
    const S* weight = static_cast<const S*>(p.weight) + output * p.in;
    Wide<T> sums[R][chains] = {};
    std::int64_t i = 0;
    for (; i + chains * lanes <= p.in; i += chains * lanes) {
#pragma GCC unroll 4
      for (int c = 0; c < chains; ++c) {
        Wide<T> w = load(weight + i + c * lanes);
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) sums[r][c] += load(x + r * p.in + i + c * lanes) * w;
      }
    }
    for (; i < p.in; i += lanes) {
      std::int64_t left = p.in - i < lanes ? p.in - i : lanes;
      Wide<T> w = left == lanes ? load(weight + i) : load_some(weight + i, left);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const T* from = x + r * p.in + i;
        sums[r][0] += (left == lanes ? load(from) : load_some(from, left)) * w;
      }
    }
    T bias = p.bias ? widen(static_cast<const S*>(p.bias)[output]) : T(0);
    for (int r = 0; r < R; ++r) {
      T sum = sum_of<T>((sums[r][0] + sums[r][1]) + (sums[r][2] + sums[r][3]));
      if (p.is_wide) {
        static_cast<T*>(p.y)[r * p.out + output] = sum + bias;
      } else {
        narrow(sum + bias, static_cast<S*>(p.y) + r * p.out + output);
      }
    }
  }
}

template <class S>
void few_rows(const Product& p, std::int64_t first, std::int64_t last) {
  if (p.rows == 1) return dots<S, 1>(p, first, last);
  if (p.rows == 2) return dots<S, 2>(p, first, last);
  if (p.rows == 3) return dots<S, 3>(p, first, last);
  dots<S, 4>(p, first, last);
}

}  // namespace
}  // namespace pensive::kernels
