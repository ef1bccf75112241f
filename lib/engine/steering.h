// What a request itself, beside its guides, wants added to the logits of its draws. Plain values.
#pragma once
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "kernels/kernels.h"
#include "pensive/engine.h"
#include "pensive/think.h"

namespace pensive {

// How often tokens stand in a sequence: in all of it, and after the prompt.
class Tally {
 public:
  struct Count {
    int all = 0, output = 0;
  };
  // Counts these tokens; what they share with those of the last time is not counted again.
  void follow(std::span<const TokenId> tokens, int prompt_tokens);
  const std::unordered_map<TokenId, Count>& counts() const noexcept { return counts_; }

 private:
  std::vector<TokenId> seen_;
  std::unordered_map<TokenId, Count> counts_;
};

// Understood once, and shared by a sequence and its forks.
struct Steering {
  // Throws invalid_argument.
  Steering(const Sampling& sampling, TokenId vocab_size);

  float repetition, presence, frequency;
  std::vector<LogitBias> biases;
  std::vector<std::uint32_t> mask;  // empty: everything is allowed
  TokenId vocab_size;

  bool counts() const noexcept { return repetition != 1 || presence != 0 || frequency != 0; }
  // Into a row of the next draw, with what guides want of it; `tally` knows the tokens so far.
  void steer(kernels::DrawRow& row, const Tally& tally, std::span<const Bias> guides,
             std::span<const std::uint32_t> mask) const;
};

}  // namespace pensive
