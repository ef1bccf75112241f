// Every function that libpensive.so forwards to the core, once. Included several times, by what
// builds the table, declares the bodies and writes the trampolines; hence no include guard.
//
//   CALL(name, parameters, arguments): returns a status; its last parameter is `error`
//   TELL(type, name, parameters, arguments, otherwise): cannot fail; `otherwise` while closed
//   DROP(name, parameters, arguments): frees or cancels; does nothing while closed

// model
CALL(model_load,
     (const char* directory, const pensive_model_options* options, pensive_model** model,
      pensive_error** error),
     (directory, options, model, error))
DROP(model_free, (pensive_model * model), (model))
CALL(model_get_info, (const pensive_model* model, pensive_model_info* info, pensive_error** error),
     (model, info, error))
CALL(model_get_stop_tokens,
     (const pensive_model* model, const int32_t** ids, size_t* count, pensive_error** error),
     (model, ids, count, error))
CALL(model_get_tokenizer,
     (const pensive_model* model, pensive_tokenizer** tokenizer, pensive_error** error),
     (model, tokenizer, error))

// soft rows
CALL(soft_new, (const pensive_model* model, pensive_soft** soft, pensive_error** error),
     (model, soft, error))
CALL(soft_load,
     (const pensive_model* model, const char* file, pensive_soft** soft, pensive_error** error),
     (model, file, soft, error))
CALL(soft_carry,
     (const pensive_model* model, const char* file, pensive_soft** soft, pensive_error** error),
     (model, file, soft, error))
CALL(soft_get_carried_from, (const pensive_soft* soft, char** from, pensive_error** error),
     (soft, from, error))
CALL(soft_save,
     (const pensive_soft* soft, const char* file, const char* training_json, pensive_error** error),
     (soft, file, training_json, error))
DROP(soft_free, (pensive_soft * soft), (soft))
CALL(soft_add,
     (pensive_soft * soft, const char* name, const int32_t* start_at_mean_of, size_t count,
      int32_t* id, pensive_error** error),
     (soft, name, start_at_mean_of, count, id, error))
TELL(int32_t, soft_size, (const pensive_soft* soft), (soft), 0)
CALL(soft_find, (const pensive_soft* soft, const char* name, int32_t* id, pensive_error** error),
     (soft, name, id, error))
CALL(soft_get_name, (const pensive_soft* soft, int32_t id, char** name, pensive_error** error),
     (soft, id, name, error))
CALL(soft_get_row,
     (const pensive_soft* soft, int32_t id, float** values, size_t* count, pensive_error** error),
     (soft, id, values, count, error))
CALL(soft_set_row,
     (pensive_soft * soft, int32_t id, const float* values, size_t count, pensive_error** error),
     (soft, id, values, count, error))
TELL(uint64_t, soft_version, (const pensive_soft* soft), (soft), 0)
CALL(soft_export,
     (const pensive_soft* soft, int32_t id, const char* to, const char* token,
      pensive_exported* exported, pensive_error** error),
     (soft, id, to, token, exported, error))

// text
CALL(tokenizer_load, (const char* directory, pensive_tokenizer** tokenizer, pensive_error** error),
     (directory, tokenizer, error))
CALL(tokenizer_with_soft,
     (const pensive_tokenizer* tokenizer, const pensive_soft* soft, pensive_tokenizer** named,
      pensive_error** error),
     (tokenizer, soft, named, error))
DROP(tokenizer_free, (pensive_tokenizer * tokenizer), (tokenizer))
CALL(tokenizer_encode,
     (const pensive_tokenizer* tokenizer, const char* text, size_t size, uint32_t how,
      int32_t** ids, size_t* count, pensive_error** error),
     (tokenizer, text, size, how, ids, count, error))
CALL(tokenizer_encode_chat,
     (const pensive_tokenizer* tokenizer, const pensive_chat* chat, int32_t** ids, size_t* count,
      pensive_error** error),
     (tokenizer, chat, ids, count, error))
CALL(tokenizer_render_chat,
     (const pensive_tokenizer* tokenizer, const pensive_chat* chat, char** text, size_t* size,
      pensive_error** error),
     (tokenizer, chat, text, size, error))
