// Where the answers of a response stand.
#pragma once
#include "pensive/judge.h"
#include "pensive/trace.h"

namespace pensive {

// As shares of the response; 1 for what there is none of.
struct Places {
  double first_answer = 1;   // the first of all
  double first_partial = 1;  // the first, where another follows
  double first_correct = 1;  // the first that correct() takes for the reference
};
Places places_of(const Trace& trace, const Tokenizer& tokenizer, const Problem& problem);

}  // namespace pensive
