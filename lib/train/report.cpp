// A step's report in a checkpoint.
#include "train/report.h"

#include <array>
#include <limits>

#include "train/numbers.h"

namespace pensive {

using Json = nlohmann::ordered_json;

namespace {

struct Number {
  std::string_view key;
  double TrainReport::*value;
};
constexpr std::array<Number, 18> numbers = {{{"mean_reward", &TrainReport::mean_reward},
                                             {"mean_tokens", &TrainReport::mean_tokens},
                                             {"truncated_share", &TrainReport::truncated_share},
                                             {"spread_share", &TrainReport::spread_share},
                                             {"loss", &TrainReport::loss},
                                             {"gradient_norm", &TrainReport::gradient_norm},
                                             {"entropy_nats", &TrainReport::entropy_nats},
                                             {"kl_nats", &TrainReport::kl_nats},
                                             {"clip_share", &TrainReport::clip_share},
                                             {"mean_weight", &TrainReport::mean_weight},
                                             {"learning_rate", &TrainReport::learning_rate},
                                             {"row_norm", &TrainReport::row_norm},
                                             {"row_distance", &TrainReport::row_distance},
                                             {"mean_logprob_gap", &TrainReport::mean_logprob_gap},
                                             {"max_logprob_gap", &TrainReport::max_logprob_gap},
                                             {"rollout_seconds", &TrainReport::rollout_seconds},
                                             {"judge_seconds", &TrainReport::judge_seconds},
                                             {"update_seconds", &TrainReport::update_seconds}}};

// JSON has no NaN and no infinity: they are written as null.
double read_number(const Json& json, std::string_view key, std::string_view where) {
  const Json found = member<Json>(json, key, where);
  if (found.is_null()) return std::numeric_limits<double>::quiet_NaN();
  require(found.is_number(), ErrorCode::corrupt_file, fmt::format("a number in \"{}\"", key),
          found.dump(), where);
  return found.get<double>();
}

}  // namespace

Json write_report(const std::optional<TrainReport>& report) {
  if (!report) return nullptr;
  Json json = {{"step", report->step},
               {"mean_parts", report->mean_parts},
               {"has_stopped", report->has_stopped},
               {"best_step", report->best_step}};
  for (const Number& number : numbers) json[number.key] = (*report).*number.value;
  return json;
}

std::optional<TrainReport> read_report(const Json& json, std::size_t parts,
                                       std::string_view where) {
  if (json.is_null()) return std::nullopt;
  require(json.is_object(), ErrorCode::corrupt_file, "an object \"report\"", json.type_name(),
          where);
  TrainReport report;
  report.step = read_count(json, "step", where);
  report.mean_parts = read_numbers(json, "mean_parts", parts, where);
  report.has_stopped = member<bool>(json, "has_stopped", where);
  report.best_step = read_count(json, "best_step", where);
  for (const Number& number : numbers) report.*number.value = read_number(json, number.key, where);
  return report;
}

}  // namespace pensive
