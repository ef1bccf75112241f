// Invented moments, and guides driven by them as the engine would.
#pragma once
#include <sstream>
#include <string>
#include <vector>

#include "pensive/guides.h"
#include "testing.h"

namespace pensive::testing {

inline constexpr TokenId closer = 91;

inline Moment thinking(int think_tokens, std::string_view text = "so") {
  Moment moment;
  moment.segment = Segment::think;
  moment.text = moment.tail = text;
  moment.token = 5;
  moment.think_tokens = think_tokens;
  return moment;
}

inline Moment marker(Marker completes, int think_tokens, Origin origin = Origin::sampled) {
  Moment moment = thinking(think_tokens, "");
  moment.completes = completes;
  moment.marker_tokens = 1;
  moment.origin = origin;
  moment.token = closer;
  return moment;
}

inline Moment answering(int think_tokens) {
  Moment moment = thinking(think_tokens);
  moment.segment = Segment::answer;
  return moment;
}

// "-" for Proceed, else the action with its numbers.
inline std::string told(const Action& action) {
  std::ostringstream text;
  if (const auto* close = std::get_if<Close>(&action)) {
    text << "close " << to_string(close->reason) << " -" << close->replaces_last << " in "
         << close->within_tokens;
  } else if (const auto* force = std::get_if<Force>(&action)) {
    text << "force -" << force->replaces_last;
    for (const TokenId id : force->tokens) text << ' ' << id;
  } else if (const auto* probe = std::get_if<Probe>(&action)) {
    text << "probe -" << probe->from_back << " for " << probe->max_new_tokens << " at "
         << probe->temperature << ":";
    for (const TokenId id : probe->tokens) text << ' ' << id;
  } else {
    text << (std::holds_alternative<Proceed>(action) ? "-" : "?");
  }
  return text.str();
}

// A guide as the engine drives it: what it asks for is done, unless `is_done` says otherwise.
class Driven {
 public:
  explicit Driven(const std::shared_ptr<const Guide>& guide) : guide_(guide->clone()) {}
  Driven(const Driven& other) : guide_(other.guide_->clone()) {}

  std::string operator()(const Moment& moment, bool is_done = true) {
    const Action action = guide_->on_token(moment);
    if (is_done && !std::holds_alternative<Proceed>(action)) guide_->on_done({&action, true});
    return told(action);
  }
  void another(const Action& action) { guide_->on_done({&action, false}); }
  Guide& guide() { return *guide_; }

 private:
  std::unique_ptr<Guide> guide_;
};

// What a guide adds to the next draw: "id:logit", and "+times" of max - mean where there is that.
inline std::string biases_of(const Action& action) {
  std::ostringstream text;
  const auto* proceed = std::get_if<Proceed>(&action);
  if (proceed == nullptr) return told(action);
  for (const Bias& bias : proceed->biases) {
    text << (text.str().empty() ? "" : " ") << bias.token << ':' << bias.logit;
    if (bias.times_max_minus_mean != 0) text << '+' << bias.times_max_minus_mean;
  }
  return text.str();
}

}  // namespace pensive::testing
