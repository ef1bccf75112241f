// A small random decoder, traces by hand, and the slow twin of the suffix gradient.
#pragma once
#include <ATen/ATen.h>

#include <limits>
#include <string>
#include <vector>

#include "train/steps.h"

namespace pensive::testing {

inline constexpr int decoder_vocab = 50;
inline constexpr TokenId tiny_soft = decoder_vocab + 1;  // the second of two soft rows is trained

inline Config tiny_config() {
  Config config;
  config.family = "llama";
  config.layers = 3;
  config.width = 32;
  config.inner = 40;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 8;
  config.vocab_size = decoder_vocab;
  config.max_positions = 128;
  config.norm_epsilon = 1e-5;
  return config;
}

inline at::Tensor normal(at::IntArrayRef sizes, double deviation, at::Generator& generator) {
  return at::randn(sizes, generator, at::TensorOptions(at::kDouble)) * deviation;
}

inline Decoder tiny_decoder(at::ScalarType scalar, at::Device device = at::kCPU) {
  const Config config = tiny_config();
  at::Generator random = at::detail::createCPUGenerator(7);
  const auto make = [&](at::IntArrayRef sizes, double deviation) {
    return normal(sizes, deviation, random).to(device, scalar);
  };
  const auto gain = [&] { return (1 + normal({config.width}, 0.1, random)).to(device, scalar); };
  Weights weights;
  weights.embedding = make({config.vocab_size, config.width}, 0.5);
  weights.final_norm = gain();
  weights.head = make({config.vocab_size, config.width}, 0.4);
  for (int layer = 0; layer < config.layers; ++layer)
    weights.layers.push_back(
        {.attention_norm = gain(),
         .qkv = make({(config.heads + 2 * config.kv_heads) * config.head_dim, config.width}, 0.3),
         .output = make({config.width, config.heads * config.head_dim}, 0.2),
         .mlp_norm = gain(),
         .gate_up = make({2 * config.inner, config.width}, 0.2),
         .down = make({config.width, config.inner}, 0.2)});
  return Decoder(config, std::move(weights));
}

inline at::Tensor tiny_rows(at::ScalarType scalar, at::Device device = at::kCPU) {
  at::Generator random = at::detail::createCPUGenerator(11);
  return normal({2, tiny_config().width}, 0.5, random).to(device, scalar);
}

// A trace written as words: "p3" prompt, "s4" sampled, "f5" forced, "x6" sampled and taken back,
// "y7" forced and taken back. Drawn logprobs are -1, -2, … by column.
inline Trace make_trace(const std::string& words) {
  Trace trace;
  std::size_t at = 0;
  while (at < words.size()) {
    const std::size_t end = std::min(words.find(' ', at), words.size());
    const char kind = words[at];
    trace.tokens.push_back(std::stoi(words.substr(at + 1, end - at - 1)));
    const bool is_drawn = kind == 's' || kind == 'x';
    trace.origins.push_back(kind == 'p' ? Origin::prompt
                                        : (is_drawn ? Origin::sampled : Origin::forced));
    trace.is_taken_back.push_back(kind == 'x' || kind == 'y');
    trace.drawn_logprobs.push_back(is_drawn ? -static_cast<float>(trace.tokens.size())
                                            : std::numeric_limits<float>::quiet_NaN());
    trace.prompt_tokens += kind == 'p';
    at = end + 1;
  }
  trace.logprobs = trace.entropies_nats = trace.drawn_logprobs;
  trace.segments.assign(trace.tokens.size(), Segment::think);
  trace.is_marker.assign(trace.tokens.size(), 0);
  return trace;
}

// How many tokens stood before each of a trace by make_trace(): what was taken back at once came
// one behind another.
inline std::vector<int> depths_in(const Trace& trace) {
  std::vector<int> depths;
  int kept = 0, gone = 0;
  for (const std::uint8_t is_gone : trace.is_taken_back) {
    gone = is_gone ? gone : 0;
    depths.push_back(kept + gone);
    ++(is_gone ? gone : kept);
  }
  return depths;
}

inline std::optional<Suffix> suffix_of(const std::string& words, TokenId row) {
  const Trace trace = make_trace(words);
  return find_suffix(trace, depths_in(trace), row);
}

// The whole context of what is drawn behind a row of the suffix.
inline std::vector<TokenId> context_of(const Suffix& suffix, int row) {
  std::vector<TokenId> gone;
  for (; row >= suffix.kept(); row = suffix.asides[row - suffix.kept()].parent)
    gone.insert(gone.begin(), suffix.asides[row - suffix.kept()].token);
  std::vector<TokenId> all(suffix.tokens.begin(), suffix.tokens.begin() + suffix.begins + row + 1);
  all.insert(all.end(), gone.begin(), gone.end());
  return all;
}

// The row's gradient by one plain backward through each whole sequence.
struct WholeResult {
  at::Tensor gradient;  // [width]
  double loss = 0;
  double entropy = 0, kl = 0, weight = 0;  // sums over targets
  std::vector<std::vector<double>> logprobs;
};

inline WholeResult whole_backward(const SuffixSetting& setting, std::span<const Suffix> suffixes) {
  const std::int64_t vocab = setting.decoder.config().vocab_size;
  const auto options = setting.rows.options();
  const at::Tensor row = setting.rows.select(0, setting.row - vocab).clone().requires_grad_(true);
  WholeResult result;
  at::Tensor loss = at::zeros({}, options);
  const auto logprobs_of = [&](const std::vector<TokenId>& tokens) {  // -> [tokens, vocabulary]
    std::vector<at::Tensor> embeddings;
    for (const TokenId id : tokens)
      embeddings.push_back(
          id == setting.row ? row
          : id >= vocab     ? setting.rows.select(0, id - vocab)
                        : setting.decoder.embed(at::tensor({std::int64_t{id}}).to(options.device()))
                              .squeeze(0));
    WholeAttention attention;
    const at::Tensor hidden = setting.decoder.forward(
        at::stack(embeddings),
        at::arange(static_cast<std::int64_t>(tokens.size()), options.dtype(at::kLong)), attention,
        Arithmetic::fast);
    return (setting.decoder.head(hidden, Arithmetic::fast) / setting.temperature).log_softmax(-1);
  };
  for (const Suffix& suffix : suffixes) {
    const at::Tensor kept = suffix.tokens.empty() ? at::Tensor() : logprobs_of(suffix.tokens);
    std::vector<double> found;
    for (std::size_t t = 0; t < suffix.targets.size(); ++t) {
      const Target& target = suffix.targets[t];
      const at::Tensor behind = target.position < suffix.kept()
                                    ? kept[suffix.begins + target.position]
                                    : logprobs_of(context_of(suffix, target.position))[-1];
      const at::Tensor logprob = behind[target.token];
      const double now = logprob.item<double>();
      const double old = suffix.old_logprobs.empty() ? now : suffix.old_logprobs[t];
      const double ratio = std::exp(now - old);
      const LossSetting& terms = setting.loss;
      const double edge = suffix.advantage > 0 ? 1 + terms.clip_high : 1 - terms.clip_low;
      const bool is_cut = suffix.advantage > 0 ? ratio > edge : ratio < edge;
      const double weight = terms.max_weight > 0
                                ? std::min(std::exp(old - target.drawn_logprob), terms.max_weight)
                                : 1;
      result.weight += weight;
      if (is_cut)
        loss = loss - weight * suffix.advantage * edge;
      else
        loss = loss - weight * (logprob - old).exp() * suffix.advantage;
      if (terms.kl > 0) {
        const at::Tensor ahead = suffix.start_logprobs[t] - logprob;
        const at::Tensor k3 = ahead.exp() - 1 - ahead;
        result.kl += k3.item<double>();
        loss = loss + terms.kl * k3;
      }
      const at::Tensor all = behind.detach();
      result.entropy -= (all.exp() * all).sum().item<double>();
      found.push_back(now);
    }
    result.logprobs.push_back(found);
  }
  loss = loss / setting.loss.denominator;
  loss.backward();
  result.loss = loss.item<double>();
  result.gradient = row.grad().to(at::kCPU, at::kDouble);
  return result;
}

}  // namespace pensive::testing
