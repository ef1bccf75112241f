#include "guides/catalogue.h"

#include <algorithm>

#include "base/inside.h"

namespace pensive {
namespace {

const std::vector<CatalogueEntry>& catalogue() {
  static const std::vector<CatalogueEntry> entries = [] {
    std::vector<CatalogueEntry> all = {budget_entry(), continue_entry(), margin_entry()};
    for (const auto entry : {overthink_entry, loops_entry, cold_stop_entry, trial_entry,
                             convergence_entry, random_stop_entry, prompt_budget_entry})
      all.push_back(entry());
    std::sort(all.begin(), all.end(),
              [](const auto& a, const auto& b) { return a.info.name < b.info.name; });
    return all;
  }();
  return entries;
}

}  // namespace

std::span<const GuideInfo> guides() {
  static const std::vector<GuideInfo> infos = [] {
    std::vector<GuideInfo> all;
    for (const CatalogueEntry& entry : catalogue()) all.push_back(entry.info);
    return all;
  }();
  return infos;
}

std::shared_ptr<const Guide> make_guide(std::string_view spec, const GuideContext& context) {
  const std::size_t colon = spec.find(':');
  const std::string_view name = spec.substr(0, colon);
  const std::string_view values = colon == spec.npos ? "" : spec.substr(colon + 1);
  std::string known;
  for (const CatalogueEntry& entry : catalogue()) {
    if (entry.info.name == name) return entry.make(Settings(entry.info, values, context));
    known += (known.empty() ? "" : ", ") + std::string(entry.info.name);
  }
  fail(ErrorCode::invalid_argument, "a guide: " + known, in_quotes(name), "guide");
}

}  // namespace pensive
