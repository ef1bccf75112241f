// Cards of an older capability than this machine's, so that what only they go through is tested on
// a newer one.
#pragma once

namespace pensive::kernels {

// While it lives, the runtime tells this capability of every card. Code stays that of the card.
class AsCard {
 public:
  AsCard(int major, int minor);
  ~AsCard();
  AsCard(const AsCard&) = delete;
  AsCard& operator=(const AsCard&) = delete;
};

}  // namespace pensive::kernels
