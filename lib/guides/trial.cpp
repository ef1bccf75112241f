// DEER: where the model wants to think again, a trial answer tells whether it is sure already.
#include <fmt/ranges.h>

#include <array>
#include <cstddef>
#include <span>

#include "guides/brake.h"

namespace pensive {
namespace {

constexpr std::size_t longest_marker = 32;  // bytes: half of what a moment shows of the text
constexpr int last_tokens = 50;             // before the limit a trial ends the thinking anyway
constexpr std::string_view trial_text = "\n**Final Answer**\n\\boxed";

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

class TrialBrake final : public Guide, public Told {
 public:
  explicit TrialBrake(const TrialBrakeOptions& options)
      : options_(options),
        limit_(static_cast<int>(static_cast<double>(options.max_tokens) * options.think_ratio)) {}
  std::string_view name() const override { return "trial_brake"; }
  std::string told() const override {
    const TrialBrakeOptions& o = options_;
    return fmt::format(
        "at {} trial {} stop_texts {} must_end_with {} mean {} min_confidence {} max_probes {} "
        "max_probe_tokens {} max_tokens {} think_ratio {} min_think_tokens {}",
        in_quotes(o.at), o.trial, o.stop_texts, o.must_end_with, static_cast<int>(o.mean),
        o.min_confidence, o.max_probes, o.max_probe_tokens, o.max_tokens, o.think_ratio,
        o.min_think_tokens);
  }
  bool needs_markers() const override { return true; }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<TrialBrake>(*this); }

  Action on_token(const Moment& moment) override {
    Sizes& sizes = sizes_.next(moment.new_tokens);
    std::shift_right(sizes.begin(), sizes.end(), 1);
    sizes.front() = moment.text.size();
    if (!is_drawn_thought(moment) || moment.think_tokens < options_.min_think_tokens)
      return Proceed{};
    back_ = probes_ < options_.max_probes ? marker_tokens(moment, sizes) : 0;
    think_tokens_ = moment.think_tokens - back_;
    if (back_ > 0)
      return Probe{back_, options_.trial, options_.stop_texts, 0, options_.max_probe_tokens};
    if (moment.think_tokens < limit_) return Proceed{};
    return Close{CloseReason::brake, 0, 0};
  }

  Action on_probe(const ProbeReply& reply) override {
    const bool is_late = think_tokens_ >= limit_ - last_tokens;
    if (!reply.is_refused) ++probes_;
    const bool is_sure = !reply.is_refused && confidence(reply) > options_.min_confidence;
    if (!is_sure && !is_late) return Proceed{};
    return Close{CloseReason::brake, back_, 0};
  }

 private:
  using Sizes = std::array<std::size_t, longest_marker>;  // bytes of the last tokens, latest first

  // Tokens from the beginning of the marker on that this token completes; 0: it completes none.
  int marker_tokens(const Moment& moment, const Sizes& sizes) const {
    const std::string_view tail = moment.tail;
    const std::size_t begin = tail.rfind(options_.at);
    if (begin == tail.npos) return 0;
    const std::size_t end = begin + options_.at.size();
    if (end + moment.text.size() <= tail.size()) return 0;  // it came before this token
    const bool is_inside =
        (begin > 0 && is_letter(tail[begin - 1])) || (end < tail.size() && is_letter(tail[end]));
    if (is_inside) return 0;
    std::size_t bytes = 0;
    for (int tokens = 1; tokens <= std::min<int>(sizes.size(), moment.think_tokens); ++tokens) {
      bytes += sizes[static_cast<std::size_t>(tokens - 1)];
      if (bytes >= tail.size() - begin) return tokens;
    }
    return 0;
  }

