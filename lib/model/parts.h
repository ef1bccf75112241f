// What the rooms above may see of a Model and a SoftVocab.
#pragma once
#include <ATen/ATen.h>

#include <memory>
#include <string>
#include <vector>

#include "model/decoder.h"
#include "pensive/model.h"

namespace pensive {

struct Model::Parts {
  ModelInfo info;
  std::shared_ptr<const Tokenizer> tokenizer;
  std::unique_ptr<const Decoder> decoder;
  at::Device device = at::kCPU;
  at::ScalarType scalar = at::kFloat;
};

// Rows as one version of a SoftVocab had them. Immutable.
struct SoftVocab::Rows {
  ~Rows();
  at::Tensor master;   // float32 [rows, width] on the CPU
  at::Tensor rounded;  // [rows, width] on the model's device, in its precision
  std::uint64_t version = 0;
};

// Embeddings of ids that may be soft. ids int64 [tokens] on the CPU; `rows` may be null when none
// is. A soft id takes the row of `rows`. -> [tokens, width] on the model's device.
at::Tensor embed(const Model& model, const SoftVocab::Rows* rows, const at::Tensor& ids);

}  // namespace pensive
