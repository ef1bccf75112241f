// An online overthink score, derived from what Self-Braking Tuning labels its data with.
#include <fmt/ranges.h>

#include <cstddef>
#include <iterator>
#include <optional>

#include "guides/brake.h"
#include "judge/trim.h"
#include "pensive/judge.h"
#include "think/doubts.h"

namespace pensive {
namespace {

constexpr std::size_t longest_sentence = 1024;  // bytes
constexpr std::size_t most_answers = 64;

using Words = std::vector<std::string>;

// The paper's, and three of ours.
std::vector<std::string> default_markers() {
  std::vector<std::string> markers(std::begin(self_braking_terms), std::end(self_braking_terms));
  markers.insert(markers.end(), {"alternatively", "let me try", "verify"});
  return markers;
}

// Letters, digits, apostrophes and whatever is not ASCII make words; ASCII is folded.
Words words_of(std::string_view text) {
  Words words;
  bool is_inside = false;
  for (const char given : text) {
    const char c = folded(given);
    const bool is_word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '\'' ||
                         static_cast<unsigned char>(c) >= 0x80;
    if (is_word && !is_inside) words.emplace_back();
    if (is_word) words.back() += c;
    is_inside = is_word;
  }
  return words;
}

int count_marked(const Words& words, const std::vector<Words>& markers) {
  int marked = 0;
  std::size_t done = 0;  // words before this one are counted
  for (std::size_t i = 0; i < words.size(); ++i) {
    for (const Words& marker : markers) {
      if (marker.size() > words.size() - i ||
          !std::equal(marker.begin(), marker.end(), words.begin() + static_cast<std::ptrdiff_t>(i)))
        continue;
      const std::size_t end = i + marker.size();
      if (end <= done) continue;
      marked += static_cast<int>(end - std::max(i, done));
      done = end;
    }
  }
  return marked;
}

class OverthinkBrake final : public Brake {
 public:
  explicit OverthinkBrake(const OverthinkBrakeOptions& options)
      : Brake(options.min_think_tokens, 0), options_(options) {
    for (const std::string& marker : options.markers) markers_.push_back(words_of(marker));
  }
  std::string_view name() const override { return "overthink_brake"; }
  std::string told() const override {
    return fmt::format(
        "max_score {} marker_weight {} markers {} answer_cues {} min_think_tokens {}",
        options_.max_score, options_.marker_weight, options_.markers, options_.answer_cues,
        options_.min_think_tokens);
  }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<OverthinkBrake>(*this); }

 private:
  struct State {
    std::size_t text_end = 0, sentence_begin = 0;  // bytes, counted from the first thought on
    std::int64_t words = 0, marked = 0;
    int opened_at = 0, think_before = 0;  // kept tokens, and thinking tokens, when it was opened
    int repeated_at = -1;                 // R; -1: no answer came twice
  };
  struct Answer {
    std::string text;
    int at;  // kept tokens at the end of its sentence
  };

  bool is_due_after(const Moment& moment) override {
    State& state = states_.next(moment.new_tokens);
    while (!answers_.empty() && answers_.back().at >= moment.new_tokens) answers_.pop_back();
    if (moment.completes == Marker::think_open)
      state = {state.text_end, state.text_end, 0, 0, moment.new_tokens, moment.think_tokens, -1};
    if (moment.segment != Segment::think || moment.completes != Marker::none) return false;
    add_text(state, moment.text);
    if (!ends_sentence(moment) && state.text_end - state.sentence_begin < longest_sentence)
      return false;
    const int tokens = moment.think_tokens - state.think_before;
    read_sentence(state, tokens, moment.new_tokens);
    return score(state, tokens) > options_.max_score;
  }

  // After cutting off what was taken back.
  void add_text(State& state, std::string_view text) {
    text_.resize(std::min(text_.size(), state.text_end - std::min(state.text_end, dropped_)));
    text_ += text;
    state.text_end += text.size();
    if (text_.size() < 16 * longest_sentence) return;
    dropped_ += text_.size() - 2 * longest_sentence;
    text_.erase(0, text_.size() - 2 * longest_sentence);
  }

