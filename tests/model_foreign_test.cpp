// Files and folders of other kinds: recognised, and refused with what would work instead.
#include "model_helpers.h"

namespace pensive {
namespace {

using namespace pensive::testing;
using ::testing::HasSubstr;

constexpr ErrorCode unsupported = ErrorCode::unsupported;

std::string refused(ErrorCode code, const fs::path& path) {
  return error_of(code, [&] { Model::load(path, {.device = {DeviceKind::cpu}}); });
}

TEST(Foreign, FoldersSayWhatWouldWork) {
  struct Kind {
    const char* file;
    ErrorCode code;
    const char* says;
  };
  for (const Kind& kind :
       {Kind{"readme.md", ErrorCode::not_found, "no model.safetensors"},
        Kind{"model.Q4_K_M.gguf", unsupported, "gguf_file"},
        Kind{"pytorch_model.bin", unsupported, "save_pretrained"},
        Kind{"pytorch_model-00001-of-00002.bin", unsupported, "save_pretrained"},
        Kind{"pytorch_model.bin.index.json", unsupported, "save_pretrained"},
        Kind{"adapter_config.json", unsupported, "merge_and_unload"},
        Kind{"adapter_model.safetensors", unsupported, "merge_and_unload"},
        Kind{"consolidated.00.pth", unsupported, "convert_llama_weights_to_hf"},
        Kind{"consolidated.safetensors", unsupported, "Mistral's own"},
        Kind{"model-00001-of-00002.safetensors", unsupported, "index.json"},
        Kind{"tf_model.h5", unsupported, "from_tf"},
        Kind{"flax_model.msgpack", unsupported, "from_flax"},
        Kind{"model.onnx", unsupported, "ONNX"}, Kind{"snapshots", unsupported, "cache"}}) {
    const Scratch folder;
    folder.write(kind.file, "x");
    EXPECT_THAT(refused(kind.code, folder.path()), HasSubstr(kind.says)) << kind.file;
  }
}

TEST(Foreign, MarksOfAdaptersAndQuantisersCountBesideGoodFiles) {
  for (const char* name : {"adapter_config.json", "quantize_config.json", "quant_config.json",
                           "hf_quant_config.json"}) {
    const Scratch folder("plain");
    folder.write(name, "{}");
    refused(unsupported, folder.path());
  }
  const Scratch folder("plain");
  folder.write("model.Q4_K_M.gguf", "x");
  folder.write("pytorch_model.bin", "x");
  EXPECT_NO_THROW(Model::load(folder.path(), {.device = {DeviceKind::cpu}}));
}

TEST(Foreign, PathsThatAreNoFolder) {
  const Scratch folder("plain");
  const fs::path gguf = folder.write("model.gguf", "GGUF");
  EXPECT_THAT(refused(unsupported, gguf), HasSubstr("gguf_file"));
  EXPECT_THAT(refused(ErrorCode::invalid_argument, folder.path() / "model.safetensors"),
              HasSubstr("give its folder"));
  refused(ErrorCode::not_found, folder.path() / "nowhere");
}

TEST(Foreign, QuantisedWeightsAreNamedByMethod) {
  for (const auto& [config, says] : std::vector<std::pair<Json, std::string>>{
           {{{"quant_method", "gptq"}, {"bits", 4}}, "\"gptq\""},
           {{{"quant_method", "awq"}, {"bits", 4}}, "\"awq\""},
           {{{"load_in_4bit", true}}, "\"bitsandbytes\""},
           {{{"quant_method", "bitsandbytes"}}, "dequantize()"},
           {{{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}}, "dequantize()"},
           {{{"quant_method", "compressed-tensors"}, {"format", "pack-quantized"}},
            "compressed-tensors"},
           {{{"bits", 4}}, "bits"},
           {"nonsense", "nonsense"}}) {
    for (const char* key : {"quantization_config", "compression_config", "quantization"}) {
      const Scratch folder("plain");
      folder.patch("config.json", {{key, config}});
      const std::string message = refused(unsupported, folder.path());
      EXPECT_THAT(message, HasSubstr(says)) << config;
      EXPECT_THAT(message, HasSubstr(key));
      EXPECT_THAT(message, HasSubstr("the checkpoint it was made from"));
    }
  }
}

TEST(Foreign, PackedTensorsAndPointersToFilesAreNamed) {
  const Scratch folder("plain");
  folder.write("model.safetensors", file_of(R"({"model.layers.0.self_attn.q_proj.qweight":
      {"dtype":"I32","shape":[1],"data_offsets":[0,4]}})",
                                            std::string(4, '\0')));
  const std::string message = refused(unsupported, folder.path());
  EXPECT_THAT(message, HasSubstr("qweight"));
  EXPECT_THAT(message, HasSubstr("quantised"));
  folder.write("model.safetensors",
               "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 99\n");
  EXPECT_THAT(refused(ErrorCode::corrupt_file, folder.path()), HasSubstr("git lfs pull"));
}

}  // namespace
}  // namespace pensive
