// The three minutes that show the point: a frozen model, a learned word, a table.
#include <fmt/core.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "demo.h"
#include "exam_page.h"
#include "pensive/exam.h"
#include "pensive/train.h"
#include "shell.h"

namespace pensive::shell {
namespace {

constexpr const char* learned_name = "[learned] ";

struct Flags {
  ModelFlags model;
  // The best word, and the best of all words and phrases: examples/reasoner/README.md.
  std::string word = "Wait", phrase = "Wait, Alternatively, ";
  float brake = 1.2f;
  int problems = 400, side_problems = 200, steps = 40, prompts = 24, group = 8;
  double rate = 0.03;
  std::uint64_t seed = 1;
  std::string results, pages;
};

// What one line of the table is.
struct Arm {
  std::string name, system, word;
  int times = 0;
  bool is_braked = false;
};

struct Demo {
  const Flags& flags;
  std::shared_ptr<const Model> model;
  std::shared_ptr<SoftVocab> soft;
  TokenId row;
  Engine engine;
  std::vector<Problem> train, test;

  explicit Demo(const Flags& given)
      : flags(given),
        model(flags.model.load()),
        soft(std::make_shared<SoftVocab>(model)),
        row(soft->add(learned_name, pensive::shell::word(*model, *soft, flags.word))),
        engine(model, flags.model.engine_options(soft)),
        train(load_problems(flags.model.directory + "/problems/train.jsonl")),
        test(load_problems(flags.model.directory + "/problems/test.jsonl")) {}

