// Model::load and the forward: logits against Transformers', gradients against differences.
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include <cmath>

#include "kernels/kernels.h"
#include "model_helpers.h"
#include "pensive/model.h"

namespace pensive {
namespace {

using namespace pensive::testing;
using ::testing::HasSubstr;

std::shared_ptr<const Model> load(const fs::path& folder,
                                  Precision precision = Precision::as_stored) {
  return Model::load(folder, {.device = {DeviceKind::cpu}, .precision = precision});
}

at::Tensor ids_of(const Json& list) {
  return at::tensor(list.get<std::vector<std::int64_t>>(), at::kLong);
}

// Recorded rows of numbers: [positions, vocab].
at::Tensor table_of(const Json& rows) {
  std::vector<double> flat;
  for (const Json& row : rows)
    for (const Json& value : row) flat.push_back(value.get<double>());
  return at::tensor(flat, at::kDouble).view({static_cast<std::int64_t>(rows.size()), -1});
}

// Logits at every position of a whole sequence.
at::Tensor logits_of(const Model& model, const at::Tensor& embeddings,
                     Arithmetic arithmetic = Arithmetic::fast) {
  WholeAttention attention;
  const Decoder& decoder = *model.parts().decoder;
  const at::Tensor positions = at::arange(embeddings.size(0), at::kLong).to(embeddings.device());
  return decoder.head(decoder.forward(embeddings, positions, attention, arithmetic), arithmetic);
}

void expect_golden(const fs::path& folder, const fs::path& golden, Precision precision,
                   double tolerance) {
  const Json recorded = parse_json(read_text(golden), golden.string());
  const auto model = load(folder, precision);
  const at::Tensor ids = ids_of(recorded["ids"]);
  const at::Tensor expected = table_of(recorded[std::string(to_string(precision))]);
  for (const Arithmetic arithmetic : {Arithmetic::fast, Arithmetic::row_invariant}) {
    const at::Tensor logits = logits_of(*model, embed(*model, nullptr, ids), arithmetic);
    ASSERT_EQ(logits.scalar_type(), at::kFloat);
    ASSERT_EQ(logits.sizes(), expected.sizes());
    const double apart = (logits.to(at::kDouble) - expected).abs().max().item<double>();
    EXPECT_LE(apart, tolerance) << folder;
  }
}

class Golden : public ::testing::TestWithParam<const char*> {};

TEST_P(Golden, LogitsEqualTransformersInFloat32) {
  expect_golden(model_folder(GetParam()), model_folder(GetParam()) / "golden.json",
                Precision::float32, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(All, Golden,
                         ::testing::Values("plain", "tied_llama3", "linear", "sharded", "llama3",
                                           "half"),
                         [](const auto& info) { return std::string(info.param); });

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).square().mean().sqrt().item<double>();
}

// Two correct bfloat16 forwards differ by what they round; neither may round more than the other.
TEST(Decoder, LogitsInBfloat16AreAsGoodAsTransformers) {
  for (const char* name : {"tied_llama3", "linear"}) {
    const fs::path golden = model_folder(name) / "golden.json";
    const Json recorded = parse_json(read_text(golden), golden.string());
    const at::Tensor exact = table_of(recorded["float32"]);
    const at::Tensor theirs = table_of(recorded["bfloat16"]);
    const auto model = load(model_folder(name), Precision::bfloat16);
    const at::Tensor ours = logits_of(*model, embed(*model, nullptr, ids_of(recorded["ids"])));
    EXPECT_LE(distance(ours, theirs), 2e-2 * exact.square().mean().sqrt().item<double>()) << name;
    EXPECT_LE(distance(ours, exact), 1.2 * distance(theirs, exact)) << name;
  }
}

TEST(Decoder, ReasonerLogitsEqualTransformers) {
  const fs::path golden = fs::path(PENSIVE_TEST_DATA) / "reasoner_logits.json";
  if (!fs::exists(golden)) GTEST_SKIP() << "no " << golden << ": make_data.py --reasoner makes it";
  expect_golden(PENSIVE_REASONER, golden, Precision::float32, 1e-4);
}

TEST(Decoder, EarlierPositionsDoNotSeeLaterOnes) {
  const auto model = load(model_folder("plain"), Precision::float64);
  const at::Tensor ids = at::arange(10, at::kLong);
  const at::Tensor whole = logits_of(*model, embed(*model, nullptr, ids));
  const at::Tensor half = logits_of(*model, embed(*model, nullptr, ids.narrow(0, 0, 5)));
  EXPECT_TRUE(whole.narrow(0, 0, 5).allclose(half, 1e-12, 1e-12));
}

TEST(Decoder, Float64AgreesWithFloat32) {
  const auto fine = load(model_folder("llama3"), Precision::float64);
  const auto coarse = load(model_folder("llama3"), Precision::float32);
  const at::Tensor ids = at::arange(20, at::kLong);
  const at::Tensor a = logits_of(*fine, embed(*fine, nullptr, ids));
  ASSERT_EQ(a.scalar_type(), at::kDouble);
  const at::Tensor b = logits_of(*coarse, embed(*coarse, nullptr, ids));
  EXPECT_TRUE(a.allclose(b.to(at::kDouble), 1e-4, 1e-4));
}

// A number that depends on every logit.
at::Tensor loss_of(const Model& model, const at::Tensor& embeddings) {
  const at::Tensor logprobs = logits_of(model, embeddings).log_softmax(-1);
  const std::int64_t vocab = logprobs.size(1);
  const at::Tensor weights =
      at::arange(logprobs.numel(), at::kDouble).sin().view({-1, vocab}) / vocab;
  return (logprobs * weights).sum();
}

TEST(Decoder, GradientOfEmbeddingsEqualsDifferences) {
  for (const char* name : {"plain", "tied_llama3", "linear"}) {
    // Whatever the caller's mode was while loading, gradients flow afterwards.
    const auto model = [&] {
      const c10::InferenceMode inference;
      return load(model_folder(name), Precision::float64);
    }();
    const at::Tensor start = embed(*model, nullptr, at::arange(3, 11, at::kLong)).clone();
    at::Tensor embeddings = start.clone().set_requires_grad(true);
    loss_of(*model, embeddings).backward();
    const at::Tensor gradient = embeddings.grad();
    ASSERT_TRUE(gradient.defined());
    const c10::NoGradGuard no_grad;
    const double step = 1e-5;
    for (int round = 0; round < 4; ++round) {
      at::Tensor direction =
          (at::arange(start.numel(), at::kDouble) * (round + 1.3)).cos().view_as(start);
      direction /= direction.norm();
      const at::Tensor above = loss_of(*model, start + step * direction);
      const at::Tensor below = loss_of(*model, start - step * direction);
      const double difference = (above - below).item<double>() / (2 * step);
      const double expected = (gradient * direction).sum().item<double>();
      EXPECT_GT(std::abs(expected), 1e-6);
      EXPECT_NEAR(difference, expected, 1e-7 * (1 + std::abs(expected))) << name;
    }
  }
}

TEST(Model, SaysWhatItIs) {
  const auto model = load(model_folder("tied_llama3"));
  const ModelInfo& info = model->info();
  EXPECT_EQ(info.family, "llama");
  EXPECT_EQ(info.layers, 2);
  EXPECT_EQ(info.head_dim, 16);
  EXPECT_EQ(info.vocab_size, 64);
  EXPECT_TRUE(info.is_tied);
  EXPECT_EQ(info.precision, Precision::bfloat16);
  EXPECT_EQ(info.weight_bytes, 2 * info.parameters);
  EXPECT_EQ(info.device, (Device{DeviceKind::cpu, 0}));
  EXPECT_THAT(model->stop_tokens(), ::testing::ElementsAre(2, 3));
  EXPECT_FLOAT_EQ(model->defaults().temperature.value(), 0.7f);
  EXPECT_EQ(model->tokenizer()->find("w10"), 10);
}

TEST(Model, MissingFilesAreNamed) {
  for (const char* name : {"config.json", "tokenizer.json", "model.safetensors"}) {
    const Scratch folder("plain");
    fs::remove(folder.path() / name);
    const std::string message = error_of(ErrorCode::not_found, [&] { load(folder.path()); });
    EXPECT_THAT(message, HasSubstr(name));
  }
}

TEST(Model, ACudaDeviceThatIsNotThereIsAnError) {
  EXPECT_THROW(Model::load(model_folder("plain"), {.device = {DeviceKind::cuda, 77}}), Error);
}

TEST(Model, OnCudaGivesTheSameLogits) {
  Device card{DeviceKind::cuda, 0};
  try {
    card = kernels::resolve(card);
  } catch (const Error& error) {
    GTEST_SKIP() << error.what();
  }
  for (const char* name : {"plain", "tied_llama3", "linear"}) {
    const fs::path golden = model_folder(name) / "golden.json";
    const Json recorded = parse_json(read_text(golden), golden.string());
    const auto model =
        Model::load(model_folder(name), {.device = card, .precision = Precision::float32});
    SoftVocab soft(model);
    const TokenId id = soft.add("same as 5", std::vector<TokenId>{5});
    at::Tensor ids = ids_of(recorded["ids"]);
    ids.masked_fill_(ids == 5, id);
    const at::Tensor logits = logits_of(*model, embed(*model, soft.rows().get(), ids));
    EXPECT_TRUE(logits.is_cuda());
    EXPECT_TRUE(logits.to(at::kCPU, at::kDouble).allclose(table_of(recorded["float32"]), 0, 1e-3));
  }
}

TEST(Decoder, SmolLM2ChoosesWhatTransformersChooses) {
  const auto folder = testing::smollm2();
  if (!folder) GTEST_SKIP() << testing::no_smollm2;
  const Json golden = parse_json(read_text(*folder / "golden.json"), "golden.json");
  const auto model = load(*folder, Precision::float32);
  for (std::size_t chat = 0; chat < 20; chat += 4) {
    const Json& recorded = golden["chats"][chat];
    auto ids = recorded["prompt"].get<std::vector<std::int64_t>>();
    const auto first = static_cast<std::int64_t>(ids.size()) - 1;
    const auto tokens = recorded["tokens"].get<std::vector<std::int64_t>>();
    ids.insert(ids.end(), tokens.begin(), tokens.end() - 1);
    const c10::InferenceMode inference;
    const at::Tensor embeddings = embed(*model, nullptr, at::tensor(ids, at::kLong));
    const at::Tensor logits = logits_of(*model, embeddings).narrow(0, first, tokens.size());
    const auto [tops, chosen] = logits.max(1);
    for (std::size_t step = 0; step < tokens.size(); ++step) {
      const auto row = static_cast<std::int64_t>(step);
      EXPECT_NEAR(tops[row].item<double>(), recorded["top_logits"][step].get<double>(), 1e-3);
      const bool is_tie = recorded["margins"][step].get<double>() < 1e-3;
      EXPECT_TRUE(is_tie || chosen[row].item<std::int64_t>() == tokens[step])
          << "chat " << chat << ", step " << step;
    }
  }
}

}  // namespace
}  // namespace pensive
