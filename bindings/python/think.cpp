// Guides: the three of the library, and those written in Python.
#include <algorithm>
#include <optional>

#include "bind.h"
#include "pensive/guides.h"

namespace bind {

namespace {

using pensive::Action;
using pensive::Moment;
using pensive::TokenId;

// What Python sees of a moment; empty once the call it was made for is over.
struct MomentView {
  const Moment* moment;
  const Moment& get() const {
    if (!moment) throw std::runtime_error("a moment lives for the duration of its call");
    return *moment;
  }
};

Action action_of(const py::object& wish) {
  if (wish.is_none()) return pensive::Proceed{};
  return py::cast<Action>(wish);
}

// A guide written in Python. Its clones hold copies of the object.
class PythonGuide final : public pensive::Guide {
 public:
  explicit PythonGuide(const py::object& guide)
      : guide_(guide),
        name_(py::cast<std::string>(py::str(guide.attr("name")))),
        watches_(py::cast<std::vector<TokenId>>(guide.attr("watches"))),
        needs_markers_(py::cast<bool>(guide.attr("needs_markers"))) {}

  std::string_view name() const override { return name_; }
  std::vector<TokenId> watches() const override { return watches_; }
  bool needs_markers() const override { return needs_markers_; }

  Action on_start(const Moment& moment) override { return ask("on_start", moment); }
  Action on_token(const Moment& moment) override { return ask("on_token", moment); }

  Action on_probe(const pensive::ProbeReply& reply) override {
    const py::gil_scoped_acquire lock;
    py::dict said;
    said["tokens"] = std::vector<TokenId>(reply.tokens.begin(), reply.tokens.end());
    said["logprobs"] = std::vector<float>(reply.logprobs.begin(), reply.logprobs.end());
    said["text"] = text_of(reply.text);
    said["is_refused"] = reply.is_refused;
    const py::object space = py::module_::import("types").attr("SimpleNamespace");
    return action_of(guide_.get().attr("on_probe")(space(**said)));
  }

  void on_done(const pensive::Done& done) override {
    if (!done.action) return;
    const py::gil_scoped_acquire lock;
    guide_.get().attr("on_done")(*done.action, done.was_mine);
  }

  std::unique_ptr<pensive::Guide> clone() const override {
    const py::gil_scoped_acquire lock;
    return std::make_unique<PythonGuide>(guide_.get().attr("clone")());
  }

 private:
  Action ask(const char* method, const Moment& moment) {
    const py::gil_scoped_acquire lock;
    const auto view = std::make_shared<MomentView>(MomentView{&moment});
    struct End {
      MomentView& view;
      ~End() { view.moment = nullptr; }
    } end{*view};
    return action_of(guide_.get().attr(method)(view));
  }