  Request request(const Arm& arm) const;
  Sequence answer(const Arm& arm, const Problem& problem);
  const Problem& hard_problem();
  Column column_of(const Arm& arm, const Problem& problem);
  void learn();
  ExamResult examine_arm(const Arm& arm, int problems, Progress& progress, int& done);
};

Request Demo::request(const Arm& arm) const {
  RequestFlags request_flags;
  request_flags.max_tokens = 900;
  request_flags.steering.continue_with = arm.word;
  request_flags.steering.times = arm.times;
  if (arm.is_braked)
    request_flags.steering.brakes = {fmt::format("margin:tau={},at=sentence", flags.brake)};
  return request_flags.request(*model, *soft);
}

Sequence Demo::answer(const Arm& arm, const Problem& problem) {
  Request asked = request(arm);
  asked.prompt = chat_prompt(model->tokenizer(), arm.system)(problem);
  asked.sampling.seed = flags.seed;
  Sequence sequence = engine.start(asked);
  engine.finish(sequence);
  return sequence;
}

// The first problem, beyond those of the table, whose unforced answer is wrong.
const Problem& Demo::hard_problem() {
  const auto first = std::min(static_cast<std::size_t>(flags.problems), test.size() - 1);
  for (std::size_t i = first; i + 1 < test.size(); ++i) {
    const Sequence sequence = answer({"", "brief", "", 0, false}, test[i]);
    const Response response = respond(sequence.trace(), *model->tokenizer());
    if (correct()->score(test[i], response) < 0.5) return test[i];
  }
  return test[first];
}

Column Demo::column_of(const Arm& arm, const Problem& problem) {
  Sequence sequence = answer(arm, problem);
  Column column{.title = arm.name};
  for (const TextEvent& event : sequence.take_events())
    (event.segment == Segment::think ? column.thought : column.answer) += event.text;
  const Response response = respond(sequence.trace(), *model->tokenizer());
  const bool is_right = correct()->score(problem, response) > 0.5;
  column.foot =
      fmt::format("{}; {} tokens", is_right ? "right" : "wrong, it is " + problem.reference,
                  sequence.trace().decoded_tokens());
  column.trace = sequence.trace();
  return column;
}

void Demo::learn() {
  TrainOptions options;
  options.rollout = request({"", "brief", learned_name, 1, false});
  options.rollout.sampling.temperature = 1.0f;
  options.prompt_of = chat_prompt(model->tokenizer(), "brief");
  options.group_size = flags.group;
  options.branch = Branch::at_soft_token;
  options.learning_rate = flags.rate;
  options.total_steps = flags.steps;
  options.seed = flags.seed;
  Trainer trainer(engine, soft, row, correct(), options);
  auto progress = std::make_unique<Progress>("learning", flags.steps);
  for (int step = 0; step < flags.steps && !trainer.has_stopped(); ++step) {
    std::vector<Problem> chosen;
    for (int i = 0; i < flags.prompts; ++i) {
      const auto at = static_cast<std::size_t>(step * flags.prompts + i) +
                      static_cast<std::size_t>(flags.seed) * 997;
      chosen.push_back(train[at % train.size()]);
    }
    const TrainReport report = trainer.step(chosen);
    progress->update(report.step, fmt::format("reward {:.2f}", report.mean_reward));
  }
  progress.reset();
  if (trainer.has_stopped())
    fmt::print(stderr, "the reward had fallen: this is the best row of the run\n");
}

ExamResult Demo::examine_arm(const Arm& arm, int problems, Progress& progress, int& done) {
  ExamOptions options;
  options.request = request(arm);
  options.prompt_of = chat_prompt(model->tokenizer(), arm.system);
  options.seed = flags.seed + 1;
  options.progress = [&](int now, int) { progress.update(done + now); };
  const auto count = std::min(test.size(), static_cast<std::size_t>(problems));
  ExamResult result = examine(engine, std::span(test).first(count), *correct(), options);
  done += static_cast<int>(count);
  return result;
}

nlohmann::ordered_json to_json(const Arm& arm, const ExamResult& result) {
  return {{"arm", arm.name},
          {"system", arm.system},
          {"problems", result.problems},
          {"accuracy", result.accuracy},
          {"low", result.low},
          {"high", result.high},
          {"tokens", result.mean_tokens},
          {"first_answer", result.mean_first_answer},
          {"truncated", result.truncated_share}};
}

void add_line(std::ofstream& out, const nlohmann::ordered_json& line, const std::string& file) {
  out << line.dump() << std::endl;
  if (!out)
    throw Error(ErrorCode::io, "expected a file with room to write to; found none (" + file + ")");
}

// Errors of the fixed policy that the learned word does not make.
void print_removed(const ExamResult& fixed, const ExamResult& learned, const std::string& name) {
  const Paired paired = compare(fixed, learned);
  const std::string removed =
      std::isnan(paired.errors_removed)
          ? "-: it makes no errors"
          : fmt::format("{:.0f}% of its errors are gone (95%: {:.0f} to {:.0f})",
                        100 * paired.errors_removed, 100 * paired.errors_low,
                        100 * paired.errors_high);
  fmt::print("against {}: {}, {:+.0f} tokens\n", name, removed, paired.token_difference);
}

// The arms as dots, and the three answers token by token.
void write_pages(const Demo& demo, std::span<const Arm> arms, std::span<const ExamResult> results,
                 std::span<const Column> columns) {
  const std::filesystem::path folder = demo.flags.pages;
  if (folder.empty()) return;
  std::error_code failure;
  std::filesystem::create_directories(folder, failure);
  ExamPage page{.title = "What a learned word buys",
                .sub = fmt::format("the embedded reasoner, made so that the effect can be seen in "
                                   "minutes · {} test problems",
                                   results.front().problems)};
  page.columns = {"habit asked for"};
  for (std::size_t i = 0; i < arms.size(); ++i) {
    Dot dot = dot_of(results[i], arms[i].name);
    dot.cells = {arms[i].system};
    dot.is_minor = results[i].problems != results.front().problems;
    dot.is_chosen = arms[i].word == learned_name;
    page.dots.push_back(std::move(dot));
  }
  page.notes.push_back("Ringed: with the learned word. Grey: other habits, on fewer problems.");
  write_page((folder / "runs.html").string(), page);
  std::vector<TraceView> views;
  for (const Column& column : columns)
    views.push_back({column.trace, measure(column.trace, demo.soft->tokenizer()),
                     pieces_of(column.trace, demo.soft->tokenizer())});
  write_file(
      (folder / "thinking.html").string(),
      html_of(views, "nothing, the fixed word, the learned word", demo.soft->tokenizer().get()));
  fmt::print("pages: {} and {}\n", (folder / "runs.html").string(),
             (folder / "thinking.html").string());
}

void print_table(Demo& demo, std::ofstream& out, std::span<const Column> columns) {
  const Flags& flags = demo.flags;
  const std::string& w = flags.word;
  const std::vector<Arm> arms = {{"nothing", "brief", "", 0, false},
                                 {w + " x1", "brief", w, 1, false},
                                 {w + " x2", "brief", w, 2, false},
                                 {"best phrase x3", "brief", flags.phrase, 3, false},
                                 {"learned x1", "brief", learned_name, 1, false},
                                 {"learned x2", "brief", learned_name, 2, false},
                                 {"thorough", "thorough", "", 0, false},
                                 {"thorough, brake", "thorough", "", 0, true},
                                 {"steps", "steps", "", 0, false}};
  constexpr std::size_t in_table = 6;  // the arms after these go into lines under it
  const auto whole = static_cast<int>(in_table), side = static_cast<int>(arms.size() - in_table);
  std::vector<ExamResult> results;
  int done = 0;
  {
    Progress progress("exam", flags.problems * whole + flags.side_problems * side);
    for (const Arm& arm : arms) {
      const bool is_side = results.size() >= in_table;
      results.push_back(
          demo.examine_arm(arm, is_side ? flags.side_problems : flags.problems, progress, done));
      if (out.is_open()) add_line(out, to_json(arm, results.back()), flags.results);
    }
  }
  fmt::print("\nend of thinking replaced by   accuracy   95% interval      tokens\n");
  for (std::size_t i = 0; i < in_table; ++i) {
    const ExamResult& r = results[i];
    fmt::print("{:<28}  {:>6.1f}%    {:.1f} to {:.1f}   {:>8.1f}\n", arms[i].name, 100 * r.accuracy,
               100 * r.low, 100 * r.high, r.mean_tokens);
  }
  fmt::print("\n");
  print_removed(results[2], results[4], w + " x2, learned x1");
  print_removed(results[3], results[4], "the best phrase x3, learned x1");
  print_removed(results[3], results[5], "the best phrase x3, learned x2");
  const auto& [thorough, braked, steps] = std::tie(results[6], results[7], results[8]);
  fmt::print("thorough: {:.1f}% with {:.0f} tokens; with the brake {:.1f}% with {:.0f}\n",
             100 * thorough.accuracy, thorough.mean_tokens, 100 * braked.accuracy,
             braked.mean_tokens);
  fmt::print(
      "steps: {:.1f}%, first answer at {:.0f}% of the response; brief: {:.1f}%, at {:.0f}%\n",
      100 * steps.accuracy, 100 * steps.mean_first_answer, 100 * results[0].accuracy,
      100 * results[0].mean_first_answer);
  write_pages(demo, arms, results, columns);
}

void run_demo(const Flags& flags) {
  const auto start = std::chrono::steady_clock::now();
  std::ofstream out;
  if (!flags.results.empty()) {
    out.open(flags.results, std::ios::app);
    if (!out)
      throw Error(ErrorCode::io, "expected a file to write to; found none (" + flags.results + ")");
  }
  Demo demo(flags);
  fmt::print(
      "A model of {:.1f} million parameters, frozen, does sums modulo 100. It was made so that "
      "the\n"
      "effect can be seen in three minutes: where it wants to stop thinking, a word is put "
      "instead.\n"
      "One embedding, that word's, is learned here and now.\n",
      static_cast<double>(demo.model->info().parameters) / 1e6);
  const Problem& problem = demo.hard_problem();
  fmt::print("\nproblem, one that it gets wrong by itself: {}\n", problem.question);
  std::vector<Column> columns;
  columns.push_back(demo.column_of({"as it likes", "brief", "", 0, false}, problem));
  columns.push_back(demo.column_of(
      {"'" + flags.word + "' put where it stopped", "brief", flags.word, 1, false}, problem));
  print_columns(columns);
  fmt::print("\n");
  demo.learn();
  columns.push_back(
      demo.column_of({"the learned word put there", "brief", learned_name, 1, false}, problem));
  fmt::print("\nthe same problem: {}\n", problem.question);
  print_columns(columns);
  fmt::print("\n");
  print_table(demo, out, columns);
  const double spent =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  fmt::print("\n{:.0f} seconds; {} test problems the model never saw. docs/results.md has more.\n",
             spent, flags.problems);
}

}  // namespace

void add_demo(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("demo", "learn a continue word on the embedded reasoner");
  flags->model.add_to(*command);
  // It learns its own row.
  for (const char* name : {"--soft-of-other-model", "--soft"})
    command->remove_option(command->get_option(name));
  command->add_option("--word", flags->word, "the fixed word to compare with")
      ->capture_default_str();
  command->add_option("--phrase", flags->phrase, "the fixed phrase to compare with, three times")
      ->capture_default_str();
  command->add_option("--brake-margin", flags->brake, "of the brake, in nats")
      ->capture_default_str();
  command->add_option("--problems", flags->problems, "test problems of the table")
      ->check(positive)
      ->capture_default_str();
  command->add_option("--side-problems", flags->side_problems, "of the lines under it")
      ->check(positive)
      ->capture_default_str();
  command->add_option("--steps", flags->steps, "training steps")
      ->check(positive)
      ->capture_default_str();
  command->add_option("--prompts", flags->prompts, "problems a step")
      ->check(positive)
      ->capture_default_str();
  command->add_option("--group", flags->group, "samples a problem")
      ->check(CLI::Range(2, 1024))
      ->capture_default_str();
  command->add_option("--lr", flags->rate, "Adam's rate")->capture_default_str();
  command->add_option("-s,--seed", flags->seed)->capture_default_str();
  command->add_option("--out", flags->results, "append every line as JSON");
  command->add_option("--pages", flags->pages,
                      "a folder for two pages: the runs of the table, and the three answers");
  command->callback([flags] { run_demo(*flags); });
}

}  // namespace pensive::shell
