// Every tensor that the configuration implies, once, in its shape; and what the fingerprint hears.
#include <cstring>

#include "kernels/kernels.h"
#include "model_helpers.h"

namespace pensive {
namespace {

using namespace pensive::testing;
using ::testing::HasSubstr;

constexpr ErrorCode corrupt = ErrorCode::corrupt_file;
const std::string up = "model.layers.1.mlp.up_proj.weight";

LooseTensors tensors_of(const fs::path& folder) { return loose(Checkpoint(folder).tensors()); }

// Loads `model` after `change` was made to its tensors.
template <class Change>
Weights load_changed(const std::string& model, Change change) {
  const Scratch folder(model);
  LooseTensors tensors = tensors_of(folder.path());
  change(tensors);
  folder.write("model.safetensors", file_of(tensors));
  return weights_of(folder.path());
}
template <class Change>
std::string error_after(const std::string& model, Change change) {
  return error_of(corrupt, [&] { load_changed(model, change); });
}
const auto unchanged = [](LooseTensors&) {};

TEST(Weights, MissingTensorIsNamed) {
  EXPECT_THAT(error_after("plain", [](LooseTensors& t) { t.erase(up); }), HasSubstr(up));
  EXPECT_THAT(error_after("plain", [](LooseTensors& t) { t.erase("lm_head.weight"); }),
              HasSubstr("lm_head.weight"));
}

TEST(Weights, UnexpectedTensorIsNamed) {
  const auto add = [](const std::string& name) {
    return [name](LooseTensors& t) { t[name] = t[up]; };
  };
  for (const std::string name : {"model.layers.2.mlp.up_proj.weight", "extra.weight",
                                 "model.layers.0.self_attn.q_proj.bias"})
    EXPECT_THAT(error_after("plain", add(name)), HasSubstr(name));
}

TEST(Weights, WrongShapeIsNamedWithBothShapes) {
  const std::string message = error_after("plain", [](LooseTensors& t) { t[up].shape = {32, 48}; });
  EXPECT_THAT(message, HasSubstr(up));
  EXPECT_THAT(message, HasSubstr("[48, 32]"));
  EXPECT_THAT(message, HasSubstr("[32, 48]"));
}

TEST(Weights, NotANumberIsFoundInEveryPrecision) {
  struct Case {
    const char* model;
    std::vector<unsigned char> bits;  // little-endian, of the last value
  };
  for (const Case& c : {Case{"plain", {0, 0, 0xc0, 0x7f}}, Case{"plain", {0, 0, 0x80, 0xff}},
                        Case{"linear", {0xc0, 0x7f}}, Case{"half", {0x00, 0x7c}}}) {
    const std::string message = error_after(c.model, [&](LooseTensors& t) {
      std::string& bytes = t[up].bytes;
      std::memcpy(bytes.data() + bytes.size() - c.bits.size(), c.bits.data(), c.bits.size());
    });
    EXPECT_THAT(message, HasSubstr(up));
  }
}

TEST(Weights, BiasesAndNormsAreNeededOnceAndInShape) {
  const std::string first = "model.layers.0.self_attn.";
  for (const auto& [model, name] : std::vector<std::pair<std::string, std::string>>{
           {"qwen2_default", first + "q_proj.bias"},
           {"qwen2_default", first + "v_proj.bias"},
           {"qwen3_default", first + "q_norm.weight"},
           {"qwen3_default", first + "k_norm.weight"},
           {"qwen3_linear", first + "o_proj.bias"},
           {"llama_biased", "model.layers.1.mlp.up_proj.bias"},
           {"llama_biased", "model.layers.1.mlp.down_proj.bias"}}) {
    EXPECT_THAT(error_after(model, [&](LooseTensors& t) { t.erase(name); }), HasSubstr(name));
    const std::string longer = error_after(model, [&](LooseTensors& t) {
      t[name].shape[0] += 1;
      t[name].bytes += std::string(2, '\0');
    });
    EXPECT_THAT(longer, HasSubstr(name));
    const std::string bits = model == "llama_biased" ? std::string("\x00\x7e", 2) : "\xc0\x7f";
    const std::string broken =
        error_after(model, [&](LooseTensors& t) { t[name].bytes.replace(0, 2, bits); });
    EXPECT_THAT(broken, HasSubstr(name));
    EXPECT_THAT(broken, HasSubstr("NaN"));
  }
  for (const auto& [model, name] : std::vector<std::pair<std::string, std::string>>{
           {"qwen2_default", first + "o_proj.bias"},
           {"qwen2_default", first + "q_norm.weight"},
           {"qwen3_default", first + "k_proj.bias"},
           {"mistral_default", first + "q_proj.bias"}}) {
    EXPECT_THAT(error_after(model,
                            [&](LooseTensors& t) {
                              t[name] = {"BF16", {48}, std::string(96, 0)};
                            }),
                HasSubstr(name));
  }
}

TEST(Weights, AValueTooLargeForFloat16IsNamed) {
  const Scratch folder("linear");
  LooseTensors tensors = tensors_of(folder.path());
  tensors[up].bytes.replace(0, 2, "\xc4\x47");  // 100352
  folder.write("model.safetensors", file_of(tensors));
  EXPECT_NO_THROW(weights_of(folder.path(), Precision::float32));
  const std::string message =
      error_of(corrupt, [&] { weights_of(folder.path(), Precision::float16); });
  EXPECT_THAT(message, HasSubstr(up));
  EXPECT_THAT(message, HasSubstr("Half"));
}

TEST(Weights, OldRotaryTablesAreIgnored) {
  const Weights weights = load_changed("plain", [](LooseTensors& t) {
    t["model.layers.0.self_attn.rotary_emb.inv_freq"] = {"F32", {4}, std::string(16, '\1')};
  });
  EXPECT_EQ(weights.fingerprint, weights_of(model_folder("plain")).fingerprint);
}

TEST(Weights, ATiedHeadMayBeThereAsAnEqualCopyOnly) {
  const std::string embedding = "model.embed_tokens.weight";
  const Weights weights =
      load_changed("tied_llama3", [&](LooseTensors& t) { t["lm_head.weight"] = t[embedding]; });
  EXPECT_TRUE(weights.head.is_same(weights.embedding));
  EXPECT_EQ(weights.fingerprint, weights_of(model_folder("tied_llama3")).fingerprint);
  const std::string message = error_after("tied_llama3", [&](LooseTensors& t) {
    t["lm_head.weight"] = t[embedding];
    t["lm_head.weight"].bytes[7] ^= 1;
  });
  EXPECT_THAT(message, HasSubstr("tie_word_embeddings"));
}

TEST(Weights, AreFrozenAndMergedInOrder) {
  const Weights weights = weights_of(model_folder("plain"));
  const LooseTensors tensors = tensors_of(model_folder("plain"));
  const std::string& v = tensors.at("model.layers.0.self_attn.v_proj.weight").bytes;
  const at::Tensor qkv = weights.layers[0].qkv;
  ASSERT_EQ(qkv.sizes(), (at::IntArrayRef{32 + 16 + 16, 32}));
  EXPECT_EQ(std::memcmp(qkv.narrow(0, 48, 16).const_data_ptr(), v.data(), v.size()), 0);
  EXPECT_FALSE(qkv.requires_grad());
  EXPECT_FALSE(qkv.is_inference());
  EXPECT_EQ(weights.parameters, 2 * 64 * 32 + 32 + 2 * (2 * 32 + 64 * 32 + 32 * 32 + 3 * 48 * 32));
}

TEST(Fingerprint, IgnoresPathShardingAndOrder) {
  const std::uint64_t sharded = weights_of(model_folder("sharded")).fingerprint;
  const Scratch folder("sharded");
  EXPECT_EQ(weights_of(folder.path()).fingerprint, sharded);
  folder.write("model.safetensors", file_of(tensors_of(folder.path())));
  fs::remove(folder.path() / "model.safetensors.index.json");
  EXPECT_EQ(weights_of(folder.path()).fingerprint, sharded);
  EXPECT_EQ(weights_of(folder.path(), Precision::bfloat16).fingerprint, sharded);
}

// Files of soft rows hold such hashes: another version must find the same.
TEST(Fingerprint, IsTheSameInEveryVersion) {
  EXPECT_EQ(hash_text("pensive, a fingerprint of more than thirty-two bytes"),
            0xba4799eb1d83d108ULL);
}

TEST(Fingerprint, HearsEveryBitAndNumber) {
  const std::uint64_t before = weights_of(model_folder("plain")).fingerprint;
  EXPECT_EQ(load_changed("plain", unchanged).fingerprint, before);
  for (const std::size_t byte : {0, 1000, 6143}) {
    const Weights changed = load_changed("plain", [&](LooseTensors& t) { t[up].bytes[byte] ^= 1; });
    EXPECT_NE(changed.fingerprint, before) << byte;
  }
  const Weights swapped = load_changed(
      "plain", [&](LooseTensors& t) { std::swap(t[up], t["model.layers.0.mlp.up_proj.weight"]); });
  EXPECT_NE(swapped.fingerprint, before);
  for (const Json& change : {Json{{"rope_theta", 10001}}, Json{{"rms_norm_eps", 1e-6}},
                             Json{{"max_position_embeddings", 65}}}) {
    const Scratch folder("plain");
    folder.patch("config.json", change);
    EXPECT_NE(weights_of(folder.path()).fingerprint, before) << change.dump();
  }
}

// Every tensor of a model, on the CPU.
std::vector<at::Tensor> all_of(const Weights& weights) {
  std::vector<at::Tensor> all = {weights.embedding, weights.final_norm, weights.head};
  for (const LayerWeights& layer : weights.layers)
    for (const at::Tensor& one : {layer.attention_norm, layer.qkv, layer.qkv_bias, layer.query_norm,
                                  layer.key_norm, layer.output, layer.output_bias, layer.mlp_norm,
                                  layer.gate_up, layer.gate_up_bias, layer.down, layer.down_bias})
      if (one.defined()) all.push_back(one);
  for (at::Tensor& one : all) one = one.cpu();
  return all;
}

// The host's way is the other's twin; on a card it is what models are loaded by.
TEST(Weights, InOverlappedPiecesAreThePlainOnes) {
  std::vector<Device> devices = {{DeviceKind::cpu}};
  try {
    devices.push_back(kernels::resolve({DeviceKind::cuda}));
  } catch (const Error&) {  // none here
  }
  for (const Device& device : devices)
    for (const char* name :
         {"plain", "linear", "half", "sharded", "tied_llama3", "qwen2_default", "qwen3_default"})
      for (const Precision precision :
           {Precision::float32, Precision::bfloat16, Precision::float16, Precision::float64}) {
        const fs::path folder = model_folder(name);
        const Config config = config_of(folder);
        const Weights plain = read_weights(folder, config, precision, device, Copies::plain);
        const Weights pieces = read_weights(folder, config, precision, device, Copies::overlapped);
        EXPECT_EQ(pieces.fingerprint, plain.fingerprint);
        EXPECT_EQ(pieces.embedding.device().is_cuda(), device.kind == DeviceKind::cuda);
        const std::vector<at::Tensor> a = all_of(pieces), b = all_of(plain);
        ASSERT_EQ(a.size(), b.size());
        for (std::size_t i = 0; i < a.size(); ++i)
          EXPECT_TRUE(at::equal(a[i], b[i]) && a[i].scalar_type() == b[i].scalar_type())
              << name << " " << to_string(precision) << " tensor " << i;
      }
}

TEST(Weights, TooLargeForTheirTypeAreNamedHoweverTheyAreCopied) {
  const Scratch folder("plain");
  LooseTensors tensors = tensors_of(folder.path());
  const float large = 1e30f;
  std::memcpy(tensors[up].bytes.data() + 40, &large, sizeof large);
  folder.write("model.safetensors", file_of(tensors));
  for (const Copies copies : {Copies::plain, Copies::overlapped}) {
    const auto load = [&](Precision precision) {
      return read_weights(folder.path(), config_of(folder.path()), precision,
                          Device{DeviceKind::cpu}, copies);
    };
    EXPECT_THAT(error_of(corrupt, [&] { load(Precision::float16); }), HasSubstr(up));
    load(Precision::bfloat16);
  }
}

class Shards : public ::testing::Test {
 protected:
  Shards() : folder_("sharded"), index_(folder_.json(index_name)) {}
  std::string error_with(const Json& index, ErrorCode code = corrupt) {
    folder_.write(index_name, index.dump());
    return error_of(code, [&] { weights_of(folder_.path()); });
  }

