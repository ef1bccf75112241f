// Thinking that goes round in circles.
#include <fmt/ranges.h>

#include <cstddef>
#include <cstdint>

#include "guides/brake.h"

namespace pensive {
namespace {

constexpr std::size_t most_seen = 2048;

class LoopBrake final : public Brake {
 public:
  explicit LoopBrake(const LoopBrakeOptions& options)
      : Brake(options.min_think_tokens, options.within_tokens),
        options_(options),
        runs_(static_cast<std::size_t>(options.max_cycle_tokens) + 1) {}
  std::string_view name() const override { return "loop_brake"; }
  std::string told() const override {
    const LoopBrakeOptions& o = options_;
    return fmt::format(
        "max_cycle_tokens {} cycle_times {} min_loop_tokens {} line_times {} paragraph_times {} "
        "min_line_bytes {} within_tokens {} min_think_tokens {}",
        o.max_cycle_tokens, o.cycle_times, o.min_loop_tokens, o.line_times, o.paragraph_times,
        o.min_line_bytes, o.within_tokens, o.min_think_tokens);
  }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<LoopBrake>(*this); }

 private:
  struct Hash {
    std::uint64_t value = 0;
    int bytes = 0;
    void add(std::uint64_t more) {
      value = mixed(value + 0x9e3779b97f4a7c15u + more);
      ++bytes;
    }
  };
  struct State {
    int opened_at = 0;  // kept tokens when the thinking was opened
    Hash line;          // without blanks in front, and up to here
    Hash trimmed;       // and up to the last that is no blank
    Hash paragraph;     // of its lines; `bytes` counts these
    int paragraph_bytes = 0;
  };
  struct Seen {
    std::uint64_t hash;
    int at;  // kept tokens at its end
  };

  bool is_due_after(const Moment& moment) override {
    State& state = states_.next(moment.new_tokens);
    while (!seen_.empty() && seen_.back().at >= moment.new_tokens) seen_.pop_back();
    if (moment.completes == Marker::think_open) {
      state = {};
      state.opened_at = moment.new_tokens;
    }
    if (moment.segment != Segment::think || moment.completes != Marker::none) {
      counted_ = -1;
      return false;
    }
    const bool is_cycle = options_.cycle_times > 0 && ends_in_cycle(moment, state.opened_at);
    return is_repeated(state, moment) || is_cycle;
  }

  // How many of the last tokens equal the one `length` before them.
  int run_of(const Moment& moment, int opened_at, int length) const {
    const auto& tokens = moment.tokens;
    const auto begin = static_cast<std::size_t>(moment.prompt_tokens + opened_at);
    const auto back = static_cast<std::size_t>(length);
    std::size_t run = 0;
    while (tokens.size() > begin + back + run &&
           tokens[tokens.size() - 1 - run] == tokens[tokens.size() - 1 - run - back] &&
           static_cast<int>(run) < least_run(length))
      ++run;
    return static_cast<int>(run);
  }

  int least_run(int length) const {
    return std::max(length * (options_.cycle_times - 1), options_.min_loop_tokens - length);
  }

  bool ends_in_cycle(const Moment& moment, int opened_at) {
    const int size = static_cast<int>(moment.tokens.size());
    const bool is_next = size == counted_ + 1;  // else what stands before is another
    counted_ = size;
    const int most =
        std::min(options_.max_cycle_tokens, size - moment.prompt_tokens - opened_at - 1);
    bool is_cycle = false;
    for (int length = 1; length <= options_.max_cycle_tokens; ++length) {
      int& run = runs_[static_cast<std::size_t>(length)];
      if (length > most)
        run = 0;
      else if (!is_next)
        run = run_of(moment, opened_at, length);
      else
        run = moment.token == moment.tokens[static_cast<std::size_t>(size - 1 - length)]
                  ? std::min(run + 1, least_run(length))
                  : 0;
      is_cycle = is_cycle || run >= least_run(length);
    }
    return is_cycle;
  }

