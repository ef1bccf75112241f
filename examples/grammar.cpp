// Free thinking, then an answer that a grammar allows: two digits. A grammar engine such as
// llguidance or xgrammar fills masks of the same layout for JSON schemas.
#include <array>
#include <iostream>

#include "pensive/engine.h"
#include "pensive/guides.h"

using namespace pensive;

// One bit a token, in words of 32.
std::vector<std::uint32_t> mask_of(const std::vector<TokenId>& allowed) {
  std::vector<std::uint32_t> mask;
  for (const TokenId id : allowed) {
    const auto word = static_cast<std::size_t>(id) / 32;
    if (word >= mask.size()) mask.resize(word + 1);
    mask[word] |= 1u << (id % 32);
  }
  return mask;
}

int main(int argc, char** argv) try {
  auto model = Model::load(argc > 1 ? argv[1] : "examples/reasoner");
  auto text = model->tokenizer();
  std::vector<TokenId> digits;
  for (char digit = '0'; digit <= '9'; ++digit)
    digits.push_back(text->find(std::string(1, digit)).value());
  const std::array<std::vector<TokenId>, 5> grammar = {
      std::vector<TokenId>{text->find("<answer>").value()},
      digits,
      digits,
      {text->find("</answer>").value()},
      {text->eos().value()}};

  Engine engine(model);
  Request request;
  request.prompt = text->encode_chat(std::vector<Message>{{"user", "57 + 23 * 11"}});
  request.guides = {allow_after_thinking([&](std::span<const TokenId> answer) {
    return mask_of(grammar[std::min(answer.size(), grammar.size() - 1)]);
  })};
  Sequence answer = engine.start(request);
  engine.finish(answer);
  std::cout << respond(answer.trace(), *text).answer << "\n";
} catch (const Error& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
