// Files of JSON lines that a run adds to, and that a later one goes on with.
#pragma once
#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace pensive::shell {

// The whole lines of an ordinary file, without their ends; none where there is no such file. What
// was cut off in writing is left out. Throws invalid_argument where the text does not begin as
// `beginning` does: it is a file of something else, and nobody's to shorten.
std::vector<std::string> whole_lines(const std::string& file, std::string_view beginning);

// What so many of the first lines take in the file.
std::uintmax_t bytes_of(const std::vector<std::string>& lines, std::size_t count);

// Adds lines, each of which is on its way to the disk when add() returns. Throws io.
class LineFile {
 public:
  // Of what is there, the first `kept` bytes stay, and are never written again. An empty name:
  // lines go nowhere.
  LineFile(const std::string& file, std::uintmax_t kept);
  void add(const std::string& line);

 private:
  std::string file_;
  std::ofstream out_;
};

}  // namespace pensive::shell
