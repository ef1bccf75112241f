#include <algorithm>
#include <cstring>
#include <limits>
#include <set>

#include "model/safetensors.h"

namespace pensive {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::uint64_t length_bytes = 8;
constexpr std::uint64_t most_header_bytes = 100'000'000;
constexpr std::size_t most_dimensions = 8;

[[noreturn]] void fail_corrupt(std::string_view expected, std::string_view found,
                               std::string_view where) {
  fail(ErrorCode::corrupt_file, expected, found, where);
}

at::ScalarType to_scalar(const std::string& dtype, const std::string& where) {
  if (dtype == "F32") return at::kFloat;
  if (dtype == "BF16") return at::kBFloat16;
  if (dtype == "F16") return at::kHalf;
  if (dtype == "F64") return at::kDouble;
  for (const std::string_view other :
       {"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "C64", "F8_E4M3", "F8_E5M2",
        "F8_E8M0", "F6_E2M3", "F6_E3M2", "F4"}) {
    require(dtype != other, ErrorCode::unsupported,
            "dtype F32, BF16, F16 or F64 (others hold quantised weights: take the checkpoint that "
            "they were made from)",
            dtype, where);
  }
  fail_corrupt("a known dtype", in_quotes(dtype), where);
}

std::uint64_t to_natural(const Json& value, std::string_view what, const std::string& where) {
  constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max();
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > most)
    fail_corrupt(fmt::format("{} as a whole number from 0 on", what),
                 value.is_number() ? value.dump() : value.type_name(), where);
  return value.get<std::uint64_t>();
}

const Json& list_of(const Json& entry, std::string_view key, const std::string& where) {
  const auto found = entry.find(std::string(key));
  if (found == entry.end() || !found->is_array())
    fail_corrupt(fmt::format("{} as a list", key), found == entry.end() ? "none" : "another type",
                 where);
  return *found;
}

// Where in the data one tensor lies.
struct Span {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  const std::string* name = nullptr;
};

// Reads one entry of the header; its bytes are a slice of `data`.
StoredTensor read_entry(const Json& entry, std::span<const std::byte> data,
                        const std::string& where) {
  if (!entry.is_object()) fail_corrupt("an object", entry.type_name(), where);
  for (const auto& item : entry.items()) {
    const std::string& key = item.key();
    if (key != "dtype" && key != "shape" && key != "data_offsets")
      fail_corrupt("dtype, shape and data_offsets only", in_quotes(key), where);
  }
  StoredTensor tensor;
  tensor.scalar = to_scalar(member<std::string>(entry, "dtype", where), where);
  const Json& shape = list_of(entry, "shape", where);
  if (shape.size() > most_dimensions)
    fail_corrupt(fmt::format("at most {} dimensions", most_dimensions),
                 fmt::format("{}", shape.size()), where);
  std::uint64_t bytes = c10::elementSize(tensor.scalar);
  for (const Json& size : shape) {
    const std::uint64_t value = to_natural(size, "shape", where);
    // Beyond the data's size the exact number no longer matters, only that it cannot wrap.
    const bool is_beyond = value != 0 && bytes > data.size() / value;
    bytes = is_beyond ? data.size() + 1 : bytes * value;
    tensor.shape.push_back(static_cast<std::int64_t>(value));
  }
  const Json& offsets = list_of(entry, "data_offsets", where);
  if (offsets.size() != 2)
    fail_corrupt("two data_offsets", fmt::format("{}", offsets.size()), where);
  const std::uint64_t begin = to_natural(offsets[0], "data_offsets", where);
  const std::uint64_t end = to_natural(offsets[1], "data_offsets", where);
  if (begin > end || end > data.size())
    fail_corrupt(fmt::format("data_offsets within {} bytes", data.size()),
                 fmt::format("{} to {}", begin, end), where);
  if (end - begin != bytes)
    fail_corrupt(fmt::format("as many bytes as {} takes", describe(tensor)),
                 fmt::format("{}", end - begin), where);
  tensor.bytes = data.subspan(begin, end - begin);
  return tensor;
}

