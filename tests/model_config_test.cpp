// config.json and generation_config.json: understood whole, or refused by name.
#include "model_helpers.h"

namespace pensive {
namespace {

using namespace pensive::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(Config, ReadsTheSpellingOfTransformersFour) {
  const Config config = config_of(model_folder("llama3"));
  EXPECT_EQ(config.family, "llama");
  EXPECT_EQ(config.layers, 2);
  EXPECT_EQ(config.width, 32);
  EXPECT_EQ(config.inner, 48);
  EXPECT_EQ(config.heads, 4);
  EXPECT_EQ(config.kv_heads, 2);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.vocab_size, 64);
  EXPECT_EQ(config.max_positions, 64);
  EXPECT_DOUBLE_EQ(config.norm_epsilon, 1e-5);
  EXPECT_EQ(config.rope.kind, RopeKind::llama3);
  EXPECT_DOUBLE_EQ(config.rope.theta, 10000);
  EXPECT_DOUBLE_EQ(config.rope.factor, 4);
  EXPECT_DOUBLE_EQ(config.rope.original_positions, 32);
  EXPECT_FALSE(config.is_tied);
  EXPECT_EQ(config.stored, Precision::float32);
}

TEST(Config, ReadsTheSpellingOfTransformersFive) {
  const Config config = config_of(model_folder("tied_llama3"));
  EXPECT_EQ(config.rope.kind, RopeKind::llama3);
  EXPECT_DOUBLE_EQ(config.rope.theta, 500000);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.kv_heads, 1);
  EXPECT_TRUE(config.is_tied);
  EXPECT_EQ(config.stored, Precision::bfloat16);
}

TEST(Config, ReadsLinearScalingAndMissingKeyHeads) {
  const Config config = config_of(model_folder("linear"));
  EXPECT_EQ(config.rope.kind, RopeKind::linear);
  EXPECT_DOUBLE_EQ(config.rope.factor, 2);
  EXPECT_EQ(config.kv_heads, config.heads);
}

TEST(Config, StopTokensAreTheUnionOfBothFiles) {
  EXPECT_THAT(config_of(model_folder("plain")).stop_tokens, ElementsAre(2, 3));
  const Scratch folder("plain");
  folder.patch("config.json", {{"eos_token_id", nullptr}});
  EXPECT_THAT(config_of(folder.path()).stop_tokens, ElementsAre(3, 2));
  fs::remove(folder.path() / "generation_config.json");
  EXPECT_TRUE(config_of(folder.path()).stop_tokens.empty());
}

TEST(Config, GenerationDefaultsAreReadWhereGiven) {
  const Scratch folder("plain");
  const GenerationDefaults given = config_of(folder.path()).defaults;
  EXPECT_FLOAT_EQ(given.temperature.value(), 0.7f);
  EXPECT_FLOAT_EQ(given.top_p.value(), 0.9f);
  EXPECT_EQ(given.top_k, 20);
  folder.write("generation_config.json",
               R"({"min_p": 0.05, "repetition_penalty": 1.1, "temperature": 0.6,
                   "do_sample": false})");
  const GenerationDefaults greedy = config_of(folder.path()).defaults;
  EXPECT_FLOAT_EQ(greedy.min_p.value(), 0.05f);
  EXPECT_FLOAT_EQ(greedy.repetition_penalty.value(), 1.1f);
  EXPECT_EQ(greedy.temperature, 0);
  folder.write("generation_config.json", "{}");
  const GenerationDefaults none = config_of(folder.path()).defaults;
  EXPECT_FALSE(none.temperature || none.top_p || none.top_k);
}

TEST(Config, SaysWhatItIgnoresAndWhatIsNotApplied) {
  const Scratch folder("plain");
  folder.patch("config.json", {{"pretraining_tp", 2}});
  folder.patch("generation_config.json", {{"no_repeat_ngram_size", 3}, {"penalty_alpha", 0}});
  std::string all;
  read_config(folder.path(), UnknownKeys::refuse,
              [&](LogLevel, std::string_view line) { all += line; });
  EXPECT_THAT(all, HasSubstr("pretraining_tp"));
  EXPECT_THAT(all, HasSubstr("no_repeat_ngram_size 3 is not applied"));
  EXPECT_THAT(all, Not(HasSubstr("penalty_alpha")));
}

