// Problem files: JSON lines or one array, read strictly.
#include <array>
#include <cmath>
#include <limits>
#include <string_view>

#include "base/inside.h"
#include "pensive/exam.h"

namespace pensive {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view plain = "plain";
struct Known {
  std::string_view name;
  ProblemFields fields;
};
const std::array<Known, 6>& known_fields() {
  static const std::array<Known, 6> all = {
      {{"gsm8k", {.answer_after = "#### ", .intermediates = "answer"}},
       {plain, {}},
       {"svamp", {.question = "Question", .answer = "Answer", .id = "ID", .body = "Body"}},
       {"math500", {.question = "prompt", .answer = "final_answer"}},
       {"aime", {.question = "prompt", .answer = "final_answer"}},
       {"math", {.question = "problem", .answer = "answer", .id = "unique_id"}}}};
  return all;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view spaces = " \t\r\n";
  const std::size_t from = text.find_first_not_of(spaces);
  if (from == std::string_view::npos) return {};
  return text.substr(from, text.find_last_not_of(spaces) - from + 1);
}

const Json& value_of(const Json& line, const std::string& key, std::string_view where) {
  const auto found = line.find(key);
  if (found == line.end())
    fail(ErrorCode::corrupt_file, fmt::format("the key \"{}\"", key), "none", where);
  return *found;
}

// Text as it stands; a number as the text that JSON writes for it, as long as that is exact.
std::string as_text(const Json& value, const std::string& key, std::string_view where) {
  if (value.is_string()) return value.get<std::string>();
  constexpr double exact_below = 9007199254740992;  // 2^53
  const bool is_exact = value.is_number_integer() ||
                        (value.is_number_float() && std::abs(value.get<double>()) < exact_below);
  require(is_exact, ErrorCode::corrupt_file,
          fmt::format("text or a number below 2^53 for \"{}\"", key), value.dump(), where);
  return value.dump();
}

std::string text_of(const Json& line, const std::string& key, std::string_view where) {
  return as_text(value_of(line, key, where), key, where);
}

// What the user says last in a chat: [{"role": …, "content": …}], or "from" and "value".
std::string asked_in(const Json& chat, const std::string& key, std::string_view where) {
  for (auto turn = chat.rbegin(); turn != chat.rend(); ++turn)
    for (const auto& [who, what] : {std::pair("role", "content"), std::pair("from", "value")})
      if (turn->is_object() &&
          (turn->value(who, Json()) == "user" || turn->value(who, Json()) == "human"))
        return member<std::string>(*turn, what, where);
  fail(ErrorCode::corrupt_file, fmt::format("a turn of the user in \"{}\"", key), "none", where);
}

std::string question_of(const Json& line, const ProblemFields& fields, std::string_view where) {
  const auto found = line.find(fields.question);
  const bool is_chat = found != line.end() && found->is_array();
  std::string question = is_chat ? asked_in(*found, fields.question, where)
                                 : member<std::string>(line, fields.question, where);
  if (fields.body.empty()) return question;
  std::string body(trimmed(member<std::string>(line, fields.body, where)));
  if (body.empty()) return question;
  // SVAMP's bodies often lack the full stop.
  constexpr std::string_view ends = ".?!,;:";
  return body + (ends.find(body.back()) == ends.npos ? ". " : " ") + question;
}

// 4 of "<<2+2=4>>", one after the other.
std::vector<std::string> results_in(std::string_view text) {
  constexpr std::string_view opener = "<<", closer = ">>";
  std::vector<std::string> results;
  for (std::size_t at = text.find(opener); at != text.npos; at = text.find(opener, at)) {
    const std::size_t end = text.find(closer, at);
    if (end == text.npos) break;
    const std::string_view inside = text.substr(at + opener.size(), end - at - opener.size());
    const std::size_t equals = inside.rfind('=');
    const std::string_view result = trimmed(inside.substr(equals == inside.npos ? 0 : equals + 1));
    if (equals != inside.npos && !result.empty()) results.emplace_back(result);
    at = end + closer.size();
  }
  return results;
}

// A key that is named must be there, null where a problem has none; the usual one may be missing.
std::vector<std::string> intermediates_of(const Json& line, const ProblemFields& fields,
                                          std::string_view where) {
  const bool is_named = !fields.intermediates.empty();
  const std::string key = is_named ? fields.intermediates : "intermediates";
  if (!is_named && !line.contains(key)) return {};
  const Json& value = value_of(line, key, where);
  if (value.is_null()) return {};
  if (is_named && value.is_string()) return results_in(value.get_ref<const std::string&>());
  require(value.is_array(), ErrorCode::corrupt_file,
          fmt::format("a list of answers in \"{}\"", key), value.dump(), where);
  std::vector<std::string> all;
  for (const Json& one : value) {
    all.push_back(as_text(one, key, where));
    require(!trimmed(all.back()).empty(), ErrorCode::corrupt_file,
            fmt::format("answers in \"{}\"", key), value.dump(), where);
  }
  return all;
}

int target_of(const Json& line, const ProblemFields& fields, std::string_view where) {
  const bool is_named = !fields.target_tokens.empty();
  const std::string key = is_named ? fields.target_tokens : "target_tokens";
  if (!is_named && !line.contains(key)) return 0;
  const Json& value = value_of(line, key, where);
  if (value.is_null()) return 0;
  const bool is_count = value.is_number_integer() && value.get<double>() >= 0 &&
                        value.get<double>() <= std::numeric_limits<int>::max();
  require(is_count, ErrorCode::corrupt_file, fmt::format("a number of tokens in \"{}\"", key),
          value.dump(), where);
  return value.get<int>();
}

Problem read_problem(const Json& line, const ProblemFields& fields, int number,
                     std::string_view where) {
  require(line.is_object(), ErrorCode::corrupt_file, "a JSON object", line.type_name(), where);
  Problem problem;
  problem.question = question_of(line, fields, where);
  problem.reference = text_of(line, fields.answer, where);
  const bool has_id = !fields.id.empty() && line.contains(fields.id);
  problem.id = has_id ? text_of(line, fields.id, where) : std::to_string(number);
  if (!fields.answer_after.empty()) {
    const std::size_t mark = problem.reference.rfind(fields.answer_after);
    require(mark != std::string::npos, ErrorCode::corrupt_file,
            fmt::format("\"{}\" in \"{}\"", fields.answer_after, fields.answer), "none", where);
    problem.reference =
        trimmed(std::string_view(problem.reference).substr(mark + fields.answer_after.size()));
  }
  require(!trimmed(problem.reference).empty(), ErrorCode::corrupt_file,
          fmt::format("an answer in \"{}\"", fields.answer), "none", where);
  problem.intermediates = intermediates_of(line, fields, where);
  if (!problem.intermediates.empty() &&
      same_answer(problem.intermediates.back(), problem.reference))
    problem.intermediates.pop_back();
  problem.target_tokens = target_of(line, fields, where);
  return problem;
}

ProblemFields found_in(const Json& line, std::string_view where) {
  require(line.is_object(), ErrorCode::corrupt_file, "a JSON object", line.type_name(), where);
  for (const Known& one : known_fields()) {
    const ProblemFields& fields = one.fields;
    if (!line.contains(fields.question) || !line.contains(fields.answer) ||
        (!fields.body.empty() && !line.contains(fields.body)))
      continue;
    const Json& answer = line[fields.answer];
    if (fields.answer_after.empty() ||
        (answer.is_string() && answer.get_ref<const std::string&>().find(
                                   "\n" + fields.answer_after) != std::string::npos))
      return fields;
  }
  std::string keys;
  for (const auto& [key, value] : line.items()) keys += (keys.empty() ? "" : ", ") + key;
  fail(
      ErrorCode::corrupt_file,
      "the fields of a known kind of problems (plain, gsm8k, svamp, math500, aime, math), or their "
      "names",
      keys, where);
}

// Takes one record after the other; the first one that can be read tells the fields.
class Reader {
 public:
  Reader(const ProblemFields& fields, std::vector<std::string>* broken)
      : fields_(fields),
        is_known_(!fields.question.empty() || !fields.answer.empty()),
        broken_(broken) {}

