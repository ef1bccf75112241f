// The page of `pensive trace --html`, put together. Nothing of a trace gets into it unescaped.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>

#include "trace_page.h"

namespace pensive::shell {
std::string escaped(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    switch (c) {
      case '&':
        safe += "&amp;";
        break;
      case '<':
        safe += "&lt;";
        break;
      case '>':
        safe += "&gt;";
        break;
      case '"':
        safe += "&quot;";
        break;
      case '\'':
        safe += "&#39;";
        break;
      case '\n':
      case '\t':
        safe += c;
        break;
      default:
        if (byte < 0x20)
          fmt::format_to(std::back_inserter(safe), "&#x{:x};", 0x2400 + byte);
        else
          safe += byte == 0x7f ? "&#x2421;" : std::string(1, c);
    }
  }
  return safe;
}

namespace {

using Json = nlohmann::json;

// JSON that may stand in a script element: "</script>" and "<!--" cannot be in it.
std::string script_safe(const Json& json) {
  std::string safe;
  for (const char c : json.dump(-1, ' ', false, Json::error_handler_t::replace)) {
    if (c == '<' || c == '>' || c == '&')
      fmt::format_to(std::back_inserter(safe), "\\u{:04x}", static_cast<int>(c));
    else
      safe += c;
  }
  return safe;
}

Json number(float value) {
  return std::isfinite(value) ? Json(std::round(value * 1e5F) / 1e5F) : Json(nullptr);
}

std::string how_of(const Trace& trace, std::size_t i) {
  std::string how(trace.origins[i] == Origin::prompt   ? "prompt"
                  : trace.origins[i] == Origin::forced ? "forced"
                                                       : "drawn");
  if (!trace.is_steered.empty() && trace.is_steered[i] != 0) how += ", steered";
  if (trace.is_marker[i] != 0) how += ", marker";
  if (trace.is_taken_back[i] != 0) how += ", taken back";
  return how;
}

// What the script shows under the mouse.
Json data_of(const TraceView& view, const Tokenizer* tokenizer) {
  const Trace& trace = view.trace;
  Json tokens = Json::array();
  for (std::size_t i = 0; i < trace.tokens.size(); ++i) {
    Json tops = Json::array();
    const auto count = static_cast<std::size_t>(trace.top_count);
    for (std::size_t top = i * count; top < (i + 1) * count; ++top)
      if (trace.top_tokens[top] >= 0)
        tops.push_back(
            {piece_of(trace.top_tokens[top], tokenizer), number(trace.top_logprobs[top])});
    tokens.push_back({trace.tokens[i], how_of(trace, i), number(trace.logprobs[i]),
                      number(trace.drawn_logprobs[i]), number(trace.entropies_nats[i]),
                      trace.seconds.empty() ? Json(nullptr) : number(trace.seconds[i]),
                      std::move(tops)});
  }
  return {{"prompt", trace.prompt_tokens}, {"tokens", tokens}, {"pieces", view.pieces}};
}

float scale_of(const Trace& trace) {
  float most = 0.5F;
  for (const float entropy : trace.entropies_nats)
    if (std::isfinite(entropy)) most = std::max(most, entropy);
  return most;
}

class Page {
 public:
  Page(const TraceView& view, const Tokenizer* tokenizer)
      : view_(view),
        trace_(view.trace),
        tokenizer_(tokenizer),
        scale_(scale_of(trace_)),
        prompt_(static_cast<std::size_t>(trace_.prompt_tokens)) {}

  std::string article(std::size_t number) {
    write(
        "<article>\n<h2>Trace {}</h2>\n<p class=\"sub\">stopped: {}{} · seed {} · sample {}</p>\n",
        number, to_string(trace_.stopped),
        trace_.stop_text.empty() ? "" : " “" + escaped(trace_.stop_text) + "”", trace_.seed,
        trace_.sample);
    if (!trace_.error.empty()) write("<p class=\"error\">{}</p>\n", escaped(trace_.error));
    figures();
    timeline();
    write("<div class=\"body\">\n");
    prompt();
    segments();
    write("</div>\n");
    actions();
    write("<script type=\"application/json\">{}</script>\n</article>\n",
          script_safe(data_of(view_, tokenizer_)));
    return std::move(html_);
  }

