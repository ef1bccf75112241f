#include <algorithm>
#include <cstdint>
#include <utility>

#include "model/safetensors.h"
#include "model/soft_parts.h"

namespace pensive {
namespace {

using Json = nlohmann::ordered_json;
using Metadata = std::map<std::string, std::string>;

constexpr std::string_view format = "pensive-soft-vocab";
constexpr std::string_view format_version = "1";
constexpr const char* tensor_name = "rows";

std::string hex(std::uint64_t number) { return fmt::format("{:016x}", number); }

std::uint64_t hash_rows(const at::Tensor& master) {
  return hash_bytes({static_cast<const std::byte*>(master.const_data_ptr()), master.nbytes()});
}

const std::string& entry(const Metadata& metadata, const char* key, const std::string& where) {
  const auto found = metadata.find(key);
  require(found != metadata.end(), ErrorCode::corrupt_file, fmt::format("{} in the metadata", key),
          "none", where);
  return found->second;
}

// "llama (fingerprint 0123456789abcdef, width 576)"
std::string model_text(std::string_view family, std::string_view fingerprint,
                       std::string_view width) {
  return fmt::format("{} (fingerprint {}, width {})", family, fingerprint, width);
}

// Empty for the same model, else the other one; throws where that does not fit.
std::string other_model(const Model& model, const Metadata& metadata, OtherModel other,
                        const std::string& where) {
  require(entry(metadata, "format", where) == format, ErrorCode::corrupt_file,
          fmt::format("format {}", format), in_quotes(entry(metadata, "format", where)), where);
  require(entry(metadata, "format_version", where) == format_version, ErrorCode::unsupported,
          fmt::format("format_version {}", format_version),
          in_quotes(entry(metadata, "format_version", where)), where);
  const ModelInfo& info = model.info();
  const std::string here =
      model_text(info.family, hex(info.fingerprint), std::to_string(info.width));
  const std::string there =
      model_text(to_utf8(entry(metadata, "family", where)), entry(metadata, "fingerprint", where),
                 entry(metadata, "width", where));
  const bool fits = entry(metadata, "width", where) == std::to_string(info.width);
  require(here == there || (other == OtherModel::allow && fits), ErrorCode::invalid_argument,
          "rows made for the model " + here, "rows made for " + there, where);
  const auto earlier = metadata.find("carried_from");
  if (earlier != metadata.end()) return to_utf8(earlier->second);
  return here == there ? "" : there;
}

// Files of before this was kept have none. `limit`: above every id.
std::vector<std::vector<TokenId>> read_starts(const Metadata& metadata, std::size_t rows,
                                              std::uint64_t limit, const std::string& where) {
  const auto found = metadata.find("starts");
  if (found == metadata.end()) return std::vector<std::vector<TokenId>>(rows);
  const Json json = parse_json(found->second, where + ", starts");
  const auto is_ids = [](const Json& ids) {
    return ids.is_array() && std::all_of(ids.begin(), ids.end(),
                                         [](const Json& id) { return id.is_number_integer(); });
  };
  require(json.is_array() && json.size() == rows && std::all_of(json.begin(), json.end(), is_ids),
          ErrorCode::corrupt_file, fmt::format("starts: {} lists of ids", rows), "something else",
          where);
  for (const Json& ids : json)
    for (const Json& id : ids)
      require(id.is_number_unsigned() && id.get<std::uint64_t>() < limit, ErrorCode::corrupt_file,
              fmt::format("starts: ids from 0 and below {}", limit), id.dump(), where);
  return json.get<std::vector<std::vector<TokenId>>>();
}

std::vector<std::string> read_names(const Metadata& metadata, const std::string& where) {
  const Json json = parse_json(entry(metadata, "names", where), where + ", names");
  require(json.is_array(), ErrorCode::corrupt_file, "names as a list", json.type_name(), where);
  std::vector<std::string> names;
  for (const Json& name : json) {
    require(name.is_string() && name != "", ErrorCode::corrupt_file, "a name that is a text",
            name.is_string() ? "an empty one" : name.type_name(), where);
    const auto text = name.get<std::string>();
    require(std::find(names.begin(), names.end(), text) == names.end(), ErrorCode::corrupt_file,
            "each name once", "two " + in_quotes(text), where);
    names.push_back(text);
  }
  return names;
}

}  // namespace

void SoftVocab::save(const std::filesystem::path& file, std::string_view training_json) const {
  const std::string training(training_json.empty() ? "{}" : training_json);
  std::string trouble;
  try {
    if (!parse_json(training, "training_json").is_object()) trouble = "another type";
  } catch (const Error& error) {
    trouble = error.what();
  }
  require(trouble.empty(), ErrorCode::invalid_argument, "training_json as a JSON object", trouble,
          "SoftVocab::save");
  const ModelInfo& info = parts_->model->info();
  Json names = Json::array(), starts = Json::array();
  std::shared_ptr<const Rows> rows;
  {
    const std::lock_guard lock(parts_->mutex);
    for (const std::string& name : parts_->names) names.push_back(name);
    for (const auto& start : parts_->starts) starts.push_back(start);
    rows = parts_->rows;
  }
  Metadata metadata = {{"format", std::string(format)},
                       {"format_version", std::string(format_version)},
                       {"family", info.family},
                       {"fingerprint", hex(info.fingerprint)},
                       {"width", std::to_string(info.width)},
                       {"rows_hash", hex(hash_rows(rows->master))},
                       {"names", names.dump()},
                       {"starts", starts.dump()},
                       {"training", training}};
  if (!parts_->carried_from.empty()) metadata["carried_from"] = parts_->carried_from;
  write_whole(file, to_safetensors(tensor_name, rows->master, metadata));
}

std::shared_ptr<SoftVocab> SoftVocab::load(std::shared_ptr<const Model> model,
                                           const std::filesystem::path& file, OtherModel other) {
  auto soft = std::make_shared<SoftVocab>(std::move(model));
  const std::string where = file.string();
  const TensorFile content(file);
  const Metadata& metadata = content.metadata();
  soft->parts_->carried_from = other_model(*soft->model(), metadata, other, where);
  std::vector<std::string> names = read_names(metadata, where);
  const auto found = content.tensors().find(tensor_name);
  require(found != content.tensors().end() && content.tensors().size() == 1,
          ErrorCode::corrupt_file, fmt::format("one tensor, {}", tensor_name),
          fmt::format("{}", content.tensors().size()), where);
  const StoredTensor& tensor = found->second;
  const std::vector<std::int64_t> shape = {static_cast<std::int64_t>(names.size()),
                                           soft->model()->info().width};
  require(tensor.shape == shape && tensor.scalar == at::kFloat, ErrorCode::corrupt_file,
          fmt::format("Float [{}]", fmt::join(shape, ", ")), describe(tensor), where);
  require(scan(tensor).is_finite, ErrorCode::corrupt_file, "finite rows",
          "an infinite number or a NaN", where);
  const PlainTensors plain;
  at::Tensor master = at::empty(shape, at::kFloat);
  copy_values(tensor, tensor_name, master);
  require(hex(hash_rows(master)) == entry(metadata, "rows_hash", where), ErrorCode::corrupt_file,
          "rows whose hash is " + in_quotes(entry(metadata, "rows_hash", where)),
          hex(hash_rows(master)), where);
  soft->parts_->rows = snapshot(*soft->parts_->model, master);
  // Of rows that were carried here the ids are those of another model.
  constexpr std::uint64_t any_id = std::uint64_t{1} << 31;
  const auto own_ids = static_cast<std::uint64_t>(soft->model()->vocab_size());
  soft->parts_->starts = read_starts(metadata, names.size(),
                                     soft->parts_->carried_from.empty() ? own_ids : any_id, where);
  soft->parts_->names = std::move(names);
  return soft;
}

}  // namespace pensive
