// The text with which thinking is closed, as ids.
#include <string>

#include "base/inside.h"
#include "pensive/guides.h"

namespace pensive {

std::vector<TokenId> closing_of(const GuideContext& context, std::string_view text) {
  constexpr std::string_view where = "closing text";
  constexpr auto bad = ErrorCode::invalid_argument;
  require(context.tokenizer != nullptr, bad, "a tokenizer", "none", where);
  require(context.markers && !context.markers->think_close.empty(), bad, "thinking markers", "none",
          where);
  const Tokenizer& tokenizer = *context.tokenizer;
  const std::vector<TokenId>& closer = context.markers->think_close;
  std::string spelled = tokenizer.decode(closer, true);
  if (spelled.starts_with(' ')) spelled.erase(0, 1);
  require(!text.empty() && !tokenizer.encode(text, {.add_special = AddSpecial::no}).empty(), bad,
          "a text of at least one token", in_quotes(text), where);
  const std::size_t at = text.find(spelled);
  const bool is_once = at != text.npos && text.find(spelled, at + spelled.size()) == text.npos;
  require(is_once, bad, fmt::format("a text with {} in it, once", in_quotes(spelled)),
          in_quotes(text), where);
  // The closer's own tokens, whatever merges with its neighbours.
  const auto ids = [&](std::string_view part) {
    return part.empty() ? std::vector<TokenId>{}
                        : tokenizer.encode(part, {.add_special = AddSpecial::no});
  };
  std::vector<TokenId> all = ids(text.substr(0, at));
  all.insert(all.end(), closer.begin(), closer.end());
  const std::vector<TokenId> behind = ids(text.substr(at + spelled.size()));
  all.insert(all.end(), behind.begin(), behind.end());
  return all;
}

}  // namespace pensive