CALL(tokenizer_get_template_name,
     (const pensive_tokenizer* tokenizer, int32_t index, char** name, pensive_error** error),
     (tokenizer, index, name, error))
CALL(tokenizer_decode,
     (const pensive_tokenizer* tokenizer, const int32_t* ids, size_t count, int32_t keep_special,
      char** text, size_t* size, pensive_error** error),
     (tokenizer, ids, count, keep_special, text, size, error))
CALL(tokenizer_find,
     (const pensive_tokenizer* tokenizer, const char* token, int32_t* id, pensive_error** error),
     (tokenizer, token, id, error))
TELL(int32_t, tokenizer_size, (const pensive_tokenizer* tokenizer), (tokenizer), 0)

// think
CALL(guide_new_budget,
     (const pensive_budget_options* options, pensive_guide** guide, pensive_error** error),
     (options, guide, error))
CALL(guide_new_continue,
     (const pensive_continue_options* options, pensive_guide** guide, pensive_error** error),
     (options, guide, error))
CALL(guide_new_margin_brake,
     (const pensive_margin_brake_options* options, pensive_guide** guide, pensive_error** error),
     (options, guide, error))
CALL(guide_new,
     (const pensive_guide_callbacks* callbacks, pensive_guide** guide, pensive_error** error),
     (callbacks, guide, error))
CALL(guide_parse,
     (const char* spec, const pensive_tokenizer* tokenizer, const pensive_markers* markers,
      pensive_guide** guide, pensive_error** error),
     (spec, tokenizer, markers, guide, error))
TELL(int32_t, guide_count, (void), (), 0)
CALL(guide_describe, (int32_t index, pensive_guide_info* info, pensive_error** error),
     (index, info, error))
DROP(guide_free, (pensive_guide * guide), (guide))

// engine
CALL(plan_memory,
     (const char* directory, const pensive_model_options* model,
      const pensive_engine_options* options, const pensive_train_options* training,
      int64_t memory_bytes, int32_t context, pensive_memory_plan* plan, pensive_error** error),
     (directory, model, options, training, memory_bytes, context, plan, error))
CALL(engine_new,
     (const pensive_model* model, const pensive_engine_options* options, pensive_engine** engine,
      pensive_error** error),
     (model, options, engine, error))
DROP(engine_free, (pensive_engine * engine), (engine))
CALL(engine_start,
     (pensive_engine * engine, const pensive_request* request, pensive_sequence** sequence,
      pensive_error** error),
     (engine, request, sequence, error))
CALL(engine_submit,
     (pensive_engine * engine, const pensive_request* request, pensive_sequence** sequence,
      pensive_error** error),
     (engine, request, sequence, error))
CALL(engine_score,
     (pensive_engine * engine, const int32_t* prompt, size_t prompt_count,
      const int32_t* continuation, size_t continuation_count, float* logprobs,
      pensive_error** error),
     (engine, prompt, prompt_count, continuation, continuation_count, logprobs, error))
CALL(engine_step, (pensive_engine * engine, int32_t* unfinished, pensive_error** error),
     (engine, unfinished, error))
CALL(engine_finish,
     (pensive_engine * engine, pensive_sequence* const* sequences, size_t count,
      pensive_error** error),
     (engine, sequences, count, error))
CALL(engine_clear_prefixes, (pensive_engine * engine, pensive_error** error), (engine, error))
CALL(engine_get_counters,
     (const pensive_engine* engine, pensive_engine_counters* counters, pensive_error** error),
     (engine, counters, error))
TELL(int32_t, sequence_finished, (const pensive_sequence* sequence), (sequence), 1)
CALL(sequence_next_event,
     (pensive_sequence * sequence, pensive_event* event, pensive_error** error),
     (sequence, event, error))
CALL(sequence_fork,
     (const pensive_sequence* sequence, int32_t draws, pensive_sequence** fork,
      pensive_error** error),
     (sequence, draws, fork, error))
CALL(sequence_feed,
     (pensive_sequence * sequence, const int32_t* ids, size_t count, pensive_error** error),
     (sequence, ids, count, error))
