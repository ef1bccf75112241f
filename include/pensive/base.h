// base: the words every other room uses: token ids, devices, errors, the log sink, the version.
//
// Plain C++20. Nothing in these headers names a third-party type.
#pragma once
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>

#if defined(_WIN32)
#define PENSIVE_EXPORT
#else
#define PENSIVE_EXPORT __attribute__((visibility("default")))
#endif

namespace pensive {

// An index into a model's embedding. Ids at or above Model::vocab_size() name soft rows.
using TokenId = std::int32_t;

enum class DeviceKind : std::uint8_t {
  automatic,  // CUDA where this build, this torch and this machine have it, else the CPU
  cpu,
  cuda
};

// Where a model's weights live and where its engines run.
struct PENSIVE_EXPORT Device {
  DeviceKind kind = DeviceKind::automatic;
  int index = 0;  // which card; 0 on a CPU

  // Reads "auto", "cpu", "cuda" or "cuda:1". Throws invalid_argument on anything else.
  static Device parse(std::string_view text);
  friend bool operator==(const Device&, const Device&) = default;
};

// "auto", "cpu", "cuda:0".
PENSIVE_EXPORT std::string to_string(const Device& device);

// What kind of trouble an Error reports. The list only ever grows at its end; the C header
// uses the same numbers plus one.
enum class ErrorCode : std::uint8_t {
  invalid_argument,  // the caller passed something that can never work
  unsupported,       // understood, and not done by this build or this version
  corrupt_file,      // a file's content contradicts itself or its format
  not_found,         // a file, a token or a name that does not exist
  io,                // the operating system refused to read or write
  out_of_memory,     // host or device memory, or pages of the cache
  device,            // the accelerator failed
  cancelled,         // the caller asked to stop
  deadline,          // the caller's time was up
  busy,              // a bounded queue was full
  abi_mismatch,      // libtorch, or a part of pensive, is of another version
  internal           // a defect in pensive; please report it
};

// "invalid_argument", "unsupported", …
PENSIVE_EXPORT std::string_view to_string(ErrorCode code);

// The one exception this library throws.
//
// what() reads "expected <what was expected>; found <what was found> (<where>)".
class PENSIVE_EXPORT Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& what) : std::runtime_error(what), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

// The bits of a product depend on how many rows it has. `row_invariant` adds up in one order for
// any number, so that a sequence gets the same bits alone and in any batch, at a price in speed.
enum class Arithmetic : std::uint8_t { fast, row_invariant };
enum class LogLevel : std::uint8_t { info, warning };

// Receives one line without a newline. Given to a model, engine or trainer in its options;
// the library itself never prints. Called on the thread that made the call being reported,
// never under a lock.
using LogSink = std::function<void(LogLevel, std::string_view)>;

// "0.1.0"
PENSIVE_EXPORT std::string_view version() noexcept;

}  // namespace pensive
