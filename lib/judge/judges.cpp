// The judges we bring: each is one formula.
#include <algorithm>
#include <cmath>
#include <utility>

#include "base/inside.h"
#include "base/told.h"
#include "judge/trim.h"
#include "pensive/judge.h"

namespace pensive {
namespace {

using Shared = std::shared_ptr<const Judge>;

void require_judge(const Shared& judge, std::string_view where) {
  require(judge != nullptr, ErrorCode::invalid_argument, "a judge", "none", where);
}

void require_finite(double value, std::string_view what, std::string_view where) {
  require(std::isfinite(value), ErrorCode::invalid_argument, what, fmt::format("{}", value), where);
}

// A judge of others is one like any other of others.
std::string name_of(const Judge& judge) {
  const std::string told = told_by(judge);
  return told.empty() ? "another judge" : told;
}

double tokens_of(const Response& response) {
  return static_cast<double>(response.think_tokens) + response.answer_tokens;
}

class Correct final : public Judge, public Told {
 public:
  explicit Correct(Extraction extraction) : extraction_(extraction) {}

  std::string told() const override {
    return extraction_ == Extraction::strict ? "correct, strict" : "correct";
  }

  double score(const Problem& problem, const Response& response) const override {
    // Nothing would ever be right.
    require(!trimmed(problem.reference).empty(), ErrorCode::invalid_argument,
            "a problem with a right answer", "none",
            fmt::format("problem {}", in_quotes(problem.id)));
    const auto answer = final_answer(response, extraction_);
    return answer && same_answer(*answer, problem.reference) ? 1 : 0;
  }

 private:
  Extraction extraction_;
};

class Boxed final : public Judge, public Told {
 public:
  std::string told() const override { return "boxed"; }

  double score(const Problem&, const Response& response) const override {
    return find_answer(response.text, Extraction::strict) ? 1 : 0;
  }
};

class Sum final : public Judge, public Told {
 public:
  Sum(Shared first, Shared second, double weight)
      : first_(std::move(first)), second_(std::move(second)), weight_(weight) {}

  std::string told() const override {
    return fmt::format("({} + {} * {})", name_of(*first_), weight_, name_of(*second_));
  }

  double score(const Problem& problem, const Response& response) const override {
    return first_->score(problem, response) + weight_ * second_->score(problem, response);
  }

 private:
  Shared first_, second_;
  double weight_;
};

class TokenPrice final : public Judge, public Told {
 public:
  explicit TokenPrice(double per_token) : per_token_(per_token) {}

  std::string told() const override { return fmt::format("token_price {}", per_token_); }

  double score(const Problem&, const Response& response) const override {
    return -per_token_ * tokens_of(response);
  }

 private:
  double per_token_;
};

enum class Length : std::uint8_t { exact, most };

class Lcpo final : public Judge, public Told {
 public:
  Lcpo(Shared judge, const LengthOptions& options, Length length)
      : judge_(std::move(judge)), options_(options), length_(length) {}

  std::string told() const override {
    return fmt::format("lcpo_{} (of {}, target_tokens {}, per_token {}, offset {})",
                       length_ == Length::exact ? "exact" : "max", name_of(*judge_),
                       options_.target_tokens, options_.per_token, options_.offset);
  }

  double score(const Problem& problem, const Response& response) const override {
    const int target = options_.target_tokens > 0 ? options_.target_tokens : problem.target_tokens;
    require(target > 0, ErrorCode::invalid_argument, "a problem with target_tokens of at least 1",
            fmt::format("{}", target), fmt::format("problem {}", in_quotes(problem.id)));
    const double left = target - tokens_of(response);
    const double score = judge_->score(problem, response);
    if (length_ == Length::exact) return score - options_.per_token * std::abs(left);
    return score * std::clamp(options_.per_token * left + options_.offset, 0.0, 1.0);
  }

