// How the page of `pensive trace --html` looks, and what it does under the mouse. It works without
// the script, too.
#include "trace_page.h"

namespace pensive::shell {

const std::string_view page_style = R"css(
:root {
  color-scheme: light dark;
  --paper: #fbfaf7; --card: #ffffff; --ink: #22211e; --soft: #6f6b62; --line: #e4e0d6;
  --think: #7a6cc4; --answer: #1f7a5c; --prompt: #8a857a;
  --heat: 224 122 47; --forced: #0b6fa8; --gone: #b3362b; --steer: #9a6a00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16171a; --card: #1d1f23; --ink: #e6e3dc; --soft: #989389; --line: #32343a;
    --think: #a79bef; --answer: #5cc39d; --prompt: #8f8a80;
    --heat: 240 138 60; --forced: #5fb4e6; --gone: #f08074; --steer: #d9a93c;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 6rem; max-width: 62rem;
  background: var(--paper); color: var(--ink);
  font: 15px/1.55 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  font-variant-numeric: tabular-nums;
}
h1 { font-size: 1.35rem; font-weight: 650; letter-spacing: -.01em; margin: 0; }
h2 { font-size: 1.05rem; font-weight: 650; margin: 0 0 .1rem; }
.sub { color: var(--soft); margin: .15rem 0 0; overflow-wrap: anywhere; }
article {
  margin-top: 2rem; padding: 1.5rem 1.6rem 1.7rem; background: var(--card);
  border: 1px solid var(--line); border-radius: 10px;
}
.error { color: var(--gone); margin: .5rem 0 0; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.2rem, 1fr)); gap: .7rem 1rem; margin: 1.3rem 0 1.1rem; }
dt { color: var(--soft); font-size: .76rem; letter-spacing: .02em; }
dd { margin: 0; font-size: 1.16rem; font-weight: 600; line-height: 1.3; overflow-wrap: anywhere; }
dd small { display: block; min-height: 1.1rem; font-size: .78rem; font-weight: 400; color: var(--soft); }
figure { margin: 0 0 1.3rem; }
svg { display: block; width: 100%; height: 96px; overflow: visible; }
svg .curve { fill: rgb(var(--heat) / .22); stroke: rgb(var(--heat)); stroke-width: 1; vector-effect: non-scaling-stroke; }
svg .base { stroke: var(--line); vector-effect: non-scaling-stroke; }
svg .think { fill: var(--think); } svg .answer { fill: var(--answer); }
svg .gone { fill: var(--gone); opacity: .16; }
svg .here { stroke: var(--ink); visibility: hidden; vector-effect: non-scaling-stroke; opacity: .55; }
.marks { position: relative; height: 18px; margin-top: 3px; }
.marks a {
  position: absolute; top: 2px; width: 11px; height: 11px; margin-left: -5.5px; border-radius: 50%;
  background: var(--forced); border: 2px solid var(--card);
}
.marks a.probe { background: var(--think); border-radius: 2px; }
.marks a.close, .marks a.stop { background: var(--answer); }
.marks a.bias, .marks a.allow { background: var(--steer); border-radius: 2px; transform: rotate(45deg) scale(.85); }
.marks a.rewind { background: var(--gone); }
.marks a:focus-visible, .marks a:hover { outline: 2px solid var(--ink); outline-offset: 0; z-index: 2; }
figcaption { display: flex; justify-content: space-between; color: var(--soft); font-size: .76rem; margin-top: .2rem; }
.legend { display: flex; flex-wrap: wrap; gap: .4rem 1.3rem; color: var(--soft); font-size: .8rem; margin-top: 1.1rem; align-items: center; }
.legend i { font-style: normal; color: var(--ink); padding: 0 .2em; border-radius: 3px; }
.ramp { display: inline-block; width: 5.5rem; height: .7rem; border-radius: 3px; margin: 0 .45rem; vertical-align: -1px;
  background: linear-gradient(90deg, rgb(var(--heat) / 0), rgb(var(--heat) / .62)); border: 1px solid var(--line); }
.text { font: 14px/1.75 ui-monospace, "SF Mono", "Cascadia Code", Menlo, Consolas, "DejaVu Sans Mono", monospace;
  white-space: pre-wrap; overflow-wrap: anywhere; tab-size: 4; }
section, details { border-left: 3px solid var(--prompt); padding: .1rem 0 .1rem 1rem; margin: 0 0 1rem; }
section.think { border-color: var(--think); } section.answer { border-color: var(--answer); }
section > h3, summary { font-size: .76rem; font-weight: 600; margin: 0 0 .2rem; color: var(--soft); }
section.think > h3 { color: var(--think); } section.answer > h3 { color: var(--answer); }
summary { cursor: pointer; }
details .text { color: var(--soft); }
b { font-weight: inherit; border-radius: 2px; padding: 1px 0; background: rgb(var(--heat) / calc(var(--e, 0) * .62)); }
.text.on b:hover, b.here { outline: 1.5px solid var(--ink); outline-offset: 0; }
b.f { box-shadow: inset 0 -2px 0 var(--forced); color: var(--forced); }
b.s { box-shadow: inset 0 -2px 0 -0.5px var(--steer); }
b.m { color: var(--soft); font-style: italic; }
b.g { text-decoration: line-through; text-decoration-color: var(--gone); color: var(--soft); }
b.n::before { content: "↵"; opacity: .35; }
b.v::before { content: "·"; opacity: .35; }
table { border-collapse: collapse; width: 100%; font-size: .86rem; margin-top: 1.3rem; }
th { text-align: left; color: var(--soft); font-weight: 500; font-size: .76rem; border-bottom: 1px solid var(--line); }
th, td { padding: .3rem .8rem .3rem 0; vertical-align: top; }
td { border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
td.r, th.r { text-align: right; white-space: nowrap; }
td a { color: inherit; }
code { font: .92em ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre-wrap; }
#tip {
  position: fixed; z-index: 9; pointer-events: none; display: none; min-width: 11rem; max-width: 22rem;
  background: var(--card); color: var(--ink); border: 1px solid var(--line); border-radius: 8px;
  padding: .6rem .75rem; font-size: .8rem; line-height: 1.45; box-shadow: 0 6px 24px rgb(0 0 0 / .18);
}
#tip .name { font: 600 .9rem/1.4 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
#tip .row { display: flex; justify-content: space-between; gap: 1.2rem; }
#tip .row span:first-child { color: var(--soft); white-space: pre; overflow: hidden; text-overflow: ellipsis; }
#tip .tops { border-top: 1px solid var(--line); margin-top: .4rem; padding-top: .35rem; font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
#tip .bar { height: 3px; background: rgb(var(--heat)); border-radius: 2px; min-width: 1px; margin: 0 0 .15rem; }
@media print { article { break-inside: avoid-page; border: 0; padding: 0; } }
)css";

