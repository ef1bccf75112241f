// Answer convergence: closes once trial answers agree.
#include <fmt/ranges.h>

#include <optional>

#include "guides/brake.h"
#include "judge/trim.h"
#include "pensive/judge.h"

namespace pensive {
namespace {

constexpr std::string_view cue_text = "\n**Final Answer**\n\\boxed";

class ConvergenceBrake final : public Guide, public Told {
 public:
  explicit ConvergenceBrake(const ConvergenceBrakeOptions& options) : options_(options) {}
  std::string_view name() const override { return "convergence_brake"; }
  std::string told() const override {
    return fmt::format(
        "trial {} trial_text {} stop_texts {} agreeing {} max_probe_tokens {} min_think_tokens {}",
        options_.trial, in_quotes(options_.trial_text), options_.stop_texts, options_.agreeing,
        options_.max_probe_tokens, options_.min_think_tokens);
  }
  bool needs_markers() const override { return true; }
  std::unique_ptr<Guide> clone() const override {
    return std::make_unique<ConvergenceBrake>(*this);
  }

  Action on_token(const Moment& moment) override {
    const bool was_taken_back = moment.new_tokens <= last_;
    last_ = moment.new_tokens;
    if (was_taken_back || moment.completes == Marker::think_open) agreeing_ = 0;
    if (!is_drawn_thought(moment) || moment.think_tokens < options_.min_think_tokens)
      return Proceed{};
    if (!ends_sentence(moment)) return Proceed{};
    return Probe{0, options_.trial, options_.stop_texts, 0, options_.max_probe_tokens};
  }

  Action on_probe(const ProbeReply& reply) override {
    if (reply.is_refused) return Proceed{};  // the sentence passes, and the count stays
    std::string answer = answer_of(reply.text);
    const bool agrees = agreeing_ > 0 && same_answer(answer, answer_);
    agreeing_ = answer.empty() ? 0 : agrees ? agreeing_ + 1 : 1;
    answer_ = std::move(answer);
    if (agreeing_ < options_.agreeing) return Proceed{};
    return Close{CloseReason::brake, 0, 0};
  }

 private:
  std::string answer_of(std::string_view text) const {
    if (const auto found = find_answer(options_.trial_text + std::string(text))) return *found;
    std::size_t end = text.size();
    for (const std::string& stop : options_.stop_texts) end = std::min(end, text.find(stop));
    text = trimmed(text.substr(0, end));
    while (text.starts_with('{')) text.remove_prefix(1);  // a box that was not closed
    return std::string(text);
  }

  ConvergenceBrakeOptions options_;
  std::string answer_;  // the last one
  int agreeing_ = 0;    // trials in a row that gave it
  int last_ = 0;        // kept tokens
};

}  // namespace

std::shared_ptr<const Guide> convergence_brake(const ConvergenceBrakeOptions& given) {
  constexpr std::string_view where = "convergence_brake";
  ConvergenceBrakeOptions options = given;
  require_tokens(options.trial, "tokens of a trial", where);
  require_texts(options.stop_texts, where);
  require_count(options.agreeing, 1, "agreeing", where);
  require_count(options.max_probe_tokens, 1, "max_probe_tokens", where);
  require_count(options.min_think_tokens, 0, "min_think_tokens", where);
  if (options.stop_texts.empty()) options.stop_texts = box_ends();
  return std::make_shared<ConvergenceBrake>(options);
}

CatalogueEntry convergence_entry() {
  return {
      {"convergence",
       "arXiv 2506.02536, method (a); k is 10 in the paper and 3 in its script",
       "closes after trial answers, one a sentence, agree",
       {{"k", "10", "how many in a row"},
        {"cue", R"("\n**Final Answer**\n\\boxed")", "what a trial begins with after the closer"},
        {"stop", "where a box ends", "what ends a trial, separated by |"},
        {"tokens", "20", "of a trial, at most"},
        {"min", "0", "thinking tokens before it looks"}}},
      [](const Settings& settings) {
        ConvergenceBrakeOptions options;
        options.trial_text = settings.is_given("cue") ? settings.text("cue") : cue_text;
        options.trial = settings.markers().think_close;
        const std::vector<TokenId> cue = settings.ids_of(options.trial_text, "cue");
        options.trial.insert(options.trial.end(), cue.begin(), cue.end());
        if (settings.is_given("stop")) options.stop_texts = settings.list("stop");
        options.agreeing = settings.whole("k");
        options.max_probe_tokens = settings.whole("tokens");
        options.min_think_tokens = settings.whole("min");
        return convergence_brake(options);
      }};
}

}  // namespace pensive
