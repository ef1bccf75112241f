// safetensors files are enemies: whatever is wrong with one is an Error that names it.
#include <fstream>
#include <random>

#include "model_helpers.h"

namespace pensive {
namespace {

using namespace pensive::testing;
using ::testing::HasSubstr;

struct Damaged {
  std::string name;
  std::string content;
  ErrorCode code;
  std::string says;
};

class DamagedFile : public ::testing::TestWithParam<Damaged> {};

TEST_P(DamagedFile, IsRefused) {
  const Scratch folder;
  const fs::path file = folder.write("model.safetensors", GetParam().content);
  const std::string message = error_of(GetParam().code, [&] { TensorFile tensors(file); });
  EXPECT_THAT(message, HasSubstr(GetParam().says));
  EXPECT_THAT(message, HasSubstr("model.safetensors"));
}

// One entry named "w"; `data` bytes of zeros follow.
std::string one(const std::string& entry, std::size_t data = 16) {
  return file_of("{\"w\":" + entry + "}", std::string(data, '\0'));
}
std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets,
                std::size_t data = 16) {
  return one(
      R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}",
      data);
}
std::string two(const std::string& first, const std::string& second, std::size_t data) {
  const std::string entry = R"({"dtype":"F32","shape":[2],"data_offsets":)";
  return file_of("{\"a\":" + entry + first + "},\"b\":" + entry + second + "}}",
                 std::string(data, '\0'));
}
std::string with_length(std::uint64_t length, const std::string& rest) {
  std::string file;
  for (std::size_t i = 0; i < 8; ++i) file += static_cast<char>(length >> (8 * i) & 0xff);
  return file + rest;
}

constexpr ErrorCode corrupt = ErrorCode::corrupt_file;

const Damaged damaged[] = {
    {"Empty", "", corrupt, "0 bytes"},
    {"SevenBytes", "1234567", corrupt, "7 bytes"},
    {"LengthOnly", with_length(2, ""), corrupt, "at most 0"},
    {"LengthZero", with_length(0, ""), corrupt, "JSON"},
    {"LengthPastTheEnd", with_length(100, "{}"), corrupt, "100"},
    {"LengthOfTwoTo63", with_length(1ULL << 63, "{}"), corrupt, "9223372036854775808"},
    {"LengthOfAllBits", with_length(~0ULL, "{}"), corrupt, "18446744073709551615"},
    {"NotJson", file_of("hello"), corrupt, "JSON"},
    {"TwoDocuments", file_of("{}{}"), corrupt, "JSON"},
    {"AList", file_of("[]"), corrupt, "array"},
    {"NotUtf8", file_of("{\"\xff\xfe\":1}"), corrupt, ""},
    {"Deep", file_of("{\"w\":" + std::string(100000, '[')), corrupt, "64 levels"},
    {"TwoKeys", file_of(R"({"w":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},
                           "w":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})"),
     corrupt, "two keys"},
    {"EntryIsANumber", one("3", 0), corrupt, "\"w\""},
    {"NoDtype", one(R"({"shape":[4],"data_offsets":[0,16]})"), corrupt, "dtype"},
    {"NoShape", one(R"({"dtype":"F32","data_offsets":[0,16]})"), corrupt, "shape"},
    {"NoOffsets", one(R"({"dtype":"F32","shape":[4]})"), corrupt, "data_offsets"},
    {"AnotherKey", one(R"({"dtype":"F32","shape":[4],"data_offsets":[0,16],"x":1})"), corrupt, "x"},
    {"UnknownDtype", one("F33", "[4]", "[0,16]"), corrupt, "F33"},
    {"Integers", one("I64", "[2]", "[0,16]"), ErrorCode::unsupported, "I64"},
    {"DtypeIsANumber", one(R"({"dtype":32,"shape":[4],"data_offsets":[0,16]})"), corrupt, "dtype"},
    {"NegativeShape", one("F32", "[-4]", "[0,16]"), corrupt, "-4"},
    {"BrokenShape", one("F32", "[4.0]", "[0,16]"), corrupt, "4.0"},
    {"TextShape", one("F32", "[\"4\"]", "[0,16]"), corrupt, "string"},
    {"HugeShape", one("F32", "[18446744073709551615]", "[0,16]"), corrupt, "18446744073709551615"},
    {"ShapeWrapsToZero", one("F32", "[4294967296,4294967296]", "[0,0]", 0), corrupt, "4294967296"},
    {"ShapeWrapsToSixteen", one("F32", "[4611686018427387908]", "[0,16]"), corrupt,
     "4611686018427387908"},
    {"ManyDimensions", one("F32", "[1,1,1,1,1,1,1,1,4]", "[0,16]"), corrupt, "dimensions"},
    {"ShapeTooSmall", one("F32", "[3]", "[0,16]"), corrupt, "Float [3]"},
    {"ShapeTooLarge", one("F32", "[5]", "[0,16]"), corrupt, "Float [5]"},
    {"HalfDtype", one("BF16", "[4]", "[0,16]"), corrupt, "BFloat16 [4]"},
    {"OneOffset", one("F32", "[4]", "[16]"), corrupt, "two data_offsets"},
    {"ThreeOffsets", one("F32", "[4]", "[0,16,16]"), corrupt, "two data_offsets"},
    {"OffsetsReversed", one("F32", "[4]", "[16,0]"), corrupt, "16 to 0"},
    {"OffsetsOutside", one("F32", "[8]", "[0,32]"), corrupt, "0 to 32"},
    {"OffsetsHuge", one("F32", "[4]", "[9223372036854775800,9223372036854775816]"), corrupt, ""},
    {"OffsetsNegative", one("F32", "[4]", "[-16,0]"), corrupt, "-16"},
    {"HoleInFront", one("F32", "[3]", "[4,16]"), corrupt, "byte 4"},
    {"BytesLeftOver", one("F32", "[3]", "[0,12]"), corrupt, "12"},
    {"Overlap", two("[0,8]", "[4,12]", 12), corrupt, "byte 4"},
    {"SamePlace", two("[0,8]", "[0,8]", 8), corrupt, "byte 0"},
    {"HoleBetween", two("[0,8]", "[12,20]", 20), corrupt, "byte 12"},
    {"MetadataNumber", file_of(R"({"__metadata__":{"a":1}})"), corrupt, "__metadata__"},
    {"MetadataList", file_of(R"({"__metadata__":[]})"), corrupt, "__metadata__"},
};

