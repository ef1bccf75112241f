// Steps of all batches and contexts, and the parts of a few.
#include <fmt/core.h>

#include <algorithm>
#include <optional>

#include "bench.h"
#include "shapes.h"
#include "steps.h"

namespace pensive::bench {

void Bench::grid(const Shape& shape, double copy_bytes_per_second) {
  constexpr int repetitions = 20;
  Steps steps(shape);
  const auto measure = [&](const char* name, int batch, int context, kernels::OneRow one_row) {
    const std::string cell = fmt::format(R"("case":"{}","shape":"{}","batch":{},"context":{})",
                                         name, shape.name, batch, context);
    steps.compute_one_row(one_row);
    const std::optional<Spread> us = steps.time(batch, context, repetitions);
    if (!us) return print(fmt::format(R"({{{},"fits":false}})", cell));
    const double limit_us = steps.bytes(batch, context) / copy_bytes_per_second * 1e6;
    print(fmt::format(
        R"({{{},"us":{:.1f},"low":{:.1f},"high":{:.1f},"n":{},"tokens_per_s":{:.0f},"limit_us":{:.1f},"share":{:.3f},"copy_TB_per_s":{:.3f}}})",
        cell, us->median, us->low, us->high, repetitions, batch * 1e6 / us->median, limit_us,
        limit_us / us->median, copy_bytes_per_second / 1e12));
  };
  for (const int context : {512, 8192, 32768}) {
    measure("step by one kernel", 1, context, kernels::OneRow::stays);
    for (int batch = 1; batch <= 256; batch *= 2)
      measure("step", batch, context, kernels::OneRow::chain);
  }
  for (const int context : {12288, 16384, 24576}) {  // where the ways of one row cross
    measure("one row by one kernel", 1, context, kernels::OneRow::stays);
    measure("one row by the chain", 1, context, kernels::OneRow::chain);
  }
}

// Both in turns, so that the ratio is one of neighbours.
void Bench::invariant(const Shape& shape) {
  constexpr int repetitions = 20, turns = 3;
  Steps steps(shape);
  for (const int context : {512, 8192}) {
    for (const int batch : {1, 2, 8, 16, 32, 64, 256}) {
      std::vector<double> fast, exact, ratios;
      for (int turn = 0; turn < turns; ++turn) {
        steps.compute_in(Arithmetic::fast);
        const std::optional<Spread> one = steps.time(batch, context, repetitions);
        steps.compute_in(Arithmetic::row_invariant);
        const std::optional<Spread> other = steps.time(batch, context, repetitions);
        if (!one || !other) break;
        fast.push_back(one->median);
        exact.push_back(other->median);
        ratios.push_back(other->median / one->median);
      }
      if (ratios.empty()) continue;
      const Spread ratio = spread_of(ratios);
      print(fmt::format(
          R"({{"case":"row-invariant step","shape":"{}","batch":{},"context":{},"fast_us":{:.1f},"us":{:.1f},"ratio":{:.3f},"low":{:.3f},"high":{:.3f},"n":{}}})",
          shape.name, batch, context, spread_of(fast).median, spread_of(exact).median, ratio.median,
          ratio.low, ratio.high, ratios.size()));
    }
  }
}

void Bench::profile(const Shape& shape, double copy_bytes_per_second) {
  Steps steps(shape);
  steps.compute_in(options_.arithmetic);
  steps.compute_one_row(kernels::OneRow::chain);  // the other has no parts
  for (const auto& [batch, context] : {std::pair{1, 512},
                                       {8, 512},
                                       {16, 512},
                                       {32, 512},
                                       {64, 512},
                                       {256, 512},
                                       {512, 384},
                                       {1, 8192},
                                       {64, 8192}}) {
    for (const Steps::Part& part : steps.profile(batch, context)) {
      if (part.us == 0) continue;
      print(fmt::format(
          R"({{"case":"part","shape":"{}","batch":{},"context":{},"part":"{}","us":{:.1f},"us_a_layer":{:.2f},"bytes":{:.4g},"TB_per_s":{:.3f},"limit_us":{:.1f}}})",
          shape.name, batch, context, part.name, part.us, part.us / shape.layers, part.bytes,
          part.bytes / part.us / 1e6, part.bytes / copy_bytes_per_second * 1e6));
    }
  }
}

}  // namespace pensive::bench
