// A model as libpensive-cuda.so is told of it.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/cuda.h"
#include "kernels/decode.h"

namespace pensive::kernels::cuda {

// Whether steps of this model can be done whole on its card.
bool takes_steps(const DecodeModel& model);
// What make_decoder() gives for it; throws where the call fails.
void* make_decoder(const DecodeModel& model, int most_rows);

}  // namespace pensive::kernels::cuda
