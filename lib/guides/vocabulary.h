#pragma once
#include <vector>

#include "pensive/text.h"

namespace pensive {

// Every id that the tokenizer has of its own, in ascending order: names given to it come behind.
std::vector<TokenId> own_ids(const Tokenizer& tokenizer);

}  // namespace pensive
