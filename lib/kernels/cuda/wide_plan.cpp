// How a weight is shared out over the card's cores, and described to it.
#include <algorithm>
#include <map>
#include <mutex>

#include "kernels/cuda/tile_map.h"
#include "kernels/cuda/wide_end.h"

namespace pensive::kernels {
namespace {

constexpr int lot = 64;  // values of `in`, 128 bytes
constexpr int least_height = group_rows, most_height = most_groups * group_rows;
constexpr int long_in = 4096;

constexpr int rounded_up(int count, int unit) { return (count + unit - 1) / unit * unit; }
constexpr int parts_of(int count, int part) { return (count + part - 1) / part; }

// How a weight is shared out over the card: tiles of `height` of its rows, each summed up over `in`
// by `splits` blocks, a cluster. The splits follow from the weight's shape and the card alone, so
// that a row's bits do not depend on how many there are; the height changes no bits.
struct WidePlan {
  std::int32_t height, splits;
};

WidePlan plan_wide(const Product& product, const WideRoom& room) {
  const bool is_gated = product.into == Into::gated;
  const int columns = is_gated ? 2 * product.out_width : product.out_width;
  const int lots = parts_of(product.in, lot);
  // Too few tiles for the card: clusters share the sum over `in`. The more blocks share it, the
  // more sums they send each other, so two do, and four only where it is long.
  for (int splits = product.in > long_in ? 4 : 2; splits > 1; splits /= 2) {
    if (is_gated || columns >= least_height * room.blocks || splits > lots) continue;
    const int clusters = splits == 4 ? room.fours : room.twos;
    const int height = std::max(least_height, rounded_up(parts_of(columns, clusters), 16));
    if (height <= most_height) return {height, splits};
  }
  // Else as even a share for every core as there is.
  WidePlan plan{16, 1};
  int least = columns + 1;
  for (int height = least_height; height <= most_height; height += 16) {
    const int longest = parts_of(parts_of(columns, height), room.blocks) * height;
    if (longest >= least) continue;
    least = longest;
    plan.height = height;
  }
  return plan;
}

// The weight, and x, as tensors whose boxes are what is copied at once.
bool describe(const Product& product, Scalar scalar, int height, CUtensorMap* weight_map,
              CUtensorMap* x_map) {
  const bool is_gated = product.into == Into::gated;
  const auto in = static_cast<cuuint64_t>(product.in), rows = static_cast<cuuint64_t>(product.rows);
  const auto out = static_cast<cuuint64_t>(is_gated ? 2 * product.out_width : product.out_width);
  const auto tile = static_cast<cuuint32_t>(height);
  // Gated: eight rows of gate, then eight of up, so that a block has both sums of a column.
  const cuuint64_t sizes[2][4] = {{in, out, 1, 1}, {in, 8, 2, out / 16}};
  const cuuint64_t strides[2][3] = {{in * 2, in * 2, in * 2}, {in * 2, out * in, in * 16}};
  const cuuint32_t boxes[2][4] = {{lot, tile, 1, 1}, {lot, 8, 2, tile / 16}};
  const cuuint64_t x_sizes[2] = {in, rows};
  cuuint32_t x_box[2] = {lot, 16};
  while (x_box[1] < rows) x_box[1] *= 2;
  return map_boxes(weight_map, scalar, 4, product.weight, sizes[is_gated], strides[is_gated],
                   boxes[is_gated]) &&
         map_boxes(x_map, scalar, 2, product.x, x_sizes, strides[0], x_box);
}

// Those of a card, which is asked once.
int find_wide(int device, const WideProducts** found) {
  static std::mutex mutex;
  static std::map<int, WideProducts> cards;
  const std::lock_guard lock(mutex);
  const auto [at, is_new] = cards.try_emplace(device);
  const int error = is_new ? at->second.open(device) : cudaSuccess;
  if (error != cudaSuccess) {
    cards.erase(at);
    return error;
  }
  *found = &at->second;
  return cudaSuccess;
}

}  // namespace

int WideProducts::open(int device) {
  int major = 0, minor = 0, cores = 0;
  if (int error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device))
    return error;
  if (int error = cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device))
    return error;
  if (int error = cudaDeviceGetAttribute(&cores, cudaDevAttrMultiProcessorCount, device))
    return error;
  is_there_ = major == 9 && minor == 0 && find_wide_room(cores, room_) && map_maker();
  return cudaSuccess;
}

bool WideProducts::takes(const Product& product, Scalar scalar) const {
  return is_there_ && (scalar == Scalar::bfloat16 || scalar == Scalar::float16) && !product.norm &&
         product.in % 8 == 0 && (product.into != Into::gated || product.out_width % 8 == 0);
}

int WideProducts::launch(const Product& product, Scalar scalar, Way way) const {
  if (!takes(product, scalar)) return cudaErrorInvalidValue;
  if (product.rows <= most_wide_rows) return launch_some(product, scalar, way);
  const bool is_brief = product.into == Into::plain || product.into == Into::gated;
  for (int first = 0; first < product.rows; first += most_wide_rows) {
    Product some = product;
    some.rows = std::min(most_wide_rows, product.rows - first);
    some.x = static_cast<const char*>(product.x) + std::int64_t{first} * product.in * 2;
    some.out = static_cast<char*>(product.out) +
               std::int64_t{first} * product.out_width * (is_brief ? 2 : 4);
    if (int error = launch_some(some, scalar, way)) return error;
  }
  return cudaSuccess;
}

int WideProducts::launch_some(const Product& product, Scalar scalar, Way way) const {
  const WidePlan plan = plan_wide(product, room_);
  const bool is_gated = product.into == Into::gated;
  const int columns = is_gated ? 2 * product.out_width : product.out_width;
  WideCall call{};
  call.bias = product.bias;
  call.out = product.out;
  call.into = product.into;
  call.rows = product.rows;
  call.out_width = product.out_width;
  call.height = plan.height;
  call.tiles = parts_of(columns, plan.height);
  call.lots = parts_of(product.in, lot);
  call.splits = plan.splits;
  call.per = rounded_up(parts_of(plan.height, plan.splits), is_gated ? 16 : 4);
  call.groups = parts_of(plan.height, group_rows);
  call.stride = rounded_up(plan.height, 16) + 4;
  call.has_fours =
      product.out_width % 4 == 0 && reinterpret_cast<std::uintptr_t>(product.out) % 16 == 0;

  CUtensorMap weight_map, x_map;
  if (!describe(product, scalar, plan.height, &weight_map, &x_map)) return cudaErrorInvalidValue;
  return start_wide(weight_map, x_map, call, scalar, room_.blocks, way);
}

int launch_multiply(const CudaProduct& asked, int capability, void* stream) {
  const Product product{asked.is_wide ? Into::wide : Into::plain,
                        asked.x,
                        nullptr,
                        0,
                        asked.weight,
                        asked.bias,
                        asked.out,
                        asked.rows,
                        asked.in,
                        asked.out_width};
  const Way way{static_cast<cudaStream_t>(stream), capability, -1, true};
  if (capability != 90) return launch_invariant(product, asked.scalar, way);
  int device = 0;
  const WideProducts* wide = nullptr;
  if (int error = cudaGetDevice(&device)) return error;
  if (int error = find_wide(device, &wide)) return error;
  return wide->launch_alike(product, asked.scalar, way);
}

}  // namespace pensive::kernels
