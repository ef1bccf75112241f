// config.json of widely used finetunes, written down: each is understood without an override, and
// so is what Transformers 5 makes of it. And the overrides.
#include <sstream>

#include "model_helpers.h"

namespace pensive {
namespace {

using namespace pensive::testing;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<Json> lines_of(const std::string& name) {
  const fs::path file = data("configs") / name;
  std::istringstream text(read_text(file));
  std::vector<Json> found;
  for (std::string line; std::getline(text, line);)
    found.push_back(parse_json(line, file.string()));
  return found;
}

Scratch& write(Scratch& folder, const Json& entry) {
  folder.write("config.json", entry["config"].dump());
  if (entry.contains("generation_config"))
    folder.write("generation_config.json", entry["generation_config"].dump());
  return folder;
}

const char* name_of(RopeKind kind) {
  constexpr const char* names[] = {"plain", "linear", "llama3", "dynamic", "yarn"};
  return names[static_cast<std::size_t>(kind)];
}

TEST(Finetunes, AreUnderstoodWithoutAnOverride) {
  int understood = 0;
  for (const Json& entry : lines_of("finetunes.jsonl")) {
    SCOPED_TRACE(entry["name"].get<std::string>());
    Scratch folder;
    write(folder, entry);
    const Json& expects = entry["expects"];
    if (expects.contains("refused")) {
      EXPECT_THAT(error_of(ErrorCode::unsupported, [&] { config_of(folder.path()); }),
                  HasSubstr(expects["refused"].get<std::string>()));
      continue;
    }
    ++understood;
    const Json& file = entry["config"];
    const Config config = config_of(folder.path());
    EXPECT_EQ(config.layers, file["num_hidden_layers"]);
    EXPECT_EQ(config.kv_heads, file["num_key_value_heads"]);
    EXPECT_EQ(config.head_dim, expects["head_dim"]);
    EXPECT_EQ(name_of(config.rope.kind), expects["rope"]);
    EXPECT_EQ(config.stop_tokens, expects["stop_tokens"].get<std::vector<TokenId>>());
    EXPECT_EQ(config.is_tied, file["tie_word_embeddings"]);
    EXPECT_EQ(config.has_qkv_bias, file["model_type"] == "qwen2");
    EXPECT_FALSE(config.has_output_bias || config.has_mlp_bias);
    EXPECT_EQ(config.has_query_key_norms, file["model_type"] == "qwen3");
    EXPECT_EQ(to_string(config.stored), file["torch_dtype"]);
  }
  EXPECT_GE(understood, 30);
}

TEST(Finetunes, MeanTheSameAsTransformersFiveWritesThem) {
  std::map<std::string, Json> before;
  for (const Json& entry : lines_of("finetunes.jsonl")) before[entry["name"]] = entry;
  int compared = 0;
  for (const Json& entry : lines_of("resaved.jsonl")) {
    const auto name = entry["name"].get<std::string>();
    SCOPED_TRACE(name);
    Scratch older, newer;
    write(older, {{"config", before.at(name)["config"]}});
    const Config a = config_of(older.path()), b = config_of(write(newer, entry).path());
    EXPECT_EQ(a.rope, b.rope);
    EXPECT_EQ(a.stop_tokens, b.stop_tokens);
    EXPECT_EQ(a.max_positions, b.max_positions);
    EXPECT_EQ(std::tie(a.layers, a.width, a.inner, a.heads, a.kv_heads, a.head_dim, a.vocab_size),
              std::tie(b.layers, b.width, b.inner, b.heads, b.kv_heads, b.head_dim, b.vocab_size));
    EXPECT_EQ(std::tie(a.is_tied, a.has_qkv_bias, a.has_output_bias, a.stored, a.norm_epsilon),
              std::tie(b.is_tied, b.has_qkv_bias, b.has_output_bias, b.stored, b.norm_epsilon));
    ++compared;
  }
  EXPECT_GE(compared, 30);
}

Json entry_of(const std::string& name) {
  for (const Json& entry : lines_of("finetunes.jsonl"))
    if (entry["name"] == name) return entry;
  throw std::runtime_error("no " + name);
}

TEST(Finetunes, YarnReachesAsFarAsItIsFor) {
  Scratch folder;
  const Json entry = entry_of("Qwen/Qwen2.5-7B-Instruct, as its card extends it");
  const Config config = config_of(write(folder, entry).path());
  EXPECT_EQ(config.max_positions, 131072);
  EXPECT_NEAR(config.rope.attention_factor, 1.1386, 1e-4);
}

TEST(UnknownKeys, AreWarnedOfWhenToldTo) {
  Scratch folder;
  Json entry = entry_of("deepseek-ai/DeepSeek-R1-0528-Qwen3-8B");
  entry["config"]["wibble"] = 3;
  write(folder, entry);
  std::string log;
  const Config config =
      read_config(folder.path(), UnknownKeys::warn, [&](LogLevel level, std::string_view line) {
        if (level == LogLevel::warning) log += line;
      });
  EXPECT_EQ(config.rope.kind, RopeKind::yarn);
  EXPECT_THAT(log, HasSubstr("passed over the unknown \"wibble\": 3"));
  EXPECT_THAT(log, HasSubstr("attn_factor"));
}

TEST(UnknownKeys, ThatAreKnownToMatterAreRefusedEitherWay) {
  for (const Json& change :
       {Json{{"sliding_window", 4096}}, Json{{"num_experts", 8}}, Json{{"use_mrope", true}},
        Json{{"quantization_config", {{"quant_method", "awq"}}}},
        Json{{"rope_scaling", {{"rope_type", "longrope"}, {"factor", 4}}}},
        Json{{"rope_scaling",
              {{"rope_type", "linear"}, {"factor", 4}, {"full_attention", Json::object()}}}}}) {
    Scratch folder;
    Json entry = entry_of("mistralai/Mistral-7B-Instruct-v0.3");
    entry["config"].update(change);
    write(folder, entry);
    const std::string message = error_of(
        ErrorCode::unsupported, [&] { read_config(folder.path(), UnknownKeys::warn, {}); });
    EXPECT_THAT(message, Not(HasSubstr("unknown_keys"))) << change;
  }
}

Config changed(const std::string& name, const Json& changes = Json::object(),
               const char* without = nullptr) {
  Scratch folder;
  Json entry = entry_of(name);
  entry["config"].update(changes);
  if (without != nullptr) entry["config"].erase(without);
  return config_of(write(folder, entry).path());
}

TEST(SlidingWindow, IsRefusedOnlyWhereItHidesSomething) {
  const std::string mistral = "mistralai/Mistral-7B-Instruct-v0.3", qwen = "Qwen/Qwen3-8B";
  const auto refused = [](const std::string& name, const Json& changes, const char* without) {
    const std::string message =
        error_of(ErrorCode::unsupported, [&] { changed(name, changes, without); });
    EXPECT_THAT(message, HasSubstr("sliding_window")) << changes;
    return message;
  };
  EXPECT_NO_THROW(changed(mistral, {{"sliding_window", 32768}}));
  refused(mistral, {{"sliding_window", 32767}}, nullptr);
  // Transformers' Mistral has a window where the file says nothing, and no switch for it.
  EXPECT_THAT(refused(mistral, Json::object(), "sliding_window"), HasSubstr("silence"));
  refused(mistral, {{"sliding_window", 4096}, {"use_sliding_window", false}}, nullptr);
  EXPECT_NO_THROW(changed(qwen, {{"sliding_window", 4096}}));
  refused(qwen, {{"sliding_window", 4096}, {"use_sliding_window", true}, {"max_window_layers", 2}},
          nullptr);
  refused(qwen, {{"use_sliding_window", true}, {"max_window_layers", 2}}, "sliding_window");
  EXPECT_NO_THROW(changed(qwen, {{"sliding_window", 4096}, {"use_sliding_window", true}}));
  EXPECT_NO_THROW(changed(
      qwen, {{"sliding_window", 40960}, {"use_sliding_window", true}, {"max_window_layers", 2}}));
}

TEST(Defaults, AreThoseOfTransformersClasses) {
  EXPECT_EQ(changed("Qwen/Qwen3-8B", {{"hidden_size", 2048}}, "head_dim").head_dim, 128);
  EXPECT_EQ(changed("Qwen/Qwen3-8B", Json::object(), "rope_theta").rope.theta, 10000);
  const std::string llama = "meta-llama/Llama-2-7b-chat-hf";
  EXPECT_EQ(changed(llama, Json::object(), "num_key_value_heads").kv_heads, 32);
  EXPECT_EQ(changed(llama, Json::object(), "torch_dtype").stored, Precision::float32);
  for (const char* name : {"Qwen/Qwen3-8B", "mistralai/Mistral-7B-Instruct-v0.3"}) {
    EXPECT_THAT(error_of(ErrorCode::corrupt_file,
                         [&] { changed(name, Json::object(), "num_key_value_heads"); }),
                HasSubstr("num_key_value_heads"));
  }
  error_of(ErrorCode::unsupported, [] { changed("Qwen/Qwen3-8B", {{"mlp_bias", true}}); });
  error_of(ErrorCode::unsupported, [] {
    changed("mistralai/Mistral-7B-Instruct-v0.3", {{"attention_bias", true}});
  });
  EXPECT_TRUE(changed("Qwen/Qwen3-8B", {{"attention_bias", true}}).has_output_bias);
}

}  // namespace
}  // namespace pensive
