// What guides and judges of this library were made with, as text: training runs that go on compare
// it. Those of others have only their names.
#pragma once
#include <cstdint>
#include <span>
#include <string>

namespace pensive {

class Told {
 public:
  // Equal where two do the same, and short.
  virtual std::string told() const = 0;

 protected:
  ~Told() = default;
};

// Empty where it tells nothing.
template <class Object>
std::string told_by(const Object& object) {
  const auto* told = dynamic_cast<const Told*>(&object);
  return told == nullptr ? std::string() : told->told();
}

// FNV-1a, for lists that are too long to be told. The first `hash` is the offset basis.
inline std::uint64_t hash_words(std::span<const std::uint32_t> words,
                                std::uint64_t hash = 0xcbf29ce484222325u) noexcept {
  for (const std::uint32_t word : words)
    for (int shift = 0; shift < 32; shift += 8)
      hash = (hash ^ ((word >> shift) & 0xffu)) * 0x100000001b3u;
  return hash;
}

}  // namespace pensive
