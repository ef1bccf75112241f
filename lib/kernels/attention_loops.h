// Attention of some query rows of one sequence over its pages. Keys are turned into panels, so that
// a score is one chain over head_dim and an output one chain over the positions: bits depend on a
// row's own positions only, whatever stands in its block.
#pragma once
#include "kernels/product_loops.h"

namespace pensive::kernels {
namespace {

constexpr std::int64_t value_depth = 256;  // positions of values brought into one panel
constexpr int sum_lanes = 16;              // partial sums of exponentials, on every processor

PENSIVE_INLINE std::int64_t round_up(std::int64_t n, std::int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

// Where one task's numbers lie in its scratch.
template <class T>
struct AttendRoom {
  std::int64_t padded;  // positions, rounded up
  std::int64_t panel;   // after the queries [vectors, head_dim]: [head_dim, panel_width]
  std::int64_t scores;  // [vectors, padded]
  std::int64_t values;  // [value_depth, panel_width]
  std::int64_t out;     // [vectors, panel_width]
  std::int64_t places;  // int64 [length]: where each position's row starts in the pages
  std::int64_t end;

  AttendRoom(std::int64_t vectors, std::int64_t head_dim, std::int64_t length)
      : padded(round_up(length, 32)),
        panel(round_up(vectors * head_dim, 16)),
        scores(panel + head_dim * panel_width<T>),
        values(scores + vectors * padded),
        out(values + value_depth * panel_width<T>),
        places(out + vectors * panel_width<T>),
        end(places + padded * static_cast<std::int64_t>(sizeof(std::int64_t) / sizeof(T))) {}
};

// Turns scores[0, limit) into exponentials with zeros behind them; returns one over their sum.
template <class T>
T soften(T* scores, std::int64_t limit, std::int64_t padded) {
  constexpr int lanes = WideOf<T>::lanes, parts = sum_lanes / lanes;
  std::int64_t end = round_up(limit, sum_lanes);
  for (std::int64_t i = limit; i < end; ++i) scores[i] = T(-__builtin_inf());
  for (std::int64_t i = end; i < padded; ++i) scores[i] = 0;
  Wide<T> mosts = load(scores);
  for (std::int64_t i = lanes; i < end; i += lanes) {
    Wide<T> here = load(scores + i);
    mosts = here > mosts ? here : mosts;
  }
  T most = mosts[0];
  for (int i = 1; i < lanes; ++i) most = mosts[i] > most ? mosts[i] : most;

  Wide<T> sums[parts] = {};
  for (std::int64_t i = 0; i < end; i += sum_lanes) {
#pragma GCC unroll 8
    for (int part = 0; part < parts; ++part) {
      T* at = scores + i + part * lanes;
      Wide<T> e = exp_of(load(at) - most);
      store(at, e);
      sums[part] += e;
    }
  }
  T sum[sum_lanes];
  __builtin_memcpy(sum, sums, sizeof sum);
  for (int half = sum_lanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) sum[i] += sum[i + half];
  }
  return T(1) / sum[0];
}

template <class S, class T = Compute<S>>
struct AttendWork {
  const Attend& a;
  const AttendTask& task;
  AttendRoom<T> room;
  T* scratch;
  std::int64_t group;   // query heads a key-value head
  std::int64_t first;   // the task's first token
  std::int64_t before;  // positions that come before the task's own