  Kept guide_;
  std::string name_;
  std::vector<TokenId> watches_;
  bool needs_markers_;
};

void add_moment(py::module_& module) {
  using View = MomentView;
  py::class_<View, std::shared_ptr<View>>(
      module, "Moment", "One token and its surroundings, for the duration of the call.")
      .def_property_readonly("tokens",
                             [](const View& view) {
                               const auto ids = view.get().tokens;
                               return std::vector<TokenId>(ids.begin(), ids.end());
                             })
      .def_property_readonly("prompt_tokens",
                             [](const View& view) { return view.get().prompt_tokens; })
      .def_property_readonly("token", [](const View& view) { return view.get().token; })
      .def_property_readonly("text", [](const View& view) { return text_of(view.get().text); })
      .def_property_readonly("tail", [](const View& view) { return text_of(view.get().tail); })
      .def_property_readonly(
          "segment",
          [](const View& view) { return std::string(pensive::to_string(view.get().segment)); })
      .def_property_readonly(
          "next", [](const View& view) { return std::string(pensive::to_string(view.get().next)); })
      .def_property_readonly("origin", [](const View& view) { return name_of(view.get().origin); })
      .def_property_readonly("completes",
                             [](const View& view) { return name_of(view.get().completes); })
      .def_property_readonly("marker_tokens",
                             [](const View& view) { return view.get().marker_tokens; })
      .def_property_readonly("pending_tokens",
                             [](const View& view) { return view.get().pending_tokens; })
      .def_property_readonly("think_tokens",
                             [](const View& view) { return view.get().think_tokens; })
      .def_property_readonly("new_tokens", [](const View& view) { return view.get().new_tokens; })
      .def_property_readonly("logprob", [](const View& view) { return view.get().logprob; })
      .def_property_readonly("entropy_nats",
                             [](const View& view) { return view.get().entropy_nats; })
      .def_property_readonly("top_token", [](const View& view) { return view.get().top_token; })
      .def_property_readonly("top_logprob", [](const View& view) { return view.get().top_logprob; })
      .def_property_readonly("watched", [](const View& view) {
        const auto logprobs = view.get().watched;
        return std::vector<float>(logprobs.begin(), logprobs.end());
      });
}

pensive::Allow allow_of(const std::vector<TokenId>& tokens) {
  pensive::Allow allow;
  for (const TokenId token : tokens) {
    if (token < 0) refuse("token ids", std::to_string(token), "Allow");
    const auto word = static_cast<std::size_t>(token) / 32;
    if (allow.mask.size() <= word) allow.mask.resize(word + 1);
    allow.mask[word] |= std::uint32_t{1} << (token % 32);
  }
  return allow;
}

pensive::CloseReason reason_of(const std::string& name) {
  using pensive::CloseReason;
  for (const auto reason : {CloseReason::budget, CloseReason::brake, CloseReason::other})
    if (pensive::to_string(reason) == name) return reason;
  refuse("budget, brake or other", name, "Close.reason");
}

void add_actions(py::module_& module) {
  using namespace pensive;
  py::class_<Bias>(module, "Bias", "Adds to a token's logit at the next step.")
      .def(py::init<TokenId, float, float>(), py::arg("token"), py::arg("logit") = 0.0f,
           py::arg("times_max_minus_mean") = 0.0f)
      .def_readonly("token", &Bias::token)
      .def_readonly("logit", &Bias::logit)
      .def_readonly("times_max_minus_mean", &Bias::times_max_minus_mean);
  py::class_<Proceed>(module, "Proceed", "Go on; the biases hold for the next step only.")
      .def(py::init<std::vector<Bias>>(), py::arg("biases") = std::vector<Bias>())
      .def_readonly("biases", &Proceed::biases);
  py::class_<Allow>(module, "Allow", "The next step may draw only these tokens.")
      .def(py::init(&allow_of), py::arg("tokens"))
      .def_readonly("mask", &Allow::mask);
  py::class_<Force>(
      module, "Force",
      "Take the last tokens back, then feed these; with none of them, draw again under "
      "what guides wished for that draw and these biases.")
      .def(py::init<std::vector<TokenId>, int, std::vector<Bias>>(),
           py::arg("tokens") = std::vector<TokenId>(), py::arg("replaces_last") = 0,
           py::arg("biases") = std::vector<Bias>())
      .def_readonly("biases", &Force::biases)
      .def_readonly("tokens", &Force::tokens)
      .def_readonly("replaces_last", &Force::replaces_last);
  py::class_<Close>(module, "Close", "End the thinking gracefully.")
      .def(py::init([](const std::string& reason, int replaces_last, int within_tokens) {
             return Close{reason_of(reason), replaces_last, within_tokens};
           }),
           py::arg("reason") = "other", py::arg("replaces_last") = 0, py::arg("within_tokens") = 0)
      .def_property_readonly(
          "reason", [](const Close& close) { return std::string(to_string(close.reason)); })
      .def_readonly("replaces_last", &Close::replaces_last)
      .def_readonly("within_tokens", &Close::within_tokens);
  py::class_<Probe>(module, "Probe", "Ask the model on the side; on_probe() receives the result.")
      .def(py::init<int, std::vector<TokenId>, std::vector<std::string>, float, int>(),
           py::kw_only(), py::arg("from_back") = 0, py::arg("tokens") = std::vector<TokenId>(),
           py::arg("stop_texts") = std::vector<std::string>(), py::arg("temperature") = 0.0f,
           py::arg("max_new_tokens") = 16)
      .def_readonly("from_back", &Probe::from_back)
      .def_readonly("tokens", &Probe::tokens)
      .def_readonly("stop_texts", &Probe::stop_texts)
      .def_readonly("temperature", &Probe::temperature)
      .def_readonly("max_new_tokens", &Probe::max_new_tokens);
  py::class_<Stop>(module, "Stop", "End the sequence here.").def(py::init<>());
}

py::dict dict_of(const pensive::Markers& markers) {
  py::dict found;
  found["think_open"] = markers.think_open;
  found["think_close"] = markers.think_close;
  found["answer_open"] = markers.answer_open;
  found["answer_close"] = markers.answer_close;
  return found;
}

}  // namespace

const char* name_of(pensive::Marker marker) {
  static constexpr const char* names[] = {"none", "think_open", "think_close", "answer_open",
                                          "answer_close"};
  return names[static_cast<int>(marker)];
}

const char* name_of(pensive::Origin origin) {
  static constexpr const char* names[] = {"prompt", "sampled", "forced"};
  return names[static_cast<int>(origin)];
}

pensive::Segment segment_of(const std::string& name) {
  using pensive::Segment;
  for (const auto segment : {Segment::prompt, Segment::think, Segment::answer})
    if (pensive::to_string(segment) == name) return segment;
  refuse("prompt, think or answer", name, "segment");
}

std::shared_ptr<const pensive::Guide> guide_of(const py::object& guide) {
  if (py::isinstance<GuideHandle>(guide)) return py::cast<const GuideHandle&>(guide).guide;
  for (const char* member :
       {"name", "watches", "needs_markers", "on_start", "on_token", "on_probe", "on_done", "clone"})
    if (!py::hasattr(guide, member)) refuse("a guide", shown(guide), "guides");
  return std::make_shared<PythonGuide>(guide);
}

void add_think(py::module_& module) {
  add_moment(module);
  add_actions(module);
  py::class_<GuideHandle>(module, "BuiltinGuide", "A guide of the library.")
      .def_property_readonly(
          "name", [](const GuideHandle& self) { return std::string(self.guide->name()); })
      .def("__repr__", [](const GuideHandle& self) {
        return "<pensive guide " + std::string(self.guide->name()) + ">";
      });
  module.def(
      "budget",
      [](int max_think_tokens, std::optional<int> window_tokens) {
        pensive::BudgetOptions options{.max_think_tokens = max_think_tokens};
        if (window_tokens) options.window_tokens = *window_tokens;
        return GuideHandle{pensive::budget(options)};
      },
      py::arg("max_think_tokens") = 2048, py::kw_only(), py::arg("window_tokens") = py::none(),
      "Ends the thinking by this many tokens: at a sentence end in the window (32) before, else "
      "there.");
  module.def(
      "continue_thinking",
      [](std::vector<TokenId> with, int times, int max_think_tokens) {
        return GuideHandle{pensive::continue_thinking({std::move(with), times, max_think_tokens})};
      },
      py::arg("with_"), py::arg("times") = 1, py::kw_only(),
      py::arg("max_think_tokens") = pensive::ContinueOptions{}.max_think_tokens,
      "Replaces a sampled closer of the thinking in place by these ids, `times` times.");
  module.def(
      "margin_brake",
      [](std::vector<TokenId> closer, float max_margin_nats, int min_think_tokens) {
        return GuideHandle{pensive::margin_brake(
            {std::move(closer), max_margin_nats, min_think_tokens, pensive::Boundary::sentence})};
      },
      py::arg("closer"), py::kw_only(), py::arg("max_margin_nats") = 0.1f,
      py::arg("min_think_tokens") = 0,
      "Closes the thinking after a sentence where the closer is almost the likeliest token.");
  module.def(
      "guide",
      [](const std::string& spec, std::shared_ptr<const pensive::Tokenizer> tokenizer) {
        auto markers = tokenizer ? pensive::find_markers(*tokenizer) : std::nullopt;
        return GuideHandle{pensive::make_guide(spec, {std::move(tokenizer), std::move(markers)})};
      },
      py::arg("spec"), py::arg("tokenizer") = nullptr,
      "Any guide of the library from a line such as 'budget:max=2048,window=64'.");
  module.def(
      "guides",
      [] {
        py::list all;
        for (const pensive::GuideInfo& info : pensive::guides()) {
          py::dict one, keys;
          one["name"] = info.name;
          one["source"] = info.source;
          one["meaning"] = info.meaning;
          for (const pensive::GuideKey& key : info.keys)
            keys[py::str(std::string(key.name))] = py::make_tuple(key.fallback, key.meaning);
          one["keys"] = keys;
          all.append(one);
        }
        return all;
      },
      "All guides: name, source, meaning, and keys with their default and meaning.");
  module.def(
      "find_markers",
      [](const pensive::Tokenizer& tokenizer) -> py::object {
        const auto markers = pensive::find_markers(tokenizer);
        if (!markers) return py::none();
        return dict_of(*markers);
      },
      py::arg("tokenizer"), "The ids that open and close thinking and answers; None without any.");
  module.def(
      "markers_of",
      [](const pensive::Tokenizer& tokenizer, const std::string& open, const std::string& close) {
        return dict_of(pensive::markers_of(tokenizer, open, close));
      },
      py::arg("tokenizer"), py::arg("open"), py::arg("close"),
      "The same for a pair of texts; an empty `open` where only prompts open the thinking.");
  module.def("is_sentence_end", &pensive::is_sentence_end, py::arg("text"));
}

}  // namespace bind