// In the order of the data each tensor begins where the one before ends.
void check_cover(std::vector<Span> spans, std::uint64_t size, const std::string& where) {
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  std::uint64_t end = 0;
  for (const Span& span : spans) {
    if (span.begin != end)
      fail_corrupt(fmt::format("tensor {} at byte {} of the data", in_quotes(*span.name), end),
                   fmt::format("byte {}", span.begin), where);
    end = span.end;
  }
  if (end != size)
    fail_corrupt(fmt::format("{} bytes of tensors", end), fmt::format("{}", size), where);
}

void read_metadata(const Json& entry, std::map<std::string, std::string>& out,
                   const std::string& where) {
  if (!entry.is_object()) fail_corrupt("__metadata__ as an object", entry.type_name(), where);
  for (const auto& [key, value] : entry.items()) {
    if (!value.is_string()) fail_corrupt("texts in __metadata__", value.type_name(), where);
    out.emplace(key, value.get<std::string>());
  }
}

// A plain name of a file in the same folder.
bool is_shard_name(std::string_view name) {
  return name.size() > std::string_view(".safetensors").size() && name.ends_with(".safetensors") &&
         name.find_first_of("/\\") == std::string_view::npos && name.front() != '.' &&
         name.find('\0') == std::string_view::npos;
}

}  // namespace

std::string describe(const StoredTensor& tensor) {
  return fmt::format("{} [{}]", c10::toString(tensor.scalar), fmt::join(tensor.shape, ", "));
}

TensorFile::TensorFile(const std::filesystem::path& path) : file_(path) {
  const std::string where = path.string();
  const std::span<const std::byte> bytes = file_.bytes();
  if (bytes.size() < length_bytes)
    fail_corrupt("a safetensors file", fmt::format("{} bytes", bytes.size()), where);
  const std::string_view start(reinterpret_cast<const char*>(bytes.data()),
                               std::min<std::size_t>(bytes.size(), 64));
  if (start.starts_with("version https://git-lfs"))
    fail_corrupt("a safetensors file", "a Git LFS pointer to one: `git lfs pull` fetches it",
                 where);
  std::uint64_t header_bytes = 0;
  for (std::uint64_t i = 0; i < length_bytes; ++i)
    header_bytes |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  const std::uint64_t most =
      std::min<std::uint64_t>(bytes.size() - length_bytes, most_header_bytes);
  if (header_bytes > most)
    fail_corrupt(fmt::format("a header of at most {} bytes", most), fmt::format("{}", header_bytes),
                 where);
  const auto* text = reinterpret_cast<const char*>(bytes.data()) + length_bytes;
  const Json header = parse_json({text, header_bytes}, where + ", header");
  if (!header.is_object()) fail_corrupt("a header that is an object", header.type_name(), where);

  const std::span<const std::byte> data = bytes.subspan(length_bytes + header_bytes);
  std::vector<Span> spans;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      read_metadata(entry, metadata_, where);
      continue;
    }
    StoredTensor tensor =
        read_entry(entry, data, fmt::format("{}, tensor {}", where, in_quotes(name)));
    tensor.file = where;
    const auto begin = static_cast<std::uint64_t>(tensor.bytes.data() - data.data());
    const auto placed = tensors_.emplace(name, std::move(tensor)).first;
    spans.push_back({begin, begin + placed->second.bytes.size(), &placed->first});
  }
  check_cover(std::move(spans), data.size(), where);
}

Checkpoint::Checkpoint(const std::filesystem::path& directory) {
  const std::filesystem::path single = directory / "model.safetensors";
  const std::filesystem::path index = directory / "model.safetensors.index.json";
  std::error_code error;
  // The order in which Transformers looks.
  if (!std::filesystem::exists(single, error) && std::filesystem::exists(index, error)) {
    add_shards(directory, index);
    return;
  }
  tensors_ = files_.emplace_back(single).tensors();
}

