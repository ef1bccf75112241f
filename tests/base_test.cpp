#include <sys/stat.h>

#include <cmath>

#include "base/inside.h"
#include "testing.h"

namespace pensive {
namespace {

using testing::read_file;
using testing::TempDir;
using testing::write_file;
using Json = nlohmann::ordered_json;

TEST(Device, ReadsWhatItWrites) {
  for (const char* text : {"auto", "cpu", "cuda:0", "cuda:7"})
    EXPECT_EQ(to_string(Device::parse(text)), text);
  EXPECT_EQ(Device::parse("cuda"), (Device{DeviceKind::cuda, 0}));
}

TEST(Device, RefusesOtherTexts) {
  for (const char* text : {"", "CPU", "cpu:0", "cuda:", "cuda:-1", "cuda:1x", "cuda: 1", "cuda:+1",
                           "cuda:99999999999", "gpu"})
    EXPECT_ERROR(Device::parse(text), ErrorCode::invalid_argument, "expected auto, cpu");
}

TEST(ErrorText, SaysWhatWasExpectedFoundAndWhere) {
  EXPECT_ERROR(fail(ErrorCode::busy, "room", "none", "the queue"), ErrorCode::busy,
               "expected room; found none (the queue)");
  EXPECT_EQ(testing::error_of([] { fail(ErrorCode::io, "a", "b", ""); })->what(),
            std::string("expected a; found b"));
}

TEST(ErrorText, IsAlwaysUtf8) {
  EXPECT_ERROR(fail(ErrorCode::corrupt_file, "text", "\xff\xe2\x98", "x"), ErrorCode::corrupt_file,
               "found \xef\xbf\xbd\xef\xbf\xbd (x)");
}

TEST(ErrorText, NamesEveryCode) {
  EXPECT_EQ(to_string(ErrorCode::invalid_argument), "invalid_argument");
  EXPECT_EQ(to_string(ErrorCode::internal), "internal");
  EXPECT_EQ(to_string(static_cast<ErrorCode>(200)), "unknown");
}

TEST(InQuotes, CutsAndEscapes) {
  EXPECT_EQ(in_quotes("a\nb"), "\"a\\x0ab\"");
  EXPECT_EQ(in_quotes(std::string(100, 'x')), '"' + std::string(80, 'x') + "…\"");
}

TEST(Utf8, MeasuresTheFirstCharacter) {
  EXPECT_EQ(utf8_length(""), 0);
  EXPECT_EQ(utf8_length("a"), 1);
  EXPECT_EQ(utf8_length("é"), 2);
  EXPECT_EQ(utf8_length("€"), 3);
  EXPECT_EQ(utf8_length("😀x"), 4);
  EXPECT_EQ(utf8_length("\xf0\x9f\x98"), 0);    // may go on
  EXPECT_EQ(utf8_length("\xf0\x9f\x98x"), -3);  // does not
  EXPECT_EQ(utf8_length("\x80"), -1);
  EXPECT_EQ(utf8_length("\xc0\x80"), -1);          // overlong
  EXPECT_EQ(utf8_length("\xe0\x80\x80"), -1);      // overlong
  EXPECT_EQ(utf8_length("\xed\xa0\x80"), -1);      // a surrogate
  EXPECT_EQ(utf8_length("\xf4\x90\x80\x80"), -1);  // above U+10FFFF
  EXPECT_EQ(utf8_length("\xf5\x80\x80\x80"), -1);
}

TEST(Utf8, ReplacesEachBrokenRunOnce) {
  EXPECT_EQ(to_utf8("plain é"), "plain é");
  EXPECT_EQ(to_utf8("a\xe2\x98z"), "a\xef\xbf\xbdz");
  EXPECT_EQ(to_utf8("\xff\xff"), "\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(to_utf8("\xf0\x9f\x98"), "\xef\xbf\xbd");
}

TEST(MappedFile, ShowsTheBytes) {
  const TempDir folder;
  write_file(folder / "a", "hello");
  MappedFile file(folder / "a");
  EXPECT_EQ(file.bytes().size(), 5u);
  EXPECT_EQ(static_cast<char>(file.bytes()[4]), 'o');
  const MappedFile moved(std::move(file));
  EXPECT_EQ(moved.bytes().size(), 5u);
  EXPECT_EQ(moved.path(), folder / "a");
}

TEST(MappedFile, TakesAnEmptyFile) {
  const TempDir folder;
  write_file(folder / "a", "");
  EXPECT_TRUE(MappedFile(folder / "a").bytes().empty());
}

TEST(MappedFile, RefusesWhatIsNoFile) {
  const TempDir folder;
  EXPECT_ERROR(MappedFile(folder / "none"), ErrorCode::not_found, "none");
  EXPECT_ERROR(MappedFile(folder.path()), ErrorCode::io, "a folder");
  write_file(folder / "a", "");
  EXPECT_ERROR(MappedFile(folder / "a" / "b"), ErrorCode::not_found, "");
}

TEST(ReadText, TakesEveryByte) {
  const TempDir folder;
  const std::string text("a\0b\r\n\xff", 6);
  write_file(folder / "a", text);
  EXPECT_EQ(read_text(folder / "a"), text);
  write_file(folder / "a", "");
  EXPECT_EQ(read_text(folder / "a"), "");
  const std::string large(300000, 'x');
  write_file(folder / "a", large);
  EXPECT_EQ(read_text(folder / "a"), large);
}

TEST(ReadText, ReportsWhatIsMissing) {
  const TempDir folder;
  EXPECT_ERROR(read_text(folder / "none"), ErrorCode::not_found, "none");
  EXPECT_ERROR(read_text(folder.path()), ErrorCode::io, "a folder");
}

TEST(WriteWhole, ReplacesAndLeavesNothingBeside) {
  const TempDir folder;
  write_whole(folder / "a", "one");
  write_whole(folder / "a", "two, longer");
  EXPECT_EQ(read_file(folder / "a"), "two, longer");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(WriteWhole, KeepsModesAndLinks) {
  const TempDir folder;
  write_file(folder / "a", "one");
  ::chmod((folder / "a").c_str(), 0640);
  std::filesystem::create_symlink("a", folder / "link");
  write_whole(folder / "link", "two");
  EXPECT_EQ(read_file(folder / "a"), "two");
  EXPECT_TRUE(std::filesystem::is_symlink(folder / "link"));
  struct stat status = {};
  ASSERT_EQ(::stat((folder / "a").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0640u);
}

TEST(WriteWhole, ReportsWhereItCannot) {
  const TempDir folder;
  EXPECT_ERROR(write_whole(folder / "no" / "a", "x"), ErrorCode::not_found, "no/a");
  std::filesystem::create_directory(folder / "b");
  EXPECT_ERROR(write_whole(folder / "b", "x"), ErrorCode::io, "a folder");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 1);
}

TEST(WriteWhole, ReplacesNoPipeAndNoDevice) {
  const TempDir folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  std::filesystem::create_symlink("pipe", folder / "link");
  for (const char* name : {"pipe", "link"})
    EXPECT_ERROR(write_whole(folder / name, "x"), ErrorCode::io, "a device or a pipe");
  EXPECT_TRUE(std::filesystem::is_fifo(folder / "pipe"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 2);
}

TEST(ParseJson, KeepsOrderAndTypes) {
  const Json json = parse_json(R"({"b": 1, "a": [true, null, -2.5, "x", {}], "c": 1e3})", "f");
  EXPECT_EQ(json.dump(), R"({"b":1,"a":[true,null,-2.5,"x",{}],"c":1000.0})");
  EXPECT_EQ(parse_json("3", "f").dump(), "3");
}

TEST(ParseJson, RefusesBrokenText) {
  for (const char* text : {"", "{", "[1,]", "{\"a\":}", "nul", "1 2", "{'a':1}", "// x\n1",
                           "\"\xff\"", "1e999", "NaN", "\"\\ud800\"", "{\"a\" 1}", "[1", "\"a"})
    EXPECT_ERROR(parse_json(text, "some.json"), ErrorCode::corrupt_file, "some.json");
}

TEST(ParseJson, SaysWhere) {
  EXPECT_ERROR(parse_json("{\"a\": 1,\n  x}", "f.json"), ErrorCode::corrupt_file, "line 2");
}

TEST(ParseJson, RefusesDuplicateKeys) {
  EXPECT_ERROR(parse_json(R"({"a":1,"b":{"a":2},"a":3})", "f"), ErrorCode::corrupt_file,
               "two keys \"a\"");
  EXPECT_ERROR(parse_json(R"([{"x":{"k":1,"k":1}}])", "f"), ErrorCode::corrupt_file, "\"k\"");
  EXPECT_NO_THROW(parse_json(R"([{"a":1},{"a":1}])", "f"));
}

TEST(ParseJson, RefusesDepth) {
  const auto nested = [](int levels) {
    return std::string(static_cast<std::size_t>(levels), '[') +
           std::string(static_cast<std::size_t>(levels), ']');
  };
  EXPECT_NO_THROW(parse_json(nested(64), "f"));
  EXPECT_ERROR(parse_json(nested(65), "f"), ErrorCode::corrupt_file, "64 levels");
  EXPECT_ERROR(parse_json(std::string(1000000, '['), "f"), ErrorCode::corrupt_file, "64 levels");
}

TEST(ParseJson, ReadsManyKeysInLinearTime) {
  std::string text = "{";
  for (int i = 0; i < 200000; ++i) text += fmt::format("{}\"k{}\":{}", i == 0 ? "" : ",", i, i);
  EXPECT_EQ(parse_json(text + "}", "f").size(), 200000u);
}

TEST(Member, GivesEachType) {
  const Json json = parse_json(R"({"b":true,"i":-3,"d":2.5,"s":"x","o":{"y":1},"n":null})", "f");
  EXPECT_TRUE(member<bool>(json, "b", "f"));
  EXPECT_EQ(member<std::int64_t>(json, "i", "f"), -3);
  EXPECT_EQ(member<double>(json, "d", "f"), 2.5);
  EXPECT_EQ(member<double>(json, "i", "f"), -3.0);
  EXPECT_EQ(member<std::string>(json, "s", "f"), "x");
  EXPECT_EQ(member<Json>(json, "o", "f").dump(), R"({"y":1})");
  EXPECT_TRUE(member<Json>(json, "n", "f").is_null());
}

TEST(Member, NamesFileAndKey) {
  const Json json = parse_json(R"({"b":1,"i":2.0,"big":18446744073709551615,"s":null})", "f");
  EXPECT_ERROR(member<bool>(json, "b", "f.json"), ErrorCode::corrupt_file, "\"b\"");
  EXPECT_ERROR(member<std::int64_t>(json, "i", "f.json"), ErrorCode::corrupt_file, "f.json");
  EXPECT_ERROR(member<std::int64_t>(json, "big", "f.json"), ErrorCode::corrupt_file, "18446744");
  EXPECT_ERROR(member<std::string>(json, "s", "f.json"), ErrorCode::corrupt_file, "null");
  EXPECT_ERROR(member<double>(json, "none", "f.json"), ErrorCode::corrupt_file, "\"none\"");
  EXPECT_ERROR(member<bool>(parse_json("[]", "f"), "b", "f.json"), ErrorCode::corrupt_file, "list");
}

}  // namespace
}  // namespace pensive
