// A soft row as a token of its own, in a folder that other programs load.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "pensive/engine.h"
#include "testing.h"

namespace pensive {
namespace {

using ::testing::HasSubstr;

class Export : public ::testing::Test {
 protected:
  Export() {
    row = soft->add("continue", model->tokenizer()->encode("Wait, ", {AddSpecial::no}));
    std::vector<float> values = soft->row(row);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] += .01f * static_cast<float>(i % 7);
    soft->set_row(row, values);
  }
  const testing::TempDir folder;
  const std::shared_ptr<const Model> model = Model::load(PENSIVE_REASONER);
  const std::shared_ptr<SoftVocab> soft = std::make_shared<SoftVocab>(model);
  TokenId row = 0;
};

TEST_F(Export, LoadsAsAnyCheckpoint) {
  const Exported exported = export_token(*soft, row, folder / "out");
  EXPECT_EQ(exported.token, "<|continue|>");
  EXPECT_EQ(exported.id, model->vocab_size());
  const auto copy = Model::load(folder / "out");
  EXPECT_EQ(copy->vocab_size(), model->vocab_size() + 1);
  EXPECT_FALSE(copy->info().is_tied);
  EXPECT_EQ(copy->tokenizer()->encode("Wait, <|continue|>", {AddSpecial::no}).back(), exported.id);
  EXPECT_TRUE(copy->tokenizer()->is_special(exported.id));
  EXPECT_EQ(copy->info().precision, model->info().precision);
  const auto size =
      static_cast<std::int64_t>(std::filesystem::file_size(folder / "out/model.safetensors"));
  EXPECT_GT(size, exported.weight_bytes);
  EXPECT_LT(size, exported.weight_bytes + 16384) << "a header";
  const std::int64_t row_bytes = 2 * model->info().width;
  ASSERT_FALSE(model->info().is_tied);
  EXPECT_EQ(exported.added_bytes, 2 * row_bytes) << "one for the embedding, one for the head";
}

// Differences of logprobs are differences of logits, which the one token more does not change.
TEST_F(Export, ReadsTheTokenAsTheRow) {
  const Exported exported = export_token(*soft, row, folder / "out");
  const auto copy = Model::load(folder / "out");
  Engine ours(model, {.soft = soft, .arithmetic = Arithmetic::row_invariant});
  Engine theirs(copy, {.arithmetic = Arithmetic::row_invariant});
  const std::vector<TokenId> before =
      model->tokenizer()->encode("57 + 23 * 11 = 80; So 80\n", {AddSpecial::no});
  const auto gap = [&](Engine& engine, TokenId token, TokenId next) {
    std::vector<TokenId> prompt = before;
    prompt.push_back(token);
    constexpr TokenId pivot = 8;
    return engine.score(prompt, {{next}})[0] - engine.score(prompt, {{pivot}})[0];
  };
  for (TokenId next = 9; next < model->vocab_size(); ++next)
    EXPECT_NEAR(gap(ours, row, next), gap(theirs, exported.id, next), 1e-4) << "token " << next;
}

TEST_F(Export, IsNeverChosenWhereSuppressedTokensAreHeeded) {
  const Exported exported = export_token(*soft, row, folder / "out");
  const std::string generation = testing::read_file(folder / "out/generation_config.json");
  EXPECT_THAT(generation, HasSubstr("suppress_tokens"));
  EXPECT_THAT(generation, HasSubstr(std::to_string(exported.id)));
  EXPECT_THAT(testing::read_file(folder / "out/config.json"),
              HasSubstr("\"tie_word_embeddings\": false"));
}

TEST_F(Export, RefusesWhatItCannotDo) {
  testing::write_file(folder / "file", "no folder");
  EXPECT_ERROR(export_token(*soft, 5, folder / "out"), ErrorCode::invalid_argument, "");
  EXPECT_ERROR(export_token(*soft, row, folder / "out", {.token = "<think>"}),
               ErrorCode::invalid_argument, "<think>");
  EXPECT_ERROR(export_token(*soft, row, folder / "file/out"), ErrorCode::io, "file");
  EXPECT_FALSE(std::filesystem::exists(folder / "out"));
  export_token(*soft, row, folder / "out");
  EXPECT_ERROR(export_token(*soft, row, folder / "out"), ErrorCode::invalid_argument,
               "does not exist yet");
}

TEST_F(Export, LeavesNothingBehindWhereItFails) {
  const std::filesystem::path copy = folder / "model";
  std::filesystem::copy(PENSIVE_REASONER, copy, std::filesystem::copy_options::recursive);
  const auto other = Model::load(copy);
  auto rows = std::make_shared<SoftVocab>(other);
  const TokenId id = rows->add("continue", {{9}});
  testing::write_file(copy / "generation_config.json", "{ broken");
  EXPECT_ERROR(export_token(*rows, id, folder / "out"), ErrorCode::corrupt_file,
               "generation_config.json");
  const std::filesystem::directory_iterator left(folder / "");
  EXPECT_EQ(std::distance(begin(left), end(left)), 1) << "the checkpoint alone";
}

TEST_F(Export, LeavesOthersAlone) {
  std::filesystem::create_directories(folder / "out.part");
  testing::write_file(folder / "out.part/work", "of somebody");
  export_token(*soft, row, folder / "out/");
  EXPECT_TRUE(std::filesystem::exists(folder / "out/model.safetensors"));
  EXPECT_EQ(testing::read_file(folder / "out.part/work"), "of somebody");
  EXPECT_ERROR(export_token(*soft, row, folder / "out/."), ErrorCode::invalid_argument, "exist");
  EXPECT_ERROR(export_token(*soft, row, ""), ErrorCode::invalid_argument, "exist");
}

}  // namespace
}  // namespace pensive
