// What a trace tells of one sample: where its answers stand, and what it cost.
#include "exam/answers.h"

#include <algorithm>

#include "base/inside.h"
#include "pensive/exam.h"

namespace pensive {
namespace {

struct Answer {
  int begin = 0;  // kept tokens before it
  std::string text;
};

// The answers one by one: a marker or thinking ends one. One opens where its tag does; right behind
// the end of another, where the columns do not tell two tags apart, with its text.
class Answers {
 public:
  Answers(const Trace& trace, const Tokenizer& tokenizer) : tokenizer_(tokenizer) {
    for (std::size_t i = trace.prompt_tokens; i < trace.tokens.size(); ++i) {
      if (trace.is_taken_back[i] != 0) continue;
      is_closing_ = trace.is_marker[i] != 0 && (add_marker(trace, i) || is_closing_);
      if (trace.segments[i] == Segment::think)
        close();
      else if (!is_closing_)
        add(trace, i);
      ++kept_;
    }
    close();
  }
  int kept() const { return kept_; }
  const std::vector<Answer>& all() const { return all_; }

 private:
  void open() {
    if (is_open_) return;
    is_open_ = true;
    begin_ = kept_;
  }
  void add(const Trace& trace, std::size_t i) {
    open();
    if (trace.is_marker[i] == 0 && tokenizer_.spelling(trace.tokens[i]))
      run_.push_back(trace.tokens[i]);
  }
  // Whether it closed an answer. Of plain text tags the first and the last token may hold text of
  // one beside them.
  bool add_marker(const Trace& trace, std::size_t i) {
    const auto texts = [&](Edge edge) {
      std::string text;
      for (const MarkerText& one : trace.marker_texts)
        if (one.position == static_cast<int>(i) && one.edge == edge &&
            one.segment == Segment::answer)
          text += one.text;
      return text;
    };
    const std::string before = texts(Edge::before);
    if (!before.empty()) open();
    behind_run_ += before;
    const bool is_closer = !run_.empty() || !before_run_.empty() || !behind_run_.empty();
    if (is_closer) close();
    if (const std::string behind = texts(Edge::behind); !behind.empty()) {
      open();
      before_run_ = behind;
    }
    return is_closer;
  }
  void close() {
    std::string text = before_run_ + tokenizer_.decode(run_) + behind_run_;
    if (is_open_ && text.find_first_not_of(" \t\r\n") != text.npos)
      all_.push_back({begin_, std::move(text)});
    is_open_ = false;
    run_.clear();
    before_run_.clear();
    behind_run_.clear();
  }

  const Tokenizer& tokenizer_;
  std::vector<Answer> all_;
  std::vector<TokenId> run_;
  std::string before_run_, behind_run_;
  int kept_ = 0, begin_ = 0;
  bool is_open_ = false, is_closing_ = false;
};

}  // namespace

Places places_of(const Trace& trace, const Tokenizer& tokenizer, const Problem& problem) {
  const Answers answers(trace, tokenizer);
  const auto share = [&](const Answer& one) {
    return static_cast<double>(one.begin) / answers.kept();
  };
  static const std::shared_ptr<const Judge> judge = correct();
  Places places;
  const std::vector<Answer>& all = answers.all();
  if (!all.empty()) places.first_answer = share(all.front());
  if (all.size() > 1) places.first_partial = share(all.front());
  for (const Answer& one : all) {
    Response alone;
    alone.text = alone.answer = one.text;
    if (judge->score(problem, alone) < 1) continue;
    places.first_correct = share(one);
    break;
  }
  return places;
}

double flops_of(const Trace& trace, const ModelInfo& model) {
  const std::size_t size = trace.tokens.size();
  require(trace.is_taken_back.size() == size && trace.prompt_tokens >= 0 &&
              static_cast<std::size_t>(trace.prompt_tokens) <= size,
          ErrorCode::invalid_argument, "columns of equal length", fmt::format("{} tokens", size),
          "flops_of");
  // Pairs of a token and one that it looks at. What is taken back stood behind what was kept then.
  double pairs = 0;
  std::vector<double> kept_at(size + 1);
  double kept = 0, in_vain = 0;
  for (std::size_t i = 0; i < size; ++i) {
    const bool is_kept = trace.is_taken_back[i] == 0;
    if (i >= static_cast<std::size_t>(trace.prompt_tokens))
      pairs += kept + (is_kept ? 0 : in_vain) + 1;
    in_vain = is_kept ? 0 : in_vain + 1;
    kept += is_kept ? 1 : 0;
    kept_at[i] = kept;
  }
  for (const TraceAction& action : trace.actions) {
    if (action.kind != "probe" || action.position < 0) continue;
    const double n = action.tokens;
    pairs +=
        n * kept_at[std::min(static_cast<std::size_t>(action.position), size)] + n * (n + 1) / 2;
  }
  const double each = 4.0 * model.layers * model.heads * model.head_dim;
  return 2.0 * static_cast<double>(model.parameters) * trace.decoded_tokens() + each * pairs;
}

}  // namespace pensive
