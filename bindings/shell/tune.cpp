// Chooses a guide and its settings on the user's own problems.
#include "tune.h"

#include <fmt/core.h>

#include <memory>
#include <set>

#include "rewards.h"
#include "run_folder.h"

namespace pensive::shell {
namespace {

struct Flags {
  ModelFlags model;
  RoomFlags room;
  RequestFlags request;
  ProblemFlags problems;
  GraderFlags grader;
  Target target;
  std::string file, check, run, html;
  std::vector<std::string> guides, of;
  int samples = 1;
  bool json = false;
  bool overwrite = false;
};

std::vector<Problem> problems_of(const std::string& file, const Flags& flags) {
  auto problems = flags.problems.load(file);
  if (problems.size() < 2)
    throw Error(ErrorCode::invalid_argument,
                fmt::format("expected two problems or more; found {} ({})", problems.size(), file));
  return problems;
}

// A folder's name that tells the setting: what is odd in a path becomes '_', and what two settings
// may then have in common a hash tells apart.
std::string folder_of(const std::string& spec, bool is_check) {
  std::string name = is_check ? "check." : "";
  for (const char c : spec.empty() ? "none" : spec) {
    const bool is_plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' ||
                          c == '=' || c == ',' || c == '-';
    name += is_plain ? c : '_';
  }
  name.resize(std::min<std::size_t>(name.size(), 120));
  return spec.empty() ? name : name + "-" + hash_of(spec).substr(0, 8);
}

class Tuning {
 public:
  explicit Tuning(const Flags& flags, const CLI::App& command)
      : flags_(flags),
        command_(command),
        problems_(problems_of(flags.file, flags)),
        model_(flags.model.load()),
        soft_(flags.model.load_soft(model_)),
        grading_(flags.grader.load(flags.model)),
        engine_(model_, flags.room.apply(flags.model.engine_options(soft_))) {}

  void run() {
    if (!flags_.check.empty()) checks_ = problems_of(flags_.check, flags_);
    named_ = named();  // what the user named is refused before the work, not left out
    all_.push_back({.spec = ""});
    sit(std::span(all_), "unsteered");
    for (const std::string& spec : candidates()) all_.push_back({.spec = spec});
    sit(std::span(all_).subspan(1), "tune");
    const double confidence = confidence_of(all_.size() - 1);
    for (Tried& one : std::span(all_).subspan(1))
      one.against = compare(all_.front().result, one.result, confidence);
    const std::optional<Checked> checked = check();
    const auto json = json_of(all_, flags_.target, checked);
    if (!flags_.run.empty())
      write_file((std::filesystem::path(flags_.run) / "tune.json").string(), json.dump(1) + "\n");
    if (!flags_.html.empty()) write_page(flags_.html, page_of(all_, flags_.target, flags_.file));
    if (flags_.json)
      fmt::print("{}\n", json.dump());
    else
      print_tuned(all_, flags_.target, checked);
    // Who runs this in a script must not go on as if something had been chosen.
    if (!choose(all_, flags_.target)) throw CLI::RuntimeError(2);
  }

 private:
  ExamOptions options_of(const std::string& spec) const {
    RequestFlags flags = flags_.request;
    if (!spec.empty()) flags.steering.guides.push_back(spec);
    return exam_options(flags, *model_, *soft_, flags_.samples);
  }

  std::vector<std::string> named() const {
    std::vector<std::string> specs;
    std::set<std::string> seen;
    for (const std::string& given : flags_.guides)
      for (const std::string& spec : expanded(given)) {
        options_of(spec);
        if (seen.insert(spec).second) specs.push_back(spec);
      }
    return specs;
  }

  std::vector<std::string> candidates() const {
    std::vector<std::string> specs = named_;
    std::set<std::string> seen(specs.begin(), specs.end());
    if (!specs.empty() && flags_.of.empty()) return specs;
    const ExamResult& unsteered = all_.front().result;
    const bool thinks_more = flags_.target.tokens && *flags_.target.tokens > unsteered.mean_tokens;
    for (const std::string& spec : grid(unsteered, thinks_more, flags_.of)) {
      if (seen.contains(spec)) continue;
      try {
        options_of(spec);
      } catch (const Error& error) {
        fmt::print(stderr, "left out: {}: {}\n", spec, error.what());
        continue;
      }
      seen.insert(spec);
      specs.push_back(spec);
    }
    if (specs.empty())
      throw Error(ErrorCode::unsupported,
                  "expected a guide that this model can be steered with; found none (--guide)");
    return specs;
  }

