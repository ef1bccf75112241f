// What fits, before it is tried.
#include "handles.h"

namespace door {

int32_t plan_memory(const char* directory, const pensive_model_options* model,
                    const pensive_engine_options* options, const pensive_train_options* training,
                    int64_t memory_bytes, int32_t context, pensive_memory_plan* plan,
                    pensive_error** error) {
  return guard(error, [&] {
    check_size(need(plan, "plan").struct_size, first_size<pensive_memory_plan>,
               "pensive_memory_plan");
    std::shared_ptr<User> model_user, engine_user;
    const pensive::ModelOptions how = model_options_in(model, model_user);
    const pensive::EngineOptions wanted = engine_options_in(options, engine_user);
    const pensive::PlanOptions asked{.memory_bytes = memory_bytes, .context = context};
    const std::string folder(text_in(directory, "directory"));
    const pensive::MemoryPlan from =
        training ? pensive::plan_memory(
                       folder, how, wanted,
                       train_options_in(struct_in(training, "pensive_train_options")), asked)
                 : pensive::plan_memory(folder, how, wanted, asked);
    pensive_memory_plan to{};
    to.page_tokens = from.page_tokens;
    to.memory_bytes = from.memory_bytes;
    to.bytes = from.bytes();
    to.weight_bytes = from.weight_bytes;
    to.soft_bytes = from.soft_bytes;
    to.cache_bytes = from.cache_bytes;
    to.prompt_step_bytes = from.prompt_step_bytes;
    to.decode_step_bytes = from.decode_step_bytes;
    to.training_bytes = from.training_bytes;
    to.runtime_bytes = from.runtime_bytes;
    to.cache_tokens = from.cache_tokens;
    to.most_sequences = from.most_sequences;
    to.fits = from.fits() ? 1 : 0;
    to.to_lower = from.to_lower().data();
    struct_out(plan, to, "pensive_memory_plan");
    for (const auto& user : {model_user, engine_user})
      if (user) user->is_ours = true;
  });
}

}  // namespace door
