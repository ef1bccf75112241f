#include "train_lines.h"

#include <fmt/core.h>

#include <filesystem>

#include "shell.h"

namespace pensive::shell {
namespace {

[[noreturn]] void fail(const std::string& file) {
  throw Error(ErrorCode::io,
              fmt::format("expected a file with room to write to; found none ({})", file));
}

}  // namespace

std::vector<std::string> whole_lines(const std::string& file, std::string_view beginning) {
  std::vector<std::string> lines;
  if (file.empty() || !std::filesystem::is_regular_file(file)) return lines;
  const std::string text = read_file(file);
  // Also of a first line that was cut off.
  const std::string_view begins = std::string_view(text).substr(0, beginning.size());
  if (begins != beginning.substr(0, begins.size()))
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("expected lines that begin with {}, or no file; found '{}' ({})", beginning,
                    text.substr(0, std::min<std::size_t>(text.find('\n'), 60)), file));
  for (std::size_t from = 0, end = 0; (end = text.find('\n', from)) != text.npos; from = end + 1)
    lines.push_back(text.substr(from, end - from));
  return lines;
}

std::uintmax_t bytes_of(const std::vector<std::string>& lines, std::size_t count) {
  std::uintmax_t bytes = 0;
  for (std::size_t i = 0; i < count; ++i) bytes += lines[i].size() + 1;
  return bytes;
}

LineFile::LineFile(const std::string& file, std::uintmax_t kept) : file_(file) {
  if (file.empty()) return;
  // Never emptied and filled again: a full disk or a kill in between would lose all.
  std::error_code failure;
  if (std::filesystem::is_regular_file(file)) std::filesystem::resize_file(file, kept, failure);
  if (failure) fail(file);
  out_.open(file, std::ios::binary | std::ios::app);
  if (!out_) fail(file);
}

void LineFile::add(const std::string& line) {
  if (file_.empty()) return;
  out_ << line + "\n" << std::flush;
  if (!out_) fail(file_);
}

}  // namespace pensive::shell