TEST(Config, EveryGenerationKeyThatChangesDrawsIsTold) {
  const Scratch folder("plain");
  const auto told = [&](const char* key, const Json& value) {
    folder.write("generation_config.json", Json{{key, value}}.dump());
    std::string all;
    read_config(folder.path(), UnknownKeys::refuse,
                [&](LogLevel, std::string_view line) { all += line; });
    return all.find(fmt::format("{} {} is not applied", key, value.dump())) != std::string::npos;
  };
  for (const char* key : {"min_new_tokens", "min_length", "no_repeat_ngram_size", "penalty_alpha",
                          "epsilon_cutoff", "frequency_penalty", "diversity_penalty"}) {
    EXPECT_TRUE(told(key, 1)) << key;
    EXPECT_FALSE(told(key, 0)) << key;
    EXPECT_FALSE(told(key, 0.0)) << key;
  }
  for (const char* key : {"num_beams", "typical_p", "length_penalty", "guidance_scale",
                          "encoder_repetition_penalty"}) {
    EXPECT_TRUE(told(key, 0)) << key;
    EXPECT_FALSE(told(key, 1)) << key;
    EXPECT_FALSE(told(key, 1.0)) << key;
  }
  EXPECT_TRUE(told("forced_eos_token_id", 1));
  EXPECT_TRUE(told("forced_bos_token_id", 0));
  EXPECT_TRUE(told("suppress_tokens", Json::array({0})));
  EXPECT_TRUE(told("renormalize_logits", true));
  for (const Json& value : {Json(nullptr), Json(false), Json(""), Json::array()})
    EXPECT_FALSE(told("bad_words_ids", value)) << value;
  EXPECT_FALSE(told("output_scores", true));
}

TEST(Config, TheStoredPrecisionIsTheFiles) {
  EXPECT_EQ(config_of(model_folder("half")).stored, Precision::float16);
  EXPECT_EQ(config_of(model_folder("linear")).stored, Precision::bfloat16);
}

struct Refused {
  std::string name;
  std::string changes;  // JSON, into config.json
  ErrorCode code;
  std::vector<std::string> says;
};

class RefusedConfig : public ::testing::TestWithParam<Refused> {};

TEST_P(RefusedConfig, IsNamed) {
  const Scratch folder("plain");
  folder.patch("config.json", Json::parse(GetParam().changes));
  const std::string message = error_of(GetParam().code, [&] { config_of(folder.path()); });
  for (const std::string& text : GetParam().says) EXPECT_THAT(message, HasSubstr(text));
  EXPECT_THAT(message, HasSubstr("config.json"));
}

constexpr ErrorCode corrupt = ErrorCode::corrupt_file;
constexpr ErrorCode unsupported = ErrorCode::unsupported;

