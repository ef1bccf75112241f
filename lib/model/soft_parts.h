// What soft_vocab.cpp and soft_file.cpp share of a SoftVocab.
#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "model/parts.h"

namespace pensive {

struct SoftVocab::Parts {
  std::shared_ptr<const Model> model;
  std::string carried_from;
  mutable std::mutex mutex;  // guards what is below, for the time of a copy only
  std::vector<std::string> names;
  std::vector<std::vector<TokenId>> starts;  // of each row
  std::shared_ptr<const Rows> rows;
};

// A snapshot of float32 rows [rows, width] on the CPU: rounds them, moves them and hashes them.
std::shared_ptr<const SoftVocab::Rows> snapshot(const Model& model, const at::Tensor& master);

}  // namespace pensive
