// libtorch looks for its CUDA half once, so it must be opened before any test uses libtorch.
#include "kernels/kernels.h"

namespace {
const pensive::Device device_of_this_machine = pensive::kernels::resolve({});
}
