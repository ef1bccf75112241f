#include "pensive/judge.h"

#include "handles.h"
#include "pensive/trace.h"

namespace door {

namespace {

// The segments in columns, as long as both live.
class SegmentView {
 public:
  SegmentView(const std::vector<pensive::ResponseSegment>& segments, pensive_response& said) {
    for (const pensive::ResponseSegment& one : segments) {
      texts_.push_back(one.text.c_str());
      sizes_.push_back(one.text.size());
      begins_.push_back(one.begin);
      tokens_.push_back(one.tokens);
      is_thinking_.push_back(one.is_thinking);
    }
    said.segment_count = segments.size();
    said.segment_texts = texts_.data();
    said.segment_text_sizes = sizes_.data();
    said.segment_begins = begins_.data();
    said.segment_tokens = tokens_.data();
    said.segment_is_thinking = is_thinking_.data();
  }

 private:
  std::vector<const char*> texts_{};
  std::vector<std::size_t> sizes_{};
  std::vector<int32_t> begins_{}, tokens_{};
  std::vector<std::uint8_t> is_thinking_{};
};

class CallbackJudge final : public pensive::Judge {
 public:
  CallbackJudge(const pensive_judge_callbacks& callbacks, std::shared_ptr<User> user)
      : callbacks_(callbacks), user_(std::move(user)) {}

  double score(const pensive::Problem& problem, const pensive::Response& response) const override {
    const ProblemView asked(problem);
    pensive_response said{};
    said.struct_size = sizeof said;
    said.is_truncated = response.is_truncated;
    said.text = response.text.c_str();
    said.text_size = response.text.size();
    said.thinking = response.thinking.c_str();
    said.thinking_size = response.thinking.size();
    said.answer = response.answer.c_str();
    said.answer_size = response.answer.size();
    said.think_tokens = response.think_tokens;
    said.answer_tokens = response.answer_tokens;
    said.tokens = response.tokens;
    const SegmentView segments(response.segments, said);
    double score = 0;
    check_callback(callbacks_.score(user_->user, &asked.value, &said, &score), "score");
    return score;
  }

 private:
  pensive_judge_callbacks callbacks_;
  std::shared_ptr<User> user_;
};

pensive::LengthOptions length_in(const pensive_length_options* options) {
  const auto given = struct_in(options, "pensive_length_options");
  const pensive::LengthOptions defaults;
  return {given.target_tokens, number_or(given.per_token, defaults.per_token),
          number_or(given.offset, defaults.offset)};
}

}  // namespace

ProblemView::ProblemView(const pensive::Problem& problem) {
  for (const std::string& one : problem.intermediates) intermediates.push_back(one.c_str());
  value = {sizeof(pensive_problem),
           0,
           problem.id.c_str(),
           problem.question.c_str(),
           problem.reference.c_str(),
           intermediates.data(),
           intermediates.size(),
           problem.target_tokens,
           0};
}

int32_t judge_new_correct(pensive_judge** judge, pensive_error** error) {
  return guard(error, [&] { out(judge, "judge") = new pensive_judge{pensive::correct()}; });
}

int32_t judge_new_correct_boxed(pensive_judge** judge, pensive_error** error) {
  return guard(error, [&] {
    out(judge, "judge") = new pensive_judge{pensive::correct(pensive::Extraction::strict)};
  });
}

int32_t judge_new_token_price(double per_token, pensive_judge** judge, pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(judge, "judge");
    slot = new pensive_judge{pensive::token_price(per_token)};
  });
}

int32_t judge_new_lcpo_exact(const pensive_judge* inner, const pensive_length_options* options,
                             pensive_judge** judge, pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(judge, "judge");
    slot = new pensive_judge{pensive::lcpo_exact(need(inner, "inner").value, length_in(options))};
  });
}

int32_t judge_new_lcpo_max(const pensive_judge* inner, const pensive_length_options* options,
                           pensive_judge** judge, pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(judge, "judge");
    slot = new pensive_judge{pensive::lcpo_max(need(inner, "inner").value, length_in(options))};
  });
}

int32_t judge_new_hybrid(const pensive_judge* inner, const pensive_grader_callbacks* grader,
                         pensive_judge** judge, pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(judge, "judge");
    const auto& within = need(inner, "inner").value;
    const auto given = struct_in(&need(grader, "grader"), "pensive_grader_callbacks");
    check_zero(given.reserved, "pensive_grader_callbacks.reserved");
    check_zero(given.reserved_tail, "pensive_grader_callbacks.reserved_tail");
    const auto extraction = flag_in(given.is_lenient, "pensive_grader_callbacks.is_lenient")
                                ? pensive::Extraction::lenient
                                : pensive::Extraction::strict;
    need(given.ask, "pensive_grader_callbacks.ask");
    auto user = std::make_shared<User>(given.user, given.destroy);
    const auto ask = [user, callback = given.ask](const std::string& prompt) -> std::string {
      int32_t is_right = 0;
      check_callback(callback(user->user, prompt.c_str(), prompt.size(), &is_right), "ask");
      return flag_in(is_right, "is_right of ask") ? "True" : "False";
    };
    slot = new pensive_judge{pensive::hybrid(within, ask, extraction)};
    user->is_ours = true;
  });
}

int32_t judge_new_boxed(pensive_judge** judge, pensive_error** error) {
  return guard(error, [&] { out(judge, "judge") = new pensive_judge{pensive::boxed()}; });
}

int32_t judge_new_sum(const pensive_judge* first, const pensive_judge* second, double weight,
                      pensive_judge** judge, pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(judge, "judge");
    slot = new pensive_judge{
        pensive::sum(need(first, "first").value, need(second, "second").value, weight)};
  });
}

int32_t judge_new(const pensive_judge_callbacks* callbacks, pensive_judge** judge,
                  pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(judge, "judge");
    const auto given = struct_in(&need(callbacks, "callbacks"), "pensive_judge_callbacks");
    check_zero(given.reserved, "pensive_judge_callbacks.reserved");
    need(given.score, "pensive_judge_callbacks.score");
    auto user = std::make_shared<User>(given.user, given.destroy);
    slot = new pensive_judge{std::make_shared<CallbackJudge>(given, user)};
    user->is_ours = true;
  });
}

void judge_free(pensive_judge* judge) { delete judge; }

int32_t sequence_score(const pensive_sequence* sequence, const pensive_judge* judge,
                       const char* question, const char* reference, double* score,
                       pensive_error** error) {
  return guard(error, [&] {
    double& slot = need(score, "score");
    const pensive_sequence& from = need(sequence, "sequence");
    const pensive::Problem problem{
        {}, text_or(question, ""), std::string(text_in(reference, "reference"))};
    const auto response = pensive::respond(from.value.trace(), *from.tokenizer());
    slot = need(judge, "judge").value->score(problem, response);
  });
}

int32_t find_answer(const char* response, size_t size, char** answer, pensive_error** error) {
  return guard(error, [&] {
    out(answer, "answer");
    const auto found = pensive::find_answer(text_in(response, size, "response"));
    if (found) text_out(answer, nullptr, *found);
  });
}

int32_t find_boxed(const char* response, size_t size, char** answer, pensive_error** error) {
  return guard(error, [&] {
    out(answer, "answer");
    const auto found =
        pensive::find_answer(text_in(response, size, "response"), pensive::Extraction::strict);
    if (found) text_out(answer, nullptr, *found);
  });
}

int32_t same_answer(const char* a, const char* b, int32_t* same, pensive_error** error) {
  return guard(
      error, [&] { need(same, "same") = pensive::same_answer(text_in(a, "a"), text_in(b, "b")); });
}

}  // namespace door
