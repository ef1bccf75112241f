// Where the answers of a response stand.
#pragma once
#include "pensive/judge.h"

namespace pensive {

// As shares of the response; 1 for what there is none of.
struct Places {
  double first_answer = 1;  // the first of all
  // The first that is an intermediate or the reference; without intermediates, that another
  // follows.
  double first_partial = 1;
  double first_correct = 1;  // the first that correct() takes for the reference
};
Places places_of(const Response& response, const Problem& problem);

}  // namespace pensive
