#include "engine/quietly.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include <new>

#include "base/inside.h"

namespace pensive {

void quietly(const std::function<void()>& work, std::string_view to_lower) {
  const auto fail_memory = [&](std::string_view found) {
    fail(ErrorCode::out_of_memory, fmt::format("enough memory; lower {}", to_lower), found,
         "engine");
  };
  try {
    // Tensors made in inference mode could not be used in training later.
    const c10::InferenceMode no_inference(false);
    const at::NoGradGuard no_gradient;
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    work();
  } catch (const c10::OutOfMemoryError& error) {
    fail_memory(error.what_without_backtrace());
  } catch (const c10::Error& error) {
    // libtorch's CPU allocator has no type of its own.
    const std::string_view what = error.what_without_backtrace();
    if (what.find("allocate memory") != std::string_view::npos) fail_memory(what);
    fail(ErrorCode::device, "libtorch to compute", what, "engine");
  } catch (const std::bad_alloc&) {
    fail_memory("none left");
  } catch (const Error& error) {
    if (error.code() != ErrorCode::out_of_memory) throw;
    fail_memory(error.what());
  }
}

}  // namespace pensive
