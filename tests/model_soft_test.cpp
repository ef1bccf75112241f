// SoftVocab: rows beyond the vocabulary, their version, their file.
#include <atomic>
#include <cmath>
#include <thread>

#include "model_helpers.h"
#include "pensive/model.h"

namespace pensive {
namespace {

using namespace pensive::testing;
using ::testing::HasSubstr;

std::shared_ptr<const Model> load(const std::string& name,
                                  Precision precision = Precision::as_stored) {
  return Model::load(model_folder(name), {.device = {DeviceKind::cpu}, .precision = precision});
}

class SoftRows : public ::testing::Test {
 protected:
  SoftRows() : model_(load("plain")), soft_(model_) {}
  std::vector<float> embedding(TokenId id) const {
    const at::Tensor row = model_->parts().decoder->embed(at::tensor({id}, at::kLong));
    const at::Tensor exact = row.to(at::kFloat).contiguous();
    const float* first = exact.const_data_ptr<float>();
    return {first, first + exact.numel()};
  }
  std::shared_ptr<const Model> model_;
  SoftVocab soft_;
  const std::vector<TokenId> start_ = {5, 9};
};

TEST_F(SoftRows, StartAtTheMeanAndAnswerToIdsAboveTheVocabulary) {
  EXPECT_EQ(soft_.size(), 0);
  EXPECT_EQ(soft_.add("first", start_), 64);
  EXPECT_EQ(soft_.add("second", std::vector<TokenId>{7}), 65);
  EXPECT_EQ(soft_.size(), 2);
  EXPECT_EQ(soft_.find("second"), 65);
  EXPECT_EQ(soft_.find("third"), std::nullopt);
  EXPECT_EQ(soft_.name(64), "first");
  EXPECT_EQ(soft_.row(65), embedding(7));
  const std::vector<float> a = embedding(5), b = embedding(9), mean = soft_.row(64);
  for (std::size_t i = 0; i < mean.size(); ++i) EXPECT_FLOAT_EQ(mean[i], (a[i] + b[i]) / 2);
}

TEST_F(SoftRows, BadArgumentsAreNamedAndChangeNothing) {
  soft_.add("taken", start_);
  const std::uint64_t before = soft_.version();
  const auto refused = [](auto work) { return error_of(ErrorCode::invalid_argument, work); };
  refused([&] { soft_.add("", start_); });
  refused([&] { soft_.add("\xff", start_); });
  refused([&] { soft_.add("none", {}); });
  EXPECT_THAT(refused([&] { soft_.add("taken", start_); }), HasSubstr("taken"));
  EXPECT_THAT(refused([&] { soft_.add("x", std::vector<TokenId>{64}); }), HasSubstr("64"));
  EXPECT_THAT(refused([&] { soft_.add("x", std::vector<TokenId>{-1}); }), HasSubstr("-1"));
  for (const TokenId id : {63, 65, -1, 2147483647}) {
    EXPECT_THAT(refused([&] { soft_.row(id); }), HasSubstr(std::to_string(id)));
    refused([&] { soft_.name(id); });
    refused([&] { soft_.set_row(id, std::vector<float>(32)); });
  }
  refused([&] { soft_.set_row(64, std::vector<float>(31)); });
  refused([&] { soft_.set_row(64, std::vector<float>(32, NAN)); });
  refused([&] { soft_.set_row(64, std::vector<float>(32, INFINITY)); });
  refused([&] { SoftVocab none(nullptr); });
  EXPECT_EQ(soft_.size(), 1);
  EXPECT_EQ(soft_.version(), before);
}

TEST_F(SoftRows, VersionFollowsTheBits) {
  const std::uint64_t empty = soft_.version();
  const TokenId id = soft_.add("word", start_);
  const std::uint64_t first = soft_.version();
  EXPECT_NE(first, empty);
  std::vector<float> row = soft_.row(id);
  soft_.set_row(id, row);
  EXPECT_EQ(soft_.version(), first);
  const float kept = row[3];
  row[3] = std::nextafter(kept, 10.0f);
  soft_.set_row(id, row);
  EXPECT_NE(soft_.version(), first);
  row[3] = kept;
  soft_.set_row(id, row);
  EXPECT_EQ(soft_.version(), first);
}

TEST(SoftVocab, VersionFollowsTheRoundedBits) {
  const auto model = load("linear");
  ASSERT_EQ(model->info().precision, Precision::bfloat16);
  SoftVocab soft(model);
  const TokenId id = soft.add("word", std::vector<TokenId>{5});
  const std::uint64_t before = soft.version();
  std::vector<float> row = soft.row(id);
  row[0] = std::nextafter(row[0], 10.0f);
  soft.set_row(id, row);
  EXPECT_EQ(soft.version(), before);
  EXPECT_EQ(soft.row(id), row);  // the fine bits are kept
  row[0] *= 1.1f;
  soft.set_row(id, row);
  EXPECT_NE(soft.version(), before);
}

TEST_F(SoftRows, SnapshotsDoNotChange) {
  const TokenId id = soft_.add("word", start_);
  const auto before = soft_.rows();
  const at::Tensor copy = before->master.clone();
  soft_.set_row(id, std::vector<float>(32, 1.0f));
  soft_.add("more", start_);
  EXPECT_TRUE(before->master.equal(copy));
  EXPECT_EQ(before->rounded.size(0), 1);
  EXPECT_EQ(soft_.rows()->rounded.size(0), 2);
  EXPECT_FALSE(soft_.rows()->rounded.is_inference());
}

TEST_F(SoftRows, SnapshotsAreTakenWhileRowsChange) {
  const TokenId id = soft_.add("word", start_);
  soft_.set_row(id, std::vector<float>(32));
  std::atomic<bool> is_done = false;
  std::atomic<int> torn = 0;
  std::thread reader([&] {
    while (!is_done) {
      const auto rows = soft_.rows();
      const float first = rows->master[0][0].item<float>();
      const bool is_whole =
          (rows->master == first).all().item<bool>() && (rows->rounded == first).all().item<bool>();
      if (!is_whole) ++torn;
    }
  });
  for (int round = 0; round < 200; ++round)
    soft_.set_row(id, std::vector<float>(32, static_cast<float>(round)));
  is_done = true;
  reader.join();
  EXPECT_EQ(torn, 0);
  EXPECT_EQ(soft_.row(id), std::vector<float>(32, 199.0f));
}

TEST_F(SoftRows, EmbedTakesSoftIdsFromTheSnapshot) {
  const TokenId id = soft_.add("word", start_);
  std::vector<float> row(32);
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = 0.25f * static_cast<float>(i);
  soft_.set_row(id, row);
  const auto rows = soft_.rows();
  const at::Tensor ids = at::tensor({3, id, 4, id}, at::kLong);
  const at::Tensor out = embed(*model_, rows.get(), ids);
  ASSERT_EQ(out.sizes(), (at::IntArrayRef{4, 32}));
  const at::Tensor hard = model_->parts().decoder->embed(at::tensor({3, 4}, at::kLong));
  EXPECT_TRUE(out[0].equal(hard[0]));
  EXPECT_TRUE(out[2].equal(hard[1]));
  EXPECT_TRUE(out[1].equal(rows->rounded[0]));
  EXPECT_TRUE(out[3].equal(rows->rounded[0]));
  EXPECT_EQ(embed(*model_, rows.get(), at::empty({0}, at::kLong)).size(0), 0);
}

TEST_F(SoftRows, EmbedRefusesIdsOutsideWithTheLimit) {
  soft_.add("word", start_);
  const auto rows = soft_.rows();
  const auto refused = [&](const SoftVocab::Rows* given, std::int64_t id) {
    return error_of(ErrorCode::invalid_argument, [&] {
      embed(*model_, given, at::tensor({std::int64_t{1}, id}, at::kLong));
    });
  };
  EXPECT_THAT(refused(rows.get(), 65), AllOf(HasSubstr("65"), HasSubstr("1 soft")));
  EXPECT_THAT(refused(nullptr, 64), AllOf(HasSubstr("64"), HasSubstr("0 soft")));
  EXPECT_THAT(refused(rows.get(), -1), HasSubstr("-1"));
}

class SoftFile : public SoftRows {
 protected:
  SoftFile() {
    soft_.add("keep \"going\" ü", start_);
    soft_.add("second", std::vector<TokenId>{7});
    std::vector<float> row = soft_.row(64);
    row[1] = 1.0f / 3;
    soft_.set_row(64, row);
    soft_.save(file_, R"({"steps": 12})");
  }
  // Saves the file again with other metadata.
  void rewrite(const std::string& key, const std::string& value) const {
    std::map<std::string, std::string> metadata = TensorFile(file_).metadata();
    metadata[key] = value;
    folder_.write("word.safetensors", to_safetensors("rows", soft_.rows()->master, metadata));
  }
  std::string error_now(ErrorCode code = ErrorCode::corrupt_file) const {
    return error_of(code, [&] { SoftVocab::load(model_, file_); });
  }

