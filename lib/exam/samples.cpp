#include "exam/samples.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <set>

#include "base/inside.h"
#include "base/told.h"
#include "exam/statistics.h"

namespace pensive {
namespace {

using Json = nlohmann::ordered_json;

StopReason stop_of(const std::string& name, std::string_view where) {
  for (const StopReason reason :
       {StopReason::end_token, StopReason::length, StopReason::guide, StopReason::cancelled,
        StopReason::stop_text, StopReason::deadline})
    if (name == to_string(reason)) return reason;
  fail(ErrorCode::corrupt_file, "why it stopped in \"stopped\"", in_quotes(name), where);
}

double number(const Json& line, std::string_view key, std::string_view where) {
  const Json found = member<Json>(line, key, where);
  require(found.is_number() && std::isfinite(found.get<double>()), ErrorCode::corrupt_file,
          fmt::format("a finite number in \"{}\"", key), found.dump(), where);
  return found.get<double>();
}

int count(const Json& line, std::string_view key, std::string_view where) {
  const auto found = member<std::int64_t>(line, key, where);
  require(found >= 0 && found < (std::int64_t{1} << 31), ErrorCode::corrupt_file,
          fmt::format("a count in \"{}\"", key), std::to_string(found), where);
  return static_cast<int>(found);
}

// What was asked, and what counts as right. Each text stands behind its length.
std::string hash_of(const Problem& problem) {
  std::vector<std::uint32_t> words;
  for (const std::string* text : {&problem.question, &problem.reference}) {
    words.push_back(static_cast<std::uint32_t>(text->size()));
    for (const char byte : *text) words.push_back(static_cast<unsigned char>(byte));
  }
  return fmt::format("{:016x}", hash_words(words));
}

// A line as it was written, and what of it is no ExamSample.
struct Line {
  ExamSample sample;
  std::string id;
  std::optional<std::string> problem_hash;  // older lines have none
  std::uint64_t seed = 0;
};

Line read_line(std::string_view text, std::string_view where) {
  const Json json = parse_json(text, where);
  require(json.is_object(), ErrorCode::corrupt_file, "a JSON object", json.type_name(), where);
  Line line;
  line.id = member<std::string>(json, "id", where);
  if (json.contains("problem_hash"))
    line.problem_hash = member<std::string>(json, "problem_hash", where);
  const Json seed = member<Json>(json, "seed", where);
  require(seed.is_number_unsigned(), ErrorCode::corrupt_file, "a seed, 0 or more, in \"seed\"",
          seed.dump(), where);
  line.seed = seed.get<std::uint64_t>();
  ExamSample& sample = line.sample;
  sample.problem = count(json, "problem", where);
  sample.sample = count(json, "sample", where);
  sample.score = number(json, "score", where);
  sample.tokens = count(json, "tokens", where);
  sample.first_answer = number(json, "first_answer", where);
  sample.stopped = stop_of(member<std::string>(json, "stopped", where), where);
  sample.answer = member<std::string>(json, "answer", where);
  sample.think_tokens = count(json, "think_tokens", where);
  sample.answer_tokens = count(json, "answer_tokens", where);
  sample.probe_tokens = count(json, "probe_tokens", where);
  sample.seconds = number(json, "seconds", where);
  sample.first_partial = number(json, "first_partial", where);
  sample.first_correct = number(json, "first_correct", where);
  sample.strict_score = number(json, "strict_score", where);
  sample.is_boxed = member<bool>(json, "is_boxed", where);
  sample.flops = number(json, "flops", where);
  return line;
}

// How much of a file is whole lines: a process that is killed may leave part of one.
std::size_t whole_bytes(std::string_view content) { return content.rfind('\n') + 1; }

// Each whole line with its place. Two of one sample are refused: one of them would be lost.
std::vector<std::pair<Line, std::string>> read_lines(const std::filesystem::path& file) {
  const std::string content = read_text(file);
  std::string_view rest = std::string_view(content).substr(0, whole_bytes(content));
  std::vector<std::pair<Line, std::string>> lines;
  std::set<std::pair<int, int>> seen;
  for (int i = 1; !rest.empty(); ++i) {
    const std::size_t end = rest.find('\n');
    const std::string where = fmt::format("{}, line {}", file.string(), i);
    const Line line = read_line(rest.substr(0, end), where);
    const auto [problem, sample] = std::pair(line.sample.problem, line.sample.sample);
    require(seen.emplace(problem, sample).second, ErrorCode::corrupt_file, "each sample once",
            fmt::format("sample {} of problem {} again", sample, problem), where);
    lines.emplace_back(line, where);
    rest.remove_prefix(end + 1);
  }
  return lines;
}

void check_problem(const Line& line, std::span<const Problem> problems, std::string_view where) {
  const auto index = static_cast<std::size_t>(line.sample.problem);
  require(index < problems.size(), ErrorCode::invalid_argument,
          fmt::format("samples of {} problems", problems.size()), fmt::format("problem {}", index),
          where);
  require(line.id == problems[index].id, ErrorCode::invalid_argument,
          fmt::format("problem {} with the id \"{}\"", index, problems[index].id),
          in_quotes(line.id), where);
  if (!line.problem_hash) return;
  const std::string hash = hash_of(problems[index]);
  require(*line.problem_hash == hash, ErrorCode::invalid_argument,
          fmt::format("problem {} (id \"{}\") with a question and reference of the hash {}", index,
                      line.id, hash),
          in_quotes(*line.problem_hash), where);
}

}  // namespace

ExamResult summarized(std::vector<ExamSample> samples, int problems) {
  require(problems >= 0, ErrorCode::invalid_argument, "a number of problems",
          std::to_string(problems), "summarized");
  ExamResult result;
  result.samples = std::move(samples);
  result.problems = problems;
  std::sort(result.samples.begin(), result.samples.end(),
            [](const ExamSample& a, const ExamSample& b) {
              return std::pair(a.problem, a.sample) < std::pair(b.problem, b.sample);
            });
  summarize(result);
  return result;
}

std::uint64_t seed_of(std::uint64_t seed, int problem) noexcept {  // splitmix64
  std::uint64_t z = seed + 0x9E3779B97F4A7C15u * (static_cast<std::uint64_t>(problem) + 1);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

SampleFile::SampleFile(const std::filesystem::path& path, IfBegun if_begun) : path_(path) {
  if (path.empty()) return;
  std::error_code none;  // a pipe or a device holds nothing
  const bool is_file = std::filesystem::is_regular_file(path, none);
  require(if_begun != IfBegun::refuse || !is_file || std::filesystem::file_size(path, none) == 0,
          ErrorCode::invalid_argument,
          "a samples_file that does not exist yet (others are resumed or restarted when asked)",
          "one that does", path.string());
  if (if_begun == IfBegun::resume && is_file) kept_bytes_ = whole_bytes(read_text(path));
  stream_.open(path, std::ios::binary | std::ios::app);
  check();
}

void SampleFile::begin() {
  if (path_.empty() || is_begun_) return;
  std::error_code failure;
  if (std::filesystem::is_regular_file(path_, failure) &&
      std::filesystem::file_size(path_, failure) != kept_bytes_)
    std::filesystem::resize_file(path_, kept_bytes_, failure);
  require(!failure, ErrorCode::io, "a file that can be shortened", failure.message(),
          path_.string());
  is_begun_ = true;
}

void SampleFile::write(const Problem& problem, const ExamSample& sample, std::uint64_t seed,
                       const std::string& text) {
  if (path_.empty()) return;
  begin();
  const Json line = {{"problem", sample.problem},
                     {"id", problem.id},
                     {"problem_hash", hash_of(problem)},
                     {"sample", sample.sample},
                     {"seed", seed},
                     {"score", sample.score},
                     {"tokens", sample.tokens},
                     {"first_answer", sample.first_answer},
                     {"stopped", to_string(sample.stopped)},
                     {"answer", sample.answer},
                     {"think_tokens", sample.think_tokens},
                     {"answer_tokens", sample.answer_tokens},
                     {"probe_tokens", sample.probe_tokens},
                     {"seconds", sample.seconds},
                     {"first_partial", sample.first_partial},
                     {"first_correct", sample.first_correct},
                     {"strict_score", sample.strict_score},
                     {"is_boxed", sample.is_boxed},
                     {"flops", sample.flops},
                     {"text", text}};
  stream_ << line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  stream_.flush();
  check();
}

void SampleFile::check() {
  require(stream_.good(), ErrorCode::io, "a file that can be written", "a failure", path_.string());
}

std::vector<ExamSample> kept_samples(std::span<const Problem> problems,
                                     const ExamOptions& options) {
  if (!std::filesystem::exists(options.samples_file)) return {};
  std::vector<ExamSample> kept;
  for (const auto& [line, where] : read_lines(options.samples_file)) {
    check_problem(line, problems, where);
    require(line.sample.sample < options.samples, ErrorCode::invalid_argument,
            fmt::format("{} samples a problem", options.samples),
            fmt::format("sample {}", line.sample.sample), where);
    const std::uint64_t seed = seed_of(options.seed, line.sample.problem);
    require(line.seed == seed, ErrorCode::invalid_argument,
            fmt::format("the seed {}, as this exam has it", seed), std::to_string(line.seed),
            where);
    kept.push_back(line.sample);
  }
  return kept;
}

ExamResult load_exam(const std::filesystem::path& samples_file, std::span<const Problem> problems) {
  std::vector<ExamSample> samples;
  for (const auto& [line, where] : read_lines(samples_file)) {
    check_problem(line, problems, where);
    samples.push_back(line.sample);
  }
  return summarized(std::move(samples), static_cast<int>(problems.size()));
}

ExamResult load_exam(const std::filesystem::path& samples_file) {
  std::vector<ExamSample> samples;
  int problems = 0;
  for (const auto& [line, where] : read_lines(samples_file)) {
    samples.push_back(line.sample);
    problems = std::max(problems, line.sample.problem + 1);
  }
  return summarized(std::move(samples), problems);
}

}  // namespace pensive
