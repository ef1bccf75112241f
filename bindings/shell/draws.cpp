#include <fmt/core.h>

#include <charconv>
#include <cmath>

#include "shell.h"

namespace pensive::shell {
namespace {

// "ID:VALUE"; a value of -inf bans the token.
LogitBias read_bias(const std::string& text) {
  LogitBias bias;
  const char* const end = text.data() + text.size();
  const auto id = std::from_chars(text.data(), end, bias.token);
  if (id.ec == std::errc() && id.ptr != end && *id.ptr == ':') {
    const auto value = std::from_chars(id.ptr + 1, end, bias.bias);
    if (value.ec == std::errc() && value.ptr == end) return bias;
  }
  throw Error(
      ErrorCode::invalid_argument,
      fmt::format("expected a token's id and a number, as in 42:-1.5; found '{}' (--logit-bias)",
                  text));
}

}  // namespace

void DrawFlags::add_to(CLI::App& app) {
  app.add_option("--min-p", min_p, "keep tokens so likely, measured by the likeliest; 0 is all");
  app.add_option("--repeat-penalty,--repetition-penalty", repetition_penalty,
                 "for tokens of the prompt and the output; 1 is none");
  app.add_option("--presence-penalty", presence_penalty, "once for tokens of the output");
  app.add_option("--frequency-penalty", frequency_penalty, "for each time in the output");
  app.add_option("--logit-bias", logit_bias, "ID:VALUE added to a token's logit; -inf bans it")
      ->allow_extra_args(false);
  app.add_option("--stop", stop_texts, "end before this text; may be given several times")
      ->allow_extra_args(false);
  app.add_option("--timeout", timeout_seconds, "end after so many seconds; 0 is never");
}

void DrawFlags::apply(Request& request) const {
  request.sampling.min_p = min_p;
  request.sampling.repetition_penalty = repetition_penalty;
  request.sampling.presence_penalty = presence_penalty;
  request.sampling.frequency_penalty = frequency_penalty;
  for (const std::string& text : logit_bias) request.sampling.logit_bias.push_back(read_bias(text));
  request.stop_texts = stop_texts;
  request.timeout_seconds = timeout_seconds;
}

}  // namespace pensive::shell