CALL(sequence_rewind,
     (pensive_sequence * sequence, size_t tokens, int32_t draws, pensive_error** error),
     (sequence, tokens, draws, error))
DROP(sequence_cancel, (pensive_sequence * sequence), (sequence))
DROP(sequence_free, (pensive_sequence * sequence), (sequence))

// serve
CALL(server_new,
     (pensive_engine * engine, const pensive_serve_options* options, pensive_server** server,
      pensive_error** error),
     (engine, options, server, error))
DROP(server_free, (pensive_server * server), (server))
CALL(server_submit,
     (pensive_server * server, const pensive_request* request, const pensive_listener* listener,
      pensive_job** job, pensive_error** error),
     (server, request, listener, job, error))
CALL(server_drain, (pensive_server * server, pensive_error** error), (server, error))
CALL(server_stop, (pensive_server * server, pensive_error** error), (server, error))
CALL(server_get_counters,
     (const pensive_server* server, pensive_server_counters* counters, pensive_error** error),
     (server, counters, error))
TELL(int32_t, job_finished, (const pensive_job* job), (job), 1)
CALL(job_wait, (const pensive_job* job, double seconds, int32_t* finished, pensive_error** error),
     (job, seconds, finished, error))
CALL(job_next_event, (pensive_job * job, pensive_event* event, pensive_error** error),
     (job, event, error))
CALL(job_get_trace, (const pensive_job* job, pensive_trace* trace, pensive_error** error),
     (job, trace, error))
DROP(job_cancel, (pensive_job * job), (job))
DROP(job_free, (pensive_job * job), (job))

// trace
CALL(sequence_get_trace,
     (const pensive_sequence* sequence, pensive_trace* trace, pensive_error** error),
     (sequence, trace, error))
CALL(sequence_get_action,
     (const pensive_sequence* sequence, int32_t index, pensive_trace_action* action,
      pensive_error** error),
     (sequence, index, action, error))
CALL(sequence_get_response,
     (const pensive_sequence* sequence, int32_t** ids, size_t* count, pensive_error** error),
     (sequence, ids, count, error))
CALL(sequence_save_trace,
     (const pensive_sequence* sequence, const char* file, int32_t append, pensive_error** error),
     (sequence, file, append, error))
CALL(sequence_measure,
     (const pensive_sequence* sequence, const pensive_measure_options* options,
      pensive_measures* measures, pensive_error** error),
     (sequence, options, measures, error))

// judge
CALL(judge_new_correct, (pensive_judge * *judge, pensive_error** error), (judge, error))
CALL(judge_new_boxed, (pensive_judge * *judge, pensive_error** error), (judge, error))
CALL(judge_new_sum,
     (const pensive_judge* first, const pensive_judge* second, double weight, pensive_judge** judge,
      pensive_error** error),
     (first, second, weight, judge, error))
CALL(judge_new,
     (const pensive_judge_callbacks* callbacks, pensive_judge** judge, pensive_error** error),
     (callbacks, judge, error))
CALL(judge_new_correct_boxed, (pensive_judge * *judge, pensive_error** error), (judge, error))
CALL(judge_new_token_price, (double per_token, pensive_judge** judge, pensive_error** error),
     (per_token, judge, error))
CALL(judge_new_lcpo_exact,
     (const pensive_judge* inner, const pensive_length_options* options, pensive_judge** judge,
      pensive_error** error),
     (inner, options, judge, error))
CALL(judge_new_lcpo_max,
     (const pensive_judge* inner, const pensive_length_options* options, pensive_judge** judge,
      pensive_error** error),
     (inner, options, judge, error))
CALL(judge_new_hybrid,
     (const pensive_judge* inner, const pensive_grader_callbacks* grader, pensive_judge** judge,
      pensive_error** error),
     (inner, grader, judge, error))
CALL(find_boxed, (const char* response, size_t size, char** answer, pensive_error** error),
     (response, size, answer, error))
DROP(judge_free, (pensive_judge * judge), (judge))
CALL(sequence_score,
     (const pensive_sequence* sequence, const pensive_judge* judge, const char* question,
      const char* reference, double* score, pensive_error** error),
     (sequence, judge, question, reference, score, error))
