// What rooms share behind the doors: failing well, mapped files, JSON that knows where it stands.
#pragma once
#include <fmt/format.h>

#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>

#include "pensive/base.h"

namespace pensive {

// Throws Error(code, "expected <expected>; found <found> (<where>)").
[[noreturn]] void fail(ErrorCode code, std::string_view expected, std::string_view found,
                       std::string_view where);

inline void require(bool holds, ErrorCode code, std::string_view expected, std::string_view found,
                    std::string_view where) {
  if (!holds) fail(code, expected, found, where);
}

// A text in quotes for a message: cut when long, control characters escaped, always UTF-8.
std::string in_quotes(std::string_view text);

// Length of the character that `text` begins with: 1 to 4; 0 when `text` is empty or ends inside
// it; -n when its first n bytes are no UTF-8 (what U+FFFD stands for once).
int utf8_length(std::string_view text) noexcept;
// The same text with U+FFFD for every run of bytes that is no UTF-8.
std::string to_utf8(std::string_view bytes);

// A file mapped for reading. Throws not_found or io.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;

  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// The whole file as text. Throws not_found or io.
std::string read_text(const std::filesystem::path& path);

// Writes beside the file, syncs and renames: a reader sees the old content or the new, never half.
void write_whole(const std::filesystem::path& path, std::string_view content);

// Parses one JSON document: no comments, no duplicate keys, at most 64 levels deep. `where` names
// the file (and line) in errors, which are corrupt_file.
nlohmann::ordered_json parse_json(std::string_view text, std::string_view where);

// An object's member with its file and key in every error. Throws corrupt_file when it is missing
// or of another type. T: bool, std::int64_t, double, std::string, nlohmann::ordered_json.
template <class T>
T member(const nlohmann::ordered_json& object, std::string_view key, std::string_view where);

}  // namespace pensive
