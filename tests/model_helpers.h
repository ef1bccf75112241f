// What the tests of the model room share: folders of their own, damaged copies, expected errors.
#pragma once
#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/inside.h"
#include "model/parts.h"
#include "model/safetensors.h"
#include "testing.h"

namespace pensive::testing {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

inline fs::path model_folder(const std::string& name) { return data("models") / name; }

// A folder that is gone with the test.
class Scratch {
 public:
  Scratch() = default;
  // With a copy of a recorded checkpoint in it.
  explicit Scratch(const std::string& model) {
    for (const auto& entry : fs::directory_iterator(model_folder(model)))
      fs::copy_file(entry.path(), path() / entry.path().filename());
  }
  const fs::path& path() const { return folder_.path(); }

  fs::path write(const std::string& name, std::string_view content) const {
    write_file(path() / name, content);
    return path() / name;
  }
  Json json(const std::string& name) const {
    return parse_json(read_text(path() / name), (path() / name).string());
  }
  // Replaces keys of a JSON file; a null removes its key.
  void patch(const std::string& name, const Json& changes) const {
    Json content = json(name);
    for (const auto& [key, value] : changes.items()) content[key] = value;
    write(name, content.dump());
  }

 private:
  TempDir folder_;
};

// What `work` throws must be an Error of this code; its message.
template <class Work>
std::string error_of(ErrorCode code, Work work) {
  try {
    work();
  } catch (const Error& error) {
    EXPECT_EQ(to_string(error.code()), to_string(code)) << error.what();
    return error.what();
  } catch (const std::exception& error) {
    ADD_FAILURE() << "another exception: " << error.what();
    return {};
  }
  ADD_FAILURE() << "no error";
  return {};
}

// A safetensors file of this header and data; the length in front is the header's unless given.
inline std::string file_of(const std::string& header, const std::string& data = {}) {
  std::string file;
  for (std::size_t i = 0; i < 8; ++i) file += static_cast<char>(header.size() >> (8 * i) & 0xff);
  return file + header + data;
}

// Tensors that a test may change before they are written.
struct Loose {
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::string bytes;
};
using LooseTensors = std::map<std::string, Loose>;

inline LooseTensors loose(const StoredTensors& tensors) {
  LooseTensors out;
  for (const auto& [name, tensor] : tensors) {
    const std::string dtype = tensor.scalar == at::kFloat      ? "F32"
                              : tensor.scalar == at::kBFloat16 ? "BF16"
                              : tensor.scalar == at::kHalf     ? "F16"
                                                               : "F64";
    const auto* first = reinterpret_cast<const char*>(tensor.bytes.data());
    out[name] = {dtype, tensor.shape, {first, tensor.bytes.size()}};
  }
  return out;
}

// Written in the reverse order of names, so that order is seen not to matter.
inline std::string file_of(const LooseTensors& tensors) {
  Json header = Json::object();
  std::string data;
  for (auto it = tensors.rbegin(); it != tensors.rend(); ++it) {
    const Loose& tensor = it->second;
    header[it->first] = {{"dtype", tensor.dtype},
                         {"shape", tensor.shape},
                         {"data_offsets", {data.size(), data.size() + tensor.bytes.size()}}};
    data += tensor.bytes;
  }
  return file_of(header.dump(), data);
}

inline Config config_of(const fs::path& folder) {
  return read_config(folder, UnknownKeys::refuse, {});
}

inline Weights weights_of(const fs::path& folder, Precision precision = Precision::float32) {
  return read_weights(folder, config_of(folder), precision, Device{DeviceKind::cpu});
}

}  // namespace pensive::testing
