// From scores to honest intervals.
#pragma once
#include "pensive/exam.h"

namespace pensive {

struct Interval {
  double low = 0;
  double high = 0;
};

// Wilson's 95% interval of a share seen in `n` independent trials; 0 to 1 for none.
Interval wilson(double share, int n) noexcept;
// The two-sided 95% quantile of Student's t: 12.706 for one degree of freedom, falling to 1.960.
double t_quantile(int degrees) noexcept;
// Fills everything but `samples` and `problems` from `samples`.
//
// The interval is Wilson's where every score is 0 or 1 and there is one sample a problem, or where
// the clustered error says nothing: fewer than two problems, or every score the same. Samples of
// one problem then count as one trial. Scores outside 0 to 1 keep the normal interval.
void summarize(ExamResult& result);

}  // namespace pensive
