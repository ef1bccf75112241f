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

// Wilson's 95% interval of a share seen in `n` independent trials, which need not be whole; 0 to 1
// for none.
Interval wilson(double share, double n) noexcept;
// 95% of a share that is a mean over problems with that standard error: Student's t. Where it would
// say too much (fewer than ten trials' worth of right or of wrong answers), Wilson's of as many
// independent trials as have that error; of the problems where nothing is told apart.
Interval share_interval(double share, double error, int problems) noexcept;
// The two-sided quantile of Student's t: at 95%, 12.706 for one degree of freedom, falling
// to 1.960.
double t_quantile(int degrees, double confidence = 0.95) noexcept;
// The value that a share of them, at least, does not exceed; 0 for none.
double nearest_rank(std::vector<double> values, double share) noexcept;

// Sums over one problem's samples.
struct Cluster {
  int samples = 0;
  double score = 0, squares = 0;  // of scores
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

// Fills everything but `samples` and `problems` from `samples`. Scores outside 0 to 1 have the
// plain interval by t.
void summarize(ExamResult& result);

}  // namespace pensive
