// ThinkBrake's boundaries. What else it does is in guides_test.cpp.
#include <string_view>

#include "pensive/guides.h"
#include "testing.h"

namespace pensive {
namespace {

// Whether it closes at the token after one that leaves the text ending so.
bool closes_after(Boundary at, std::string_view tail) {
  const auto guide = margin_brake({.closer = {91}, .max_margin_nats = 0.5f, .at = at})->clone();
  const float closer = -1.25f;
  Moment moment;
  moment.segment = Segment::think;
  moment.text = moment.tail = tail;
  moment.top_logprob = -1;
  moment.watched = {&closer, 1};
  guide->on_token(moment);
  moment.text = moment.tail = "But";
  return std::holds_alternative<Close>(guide->on_token(moment));
}

TEST(MarginBrake, LooksAfterTheBoundaryItIsTold) {
  constexpr Boundary paragraph = Boundary::paragraph, line = Boundary::line,
                     sentence = Boundary::sentence;
  EXPECT_EQ(MarginBrakeOptions{}.at, paragraph) << "as the paper's code does";
  const struct {
    std::string_view tail;
    Boundary at;
    bool closes;
  } table[] = {{"so.\n\n", paragraph, true}, {"so\n\n", paragraph, false},
               {"so.\n", paragraph, false},  {"so.", paragraph, false},
               {"so\n", line, true},         {"so.\n\n", line, true},
               {"so.", line, false},         {"so.", sentence, true},
               {"so\n", sentence, true},     {"so", sentence, false}};
  for (const auto& row : table)
    EXPECT_EQ(closes_after(row.at, row.tail), row.closes)
        << row.tail << " at " << static_cast<int>(row.at);
}

TEST(MarginBrake, IsMadeFromASpec) {
  const auto tokenizer = Tokenizer::load(PENSIVE_REASONER);
  const GuideContext context{tokenizer, find_markers(*tokenizer)};
  EXPECT_EQ(make_guide("margin:tau=2.5,at=sentence,min=5", context)->name(), "margin_brake");
  EXPECT_ERROR(make_guide("margin:at=page", context), ErrorCode::invalid_argument,
               "paragraph, line, sentence");
}

}  // namespace
}  // namespace pensive
