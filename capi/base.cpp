#include "guard.h"

#include <algorithm>
#include <new>

namespace door {

namespace {

int32_t tell(pensive_error** error, int32_t status, const char* message) noexcept {
  if (!error) return status;
  const std::size_t length = std::strlen(message);
  *error = static_cast<pensive_error*>(std::malloc(sizeof(pensive_error) + length));
  if (*error) {
    (*error)->status = status;
    std::memcpy((*error)->message, message, length + 1);
  }
  return status;
}

}  // namespace

void refuse(const std::string& expected, const std::string& found, const std::string& where) {
  throw pensive::Error(pensive::ErrorCode::invalid_argument,
                       "expected " + expected + "; found " + found + " (" + where + ")");
}

int32_t report(pensive_error** error) noexcept {
  try {
    throw;
  } catch (const pensive::Error& e) {
    return tell(error, static_cast<int32_t>(e.code()) + 1, e.what());
  } catch (const std::bad_alloc&) {
    return tell(error, PENSIVE_OUT_OF_MEMORY, "expected memory; found none left (host)");
  } catch (const std::exception& e) {
    return tell(error, PENSIVE_INTERNAL, e.what());
  } catch (...) {
    return tell(error, PENSIVE_INTERNAL, "expected an error; found an unknown exception (capi)");
  }
}

void check_callback(int32_t status, const char* callback) {
  if (status == PENSIVE_OK) return;
  const bool is_known = status > PENSIVE_OK && status <= PENSIVE_INTERNAL;
  const auto code =
      is_known ? static_cast<pensive::ErrorCode>(status - 1) : pensive::ErrorCode::invalid_argument;
  throw pensive::Error(code, "expected a callback that returns 0; found status " +
                                 std::to_string(status) + " (" + callback + ")");
}

std::string_view text_in(const char* text, const char* argument) { return {&need(text, argument)}; }

std::string_view text_in(const char* text, std::size_t size, const char* argument) {
  if (size == PENSIVE_ZERO_TERMINATED) return text_in(text, argument);
  if (size > 0) need(text, argument);
  return {text, size};
}

bool flag_in(int32_t value, const char* name) {
  if (value != 0 && value != 1) refuse("0 or 1", std::to_string(value), name);
  return value == 1;
}

int32_t choice_in(int32_t value, int32_t last, const char* name) {
  if (value < 0 || value > last)
    refuse("0 to " + std::to_string(last), std::to_string(value), name);
  return value;
}

void check_zero(std::uint64_t value, const char* name) {
  if (value != 0) refuse("0", std::to_string(value), name);
}

void check_size(std::uint32_t found, std::uint32_t least, const char* name) {
  constexpr std::uint32_t most = 1 << 16;  // beyond this it was never set
  if (found < least || found > most)
    refuse("struct_size of " + std::to_string(least) + " or a little more", std::to_string(found),
           name);
}

void check_tail(const void* given, std::size_t from, std::size_t size, const char* name) {
  const auto* bytes = static_cast<const unsigned char*>(given);
  if (std::any_of(bytes + from, bytes + size, [](unsigned char byte) { return byte != 0; }))
    refuse("zeros after the members that this version knows", "a member of a newer version", name);
}

void* allocate(std::size_t size) {
  void* memory = std::malloc(std::max<std::size_t>(size, 1));
  if (!memory) throw std::bad_alloc();
  return memory;
}

void text_out(char** slot, std::size_t* size, std::string_view text) {
  *slot = static_cast<char*>(allocate(text.size() + 1));
  std::memcpy(*slot, text.data(), text.size());
  (*slot)[text.size()] = '\0';
  if (size) *size = text.size();
}

}  // namespace door
