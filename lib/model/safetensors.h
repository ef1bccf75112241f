// safetensors files, checked whole before anything in them is used; and one way to write them.
#pragma once
#include <ATen/ATen.h>
#include <fmt/ranges.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/inside.h"

namespace pensive {

// One tensor as a file holds it. `bytes` lie in the mapped file, at any alignment.
struct StoredTensor {
  at::ScalarType scalar = at::kFloat;  // float32, bfloat16, float16 or float64
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
  std::string file;  // for messages
};

// By name: everything that is done with all tensors is done in one order.
using StoredTensors = std::map<std::string, StoredTensor>;

// "f32 [2, 3]", for messages.
std::string describe(const StoredTensor& tensor);

// One mapped file. Its tensors cover the data exactly, without hole or overlap. Throws not_found,
// io, corrupt_file, or unsupported for a tensor of another kind of number.
class TensorFile {
 public:
  explicit TensorFile(const std::filesystem::path& path);

  const StoredTensors& tensors() const noexcept { return tensors_; }
  const std::map<std::string, std::string>& metadata() const noexcept { return metadata_; }
  const std::filesystem::path& path() const noexcept { return file_.path(); }

 private:
  MappedFile file_;
  StoredTensors tensors_;
  std::map<std::string, std::string> metadata_;
};

// The tensors of a directory: model.safetensors, or the shards that
// model.safetensors.index.json names, each of which must hold what the index says and no more.
class Checkpoint {
 public:
  explicit Checkpoint(const std::filesystem::path& directory);
  const StoredTensors& tensors() const noexcept { return tensors_; }

 private:
  void add_shards(const std::filesystem::path& directory, const std::filesystem::path& index);

  std::vector<TensorFile> files_;
  StoredTensors tensors_;
};

// Copies a tensor's values into `out`, of the same shape, contiguous, on the CPU, rounding where
// `out` is narrower. Throws corrupt_file, naming `name`, where a value does not fit.
void copy_values(const StoredTensor& from, const std::string& name, at::Tensor out);

// Whether `to` lacks numbers as large as some of `from`.
bool may_overflow(at::ScalarType from, at::ScalarType to);
// Throws corrupt_file where `rounded`, on any device, has a value that did not fit.
void check_rounded(const StoredTensor& from, const std::string& name, const at::Tensor& rounded);

// What a safetensors file begins with: the header's length, the header, and blanks so that the data
// then lies aligned.
std::string safetensors_head(const nlohmann::ordered_json& header);

// A safetensors file with one contiguous float32 tensor on the CPU.
std::string to_safetensors(const std::string& name, const at::Tensor& tensor,
                           const std::map<std::string, std::string>& metadata);

// A hash of bytes that changes with any one of them and does not depend on the machine.
std::uint64_t hash_bytes(std::span<const std::byte> bytes);
std::uint64_t hash_text(std::string_view text);

// The same, and whether every number in them is finite, in one pass.
struct Scanned {
  std::uint64_t hash = 0;
  bool is_finite = true;
};
Scanned scan(const StoredTensor& tensor);

}  // namespace pensive
