// From scores to honest intervals.
#pragma once
#include <limits>
#include <vector>

#include "pensive/exam.h"

namespace pensive {

struct Interval {
  double low = 0;
  double high = 0;
};

// Wilson's 95% interval of a share seen in `n` independent trials; 0 to 1 for none.
Interval wilson(double share, int n) noexcept;
// The two-sided quantile of Student's t: at 95%, 12.706 for one degree of freedom, falling
// to 1.960.
double t_quantile(int degrees, double confidence = 0.95) noexcept;
// The value that a share of them, at least, does not exceed; 0 for none.
double nearest_rank(std::vector<double> values, double share) noexcept;

// Sums over one problem's samples.
struct Cluster {
  int samples = 0;
  double score = 0;
  double tokens = 0;
};

// One for each problem that has a sample.
std::vector<Cluster> clusters(const ExamResult& result,
                              double ExamSample::*score = &ExamSample::score);

struct Mean {
  double value = 0;
  double error = std::numeric_limits<double>::infinity();  // of the mean; infinite for n < 2
};

Mean mean_of(const std::vector<double>& values);

// Exact, two-sided: 1 where no problem differs.
double mcnemar(int improved, int worsened) noexcept;
// Paired::p_value of problems' differences.
double sign_flips(const std::vector<double>& differences);

// Fills everything but `samples` and `problems` from `samples`.
//
// The interval is Wilson's where every score is 0 or 1 and there is one sample a problem, or where
// the clustered error says nothing: fewer than two problems, or every score the same. Samples of
// one problem then count as one trial. Scores outside 0 to 1 keep the normal interval.
void summarize(ExamResult& result);

}  // namespace pensive