// Reads the figures that stand beside the page as JSON; writes texts only, never mark-up.
const std::string_view page_script = R"js(
"use strict";
(() => {
  const tip = document.getElementById("tip");
  const put = (parent, name, text) => {
    const node = document.createElement("div");
    node.className = name;
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  };
  const shown = text => text.replace(/\n/g, "↵").replace(/\t/g, "⇥").replace(/ /g, "␣") || "·";
  const row = (parent, left, right) => {
    const node = put(parent, "row");
    for (const text of [left, right]) {
      const cell = document.createElement("span");
      cell.textContent = text;
      node.append(cell);
    }
  };
  const number = (value, digits) => typeof value === "number" ? value.toFixed(digits) : String(value);
  const percent = logprob => typeof logprob !== "number" ? "0 %" : (100 * Math.exp(logprob)).toFixed(1) + " %";
  const place = event => {
    const box = tip.getBoundingClientRect();
    const x = Math.min(event.clientX + 14, innerWidth - box.width - 8);
    const below = event.clientY + 18;
    const y = below + box.height < innerHeight ? below : event.clientY - box.height - 12;
    tip.style.left = Math.max(8, x) + "px";
    tip.style.top = Math.max(8, y) + "px";
  };
  for (const article of document.querySelectorAll("article")) {
    const data = JSON.parse(article.querySelector("script").textContent);
    const text = article.querySelector(".body");
    const line = article.querySelector("svg .here");
    let last = null;
    const point = index => {
      if (!line || index < data.prompt) return;
      for (const name of ["x1", "x2"]) line.setAttribute(name, index - data.prompt + .5);
      line.style.visibility = "visible";
    };
    const mark = token => {
      if (last) last.classList.remove("here");
      last = token;
      if (token) token.classList.add("here");
    };
    const tell = (index, piece) => {
      const [id, how, logprob, drawn, entropy, seconds, tops] = data.tokens[index];
      tip.replaceChildren();
      put(tip, "name", shown(piece));
      row(tip, "token " + (index - data.prompt), "id " + id);
      row(tip, "how", how);
      if (logprob !== null) row(tip, "probability", percent(logprob) + "  (" + number(logprob, 3) + ")");
      if (drawn !== null) row(tip, "as drawn", percent(drawn));
      if (entropy !== null) row(tip, "entropy", number(entropy, 3) + " nats");
      if (seconds !== null) row(tip, "came at", number(seconds, 3) + " s");
      if (!tops.length) return;
      const list = put(tip, "tops");
      for (const [name, value] of tops) {
        row(list, shown(name), percent(value));
        put(list, "bar").style.width = (typeof value === "number" ? 100 * Math.exp(value) : 0) + "%";
      }
    };
    const at = index => article.querySelector('b[data-i="' + index + '"]');
    text.classList.add("on");
    text.addEventListener("mousemove", event => {
      const token = event.target.closest("b");
      if (!token) { tip.style.display = "none"; return; }
      const index = Number(token.dataset.i);
      if (last !== token) { tell(index, data.pieces[index]); mark(token); }
      tip.style.display = "block";
      point(index);
      place(event);
    });
    text.addEventListener("mouseleave", () => { tip.style.display = "none"; });
    const svg = article.querySelector("svg");
    if (svg) {
      const find = event => {
        const box = svg.getBoundingClientRect();
        const share = (event.clientX - box.left) / box.width;
        const index = data.prompt + Math.floor(share * (data.tokens.length - data.prompt));
        return Math.max(data.prompt, Math.min(index, data.tokens.length - 1));
      };
      svg.addEventListener("mousemove", event => {
        const index = find(event);
        tell(index, data.pieces[index]);
        mark(at(index));
        point(index);
        tip.style.display = "block";
        place(event);
      });
      svg.addEventListener("mouseleave", () => { tip.style.display = "none"; });
      svg.addEventListener("click", event => at(find(event))?.scrollIntoView({block: "center"}));
    }
    article.addEventListener("click", event => {
      const link = event.target.closest("a[data-to]");
      if (!link) return;
      event.preventDefault();
      const token = at(link.dataset.to);
      if (!token) return;
      token.closest("details")?.setAttribute("open", "");
      mark(token);
      token.scrollIntoView({block: "center", behavior: "smooth"});
    });
  }
})();
)js";

}  // namespace pensive::shell
