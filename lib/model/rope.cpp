#include <cmath>
#include <numbers>

#include "model/decoder.h"

namespace pensive {
namespace {

// Angle per position of each pair of dimensions: [head_dim / 2]. Powers are taken by libtorch in
// the given precision, since a last bit here is many bits at a far position.
at::Tensor plain_frequencies(const Config& config, at::ScalarType scalar) {
  const auto options = at::TensorOptions().dtype(scalar);
  const at::Tensor exponents = at::arange(0, config.head_dim, 2, options) / config.head_dim;
  return at::pow(config.rope.theta, exponents).reciprocal();
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

}  // namespace

RotationTables rotation_tables(const Config& config, at::ScalarType scalar) {
  const at::ScalarType exact = scalar == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor frequencies = plain_frequencies(config, exact);
  const auto pairs = static_cast<std::size_t>(config.head_dim / 2);
  if (config.rope.kind == RopeKind::linear) frequencies.div_(config.rope.factor);
  if (config.rope.kind == RopeKind::llama3 && exact == at::kDouble)
    stretch_llama3(config.rope, std::span(frequencies.mutable_data_ptr<double>(), pairs));
  if (config.rope.kind == RopeKind::llama3 && exact == at::kFloat)
    stretch_llama3(config.rope, std::span(frequencies.mutable_data_ptr<float>(), pairs));
  const at::Tensor positions =
      at::arange(config.max_positions, at::TensorOptions().dtype(exact));  // [max_positions]
  const at::Tensor angles = at::outer(positions, frequencies);             // [max_positions, pairs]
  return {angles.cos(), angles.sin()};
}

}  // namespace pensive