const Refused refused[] = {
    {"Qwen", R"({"model_type": "qwen3_moe"})", unsupported, {"qwen3_moe", "llama", "qwen2"}},
    {"Gemma", R"({"model_type": "gemma2"})", unsupported, {"gemma2"}},
    {"TwoFamilies",
     R"({"model_type": "mistral"})",
     unsupported,
     {"MistralForCausalLM", "LlamaForCausalLM"}},
    {"NoFamily", R"({"model_type": null})", corrupt, {"model_type"}},
    {"Classifier",
     R"({"architectures": ["LlamaForSequenceClassification"]})",
     unsupported,
     {"LlamaForSequenceClassification"}},
    {"UnknownKey",
     R"({"wibble": [1, {"a": 2}]})",
     unsupported,
     {"wibble", R"([1,{"a":2}])", "unknown_keys = warn"}},
    {"Quantized",
     R"({"quantization_config": {"quant_method": "gptq"}})",
     unsupported,
     {"quantization_config", "gptq"}},
    {"SlidingWindow", R"({"sliding_window": 32})", unsupported, {"sliding_window", "32 of 64"}},
    {"UseSlidingWindow", R"({"use_sliding_window": true})", unsupported, {"use_sliding_window"}},
    {"SlidingLayer",
     R"({"layer_types": ["full_attention", "sliding_attention"]})",
     unsupported,
     {"sliding_attention"}},
    {"TooFewLayerTypes", R"({"layer_types": ["full_attention"]})", corrupt, {"a list of 2"}},
    {"Softcap",
     R"({"final_logit_softcapping": 30.0})",
     unsupported,
     {"no final_logit_softcapping", "30.0"}},
    {"Experts", R"({"num_local_experts": 8})", unsupported, {"num_local_experts", "8"}},
    {"Activation", R"({"hidden_act": "gelu"})", unsupported, {"hidden_act", "gelu", "silu"}},
    {"AttentionBias", R"({"attention_bias": 1})", corrupt, {"attention_bias"}},
    {"MlpBias", R"({"mlp_bias": "no"})", corrupt, {"mlp_bias"}},
    {"CustomCode", R"({"auto_map": {"AutoModel": "x.Y"}})", unsupported, {"auto_map"}},
    {"PartialRotary", R"({"partial_rotary_factor": 0.5})", unsupported, {"partial_rotary_factor"}},
    {"LongRope",
     R"({"rope_scaling": {"type": "longrope", "short_factor": [1], "long_factor": [2]}})",
     unsupported,
     {"longrope", "yarn"}},
    {"Mrope",
     R"({"rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}})",
     unsupported,
     {"mrope"}},
    {"RopeTypes",
     R"({"rope_scaling": {"type": "mrope", "rope_type": "default"}})",
     corrupt,
     {"default and mrope"}},
    {"DynamicFromLess",
     R"({"rope_scaling": {"type": "dynamic", "factor": 4.0,
        "original_max_position_embeddings": 32}})",
     unsupported,
     {"dynamic", "32 of 64"}},
    {"DynamicBelowOne",
     R"({"rope_scaling": {"type": "dynamic", "factor": 0.5}})",
     corrupt,
     {"factor", "0.5"}},
    {"YarnWithoutFactor", R"({"rope_scaling": {"type": "yarn"}})", corrupt, {"factor"}},
    {"YarnOrder",
     R"({"rope_scaling": {"type": "yarn", "factor": 2, "beta_fast": 1, "beta_slow": 32}})",
     corrupt,
     {"beta_fast", "1 and 32"}},
    {"YarnOfThetaOne",
     R"({"rope_theta": 1, "rope_scaling": {"type": "yarn", "factor": 2}})",
     corrupt,
     {"rope_theta"}},
    {"YarnTruncateNumber",
     R"({"rope_scaling": {"type": "yarn", "factor": 2, "truncate": 1}})",
     corrupt,
     {"truncate"}},
    {"TwoOriginals",
     R"({"original_max_position_embeddings": 16, "rope_scaling": {"type": "yarn", "factor": 2,
        "original_max_position_embeddings": 32}})",
     corrupt,
     {"original_max_position_embeddings", "16 and 32"}},
    {"RopeByLayer",
     R"({"rope_parameters": {"full_attention": {"rope_type": "default"}}})",
     unsupported,
     {"full_attention", "all layers"}},
    {"RopePartial",
     R"({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}})",
     unsupported,
     {"partial_rotary_factor"}},
    {"RopeKey",
     R"({"rope_scaling": {"rope_type": "linear", "factor": 2, "mscale": 1.5}})",
     unsupported,
     {"mscale", "1.5", "unknown_keys = warn"}},
    {"RopeWithoutFactor", R"({"rope_scaling": {"rope_type": "linear"}})", corrupt, {"factor"}},
    {"RopeNegativeFactor",
     R"({"rope_scaling": {"rope_type": "linear", "factor": -2}})",
     corrupt,
     {"factor", "-2"}},
    {"RopeNotAnObject", R"({"rope_scaling": "linear"})", corrupt, {"linear"}},
    {"RopeTypeNotAText", R"({"rope_scaling": {"rope_type": 3}})", corrupt, {"rope_type"}},
    {"RopeTwice",
     R"({"rope_scaling": {"rope_type": "default"},
                      "rope_parameters": {"rope_type": "linear", "factor": 2}})",
     corrupt,
     {"both"}},
    {"ThetaTwice", R"({"rope_parameters": {"rope_theta": 500}})", corrupt, {"rope_theta", "500"}},
    {"ThetaZero", R"({"rope_theta": 0})", corrupt, {"rope_theta"}},
    {"YarnReachesTooFar",
     R"({"rope_scaling": {"type": "yarn", "factor": 1e12, "beta_fast": 1e-300, "beta_slow": 1e-300,
        "original_max_position_embeddings": 1073741824}, "head_dim": 64})",
     unsupported,
     {"angles"}},
    {"Llama3Order",
     R"({"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4,
        "high_freq_factor": 1, "original_max_position_embeddings": 32}})",
     corrupt,
     {"high_freq_factor"}},
    {"NoWidth", R"({"hidden_size": null})", corrupt, {"hidden_size"}},
    {"TextWidth", R"({"hidden_size": "32"})", corrupt, {"hidden_size", "32"}},
    {"HalfALayer", R"({"num_hidden_layers": 1.5})", corrupt, {"num_hidden_layers", "1.5"}},
    {"NegativeLayers", R"({"num_hidden_layers": -1})", corrupt, {"num_hidden_layers", "-1"}},
    {"ZeroVocabulary", R"({"vocab_size": 0})", corrupt, {"vocab_size"}},
    {"HugeVocabulary", R"({"vocab_size": 9223372036854775807})", corrupt, {"vocab_size"}},
    {"BeyondAnyNumber", R"({"vocab_size": 18446744073709551615})", corrupt, {"vocab_size"}},
    {"HugePositions",
     R"({"max_position_embeddings": 16777216, "head_dim": 64})",
     unsupported,
     {"angles"}},
    {"UnevenHeads",
     R"({"num_attention_heads": 4, "num_key_value_heads": 3})",
     corrupt,
     {"num_key_value_heads", "4 and 3"}},
    {"MoreKeyHeads", R"({"num_key_value_heads": 8})", corrupt, {"num_key_value_heads", "8"}},
    {"UnevenWidth", R"({"hidden_size": 33})", corrupt, {"hidden_size", "33"}},
    {"OddHeadDim", R"({"head_dim": 7})", corrupt, {"head_dim", "7"}},
    {"EpsilonText", R"({"rms_norm_eps": "small"})", corrupt, {"rms_norm_eps"}},
    {"EpsilonNegative", R"({"rms_norm_eps": -1e-5})", corrupt, {"rms_norm_eps"}},
    {"TiedNumber", R"({"tie_word_embeddings": 1})", corrupt, {"tie_word_embeddings"}},
    {"EosOutside", R"({"eos_token_id": 64})", corrupt, {"eos_token_id", "64"}},
    {"EosNegative", R"({"eos_token_id": [2, -1]})", corrupt, {"eos_token_id", "-1"}},
    {"EosText", R"({"eos_token_id": "</s>"})", corrupt, {"eos_token_id"}},
    {"Int8", R"({"torch_dtype": "int8"})", unsupported, {"int8"}},
    {"TwoTypes", R"({"dtype": "bfloat16"})", corrupt, {"bfloat16", "float32"}},
};

