// Text as it arrives, on a terminal or into a pipe.
#include <fmt/core.h>
#include <unistd.h>

#include "shell.h"

namespace pensive::shell {

Printer::Printer() : is_terminal_(is_terminal(STDOUT_FILENO)) {}

void Printer::print(std::span<const TextEvent> events) {
  for (const TextEvent& event : events) {
    const bool is_next = event.segment != segment_ || event.index != index_;
    if (is_next && !last_.empty() && last_.back() != '\n') fmt::print("\n");
    segment_ = event.segment;
    index_ = event.index;
    last_ = event.text;
    const bool is_dim = is_terminal_ && event.segment == Segment::think;
    fmt::print("{}{}{}", is_dim ? "\033[2m" : "", event.text, is_dim ? "\033[0m" : "");
  }
  std::fflush(stdout);
}

void stream(Engine& engine, Sequence& sequence, Printer* printer) {
  std::optional<Waiting> reading;
  reading.emplace("reading the prompt");
  while (!sequence.finished()) {
    engine.step();
    if (was_interrupted()) sequence.cancel();
    const auto events = sequence.take_events();
    if (!events.empty()) reading.reset();
    if (printer != nullptr) printer->print(events);
  }
  reading.reset();
  const auto rest = sequence.take_events();
  if (printer != nullptr) printer->print(rest);
}

}  // namespace pensive::shell