  // Sits the exam for each, on one bar.
  void sit(std::span<Tried> tried, const std::string& title) {
    const int each = static_cast<int>(problems_.size()) * flags_.samples;
    Progress progress(title, each * static_cast<int>(tried.size()));
    for (std::size_t i = 0; i < tried.size(); ++i) {
      const std::string& spec = tried[i].spec;
      tried[i].result = examine_one(spec, problems_, flags_.file, false, [&](int done) {
        progress.update(each * static_cast<int>(i) + done, spec);
      });
    }
  }

  ExamResult examine_one(const std::string& spec, std::span<const Problem> problems,
                         const std::string& file, bool is_check,
                         const std::function<void(int)>& told) {
    ExamOptions options = options_of(spec);
    options.progress = [&](int done, int) { told(done); };
    if (!flags_.run.empty()) {
      const auto folder = std::filesystem::path(flags_.run) / folder_of(spec, is_check);
      auto description = describe_run(command_, {engine_, problems, file, options, grading_.model});
      description["options"]["--guide"] = spec;
      keep_in(folder, description, options);
    }
    return examine(engine_, problems, *grading_.judge, options);
  }

  std::optional<Checked> check() {
    const auto chosen = choose(all_, flags_.target);
    if (checks_.empty() || !chosen) return {};
    const int each = static_cast<int>(checks_.size()) * flags_.samples;
    Progress progress("check", 2 * each);
    Checked checked;
    checked.unsteered =
        examine_one("", checks_, flags_.check, true, [&](int done) { progress.update(done); });
    checked.chosen = examine_one(all_[*chosen].spec, checks_, flags_.check, true,
                                 [&](int done) { progress.update(each + done); });
    checked.against = compare(checked.unsteered, checked.chosen);
    return checked;
  }

  const Flags& flags_;
  const CLI::App& command_;
  std::vector<Problem> problems_, checks_;
  std::shared_ptr<const Model> model_;
  std::shared_ptr<SoftVocab> soft_;
  Grading grading_;
  Engine engine_;
  std::vector<std::string> named_;
  std::vector<Tried> all_;
};

void tune(Flags& flags, std::optional<double> points, const CLI::App& command) {
  if (points) flags.target.loss = *points / 100;
  if (flags.target.tokens.has_value() == flags.target.loss.has_value())
    throw Error(ErrorCode::invalid_argument,
                "expected a target; found none (--tokens N or --loss POINTS)");
  if (!flags.run.empty()) check_utf8(command);
  check_names(flags.of);
  check_outputs({flags.html}, flags.overwrite);
  Tuning(flags, command).run();
}

}  // namespace

void add_tune(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  auto points = std::make_shared<std::optional<double>>();
  CLI::App* command = app.add_subcommand(
      "tune",
      "choose a guide and its settings on your problems, for a target of tokens or accuracy");
  flags->model.add_to(*command);
  flags->room.add_to(*command);
  command->add_option("file", flags->file, "problems: JSON lines, or one array")->required();
  auto* tokens =
      command
          ->add_option("--tokens", flags->target.tokens,
                       "the most accurate setting of at most so many tokens a response, on average")
          ->check(positive);
  command
      ->add_option("--loss", *points,
                   "the setting of the fewest tokens that is shown to lose at most so many points "
                   "of accuracy")
      ->check(not_negative)
      ->excludes(tokens);
  command->add_option("--of", flags->of, "try these guides only; default: those that may help");
  command->add_option("--samples", flags->samples, "samples a problem")
      ->check(positive)
      ->capture_default_str();
  command->add_option("--check", flags->check,
                      "other problems: what the chosen one is worth where it was not chosen");
  command->add_option("--run", flags->run,
                      "a folder that keeps what was sat, a run folder each: an interrupted tuning "
                      "goes on, and another target asks nothing again");
  auto* html =
      command->add_option("--html", flags->html, "also write a page: accuracy against tokens");
  command->add_flag("--overwrite", flags->overwrite, "take the place of an --html that exists")
      ->needs(html);
  command->add_flag("--json", flags->json, "print one JSON object");
  flags->problems.add_to(*command);
  flags->grader.add_to(*command);
  flags->request.add_to(*command);
  for (const char* name : {"--guide", "--brake"}) command->remove_option(command->get_option(name));
  command
      ->add_option(
          "--guide", flags->guides,
          "try this setting, as `pensive guides` has it; {a|b} tries both; may be repeated")
      ->allow_extra_args(false);
  command->callback([flags, points, command] { tune(*flags, *points, *command); });
}

}  // namespace pensive::shell
