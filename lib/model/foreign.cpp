#include <array>

#include "base/inside.h"
#include "model/checkpoint.h"

namespace pensive {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view wanted = "a Hugging Face folder with config.json and model.safetensors";

// What marks a folder of another kind, and what would work instead.
struct Mark {
  std::string_view begin, end;  // of a file's name
  std::string_view found;
};

// Whatever else lies beside them.
constexpr Mark refused_marks[] = {
    {"adapter_config.json", "",
     "an adapter: merge it into its model first, as peft's merge_and_unload() does"},
    {"adapter_model.", "",
     "an adapter: merge it into its model first, as peft's merge_and_unload() does"},
    {"quantize_config.json", "", "GPTQ weights: take the checkpoint that they were made from"},
    {"quant_config.json", "", "AWQ weights: take the checkpoint that they were made from"},
    {"hf_quant_config.json", "",
     "weights that ModelOpt quantised: take the checkpoint that they were made from"},
};

// Where no safetensors lie beside them; the first that is there is named.
constexpr Mark other_marks[] = {
    {"", ".gguf",
     "GGUF files only: load one with Transformers' from_pretrained(…, gguf_file=…) and "
     "save_pretrained() it"},
    {"pytorch_model", ".bin",
     "pytorch_model.bin only: load it with Transformers and save_pretrained() it"},
    {"pytorch_model.bin.index.json", "",
     "pytorch_model.bin only: load it with Transformers and save_pretrained() it"},
    {"consolidated.", ".pth",
     "Meta's own format: Transformers' convert_llama_weights_to_hf.py turns it into this one"},
    {"consolidated", ".safetensors",
     "Mistral's own format: the same repository also has model-….safetensors with an index"},
    {"model-", ".safetensors",
     "shards without model.safetensors.index.json: fetch that file from the same place"},
    {"tf_model", ".h5",
     "TensorFlow's weights: load them with from_tf=True, save_pretrained() them"},
    {"flax_model", ".msgpack",
     "Flax's weights: load them with from_flax=True and save_pretrained() them"},
    {"", ".onnx", "ONNX files only: take the checkpoint that they were made from"},
    {"snapshots", "", "a folder of the Hugging Face cache: give one of those in its snapshots/"},
};

bool has(const fs::path& directory, std::string_view name) {
  std::error_code error;
  return fs::exists(directory / name, error);
}

// Whether any file's name begins and ends so; without an end the name is the whole.
bool has_mark(const fs::path& directory, const Mark& mark) {
  if (mark.end.empty() && !mark.begin.ends_with('.')) return has(directory, mark.begin);
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(mark.begin) && name.ends_with(mark.end)) return true;
  }
  return false;
}

[[noreturn]] void fail_for_file(const fs::path& file) {
  const bool is_gguf = file.extension() == ".gguf";
  fail(is_gguf ? ErrorCode::unsupported : ErrorCode::invalid_argument, wanted,
       is_gguf ? "a GGUF file: load it with Transformers' from_pretrained(…, gguf_file=…) and "
                 "save_pretrained() it"
               : "a file: give its folder",
       file.string());
}

}  // namespace

void check_directory(const fs::path& directory) {
  const std::string where = directory.string();
  std::error_code error;
  const fs::file_status status = fs::status(directory, error);
  require(fs::exists(status), ErrorCode::not_found, wanted, "none", where);
  if (!fs::is_directory(status)) fail_for_file(directory);
  for (const Mark& mark : refused_marks)
    require(!has_mark(directory, mark), ErrorCode::unsupported, wanted, mark.found, where);
  if (has(directory, "model.safetensors") || has(directory, "model.safetensors.index.json")) {
    require(has(directory, "config.json"), ErrorCode::not_found, "config.json", "none", where);
    require(has(directory, "tokenizer.json"), ErrorCode::not_found, "tokenizer.json",
            has(directory, "tokenizer.model")
                ? "tokenizer.model only: AutoTokenizer.from_pretrained(…).save_pretrained() writes "
                  "tokenizer.json"
                : "none",
            where);
    return;
  }
  for (const Mark& mark : other_marks)
    require(!has_mark(directory, mark), ErrorCode::unsupported, wanted, mark.found, where);
  fail(ErrorCode::not_found, wanted, "no model.safetensors", where);
}

}  // namespace pensive
