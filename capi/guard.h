// What every function of the core's C side shares: the guard, arguments checked, results handed
// out.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "pensive/base.h"
#include "table.h"

namespace door {

[[noreturn]] void refuse(const std::string& expected, const std::string& found,
                         const std::string& where);

// Turns the exception in flight into a status and, where there is a slot, an error.
int32_t report(pensive_error** error) noexcept;

template <typename Body>
int32_t guard(pensive_error** error, const Body& body) noexcept {
  if (error) *error = nullptr;
  try {
    body();
    return PENSIVE_OK;
  } catch (...) {
    return report(error);
  }
}

// Passes a callback's own failure on.
void check_callback(int32_t status, const char* callback);

template <typename T>
T& need(T* pointer, const char* argument) {
  if (!pointer) refuse("a pointer", "null", std::string("argument ") + argument);
  return *pointer;
}

// An argument that receives a handle or memory: empty until there is something to hand out.
template <typename T>
T*& out(T** pointer, const char* argument) {
  T*& slot = need(pointer, argument);
  slot = nullptr;
  return slot;
}

std::string_view text_in(const char* text, const char* argument);
std::string_view text_in(const char* text, std::size_t size, const char* argument);
inline std::string text_or(const char* text, const char* otherwise) {
  return text ? text : otherwise;
}

template <typename T>
std::span<const T> array_in(const T* items, std::size_t count, const char* argument) {
  if (count > 0) need(items, argument);
  return {items, count};
}
template <typename T>
std::vector<std::remove_const_t<T>> copy_in(T* items, std::size_t count, const char* argument) {
  const auto view = array_in(items, count, argument);
  return {view.begin(), view.end()};
}

// A flag is 0 or 1, a constant lies in its list, what is reserved is 0: all else is refused.
bool flag_in(int32_t value, const char* name);
int32_t choice_in(int32_t value, int32_t last, const char* name);
void check_zero(std::uint64_t value, const char* name);
template <typename T, std::size_t size>
void check_zero(const T (&values)[size], const char* name) {
  for (const T value : values) check_zero(value, name);
}
// Zero means the default.
template <typename T>
T number_or(T value, T otherwise) {
  return value == T{} ? otherwise : value;
}

// The first released size of each struct; when one grows, its first size is written down here.
template <typename T>
constexpr std::uint32_t first_size = sizeof(T);
template <>
inline constexpr std::uint32_t first_size<pensive_model_options> = 24;
template <>
inline constexpr std::uint32_t first_size<pensive_model_info> = 104;
template <>
inline constexpr std::uint32_t first_size<pensive_chat> = offsetof(pensive_chat, messages_json);

template <>
inline constexpr std::uint32_t first_size<pensive_request> = offsetof(pensive_request, min_p);
template <>
inline constexpr std::uint32_t first_size<pensive_problems> = offsetof(pensive_problems,
                                                                       target_tokens);
template <>
inline constexpr std::uint32_t first_size<pensive_trace> = offsetof(pensive_trace, top_tokens);
template <>
inline constexpr std::uint32_t first_size<pensive_trace_action> = offsetof(pensive_trace_action,
                                                                           draws);
template <>
inline constexpr std::uint32_t first_size<pensive_train_options> = offsetof(pensive_train_options,
                                                                            reward_names);
template <>
inline constexpr std::uint32_t first_size<pensive_train_report> = offsetof(pensive_train_report,
                                                                           judge_seconds);
template <>
inline constexpr std::uint32_t first_size<pensive_grader_callbacks> =
    offsetof(pensive_grader_callbacks, is_lenient);
template <>
inline constexpr std::uint32_t first_size<pensive_problem_fields> = offsetof(pensive_problem_fields,
                                                                             body);
template <>
inline constexpr std::uint32_t first_size<pensive_exam_result> = offsetof(pensive_exam_result,
                                                                          mean_first_partial);
template <>
inline constexpr std::uint32_t first_size<pensive_exam_sample> = offsetof(pensive_exam_sample,
                                                                          first_partial);
template <>
inline constexpr std::uint32_t first_size<pensive_exam_difference> =
    offsetof(pensive_exam_difference, detectable);

void check_size(std::uint32_t found, std::uint32_t least, const char* name);
void check_tail(const void* given, std::size_t from, std::size_t size, const char* name);

// The caller's struct as this version knows it: what it lacks is zero, what it has beyond must be.
template <typename T>
T struct_in(const T* given, const char* name) {
  T value{};
  if (given) {
    check_size(given->struct_size, first_size<T>, name);
    if (given->struct_size > sizeof(T)) check_tail(given, sizeof(T), given->struct_size, name);
    std::memcpy(&value, given, std::min<std::size_t>(given->struct_size, sizeof(T)));
  }
  value.struct_size = sizeof(T);
  return value;
}

// Writes what the caller has room for, and zeros beyond what this version knows.
template <typename T>
void struct_out(T* given, T value, const char* name) {
  const std::uint32_t size = need(given, name).struct_size;
  check_size(size, first_size<T>, name);
  value.struct_size = size;
  if (size > sizeof(T))
    std::memset(reinterpret_cast<char*>(given) + sizeof(T), 0, size - sizeof(T));
  std::memcpy(given, &value, std::min<std::size_t>(size, sizeof(T)));
}

void* allocate(std::size_t size);

void text_out(char** slot, std::size_t* size, std::string_view text);

template <typename T>
void array_out(T** slot, std::size_t* count, std::span<const T> items) {
  *slot = static_cast<T*>(allocate(items.size_bytes()));
  if (!items.empty()) std::memcpy(*slot, items.data(), items.size_bytes());
  *count = items.size();
}

// A caller's `user`. It is ours, and destroyed with this, once the call has succeeded.
struct User {
  void* user = nullptr;
  void (*destroy)(void*) = nullptr;
  bool is_ours = false;

  User(void* user, void (*destroy)(void*)) : user(user), destroy(destroy) {}
  User(const User&) = delete;
  User& operator=(const User&) = delete;
  ~User() {
    if (is_ours && destroy) destroy(user);
  }
};

}  // namespace door
