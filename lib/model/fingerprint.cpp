#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/kernels.h"
#include "model/safetensors.h"

namespace pensive {
namespace {

// Small enough to be read twice from the cache.
constexpr std::size_t chunk_bytes = std::size_t{1} << 18;

std::uint64_t word_at(const std::byte* data, std::size_t bytes = 8) {
  std::uint64_t word = 0;
  std::memcpy(&word, data, bytes);
  return word;
}

// Every step is one-to-one in the word and in the lane, so a changed word always shows.
std::uint64_t stir(std::uint64_t lane, std::uint64_t word) {
  return std::rotl(lane ^ word, 27) * 0x9e3779b97f4a7c15ULL;
}

std::uint64_t hash_chunk(std::uint64_t key, std::span<const std::byte> bytes) {
  // Four lanes, so that no multiplication waits for the one before.
  std::uint64_t lanes[4] = {key, key + 1, key + 2, key + 3};
  std::size_t i = 0;
  for (; i + 32 <= bytes.size(); i += 32) {
    for (std::size_t lane = 0; lane < 4; ++lane)
      lanes[lane] = stir(lanes[lane], word_at(bytes.data() + i + 8 * lane));
  }
  for (; i < bytes.size(); i += 8) {
    const std::size_t left = std::min<std::size_t>(8, bytes.size() - i);
    lanes[0] = stir(lanes[0], word_at(bytes.data() + i, left));
  }
  for (const std::uint64_t lane : lanes) key = kernels::mix(key, lane);
  return kernels::mix(key, bytes.size());
}

// A number is not finite when all bits of its exponent are set.
template <class Word>
bool is_chunk_finite(std::span<const std::byte> bytes, Word exponent) {
  Word found = 0;
  for (std::size_t i = 0; i + sizeof(Word) <= bytes.size(); i += sizeof(Word)) {
    Word word = 0;
    std::memcpy(&word, bytes.data() + i, sizeof(Word));
    found |= static_cast<Word>((word & exponent) == exponent);
  }
  return found == 0;
}

bool is_chunk_finite(std::span<const std::byte> bytes, at::ScalarType scalar) {
  switch (scalar) {
    case at::kBFloat16:
      return is_chunk_finite<std::uint16_t>(bytes, 0x7f80);
    case at::kHalf:
      return is_chunk_finite<std::uint16_t>(bytes, 0x7c00);
    case at::kDouble:
      return is_chunk_finite<std::uint64_t>(bytes, 0x7ff0000000000000ULL);
    default:
      return is_chunk_finite<std::uint32_t>(bytes, 0x7f800000U);
  }
}

}  // namespace

std::uint64_t hash_bytes(std::span<const std::byte> bytes) {
  std::uint64_t key = kernels::mix(0, bytes.size());
  for (std::size_t i = 0; i < bytes.size(); i += chunk_bytes)
    key = hash_chunk(key, bytes.subspan(i, std::min(chunk_bytes, bytes.size() - i)));
  return key;
}

std::uint64_t hash_text(std::string_view text) {
  return hash_bytes(std::as_bytes(std::span(text)));
}

Scanned scan(const StoredTensor& tensor) {
  Scanned scanned;
  scanned.hash = kernels::mix(0, tensor.bytes.size());
  for (std::size_t i = 0; i < tensor.bytes.size(); i += chunk_bytes) {
    const auto chunk = tensor.bytes.subspan(i, std::min(chunk_bytes, tensor.bytes.size() - i));
    scanned.hash = hash_chunk(scanned.hash, chunk);
    scanned.is_finite = scanned.is_finite && is_chunk_finite(chunk, tensor.scalar);
  }
  return scanned;
}

}  // namespace pensive
