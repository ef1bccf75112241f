#include "model/config_keys.h"

#include <algorithm>
#include <array>
#include <iterator>

namespace pensive {
namespace {

using Json = nlohmann::ordered_json;

// Keys that are read elsewhere in the room.
constexpr std::string_view read_keys[] = {
    "model_type",
    "architectures",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "max_position_embeddings",
    "original_max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "tie_word_embeddings",
    "attention_bias",
    "mlp_bias",
    "sliding_window",
    "use_sliding_window",
    "max_window_layers",
    "layer_types",
    "torch_dtype",
    "dtype",
    "eos_token_id",
    "quantization_config",
    "compression_config",
    "quantization",
};

// Keys that change nothing here, and why.
struct Ignored {
  std::string_view reason;
  std::initializer_list<std::string_view> keys;
};
const Ignored ignored_keys[] = {
    {"says where the checkpoint came from",
     {"_name_or_path", "_model_name_or_path", "name_or_path", "model_name", "_commit_hash",
      "transformers_version", "transformers.js_config", "is_llama_config", "unsloth_version",
      "unsloth_fixed"}},
    {"acts in training only",
     {"initializer_range", "attention_dropout", "hidden_dropout", "resid_pdrop", "embd_pdrop",
      "attention_probs_dropout_prob", "hidden_dropout_prob", "dropout", "gradient_checkpointing",
      "keys_to_ignore_at_inference", "max_sequence_length", "tokenizer_model_max_length",
      "tokenizer_padding_side"}},
    {"splits a product into parts without changing it", {"pretraining_tp"}},
    {"says what Transformers returns or how it computes",
     {"use_cache",
      "output_attentions",
      "output_hidden_states",
      "output_scores",
      "return_dict",
      "return_dict_in_generate",
      "torchscript",
      "chunk_size_feed_forward",
      "attn_implementation",
      "_attn_implementation",
      "_attn_implementation_autoset",
      "_attn_implementation_internal",
      "_flash_attn_2_enabled",
      "use_flash_attention",
      "use_flash_attn",
      "flash_attention",
      "use_bfloat16",
      "use_fp16",
      "tf_legacy_loss",
      "cache_implementation",
      "is_decoder",
      "cross_attention_hidden_size",
      "tie_encoder_decoder",
      "pruned_heads",
      "tensor_parallel"}},
    {"is the tokenizer's matter",
     {"bos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "pad_token",
      "decoder_start_token_id", "tokenizer_class", "prefix", "model_max_length"}},
    {"labels the outputs of classifiers",
     {"num_labels", "id2label", "label2id", "problem_type", "finetuning_task",
      "task_specific_params"}},
    {"belongs to generation_config.json",
     {"temperature",
      "top_p",
      "top_k",
      "do_sample",
      "max_length",
      "min_length",
      "num_beams",
      "num_beam_groups",
      "num_return_sequences",
      "early_stopping",
      "length_penalty",
      "diversity_penalty",
      "repetition_penalty",
      "no_repeat_ngram_size",
      "encoder_no_repeat_ngram_size",
      "bad_words_ids",
      "suppress_tokens",
      "begin_suppress_tokens",
      "exponential_decay_length_penalty",
      "forced_bos_token_id",
      "forced_eos_token_id",
      "remove_invalid_values",
      "typical_p",
      "max_new_tokens"}},
};

// Keys that would change the result: only these values (a JSON list) are done. Null always means
// absent.
constexpr std::pair<std::string_view, std::string_view> fixed_keys[] = {
    {"hidden_act", R"(["silu"])"},
    {"hidden_activation", R"(["silu"])"},
    {"rope_interleaved", "[false]"},
    {"partial_rotary_factor", "[1.0]"},
    {"rotary_percent", "[1.0]"},
    {"no_rope_layers", "[]"},
    {"no_rope_layer_interval", "[]"},
    {"use_mrope", "[false]"},
    {"alibi", "[false]"},
    {"sliding_window_pattern", "[]"},
    {"attention_chunk_size", "[]"},
    {"attention_sink_size", "[]"},
    {"qk_layernorm", "[false]"},
    {"use_qk_norm", "[false]"},
    {"clip_qkv", "[]"},
    {"attn_logit_softcapping", "[]"},
    {"final_logit_softcapping", "[]"},
    {"query_pre_attn_scalar", "[]"},
    {"attention_multiplier", "[]"},
    {"embedding_multiplier", "[1.0]"},
    {"residual_multiplier", "[1.0]"},
    {"logits_scaling", "[1.0]"},
    {"logit_scale", "[1.0]"},
    {"scale_emb", "[1.0]"},
    {"is_encoder_decoder", "[false]"},
    {"is_causal", "[true]"},
    {"add_cross_attention", "[false]"},
    {"auto_map", "[]"},
    {"vision_config", "[]"},
    {"text_config", "[]"},
    {"num_experts", "[0]"},
    {"num_local_experts", "[0]"},
    {"num_experts_per_tok", "[0]"},
    {"n_routed_experts", "[0]"},
    {"moe_intermediate_size", "[]"},
};

std::string_view reason_to_ignore(std::string_view key) {
  for (const Ignored& entry : ignored_keys) {
    if (std::find(entry.keys.begin(), entry.keys.end(), key) != entry.keys.end())
      return entry.reason;
  }
  return {};
}

// True when `key` is one of the fixed ones, and has a value that is done.
bool check_fixed(std::string_view key, const Json& value, const std::string& where) {
  const auto* fixed = std::find_if(std::begin(fixed_keys), std::end(fixed_keys),
                                   [key](const auto& entry) { return entry.first == key; });
  if (fixed == std::end(fixed_keys)) return false;
  const Json done = Json::parse(fixed->second);
  const bool is_done = value.is_null() || std::find(done.begin(), done.end(), value) != done.end();
  require(is_done, ErrorCode::unsupported,
          done.empty() ? fmt::format("no {}", key) : fmt::format("{} {}", key, done[0].dump()),
          shown(value), where);
  return true;
}

// What would work instead of weights packed by this method.
std::string_view instead_of(std::string_view method) {
  if (method == "fp8" || method == "bitsandbytes" || method == "fbgemm_fp8")
    return "the checkpoint it was made from; or load it with Transformers, dequantize() and "
           "save_pretrained() it";
  return "the checkpoint it was made from";
}

}  // namespace

std::string shown(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  constexpr std::size_t most = 120;
  if (text.size() > most) text = to_utf8(text.substr(0, most)) + "…";
  return text;
}

Json read_object(const std::filesystem::path& file) {
  Json json = parse_json(read_text(file), file.string());
  require(json.is_object(), ErrorCode::corrupt_file, "a JSON object", shown(json), file.string());
  return json;
}

int Keys::whole(std::string_view key, int least, int most) const {
  return check_whole(key, member<std::int64_t>(object_, key, where_), least, most);
}

int Keys::whole_or(std::string_view key, int otherwise, int least, int most) const {
  return find(key) == nullptr ? otherwise : whole(key, least, most);
}

double Keys::number(std::string_view key, double least, double most) const {
  const double value = member<double>(object_, key, where_);
  require(value >= least && value <= most, ErrorCode::corrupt_file,
          fmt::format("{} from {} to {}", key, least, most), fmt::format("{}", value), where_);
  return value;
}

double Keys::number_or(std::string_view key, double otherwise, double least, double most) const {
  return find(key) == nullptr ? otherwise : number(key, least, most);
}

int Keys::check_whole(std::string_view key, std::int64_t value, int least, int most) const {
  require(value >= least && value <= most, ErrorCode::corrupt_file,
          fmt::format("{} from {} to {}", key, least, most), fmt::format("{}", value), where_);
  return static_cast<int>(value);
}

void UnknownRule::meet(std::string_view key, const Json& value, const std::string& where) const {
  const std::string found = fmt::format("{}: {}", in_quotes(key), shown(value));
  if (wish == UnknownKeys::refuse) {
    fail(ErrorCode::unsupported,
         "keys that this version understands (unknown_keys = warn passes over others)", found,
         where);
  }
  if (log) log(LogLevel::warning, fmt::format("{}: passed over the unknown {}", where, found));
}

void check_keys(const Keys& keys, const UnknownRule& unknown) {
  std::string ignored;
  for (const auto& [key, value] : keys.object().items()) {
    if (std::find(std::begin(read_keys), std::end(read_keys), key) != std::end(read_keys)) continue;
    if (check_fixed(key, value, keys.where())) continue;
    const std::string_view reason = reason_to_ignore(key);
    if (reason.empty()) {
      unknown.meet(key, value, keys.where());
    } else {
      ignored += fmt::format("{}{} ({})", ignored.empty() ? "" : ", ", key, reason);
    }
  }
  if (unknown.log && !ignored.empty())
    unknown.log(LogLevel::info, fmt::format("{}: ignored {}", keys.where(), ignored));
}

void check_quantization(const Keys& keys) {
  for (const std::string_view key : {"quantization_config", "compression_config", "quantization"}) {
    const Json* found = keys.find(key);
    if (found == nullptr) continue;
    std::string method;
    if (found->is_object()) {
      const auto named = found->find("quant_method");
      if (named != found->end() && named->is_string()) method = named->get<std::string>();
      // bitsandbytes did not always say its name.
      const bool is_bits = found->contains("load_in_4bit") || found->contains("load_in_8bit");
      if (method.empty() && is_bits) method = "bitsandbytes";
    }
    fail(ErrorCode::unsupported,
         fmt::format("weights that are not quantised ({})", instead_of(method)),
         fmt::format("{} {}{}", key, method.empty() ? "" : in_quotes(method) + ": ", shown(*found)),
         keys.where());
  }
}

}  // namespace pensive
