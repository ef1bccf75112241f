// A guest leaves the house as it was: whatever the engine is asked, with whatever outcome, a host
// that has torch live in its process finds torch's settings unchanged.
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/autocast_mode.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/InferenceMode.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <string>

#include "engine_helpers.h"

namespace pensive::testing {
namespace {

// All of a host's settings, as text.
std::string settings(DeviceKind device) {
  const at::Context& context = at::globalContext();
  const at::Tensor random = at::detail::getDefaultCPUGenerator().get_state();
  std::string text = fmt::format(
      "grad {} inference {} dtype {} threads {} {} random {} deterministic {} {} autocast {} {}",
      at::GradMode::is_enabled(), c10::InferenceMode::is_enabled(), c10::get_default_dtype().name(),
      at::get_num_threads(), at::get_num_interop_threads(),
      at::sum(random.to(at::kLong) * at::arange(1, random.numel() + 1)).item<std::int64_t>(),
      context.deterministicAlgorithms(), context.deterministicCuDNN(),
      at::autocast::is_autocast_enabled(at::kCPU), at::autocast::is_autocast_enabled(at::kCUDA));
  text += fmt::format(" tf32 {} {} precision {} benchmark {} flush {}", context.allowTF32CuBLAS(),
                      context.allowTF32CuDNN(), static_cast<int>(context.float32MatmulPrecision()),
                      context.benchmarkCuDNN(),
                      (at::full({1}, 1e-40, at::kFloat) * 1).item<float>() == 0);
  if (device != DeviceKind::cuda) return text;
  const c10::impl::VirtualGuardImpl guard(at::kCUDA);
  const c10::Stream stream = guard.getStream(guard.getDevice());
  return text + fmt::format(" device {} stream {}", guard.getDevice().index(), stream.id());
}

class Host : public ::testing::TestWithParam<DeviceKind> {
 protected:
  void SetUp() override {
    if (GetParam() == DeviceKind::cuda && !has_cuda()) GTEST_SKIP() << "no CUDA card here";
  }
};

INSTANTIATE_TEST_SUITE_P(Devices, Host, ::testing::Values(DeviceKind::cpu, DeviceKind::cuda),
                         [](const auto& info) {
                           return info.param == DeviceKind::cpu ? "Cpu" : "Cuda";
                         });

TEST_P(Host, FindsTorchUnchangedAfterEveryCall) {
  const auto model = tiny_model(GetParam());
  at::globalContext().setAllowTF32CuDNN(false);
  at::manual_seed(17);
  for (const bool records : {true, false}) {
    const at::AutoGradMode gradients(records);
    const std::string before = settings(GetParam());
    const auto unchanged = [&](std::string_view call) {
      EXPECT_EQ(settings(GetParam()), before) << "after " << call;
    };
    Engine engine(model, exact());
    unchanged("Engine");
    Request request = plain_request(ids(1, 20), 1, 30);
    request.top_logprobs = 3;
    request.prompt_logprobs = true;
    request.sampling.repetition_penalty = 1.1f;
    request.sampling.seed.reset();  // takes a fresh one
    Sequence sequence = engine.start(request);
    unchanged("start");
    for (int i = 0; i < 5; ++i) engine.step();
    unchanged("step");
    Sequence fork = sequence.fork();
    unchanged("fork");
    const std::vector<TokenId> fed{5, 6}, wrong{99};
    fork.feed(fed);
    unchanged("feed");
    EXPECT_ERROR(fork.feed(wrong), ErrorCode::invalid_argument, "99");
    unchanged("a feed that is refused");
    fork.rewind(2);
    unchanged("rewind");
    engine.score(fed, fed);
    unchanged("score");
    engine.submit(request).cancel();
    engine.finish(sequence);
    unchanged("finish");
    engine.clear_prefixes();
    unchanged("clear_prefixes");
    request.guides = {scripted([](const Moment&) -> Action { throw 1; })};
    finish(engine, request);
    unchanged("a guide that throws");
    {
      Server server(engine);
      Job job = server.submit(plain_request(ids(1, 20)));
      job.wait();
      unchanged("a job");
      server.drain();
    }
    unchanged("drain");
  }
}

}  // namespace
}  // namespace pensive::testing
