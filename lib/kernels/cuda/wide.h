// Products of rows with a weight on cards of capability 9.0, bound by reading the weight once for
// as many as 128 rows: wide.cu.
#pragma once
#include <cuda.h>

#include "kernels/cuda/decode.h"

namespace pensive::kernels {

constexpr int most_wide_rows = 128;  // of one launch

// What finds room on the card at once: blocks, and clusters of two and of four of them.
struct WideRoom {
  std::int32_t blocks, twos, fours;
};

class WideProducts {
 public:
  // Finds out about the card and how its driver describes tensors to it. Where there is no code for
  // the card, or the driver is too old, there are no wide products.
  int open(int device);

  bool is_there() const { return is_there_; }
  // Of the two brief types, without norm; a row of `in` values is whole packs of 16 bytes. Says the
  // same for any number of rows.
  bool takes(const Product& product, Scalar scalar) const;
  // Any number of rows, 128 at a time. A row's bits do not depend on how many there are.
  int launch(const Product& product, Scalar scalar, Way way) const;
  // What these do not take, too (launch_invariant): a row's bits never depend on how many there
  // are.
  int launch_alike(const Product& product, Scalar scalar, Way way) const {
    return takes(product, scalar) ? launch(product, scalar, way)
                                  : launch_invariant(product, scalar, way);
  }

 private:
  int launch_some(const Product& product, Scalar scalar, Way way) const;

  bool is_there_ = false;
  WideRoom room_{};
};

// wide.cu. At most 128 rows.
struct WideCall;
// False where this build has no code for the current card.
bool find_wide_room(int cores, WideRoom& room);
int start_wide(const CUtensorMap& weight_map, const CUtensorMap& x_map, const WideCall& call,
               Scalar scalar, int blocks, Way way);

}  // namespace pensive::kernels