  static constexpr const char* index_name = "model.safetensors.index.json";
  static constexpr const char* name = "model.norm.weight";
  Scratch folder_;
  Json index_;
};

TEST_F(Shards, OutsideTheFolderAreRefused) {
  for (const char* shard :
       {"../model-00001-of-00002.safetensors", "/etc/passwd", "a/b.safetensors",
        "..\\x.safetensors", ".safetensors", "", "..", "model.bin", ".hidden.safetensors"}) {
    Json index = index_;
    index["weight_map"][name] = shard;
    EXPECT_THAT(error_with(index), HasSubstr(name)) << shard;
  }
  Json index = index_;
  index["weight_map"][name] = 3;
  EXPECT_THAT(error_with(index), HasSubstr(name));
}

TEST_F(Shards, MissingShardIsNamed) {
  fs::remove(folder_.path() / "model-00002-of-00002.safetensors");
  EXPECT_THAT(error_with(index_, ErrorCode::not_found), HasSubstr("model-00002-of-00002"));
}

TEST_F(Shards, TensorInAnotherShardIsNamed) {
  Json index = index_;
  auto& shard = index["weight_map"][name];
  shard = shard == "model-00001-of-00002.safetensors" ? "model-00002-of-00002.safetensors"
                                                      : "model-00001-of-00002.safetensors";
  EXPECT_THAT(error_with(index), HasSubstr(name));
}

TEST_F(Shards, TensorThatNoIndexNamesIsRefused) {
  Json index = index_;
  index["weight_map"].erase(name);
  EXPECT_THAT(error_with(index), HasSubstr(name));
}

TEST_F(Shards, TensorInTwoShardsIsRefused) {
  const fs::path first = folder_.path() / "model-00001-of-00002.safetensors";
  fs::copy_file(first, folder_.path() / "model-00002-of-00002.safetensors",
                fs::copy_options::overwrite_existing);
  EXPECT_THAT(error_with(index_), HasSubstr("model-00002-of-00002"));
}

TEST_F(Shards, BrokenIndexIsNamed) {
  for (const std::string& text :
       {std::string(), std::string("[]"), std::string("{}"), std::string("{\"weight_map\": 3}"),
        std::string("{\"weight_map\": []}"), "{\"weight_map\": " + std::string(100000, '{'),
        std::string("{\"weight_map\": {}, \"weight_map\": {}}"),
        std::string("{\"weight_map\": {\"a\": \"x.safetensors\", \"a\": \"y.safetensors\"}}")}) {
    folder_.write(index_name, text);
    const std::string message = error_of(corrupt, [&] { weights_of(folder_.path()); });
    EXPECT_THAT(message, HasSubstr(index_name)) << text;
  }
  EXPECT_THAT(error_with(Json::parse(R"({"weight_map": {}})")), HasSubstr("embed_tokens"));
}

}  // namespace
}  // namespace pensive
