// What kind of answer a text is: a value, a list, an interval, a matrix, an equation, words.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "judge/expression.h"
#include "judge/tokens.h"

namespace pensive {

struct Form {
  enum class Kind : std::uint8_t {
    text,
    value,
    list,      // "1, 2": in no order
    set,       // "{1, 2}"
    tuple,     // "(1, 2)" and intervals; mark: the brackets
    unite,     // "[1, 2) \cup (3, 4)"
    matrix,    // mark: its columns
    relation,  // mark: = < <= !=; parts: its sides
    ratio,     // "3:4"; mark: "clock" where it reads as a time of day
    choice,    // "(B)", "B) 12"; mark: the letter; parts: what stands behind it, if anything
    based,     // "1010_2"; mark: the base; text: the digits
  };
  Kind kind = Kind::text;
  std::string text{};  // its tokens in lower case
  std::string mark{};
  std::vector<Form> parts{};
  Samples samples{};         // of a value
  std::string unit{};        // of a value; empty when there is none that we know
  bool is_percent = false;   // a value that stood before a percent sign, which is not in `samples`
  bool is_name = false;      // one thing's name: "x", "f(x)", "the area"
  bool is_of_names = false;  // what an equation may give the value of: those, and "m + n"
};

// Linear in the tokens but for brackets in brackets.
Form form_of(std::span<const Token> tokens);

// Whether two forms are the same answer. `steps` falls with each comparison of two parts; at 0 the
// answer is no.
bool is_same(const Form& a, const Form& b, int& steps);

}  // namespace pensive
