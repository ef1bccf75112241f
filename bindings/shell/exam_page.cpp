#include "exam_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>

#include "shell.h"
#include "trace_page.h"

namespace pensive::shell {
namespace {

constexpr std::string_view chart_style = R"css(
svg.chart { height: auto; margin-top: 1rem; font-size: 12px; }
.chart text { fill: var(--soft); }
.chart .grid { stroke: var(--line); }
.chart .axis { stroke: var(--soft); }
.chart .bar { stroke: var(--answer); stroke-width: 1.6; opacity: .55; }
.chart .dot { fill: var(--answer); }
.chart .dot:hover { stroke: var(--ink); stroke-width: 2; }
.chart .minor .bar { stroke: var(--soft); opacity: .4; }
.chart .minor .dot { fill: var(--soft); }
.chart .ring { fill: none; stroke: rgb(var(--heat)); stroke-width: 2.5; }
.chart .front { fill: none; stroke: var(--think); stroke-width: 1.5; opacity: .55; stroke-dasharray: 4 4; }
.chart .number { fill: var(--card); font-weight: 650; font-size: 10px; text-anchor: middle; pointer-events: none; }
.chart .label { fill: var(--ink); paint-order: stroke; stroke: var(--card); stroke-width: 4px; stroke-linejoin: round; }
.notes { margin: 1rem 0 0; padding: 0; list-style: none; }
td.w { white-space: nowrap; } tr.chosen td { font-weight: 600; } tr.minor td { color: var(--soft); }
)css";

constexpr double width = 920, height = 440, left = 62, right = 24, top = 16, bottom = 48;

// One axis: what it spans, in steps of 1, 2 or 5 times a power of ten.
struct Axis {
  double low = 0, high = 1, step = 1;
  Axis(double least, double most, double floor, double ceiling) {
    const double span = std::max(most - least, 1e-9 + std::abs(most) * 1e-3);
    const double rough = span / 5, power = std::pow(10, std::floor(std::log10(rough)));
    step = power;
    for (const double times : {2.0, 5.0, 10.0})
      if (step < rough) step = times * power;
    low = std::max(floor, step * std::floor((least - span * .04) / step));
    high = std::min(ceiling, step * std::ceil((most + span * .04) / step));
  }
  double share(double value) const { return (value - low) / (high - low); }
};

class Chart {
 public:
  explicit Chart(std::span<const Dot> dots)
      : dots_(dots), x_(axis_of_tokens()), y_(axis_of_share()) {}

  std::string svg() {
    write(
        "<svg class=\"chart\" viewBox=\"0 0 {:g} {:g}\" role=\"img\" aria-label=\"accuracy against "
        "tokens\">\n",
        width, height);
    axes();
    frontier();
    for (const Dot& one : dots_) bars(one);
    for (const Dot& one : dots_) label(one);
    for (const bool is_minor : {true, false})  // the runs themselves on top
      for (std::size_t i = 0; i < dots_.size(); ++i)
        if (dots_[i].is_minor == is_minor) point(dots_[i], i + 1);
    html_ += "</svg>\n";
    return std::move(html_);
  }

 private:
  template <class... Values>
  void write(fmt::format_string<Values...> format, Values&&... values) {
    fmt::format_to(std::back_inserter(html_), format, std::forward<Values>(values)...);
  }
  Axis axis_of_tokens() const {
    double least = dots_.front().least, most = dots_.front().most;
    for (const Dot& one : dots_) {
      least = std::min(least, one.least);
      most = std::max(most, one.most);
    }
    // From 0 where that does not push the points into a corner.
    if (least < most / 2) least = 0;
    return {least, most, 0, 1e300};
  }
  Axis axis_of_share() const {
    double least = dots_.front().low, most = dots_.front().high;
    for (const Dot& one : dots_) {
      least = std::min(least, one.low);
      most = std::max(most, one.high);
    }
    return {100 * least, 100 * most, std::min(0.0, 100 * least), std::max(100.0, 100 * most)};
  }
  double x(double tokens) const { return left + x_.share(tokens) * (width - left - right); }
  double y(double share) const {
    return height - bottom - y_.share(100 * share) * (height - top - bottom);
  }

