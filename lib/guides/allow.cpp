#include <memory>
#include <utility>

#include "guides/inside.h"

namespace pensive {
namespace {

class AllowAfterThinking final : public Guide {
 public:
  explicit AllowAfterThinking(AnswerMask mask) : mask_(std::move(mask)) {}
  std::string_view name() const override { return "allow_after_thinking"; }
  std::unique_ptr<Guide> clone() const override {
    return std::make_unique<AllowAfterThinking>(*this);
  }

  Action on_start(const Moment& moment) override {
    begin_ = moment.prompt_tokens;
    return after(moment, moment.segment == Segment::answer);
  }

  Action on_token(const Moment& moment) override {
    const bool ends_thought = ends_thinking(moment) || moment.completes == Marker::answer_open;
    if (ends_thought) begin_ = static_cast<int>(moment.tokens.size());
    return after(moment, ends_thought || moment.segment == Segment::answer);
  }

 private:
  Action after(const Moment& moment, bool is_answer) const {
    if (!is_answer) return Proceed{};
    return Allow{mask_(moment.tokens.subspan(static_cast<std::size_t>(begin_)))};
  }

  AnswerMask mask_;
  int begin_ = 0;  // of the answer, in the tokens
};

}  // namespace

std::shared_ptr<const Guide> allow_after_thinking(AnswerMask mask) {
  require(mask != nullptr, ErrorCode::invalid_argument, "a function that fills a mask", "none",
          "allow_after_thinking");
  return std::make_shared<AllowAfterThinking>(std::move(mask));
}

}  // namespace pensive
