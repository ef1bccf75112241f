// The words of doubt.
#pragma once
#include <string_view>

namespace pensive {

// Self-Braking Tuning's marker terms (arXiv 2505.14604, appendix E), in lower case. Those that hold
// another one ("let me double-check") are there for their tokens.
inline constexpr std::string_view self_braking_terms[] = {"another",
                                                          "backtrack",
                                                          "but",
                                                          "check",
                                                          "going back",
                                                          "hmm",
                                                          "hmmm",
                                                          "however",
                                                          "hold on",
                                                          "instead of",
                                                          "just to be thorough",
                                                          "just to make sure",
                                                          "let me check",
                                                          "let me just double-check",
                                                          "let me try another",
                                                          "let me verify",
                                                          "maybe",
                                                          "maybe i can consider",
                                                          "maybe i should consider",
                                                          "might",
                                                          "not sure",
                                                          "perhaps",
                                                          "recheck",
                                                          "retry",
                                                          "trace back",
                                                          "wait"};

}  // namespace pensive
