// One safetensors file, and every byte it says it holds.
#include "model/safetensors.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pensive;
  static const fuzz::Folder folder;
  const auto file = folder.write("model.safetensors", fuzz::text_of(data, size));
  return fuzz::expect_answer([&] {
    const TensorFile tensors(file);
    for (const auto& [name, tensor] : tensors.tensors()) scan(tensor);
  });
}
