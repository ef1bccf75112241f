#include <algorithm>
#include <cmath>
#include <numbers>

#include "model/decoder.h"

namespace pensive {
namespace {

// theta^(2 i / head_dim), the positions per radian of each pair of dimensions: [head_dim / 2].
// Powers are taken by libtorch in the given precision, since a last bit here is many bits at a far
// position.
at::Tensor positions_per_radian(const Config& config, at::ScalarType scalar) {
  const auto options = at::TensorOptions().dtype(scalar);
  const at::Tensor exponents = at::arange(0, config.head_dim, 2, options) / config.head_dim;
  return at::pow(config.rope.theta, exponents);
}

// Slow rotations never turned whole within the original positions, and are stretched; fast ones
// have been seen whole, and stay.
template <class Number>
void stretch_llama3(const Rope& rope, std::span<Number> frequencies) {
  const auto low = static_cast<Number>(rope.low_frequency_factor);
  const auto high = static_cast<Number>(rope.high_frequency_factor);
  const auto positions = static_cast<Number>(rope.original_positions);
  const auto factor = static_cast<Number>(rope.factor);
  for (Number& frequency : frequencies) {
    const Number turns = positions * frequency / (2 * std::numbers::pi_v<Number>);
    if (turns > high) continue;
    const Number kept = turns < low ? Number(0) : (turns - low) / (high - low);
    frequency = (1 - kept) * frequency / factor + kept * frequency;
  }
}

// Which pair of dimensions turns so often over the original positions; between two, mostly.
double dimension_of(const Config& config, double turns) {
  const double positions = config.rope.original_positions;
  return config.head_dim * std::log(positions / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(config.rope.theta));
}

// As llama3, with a ramp that is straight in the dimension (https://arxiv.org/abs/2309.00071,
// section 3.2).
at::Tensor stretch_yarn(const Config& config, const at::Tensor& radians) {
  const Rope& rope = config.rope;
  double first = dimension_of(config, rope.beta_fast), last = dimension_of(config, rope.beta_slow);
  if (rope.truncate) {
    first = std::floor(first);
    last = std::ceil(last);
  }
  first = std::max(first, 0.0);
  last = std::min(last, config.head_dim - 1.0);
  if (first == last) last += 0.001;
  const at::Tensor pairs = at::arange(config.head_dim / 2, radians.options());
  const at::Tensor kept = 1 - ((pairs - first) / (last - first)).clamp(0, 1);
  return (radians * rope.factor).reciprocal() * (1 - kept) + radians.reciprocal() * kept;
}

at::Tensor frequencies_of(const Config& config, at::ScalarType scalar) {
  const at::Tensor radians = positions_per_radian(config, scalar);
  if (config.rope.kind == RopeKind::yarn) return stretch_yarn(config, radians);
  at::Tensor frequencies = radians.reciprocal();
  const auto pairs = static_cast<std::size_t>(config.head_dim / 2);
  if (config.rope.kind == RopeKind::linear) frequencies.div_(config.rope.factor);
  if (config.rope.kind == RopeKind::llama3 && scalar == at::kDouble)
    stretch_llama3(config.rope, std::span(frequencies.mutable_data_ptr<double>(), pairs));
  if (config.rope.kind == RopeKind::llama3 && scalar == at::kFloat)
    stretch_llama3(config.rope, std::span(frequencies.mutable_data_ptr<float>(), pairs));
  return frequencies;
}

}  // namespace

RotationTables rotation_tables(const Config& config, at::ScalarType scalar) {
  const at::ScalarType exact = scalar == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor frequencies = frequencies_of(config, exact);
  const at::Tensor positions =
      at::arange(config.max_positions, at::TensorOptions().dtype(exact));  // [max_positions]
  const at::Tensor angles = at::outer(positions, frequencies);             // [max_positions, pairs]
  RotationTables tables{angles.cos(), angles.sin()};
  if (config.rope.attention_factor != 1) {
    tables.cosines.mul_(config.rope.attention_factor);
    tables.sines.mul_(config.rope.attention_factor);
  }
  return tables;
}

}  // namespace pensive
