#include "pensive/guides.h"

#include "handles.h"

namespace door {

namespace {

// The members that belong to no kind but the one given must be zero.
void check_unused(const pensive_action& a) {
  const bool proceeds = a.bias_tokens || a.bias_logits || a.bias_max_minus_mean || a.bias_count;
  const bool allows = a.mask || a.mask_words;
  const bool feeds = a.tokens || a.token_count;
  const bool probes =
      a.stop_texts || a.stop_text_count || a.from_back || a.max_new_tokens || a.temperature != 0;
  const bool closes = a.reason || a.within_tokens;
  const int32_t kind = a.kind;
  const bool is_clean = (!proceeds || kind == PENSIVE_PROCEED || kind == PENSIVE_FORCE) &&
                        (!allows || kind == PENSIVE_ALLOW) &&
                        (!feeds || kind == PENSIVE_FORCE || kind == PENSIVE_PROBE) &&
                        (!probes || kind == PENSIVE_PROBE) && (!closes || kind == PENSIVE_CLOSE) &&
                        (!a.replaces_last || kind == PENSIVE_FORCE || kind == PENSIVE_CLOSE);
  if (!is_clean) refuse("only members that belong to its kind", "others set", "pensive_action");
}

std::vector<pensive::Bias> biases_of(const pensive_action& a) {
  std::vector<pensive::Bias> biases;
  const auto tokens = array_in(a.bias_tokens, a.bias_count, "pensive_action.bias_tokens");
  for (size_t i = 0; i < tokens.size(); ++i)
    biases.push_back({tokens[i], a.bias_logits ? a.bias_logits[i] : 0.0f,
                      a.bias_max_minus_mean ? a.bias_max_minus_mean[i] : 0.0f});
  return biases;
}

pensive::Probe probe_of(const pensive_action& a) {
  pensive::Probe probe;
  probe.from_back = a.from_back;
  probe.tokens = copy_in(a.tokens, a.token_count, "pensive_action.tokens");
  for (const char* text : array_in(a.stop_texts, a.stop_text_count, "pensive_action.stop_texts"))
    probe.stop_texts.emplace_back(text_in(text, "pensive_action.stop_texts"));
  probe.temperature = a.temperature;
  probe.max_new_tokens = number_or(a.max_new_tokens, probe.max_new_tokens);
  return probe;
}

pensive::Action action_of(const pensive_action& a) {
  check_unused(a);
  switch (choice_in(a.kind, PENSIVE_STOP, "pensive_action.kind")) {
    case PENSIVE_ALLOW:
      return pensive::Allow{copy_in(a.mask, a.mask_words, "pensive_action.mask")};
    case PENSIVE_FORCE:
      return pensive::Force{copy_in(a.tokens, a.token_count, "pensive_action.tokens"),
                            a.replaces_last, biases_of(a)};
    case PENSIVE_CLOSE:
      return pensive::Close{static_cast<pensive::CloseReason>(
                                choice_in(a.reason, PENSIVE_CLOSE_OTHER, "pensive_action.reason")),
                            a.replaces_last, a.within_tokens};
    case PENSIVE_PROBE:
      return probe_of(a);
    case PENSIVE_STOP:
      return pensive::Stop{};
    default:
      return pensive::Proceed{biases_of(a)};
  }
}

pensive_moment view_of(const pensive::Moment& moment) {
  pensive_moment view{};
  view.struct_size = sizeof view;
  view.token = moment.token;
  view.tokens = moment.tokens.data();
  view.token_count = moment.tokens.size();
  view.prompt_tokens = moment.prompt_tokens;
  view.segment = static_cast<int32_t>(moment.segment);
  view.next = static_cast<int32_t>(moment.next);
  view.origin = static_cast<int32_t>(moment.origin);
  view.completes = static_cast<int32_t>(moment.completes);
  view.marker_tokens = moment.marker_tokens;
  view.pending_tokens = moment.pending_tokens;
  view.think_tokens = moment.think_tokens;
  view.new_tokens = moment.new_tokens;
  view.top_token = moment.top_token;
  view.top_logprob = moment.top_logprob;
  view.logprob = moment.logprob;
  view.entropy_nats = moment.entropy_nats;
  view.text = moment.text.data();
  view.text_size = moment.text.size();
  view.tail = moment.tail.data();
  view.tail_size = moment.tail.size();
  view.watched = moment.watched.data();
  view.watched_count = moment.watched.size();
  return view;
}

pensive_action view_of(const pensive::Action& action) {
  pensive_action view{};
  view.struct_size = sizeof view;
  view.kind = static_cast<int32_t>(action.index());
  if (const auto* force = std::get_if<pensive::Force>(&action)) {
    view.tokens = force->tokens.data();
    view.token_count = force->tokens.size();
    view.replaces_last = force->replaces_last;
  } else if (const auto* close = std::get_if<pensive::Close>(&action)) {
    view.reason = static_cast<int32_t>(close->reason);
    view.replaces_last = close->replaces_last;
    view.within_tokens = close->within_tokens;
  } else if (const auto* probe = std::get_if<pensive::Probe>(&action)) {
    view.tokens = probe->tokens.data();
    view.token_count = probe->tokens.size();
    view.from_back = probe->from_back;
    view.max_new_tokens = probe->max_new_tokens;
    view.temperature = probe->temperature;
  }
  return view;
}

class CallbackGuide final : public pensive::Guide {
 public:
  CallbackGuide(const pensive_guide_callbacks& callbacks, std::string name,
                std::vector<pensive::TokenId> watches, std::shared_ptr<User> user)
      : callbacks_(callbacks),
        name_(std::move(name)),
        watches_(std::move(watches)),
        user_(std::move(user)) {}

