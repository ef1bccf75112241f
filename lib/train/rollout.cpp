// The samples of a step, and what the judges say of them.
#include <algorithm>
#include <cmath>
#include <variant>

#include "kernels/kernels.h"
#include "train/parts.h"

namespace pensive {
namespace {

// Closes the thinking when what is kept for the answer is all that is left.
class Reserve final : public Guide {
 public:
  explicit Reserve(int limit) : limit_(limit) {}
  std::string_view name() const override { return "answer tokens"; }
  bool needs_markers() const override { return true; }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<Reserve>(*this); }

  // Told of every token, it counts as max_new_tokens does: what is taken back too.
  Action on_token(const Moment& moment) override {
    ++decoded_;
    if (moment.next != Segment::think) is_asked_ = false;
    if (decoded_ < limit_ || is_asked_ || moment.next != Segment::think) return Proceed{};
    return Close{CloseReason::budget};
  }
  void on_done(const Done& done) override {
    if (std::holds_alternative<Close>(*done.action)) is_asked_ = true;
  }

 private:
  int limit_;
  int decoded_ = 0;
  bool is_asked_ = false;
};

std::string name_of(const Problem& problem, std::size_t sample) {
  return fmt::format("sample {} of problem {}", sample, problem.id);
}

void require_score(double score, const Problem& problem, std::size_t sample) {
  require(std::isfinite(score), ErrorCode::invalid_argument, "a finite reward",
          fmt::format("{}", score), name_of(problem, sample));
}

void check_error(const Trace& trace, const Problem& problem, std::size_t sample) {
  if (trace.stopped == StopReason::error)
    fail(ErrorCode::invalid_argument, "a rollout without an error", trace.error,
         name_of(problem, sample));
}

}  // namespace

Request Trainer::Parts::request_of(std::uint64_t seed) const {
  Request request = options.rollout;
  request.sampling.seed = seed;
  request.sampling.temperature = static_cast<float>(temperature);
  std::vector<std::shared_ptr<const Guide>> first;
  if (options.answer_tokens > 0)
    first.push_back(std::make_shared<Reserve>(request.max_new_tokens - options.answer_tokens));
  // Keyed like the draws, but not by the same number.
  if (!options.one_of.empty())
    first.push_back(options.one_of[kernels::mix(seed, ~0u) % options.one_of.size()]);
  request.guides.insert(request.guides.begin(), first.begin(), first.end());
  return request;
}

// After a prompt that holds the row itself, every drawn token depends on it: nothing is shared.
bool Trainer::Parts::is_forked(const Sequence& first, Branch branch) const {
  const auto prompt = std::span(first.trace().tokens).first(first.trace().prompt_tokens);
  return branch == Branch::at_soft_token &&
         std::find(prompt.begin(), prompt.end(), row) == prompt.end();
}

// Samples that begin at the prompt find it in the cache, where the first has left it.
bool Trainer::Parts::may_branch(const Sequence& first, Branch branch) const {
  if (first.finished()) return true;
  const std::vector<TokenId>& tokens = first.trace().tokens;
  if (is_forked(first, branch)) return std::find(tokens.begin(), tokens.end(), row) != tokens.end();
  return !engine.options().reuse_prefixes || std::ssize(tokens) > first.trace().prompt_tokens;
}

void Trainer::check_prompt(const Problem& problem) const {
  try {
    Request request = parts_->request_of(0);
    request.prompt = parts_->prompt_of(problem);
    const Sequence checked = parts_->engine.start(request);  // dropped before any step
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{} (problem {})", error.what(), to_utf8(problem.id)));
  }
}