 private:
  template <class... Values>
  void write(fmt::format_string<Values...> format, Values&&... values) {
    fmt::format_to(std::back_inserter(html_), format, std::forward<Values>(values)...);
  }

  void figures() {
    write("<dl>\n");
    for (const Figure& figure : figures_of(view_))
      write("<div><dt>{}</dt><dd>{} <small>{}</small></dd></div>\n", escaped(figure.name),
            escaped(figure.value), escaped(figure.note));
    write("</dl>\n");
  }

  // Entropy as an area, segments as a band, actions as marks below.
  void timeline() {
    const std::size_t count = trace_.tokens.size() - prompt_;
    if (count == 0) return;
    write(
        "<figure>\n<svg viewBox=\"0 0 {} 100\" preserveAspectRatio=\"none\" role=\"img\" "
        "aria-label=\"entropy of each token\">\n<path class=\"curve\" d=\"M0 90",
        count);
    for (std::size_t i = 0; i < count; ++i) {
      const float entropy = trace_.entropies_nats[prompt_ + i];
      write("V{:.1f}H{}", std::isfinite(entropy) ? 90 - 86 * entropy / scale_ : 90.0F, i + 1);
    }
    write("V90Z\"/>\n<line class=\"base\" x1=\"0\" x2=\"{}\" y1=\"90\" y2=\"90\"/>\n", count);
    runs([&](std::size_t i) { return trace_.segments[i] == Segment::think ? "think" : "answer"; },
         94, 6);
    runs([&](std::size_t i) { return trace_.is_taken_back[i] != 0 ? "gone" : ""; }, 0, 90);
    write("<line class=\"here\" x1=\"0\" x2=\"0\" y1=\"0\" y2=\"100\"/>\n</svg>\n");
    marks(count);
    write(
        "<figcaption><span>entropy, up to {:.2f} nats</span><span>{} tokens{}</span>"
        "</figcaption>\n</figure>\n",
        scale_, count,
        std::isnan(view_.measures.seconds) ? ""
                                           : fmt::format(" in {:.2f} s", view_.measures.seconds));
  }

  // A rectangle over every run of tokens of one class.
  template <class ClassOf>
  void runs(ClassOf class_of, int y, int height) {
    for (std::size_t i = prompt_; i < trace_.tokens.size();) {
      const std::string_view name = class_of(i);
      const std::size_t begin = i;
      while (i < trace_.tokens.size() && name == class_of(i)) ++i;
      if (!name.empty())
        write("<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>\n", name,
              begin - prompt_, y, i - begin, height);
    }
  }

  void marks(std::size_t count) {
    if (trace_.actions.empty()) return;
    write("<div class=\"marks\">\n");
    for (const TraceAction& action : trace_.actions) {
      const double place = std::clamp(
          100.0 * (action.position + 1 - trace_.prompt_tokens) / static_cast<double>(count), 0.0,
          100.0);
      write(
          "<a href=\"#\" class=\"{}\" data-to=\"{}\" style=\"left:{:.2f}%\" title=\"{}\" "
          "aria-label=\"{}\"></a>\n",
          escaped(action.kind), action.position, place,
          escaped(fmt::format("{} · {} · {}", action.guide.empty() ? "caller" : action.guide,
                              action.kind, words_of(action))),
          escaped(action.kind));
    }
    write("</div>\n");
  }