  void axes() {
    for (double at = y_.low; at <= y_.high + y_.step / 1000; at += y_.step)
      write(
          "<line class=\"grid\" x1=\"{:g}\" x2=\"{:g}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/><text "
          "x=\"{:g}\" "
          "y=\"{:.1f}\" text-anchor=\"end\">{:g}%</text>\n",
          left, width - right, y(at / 100), y(at / 100), left - 8, y(at / 100) + 4,
          std::round(at * 1e6) / 1e6);
    for (double at = x_.low; at <= x_.high + x_.step / 1000; at += x_.step)
      write(
          "<line class=\"grid\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:g}\" y2=\"{:g}\"/><text "
          "x=\"{:.1f}\" "
          "y=\"{:g}\" text-anchor=\"middle\">{:g}</text>\n",
          x(at), x(at), top, height - bottom, x(at), height - bottom + 18,
          std::round(at * 1e6) / 1e6);
    write("<line class=\"axis\" x1=\"{:g}\" x2=\"{:g}\" y1=\"{:g}\" y2=\"{:g}\"/>\n", left,
          width - right, height - bottom, height - bottom);
    write("<text x=\"{:g}\" y=\"{:g}\" text-anchor=\"middle\">tokens a response</text>\n",
          (left + width - right) / 2, height - 10);
  }

  // Through those that no other beats in both.
  void frontier() {
    std::vector<const Dot*> best;
    for (const Dot& one : dots_)
      if (!one.is_minor) best.push_back(&one);
    std::sort(best.begin(), best.end(), [](const Dot* a, const Dot* b) {
      return std::pair(a->tokens, -a->accuracy) < std::pair(b->tokens, -b->accuracy);
    });
    std::string path;
    double most = -1e300;
    int count = 0;
    for (const Dot* one : best) {
      if (one->accuracy <= most) continue;
      most = one->accuracy;
      path += fmt::format("{}{:.1f},{:.1f}", count++ == 0 ? "M" : " L", x(one->tokens),
                          y(one->accuracy));
    }
    if (count > 1) write("<path class=\"front\" d=\"{}\"/>\n", path);
  }

  void bars(const Dot& one) {
    write(
        "<g{}><line class=\"bar\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
        "<line class=\"bar\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/></g>\n",
        one.is_minor ? " class=\"minor\"" : "", x(one.tokens), x(one.tokens), y(one.low),
        y(one.high), x(one.least), x(one.most), y(one.accuracy), y(one.accuracy));
  }

  // Of few runs also their names; the table has them all.
  void label(const Dot& one) {
    constexpr std::size_t readable = 8;
    const auto runs = static_cast<std::size_t>(
        std::count_if(dots_.begin(), dots_.end(), [](const Dot& dot) { return !dot.is_minor; }));
    if (one.is_minor || runs > readable) return;
    const double at_x = x(one.tokens);
    const bool is_right = at_x > width - 230;
    write("<text class=\"label\" x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\">{}</text>\n",
          at_x + (is_right ? -13 : 13), y(one.accuracy) - 9, is_right ? "end" : "start",
          escaped(one.name));
  }

  void point(const Dot& one, std::size_t number) {
    const double at_x = x(one.tokens), at_y = y(one.accuracy);
    write("<g{}>", one.is_minor ? " class=\"minor\"" : "");
    if (one.is_chosen)
      write("<circle class=\"ring\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"12\"/>", at_x, at_y);
    write(
        "<circle class=\"dot\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\"><title>{}\n{:.2f}% ({:.2f} to "
        "{:.2f}), {:.1f} tokens</title></circle>",
        at_x, at_y, one.is_minor ? 6 : 8, escaped(one.name), 100 * one.accuracy, 100 * one.low,
        100 * one.high, one.tokens);
    write("<text class=\"number\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>", at_x, at_y + 3.5, number);
    html_ += "</g>\n";
  }

