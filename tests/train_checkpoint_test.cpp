// Checkpoints of a training run: resumed bit for bit, or refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>

#include "train_toy.h"

namespace pensive {
namespace {

using testing::expect_error;
using testing::problems;
using testing::Toy;

// A run of one step, which `file` holds.
class SavedRun : public ::testing::Test {
 protected:
  SavedRun() {
    trainer.step(problems(2));
    trainer.save_checkpoint(file);
  }

  const testing::TempDir folder;
  const std::filesystem::path file = folder / "run.json";
  Toy toy;
  Trainer trainer = toy.trainer();
};

void expect_resumed(Logprobs logprobs) {
  const testing::TempDir folder;
  const std::filesystem::path file = folder / "run.json";
  const auto toy_of = [&] {
    auto toy = std::make_unique<Toy>();
    toy->options.total_steps = 6;
    toy->options.inner_steps = 2;
    toy->options.logprobs = logprobs;
    toy->options.seed = 0xfedcba9876543210u;
    return toy;
  };
  const auto whole = toy_of();
  Trainer uninterrupted = whole->trainer();
  std::vector<double> losses;
  for (int step = 0; step < 6; ++step) losses.push_back(uninterrupted.step(problems(4)).loss);

  const auto first = toy_of();
  {
    Trainer trainer = first->trainer();
    for (int step = 0; step < 3; ++step) trainer.step(problems(4));
    trainer.save_checkpoint(file);
  }
  const auto second = toy_of();
  Trainer resumed = second->trainer();
  resumed.resume(file);
  EXPECT_EQ(resumed.steps_done(), 3);
  EXPECT_EQ(second->soft->row(second->row), first->soft->row(first->row));
  for (int step = 3; step < 6; ++step) EXPECT_EQ(resumed.step(problems(4)).loss, losses[step]);
  EXPECT_EQ(second->soft->row(second->row), whole->soft->row(whole->row));
}

TEST(Checkpoint, ResumesBitForBit) { expect_resumed(Logprobs::fast); }

TEST(Checkpoint, ResumesBitForBitWithExactLogprobs) { expect_resumed(Logprobs::exact); }

// Checkpoints from before there was a choice do not tell.
TEST_F(SavedRun, TellsHowLogprobsAreFound) {
  Toy other;
  other.options.logprobs = Logprobs::exact;
  Trainer changed = other.trainer();
  expect_error(ErrorCode::invalid_argument, "logprobs = exact", [&] { changed.resume(file); });
  expect_error(ErrorCode::invalid_argument, "fast", [&] { changed.resume(file); });
  nlohmann::ordered_json json = parse_json(read_text(file), file.string());
  ASSERT_EQ(json["settings"].erase("logprobs"), 1u);
  testing::write_file(file, json.dump());
  expect_error(ErrorCode::invalid_argument, "logprobs = exact", [&] { changed.resume(file); });
  Toy same;
  Trainer resumed = same.trainer();
  resumed.resume(file);
  EXPECT_EQ(resumed.steps_done(), 1);
}

// As it would be from before the checkpoint told `key` of `part`, or of itself where that is empty.
std::string without(const std::string& text, const std::string& part, const std::string& key) {
  nlohmann::ordered_json json = parse_json(text, "checkpoint");
  EXPECT_EQ((part.empty() ? json : json[part]).erase(key), 1u);
  return json.dump();
}

TEST_F(SavedRun, OfAnotherPrecisionOrArithmeticIsRefused) {
  const std::string whole = testing::read_file(file);

  EngineOptions fast = testing::exact();
  fast.arithmetic = Arithmetic::fast;
  Toy faster(fast);
  Trainer fast_one = faster.trainer();
  testing::write_tiny(folder.path());
  Toy wider(
      testing::exact(), 1,
      Model::load(folder.path(), {.device = {DeviceKind::cpu}, .precision = Precision::float64}));
  Trainer wide_one = wider.trainer();
  using enum ErrorCode;
  expect_error(invalid_argument, "arithmetic = fast", [&] { fast_one.resume(file); });
  expect_error(invalid_argument, "\"row-invariant\"", [&] { fast_one.resume(file); });
  expect_error(invalid_argument, "precision = float64", [&] { wide_one.resume(file); });
  expect_error(invalid_argument, "\"float32\"", [&] { wide_one.resume(file); });
  EXPECT_EQ(fast_one.steps_done() + wide_one.steps_done(), 0);

  testing::write_file(file, without(whole, "settings", "arithmetic"));
  fast_one.resume(file);
  testing::write_file(file, without(whole, "settings", "precision"));
  wide_one.resume(file);
  EXPECT_EQ(fast_one.steps_done() + wide_one.steps_done(), 2);
}

// Of prompts of 20 and 21 tokens and 12 more, 33 positions tell caches apart.
TEST(Checkpoint, OfACacheThatEndsSequencesElsewhereIsRefused) {
  const testing::TempDir folder;
  const std::filesystem::path file = folder / "run.json";
  const auto toy_of = [](std::int64_t cache_tokens) {
    EngineOptions with = testing::exact();
    with.cache_tokens = cache_tokens;
    return std::make_unique<Toy>(with);
  };
  const auto small = toy_of(32), enough = toy_of(48), large = toy_of(4096);
  const auto save = [&](Toy& toy) {
    Trainer trainer = toy.trainer();
    trainer.step(problems(2));
    trainer.save_checkpoint(file);
  };
  const auto resumed = [&](Toy& toy) {
    Trainer trainer = toy.trainer();
    trainer.resume(file);
    return trainer.steps_done();
  };
  using enum ErrorCode;
  save(*enough);
  EXPECT_EQ(resumed(*large), 1);
  expect_error(invalid_argument, "the 33 positions", [&] { resumed(*small); });
  expect_error(invalid_argument, "one for 32", [&] { resumed(*small); });
  save(*small);
  EXPECT_EQ(resumed(*small), 1);
  expect_error(invalid_argument, "at 32 positions", [&] { resumed(*large); });
  expect_error(invalid_argument, "one for 512", [&] { resumed(*large); });
  testing::write_file(file, without(testing::read_file(file), "", "longest"));
  EXPECT_EQ(resumed(*large), 1);

  const auto fresh = toy_of(32);
  const Trainer untouched = fresh->trainer();
  untouched.save_checkpoint(file);
  EXPECT_EQ(resumed(*large), 0) << "before the first step nothing is decided";
}

TEST(Checkpoint, RemembersWhereTheRowStarted) {
  const testing::TempDir folder;
  const std::filesystem::path file = folder / "run.json";
  Toy toy;
  const std::vector<float> start = toy.soft->row(toy.row);
  Trainer trainer = toy.trainer();
  trainer.step(problems(4));
  trainer.save_checkpoint(file);
  EXPECT_NE(toy.soft->row(toy.row), start);
  EXPECT_EQ(trainer.start_row(), start);
  Trainer again = toy.trainer();
  EXPECT_NE(again.start_row(), start);
  again.resume(file);
  EXPECT_EQ(again.start_row(), start);
}

TEST_F(SavedRun, OfAnotherRunIsRefusedNamingBothValues) {
  Toy other;
  other.options.learning_rate = 0.25;
  Trainer changed = other.trainer();
  expect_error(ErrorCode::invalid_argument, "learning_rate = 0.25", [&] { changed.resume(file); });
  expect_error(ErrorCode::invalid_argument, "\"0.1\"", [&] { changed.resume(file); });
  EXPECT_EQ(changed.steps_done(), 0);
  Toy renamed;
  renamed.row = renamed.soft->add("OTHER", std::vector<TokenId>{5});
  Trainer another_row = renamed.trainer();
  expect_error(ErrorCode::invalid_argument, "ROW", [&] { another_row.resume(file); });
}

TEST_F(SavedRun, OfOtherRolloutsIsRefused) {
  const auto expect_refused = [&](const std::string& says, auto change) {
    Toy other;
    change(other.options);
    Trainer changed = other.trainer();
    expect_error(ErrorCode::invalid_argument, says, [&] { changed.resume(file); });
    EXPECT_EQ(changed.steps_done(), 0);
  };
  expect_refused("guides = ", [](TrainOptions& o) { o.rollout.guides.clear(); });
  expect_refused("max_new_tokens = 13", [](TrainOptions& o) { o.rollout.max_new_tokens = 13; });
  expect_refused("ignore_end_tokens = ", [](TrainOptions& o) {
    o.rollout.ignore_end_tokens = !o.rollout.ignore_end_tokens;
  });
  expect_refused("extra_stop_tokens = 7 9", [](TrainOptions& o) {
    o.rollout.extra_stop_tokens = {7, 9};
  });
  expect_refused("begins_in = answer",
                 [](TrainOptions& o) { o.rollout.begins_in = Segment::answer; });
  expect_refused("markers = ", [](TrainOptions& o) {
    o.rollout.markers =
        Markers{.think_open = {4}, .think_close = {5}, .answer_open = {}, .answer_close = {}};
  });
  expect_refused("closing = 6 11", [](TrainOptions& o) { o.rollout.closing = {6, 11}; });
  expect_refused("prompt of problem 0", [](TrainOptions& o) {
    o.prompt_of = [of = o.prompt_of](const Problem& problem) {
      std::vector<TokenId> prompt = of(problem);
      prompt.insert(prompt.begin(), 3);
      return prompt;
    };
  });
}

// No file may grow beyond so many bytes, as on a disk that is full.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FullDisk() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST(Checkpoint, OfAFullDiskIsTheOneBefore) {
  const testing::TempDir folder;
  const std::filesystem::path file = folder / "run.json", rows = folder / "rows.safetensors";
  Toy toy;
  Trainer trainer = toy.trainer();
  trainer.step(problems(2));
  trainer.save_checkpoint(file);
  toy.soft->save(rows);
  const std::string before = read_text(file), rows_before = read_text(rows);
  trainer.step(problems(2));
  {
    const FullDisk full(16);
    expect_error(ErrorCode::io, "run.json", [&] { trainer.save_checkpoint(file); });
    expect_error(ErrorCode::io, "rows.safetensors", [&] { toy.soft->save(rows); });
  }
  EXPECT_EQ(read_text(file), before);
  EXPECT_EQ(read_text(rows), rows_before);
  const std::filesystem::directory_iterator files(folder.path());
  EXPECT_EQ(std::distance(begin(files), end(files)), 2) << "no half of a file is left";
  trainer.save_checkpoint(file);
  EXPECT_NE(read_text(file), before);
}

TEST(Checkpoint, HoldsProblemsThatAreNotText) {
  const testing::TempDir folder;
  const std::filesystem::path file = folder / "run.json";
  Toy toy;
  toy.options.prompt_of = [](const Problem& problem) {
    return testing::ids(static_cast<int>(problem.id.size()), 20);
  };
  std::vector<Problem> list = problems(2);
  list[0].id = "\xff\xfe";
  Trainer trainer = toy.trainer();
  trainer.save_checkpoint(file);  // before the first step there is no problem
  trainer.resume(file);
  trainer.step(list);
  trainer.save_checkpoint(file);
  trainer.resume(file);
  EXPECT_EQ(trainer.steps_done(), 1);
}

TEST_F(SavedRun, ThatIsDamagedIsRefusedAndChangesNothing) {
  const std::string good = testing::read_file(file);
  const std::vector<float> row = toy.soft->row(toy.row);
  const auto expect_refused = [&](const std::string& from, const std::string& to, ErrorCode code) {
    std::string bad = good;
    const std::size_t at = bad.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    bad.replace(at, from.size(), to);
    testing::write_file(file, bad);
    expect_error(code, "run.json", [&] { trainer.resume(file); });
    EXPECT_EQ(toy.soft->row(toy.row), row);
    EXPECT_EQ(trainer.steps_done(), 1);
  };
  using enum ErrorCode;
  expect_refused("\"pensive_training\": 3", "\"pensive_training\": 9", unsupported);
  expect_refused("\"steps\": 1", "\"steps\": -1", corrupt_file);
  expect_refused("\"steps\": 1", "\"steps\": \"1\"", corrupt_file);
  expect_refused("\"updates\": 1", "\"updates\": 0", corrupt_file);
  expect_refused("\"first_moment\": [", "\"first_moment\": [1.0, ", corrupt_file);
  expect_refused("\"second_moment\": [", "\"second_moment\": [null, ", corrupt_file);
  expect_refused("\"row\": [", "\"row\": [0, ", corrupt_file);
  expect_refused("\"question\"", "\"quest\"", corrupt_file);
  expect_refused("\"target_tokens\": 0", "\"target_tokens\": -1", corrupt_file);
  expect_refused("\"intermediates\": []", "\"intermediates\": [4]", corrupt_file);
  expect_refused("\"report\": {", "\"reports\": {", corrupt_file);
  expect_refused("\"step\": 1", "\"step\": 2", corrupt_file);
  expect_refused("\"best_step\": 0", "\"best_step\": -1", corrupt_file);
  expect_refused("\"mean_reward\": ", "\"mean_reward\": \"\", \"x\": ", corrupt_file);
  expect_refused("\"held\": ", "\"held\": -", corrupt_file);
  expect_refused("\"longest\": {", "\"longest\": 4, \"x\": {", corrupt_file);
  expect_refused("\"settings\": {", "\"settings\": {\"surprise\": \"1\", ", unsupported);
  testing::write_file(file, good.substr(0, good.size() / 2));
  expect_error(corrupt_file, "run.json", [&] { trainer.resume(file); });
  expect_error(not_found, "nowhere", [&] { trainer.resume(folder / "nowhere"); });
  testing::write_file(file, good);
  trainer.resume(file);
}

}  // namespace
}  // namespace pensive
