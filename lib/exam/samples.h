// The file of an exam's samples: a JSON line each.
#pragma once
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <span>
#include <vector>

#include "pensive/exam.h"

namespace pensive {

// One well-mixed seed a problem, so that arms with the same seed share their draws.
std::uint64_t seed_of(std::uint64_t seed, int problem) noexcept;

// Whole lines, flushed one by one. An empty path writes nothing.
class SampleFile {
 public:
  // Throws where it cannot be written, or is not to be begun; what it holds stays as it is.
  SampleFile(const std::filesystem::path& path, IfBegun if_begun);
  // Drops what is not kept: all, or where resumed what is behind the last whole line. The first
  // write() does it too.
  void begin();
  void write(const Problem& problem, const ExamSample& sample, std::uint64_t seed,
             const std::string& text);

 private:
  void check();
  std::filesystem::path path_;
  std::ofstream stream_;
  std::uintmax_t kept_bytes_ = 0;
  bool is_begun_ = false;
};

// What options.samples_file holds of these problems, samples and seed; nothing where there is no
// such file. Throws corrupt_file or invalid_argument naming the line, or io.
std::vector<ExamSample> kept_samples(std::span<const Problem> problems, const ExamOptions& options);

}  // namespace pensive
