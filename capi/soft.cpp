#include "handles.h"
#include "pensive/model.h"

namespace door {

int32_t soft_new(const pensive_model* model, pensive_soft** soft, pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(soft, "soft");
    auto value = std::make_shared<pensive::SoftVocab>(need(model, "model").value);
    slot = new pensive_soft{std::move(value)};
  });
}

int32_t soft_load(const pensive_model* model, const char* file, pensive_soft** soft,
                  pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(soft, "soft");
    auto value = pensive::SoftVocab::load(need(model, "model").value, text_in(file, "file"));
    slot = new pensive_soft{std::move(value)};
  });
}

int32_t soft_carry(const pensive_model* model, const char* file, pensive_soft** soft,
                   pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(soft, "soft");
    auto value = pensive::SoftVocab::load(need(model, "model").value, text_in(file, "file"),
                                          pensive::OtherModel::allow);
    slot = new pensive_soft{std::move(value)};
  });
}

int32_t soft_get_carried_from(const pensive_soft* soft, char** from, pensive_error** error) {
  return guard(error, [&] {
    out(from, "from");
    text_out(from, nullptr, need(soft, "soft").value->carried_from());
  });
}

int32_t soft_save(const pensive_soft* soft, const char* file, const char* training_json,
                  pensive_error** error) {
  return guard(error, [&] {
    need(soft, "soft").value->save(text_in(file, "file"), text_or(training_json, ""));
  });
}

void soft_free(pensive_soft* soft) { delete soft; }

int32_t soft_add(pensive_soft* soft, const char* name, const int32_t* start_at_mean_of,
                 size_t count, int32_t* id, pensive_error** error) {
  return guard(error, [&] {
    int32_t& slot = need(id, "id");
    slot = need(soft, "soft")
               .value->add(text_in(name, "name"),
                           array_in(start_at_mean_of, count, "start_at_mean_of"));
  });
}

int32_t soft_size(const pensive_soft* soft) { return soft ? soft->value->size() : 0; }

int32_t soft_find(const pensive_soft* soft, const char* name, int32_t* id, pensive_error** error) {
  return guard(error, [&] {
    need(id, "id") = need(soft, "soft").value->find(text_in(name, "name")).value_or(-1);
  });
}

int32_t soft_get_name(const pensive_soft* soft, int32_t id, char** name, pensive_error** error) {
  return guard(error, [&] {
    out(name, "name");
    text_out(name, nullptr, need(soft, "soft").value->name(id));
  });
}

int32_t soft_get_row(const pensive_soft* soft, int32_t id, float** values, size_t* count,
                     pensive_error** error) {
  return guard(error, [&] {
    out(values, "values");
    need(count, "count") = 0;
    const std::vector<float> row = need(soft, "soft").value->row(id);
    array_out<float>(values, count, row);
  });
}

int32_t soft_set_row(pensive_soft* soft, int32_t id, const float* values, size_t count,
                     pensive_error** error) {
  return guard(error,
               [&] { need(soft, "soft").value->set_row(id, array_in(values, count, "values")); });
}

uint64_t soft_version(const pensive_soft* soft) { return soft ? soft->value->version() : 0; }

int32_t soft_export(const pensive_soft* soft, int32_t id, const char* to, const char* token,
                    pensive_exported* exported, pensive_error** error) {
  return guard(error, [&] {
    const pensive::Exported from =
        pensive::export_token(*need(soft, "soft").value, id, text_in(to, "to"),
                              {.token = std::string(text_or(token, ""))});
    pensive_exported result{};
    result.id = from.id;
    result.weight_bytes = from.weight_bytes;
    result.added_bytes = from.added_bytes;
    struct_out(exported, result, "pensive_exported");
  });
}

}  // namespace door
