// Free thinking, then an answer in which a grammar has its say.
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "guides/inside.h"

namespace pensive {
namespace {

class AllowAfterThinking final : public Guide, public Told {
 public:
  AllowAfterThinking(AnswerMask mask, AnswerBegin begins)
      : mask_(std::make_shared<const AnswerMask>(std::move(mask))), begins_(begins) {}
  std::string_view name() const override { return "allow_after_thinking"; }
  std::string told() const override {
    return fmt::format("begins {}", static_cast<int>(begins_));  // a function tells nothing
  }
  std::unique_ptr<Guide> clone() const override {
    return std::make_unique<AllowAfterThinking>(*this);
  }

  Action on_start(const Moment& moment) override { return after(moment); }
  Action on_token(const Moment& moment) override { return after(moment); }

 private:
  Action after(const Moment& moment) {
    if (moment.next != Segment::answer) {
      is_answering_ = false;
      return Proceed{};
    }
    const std::size_t size = moment.tokens.size();
    // The closer again: it was taken back in between.
    if (!is_answering_ || ends_thinking(moment)) {
      is_answering_ = true;
      has_drawn_ = false;
      begin_ = size;
    } else if (moment.origin == Origin::sampled) {
      has_drawn_ = true;
    }
    const bool is_before = !has_drawn_ && begins_ == AnswerBegin::at_first_drawn;
    begin_ = is_before ? size : std::min(begin_, size);
    std::vector<std::uint32_t> words = (*mask_)(moment.tokens.subspan(begin_));
    if (words.empty()) return Proceed{};
    return Allow{std::move(words)};
  }

  std::shared_ptr<const AnswerMask> mask_;
  AnswerBegin begins_;
  bool is_answering_ = false;
  bool has_drawn_ = false;  // since the answer began
  std::size_t begin_ = 0;   // of the answer, in all tokens
};

}  // namespace

std::shared_ptr<const Guide> allow_after_thinking(AnswerMask mask, AnswerBegin begins) {
  require(mask != nullptr, ErrorCode::invalid_argument, "a function that fills a mask", "none",
          "allow_after_thinking");
  return std::make_shared<AllowAfterThinking>(std::move(mask), begins);
}

}  // namespace pensive