INSTANTIATE_TEST_SUITE_P(All, RefusedConfig, ::testing::ValuesIn(refused),
                         [](const auto& info) { return info.param.name; });

TEST(Config, HostileTextIsAnErrorNeverACrash) {
  const Scratch folder("plain");
  const std::string deep(100000, '[');
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[]"), std::string("nul"), deep,
        std::string("{\"model_type\": \"llama\", \"model_type\": \"x\"}"),
        std::string("{\"a\": \"\xff\"}"), std::string("{\"rope_theta\": 1e999}"),
        std::string("\0\0\0", 3)}) {
    folder.write("config.json", text);
    error_of(ErrorCode::corrupt_file, [&] { config_of(folder.path()); });
  }
  fs::remove(folder.path() / "config.json");
  error_of(ErrorCode::not_found, [&] { config_of(folder.path()); });
}

TEST(Config, ABrokenGenerationFileIsNamed) {
  const Scratch folder("plain");
  std::string deep(100000, '[');
  deep.insert(0, "{\"a\": ");
  for (const std::string& text : std::vector<std::string>{
           deep, "{\"top_k\": 1, \"top_k\": 2}", "{\"min_p\": \"a\"}", "{\"do_sample\": 1}",
           "{\"temperature\": 1e999}", "{\"temperature\": NaN}", "{\"temperature\": -1}",
           "{\"top_p\": 2}", "{\"top_p\": 0.0}", "{\"top_p\": 1e-60}",
           "{\"repetition_penalty\": 0}", "{\"repetition_penalty\": -1}", "{\"top_k\": 1.5}", "[1]",
           "{\"eos_token_id\": {}}", "{\"eos_token_id\": 99}"}) {
    folder.write("generation_config.json", text);
    const std::string message =
        error_of(ErrorCode::corrupt_file, [&] { config_of(folder.path()); });
    EXPECT_THAT(message, HasSubstr("generation_config.json"));
  }
}

}  // namespace
}  // namespace pensive