  // Rows whose last position comes before `at` need nothing from there on.
  std::int64_t skipped(std::int64_t at) const { return at > before ? (at - before) * group : 0; }
  std::int64_t* places() const { return reinterpret_cast<std::int64_t*>(scratch + room.places); }
  std::int64_t length() const { return before + task.rows; }
  std::int64_t vectors() const { return task.rows * group; }
  // Where query vector v stands in rows of heads * head_dim values, `stride` apart.
  std::int64_t place(std::int64_t v, std::int64_t stride) const {
    return (first + v / group) * stride + (task.kv_head * group + v % group) * a.head_dim;
  }
};

template <class S, class T>
void find_places(const AttendWork<S, T>& work) {
  const Attend& a = work.a;
  const std::int32_t* table = a.tables + work.task.sequence * a.most_pages;
  std::int64_t row = static_cast<std::int64_t>(a.kv_heads) * a.head_dim;
  std::int64_t* places = work.places();
  for (std::int64_t at = 0; at < work.length(); ++table) {
    std::int64_t place =
        static_cast<std::int64_t>(*table) * a.page_tokens * row + work.task.kv_head * a.head_dim;
    for (std::int64_t i = 0; i < a.page_tokens && at < work.length(); ++i, ++at, place += row) {
      places[at] = place;
    }
  }
}

template <class S, class T>
void take_queries(const AttendWork<S, T>& work) {
  const Attend& a = work.a;
  T scale = static_cast<T>(a.scale);
  for (std::int64_t v = 0; v < work.vectors(); ++v) {
    const S* query = static_cast<const S*>(a.queries) + work.place(v, a.query_stride);
    T* to = work.scratch + v * a.head_dim;
    for (std::int64_t i = 0; i < a.head_dim; ++i) to[i] = widen(query[i]) * scale;
  }
}

template <class S, class T>
void score_keys(const AttendWork<S, T>& work) {
  constexpr int width = panel_width<T>;
  const Attend& a = work.a;
  T* panel = work.scratch + work.room.panel;
  T* scores = work.scratch + work.room.scores;
  std::int64_t padded = work.room.padded;
  const S* pages = static_cast<const S*>(a.key_pages);
  const std::int64_t* places = work.places();
  for (std::int64_t at = 0; at < work.length(); at += width) {
    const S* keys[width];
    for (int i = 0; i < width; ++i) {
      keys[i] = at + i < work.length() ? pages + places[at + i] : nullptr;
    }
    fill_panel(keys, a.head_dim, panel);
    std::int64_t skipped = work.skipped(at);
    rows_times_panel(work.vectors() - skipped, work.scratch + skipped * a.head_dim, a.head_dim,
                     panel, a.head_dim, scores + skipped * padded + at, padded, false);
  }
}

template <class S, class T>
void weigh_values(const AttendWork<S, T>& work, std::int64_t column) {
  constexpr int width = panel_width<T>, lanes = WideOf<T>::lanes;
  const Attend& a = work.a;
  T* panel = work.scratch + work.room.values;
  T* scores = work.scratch + work.room.scores;
  T* out = work.scratch + work.room.out;
  std::int64_t padded = work.room.padded, columns = a.head_dim - column;
  const S* pages = static_cast<const S*>(a.value_pages);
  const std::int64_t* places = work.places();
  for (std::int64_t at = 0; at < work.length(); at += value_depth) {
    std::int64_t left = work.length() - at, depth = left < value_depth ? left : value_depth;
    for (std::int64_t i = 0; i < depth; ++i) {
      const S* value = pages + places[at + i] + column;
      for (int half = 0; half < 2; ++half, value += lanes) {
        std::int64_t here = columns - half * lanes;
        store(panel + i * width + half * lanes, here >= lanes ? load(value)
                                                : here > 0    ? load_some(value, here)
                                                              : Wide<T>{});
      }
    }
    std::int64_t skipped = work.skipped(at);
    rows_times_panel(work.vectors() - skipped, scores + skipped * padded + at, padded, panel, depth,
                     out + skipped * width, width, at > 0);
  }
}

template <class S, class T = Compute<S>>
void attend_task(const Attend& a, const AttendTask& task, void* scratch) {
  std::int64_t group = a.heads / a.kv_heads;
  std::int64_t queries = a.starts[task.sequence + 1] - a.starts[task.sequence];
  std::int64_t before = a.lengths[task.sequence] - queries + task.first_row;
  AttendWork<S> work{a,
                     task,
                     AttendRoom<T>(task.rows * group, a.head_dim, before + task.rows),
                     static_cast<T*>(scratch),
                     group,
                     a.starts[task.sequence] + task.first_row,
                     before};
  find_places(work);
  take_queries(work);
  score_keys(work);
  T* inverse = work.scratch;  // the queries have done their work
  for (std::int64_t v = 0; v < work.vectors(); ++v) {
    T* scores = work.scratch + work.room.scores + v * work.room.padded;
    inverse[v] = soften(scores, before + v / group + 1, work.room.padded);
  }
  for (std::int64_t column = 0; column < a.head_dim; column += panel_width<T>) {
    weigh_values(work, column);
    std::int64_t left = a.head_dim - column;
    std::int64_t columns = left < panel_width<T> ? left : panel_width<T>;
    for (std::int64_t v = 0; v < work.vectors(); ++v) {
      const T* from = work.scratch + work.room.out + v * panel_width<T>;
      S* to = static_cast<S*>(a.out) + work.place(v, a.heads * a.head_dim) + column;
      constexpr int lanes = WideOf<T>::lanes;
      if (columns == panel_width<T>) {
        store(to, load(from) * inverse[v]);
        store(to + lanes, load(from + lanes) * inverse[v]);
      } else {
        for (std::int64_t c = 0; c < columns; ++c) narrow(from[c] * inverse[v], to + c);
      }
    }
  }
}

}  // namespace
}  // namespace pensive::kernels
