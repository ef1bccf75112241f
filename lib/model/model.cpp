#include "pensive/model.h"

#include <new>
#include <utility>

#include "base/inside.h"
#include "kernels/kernels.h"
#include "model/checkpoint.h"
#include "model/parts.h"

namespace pensive {
namespace {

namespace fs = std::filesystem;

ModelInfo describe(const Config& config, const Weights& weights, Precision precision,
                   Device device) {
  ModelInfo info;
  info.family = config.family;
  info.layers = config.layers;
  info.width = config.width;
  info.heads = config.heads;
  info.kv_heads = config.kv_heads;
  info.head_dim = config.head_dim;
  info.vocab_size = config.vocab_size;
  info.max_positions = config.max_positions;
  info.is_tied = config.is_tied;
  info.parameters = weights.parameters;
  info.weight_bytes =
      weights.parameters * static_cast<std::int64_t>(c10::elementSize(to_scalar(precision)));
  info.precision = precision;
  info.device = device;
  info.fingerprint = weights.fingerprint;
  return info;
}

// Runs `work`, turning libtorch's exceptions into ours.
template <class Work>
auto translated(const fs::path& directory, Work work) {
  const std::string where = directory.string();
  try {
    return work();
  } catch (const c10::OutOfMemoryError& error) {
    fail(ErrorCode::out_of_memory, "room for the weights", error.what_without_backtrace(), where);
  } catch (const std::bad_alloc&) {
    fail(ErrorCode::out_of_memory, "room for the weights", "too little memory", where);
  } catch (const c10::Error& error) {
    // libtorch's CPU allocator has no type of its own.
    const std::string_view what = error.what_without_backtrace();
    const bool is_memory = what.find("allocate memory") != std::string_view::npos;
    fail(is_memory ? ErrorCode::out_of_memory : ErrorCode::device, "weights on the device", what,
         where);
  } catch (const fs::filesystem_error& error) {
    fail(ErrorCode::io, "a folder that can be read", error.what(), where);
  }
}

}  // namespace

void check_runs_on(const Device& device, const Config& config, const fs::path& directory) {
  require(device.kind != DeviceKind::cuda || config.head_dim <= kernels::most_cuda_head_dim,
          ErrorCode::unsupported,
          fmt::format("a head_dim of at most {} on CUDA", kernels::most_cuda_head_dim),
          std::to_string(config.head_dim), (directory / "config.json").string());
}

std::string_view to_string(Precision precision) {
  switch (precision) {
    case Precision::as_stored:
      return "as_stored";
    case Precision::float32:
      return "float32";
    case Precision::bfloat16:
      return "bfloat16";
    case Precision::float64:
      return "float64";
    case Precision::float16:
      return "float16";
  }
  return "unknown";
}

Model::Model() : parts_(std::make_unique<Parts>()) {}
Model::~Model() {
  if (parts_ && !kernels::can_free(parts_->device)) static_cast<void>(parts_->decoder.release());
}

std::shared_ptr<const Model> Model::load(const fs::path& directory, const ModelOptions& options) {
  return translated(directory, [&]() -> std::shared_ptr<const Model> {
    check_directory(directory);
    const Config config = read_config(directory, options.unknown_keys, options.log);
    const Device device = kernels::resolve(options.device);
    check_runs_on(device, config, directory);
    const Precision precision = settle(options.precision, config);
    kernels::require_dtype(device, to_scalar(precision));
    std::shared_ptr<Model> model(new Model());
    Parts& parts = *model->parts_;
    parts.tokenizer = Tokenizer::load(directory);
    if (options.log && parts.tokenizer->size() > config.vocab_size) {
      options.log(LogLevel::warning,
                  fmt::format("{}: the tokenizer has {} ids, the embedding only {} rows",
                              directory.string(), parts.tokenizer->size(), config.vocab_size));
    }
    Weights weights = read_weights(directory, config, precision, device);
    parts.info = describe(config, weights, precision, device);
    parts.info.folder = directory;
    parts.device = kernels::to_torch(device);
    parts.scalar = to_scalar(precision);
    parts.decoder = std::make_unique<const Decoder>(config, std::move(weights));
    return model;
  });
}

const ModelInfo& Model::info() const noexcept { return parts_->info; }
std::shared_ptr<const Tokenizer> Model::tokenizer() const { return parts_->tokenizer; }
std::span<const TokenId> Model::stop_tokens() const noexcept {
  return parts_->decoder->config().stop_tokens;
}
const GenerationDefaults& Model::defaults() const noexcept {
  return parts_->decoder->config().defaults;
}

}  // namespace pensive
