// config.json; after a zero byte, generation_config.json.
#include "fuzz.h"
#include "model/checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pensive;
  static const fuzz::Folder folder;
  const std::string_view input = fuzz::text_of(data, size);
  const std::size_t end = std::min(input.find('\0'), input.size());
  folder.write("config.json", input.substr(0, end));
  folder.write("generation_config.json", end < input.size() ? input.substr(end + 1) : "{}");
  return fuzz::expect_answer(
      [&] { read_config(folder.path(), UnknownKeys::warn, [](LogLevel, std::string_view) {}); });
}