  template <class Parse>
  void take(int number, const std::string& where, const Parse& parse) {
    try {
      const Json line = parse();
      if (!is_known_) fields_ = found_in(line, where);
      is_known_ = true;
      problems_.push_back(read_problem(line, fields_, number, where));
    } catch (const Error& error) {
      if (broken_ == nullptr || error.code() != ErrorCode::corrupt_file) throw;
      broken_->push_back(error.what());
    }
  }
  std::vector<Problem> done() { return std::move(problems_); }

 private:
  ProblemFields fields_;
  bool is_known_;
  std::vector<std::string>* broken_;
  std::vector<Problem> problems_;
};

}  // namespace

ProblemFields problem_fields(std::string_view name) {
  if (name == "auto") return {.question = "", .answer = ""};
  std::string names = "auto";
  for (const Known& one : known_fields()) {
    if (one.name == name) return one.fields;
    names += fmt::format(", {}", one.name);
  }
  fail(ErrorCode::invalid_argument, "fields: " + names, in_quotes(name), "problem_fields");
}

std::vector<Problem> load_problems(const std::filesystem::path& file, const ProblemFields& fields,
                                   std::vector<std::string>* broken) {
  const std::string content = read_text(file);
  std::string_view rest = content;
  if (rest.starts_with("\xEF\xBB\xBF")) rest.remove_prefix(3);
  Reader reader(fields, broken);
  if (trimmed(rest).starts_with('[')) {
    const Json all = parse_json(rest, file.string());
    for (int number = 1; const Json& one : all) {
      reader.take(number, fmt::format("{}, entry {}", file.string(), number), [&] { return one; });
      ++number;
    }
    return reader.done();
  }
  for (int number = 1; !rest.empty(); ++number) {
    const std::size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = trimmed(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.empty()) continue;
    const std::string where = fmt::format("{}, line {}", file.string(), number);
    reader.take(number, where, [&] { return parse_json(line, where); });
  }
  return reader.done();
}

}  // namespace pensive
