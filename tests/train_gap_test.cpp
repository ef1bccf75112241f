// How far the engine's logprobs are from the trainer's for the tokens it drew, on a card.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model_helpers.h"
#include "pensive/guides.h"
#include "train_toy.h"

namespace pensive {
namespace {

using testing::FeedRow;
using testing::Toy;

// Half of all samples are right, whatever they say.
class Chance final : public Judge {
 public:
  double score(const Problem&, const Response& response) const override {
    return static_cast<double>(response.text.size() % 2);
  }
};

TrainReport report_of(const std::filesystem::path& folder, DeviceKind device, Precision precision,
                      Arithmetic arithmetic, float temperature, int problems = 6) {
  Toy toy;
  toy.model = Model::load(folder, {.device = {device}, .precision = precision});
  toy.soft = std::make_shared<SoftVocab>(toy.model);
  toy.row = toy.soft->add("ROW", std::vector<TokenId>{5, 6});
  EngineOptions with;
  with.arithmetic = arithmetic;
  with.cache_tokens = 1 << 15;
  with.soft = toy.soft;
  toy.engine = std::make_unique<Engine>(toy.model, with);
  toy.options.rollout.guides = {std::make_shared<FeedRow>(toy.row)};
  toy.options.rollout.max_new_tokens = 100;
  toy.options.rollout.sampling.temperature = temperature;
  toy.options.prompt_of = [&](const Problem& problem) {
    std::vector<TokenId> prompt = testing::ids(std::stoi(problem.question), 30);
    for (TokenId& id : prompt) id %= toy.model->vocab_size();
    return prompt;
  };
  return toy.trainer(std::make_shared<Chance>()).step(testing::problems(problems));
}

// Sums in another order, and nothing else.
TEST(Gap, OnACpuIsThatOfFloat32) {
  for (const Arithmetic arithmetic : {Arithmetic::fast, Arithmetic::row_invariant})
    for (const float temperature : {1.0f, 0.6f}) {
      const TrainReport report = report_of(PENSIVE_REASONER, DeviceKind::cpu, Precision::float32,
                                           arithmetic, temperature, 2);
      EXPECT_GT(report.gradient_norm, 0);
      EXPECT_GT(report.mean_logprob_gap, 0);
      EXPECT_LT(report.mean_logprob_gap, 1e-5) << "at " << temperature;
      EXPECT_LT(report.max_logprob_gap, 1e-4) << "at " << temperature;
      std::cout << (arithmetic == Arithmetic::fast ? "fast" : "row-invariant") << ", at "
                << temperature << ": " << report.mean_logprob_gap << " in the mean, "
                << report.max_logprob_gap << " at most\n";
    }
}

// Every other sample is right, whatever it says.
class InTurns final : public Judge {
 public:
  double score(const Problem&, const Response&) const override { return asked_++ % 2; }

