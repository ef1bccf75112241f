// Problem files: JSON lines, read strictly.
#include <cmath>
#include <string_view>

#include "base/inside.h"
#include "pensive/exam.h"

namespace pensive {
namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view spaces = " \t\r\n";
  const std::size_t from = text.find_first_not_of(spaces);
  if (from == std::string_view::npos) return {};
  return text.substr(from, text.find_last_not_of(spaces) - from + 1);
}

// Text as it stands; a number as the text that JSON writes for it, as long as that is exact.
std::string text_of(const nlohmann::ordered_json& line, const std::string& key,
                    std::string_view where) {
  const auto found = line.find(key);
  if (found == line.end())
    fail(ErrorCode::corrupt_file, fmt::format("the key \"{}\"", key), "none", where);
  if (found->is_string()) return found->get<std::string>();
  constexpr double exact_below = 9007199254740992;  // 2^53
  const bool is_exact = found->is_number_integer() ||
                        (found->is_number_float() && std::abs(found->get<double>()) < exact_below);
  require(is_exact, ErrorCode::corrupt_file,
          fmt::format("text or a number below 2^53 for \"{}\"", key), found->dump(), where);
  return found->dump();
}

Problem read_line(std::string_view text, const ProblemFields& fields, int number,
                  std::string_view where) {
  const nlohmann::ordered_json line = parse_json(text, where);
  require(line.is_object(), ErrorCode::corrupt_file, "a JSON object", line.type_name(), where);
  Problem problem;
  problem.question = member<std::string>(line, fields.question, where);
  problem.reference = text_of(line, fields.answer, where);
  const bool has_id = !fields.id.empty() && line.contains(fields.id);
  problem.id = has_id ? text_of(line, fields.id, where) : std::to_string(number);
  if (fields.answer_after.empty()) return problem;
  const std::size_t mark = problem.reference.rfind(fields.answer_after);
  require(mark != std::string::npos, ErrorCode::corrupt_file,
          fmt::format("\"{}\" in \"{}\"", fields.answer_after, fields.answer), "none", where);
  problem.reference =
      trimmed(std::string_view(problem.reference).substr(mark + fields.answer_after.size()));
  return problem;
}

}  // namespace

std::vector<Problem> load_problems(const std::filesystem::path& file, const ProblemFields& fields) {
  const std::string content = read_text(file);
  std::string_view rest = content;
  if (rest.starts_with("\xEF\xBB\xBF")) rest.remove_prefix(3);
  std::vector<Problem> problems;
  for (int number = 1; !rest.empty(); ++number) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = trimmed(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.empty()) continue;
    problems.push_back(
        read_line(line, fields, number, fmt::format("{}, line {}", file.string(), number)));
  }
  return problems;
}

}  // namespace pensive
