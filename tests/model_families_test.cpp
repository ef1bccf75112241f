// Every family with every kind of rope: prefill and decoding against what Transformers recorded.
#include <c10/core/InferenceMode.h>

#include <cmath>

#include "kernels/kernels.h"
#include "model_helpers.h"
#include "pensive/model.h"

namespace pensive {
namespace {

using namespace pensive::testing;

constexpr const char* families[] = {
    "llama_default", "llama_linear",    "llama_dynamic",  "llama_llama3",    "llama_yarn",
    "llama_biased",  "mistral_default", "mistral_linear", "mistral_dynamic", "mistral_llama3",
    "mistral_yarn",  "qwen2_default",   "qwen2_linear",   "qwen2_dynamic",   "qwen2_llama3",
    "qwen2_yarn",    "qwen3_default",   "qwen3_linear",   "qwen3_dynamic",   "qwen3_llama3",
    "qwen3_yarn",
};

// The cache of one sequence, in pages as the engine holds them.
class PagedAttention final : public Attention {
 public:
  PagedAttention(const Config& config, at::ScalarType scalar)
      : scale_(1 / std::sqrt(static_cast<double>(config.head_dim))) {
    for (int layer = 0; layer < config.layers; ++layer) {
      for (auto* pages : {&keys_, &values_})
        pages->push_back(
            at::zeros({pages_, page_tokens_, config.kv_heads, config.head_dim}, at::dtype(scalar)));
    }
  }
  // Before a forward of so many tokens.
  void extend(std::int64_t tokens) {
    batch_.slots = at::arange(length_, length_ + tokens, at::kLong);
    length_ += tokens;
    batch_.tables = at::arange(pages_, at::kInt).unsqueeze(0);
    batch_.starts = at::tensor({std::int64_t{0}, tokens}, at::kInt);
    batch_.lengths = at::tensor({length_}, at::kInt);
    batch_.longest_query = static_cast<int>(tokens);
    batch_.longest_length = static_cast<int>(length_);
  }
  at::Tensor attend(int layer, const at::Tensor& queries, const at::Tensor& keys,
                    const at::Tensor& values) override {
    const auto at = static_cast<std::size_t>(layer);
    kernels::write_pages(keys, values, keys_[at], values_[at], batch_);
    return kernels::paged_attention(queries, keys_[at], values_[at], batch_, scale_);
  }

 private:
  static constexpr std::int64_t pages_ = 33, page_tokens_ = 16;
  double scale_;
  std::int64_t length_ = 0;
  std::vector<at::Tensor> keys_, values_;
  kernels::PagedBatch batch_;
};

struct Golden {
  at::Tensor ids;                     // [tokens]
  std::vector<std::int64_t> lengths;  // of prefills
  at::Tensor exact, brief;            // [lengths, 1 + decoded, vocab]; brief: as stored, if another
};

Golden golden_of(const std::string& name) {
  const TensorFile file(model_folder(name) / "golden.safetensors");
  Golden golden;
  const auto read = [&](const std::string& key) {
    const StoredTensor& stored = file.tensors().at(key);
    at::Tensor values = at::empty(stored.shape, at::kDouble);
    copy_values(stored, key, values);
    return values;
  };
  golden.ids = read("ids").to(at::kLong);
  const at::Tensor lengths = read("lengths").to(at::kLong);
  for (std::int64_t i = 0; i < lengths.numel(); ++i)
    golden.lengths.push_back(lengths[i].item<std::int64_t>());
  golden.exact = read("float32");
  for (const char* key : {"bfloat16", "float16"})
    if (file.tensors().count(key) != 0) golden.brief = read(key);
  return golden;
}

std::shared_ptr<const Model> load(const fs::path& folder, Precision precision) {
  return Model::load(folder, {.device = {DeviceKind::cpu}, .precision = precision});
}

// What the golden file records, computed by us: [lengths, 1 + decoded, vocab].
at::Tensor steps_of(const Model& model, const Golden& golden, Arithmetic arithmetic) {
  const c10::InferenceMode inference;
  const Decoder& decoder = *model.parts().decoder;
  std::vector<at::Tensor> all;
  for (const std::int64_t length : golden.lengths) {
    PagedAttention attention(decoder.config(), model.parts().scalar);
    std::vector<at::Tensor> rows;
    for (std::int64_t i = 0; i < golden.exact.size(1); ++i) {
      const std::int64_t first = i == 0 ? 0 : length + i - 1, count = i == 0 ? length : 1;
      attention.extend(count);
      const at::Tensor hidden =
          decoder.forward(decoder.embed(golden.ids.narrow(0, first, count)),
                          at::arange(first, first + count, at::kLong), attention, arithmetic);
      rows.push_back(decoder.head(hidden.narrow(0, count - 1, 1), arithmetic));
    }
    all.push_back(at::cat(rows));
  }
  return at::stack(all).to(at::kDouble);
}

double apart(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}
double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).square().mean().sqrt().item<double>();
}

class Families : public ::testing::TestWithParam<const char*> {
 protected:
  const std::string name = GetParam();
  const Golden golden = golden_of(name);
};