  // The first token of a trial opens the box and says nothing.
  double confidence(const ProbeReply& reply) const {
    std::span<const float> logprobs = reply.logprobs;
    const std::vector<TokenId>& end = options_.must_end_with;
    if (!end.empty()) {
      const auto at = std::search(reply.tokens.begin(), reply.tokens.end(), end.begin(), end.end());
      if (at == reply.tokens.end()) return 0;
      logprobs = logprobs.first(static_cast<std::size_t>(at - reply.tokens.begin()) + end.size());
    }
    if (logprobs.size() < 2) return 0;
    const bool is_geometric = options_.mean == Mean::geometric;
    double sum = 0;
    for (const float logprob : logprobs.subspan(1))
      sum += is_geometric ? std::max<double>(logprob, std::log(1e-10)) : std::exp(logprob);
    const double mean = sum / static_cast<double>(logprobs.size() - 1);
    return is_geometric ? std::exp(mean) : mean;
  }

  TrialBrakeOptions options_;
  int limit_;  // thinking tokens
  Undoable<Sizes> sizes_;
  int back_ = 0;          // of the trial last asked for: its marker's tokens
  int think_tokens_ = 0;  // before them
  int probes_ = 0;
};

}  // namespace

std::vector<std::string> box_ends() { return {" }", "}\n", "}.", "}\\", "}}", ")}"}; }

std::shared_ptr<const Guide> trial_brake(const TrialBrakeOptions& given) {
  constexpr std::string_view where = "trial_brake";
  TrialBrakeOptions options = given;
  require(!options.at.empty() && options.at.size() <= longest_marker, ErrorCode::invalid_argument,
          fmt::format("a text of 1 to {} bytes as at", longest_marker), in_quotes(options.at),
          where);
  require_tokens(options.trial, "tokens of a trial", where);
  for (const TokenId id : options.must_end_with) require_count(id, 0, "token ids", where);
  require_texts(options.stop_texts, where);
  require_range(options.min_confidence, 0, 1, "min_confidence", where);
  require_count(options.max_probes, 0, "max_probes", where);
  require_count(options.max_probe_tokens, 1, "max_probe_tokens", where);
  require_count(options.max_tokens, 1, "max_tokens", where);
  require_range(options.think_ratio, 0, 1, "think_ratio", where);
  require_count(options.min_think_tokens, 0, "min_think_tokens", where);
  if (options.stop_texts.empty()) options.stop_texts = box_ends();
  return std::make_shared<TrialBrake>(options);
}

CatalogueEntry trial_entry() {
  return {{"trial",
           "DEER, arXiv 2504.15895; R1: ratio=0.6; Qwen3: ratio=0.8,mean=geometric,closed=yes",
           "closes where a trial answer, in place of thinking again, is given with confidence",
           {{"at", "Wait", "the word at which it asks; the paper's other: Alternatively"},
            {"confidence", "0.95", "mean probability above which it closes"},
            {"mean", "arithmetic", "arithmetic or geometric"},
            {"closed", "no", "yes: a trial must close the thinking, and ends there"},
            {"text", R"("\n**Final Answer**\n\\boxed")", "what a trial begins with"},
            {"stop", "where a box ends", "what ends a trial, separated by |"},
            {"probes", "10", "most trials"},
            {"tokens", "20", "of a trial, at most"},
            {"budget", "16384", "tokens of thinking and answer"},
            {"ratio", "0.9", "the share of it at which thinking is closed anyway"},
            {"min", "0", "thinking tokens before it looks"}}},
          [](const Settings& settings) {
            TrialBrakeOptions options;
            options.at = settings.text("at");
            options.min_confidence = settings.number("confidence");
            options.mean = static_cast<Mean>(settings.choice("mean", {"arithmetic", "geometric"}));
            options.trial = settings.is_given("text") ? settings.ids("text")
                                                      : settings.ids_of(trial_text, "text");
            if (settings.flag("closed")) {
              options.must_end_with = settings.markers().think_close;
              options.stop_texts = {settings.tokenizer().decode(options.must_end_with, true)};
            }
            if (settings.is_given("stop")) options.stop_texts = settings.list("stop");
            options.max_probes = settings.whole("probes");
            options.max_probe_tokens = settings.whole("tokens");
            options.max_tokens = settings.whole("budget");
            options.think_ratio = settings.number("ratio");
            options.min_think_tokens = settings.whole("min");
            return trial_brake(options);
          }};
}

}  // namespace pensive
