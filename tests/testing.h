// What every test may want: a folder that vanishes, the recorded data, an Error's code.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>

#include "pensive/base.h"

namespace pensive::testing {

// A new folder, removed with all it holds at the end of a scope.
class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "pensive-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::filesystem::path& path() const noexcept { return path_; }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// A file or folder of tests/data.
inline std::filesystem::path data(std::string_view name) {
  return std::filesystem::path(PENSIVE_TEST_DATA) / name;
}

// What tests/make_smollm2.py made, where the environment's PENSIVE_SMOLLM2 names it; nothing where
// it does not.
inline std::optional<std::filesystem::path> smollm2() {
  const char* named = std::getenv("PENSIVE_SMOLLM2");
  if (named == nullptr || !std::filesystem::exists(std::filesystem::path(named) / "golden.json"))
    return std::nullopt;
  return named;
}
inline constexpr std::string_view no_smollm2 =
    "no SmolLM2 here: tests/make_smollm2.py makes it, PENSIVE_SMOLLM2 names it";

inline void write_file(const std::filesystem::path& path, std::string_view content) {
  std::ofstream(path, std::ios::binary).write(content.data(), std::ssize(content));
}

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// The Error that `call` throws; nothing where it throws none.
template <class Call>
std::optional<Error> error_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

// Expects an Error of this code whose message holds this text.
#define EXPECT_ERROR(call, wanted_code, text)                                          \
  do {                                                                                 \
    const auto thrown = ::pensive::testing::error_of([&] { (void)(call); });           \
    ASSERT_TRUE(thrown.has_value()) << #call " threw nothing";                         \
    EXPECT_EQ(::pensive::to_string(thrown->code()), ::pensive::to_string(wanted_code)) \
        << thrown->what();                                                             \
    EXPECT_THAT(thrown->what(), ::testing::HasSubstr(text));                           \
  } while (false)

}  // namespace pensive::testing