void Checkpoint::add_shards(const std::filesystem::path& directory,
                            const std::filesystem::path& index) {
  const std::string where = index.string();
  const Json json = parse_json(read_text(index), where);
  const Json map = member<Json>(json, "weight_map", where);
  if (!map.is_object()) fail_corrupt("weight_map as an object", map.type_name(), where);
  std::map<std::string, std::set<std::string>> shards;
  for (const auto& [name, shard] : map.items()) {
    const std::string file = shard.is_string() ? shard.get<std::string>() : "";
    if (!is_shard_name(file))
      fail_corrupt(fmt::format("a file in the same folder for {}", in_quotes(name)),
                   shard.is_string() ? in_quotes(file) : shard.type_name(), where);
    shards[file].insert(name);
  }
  for (auto& [file, names] : shards) {
    const TensorFile& shard = files_.emplace_back(directory / file);
    for (const auto& [name, tensor] : shard.tensors()) {
      if (names.erase(name) == 0)
        fail_corrupt(fmt::format("only what the index places in {}", file), in_quotes(name), where);
      tensors_.emplace(name, tensor);
    }
    if (!names.empty())
      fail_corrupt(fmt::format("{} in {}", in_quotes(*names.begin()), file), "none", where);
  }
}

bool may_overflow(at::ScalarType from, at::ScalarType to) {
  const auto reach = [](at::ScalarType scalar) {
    if (scalar == at::kHalf) return 0;
    // The largest float rounds to no bfloat16.
    return scalar == at::kBFloat16 ? 1 : scalar == at::kFloat ? 2 : 3;
  };
  return reach(from) > reach(to);
}

void check_rounded(const StoredTensor& from, const std::string& name, const at::Tensor& rounded) {
  constexpr std::int64_t piece = 1 << 22;  // a whole table would want half its size once more
  const at::Tensor flat = rounded.view(-1);
  for (std::int64_t i = 0; i < flat.numel(); i += piece) {
    const at::Tensor some = flat.narrow(0, i, std::min(piece, flat.numel() - i));
    if (at::isfinite(some).all().item<bool>()) continue;
    fail_corrupt(fmt::format("values of {} that {} can hold", in_quotes(name),
                             c10::toString(rounded.scalar_type())),
                 "a larger one", from.file);
  }
}

void copy_values(const StoredTensor& from, const std::string& name, at::Tensor out) {
  if (from.bytes.empty()) return;
  if (from.scalar == out.scalar_type()) {
    std::memcpy(out.mutable_data_ptr(), from.bytes.data(), from.bytes.size());
    return;
  }
  const auto options = out.options().dtype(from.scalar);
  const std::size_t alignment = c10::elementSize(from.scalar);
  const bool is_aligned = reinterpret_cast<std::uintptr_t>(from.bytes.data()) % alignment == 0;
  // Read only, though from_blob cannot say so.
  auto* data = const_cast<std::byte*>(from.bytes.data());
  at::Tensor raw =
      is_aligned ? at::from_blob(data, out.sizes(), options) : at::empty(out.sizes(), options);
  if (!is_aligned) std::memcpy(raw.mutable_data_ptr(), data, from.bytes.size());
  // Small enough that libtorch wakes no threads: on a busy machine waiting for them takes longer.
  constexpr std::int64_t piece = 1 << 14;
  const at::Tensor flat_raw = raw.view(-1), flat_out = out.view(-1);
  for (std::int64_t i = 0; i < flat_raw.numel(); i += piece) {
    const std::int64_t count = std::min(piece, flat_raw.numel() - i);
    flat_out.narrow(0, i, count).copy_(flat_raw.narrow(0, i, count));
  }
  if (may_overflow(from.scalar, out.scalar_type())) check_rounded(from, name, out);
}

std::string safetensors_head(const Json& header) {
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::string head;
  for (std::size_t i = 0; i < length_bytes; ++i)
    head += static_cast<char>(text.size() >> (8 * i) & 0xff);
  return head + text;
}

std::string to_safetensors(const std::string& name, const at::Tensor& tensor,
                           const std::map<std::string, std::string>& metadata) {
  const std::size_t bytes = tensor.nbytes();
  Json header = Json::object();
  header["__metadata__"] = metadata;
  header[name] = {
      {"dtype", "F32"}, {"shape", tensor.sizes().vec()}, {"data_offsets", Json::array({0, bytes})}};
  std::string file = safetensors_head(header);
  file.append(static_cast<const char*>(tensor.const_data_ptr()), bytes);
  return file;
}

}  // namespace pensive