 private:
  mutable int asked_ = 0;
};

// Feeds the row, takes three tokens back for it and two more for words; ends when it will.
std::shared_ptr<Guide> takes_back(TokenId row) {
  return testing::scripted([row](const Moment& moment) -> Action {
    if (moment.origin != Origin::sampled) return Proceed{};
    if (moment.new_tokens == 9) return Force{{row}, 3};
    if (moment.new_tokens == 13 || moment.new_tokens == 31) return Force{{9, 8}, 2};
    return Proceed{};
  });
}

// What exact logprobs are asked to be equal for.
struct ExactRun {
  DeviceKind device = DeviceKind::cpu;
  Precision precision = Precision::float32;
  Branch branch = Branch::at_prompt;
  std::int64_t cache_tokens = 1 << 15;
  int page_tokens = 16, inner_steps = 1, problems = 2, new_tokens = 60;
  double kl = 0, rate = 0.0003;  // what a second inner step goes through is still in float16
  Logprobs logprobs = Logprobs::exact;
};

struct ExactFound {
  TrainReport report;
  std::vector<double> moved;
  std::int64_t preemptions = 0;
};

ExactFound exact_step(const std::filesystem::path& folder, const ExactRun& run) {
  Toy toy;
  toy.model = Model::load(folder, {.device = {run.device}, .precision = run.precision});
  toy.soft = std::make_shared<SoftVocab>(toy.model);
  toy.row = toy.soft->add("ROW", std::vector<TokenId>{5, 6});
  EngineOptions with = testing::exact();
  with.cache_tokens = run.cache_tokens;
  with.page_tokens = run.page_tokens;
  with.soft = toy.soft;
  toy.engine = std::make_unique<Engine>(toy.model, with);
  toy.options.rollout.guides = {std::make_shared<FeedRow>(toy.row), takes_back(toy.row)};
  toy.options.rollout.max_new_tokens = run.new_tokens;
  toy.options.rollout.sampling.temperature = 0.8f;
  toy.options.branch = run.branch;
  toy.options.inner_steps = run.inner_steps;
  toy.options.learning_rate = run.rate;
  toy.options.kl = run.kl;
  toy.options.logprobs = run.logprobs;
  toy.options.max_importance_weight = 2;
  toy.options.prompt_of = [&](const Problem& problem) {
    std::vector<TokenId> prompt = testing::ids(std::stoi(problem.question), 37);
    for (TokenId& id : prompt) id %= toy.model->vocab_size();
    return prompt;
  };
  const std::vector<float> before = toy.soft->row(toy.row);
  ExactFound found;
  found.report = toy.trainer(std::make_shared<InTurns>()).step(testing::problems(run.problems));
  const std::vector<float> after = toy.soft->row(toy.row);
  for (std::size_t i = 0; i < after.size(); ++i) found.moved.push_back(after[i] - before[i]);
  found.preemptions = toy.engine->counters().preemptions;
  return found;
}

void expect_no_gap(const std::filesystem::path& folder, const ExactRun& run) try {
  SCOPED_TRACE(fmt::format("{} on {}, {} cached, pages of {}, {} inner steps, kl {}",
                           to_string(run.precision), to_string(Device{run.device}),
                           run.cache_tokens, run.page_tokens, run.inner_steps, run.kl));
  const TrainReport report = exact_step(folder, run).report;
  EXPECT_GT(report.gradient_norm, 0);
  EXPECT_EQ(report.mean_logprob_gap, 0);
  EXPECT_EQ(report.max_logprob_gap, 0);
  EXPECT_EQ(report.mean_weight, 1) << "every first ratio is 1";
  EXPECT_EQ(report.kl_nats, 0) << "the row is where it started";
} catch (const Error& error) {
  ADD_FAILURE() << error.what() << " (" << to_string(run.precision) << ", " << run.cache_tokens
                << " cached, kl " << run.kl << ")";
}

double within(Precision precision) {
  return precision == Precision::bfloat16 ? 0.1 : precision == Precision::float16 ? 0.05 : 1e-3;
}

// The gradient of the same samples found either way.
void expect_like_fast(const std::filesystem::path& folder, ExactRun run, double bound) {
  const TrainReport exact = exact_step(folder, run).report;
  run.logprobs = Logprobs::fast;
  const TrainReport fast = exact_step(folder, run).report;
  EXPECT_EQ(exact.mean_tokens, fast.mean_tokens);
  EXPECT_NEAR(exact.gradient_norm / fast.gradient_norm, 1, bound) << to_string(run.precision);
  EXPECT_NEAR(exact.entropy_nats, fast.entropy_nats, bound) << to_string(run.precision);
}

// Pages that others share, tokens that are taken back, samples whose pages are gone.
TEST(Gap, OfExactLogprobsIsNoneOnACpu) {
  for (const Precision precision : {Precision::float32, Precision::bfloat16})
    for (const Branch branch : {Branch::at_prompt, Branch::at_soft_token}) {
      ExactRun run{.precision = precision, .branch = branch};
      expect_no_gap(PENSIVE_REASONER, run);
      run.inner_steps = 2;
      run.kl = 0.1;
      run.page_tokens = 5;
      run.cache_tokens = 200;
      expect_no_gap(PENSIVE_REASONER, run);
      EXPECT_GT(exact_step(PENSIVE_REASONER, run).preemptions, 0);
    }
  for (const char* model : {"models/plain", "models/qwen3_default"})
    for (const Precision precision : {Precision::float64, Precision::float16})
      expect_no_gap(testing::data(model), {.precision = precision, .new_tokens = 20});
}

// A small model of the R1 distillations' kind: six query heads a key head, biases, random weights,
// a vocabulary that several blocks of a card draw from.
void write_like_r1(const testing::Scratch& folder, int head_dim) {
  constexpr int heads = 6, inner = 512, layers = 3, vocab = 9001;
  const int width = heads * head_dim;
  folder.patch("config.json", {{"vocab_size", vocab},
                               {"hidden_size", width},
                               {"intermediate_size", inner},
                               {"num_hidden_layers", layers},
                               {"num_attention_heads", heads},
                               {"tie_word_embeddings", false}});
  at::Generator random = at::detail::createCPUGenerator(3);
  testing::LooseTensors all;
  const auto add = [&](const std::string& name, const std::vector<std::int64_t>& sizes) {
    const double mean = name.ends_with("norm.weight") ? 1 : 0;
    const double spread = sizes.size() == 2 ? 1 / std::sqrt(static_cast<double>(sizes[1])) : 0.1;
    const at::Tensor values =
        (mean + spread * at::randn(sizes, random, at::TensorOptions(at::kDouble)))
            .to(at::kBFloat16);
    all[name] = {
        "BF16", sizes, {static_cast<const char*>(values.const_data_ptr()), values.nbytes()}};
  };
  add("model.embed_tokens.weight", {vocab, width});
  add("lm_head.weight", {vocab, width});
  add("model.norm.weight", {width});
  for (int layer = 0; layer < layers; ++layer) {
    const std::string in = fmt::format("model.layers.{}.", layer);
    add(in + "input_layernorm.weight", {width});
    add(in + "post_attention_layernorm.weight", {width});
    add(in + "self_attn.q_proj.weight", {width, width});
    add(in + "self_attn.q_proj.bias", {width});
    for (const char* name : {"k", "v"}) {
      add(fmt::format("{}self_attn.{}_proj.weight", in, name), {head_dim, width});
      add(fmt::format("{}self_attn.{}_proj.bias", in, name), {head_dim});
    }
    add(in + "self_attn.o_proj.weight", {width, width});
    add(in + "mlp.gate_proj.weight", {inner, width});
    add(in + "mlp.up_proj.weight", {inner, width});
    add(in + "mlp.down_proj.weight", {width, inner});
  }
  folder.write("model.safetensors", testing::file_of(all));
}

TEST(Gap, OfExactLogprobsIsNoneForR1sHeads) {
  for (const int head_dim : {64, 128}) {
    const testing::Scratch folder("qwen2_default");
    write_like_r1(folder, head_dim);
    SCOPED_TRACE(head_dim);
    expect_no_gap(folder.path(), {.precision = Precision::bfloat16, .new_tokens = 24});
    if (!testing::has_cuda()) continue;
    for (const Precision precision : {Precision::bfloat16, Precision::float16}) {
      ExactRun run{
          .device = DeviceKind::cuda, .precision = precision, .problems = 8, .new_tokens = 150};
      expect_no_gap(folder.path(), run);
      expect_like_fast(folder.path(), run, within(precision));
      run.branch = Branch::at_soft_token;
      run.inner_steps = 2;
      run.kl = 0.1;
      run.cache_tokens = 3000;
      expect_no_gap(folder.path(), run);
    }
  }
}

// Where both ways have the bits of float64 they go the same way.
TEST(Gap, OfExactLogprobsLeavesTheGradient) {
  for (const Branch branch : {Branch::at_prompt, Branch::at_soft_token}) {
    ExactRun run{.branch = branch, .inner_steps = 2, .kl = 0.1};
    run.logprobs = Logprobs::fast;
    const ExactFound fast = exact_step(PENSIVE_REASONER, run);
    run.logprobs = Logprobs::exact;
    const ExactFound exact = exact_step(PENSIVE_REASONER, run);
    EXPECT_GT(fast.report.mean_logprob_gap, 0);
    EXPECT_NEAR(exact.report.gradient_norm / fast.report.gradient_norm, 1, 1e-4);
    EXPECT_NEAR(exact.report.loss, fast.report.loss, 1e-5);
    EXPECT_NEAR(exact.report.entropy_nats, fast.report.entropy_nats, 1e-4);
    EXPECT_EQ(exact.report.mean_reward, fast.report.mean_reward);
  }
}

TEST(Gap, OfExactLogprobsIsNoneOnACard) {
  if (!testing::has_cuda()) GTEST_SKIP() << "no CUDA device";
  for (const Precision precision :
       {Precision::bfloat16, Precision::float16, Precision::float32, Precision::float64}) {
    ExactRun run{.device = DeviceKind::cuda, .precision = precision, .problems = 6};
    expect_no_gap(PENSIVE_REASONER, run);
    expect_like_fast(PENSIVE_REASONER, run, within(precision));
    run.branch = Branch::at_soft_token;
    run.inner_steps = 2;
    run.kl = 0.1;
    run.page_tokens = 5;
    run.cache_tokens = 400;
    expect_no_gap(PENSIVE_REASONER, run);
  }
}

// Rounding to bfloat16 between kernels that sum in other orders is what is left; logits and what
// layers add up are float32 on both sides.
TEST(Gap, BetweenEngineAndTrainerIsBounded) {
  if (!testing::has_cuda()) GTEST_SKIP() << "no CUDA device";
  for (const Arithmetic arithmetic : {Arithmetic::fast, Arithmetic::row_invariant})
    for (const auto& [precision, mean, largest] : {std::tuple{Precision::bfloat16, 1e-2, 0.8},
                                                   {Precision::float16, 2e-3, 0.2},
                                                   {Precision::float32, 1e-5, 1e-3}})
      for (const float temperature : {1.0f, 0.6f}) {
        const TrainReport report =
            report_of(PENSIVE_REASONER, DeviceKind::cuda, precision, arithmetic, temperature);
        EXPECT_GT(report.gradient_norm, 0);
        EXPECT_GT(report.mean_logprob_gap, 0);
        EXPECT_LT(report.mean_logprob_gap, mean) << to_string(precision) << " at " << temperature;
        EXPECT_LT(report.max_logprob_gap, largest) << to_string(precision) << " at " << temperature;
        std::cout << to_string(precision)
                  << (arithmetic == Arithmetic::fast ? ", fast" : ", row-invariant") << ", at "
                  << temperature << ": " << report.mean_logprob_gap << " in the mean, "
                  << report.max_logprob_gap << " at most\n";
      }
}

}  // namespace
}  // namespace pensive