std::vector<Sequence> Trainer::Parts::roll_out(std::span<const Problem> problems,
                                               std::uint64_t round, Branch branch,
                                               std::size_t first) const {
  const std::size_t group = options.group_size;
  std::vector<Request> requests;
  std::vector<std::optional<Sequence>> begun(problems.size() * group);
  const auto start = [&](std::size_t p, std::size_t j) {
    try {
      if (j == 0) requests[p].prompt = prompt_of(problems[p]);
      const std::optional<Sequence>& leader = begun[p * group];
      if (j > 0 && is_forked(*leader, branch)) {
        begun[p * group + j].emplace(leader->fork(Draws::fresh));
        return;
      }
      requests[p].sample = static_cast<std::uint32_t>(j);
      begun[p * group + j].emplace(engine.start(requests[p]));
    } catch (const Error& error) {
      throw Error(error.code(), fmt::format("{} (problem {})", error.what(), problems[p].id));
    }
  };
  const std::uint64_t seed = kernels::mix(options.seed, round);
  for (std::size_t p = 0; p < problems.size(); ++p) {
    requests.push_back(request_of(kernels::mix(seed, first + p)));
    start(p, 0);
  }
  std::vector<std::uint8_t> is_open(problems.size());
  const auto open = [&] {
    bool all = true;
    for (std::size_t p = 0; p < problems.size(); ++p) {
      const bool is_ready = is_open[p] || may_branch(*begun[p * group], branch);
      if (!is_open[p] && is_ready)
        for (std::size_t j = 1; j < group; ++j) start(p, j);
      is_open[p] = is_ready;
      all = all && is_open[p];
    }
    return all;
  };
  while (!open()) engine.step();
  std::vector<Sequence> sequences;
  sequences.reserve(begun.size());
  for (std::optional<Sequence>& sequence : begun) sequences.push_back(std::move(*sequence));
  engine.finish(sequences);
  return sequences;
}

void Trainer::Parts::check_rollouts(std::span<const Problem> problems,
                                    std::span<const Sequence> sequences) const {
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const Problem& problem = problems[i / options.group_size];
    const std::size_t sample = i % options.group_size;
    check_error(sequences[i].trace(), problem, sample);
    if (const std::optional<std::string> guide = steered_by(sequences[i]))
      fail(ErrorCode::unsupported,
           "guides that neither bias nor mask draws: the loss is that of the model's own "
           "distribution",
           fmt::format("guide {}", *guide), name_of(problem, sample));
  }
}

Scores Trainer::Parts::judge_all(std::span<const Problem> problems,
                                 std::span<const Sequence> sequences) const {
  Scores scores;
  scores.mean_parts.resize(rewards.size());
  std::vector<double> sums;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const Problem& problem = problems[i / options.group_size];
    const Response response = respond(sequences[i].trace(), *tokenizer);
    scores.is_ended.push_back(response.is_truncated);
    sums.push_back(0);
    if (response.is_truncated && options.truncated == Truncated::zero) continue;
    for (std::size_t r = 0; r < rewards.size(); ++r) {
      const double score = rewards[r].judge->score(problem, response);
      require_score(score, problem, i % options.group_size);
      scores.mean_parts[r] += score / static_cast<double>(sequences.size());
      sums.back() += rewards[r].weight * score;
    }
    require(std::isfinite(sums.back()), ErrorCode::invalid_argument,
            "a finite sum of weighted rewards", fmt::format("{}", sums.back()),
            name_of(problem, i % options.group_size));
  }
  scores.rewards = at::tensor(sums, at::kDouble).view({-1, options.group_size});
  return scores;
}

std::vector<double> Trainer::pass_rates(std::span<const Problem> problems,
                                        const Judge& judge) const {
  constexpr std::size_t at_once = 64;                 // problems; their sequences are held together
  constexpr std::uint64_t round = ~std::uint64_t{0};  // no step's
  const std::size_t group = parts_->options.group_size;
  std::vector<double> rates;
  for (std::size_t from = 0; from < problems.size(); from += at_once) {
    const auto some = problems.subspan(from, std::min(at_once, problems.size() - from));
    // Samples that share a first part are right or wrong together: their share is no pass rate.
    const std::vector<Sequence> sequences = parts_->roll_out(some, round, Branch::at_prompt, from);
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      const Problem& problem = some[i / group];
      const Trace& trace = sequences[i].trace();
      check_error(trace, problem, i % group);
      if (i % group == 0) rates.push_back(0);
      const double score = judge.score(problem, respond(trace, *parts_->tokenizer));
      require_score(score, problem, i % group);
      rates.back() += score / static_cast<double>(group);
    }
  }
  return rates;
}

}  // namespace pensive
