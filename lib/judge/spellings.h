// What models write in several ways, and how tokens spell it.
#pragma once
#include <array>
#include <string_view>
#include <utility>

namespace pensive::spelling {

using Pair = std::pair<std::string_view, std::string_view>;

inline constexpr std::array characters = {
    Pair{"−", "-"},           Pair{"–", "-"},           Pair{"×", "\\times "},
    Pair{"·", "\\cdot "},     Pair{"⋅", "\\cdot "},     Pair{"÷", "\\div "},
    Pair{"π", "\\pi "},       Pair{"√", "\\sqrt "},     Pair{"∞", "\\infty "},
    Pair{"°", "\\degree "},   Pair{"≤", "\\le "},       Pair{"≥", "\\ge "},
    Pair{"≠", "\\ne "},       Pair{"±", "\\pm "},       Pair{"∓", "\\mp "},
    Pair{"∪", "\\cup "},      Pair{"∩", "\\cap "},      Pair{"∈", "\\in "},
    Pair{"²", "^2 "},         Pair{"³", "^3 "},         Pair{"½", " 1/2 "},
    Pair{"¼", " 1/4 "},       Pair{"¾", " 3/4 "},       Pair{"θ", "\\theta "},
    Pair{"α", "\\alpha "},    Pair{"β", "\\beta "},     Pair{"λ", "\\lambda "},
    Pair{"ℝ", "\\mathbb{R}"}, Pair{"∅", "\\emptyset "}, Pair{"\u00a0", " "},
    Pair{"\u2009", " "},      Pair{"\u202f", " "},      Pair{"…", "\\ldots "},
    Pair{"′", "'"},           Pair{"€", "\\euro "},     Pair{"£", "\\gbp "},
    Pair{"¥", "\\yen "},      Pair{"≈", "\\approx "},
};

// What is written in several ways; the right side is as tokens have it.
inline constexpr std::array commands = {
    Pair{"dfrac", "frac"},    Pair{"tfrac", "frac"},     Pair{"cfrac", "frac"},
    Pair{"nicefrac", "frac"}, Pair{"sfrac", "frac"},     Pair{"dbinom", "binom"},
    Pair{"tbinom", "binom"},  Pair{"degrees", "degree"}, Pair{"varnothing", "emptyset"},
    Pair{"bigcup", "cup"},
};
inline constexpr std::array signs = {
    Pair{"cdot", "*"},     Pair{"times", "*"},     Pair{"ast", "*"},       Pair{"div", "/"},
    Pair{"le", "<="},      Pair{"leq", "<="},      Pair{"leqslant", "<="}, Pair{"ge", ">="},
    Pair{"geq", ">="},     Pair{"geqslant", ">="}, Pair{"lt", "<"},        Pair{"gt", ">"},
    Pair{"ne", "!="},      Pair{"neq", "!="},      Pair{"{", "\\{"},       Pair{"}", "\\}"},
    Pair{"lbrace", "\\{"}, Pair{"rbrace", "\\}"},  Pair{"langle", "("},    Pair{"rangle", ")"},
    Pair{"lvert", "|"},    Pair{"rvert", "|"},     Pair{"vert", "|"},      Pair{"mid", "|"},
    Pair{"|", "|"},        Pair{"%", "%"},         Pair{"\\", "\\\\"},     Pair{"ldots", "..."},
    Pair{"dots", "..."},   Pair{"cdots", "..."},   Pair{"lor", ","},       Pair{"land", ","},
    Pair{"colon", ":"},    Pair{"lbrack", "["},    Pair{"rbrack", "]"},    Pair{"prime", "'"},
};
inline constexpr std::array blanks = {
    std::string_view("!"),         std::string_view(","),      std::string_view(";"),
    std::string_view(":"),         std::string_view(" "),      std::string_view(">"),
    std::string_view("quad"),      std::string_view("qquad"),  std::string_view("displaystyle"),
    std::string_view("textstyle"), std::string_view("limits"), std::string_view("hfill"),
    std::string_view("thinspace"),
};
inline constexpr std::array brackets = {
    std::string_view("left"),   std::string_view("right"), std::string_view("big"),
    std::string_view("Big"),    std::string_view("bigg"),  std::string_view("Bigg"),
    std::string_view("bigl"),   std::string_view("bigr"),  std::string_view("Bigl"),
    std::string_view("Bigr"),   std::string_view("biggl"), std::string_view("biggr"),
    std::string_view("middle"),
};
// Their argument counts as it stands.
inline constexpr std::array wrappers = {
    std::string_view("mathrm"),       std::string_view("mathbf"),     std::string_view("mathit"),
    std::string_view("mathsf"),       std::string_view("boldsymbol"), std::string_view("bm"),
    std::string_view("operatorname"), std::string_view("boxed"),      std::string_view("fbox"),
    std::string_view("overline"),     std::string_view("bar"),        std::string_view("vec"),
    std::string_view("hat"),          std::string_view("mathbb"),     std::string_view("mathcal"),
    std::string_view("underline"),    std::string_view("ensuremath"),
};
inline constexpr std::array texts = {
    std::string_view("text"),       std::string_view("textbf"), std::string_view("textit"),
    std::string_view("textrm"),     std::string_view("textsf"), std::string_view("texttt"),
    std::string_view("mbox"),       std::string_view("hbox"),   std::string_view("emph"),
    std::string_view("textnormal"), std::string_view("mathrm"), std::string_view("operatorname"),
    std::string_view("rm"),
};
inline constexpr std::array functions = {
    std::string_view("sin"),    std::string_view("cos"),    std::string_view("tan"),
    std::string_view("cot"),    std::string_view("sec"),    std::string_view("csc"),
    std::string_view("arcsin"), std::string_view("arccos"), std::string_view("arctan"),
    std::string_view("sinh"),   std::string_view("cosh"),   std::string_view("tanh"),
    std::string_view("log"),    std::string_view("ln"),     std::string_view("exp"),
    std::string_view("sqrt"),   std::string_view("pi"),
};
inline constexpr std::array known = {
    std::string_view("frac"),   std::string_view("binom"),    std::string_view("pm"),
    std::string_view("mp"),     std::string_view("cup"),      std::string_view("cap"),
    std::string_view("in"),     std::string_view("begin"),    std::string_view("end"),
    std::string_view("degree"), std::string_view("emptyset"), std::string_view("lfloor"),
    std::string_view("rfloor"), std::string_view("lceil"),    std::string_view("rceil"),
    std::string_view("circ"),   std::string_view("approx"),
};

}  // namespace pensive::spelling
