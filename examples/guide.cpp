// A guide of your own: the thinking ends where a line gives the same value as one before it.
#include <iostream>
#include <set>

#include "pensive/engine.h"

using namespace pensive;

struct SaidTwice : Guide {
  std::set<std::string> lines;  // plain values: forks clone the guide
  std::string_view name() const override { return "said_twice"; }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<SaidTwice>(*this); }
  Action on_token(const Moment& moment) override {
    if (moment.segment != Segment::think || !moment.text.ends_with('\n')) return Proceed{};
    const auto so = moment.tail.rfind("So ");
    if (so == moment.tail.npos || lines.insert(std::string(moment.tail.substr(so))).second)
      return Proceed{};
    return Close{CloseReason::brake};
  }
};

int main(int argc, char** argv) try {
  auto model = Model::load(argc > 1 ? argv[1] : "examples/reasoner");
  Engine engine(model);
  Request request;
  request.prompt =
      chat_prompt(model->tokenizer(), "thorough")({"", "57 + 23 * 11 - 48 + 19 * 37", ""});
  request.guides = {std::make_shared<SaidTwice>()};
  Sequence answer = engine.start(request);
  engine.finish(answer);
  for (const TextEvent& event : answer.take_events()) std::cout << event.text;
  std::cout << "\n";
  for (const TraceAction& action : answer.trace().actions)
    std::cout << action.guide << ": " << action.kind << " after token " << action.position << "\n";
} catch (const Error& error) {
  std::cerr << error.what() << "\n";
  return 1;
}
