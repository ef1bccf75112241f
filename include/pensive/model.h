// model: a checkpoint, frozen; and embeddings it was not born with.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pensive/base.h"
#include "pensive/text.h"

namespace pensive {

// What the weights are held and multiplied in. Sums run in float32, also for the two brief ones.
// float64 is for tests.
enum class Precision : std::uint8_t { as_stored, float32, bfloat16, float64, float16 };
PENSIVE_EXPORT std::string_view to_string(Precision precision);

// What to do about a key of config.json that is not known. Keys that are known to change the result
// in ways that are not done (a sliding window, mixture of experts, …) are refused either way.
enum class UnknownKeys : std::uint8_t {
  refuse,
  warn  // the log gets a line; the result may differ from Transformers'
};

struct ModelOptions {
  Device device{};
  Precision precision = Precision::as_stored;
  UnknownKeys unknown_keys = UnknownKeys::refuse;
  LogSink log{};  // warnings about the checkpoint, such as keys that are safely ignored
};

// What a checkpoint is, for people and for programs that choose.
struct ModelInfo {
  std::string family;  // model_type of config.json
  int layers = 0;
  int width = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  TokenId vocab_size = 0;
  int max_positions = 0;
  bool is_tied = false;  // the head is the embedding
  std::int64_t parameters = 0;
  std::int64_t weight_bytes = 0;
  Precision precision = Precision::float32;
  Device device{};
  std::uint64_t fingerprint =
      0;  // of config and weights; path, sharding and file order do not count
  std::filesystem::path folder;  // that it was read from
};

// generation_config.json, as far as the checkpoint gives it.
struct GenerationDefaults {
  std::optional<float> temperature;  // 0, greedy, where do_sample is false
  std::optional<float> top_p;
  std::optional<int> top_k;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
};

// A checkpoint, loaded and frozen. Immutable; any number of threads and engines may share it.
class PENSIVE_EXPORT Model {
 public:
  // Reads config.json, generation_config.json, *.safetensors (one file, or sharded by
  // model.safetensors.index.json) and the tokenizer from a Hugging Face directory.
  // Every size and offset is checked before it is used, every key that is not understood is
  // refused. Throws not_found, corrupt_file, unsupported, out_of_memory, device or io.
  static std::shared_ptr<const Model> load(const std::filesystem::path& directory,
                                           const ModelOptions& options = {});
  ~Model();
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const ModelInfo& info() const noexcept;
  std::shared_ptr<const Tokenizer> tokenizer() const;
  // Rows of the embedding in the checkpoint; not the number of tokenizer entries.
  TokenId vocab_size() const noexcept { return info().vocab_size; }
  int max_positions() const noexcept { return info().max_positions; }
  // Tokens that end a turn: the union of config.json and generation_config.json.
  std::span<const TokenId> stop_tokens() const noexcept;
  const GenerationDefaults& defaults() const noexcept;

  struct Parts;  // private to the library
  const Parts& parts() const noexcept { return *parts_; }

 private:
  Model();
  std::unique_ptr<Parts> parts_;
};

// What to do with rows that were made for another model.
enum class OtherModel : std::uint8_t { refuse, allow };

// Embeddings the model was not born with. Row i answers to the id model.vocab_size() + i. Such an
// id can be fed and never be sampled: the model's head has no column for it.
//
// Rows are held in float32; engines and trainers read them rounded to the model's precision. A
// sequence keeps the rows it started with. One thread at a time may change a SoftVocab; any number
// may start sequences with it meanwhile.
class PENSIVE_EXPORT SoftVocab {
 public:
  explicit SoftVocab(std::shared_ptr<const Model> model);
  ~SoftVocab();
  SoftVocab(const SoftVocab&) = delete;
  SoftVocab& operator=(const SoftVocab&) = delete;

  // A new row, starting at the mean of the embeddings of these tokens. Throws invalid_argument for
  // no ids, ids out of range, or a name that is empty or taken.
  TokenId add(std::string_view name, std::span<const TokenId> start_at_mean_of);
  int size() const noexcept;
  std::optional<TokenId> find(std::string_view name) const;
  std::string name(TokenId id) const;
  // The model's tokenizer that also prints and finds the rows there are now by their names.
  std::shared_ptr<const Tokenizer> tokenizer() const;
  std::vector<float> row(TokenId id) const;  // [width]
  // Throws invalid_argument for another width or a value that is not finite.
  void set_row(TokenId id, std::span<const float> values);

  // A hash of the rows' bits. Pages of the cache behind a soft token match only under the version
  // that made them.
  std::uint64_t version() const noexcept;
  std::shared_ptr<const Model> model() const noexcept;

  // A safetensors file with the model's fingerprint, the names and `training_json` (a JSON object
  // for the reader's use; empty for none). Written aside and renamed: whole, or not there.
  void save(const std::filesystem::path& file, std::string_view training_json = {}) const;
  // Throws invalid_argument, naming both models, where the file was made for another model; `allow`
  // takes its rows all the same where the width is the same (from a base model to its finetune,
  // say).
  static std::shared_ptr<SoftVocab> load(std::shared_ptr<const Model> model,
                                         const std::filesystem::path& file,
                                         OtherModel other = OtherModel::refuse);
  // The model that the rows were made for, where load() allowed another; saved with them. Else "".
  std::string carried_from() const;
  // What a row started as the mean of; empty for rows of a file that does not say.
  std::vector<TokenId> start(TokenId id) const;

  struct Rows;  // private to the library: an immutable snapshot
  std::shared_ptr<const Rows> rows() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

struct ExportOptions {
  std::string token{};  // how the token is spelled in text; empty: <|NAME|>
};
struct Exported {
  TokenId id = 0;     // of the token, in the folder that was written
  std::string token;  // as it is spelled there
  std::int64_t weight_bytes = 0;
  std::int64_t added_bytes =
      0;  // of these what the checkpoint had not: a head that was tied, a row
};
// A copy of the checkpoint in which one soft row is a token of its own, for Transformers, vLLM and
// others that know nothing of soft rows. The row, rounded to the stored precision, becomes the
// embedding of the tokenizer's next free id; the head is untied where it was tied, and has zeros
// there, so that the token's logit is 0 whatever stands before. That is small, not impossible:
// generation_config.json gets the id into suppress_tokens, which Transformers heeds and vLLM does
// not (it can be given a logit bias of -100 with each request). Nothing else changes; the copy's
// weights are one file. Written aside and renamed: whole, or not there.
//
// Throws invalid_argument where `to` exists, the spelling is taken, or the id of a row is none;
// what Model::load throws where the model's folder is not what it was; io.
PENSIVE_EXPORT Exported export_token(const SoftVocab& soft, TokenId row,
                                     const std::filesystem::path& to,
                                     const ExportOptions& options = {});

}  // namespace pensive
