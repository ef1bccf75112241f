// What `pensive tune` tries and how it chooses.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "exam_page.h"
#include "pensive/exam.h"

namespace pensive::shell {

// One setting that was tried: the specs of `pensive guides`, none for thinking as it likes.
struct Tried {
  std::string spec;
  ExamResult result{};
  Paired against{};  // the unsteered, sure enough for all settings together
};

// "margin:tau={0.1|1}" to one spec for each text between braces; several braces multiply. Braces
// without a bar in them stand for themselves.
std::vector<std::string> expanded(std::string_view spec);

// What is tried where nobody names a guide: the papers' settings and some around them. Limits of
// the budget are shares of what the unsteered think. `thinks_more`: also guides that lengthen.
// Only guides named in `of`; empty: all.
std::vector<std::string> grid(const ExamResult& unsteered, bool thinks_more,
                              std::span<const std::string> of);

// Throws invalid_argument for a name that grid() has no settings for.
void check_names(std::span<const std::string> of);

// What is asked for: one of the two.
struct Target {
  std::optional<double> tokens;  // at most so many a response, on average
  std::optional<double> loss;    // of accuracy, at most; a share
};

// An index into `all`, the first of which is unsteered. Of tokens: the most accurate of those that
// take no more; of equals the one that takes fewer. Of loss: the one that takes the fewest tokens
// of those whose interval against the unsteered ends above -loss. Nothing where none does.
std::optional<std::size_t> choose(std::span<const Tried> all, const Target& target);
// Whom choose() would take by the differences themselves, interval or not.
std::optional<std::size_t> guess(std::span<const Tried> all, const Target& target);

// Of each of so many intervals, for 95% of all together (Bonferroni).
double confidence_of(std::size_t settings) noexcept;

// Of the chosen one on problems that had no part in the choice.
struct Checked {
  ExamResult unsteered, chosen;
  Paired against;
};
// The table, the choice, and what the file can tell about it.
void print_tuned(std::span<const Tried> all, const Target& target,
                 const std::optional<Checked>& checked);
ExamPage page_of(std::span<const Tried> all, const Target& target, const std::string& file);
nlohmann::ordered_json json_of(std::span<const Tried> all, const Target& target,
                               const std::optional<Checked>& checked);

}  // namespace pensive::shell
