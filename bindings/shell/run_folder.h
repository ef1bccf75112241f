// The folder of one run of an exam: run.json says what was run, samples.jsonl holds what came of
// it.
#pragma once
#include <CLI/CLI.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "shell.h"

namespace pensive::shell {

inline constexpr const char* run_file = "run.json";
inline constexpr const char* samples_file = "samples.jsonl";

// Version and commit, torch, model, device, the data's hash, and every option with its value.
nlohmann::ordered_json describe_run(const CLI::App& command, const Model& model,
                                    const std::filesystem::path& data);

// Makes the folder and writes run.json, or finds it there. Throws invalid_argument where another
// run lives in it, naming what differs.
void begin_run(const std::filesystem::path& folder, const nlohmann::ordered_json& description);

// An exam as the flags ask for it, steered and prompted.
ExamOptions exam_options(RequestFlags flags, const Model& model, const SoftVocab& soft,
                         int samples);
// Its samples go into a run's folder, new or gone on with. Throws what begin_run() throws.
void keep_in(const std::filesystem::path& folder, const nlohmann::ordered_json& description,
             ExamOptions& options);

// Of a run's folder. Throws not_found or corrupt_file.
nlohmann::ordered_json read_run(const std::filesystem::path& folder);

// One line for each entry that is not the same in both: "option --seed: 1, 2".
std::vector<std::string> differences(const nlohmann::ordered_json& a,
                                     const nlohmann::ordered_json& b);

}  // namespace pensive::shell
