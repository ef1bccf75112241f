// The folder of one run of an exam: run.json says what was run, samples.jsonl holds what came of
// it.
#pragma once
#include <CLI/CLI.hpp>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "shell.h"

namespace pensive::shell {

inline constexpr const char* run_file = "run.json";
inline constexpr const char* samples_file = "samples.jsonl";

// What a run is made of beside its flags.
struct RunParts {
  const Engine& engine;  // with the soft rows
  std::span<const Problem> problems;
  std::string data;  // the file that they are of
  const ExamOptions& options;
  std::string grader;  // Grading::model
};
// Version and commit; libtorch and the device by what they say of themselves; hashes of the model,
// its tokenizer and templates, the soft rows, the problems; cache_limit(), or "none"; and every
// option with its value, those of sampling as they are after the checkpoint's defaults.
nlohmann::ordered_json describe_run(const CLI::App& command, const RunParts& parts);

// Makes the folder and writes run.json, or finds it there. Throws invalid_argument where another
// run lives in it, naming what differs, or samples of nobody knows what.
void begin_run(const std::filesystem::path& folder, const nlohmann::ordered_json& description);

// An exam as the flags ask for it, steered and prompted.
ExamOptions exam_options(RequestFlags flags, const Model& model, const SoftVocab& soft,
                         int samples);
// Its samples go into a run's folder, new or gone on with. Throws what begin_run() throws.
void keep_in(const std::filesystem::path& folder, const nlohmann::ordered_json& description,
             ExamOptions& options);

// Of a run's folder. Throws not_found or corrupt_file.
nlohmann::ordered_json read_run(const std::filesystem::path& folder);

// At how many positions the engine's cache ends a sequence that the model and `request` would let
// go on, after the longest of these prompts; nothing where it ends none. So caches differ only
// where that may decide something. (Probes of guides are refused by how full a cache is at the
// time, however large.)
std::optional<int> cache_limit(const Engine& engine, std::span<const Problem> problems,
                               const PromptOf& prompt_of, const Request& request);

// One line for each entry that is not the same in both: "option --seed: "1", "2"". Of a run.json
// from before there was a cache_limit that is not compared.
std::vector<std::string> differences(const nlohmann::ordered_json& a,
                                     const nlohmann::ordered_json& b);

// 16 digits that tell texts apart by accident, not by malice.
std::string hash_of(std::string_view bytes);
// "continue 0123456789abcdef": each row's name and a hash of its values, `but` one; "none" for
// none.
std::string rows_text(const SoftVocab& soft, std::string_view but = {});

// "cuda:0, NVIDIA H100 80GB HBM3"; "cpu, " and the processor as the system names it.
std::string machine_text(const Device& device);
// The version of the libtorch that runs, "2.11.0"; "unknown" of one that does not tell.
std::string torch_text();

}  // namespace pensive::shell
