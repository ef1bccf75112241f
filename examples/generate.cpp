// Asks a model, with its thinking under control, and streams what it says.
#include <iostream>

#include "pensive/engine.h"
#include "pensive/guides.h"

int main(int argc, char** argv) try {
  using namespace pensive;
  auto model = Model::load(argc > 1 ? argv[1] : "examples/reasoner");
  auto text = model->tokenizer();
  Engine engine(model);
  const auto wait = text->encode("Wait", {.add_special = AddSpecial::no});

  Request request;
  request.prompt = text->encode_chat(std::vector<Message>{{"user", "57 + 23 * 11 - 48 + 19 * 37"}});
  request.guides = {
      budget({.max_think_tokens = 200}),             // think at most this long, and
      continue_thinking({.with = wait, .times = 1})  // look at least once again
  };

  Sequence answer = engine.start(request);
  while (!answer.finished()) {
    engine.step();
    for (const TextEvent& event : answer.take_events()) {
      (event.segment == Segment::think ? std::cerr : std::cout) << event.text << std::flush;
    }
  }
  std::cout << "\n";
} catch (const pensive::Error& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