  Scratch folder_;
  fs::path file_ = folder_.path() / "word.safetensors";
};

TEST_F(SoftFile, IsReadAsItWasSaved) {
  const auto back = SoftVocab::load(model_, file_);
  EXPECT_EQ(back->size(), 2);
  EXPECT_EQ(back->find("keep \"going\" ü"), 64);
  EXPECT_EQ(back->row(64), soft_.row(64));
  EXPECT_EQ(back->row(65), soft_.row(65));
  EXPECT_EQ(back->version(), soft_.version());
  EXPECT_EQ(TensorFile(file_).metadata().at("training"), R"({"steps": 12})");
}

TEST_F(SoftFile, OfNoRowsIsReadToo) {
  SoftVocab none(model_);
  none.save(file_);
  EXPECT_EQ(SoftVocab::load(model_, file_)->size(), 0);
}

TEST_F(SoftFile, FitsTheSameModelInAnotherPrecision) {
  const auto rough = load("plain", Precision::bfloat16);
  const auto back = SoftVocab::load(rough, file_);
  EXPECT_EQ(back->row(64), soft_.row(64));
  EXPECT_NE(back->version(), soft_.version());
}

TEST_F(SoftFile, OfAnotherModelIsRefusedNamingBoth) {
  const auto other = load("llama3");
  const std::string message =
      error_of(ErrorCode::invalid_argument, [&] { SoftVocab::load(other, file_); });
  EXPECT_THAT(message, HasSubstr(fmt::format("{:016x}", other->info().fingerprint)));
  EXPECT_THAT(message, HasSubstr(fmt::format("{:016x}", model_->info().fingerprint)));
  EXPECT_THAT(message, HasSubstr("width 32"));
}

TEST_F(SoftFile, OfAnotherModelIsTakenWhereThatIsAskedForAndItFits) {
  const auto other = load("llama3");
  const auto carried = SoftVocab::load(other, file_, OtherModel::allow);
  EXPECT_EQ(carried->row(other->vocab_size()), soft_.row(64));
  const std::string from = fmt::format("{:016x}", model_->info().fingerprint);
  EXPECT_THAT(carried->carried_from(), HasSubstr(from));
  carried->save(file_);  // now rows of the other model, which remember where they are from
  EXPECT_THAT(SoftVocab::load(other, file_)->carried_from(), HasSubstr(from));
  EXPECT_EQ(soft_.carried_from(), "");
  soft_.save(file_);
  rewrite("width", "31");
  const std::string message = error_of(ErrorCode::invalid_argument,
                                       [&] { SoftVocab::load(model_, file_, OtherModel::allow); });
  EXPECT_THAT(message, HasSubstr("width 31"));
}

TEST_F(SoftFile, KeepsWhatItsRowsStartedAs) {
  EXPECT_EQ(SoftVocab::load(model_, file_)->start(64), start_);
  EXPECT_EQ(SoftVocab::load(model_, file_)->start(65), std::vector<TokenId>{7});
  rewrite("starts", "[[1]]");
  EXPECT_THAT(error_now(), HasSubstr("2 lists of ids"));
  rewrite("starts", R"([["a"], [7]])");
  EXPECT_THAT(error_now(), HasSubstr("2 lists of ids"));
}

TEST_F(SoftFile, ARowStartedAsTokensThatThereAre) {
  for (const char* id : {"-9", "64", "2147483648", "4294967299", "18446744073709551615"}) {
    rewrite("starts", fmt::format("[[5,{}],[]]", id));
    EXPECT_THAT(error_now(), AllOf(HasSubstr("below 64"), HasSubstr(id)));
  }
  rewrite("starts", "[[5,63],[]]");
  EXPECT_EQ(SoftVocab::load(model_, file_)->start(64), (std::vector<TokenId>{5, 63}));
  // Carried from a model of more tokens.
  rewrite("carried_from", "another");
  rewrite("starts", "[[5,2147483647],[]]");
  EXPECT_EQ(SoftVocab::load(model_, file_)->start(64), (std::vector<TokenId>{5, 2147483647}));
  rewrite("starts", "[[5,2147483648],[]]");
  EXPECT_THAT(error_now(), HasSubstr("below 2147483648"));
}

TEST_F(SoftFile, BrokenMetadataIsNamed) {
  rewrite("format", "something");
  EXPECT_THAT(error_now(), HasSubstr("something"));
  rewrite("format", "pensive-soft-vocab");
  rewrite("format_version", "2");
  EXPECT_THAT(error_now(ErrorCode::unsupported), HasSubstr("format_version"));
  rewrite("format_version", "1");
  for (const char* names :
       {"", "{}", "[1,2]", "[\"a\",\"\"]", "[\"a\",\"a\"]", "[\"a\"]", "[\"a\",\"b\",\"c\"]"}) {
    rewrite("names", names);
    error_now();
  }
  rewrite("names", "[\"a\",\"b\"]");
  EXPECT_EQ(SoftVocab::load(model_, file_)->size(), 2);
  rewrite("rows_hash", "0123456789abcdef");
  EXPECT_THAT(error_now(), HasSubstr("0123456789abcdef"));
}

TEST_F(SoftFile, OrdinaryTensorsAreNotRows) {
  fs::copy_file(model_folder("plain") / "model.safetensors", file_,
                fs::copy_options::overwrite_existing);
  EXPECT_THAT(error_now(), HasSubstr("format"));
  fs::remove(file_);
  error_now(ErrorCode::not_found);
}

TEST_F(SoftFile, DamagedAnywhereIsAnErrorOrHarmless) {
  const std::string good = read_text(file_);
  for (std::size_t i = 0; i < good.size(); ++i) {
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ (1 << i % 8));
    folder_.write("word.safetensors", bad);
    try {
      // Only names and the reader's own JSON are free to differ.
      EXPECT_EQ(SoftVocab::load(model_, file_)->version(), soft_.version()) << "byte " << i;
    } catch (const Error&) {
    }
    folder_.write("word.safetensors", good.substr(0, i));
    EXPECT_THROW(SoftVocab::load(model_, file_), Error) << "cut at " << i;
  }
}

TEST_F(SoftFile, SavingRefusesWhatIsNoObjectAndFoldersThatAreNotThere) {
  for (const char* training : {"[]", "3", "{", "{\"a\":1,\"a\":2}"})
    error_of(ErrorCode::invalid_argument, [&] { soft_.save(file_, training); });
  EXPECT_THROW(soft_.save(folder_.path() / "no" / "such" / "folder"), Error);
  EXPECT_EQ(SoftVocab::load(model_, file_)->size(), 2);  // the old file is whole
}

TEST(SoftVocab, ARowThatFloat16CannotHoldIsRefused) {
  const auto model = Model::load(model_folder("half"), {.device = {DeviceKind::cpu}});
  ASSERT_EQ(model->info().precision, Precision::float16);
  SoftVocab soft(model);
  const TokenId id = soft.add("row", std::vector<TokenId>{5});
  const std::uint64_t before = soft.version();
  EXPECT_NO_THROW(soft.set_row(id, std::vector<float>(32, 65504)));
  soft.set_row(id, std::vector<float>(32, 1));
  EXPECT_THAT(error_of(ErrorCode::invalid_argument,
                       [&] { soft.set_row(id, std::vector<float>(32, 1e5f)); }),
              HasSubstr("float16"));
  EXPECT_EQ(soft.row(id), std::vector<float>(32, 1));
  EXPECT_NE(soft.version(), before);
}

}  // namespace
}  // namespace pensive
