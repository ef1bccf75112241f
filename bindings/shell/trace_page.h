// What `pensive trace` shows of a trace, on a terminal or as a page.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pensive/trace.h"

namespace pensive::shell {

struct TraceView {
  Trace trace;
  Measures measures;
  // Of each token; empty while a character is not complete. An id without a text is "⟨id⟩".
  std::vector<std::string> pieces;
};

// `tokenizer` may be null: then pieces are ids.
std::vector<std::string> pieces_of(const Trace& trace,
                                   const std::shared_ptr<const Tokenizer>& tokenizer);
std::string piece_of(TokenId id, const Tokenizer* tokenizer);

// What measure() says, in words; what has no meaning here is left out.
struct Figure {
  std::string name, value, note;
};
std::vector<Figure> figures_of(const TraceView& view);
// "force, same: 3 fed, 1 taken back".
std::string words_of(const TraceAction& action);

// For text and for attributes in double quotes. Control characters, which HTML forbids, become
// their symbols.
std::string escaped(std::string_view text);

// One page that needs nothing else.
std::string html_of(std::span<const TraceView> views, std::string_view title,
                    const Tokenizer* tokenizer);

extern const std::string_view page_style, page_script;

}  // namespace pensive::shell
