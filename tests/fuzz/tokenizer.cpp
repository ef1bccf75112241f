// tokenizer.json, and texts through what it describes.
#include "fuzz.h"
#include "pensive/text.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pensive;
  static const fuzz::Folder folder;
  folder.write("tokenizer.json", fuzz::text_of(data, size));
  return fuzz::expect_answer([] {
    const auto tokenizer = Tokenizer::load(folder.path());
    for (const auto parse : {ParseSpecial::yes, ParseSpecial::no}) {
      const auto ids = tokenizer->encode("The dog, <s> 東京\n", {AddSpecial::yes, parse});
      const std::string whole = tokenizer->decode(ids, true);
      TextStream stream(tokenizer, true);
      std::string streamed;
      for (const TokenId id : ids) streamed += stream.push(id);
      if (streamed + stream.finish() != whole) std::abort();
    }
  });
}
