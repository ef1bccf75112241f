#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <system_error>
#include <utility>

#include "base/inside.h"

namespace pensive {
namespace {

[[noreturn]] void fail_system(std::string_view expected, int error,
                              const std::filesystem::path& path) {
  const bool is_missing = error == ENOENT || error == ENOTDIR;
  fail(is_missing ? ErrorCode::not_found : ErrorCode::io, expected,
       is_missing ? "none" : std::generic_category().message(error), path.string());
}

// Closes at the end of a scope.
class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const noexcept { return number_; }

 private:
  int number_;
};

int open_to_read(const std::filesystem::path& path) {
  const int number = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (number < 0) fail_system("a file that can be read", errno, path);
  return number;
}

struct stat status_of(const Descriptor& file, const std::filesystem::path& path) {
  struct stat status = {};
  if (::fstat(file.number(), &status) != 0) fail_system("a file's size", errno, path);
  require(!S_ISDIR(status.st_mode), ErrorCode::io, "a file", "a folder", path.string());
  return status;
}

}  // namespace

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  const Descriptor file(open_to_read(path));
  const struct stat status = status_of(file, path);
  require(S_ISREG(status.st_mode), ErrorCode::io, "an ordinary file", "a device or a pipe",
          path.string());
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;
  void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.number(), 0);
  if (data == MAP_FAILED) fail_system("a file that can be mapped", errno, path);
  data_ = static_cast<const std::byte*>(data);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

std::string read_text(const std::filesystem::path& path) {
  const Descriptor file(open_to_read(path));
  const struct stat status = status_of(file, path);
  std::string text;
  std::size_t filled = 0;
  // One byte more than the size, so that an ordinary file ends without growing the buffer.
  text.resize(S_ISREG(status.st_mode) ? static_cast<std::size_t>(status.st_size) + 1 : 1 << 16);
  while (true) {
    if (filled == text.size()) text.resize(2 * text.size());
    const ssize_t got = ::read(file.number(), text.data() + filled, text.size() - filled);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_system("a file that can be read", errno, path);
    if (got == 0) break;
    filled += static_cast<std::size_t>(got);
  }
  text.resize(filled);
  return text;
}

namespace {

// A new file under a name nobody else has, removed again unless keep() was called.
class Draft {
 public:
  explicit Draft(const std::filesystem::path& target)
      : target_(target), file_(create(target, path_)) {}
  ~Draft() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  int number() const noexcept { return file_.number(); }

  void write(std::string_view content) {
    while (!content.empty()) {
      const ssize_t written = ::write(number(), content.data(), content.size());
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail_system("a file that can be written", errno, target_);
      content.remove_prefix(static_cast<std::size_t>(written));
    }
    if (::fsync(number()) != 0) fail_system("a disk that keeps what is written", errno, target_);
  }

  void keep() {
    if (::rename(path_.c_str(), target_.c_str()) != 0)
      fail_system("a file that can be replaced", errno, target_);
    path_.clear();
  }

 private:
  static int create(const std::filesystem::path& target, std::filesystem::path& path) {
    for (int attempt = 0; attempt < 8; ++attempt) {
      std::uint64_t number = 0;
      if (::getrandom(&number, sizeof number, 0) != sizeof number) continue;
      path = target.parent_path() / fmt::format(".pensive-{:016x}", number);
      const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (file >= 0) return file;
      path.clear();
      if (errno != EEXIST) fail_system("a folder that can be written", errno, target);
    }
    fail(ErrorCode::io, "a free name for a draft", "none", target.string());
  }

  std::filesystem::path target_;
  std::filesystem::path path_;  // before file_: create() fills it
  Descriptor file_;
};

}  // namespace

void write_whole(const std::filesystem::path& path, std::string_view content) {
  std::error_code error;
  // What a link points to is replaced, not the link.
  const bool is_link = std::filesystem::is_symlink(path, error);
  const std::filesystem::path target =
      is_link ? std::filesystem::weakly_canonical(path, error) : path;
  require(!error || !is_link, ErrorCode::io, "a link that can be followed", error.message(),
          path.string());
  struct stat before = {};
  const bool is_there = ::stat(target.c_str(), &before) == 0;
  if (is_there) {
    require(!S_ISDIR(before.st_mode), ErrorCode::io, "a file", "a folder", path.string());
    // A rename would put an ordinary file in its place.
    require(S_ISREG(before.st_mode), ErrorCode::io, "an ordinary file", "a device or a pipe",
            path.string());
  }
  Draft draft(target);
  // A wish: some file systems have no modes.
  if (is_there) ::fchmod(draft.number(), before.st_mode & 07777);
  draft.write(content);
  draft.keep();
  // The name is part of the folder, which has to reach the disk too.
  const std::filesystem::path parent = target.has_parent_path() ? target.parent_path() : ".";
  const Descriptor folder(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.number() >= 0) ::fsync(folder.number());
}

}  // namespace pensive