  std::string_view name() const override { return name_; }
  std::vector<pensive::TokenId> watches() const override { return watches_; }
  bool needs_markers() const override { return callbacks_.needs_markers == 1; }

  pensive::Action on_start(const pensive::Moment& moment) override {
    return callbacks_.on_start ? ask(callbacks_.on_start, view_of(moment), "on_start")
                               : pensive::Action{};
  }
  pensive::Action on_token(const pensive::Moment& moment) override {
    return ask(callbacks_.on_token, view_of(moment), "on_token");
  }
  pensive::Action on_probe(const pensive::ProbeReply& reply) override {
    if (!callbacks_.on_probe) return {};
    pensive_probe_reply view{};
    view.struct_size = sizeof view;
    view.is_refused = reply.is_refused;
    view.tokens = reply.tokens.data();
    view.logprobs = reply.logprobs.data();
    view.count = reply.tokens.size();
    view.text = reply.text.data();
    view.text_size = reply.text.size();
    return ask(callbacks_.on_probe, view, "on_probe");
  }
  void on_done(const pensive::Done& done) override {
    if (!callbacks_.on_done || !done.action) return;
    const pensive_action view = view_of(*done.action);
    check_callback(callbacks_.on_done(user_->user, &view, done.was_mine), "on_done");
  }

  std::unique_ptr<pensive::Guide> clone() const override {
    auto user = user_;
    if (callbacks_.clone) {
      user = std::make_shared<User>(nullptr, callbacks_.destroy);
      user->user = callbacks_.clone(user_->user);
      if (!user->user) throw std::bad_alloc();
      user->is_ours = true;
    }
    return std::make_unique<CallbackGuide>(callbacks_, name_, watches_, std::move(user));
  }

 private:
  template <typename View>
  pensive::Action ask(int32_t (*callback)(void*, const View*, pensive_action*), const View& view,
                      const char* name) {
    pensive_action wish{};
    wish.struct_size = sizeof wish;
    check_callback(callback(user_->user, &view, &wish), name);
    return action_of(wish);
  }

  pensive_guide_callbacks callbacks_;
  std::string name_;
  std::vector<pensive::TokenId> watches_;
  std::shared_ptr<User> user_;
};

}  // namespace

int32_t guide_new_budget(const pensive_budget_options* options, pensive_guide** guide,
                         pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(guide, "guide");
    const auto given = struct_in(options, "pensive_budget_options");
    check_zero(given.reserved, "pensive_budget_options.reserved");
    pensive::BudgetOptions wanted;
    wanted.max_think_tokens = number_or(given.max_think_tokens, wanted.max_think_tokens);
    wanted.window_tokens =
        given.window_tokens == -1 ? 0 : number_or(given.window_tokens, wanted.window_tokens);
    slot = new pensive_guide{pensive::budget(wanted)};
  });
}

int32_t guide_new_continue(const pensive_continue_options* options, pensive_guide** guide,
                           pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(guide, "guide");
    const auto given = struct_in(&need(options, "options"), "pensive_continue_options");
    check_zero(given.reserved, "pensive_continue_options.reserved");
    pensive::ContinueOptions wanted;
    wanted.with = copy_in(given.with, given.with_count, "pensive_continue_options.with");
    wanted.times = number_or(given.times, wanted.times);
    wanted.max_think_tokens = number_or(given.max_think_tokens, wanted.max_think_tokens);
    slot = new pensive_guide{pensive::continue_thinking(wanted)};
  });
}

int32_t guide_new_margin_brake(const pensive_margin_brake_options* options, pensive_guide** guide,
                               pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(guide, "guide");
    const auto given = struct_in(&need(options, "options"), "pensive_margin_brake_options");
    check_zero(given.reserved, "pensive_margin_brake_options.reserved");
    pensive::MarginBrakeOptions wanted;
    wanted.closer =
        copy_in(given.closer, given.closer_count, "pensive_margin_brake_options.closer");
    wanted.max_margin_nats =
        given.max_margin_nats < 0 ? 0 : number_or(given.max_margin_nats, wanted.max_margin_nats);
    wanted.min_think_tokens = given.min_think_tokens;
    wanted.at = pensive::Boundary::sentence;
    slot = new pensive_guide{pensive::margin_brake(wanted)};
  });
}

int32_t guide_new(const pensive_guide_callbacks* callbacks, pensive_guide** guide,
                  pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(guide, "guide");
    const auto given = struct_in(&need(callbacks, "callbacks"), "pensive_guide_callbacks");
    check_zero(given.reserved, "pensive_guide_callbacks.reserved");
    flag_in(given.needs_markers, "pensive_guide_callbacks.needs_markers");
    need(given.on_token, "pensive_guide_callbacks.on_token");
    std::string name(text_in(given.name, "pensive_guide_callbacks.name"));
    if (name.empty()) refuse("a name", "an empty one", "pensive_guide_callbacks.name");
    auto user = std::make_shared<User>(given.user, given.destroy);
    slot = new pensive_guide{std::make_shared<CallbackGuide>(
        given, std::move(name),
        copy_in(given.watches, given.watch_count, "pensive_guide_callbacks.watches"), user)};
    user->is_ours = true;
  });
}

void guide_free(pensive_guide* guide) { delete guide; }

}  // namespace door