TEST_P(Families, PrefillAndDecodingEqualTransformersInFloat32) {
  const auto model = load(model_folder(name), Precision::float32);
  ASSERT_EQ(golden.lengths, (std::vector<std::int64_t>{1, 2, 63, 64, 65, 500}));
  for (const Arithmetic arithmetic : {Arithmetic::fast, Arithmetic::row_invariant})
    EXPECT_LE(apart(steps_of(*model, golden, arithmetic), golden.exact), 1e-4);
}

// Two correct brief forwards differ by what they round; neither may round more than the other.
TEST_P(Families, BriefPrecisionsAreAsGoodAsTransformers) {
  if (!golden.brief.defined()) return;
  const auto model = load(model_folder(name), Precision::as_stored);
  ASSERT_EQ(model->info().precision,
            name == "llama_biased" ? Precision::float16 : Precision::bfloat16);
  const double scale = golden.exact.square().mean().sqrt().item<double>();
  for (const Arithmetic arithmetic : {Arithmetic::fast, Arithmetic::row_invariant}) {
    const at::Tensor ours = steps_of(*model, golden, arithmetic);
    EXPECT_LE(distance(ours, golden.brief), 2e-2 * scale);
    EXPECT_LE(distance(ours, golden.exact), 1.2 * distance(golden.brief, golden.exact));
  }
}

TEST_P(Families, GradientsFlowAsForward) {
  const auto model = load(model_folder(name), Precision::float64);
  const Decoder& decoder = *model->parts().decoder;
  const at::Tensor start = decoder.embed(golden.ids.narrow(0, 0, 6)).clone();
  const at::Tensor positions = at::arange(6, at::kLong);
  const auto loss_of = [&](const at::Tensor& embeddings) {
    WholeAttention attention;
    const at::Tensor hidden = decoder.forward(embeddings, positions, attention, Arithmetic::fast);
    return decoder.head(hidden, Arithmetic::fast).log_softmax(-1).select(1, 7).sum();
  };
  at::Tensor embeddings = start.clone().set_requires_grad(true);
  loss_of(embeddings).backward();
  const c10::NoGradGuard no_grad;
  const at::Tensor direction = at::arange(start.numel(), at::kDouble).cos().view_as(start);
  const double step = 1e-6;
  const double difference =
      (loss_of(start + step * direction) - loss_of(start - step * direction)).item<double>() /
      (2 * step);
  const double expected = (embeddings.grad() * direction).sum().item<double>();
  EXPECT_NEAR(difference, expected, 1e-6 * (1 + std::abs(expected)));
}

INSTANTIATE_TEST_SUITE_P(All, Families, ::testing::ValuesIn(families),
                         [](const auto& info) { return std::string(info.param); });

// The recorded logits could not tell a part that they do not depend on.
TEST(FamilyParts, EachShowsInTheRecordedLogits) {
  struct Change {
    const char* model;
    Json config;
  };
  const Json plain = {{"rope_type", "default"}};
  const auto yarn = [](const char* key, const Json& value) {
    Json rope = {
        {"rope_type", "yarn"}, {"factor", 4.0},         {"original_max_position_embeddings", 128},
        {"mscale", 0.707},     {"mscale_all_dim", 1.2}, {"beta_fast", 16},
        {"beta_slow", 2},      {"truncate", false},     {"rope_theta", 10000.0}};
    rope[key] = value;
    return Json{{"rope_parameters", rope}};
  };
  for (const Change& change :
       {Change{"llama_linear", {{"rope_parameters", plain}}},
        Change{"llama_llama3", {{"rope_scaling", plain}}},
        Change{"qwen2_llama3", {{"rope_parameters", plain}}},
        Change{"qwen2_yarn", {{"rope_scaling", plain}}},
        Change{"llama_yarn", yarn("truncate", true)}, Change{"llama_yarn", yarn("beta_fast", 32)},
        Change{"llama_yarn", yarn("beta_slow", 1)}, Change{"llama_yarn", yarn("mscale", 1)},
        Change{"llama_yarn", yarn("mscale_all_dim", 1)}, Change{"llama_yarn", yarn("factor", 8)},
        Change{"llama_yarn", yarn("attention_factor", 1)}}) {
    const Scratch folder(change.model);
    folder.patch("config.json", change.config);
    const Golden golden = golden_of(change.model);
    const auto model = load(folder.path(), Precision::float32);
    EXPECT_GT(apart(steps_of(*model, golden, Arithmetic::fast), golden.exact), 1e-2)
        << change.model << change.config;
  }
}

TEST(FamilyParts, AYarnOfNullFactorTakesTheQuotientOfTheLengths) {
  const Scratch folder("qwen2_yarn");
  folder.patch(
      "config.json",
      {{"rope_scaling",
        {{"type", "yarn"}, {"factor", nullptr}, {"original_max_position_embeddings", 128}}}});
  EXPECT_EQ(config_of(folder.path()).rope, config_of(model_folder("qwen2_yarn")).rope);
}

}  // namespace
}  // namespace pensive