 private:
  Shared judge_;
  LengthOptions options_;
  Length length_;
};

Shared lcpo(Shared judge, const LengthOptions& options, Length length, std::string_view where) {
  require_judge(judge, where);
  require(options.target_tokens >= 0, ErrorCode::invalid_argument, "target_tokens of at least 0",
          fmt::format("{}", options.target_tokens), where);
  require(std::isfinite(options.per_token) && options.per_token >= 0, ErrorCode::invalid_argument,
          "per_token of at least 0", fmt::format("{}", options.per_token), where);
  require_finite(options.offset, "a finite offset", where);
  return std::make_shared<Lcpo>(std::move(judge), options, length);
}

class Hybrid final : public Judge, public Told {
 public:
  Hybrid(Shared judge, AskModel ask, Extraction extraction)
      : judge_(std::move(judge)), ask_(std::move(ask)), extraction_(extraction) {}

  std::string told() const override {
    return fmt::format("hybrid (of {}, {})", name_of(*judge_),
                       extraction_ == Extraction::strict ? "strict" : "lenient");
  }

  double score(const Problem& problem, const Response& response) const override {
    if (final_answer(response, extraction_)) return judge_->score(problem, response);
    const std::string reply = ask_(grading_prompt(problem, response));
    std::string word;
    for (const char c : trimmed(reply)) {
      if (folded(c) < 'a' || folded(c) > 'z') break;
      word += folded(c);
    }
    return word == "true" ? 1 : 0;
  }

 private:
  Shared judge_;
  AskModel ask_;
  Extraction extraction_;
};

}  // namespace

std::shared_ptr<const Judge> correct(Extraction extraction) {
  return std::make_shared<Correct>(extraction);
}

std::shared_ptr<const Judge> boxed() { return std::make_shared<Boxed>(); }

std::shared_ptr<const Judge> sum(std::shared_ptr<const Judge> first,
                                 std::shared_ptr<const Judge> second, double weight) {
  require(first && second, ErrorCode::invalid_argument, "two judges", "none in place of one",
          "sum");
  require_finite(weight, "a finite weight", "sum");
  return std::make_shared<Sum>(std::move(first), std::move(second), weight);
}

std::shared_ptr<const Judge> token_price(double per_token) {
  require_finite(per_token, "a finite price", "token_price");
  return std::make_shared<TokenPrice>(per_token);
}

std::shared_ptr<const Judge> lcpo_exact(std::shared_ptr<const Judge> judge,
                                        const LengthOptions& options) {
  return lcpo(std::move(judge), options, Length::exact, "lcpo_exact");
}

std::shared_ptr<const Judge> lcpo_max(std::shared_ptr<const Judge> judge,
                                      const LengthOptions& options) {
  return lcpo(std::move(judge), options, Length::most, "lcpo_max");
}

std::string grading_prompt(const Problem& problem, const Response& response) {
  const bool has_answer = !trimmed(response.answer).empty();
  return fmt::format(
      "Given a math question, a correct answer, and a student's final answer (which may include "
      "explanations), determine if the correct answer appears in some form within the student's "
      "answer (ignoring trivial differences like formatting or wording). Output True if the "
      "student's answer is correct, otherwise output False. Output nothing else. START-OF-QUESTION "
      "question: {} END-OF-QUESTION correct answer: {} student's solution: "
      "START-OF-STUDENT-SOLUTION {} END-OF-STUDENT-SOLUTION Output True if the student's solution "
      "equivalent the correct answer and False otherwise.",
      problem.question, problem.reference, has_answer ? response.answer : response.text);
}

std::shared_ptr<const Judge> hybrid(std::shared_ptr<const Judge> judge, AskModel ask,
                                    Extraction extraction) {
  require_judge(judge, "hybrid");
  require(ask != nullptr, ErrorCode::invalid_argument, "a function that asks a model", "none",
          "hybrid");
  return std::make_shared<Hybrid>(std::move(judge), std::move(ask), extraction);
}

}  // namespace pensive