CALL(find_answer, (const char* response, size_t size, char** answer, pensive_error** error),
     (response, size, answer, error))
CALL(same_answer, (const char* a, const char* b, int32_t* same, pensive_error** error),
     (a, b, same, error))

// train
CALL(trainer_new,
     (pensive_engine * engine, pensive_soft* soft, int32_t row, const pensive_judge* judge,
      const pensive_train_options* options, pensive_trainer** trainer, pensive_error** error),
     (engine, soft, row, judge, options, trainer, error))
DROP(trainer_free, (pensive_trainer * trainer), (trainer))
CALL(trainer_step,
     (pensive_trainer * trainer, const pensive_problems* problems, pensive_train_report* report,
      pensive_error** error),
     (trainer, problems, report, error))
TELL(int32_t, trainer_steps_done, (const pensive_trainer* trainer), (trainer), 0)
TELL(int32_t, trainer_has_stopped, (const pensive_trainer* trainer), (trainer), 0)
CALL(trainer_get_last_report,
     (const pensive_trainer* trainer, pensive_train_report* report, pensive_error** error),
     (trainer, report, error))
CALL(trainer_check_prompts,
     (pensive_trainer * trainer, const pensive_problems* problems, pensive_error** error),
     (trainer, problems, error))
CALL(trainer_pass_rates,
     (pensive_trainer * trainer, const pensive_problems* problems, const pensive_judge* judge,
      double* rates, pensive_error** error),
     (trainer, problems, judge, rates, error))
CALL(trainer_save_checkpoint,
     (const pensive_trainer* trainer, const char* file, pensive_error** error),
     (trainer, file, error))
CALL(trainer_resume, (pensive_trainer * trainer, const char* file, pensive_error** error),
     (trainer, file, error))

// exam
CALL(problem_file_load,
     (const char* file, const pensive_problem_fields* fields, pensive_problem_file** problems,
      pensive_error** error),
     (file, fields, problems, error))
CALL(problem_file_get,
     (const pensive_problem_file* file, pensive_problems* problems, pensive_error** error),
     (file, problems, error))
TELL(int32_t, problem_file_broken, (const pensive_problem_file* file), (file), 0)
TELL(const char*, problem_file_broken_why, (const pensive_problem_file* file, int32_t index),
     (file, index), NULL)
DROP(problem_file_free, (pensive_problem_file * file), (file))
CALL(exam_run,
     (pensive_engine * engine, const pensive_problems* problems, const pensive_judge* judge,
      const pensive_exam_options* options, pensive_exam** exam, pensive_error** error),
     (engine, problems, judge, options, exam, error))
CALL(exam_load, (const char* samples_file, pensive_exam** exam, pensive_error** error),
     (samples_file, exam, error))
DROP(exam_free, (pensive_exam * exam), (exam))
CALL(exam_summarized,
     (const pensive_exam* exam, const int32_t* indices, size_t count, pensive_exam** some,
      pensive_error** error),
     (exam, indices, count, some, error))
CALL(exam_get_result,
     (const pensive_exam* exam, pensive_exam_result* result, pensive_error** error),
     (exam, result, error))
CALL(exam_get_sample,
     (const pensive_exam* exam, int32_t index, pensive_exam_sample* sample, pensive_error** error),
     (exam, index, sample, error))
CALL(exam_pass_at_k,
     (const pensive_exam* exam, int32_t k, pensive_exam_share* share, pensive_error** error),
     (exam, k, share, error))
CALL(exam_majority_at_k,
     (const pensive_exam* exam, int32_t k, pensive_exam_share* share, pensive_error** error),
     (exam, k, share, error))
CALL(exam_scaling,
     (const pensive_exam* const* runs, size_t count, const double* least, const double* most,
      pensive_exam_scaling_result* result, pensive_error** error),
     (runs, count, least, most, result, error))
CALL(exam_compare,
     (const pensive_exam* a, const pensive_exam* b, pensive_exam_difference* difference,
      pensive_error** error),
     (a, b, difference, error))
CALL(exam_compare_at,
     (const pensive_exam* a, const pensive_exam* b, double confidence,
      pensive_exam_difference* difference, pensive_error** error),
     (a, b, confidence, difference, error))
