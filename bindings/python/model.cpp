// Model, SoftVocab and Tokenizer.
#include "bind.h"

namespace bind {

namespace {

using pensive::Model;
using pensive::SoftVocab;
using pensive::TokenId;
using pensive::Tokenizer;

// pybind11 knows no pointers to const: what Python may call is const anyway.
template <typename T>
std::shared_ptr<T> unlocked(std::shared_ptr<const T> pointer) {
  return std::const_pointer_cast<T>(std::move(pointer));
}

pensive::Precision precision_of(const std::string& name) {
  using pensive::Precision;
  for (const auto precision : {Precision::as_stored, Precision::float32, Precision::bfloat16,
                               Precision::float16, Precision::float64})
    if (pensive::to_string(precision) == name) return precision;
  refuse("as_stored, float32, bfloat16, float16 or float64", name, "precision");
}

pensive::UnknownKeys unknown_keys_of(const std::string& name) {
  if (name == "warn") return pensive::UnknownKeys::warn;
  if (name == "refuse") return pensive::UnknownKeys::refuse;
  refuse("refuse or warn", name, "unknown_keys");
}

std::shared_ptr<Model> load(const std::filesystem::path& path, const std::string& device,
                            const std::string& precision, const py::object& log,
                            const std::string& unknown_keys) {
  const pensive::ModelOptions options = model_options_of(device, precision, log, unknown_keys);
  const py::gil_scoped_release unlock;
  return unlocked(Model::load(path, options));
}

py::dict defaults_of(const Model& model) {
  py::dict found;
  const pensive::GenerationDefaults& defaults = model.defaults();
  if (defaults.temperature) found["temperature"] = *defaults.temperature;
  if (defaults.top_p) found["top_p"] = *defaults.top_p;
  if (defaults.top_k) found["top_k"] = *defaults.top_k;
  if (defaults.min_p) found["min_p"] = *defaults.min_p;
  if (defaults.repetition_penalty) found["repetition_penalty"] = *defaults.repetition_penalty;
  return found;
}

// Handles are shared, not copied, when a guide that holds them is.
template <typename Class>
void share_on_copy(Class& type) {
  type.def("__copy__", [](const py::object& self) { return self; });
  type.def("__deepcopy__", [](const py::object& self, const py::dict&) { return self; });
}

void add_info(py::module_& module) {
  using pensive::ModelInfo;
  py::class_<ModelInfo>(module, "ModelInfo", "What a checkpoint is.")
      .def_readonly("family", &ModelInfo::family)
      .def_readonly("layers", &ModelInfo::layers)
      .def_readonly("width", &ModelInfo::width)
      .def_readonly("heads", &ModelInfo::heads)
      .def_readonly("kv_heads", &ModelInfo::kv_heads)
      .def_readonly("head_dim", &ModelInfo::head_dim)
      .def_readonly("vocab_size", &ModelInfo::vocab_size)
      .def_readonly("max_positions", &ModelInfo::max_positions)
      .def_readonly("is_tied", &ModelInfo::is_tied)
      .def_readonly("parameters", &ModelInfo::parameters)
      .def_readonly("weight_bytes", &ModelInfo::weight_bytes)
      .def_readonly("fingerprint", &ModelInfo::fingerprint)
      .def_property_readonly(
          "precision",
          [](const ModelInfo& info) { return std::string(pensive::to_string(info.precision)); })
      .def_property_readonly("device",
                             [](const ModelInfo& info) { return pensive::to_string(info.device); });
}

void add_soft(py::module_& module) {
  py::class_<SoftVocab, std::shared_ptr<SoftVocab>> soft(
      module, "SoftVocab",
      "Embeddings the model was not born with: rows that can be fed and never be sampled.");
  soft.def(py::init([](std::shared_ptr<Model> model) {
             return std::make_shared<SoftVocab>(std::move(model));
           }),
           py::arg("model").none(false))
      .def_static(
          "load",
          [](std::shared_ptr<Model> model, const std::filesystem::path& path, bool allow_other) {
            return SoftVocab::load(
                std::move(model), path,
                allow_other ? pensive::OtherModel::allow : pensive::OtherModel::refuse);
          },
          py::arg("model").none(false), py::arg("path"), py::kw_only(),
          py::arg("allow_other_model") = false,
          "Reads what save() wrote for the same model, or for another one of the same width.")
      .def_property_readonly("carried_from", &SoftVocab::carried_from,
                             "The model that the rows were made for, where it is another; else ''.")
      .def(
          "export_token",
          [](const SoftVocab& rows, TokenId id, const std::filesystem::path& to,
             const std::string& token) {
            const auto exported = [&] {
              const py::gil_scoped_release unlock;
              return pensive::export_token(rows, id, to, {.token = token});
            }();
            py::dict result;
            result["id"] = exported.id;
            result["token"] = exported.token;
            result["weight_bytes"] = exported.weight_bytes;
            result["added_bytes"] = exported.added_bytes;
            return result;
          },
          py::arg("id"), py::arg("to"), py::arg("token") = "",
          "A copy of the model's folder in which a row is a token of its own.")
      .def("start", &SoftVocab::start, py::arg("id"), "What a row started as the mean of.")
      .def(
          "save",
          [](const SoftVocab& rows, const std::filesystem::path& path, const py::object& training) {
            rows.save(path, json_of(training));
          },
          py::arg("path"), py::arg("training") = py::none(),
          "Writes a safetensors file; `training` is a dict for its readers.")
      .def(
          "add",
          [](SoftVocab& rows, const std::string& name, const std::vector<TokenId>& ids) {
            return rows.add(name, ids);
          },
          py::arg("name"), py::arg("start_at_mean_of"),
          "Adds a row at the mean of these tokens' embeddings; returns its id.")
      .def("find", &SoftVocab::find, py::arg("name"), "The id of the row named so, or None.")
      .def("name", &SoftVocab::name, py::arg("id"))
      .def("row", &SoftVocab::row, py::arg("id"), "The row's values, a list of floats.")
      .def(
          "set_row",
          [](SoftVocab& rows, TokenId id, const std::vector<float>& values) {
            rows.set_row(id, values);
          },
          py::arg("id"), py::arg("values"))
      .def("__len__", &SoftVocab::size)
      .def_property_readonly(
          "tokenizer", [](const SoftVocab& self) { return unlocked(self.tokenizer()); },
          "The model's tokenizer that also prints and finds these rows by name.")
      .def_property_readonly("version", &SoftVocab::version, "A hash of the rows' bits.")
      .def_property_readonly("model", [](const SoftVocab& rows) { return unlocked(rows.model()); });
  share_on_copy(soft);
}

}  // namespace

pensive::ModelOptions model_options_of(const std::string& device, const std::string& precision,
                                       const py::object& log, const std::string& unknown_keys) {
  pensive::ModelOptions options;
  options.device = pensive::Device::parse(device);
  options.precision = precision_of(precision);
  options.log = log_of(log);
  options.unknown_keys = unknown_keys_of(unknown_keys);
  return options;
}

void add_model(py::module_& module) {
  add_info(module);
  py::class_<Model, std::shared_ptr<Model>> model(
      module, "Model", "A checkpoint, loaded and frozen. Threads and engines may share it.");
  model
      .def_static(
          "load", &load, py::arg("path"), py::arg("device") = "auto",
          py::arg("precision") = "as_stored", py::arg("log") = py::none(),
          py::arg("unknown_keys") = "refuse",
          "Reads a Hugging Face directory; every size is checked before it is used.\n\n"
          "device: 'auto', 'cpu', 'cuda' or 'cuda:1'. precision: 'as_stored', 'float32', "
          "'bfloat16', 'float16' or 'float64'. log: called with (level, line). unknown_keys: "
          "'refuse' or 'warn', about keys of config.json that are not known.")
      .def_property_readonly("info", &Model::info, py::return_value_policy::reference_internal)
      .def_property_readonly("tokenizer",
                             [](const Model& self) { return unlocked(self.tokenizer()); })
      .def_property_readonly("vocab_size", &Model::vocab_size,
                             "Rows of the embedding; ids from here on name soft rows.")
      .def_property_readonly("max_positions", &Model::max_positions)
      .def_property_readonly("stop_tokens",
                             [](const Model& self) {
                               const auto ids = self.stop_tokens();
                               return std::vector<TokenId>(ids.begin(), ids.end());
                             })
      .def_property_readonly(
          "defaults", &defaults_of,
          "What generation_config.json gives of temperature, top_p, top_k, min_p and "
          "repetition_penalty.");
  share_on_copy(model);
  add_soft(module);
}

std::string chat_of(const py::iterable& chat) { return json_of(py::list(chat)); }

void add_text(py::module_& module) {
  py::class_<Tokenizer, std::shared_ptr<Tokenizer>> tokenizer(
      module, "Tokenizer", "Text to token ids and back, as the checkpoint's own files define it.");
  const auto options_of = [](bool add_generation_prompt, const py::object& variables,
                             const py::object& tools, const std::string& name) {
    return pensive::ChatOptions{add_generation_prompt, json_of(variables), json_of(tools), name};
  };
  tokenizer
      .def_static(
          "load", [](const std::filesystem::path& path) { return unlocked(Tokenizer::load(path)); },
          py::arg("path"))
      .def(
          "encode",
          [](const Tokenizer& self, const std::string& text, bool add_special, bool parse_special) {
            return self.encode(
                text, {add_special ? pensive::AddSpecial::yes : pensive::AddSpecial::no,
                       parse_special ? pensive::ParseSpecial::yes : pensive::ParseSpecial::no});
          },
          py::arg("text"), py::kw_only(), py::arg("add_special") = true,
          py::arg("parse_special") = true,
          "parse_special=False spells special tokens out: for text that comes from users.")
      .def(
          "encode_chat",
          [options_of](const Tokenizer& self, const py::iterable& chat, bool add_generation_prompt,
                       const py::object& variables, const py::object& tools,
                       const std::string& name) {
            return self.encode_chat_json(chat_of(chat),
                                         options_of(add_generation_prompt, variables, tools, name));
          },
          py::arg("chat"), py::kw_only(), py::arg("add_generation_prompt") = true,
          py::arg("variables") = py::none(), py::arg("tools") = py::none(),
          py::arg("template") = "",
          "Renders [{'role': ..., 'content': ...}, ...] with the chat template and encodes it. "
          "Messages may hold any keys; `tools` is a list of dicts in OpenAI's form.")
      .def(
          "render_chat",
          [options_of](const Tokenizer& self, const py::iterable& chat, bool add_generation_prompt,
                       const py::object& variables, const py::object& tools,
                       const std::string& name) {
            return self.render_chat_json(chat_of(chat),
                                         options_of(add_generation_prompt, variables, tools, name));
          },
          py::arg("chat"), py::kw_only(), py::arg("add_generation_prompt") = true,
          py::arg("variables") = py::none(), py::arg("tools") = py::none(),
          py::arg("template") = "", "The text that encode_chat encodes.")
      .def(
          "decode",
          [](const Tokenizer& self, const std::vector<TokenId>& ids, bool keep_special) {
            return text_of(self.decode(ids, keep_special));
          },
          py::arg("ids"), py::kw_only(), py::arg("keep_special") = false)
      .def("find", &Tokenizer::find, py::arg("token"), "The id of a token spelled so, or None.")
      .def("spelling", &Tokenizer::spelling, py::arg("id"))
      .def("is_special", &Tokenizer::is_special, py::arg("id"))
      .def("__len__", &Tokenizer::size)
      .def_property_readonly("bos", &Tokenizer::bos)
      .def_property_readonly("eos", &Tokenizer::eos)
      .def_property_readonly("has_chat_template", &Tokenizer::has_chat_template)
      .def_property_readonly("chat_templates", &Tokenizer::chat_templates,
                             "The names of all templates.")
      .def(
          "with_names",
          [](const Tokenizer& self, const std::map<TokenId, std::string>& names) {
            const std::vector<std::pair<TokenId, std::string>> pairs(names.begin(), names.end());
            return unlocked(self.with_names(pairs));
          },
          py::arg("names"), "The same tokenizer that also prints these ids, a dict of names.");
  share_on_copy(tokenizer);
}

}  // namespace bind
