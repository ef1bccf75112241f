// Files of traces, one a line.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/inside.h"
#include "trace/lines.h"

namespace pensive {
namespace {

// Calls `take` with each line of a file and with its name for errors.
template <class Take>
void for_each_line(const std::filesystem::path& file, Take take) {
  const std::string content = read_text(file);
  std::string_view rest = content;
  for (int number = 1; !rest.empty(); ++number) {
    const std::size_t end = rest.find('\n');
    take(rest.substr(0, end), fmt::format("{}, line {}", file.string(), number));
    rest = end == std::string_view::npos ? "" : rest.substr(end + 1);
  }
}

[[noreturn]] void fail_system(const std::filesystem::path& file) {
  fail(ErrorCode::io, "a file that can be written", std::generic_category().message(errno),
       file.string());
}

// An open file that is written to at its end.
class Appended {
 public:
  explicit Appended(const std::filesystem::path& file)
      : path_(file), file_(::open(file.c_str(), O_RDWR | O_APPEND | O_CLOEXEC)) {
    if (file_ < 0) fail_system(path_);
    struct stat status = {};
    if (::fstat(file_, &status) == 0) size_ = status.st_size;
  }
  ~Appended() { ::close(file_); }
  Appended(const Appended&) = delete;
  Appended& operator=(const Appended&) = delete;

  // What is added to half a line would be lost with it.
  void require_whole_lines() const {
    char last = '\n';
    if (size_ > 0 && ::pread(file_, &last, 1, size_ - 1) != 1) fail_system(path_);
    require(last == '\n', ErrorCode::corrupt_file, "a file that ends with a whole line",
            "a line without an end", path_.string());
  }

  void write(std::string_view content) {
    while (!content.empty()) {
      const ssize_t written = ::write(file_, content.data(), content.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) cut_and_fail();
      content.remove_prefix(static_cast<std::size_t>(written));
    }
    if (::fsync(file_) != 0) cut_and_fail();
  }

 private:
  [[noreturn]] void cut_and_fail() {
    const int error = errno;
    if (::ftruncate(file_, size_) != 0) errno = error;
    errno = error;
    fail_system(path_);
  }

  std::filesystem::path path_;
  int file_;
  off_t size_ = 0;
};

}  // namespace

void save(std::span<const Trace> traces, const std::filesystem::path& file, IfExists if_exists) {
  std::string lines;
  for (const Trace& trace : traces) lines += line_of(trace);
  std::error_code ignored;  // what is wrong with the path shows when it is written
  if (if_exists == IfExists::replace || !std::filesystem::exists(file, ignored))
    return write_whole(file, lines);
  Appended appended(file);
  appended.require_whole_lines();
  appended.write(lines);
}

std::vector<Trace> load_traces(const std::filesystem::path& file) {
  std::vector<Trace> traces;
  for_each_line(file, [&](std::string_view line, const std::string& where) {
    traces.push_back(read_line(line, where));
  });
  return traces;
}

Salvage salvage_traces(const std::filesystem::path& file) {
  Salvage found;
  for_each_line(file, [&](std::string_view line, const std::string& where) {
    try {
      found.traces.push_back(read_line(line, where));
    } catch (const Error& error) {
      if (found.lost_lines++ == 0) found.loss = error.what();
    }
  });
  return found;
}

}  // namespace pensive