INSTANTIATE_TEST_SUITE_P(All, DamagedFile, ::testing::ValuesIn(damaged),
                         [](const auto& info) { return info.param.name; });

TEST(TensorFile, ReadsNumbersAtAnyAlignment) {
  const std::vector<float> values = {1.5f, -2.25f, 3};
  for (std::size_t spaces = 0; spaces < 8; ++spaces) {
    const Scratch folder;
    const std::string header = R"({"w":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}})";
    const std::string data(reinterpret_cast<const char*>(values.data()), 12);
    const fs::path path = folder.write("x", file_of(header + std::string(spaces, ' '), data));
    const TensorFile file(path);
    at::Tensor out = at::empty({3}, at::kDouble);
    copy_values(file.tensors().at("w"), "w", out);
    for (int i = 0; i < 3; ++i)
      EXPECT_EQ(out[i].item<double>(), values[static_cast<std::size_t>(i)]);
  }
}

TEST(TensorFile, WhatToSafetensorsWritesIsReadAgain) {
  const Scratch folder;
  const at::Tensor rows = at::arange(6, at::kFloat).view({2, 3});
  const fs::path path = folder.write("x", to_safetensors("rows", rows, {{"a", "ü \" \\"}}));
  const TensorFile file(path);
  EXPECT_EQ(file.metadata().at("a"), "ü \" \\");
  at::Tensor back = at::empty({2, 3}, at::kFloat);
  copy_values(file.tensors().at("rows"), "rows", back);
  EXPECT_TRUE(back.equal(rows));
}

TEST(TensorFile, AValueTooLargeForThePrecisionIsRefused) {
  const Scratch folder;
  const double value = 1e300;
  const std::string data(reinterpret_cast<const char*>(&value), 8);
  const fs::path path =
      folder.write("x", file_of(R"({"w":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}})", data));
  const TensorFile file(path);
  at::Tensor out = at::empty({1}, at::kFloat);
  const std::string message =
      error_of(corrupt, [&] { copy_values(file.tensors().at("w"), "w", out); });
  EXPECT_THAT(message, HasSubstr("\"w\""));
}

TEST(Weights, TruncatedAnywhereIsRefused) {
  const Scratch folder("plain");
  const Config config = config_of(folder.path());
  const fs::path file = folder.path() / "model.safetensors";
  std::uintmax_t size = fs::file_size(file);
  while (size > 0) {
    size -= std::min<std::uintmax_t>(size, size < 4000 ? 3 : 331);
    fs::resize_file(file, size);
    error_of(corrupt, [&] {
      read_weights(folder.path(), config, Precision::float32, Device{DeviceKind::cpu});
    });
    if (::testing::Test::HasFailure()) FAIL() << "at " << size << " bytes";
  }
}

TEST(Weights, RandomByteFlipsAreAnErrorOrHarmless) {
  const Scratch folder("linear");
  const Config config = config_of(folder.path());
  const fs::path path = folder.path() / "model.safetensors";
  const std::string good = read_text(path);
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  std::mt19937 random(1);
  int refused = 0;
  for (int round = 0; round < 4000; ++round) {
    // Most flips hit the header, where the structure is.
    const std::size_t within = round % 4 == 0 ? good.size() : 3000;
    std::vector<std::size_t> places;
    for (int flip = 0; flip <= round % 3; ++flip) {
      places.push_back(random() % within);
      file.seekp(static_cast<std::streamoff>(places.back()));
      file.put(static_cast<char>(random() % 256));
    }
    file.flush();
    try {
      read_weights(folder.path(), config, Precision::bfloat16, Device{DeviceKind::cpu});
    } catch (const Error& error) {
      ++refused;
      ASSERT_TRUE(error.code() == corrupt || error.code() == ErrorCode::unsupported)
          << error.what();
    }
    for (const std::size_t place : places) {
      file.seekp(static_cast<std::streamoff>(place));
      file.put(good[place]);
    }
  }
  EXPECT_GT(refused, 1000);
}

TEST(Config, RandomByteFlipsAreAnErrorOrHarmless) {
  for (const char* name : {"tied_llama3", "llama_yarn", "qwen2_dynamic", "qwen3_yarn"}) {
    const Scratch folder(name);
    const std::string good = read_text(folder.path() / "config.json");
    std::mt19937 random(2);
    for (int round = 0; round < 1000; ++round) {
      std::string bad = good;
      for (int flip = 0; flip <= round % 3; ++flip)
        bad[random() % bad.size()] = static_cast<char>(random() % 256);
      folder.write("config.json", bad);
      try {
        read_config(folder.path(), round % 2 ? UnknownKeys::warn : UnknownKeys::refuse, {});
      } catch (const Error& error) {
        ASSERT_TRUE(error.code() == corrupt || error.code() == ErrorCode::unsupported)
            << error.what();
      }
    }
  }
}

}  // namespace
}  // namespace pensive
