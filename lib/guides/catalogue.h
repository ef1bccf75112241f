// How a guide is made from its spec: a line of the catalogue beside each guide's own file.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pensive/guides.h"

namespace pensive {

// The values of one spec, read by the keys of its guide's line: what is not given is the fallback.
// Every getter throws invalid_argument that names the guide, the key and what was found.
class Settings {
 public:
  // Throws invalid_argument for a key that `info` does not have, or has twice.
  Settings(const GuideInfo& info, std::string_view values, const GuideContext& context);

  bool is_given(std::string_view key) const;
  std::string text(std::string_view key) const;
  int whole(std::string_view key) const;
  float number(std::string_view key) const;
  bool flag(std::string_view key) const;  // yes or no
  // Which of these words it is.
  std::size_t choice(std::string_view key, std::initializer_list<std::string_view> words) const;
  // The ids of a text: one token that is spelled so (soft ones too), or what it is encoded to.
  std::vector<TokenId> ids(std::string_view key) const;
  std::vector<TokenId> ids_of(std::string_view text, std::string_view key) const;
  // Texts separated by |.
  std::vector<std::string> list(std::string_view key) const;

  const Tokenizer& tokenizer() const;
  const Markers& markers() const;              // throws where there are none
  std::vector<TokenId> marker_tokens() const;  // of all markers

 private:
  [[noreturn]] void refuse(std::string_view expected, std::string_view key) const;

  const GuideInfo& info_;
  const GuideContext& context_;
  std::vector<std::pair<std::string, std::string>> given_;
};

struct CatalogueEntry {
  GuideInfo info;
  std::shared_ptr<const Guide> (*make)(const Settings& settings);
};

// One a guide, each beside the guide; catalogue.cpp lists them.
CatalogueEntry budget_entry();
CatalogueEntry continue_entry();
CatalogueEntry budget_forcing_entry();
CatalogueEntry switch_penalty_entry();
CatalogueEntry ban_entry();
CatalogueEntry closer_pressure_entry();
CatalogueEntry margin_entry();
CatalogueEntry overthink_entry();
CatalogueEntry loops_entry();
CatalogueEntry cold_stop_entry();
CatalogueEntry trial_entry();
CatalogueEntry convergence_entry();
CatalogueEntry random_stop_entry();
CatalogueEntry prompt_budget_entry();

}  // namespace pensive