  void token(std::size_t i) {
    const std::string& piece = view_.pieces[i];
    std::string names;
    const auto add = [&](bool holds, char name) {
      if (holds) names += names.empty() ? std::string(1, name) : std::string{' ', name};
    };
    add(trace_.origins[i] == Origin::forced, 'f');
    add(!trace_.is_steered.empty() && trace_.is_steered[i] != 0, 's');
    add(trace_.is_marker[i] != 0, 'm');
    add(trace_.is_taken_back[i] != 0, 'g');
    add(piece.find('\n') != std::string::npos, 'n');
    add(piece.empty(), 'v');
    write("<b data-i=\"{}\"", i);
    if (!names.empty()) write(" class=\"{}\"", names);
    const float entropy = trace_.entropies_nats[i];
    if (std::isfinite(entropy) && entropy >= 0.01F * scale_)
      write(" style=\"--e:{:.2f}\"", entropy / scale_);
    write(">{}</b>", escaped(piece));
  }

  void prompt() {
    if (prompt_ == 0) return;
    write("<details><summary>Prompt · {} tokens</summary><div class=\"text\">", prompt_);
    for (std::size_t i = 0; i < prompt_; ++i) token(i);
    write("</div></details>\n");
  }

  void segments() {
    for (std::size_t i = prompt_; i < trace_.tokens.size();) {
      const bool is_thinking = trace_.segments[i] == Segment::think;
      std::size_t end = i;
      while (end < trace_.tokens.size() && (trace_.segments[end] == Segment::think) == is_thinking)
        ++end;
      write("<section class=\"{}\"><h3>{} · {} tokens</h3><div class=\"text\">",
            is_thinking ? "think" : "answer", is_thinking ? "Thinking" : "Answer", end - i);
      for (; i < end; ++i) token(i);
      write("</div></section>\n");
    }
  }

  void actions() {
    if (trace_.actions.empty()) return;
    write(
        "<table><thead><tr><th class=\"r\">after token</th><th class=\"r\">at</th><th>guide</th>"
        "<th>action</th><th>what, and what it cost</th></tr></thead><tbody>\n");
    for (const TraceAction& action : trace_.actions) {
      write(
          "<tr><td class=\"r\"><a href=\"#\" data-to=\"{}\">{}</a></td><td class=\"r\">{}</td>"
          "<td>{}</td><td>{}</td><td>{}",
          action.position, action.position - trace_.prompt_tokens,
          std::isnan(action.seconds) ? "" : fmt::format("{:.3f} s", action.seconds),
          action.guide.empty() ? "caller" : escaped(action.guide), escaped(action.kind),
          escaped(words_of(action)));
      if (!action.text.empty()) write(" <code>{}</code>", escaped(action.text));
      write("</td></tr>\n");
    }
    write("</tbody></table>\n");
  }

  const TraceView& view_;
  const Trace& trace_;
  const Tokenizer* tokenizer_;
  float scale_;
  std::size_t prompt_;
  std::string html_;
};

constexpr std::string_view legend = R"html(<p class="legend">
<span>entropy<span class="ramp"></span></span>
<span><b class="f">forced</b> fed by a guide or the caller</span>
<span><b class="s">steered</b> drawn under a bias or mask</span>
<span><b class="g">taken back</b></span>
<span><b class="m">marker</b></span>
</p>
)html";

}  // namespace

std::string html_of(std::span<const TraceView> views, std::string_view title,
                    const Tokenizer* tokenizer) {
  std::string html = fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
      "'unsafe-inline'; script-src 'unsafe-inline'\">\n<title>{}</title>\n<style>{}</style>\n"
      "</head>\n<body>\n<header>\n<h1>How it thought</h1>\n<p class=\"sub\">{} · {} {}</p>\n{}"
      "</header>\n<main>\n",
      escaped(title), page_style, escaped(title), views.size(),
      views.size() == 1 ? "trace" : "traces", legend);
  for (std::size_t i = 0; i < views.size(); ++i) html += Page(views[i], tokenizer).article(i + 1);
  html += "</main>\n<div id=\"tip\" role=\"status\"></div>\n<script>";
  html += page_script;
  html += "</script>\n</body>\n</html>\n";
  return html;
}

}  // namespace pensive::shell