  std::span<const Dot> dots_;
  Axis x_, y_;
  std::string html_;
};

std::string table_of(const ExamPage& page) {
  std::string html =
      "<table><thead><tr><th class=\"r\"></th><th>run</th><th class=\"r\">accuracy</th><th>95%</th>"
      "<th class=\"r\">tokens</th>";
  for (const std::string& column : page.columns)
    html += fmt::format("<th>{}</th>", escaped(column));
  html += "</tr></thead><tbody>\n";
  for (std::size_t i = 0; i < page.dots.size(); ++i) {
    const Dot& one = page.dots[i];
    const auto cell = [&](const std::string& text) {
      constexpr std::size_t readable = 36;  // letters that are not broken over lines
      html +=
          fmt::format("<td{}>{}</td>", text.size() < readable ? " class=\"w\"" : "", escaped(text));
    };
    html += fmt::format(
        "<tr{}><td class=\"r\">{}</td>",
        one.is_chosen ? " class=\"chosen\"" : (one.is_minor ? " class=\"minor\"" : ""), i + 1);
    cell(one.name);
    html += fmt::format(
        "<td class=\"r\">{:.2f}%</td><td class=\"w\">{:.2f} to {:.2f}</td><td "
        "class=\"r\">{:.1f}</td>",
        100 * one.accuracy, 100 * one.low, 100 * one.high, one.tokens);
    for (std::size_t k = 0; k < page.columns.size(); ++k)
      cell(k < one.cells.size() ? one.cells[k] : "");
    html += "</tr>\n";
  }
  return html + "</tbody></table>\n";
}

}  // namespace

Dot dot_of(const ExamResult& result, std::string name) {
  Dot dot{
      .name = std::move(name), .accuracy = result.accuracy, .low = result.low, .high = result.high};
  dot.tokens = result.mean_tokens;
  // Of one problem the interval has no end.
  dot.least = std::isfinite(result.tokens_high) ? result.tokens_low : result.mean_tokens;
  dot.most = std::isfinite(result.tokens_high) ? result.tokens_high : result.mean_tokens;
  return dot;
}

std::vector<Dot> dots_by_length(const ExamResult& result, int parts) {
  std::vector<ExamSample> samples = result.samples;
  std::sort(samples.begin(), samples.end(),
            [](const ExamSample& a, const ExamSample& b) { return a.tokens < b.tokens; });
  std::vector<Dot> dots;
  const std::size_t count = samples.size();
  for (int part = 0; part < parts; ++part) {
    const std::size_t from =
        count * static_cast<std::size_t>(part) / static_cast<std::size_t>(parts);
    const std::size_t to =
        count * static_cast<std::size_t>(part + 1) / static_cast<std::size_t>(parts);
    if (to - from < 2) continue;
    const std::vector<ExamSample> some(samples.begin() + static_cast<std::ptrdiff_t>(from),
                                       samples.begin() + static_cast<std::ptrdiff_t>(to));
    dots.push_back(dot_of(summarized(some, result.problems),
                          fmt::format("{} to {} tokens", some.front().tokens, some.back().tokens)));
    dots.back().is_minor = true;
  }
  return dots;
}

std::string html_of(const ExamPage& page) {
  std::string html = fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
      "'unsafe-inline'\">\n<title>{}</title>\n<style>{}{}</style>\n</head>\n<body>\n<header>\n"
      "<h1>{}</h1>\n<p class=\"sub\">{}</p>\n</header>\n<main>\n<article>\n",
      escaped(page.title), page_style, chart_style, escaped(page.title), escaped(page.sub));
  html +=
      "<h2>Accuracy against tokens</h2>\n<p class=\"sub\">Bars: 95% intervals over problems. "
      "Dashed: no other run is more accurate with as few tokens.</p>\n";
  html += Chart(page.dots).svg();
  html += table_of(page);
  if (!page.notes.empty()) {
    html += "<ul class=\"notes\">\n";
    for (const std::string& note : page.notes) html += fmt::format("<li>{}</li>\n", escaped(note));
    html += "</ul>\n";
  }
  return html + "</article>\n</main>\n</body>\n</html>\n";
}

void write_page(const std::string& file, const ExamPage& page) { write_file(file, html_of(page)); }

}  // namespace pensive::shell
