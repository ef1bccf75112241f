// A checkpoint with one soft row as a token of its own.
#include <ATen/ATen.h>

#include <cstring>
#include <fstream>
#include <random>

#include "model/checkpoint.h"
#include "model/parts.h"
#include "model/safetensors.h"

namespace pensive {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* embedding_name = "model.embed_tokens.weight";
constexpr const char* head_name = "lm_head.weight";

// What a tensor of the copy is made of: bytes of the mapped checkpoint, and a row put into them.
struct Piece {
  StoredTensor tensor;           // in its new shape, with the old bytes
  std::vector<std::byte> row{};  // empty: the bytes are all
  std::size_t row_at = 0;        // where it goes; behind the bytes where they end there

  std::size_t size() const {
    return std::max(tensor.bytes.size(), row.empty() ? 0 : row_at + row.size());
  }
};

std::string_view dtype_name(at::ScalarType scalar) {
  switch (scalar) {
    case at::kBFloat16:
      return "BF16";
    case at::kHalf:
      return "F16";
    case at::kDouble:
      return "F64";
    default:
      return "F32";
  }
}

std::vector<std::byte> rounded(const std::vector<float>& row, at::ScalarType scalar) {
  const PlainTensors plain;
  const at::Tensor values = at::tensor(row).to(scalar);
  require(at::isfinite(values).all().item<bool>(), ErrorCode::invalid_argument,
          fmt::format("a row that {} can hold", dtype_name(scalar)), "a larger number",
          "export_token");
  std::vector<std::byte> bytes(values.nbytes());
  std::memcpy(bytes.data(), values.const_data_ptr(), bytes.size());
  return bytes;
}

// Row `id` of a matrix replaced, or appended where it is the next.
Piece with_row(const StoredTensor& tensor, TokenId id, std::vector<std::byte> row) {
  Piece piece{tensor, std::move(row)};
  piece.row_at = static_cast<std::size_t>(id) * piece.row.size();
  piece.tensor.shape[0] = std::max<std::int64_t>(tensor.shape[0], id + 1);
  return piece;
}

std::map<std::string, Piece> make_pieces(const StoredTensors& tensors, TokenId id,
                                         const std::vector<float>& row) {
  std::map<std::string, Piece> pieces;
  for (const auto& [name, tensor] : tensors) pieces[name] = {tensor};
  const StoredTensor& embedding = tensors.at(embedding_name);
  const StoredTensor& head = tensors.contains(head_name) ? tensors.at(head_name) : embedding;
  pieces[embedding_name] = with_row(embedding, id, rounded(row, embedding.scalar));
  pieces[head_name] =
      with_row(head, id, std::vector<std::byte>(row.size() * c10::elementSize(head.scalar)));
  return pieces;
}

void write(std::ofstream& out, std::span<const std::byte> bytes) {
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
}

std::int64_t write_weights(const fs::path& file, const std::map<std::string, Piece>& pieces) {
  Json header = Json::object();
  header["__metadata__"] = {{"format", "pt"}};
  std::size_t offset = 0;
  for (const auto& [name, piece] : pieces) {
    header[name] = {{"dtype", dtype_name(piece.tensor.scalar)},
                    {"shape", piece.tensor.shape},
                    {"data_offsets", Json::array({offset, offset + piece.size()})}};
    offset += piece.size();
  }
  std::ofstream out(file, std::ios::binary);
  out << safetensors_head(header);
  for (const auto& [name, piece] : pieces) {
    const auto bytes = piece.tensor.bytes;
    if (piece.row.empty()) {
      write(out, bytes);
      continue;
    }
    write(out, bytes.first(std::min(bytes.size(), piece.row_at)));
    write(out, piece.row);
    const std::size_t behind = piece.row_at + piece.row.size();
    if (behind < bytes.size()) write(out, bytes.subspan(behind));
  }
  out.close();
  require(out.good(), ErrorCode::io, "room for the weights", "a failure", file.string());
  return static_cast<std::int64_t>(offset);
}

Json read_json(const fs::path& file) { return parse_json(read_text(file), file.string()); }

void write_json(const fs::path& file, const Json& json) { write_whole(file, json.dump(2) + "\n"); }

// The copy's config.json says what the checkpoint's said, but for the head and the rows.
void write_configs(const fs::path& from, const fs::path& to, TokenId id, std::int64_t vocab_size) {
  Json config = read_json(from / "config.json");
  config["tie_word_embeddings"] = false;
  config["vocab_size"] = vocab_size;
  write_json(to / "config.json", config);

  const fs::path generation_file = from / "generation_config.json";
  Json generation = Json::object();
  if (fs::exists(generation_file)) {
    generation = read_json(generation_file);
  } else {  // which Transformers would have taken from config.json
    for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"})
      if (config.contains(key)) generation[key] = config[key];
  }
  Json& suppressed = generation["suppress_tokens"];
  if (!suppressed.is_array()) suppressed = Json::array();
  suppressed.push_back(id);
  write_json(to / "generation_config.json", generation);
}

void write_token(const fs::path& from, const fs::path& to, TokenId id, const std::string& token) {
  const Json entry = {{"content", token}, {"single_word", false}, {"lstrip", false},
                      {"rstrip", false},  {"normalized", false},  {"special", true}};
  Json tokenizer = read_json(from / "tokenizer.json");
  Json added = {{"id", id}};
  added.update(entry);
  if (!tokenizer.contains("added_tokens") || !tokenizer["added_tokens"].is_array())
    tokenizer["added_tokens"] = Json::array();
  tokenizer["added_tokens"].push_back(added);
  write_json(to / "tokenizer.json", tokenizer);

  const fs::path config_file = from / "tokenizer_config.json";
  if (!fs::exists(config_file)) return;
  Json config = read_json(config_file);
  if (config.contains("added_tokens_decoder") && config["added_tokens_decoder"].is_object())
    config["added_tokens_decoder"][std::to_string(id)] = entry;
  write_json(to / "tokenizer_config.json", config);
}

// The tokenizers library gives an added token the id that it finds next, whatever the file says: it
// is asked, and the file then says the same.
TokenId write_tokenizer(const fs::path& from, const fs::path& to, const std::string& token) {
  write_token(from, to, Tokenizer::load(from)->size(), token);
  const std::optional<TokenId> id = Tokenizer::load(to)->find(token);
  require(id.has_value(), ErrorCode::internal, "the token that was added", "none", to.string());
  write_token(from, to, *id, token);
  return *id;
}

// Weights in whatever form, and what is written anew.
bool is_replaced(const fs::path& file) {
  const std::string name = file.filename().string(), kind = file.extension().string();
  for (const char* known : {"config.json", "generation_config.json", "tokenizer.json",
                            "tokenizer_config.json", "model.safetensors.index.json"})
    if (name == known) return true;
  return kind == ".safetensors" || kind == ".bin" || kind == ".pt" || kind == ".pth" ||
         kind == ".gguf";
}

void copy_others(const fs::path& from, const fs::path& to) {
  for (const fs::directory_entry& entry : fs::directory_iterator(from))
    if (entry.is_regular_file() && !is_replaced(entry.path()))
      fs::copy_file(fs::canonical(entry.path()), to / entry.path().filename());
}

// A new folder under a name nobody else has, gone again unless it was finished.
class Aside {
 public:
  explicit Aside(const fs::path& to) : to_(to) {
    if (to.has_parent_path()) fs::create_directories(to.parent_path());
    std::random_device random;
    for (int attempt = 0; attempt < 8; ++attempt) {
      aside_ = to.parent_path() / fmt::format(".pensive-{:08x}{:08x}", random(), random());
      if (fs::create_directory(aside_)) return;
    }
    fail(ErrorCode::io, "a free name for a folder aside", "none", to.string());
  }
  ~Aside() {
    std::error_code ignored;
    fs::remove_all(aside_, ignored);
  }
  Aside(const Aside&) = delete;
  Aside& operator=(const Aside&) = delete;
  const fs::path& path() const noexcept { return aside_; }
  void finish() { fs::rename(aside_, to_); }