  bool is_repeated(State& state, const Moment& moment) {
    bool is_due = false;
    for (const char c : moment.text) {
      const bool is_blank = c == ' ' || c == '\t' || c == '\r';
      if (c == '\n')
        is_due = ends_line(state, moment.new_tokens) || is_due;
      else if (!is_blank || state.line.bytes > 0)
        state.line.add(static_cast<unsigned char>(c));
      if (c != '\n' && !is_blank) state.trimmed = state.line;
    }
    return is_due;
  }

  bool ends_line(State& state, int at) {
    const Hash line = state.trimmed;
    state.line = state.trimmed = {};
    if (line.bytes > 0) {
      state.paragraph.add(line.value);
      state.paragraph_bytes += line.bytes;
      return line.bytes >= options_.min_line_bytes && came(line.value, at, options_.line_times);
    }
    const Hash paragraph = state.paragraph;
    const int bytes = state.paragraph_bytes;
    state.paragraph = {};
    state.paragraph_bytes = 0;
    // One line alone has been counted as such.
    return paragraph.bytes > 1 && bytes >= options_.min_line_bytes &&
           came(~paragraph.value, at, options_.paragraph_times);
  }

  // Whether this has now come so many times since the thinking was opened.
  bool came(std::uint64_t hash, int at, int times) {
    if (times == 0) return false;
    if (seen_.size() == most_seen) seen_.erase(seen_.begin(), seen_.begin() + most_seen / 2);
    seen_.push_back({hash, at});
    return std::count_if(seen_.begin(), seen_.end(), [&](const Seen& one) {
             return one.hash == hash && one.at > states_.now().opened_at;
           }) >= times;
  }

  LoopBrakeOptions options_;
  std::vector<int> runs_;  // by length: how many of the last tokens equal the one so long before
  int counted_ = -1;       // tokens when they were counted
  Undoable<State> states_;
  std::vector<Seen> seen_;
};

void require_times(int times, std::string_view name, std::string_view where) {
  require(times == 0 || times >= 2, ErrorCode::invalid_argument,
          fmt::format("{} of at least 2, or 0", name), std::to_string(times), where);
}

}  // namespace

std::shared_ptr<const Guide> loop_brake(const LoopBrakeOptions& options) {
  constexpr std::string_view where = "loop_brake";
  require_range(options.max_cycle_tokens, 1, 512, "max_cycle_tokens", where);
  require_times(options.cycle_times, "cycle_times", where);
  require_range(options.cycle_times, 0, 1 << 20, "cycle_times", where);
  require_count(options.min_loop_tokens, 0, "min_loop_tokens", where);
  require_times(options.line_times, "line_times", where);
  require_times(options.paragraph_times, "paragraph_times", where);
  require_range(options.line_times, 0, most_seen / 2, "line_times", where);
  require_range(options.paragraph_times, 0, most_seen / 2, "paragraph_times", where);
  require_count(options.min_line_bytes, 1, "min_line_bytes", where);
  require_count(options.within_tokens, 0, "within_tokens", where);
  require_count(options.min_think_tokens, 0, "min_think_tokens", where);
  return std::make_shared<LoopBrake>(options);
}

CatalogueEntry loops_entry() {
  return {{"loops",
           "ours; no paper",
           "closes where tokens go round in a cycle, or a line or paragraph comes again and again",
           {{"cycle", "64", "the longest cycle, in tokens"},
            {"times", "4", "how often it comes in a row; 0: cycles are no loop"},
            {"least", "64", "tokens that all rounds have together"},
            {"lines", "4", "how often a line comes; 0: lines are no loop"},
            {"paragraphs", "3", "how often a paragraph comes; 0: they are no loop"},
            {"bytes", "16", "of the shortest line or paragraph that counts"},
            {"within", "32", "tokens for which a sentence end is waited for"},
            {"min", "0", "thinking tokens before it looks"}}},
          [](const Settings& settings) {
            return loop_brake({.max_cycle_tokens = settings.whole("cycle"),
                               .cycle_times = settings.whole("times"),
                               .min_loop_tokens = settings.whole("least"),
                               .line_times = settings.whole("lines"),
                               .paragraph_times = settings.whole("paragraphs"),
                               .min_line_bytes = settings.whole("bytes"),
                               .within_tokens = settings.whole("within"),
                               .min_think_tokens = settings.whole("min")});
          }};
}

}  // namespace pensive
