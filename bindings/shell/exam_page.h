// The page of `pensive exam --html`, `compare --html` and `tune --html`: accuracy against tokens.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pensive/exam.h"

namespace pensive::shell {

// A point with its 95% intervals.
struct Dot {
  std::string name;
  double accuracy = 0, low = 0, high = 0;  // shares
  double tokens = 0, least = 0, most = 0;  // decoded, a response
  bool is_minor = false;                   // small and grey: a part of another
  bool is_chosen = false;                  // ringed
  std::vector<std::string> cells{};        // the rest of its row of the table
};
// Of a run: its accuracy, and its tokens by Student's t over problems.
Dot dot_of(const ExamResult& result, std::string name);
// The samples of a run by length, in as many parts of the same size as there is something to see.
std::vector<Dot> dots_by_length(const ExamResult& result, int parts);

struct ExamPage {
  std::string title, sub;              // sub: one line under the title
  std::vector<std::string> notes{};    // what it tells, a line each
  std::vector<std::string> columns{};  // of Dot::cells
  std::vector<Dot> dots{};
};
// One page that needs nothing else; nothing gets into it unescaped.
std::string html_of(const ExamPage& page);
// Throws io.
void write_page(const std::string& file, const ExamPage& page);

}  // namespace pensive::shell