  void read_sentence(State& state, int tokens, int at) {
    const std::size_t begin = state.sentence_begin - std::min(state.sentence_begin, dropped_);
    const std::string_view sentence = std::string_view(text_).substr(std::min(begin, text_.size()));
    state.sentence_begin = state.text_end;
    const Words words = words_of(sentence);
    state.words += static_cast<std::int64_t>(words.size());
    state.marked += count_marked(words, markers_);
    if (state.repeated_at >= 0) return;
    const std::optional<std::string> answer = answer_in(sentence);
    if (!answer || answer->empty()) return;
    const bool is_known = std::any_of(answers_.begin(), answers_.end(), [&](const Answer& one) {
      return one.at > state.opened_at && same_answer(one.text, *answer);
    });
    if (is_known) state.repeated_at = tokens;
    if (answers_.size() == most_answers) answers_.erase(answers_.begin());
    answers_.push_back({*answer, at});
  }

  std::optional<std::string> answer_in(std::string_view sentence) const {
    if (options_.answer_cues.empty()) return find_answer(sentence);
    std::optional<std::size_t> begin;
    for (const std::string& cue : options_.answer_cues) {
      const std::size_t at = sentence.rfind(cue);
      if (at != sentence.npos) begin = std::max(begin.value_or(0), at + cue.size());
    }
    if (!begin) return std::nullopt;
    return std::string(trimmed(sentence.substr(*begin)));
  }

  double score(const State& state, int tokens) const {
    const double beta = options_.marker_weight;
    const double marked =
        state.words > 0 ? static_cast<double>(state.marked) / static_cast<double>(state.words) : 0;
    const double after = state.repeated_at >= 0 && tokens > 0
                             ? static_cast<double>(tokens - state.repeated_at) / tokens
                             : 0;
    return beta * marked + (1 - beta) * after;
  }

  OverthinkBrakeOptions options_;
  std::vector<Words> markers_;
  Undoable<State> states_;
  std::vector<Answer> answers_;
  std::string text_;  // the end of the thinking
  std::size_t dropped_ = 0;
};

}  // namespace

std::shared_ptr<const Guide> overthink_brake(const OverthinkBrakeOptions& given) {
  constexpr std::string_view where = "overthink_brake";
  OverthinkBrakeOptions options = given;
  require_range(options.max_score, 0, 1, "max_score", where);
  require_range(options.marker_weight, 0, 1, "marker_weight", where);
  require_count(options.min_think_tokens, 0, "min_think_tokens", where);
  if (options.markers.empty()) options.markers = default_markers();
  for (const std::string& marker : options.markers)
    require(!words_of(marker).empty(), ErrorCode::invalid_argument, "markers of at least one word",
            in_quotes(marker), where);
  for (const std::string& cue : options.answer_cues)
    require(!cue.empty(), ErrorCode::invalid_argument, "answer_cues of at least one character",
            "an empty one", where);
  return std::make_shared<OverthinkBrake>(options);
}

CatalogueEntry overthink_entry() {
  return {{"overthink",
           "our derivation from Self-Braking Tuning, arXiv 2505.14604, which only trains",
           "closes by the share of marker words and of what came after the first repeated answer",
           {{"max", "0.2", "the score above which it closes (the paper's tau1)"},
            {"weight", "0.1", "of the marker words (beta); the rest is of what came after"},
            {"markers", "the paper's and ours", "words or phrases separated by |"},
            {"cues", "those of find_answer", "what answers stand after, separated by |"},
            {"min", "0", "thinking tokens before it looks"}}},
          [](const Settings& settings) {
            OverthinkBrakeOptions options;
            options.max_score = settings.number("max");
            options.marker_weight = settings.number("weight");
            if (settings.is_given("markers")) options.markers = settings.list("markers");
            if (settings.is_given("cues")) options.answer_cues = settings.list("cues");
            options.min_think_tokens = settings.whole("min");
            return overthink_brake(options);
          }};
}

}  // namespace pensive