 private:
  fs::path to_, aside_;
};

// "copy/" and "copy/." are "copy", whose place the folder aside takes.
fs::path folder_named(fs::path given) {
  while (!given.empty() && given != given.root_path() &&
         (!given.has_filename() || given.filename() == "."))
    given = given.parent_path();
  return given;
}

}  // namespace

Exported export_token(const SoftVocab& soft, TokenId row, const fs::path& place,
                      const ExportOptions& options) {
  const fs::path to = folder_named(place);
  const Model& model = *soft.model();
  const std::vector<float> values = soft.row(row);  // refuses an id that is no soft row
  Exported result;
  result.token = options.token.empty() ? fmt::format("<|{}|>", soft.name(row)) : options.token;
  require(!model.tokenizer()->find(result.token), ErrorCode::invalid_argument,
          "a spelling that is no token yet", in_quotes(result.token), "ExportOptions::token");
  require(!to.empty() && !fs::exists(to), ErrorCode::invalid_argument,
          "a folder that does not exist yet", to.empty() ? "none" : "one that does",
          place.string());
  const fs::path from = model.info().folder;
  try {
    check_directory(from);
    const Checkpoint checkpoint(from);
    const StoredTensors& tensors = checkpoint.tensors();
    const auto embedding = tensors.find(embedding_name);
    const std::vector<std::int64_t> shape = {model.vocab_size(), model.info().width};
    require(embedding != tensors.end() && embedding->second.shape == shape, ErrorCode::corrupt_file,
            "the embedding that was loaded", "another", from.string());
    Aside aside(to);
    result.id = write_tokenizer(from, aside.path(), result.token);
    require(result.id <= model.vocab_size(), ErrorCode::unsupported,
            fmt::format("a tokenizer of at most {} ids", model.vocab_size()),
            std::to_string(result.id), from.string());
    const std::map<std::string, Piece> pieces = make_pieces(tensors, result.id, values);
    result.weight_bytes = write_weights(aside.path() / "model.safetensors", pieces);
    result.added_bytes = result.weight_bytes;
    for (const auto& [name, tensor] : tensors)
      result.added_bytes -= static_cast<std::int64_t>(tensor.bytes.size());
    write_configs(from, aside.path(), result.id, pieces.at(embedding_name).tensor.shape[0]);
    copy_others(from, aside.path());
    aside.finish();
  } catch (const fs::filesystem_error& error) {
    fail(ErrorCode::io, "a folder that can be written", error.what(), to.string());
  }
  return result;
}

}  // namespace pensive
