#include "rewards.h"

#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <map>
#include <mutex>

namespace pensive::shell {
namespace {

using Shared = std::shared_ptr<const Judge>;

[[noreturn]] void refuse(std::string_view expected, std::string_view found) {
  throw Error(ErrorCode::invalid_argument,
              fmt::format("expected {}; found '{}' (--reward)", expected, found));
}

// At signs that stand in no parentheses.
std::vector<std::string> parted(std::string_view text, char sign) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (const char c : text) {
    depth += c == '(' ? 1 : c == ')' ? -1 : 0;
    if (depth < 0) break;
    if (c == sign && depth == 0)
      parts.emplace_back();
    else
      parts.back() += c;
  }
  if (depth != 0) refuse("as many ')' as '('", text);
  return parts;
}

// The settings behind the first part, such as "target=512".
class Settings {
 public:
  Settings(const std::vector<std::string>& parts, std::string_view term) : term_(term) {
    for (std::size_t i = 1; i < parts.size(); ++i) {
      const std::size_t equals = std::min(parts[i].find('='), parts[i].size());
      const bool is_new =
          values_.emplace(parts[i].substr(0, equals), parts[i].substr(equals)).second;
      if (!is_new || equals == parts[i].size()) refuse("settings, each once: NAME=VALUE", term);
    }
  }
  template <class Value>
  void read(const std::string& name, Value& value) {
    const auto found = values_.find(name);
    if (found == values_.end()) return;
    if (!CLI::detail::lexical_cast(found->second.substr(1), value))
      refuse("a number for " + name, term_);
    values_.erase(found);
  }
  void check_all_read(std::string_view known) const {
    if (!values_.empty()) refuse(known, values_.begin()->first + values_.begin()->second);
  }

 private:
  std::string term_;
  std::map<std::string, std::string> values_;
};

Shared judge_in(const std::string& text, const AskModel& ask);

Shared lcpo(const std::string& name, const Shared& judge, Settings settings) {
  LengthOptions options;
  settings.read("target", options.target_tokens);
  settings.read("per-token", options.per_token);
  if (name == "lcpo-exact") {
    settings.check_all_read("target or per-token of lcpo-exact");
    return lcpo_exact(judge, options);
  }
  settings.read("offset", options.offset);
  settings.check_all_read("target, per-token or offset of lcpo-max");
  return lcpo_max(judge, options);
}

Shared graded(const Shared& judge, Settings settings, const AskModel& ask) {
  std::string find = "strict";
  settings.read("find", find);
  settings.check_all_read("find of hybrid");
  if (find != "strict" && find != "lenient") refuse("find=strict or find=lenient", find);
  if (!ask) refuse("a model that grades, --grader, for hybrid", "none");
  return hybrid(judge, ask, find == "strict" ? Extraction::strict : Extraction::lenient);
}

// "correct" or "lcpo-max(correct,target=512)": nothing where it is neither.
Shared judge_of(const std::string& term, const AskModel& ask) {
  if (term == "boxed") return boxed();
  if (term == "correct") return correct();
  if (term == "strict") return correct(Extraction::strict);
  if (term == "price") return token_price(1);
  const std::size_t open = term.find('(');
  if (open == std::string::npos || term.back() != ')') return nullptr;
  const std::string name = term.substr(0, open);
  const auto parts = parted(std::string_view(term).substr(open + 1, term.size() - open - 2), ',');
  if (name == "lcpo-exact" || name == "lcpo-max")
    return lcpo(name, judge_in(parts.front(), ask), {parts, term});
  if (name == "hybrid") return graded(judge_in(parts.front(), ask), {parts, term}, ask);
  return nullptr;
}

Shared judge_in(const std::string& text, const AskModel& ask) {
  Shared all;
  for (const Reward& term : parse_rewards(text, ask))
    all = all || term.weight != 1 ? sum(all ? all : token_price(0), term.judge, term.weight)
                                  : term.judge;
  return all;
}

// Whether its first word is complete: no more of a reply is heeded.
bool has_word(std::string_view reply) {
  const auto is_letter = [](char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; };
  const auto begin = std::ranges::find_if_not(
      reply, [](char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; });
  return std::find_if_not(begin, reply.end(), is_letter) != reply.end();
}

class Grader {
 public:
  explicit Grader(std::shared_ptr<const Model> model)
      : model_(std::move(model)),
        engine_(model_, {.cache_tokens = 16384, .max_live_sequences = 1}) {}

  std::string ask(const std::string& prompt) {
    const std::scoped_lock lock(mutex_);
    Request request;
    request.prompt = model_->tokenizer()->encode_chat(std::vector<Message>{{"user", prompt}});
    request.sampling.temperature = 0.0f;
    request.max_new_tokens = 2048;
    Sequence sequence = engine_.start(request);
    std::string reply;
    while (!sequence.finished() && !has_word(reply)) {
      engine_.step();
      for (const TextEvent& event : sequence.take_events())
        if (event.segment == Segment::answer) reply += event.text;
    }
    if (sequence.finished() && sequence.trace().stopped == StopReason::error)
      throw Error(ErrorCode::invalid_argument, sequence.trace().error + " (--grader)");
    return reply;
  }

 private:
  std::shared_ptr<const Model> model_;
  Engine engine_;
  std::mutex mutex_;
};

}  // namespace

std::vector<Reward> parse_rewards(std::string_view text, const AskModel& ask) {
  std::string bare;
  for (const char c : text)
    if (c != ' ') bare += c;
  std::vector<Reward> all;
  for (const std::string& term : parted(bare, '+')) {
    const std::size_t star = term.substr(0, term.find('(')).find('*');
    const std::string name = star == std::string::npos ? term : term.substr(star + 1);
    double weight = 1;
    const bool is_number =
        star == std::string::npos || CLI::detail::lexical_cast(term.substr(0, star), weight);
    const Shared judge = is_number ? judge_of(name, ask) : nullptr;
    if (!judge)
      refuse(
          "boxed, correct, strict, price, lcpo-exact(…), lcpo-max(…) or hybrid(…), each with a "
          "weight such as 0.5*boxed or without",
          term);
    all.push_back({name, judge, weight});
  }
  return all;
}

bool asks_a_model(std::string_view text) { return text.find("hybrid") != text.npos; }

GradingModel make_grader(ModelFlags model, const std::string& directory) {
  model.directory = directory;
  model.revision.clear();
  const auto loaded = model.load();
  const auto grader = std::make_shared<Grader>(loaded);
  return {[grader](const std::string& prompt) { return grader->ask(prompt); },
          loaded->info().fingerprint};
}

void GraderFlags::add_to(CLI::App& app) {
  app.add_option("--grader", directory,
                 "a checkpoint that grades responses without a box, as the paper does; default: "
                 "what stands for an answer there is compared");
}

Grading GraderFlags::load(const ModelFlags& model) const {
  if (directory.empty()) return {correct(), ""};
  const GradingModel grader = make_grader(model, directory);
  return {hybrid(correct(), grader.ask), fmt::format("{:016x}", grader.fingerprint)};
}

}  // namespace pensive::shell
