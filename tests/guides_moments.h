// Invented moments, and guides driven by them as the engine would.
#pragma once
#include <sstream>
#include <string>
#include <variant>
#include <vector>

#include "pensive/guides.h"
#include "testing.h"

namespace pensive::testing {

inline constexpr TokenId closer = 91;

inline Moment thinking(int think_tokens, std::string_view text = "so") {
  static constexpr TokenId tokens[] = {1, 5};
  Moment moment;
  moment.tokens = tokens;
  moment.segment = moment.next = Segment::think;
  moment.text = moment.tail = text;
  moment.token = 5;
  moment.think_tokens = think_tokens;
  return moment;
}

inline Moment marker(Marker completes, int think_tokens, Origin origin = Origin::sampled) {
  static constexpr TokenId tokens[] = {1, closer};
  Moment moment = thinking(think_tokens, "");
  moment.tokens = tokens;
  moment.completes = completes;
  if (completes == Marker::think_close) moment.next = Segment::answer;
  moment.marker_tokens = 1;
  moment.origin = origin;
  moment.token = closer;
  return moment;
}

inline Moment answering(int think_tokens) {
  Moment moment = thinking(think_tokens);
  moment.segment = moment.next = Segment::answer;
  return moment;
}

// The biases as TOKEN:LOGIT or TOKEN:*TIMES, "-" for none.
inline std::string told(const std::vector<Bias>& biases) {
  std::ostringstream text;
  for (const Bias& bias : biases) {
    text << (text.tellp() > 0 ? " " : "") << bias.token << ':';
    if (bias.times_max_minus_mean != 0) text << '*' << bias.times_max_minus_mean;
    if (bias.times_max_minus_mean == 0) text << bias.logit;
  }
  return text.tellp() > 0 ? text.str() : "-";
}

// The action with its numbers; "-" for a plain Proceed; of a mask what it does not allow of 0 … 99.
inline std::string told(const Action& action) {
  std::ostringstream text;
  const auto list = [&](const std::vector<TokenId>& ids) {
    for (const TokenId id : ids) text << ' ' << id;
  };
  if (const auto* proceed = std::get_if<Proceed>(&action)) {
    text << told(proceed->biases);
  } else if (const auto* allow = std::get_if<Allow>(&action)) {
    text << "allow all but";
    for (std::uint32_t id = 0; id < 100; ++id)
      if (id / 32 >= allow->mask.size() || (allow->mask[id / 32] >> (id % 32) & 1) == 0)
        text << ' ' << id;
  } else if (const auto* close = std::get_if<Close>(&action)) {
    text << "close " << to_string(close->reason) << " -" << close->replaces_last << " in "
         << close->within_tokens;
  } else if (const auto* force = std::get_if<Force>(&action)) {
    text << "force -" << force->replaces_last;
    list(force->tokens);
    if (!force->biases.empty()) text << " but " << told(force->biases);
  } else if (const auto* probe = std::get_if<Probe>(&action)) {
    text << "probe -" << probe->from_back << " for " << probe->max_new_tokens << " at "
         << probe->temperature << ":";
    list(probe->tokens);
  } else {
    text << '?';
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

}  // namespace pensive::testing
