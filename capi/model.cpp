#include "pensive/model.h"

#include "handles.h"

namespace door {

std::shared_ptr<User> log_in(const pensive_log* log, pensive::LogSink& sink) {
  if (!log) return nullptr;
  const pensive_log given = struct_in(log, "pensive_log");
  check_zero(given.reserved, "pensive_log.reserved");
  need(given.line, "pensive_log.line");
  auto user = std::make_shared<User>(given.user, given.destroy);
  sink = [user, line = given.line](pensive::LogLevel level, std::string_view text) {
    line(user->user, static_cast<int32_t>(level), std::string(text).c_str());
  };
  return user;
}

pensive::ModelOptions model_options_in(const pensive_model_options* options,
                                       std::shared_ptr<User>& user) {
  const auto given = struct_in(options, "pensive_model_options");
  pensive::ModelOptions wanted;
  wanted.device = pensive::Device::parse(text_or(given.device, "auto"));
  wanted.precision = static_cast<pensive::Precision>(
      choice_in(given.precision, PENSIVE_PRECISION_FLOAT16, "pensive_model_options.precision"));
  wanted.unknown_keys = static_cast<pensive::UnknownKeys>(choice_in(
      given.unknown_keys, PENSIVE_UNKNOWN_KEYS_WARN, "pensive_model_options.unknown_keys"));
  check_zero(given.reserved, "pensive_model_options.reserved");
  user = log_in(given.log, wanted.log);
  return wanted;
}

int32_t model_load(const char* directory, const pensive_model_options* options,
                   pensive_model** model, pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(model, "model");
    std::shared_ptr<User> user;
    const pensive::ModelOptions wanted = model_options_in(options, user);
    auto value = pensive::Model::load(text_in(directory, "directory"), wanted);
    slot = new pensive_model{std::move(value)};
    if (user) user->is_ours = true;
  });
}

void model_free(pensive_model* model) { delete model; }

int32_t model_get_info(const pensive_model* model, pensive_model_info* info,
                       pensive_error** error) {
  return guard(error, [&] {
    const pensive::Model& value = *need(model, "model").value;
    const pensive::ModelInfo& from = value.info();
    const pensive::GenerationDefaults& defaults = value.defaults();
    pensive_model_info to{};
    to.layers = from.layers;
    to.width = from.width;
    to.heads = from.heads;
    to.kv_heads = from.kv_heads;
    to.head_dim = from.head_dim;
    to.vocab_size = from.vocab_size;
    to.max_positions = from.max_positions;
    to.precision = static_cast<int32_t>(from.precision);
    to.device_index = from.device.index;
    to.parameters = from.parameters;
    to.weight_bytes = from.weight_bytes;
    to.fingerprint = from.fingerprint;
    to.family = from.family.c_str();
    to.device = from.device.kind == pensive::DeviceKind::cuda ? "cuda" : "cpu";
    to.is_tied = from.is_tied;
    to.defaults_given =
        (defaults.temperature ? std::uint32_t{PENSIVE_GIVEN_TEMPERATURE} : 0u) |
        (defaults.top_p ? std::uint32_t{PENSIVE_GIVEN_TOP_P} : 0u) |
        (defaults.top_k ? std::uint32_t{PENSIVE_GIVEN_TOP_K} : 0u) |
        (defaults.min_p ? std::uint32_t{PENSIVE_GIVEN_MIN_P} : 0u) |
        (defaults.repetition_penalty ? std::uint32_t{PENSIVE_GIVEN_REPETITION_PENALTY} : 0u);
    to.default_temperature = defaults.temperature.value_or(0.0f);
    to.default_top_p = defaults.top_p.value_or(0.0f);
    to.default_top_k = defaults.top_k.value_or(0);
    to.default_min_p = defaults.min_p.value_or(0.0f);
    to.default_repetition_penalty = defaults.repetition_penalty.value_or(0.0f);
    struct_out(info, to, "pensive_model_info");
  });
}

int32_t model_get_stop_tokens(const pensive_model* model, const int32_t** ids, size_t* count,
                              pensive_error** error) {
  return guard(error, [&] {
    const auto tokens = need(model, "model").value->stop_tokens();
    need(count, "count") = tokens.size();
    need(ids, "ids") = tokens.data();
  });
}

int32_t model_get_tokenizer(const pensive_model* model, pensive_tokenizer** tokenizer,
                            pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(tokenizer, "tokenizer");
    slot = new pensive_tokenizer{need(model, "model").value->tokenizer()};
  });
}

}  // namespace door
