#include "engine/guidance.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <new>
#include <type_traits>
#include <utility>
#include <variant>

#include "base/inside.h"

namespace pensive {
namespace {

constexpr int most_probes = 64;          // after one token
constexpr std::size_t most_wishes = 64;  // that are remembered at least

}  // namespace

OwnGuide::OwnGuide(const Guide& prototype, std::string name)
    : name_(std::move(name)), guide_(prototype.clone()) {
  require(guide_ != nullptr, ErrorCode::invalid_argument, "a clone", "a null one",
          fmt::format("guide {}", name_));
}

Guidance::Guidance(std::shared_ptr<const Rules> rules,
                   std::span<const std::shared_ptr<const Guide>> prototypes)
    : rules_(std::move(rules)) {
  for (const auto& prototype : prototypes) {
    const OwnGuide& guide = guides_.emplace_back(*prototype);
    for (TokenId id : guide->watches()) {
      require(id >= 0 && id < rules_->vocab_size, ErrorCode::invalid_argument,
              fmt::format("ids from 0 to {}", rules_->vocab_size - 1), std::to_string(id),
              fmt::format("guide {} watches", guide.name()));
      watched_.push_back(id);
    }
    watch_ends_.push_back(watched_.size());
  }
}

template <class Work>
void Guidance::guarded(Record& record, Work work) {
  const auto blame = [&](std::string_view what) {
    probe_.reset();
    queue_.clear();
    const bool is_guide = speaking_ < guides_.size();
    std::string error;
    try {
      error = is_guide ? fmt::format("guide {}: {}", guides_[speaking_].name(), what)
                       : std::string(what);
    } catch (const std::bad_alloc& none) {
      error = none.what();  // short enough to need no memory
    }
    record.seal(StopReason::error, std::move(error));
  };
  try {
    speaking_ = nobody;
    work();
  } catch (const std::exception& error) {
    blame(error.what());
  } catch (...) {
    blame("an exception that is not a std::exception");
  }
}

void Guidance::start(Record& record) {
  guarded(record, [&] {
    journal_.add_begin();
    const Moment moment = record.moment({});
    for (speaking_ = 0; speaking_ < guides_.size(); ++speaking_)
      take(guides_[speaking_]->on_start(moment), speaking_, record);
    settle(record);
    drain(record);
  });
}

void Guidance::sampled(Record& record, TokenId id, const Stats& stats) {
  guarded(record, [&] {
    journal_.add_draw(id, stats);
    if (steerer_ == nobody) steerer_ = wishes_.guide;
    record.push(id, Origin::sampled, stats);
    if (wishes_.guide != nobody)
      record.tell_steering(guides_[wishes_.guide].name(), wishes_.mask.empty() ? "bias" : "allow");
    consult(record, stats);
    settle(record);
    drain(record);
  });
}

void Guidance::feed(Record& record, std::span<const TokenId> tokens) {
  guarded(record, [&] {
    journal_.add_feed(tokens);
    queue_.insert(queue_.end(), tokens.begin(), tokens.end());
    drain(record);
  });
}

void Guidance::answer(Record& record, const ProbeReply& reply, int spent) {
  guarded(record, [&] {
    journal_.add_answer(reply, spent);
    record.count_probe(spent);
    chooser_ = prober_;
    write(record, "probe", reply.is_refused ? "refused" : "", spent, 0);
    record.trace.actions.back().text = to_utf8(reply.text);
    probe_.reset();
    was_refused_ = reply.is_refused;
    speaking_ = prober_;
    take(guides_[prober_]->on_probe(reply), prober_, record);
    settle(record);
    drain(record);
    was_refused_ = false;
  });
}

void Guidance::retell(Record& record, const Guidance& other, int rows) {
  for (std::size_t i = 0; i < other.journal_.entries().size(); ++i) {
    const Journal::Entry& entry = other.journal_.entries()[i];
    if (entry.what != Journal::What::begin && record.rows() >= rows) break;
    most_rows_ = std::min(rows, entry.most_rows);
    tell_again(record, other.journal_, entry);
    if (record.rows() < most_rows_) continue;
    journal_.cut(most_rows_);
    if (probe_) continue;  // what waits for its answer came before what is undone
    queue_.clear();
    is_closing_ = false;
  }
  most_rows_ = INT_MAX;
  if (steerer_ == nobody) steerer_ = other.steerer_;
}

void Guidance::tell_again(Record& record, const Journal& journal, const Journal::Entry& entry) {
  switch (entry.what) {
    case Journal::What::begin:
      return start(record);
    case Journal::What::draw:
      return sampled(record, journal.drawn(entry), journal.stats(entry));
    case Journal::What::feed:
      return feed(record, journal.fed(entry));
    case Journal::What::answer: {
      const Journal::Reply& told = journal.reply(entry);
      return answer(record, {told.tokens, told.logprobs, told.text, told.is_refused}, told.spent);
    }
  }
}

void Guidance::consult(Record& record, const Stats& stats) {
  probes_ = 0;
  if (guides_.empty()) return;
  wish_anew(record.new_tokens());
  Moment moment = record.moment(stats);
  std::size_t begin = 0;
  for (speaking_ = 0; speaking_ < guides_.size(); ++speaking_) {
    const std::size_t end = watch_ends_[speaking_];
    if (!stats.watched.empty()) moment.watched = stats.watched.subspan(begin, end - begin);
    begin = end;
    take(guides_[speaking_]->on_token(moment), speaking_, record);
  }
  speaking_ = nobody;
}

// Keeps the wishes for the draws of all tokens but the last.
void Guidance::wish_anew(int kept) {
  if (wished_at_ < kept) {
    const bool is_same = !past_.empty() && *past_.back().second == wishes_;
    past_.emplace_back(wished_at_, is_same ? past_.back().second
                                           : std::make_shared<const Wishes>(std::move(wishes_)));
  }
  while (!past_.empty() && past_.back().first >= kept) past_.pop_back();
  if (past_.size() >= 2 * most_wishes) past_.erase(past_.begin(), past_.end() - most_wishes);
  wishes_ = {};
  wished_at_ = kept;
}

// The draw behind so many tokens is made again: what was wished of it holds again.
void Guidance::wish_again(int kept) {
  while (wished_at_ > kept && !past_.empty()) {
    wished_at_ = past_.back().first;
    wishes_ = *past_.back().second;
    past_.pop_back();
  }
  wished_at_ = std::min(wished_at_, kept);
}

// The first action that does something is carried out; wishes for the next draw add up.
void Guidance::take(Action action, std::size_t guide, const Record& record) {
  if (const auto* proceed = std::get_if<Proceed>(&action)) return add(proceed->biases, guide);
  if (const auto* allow = std::get_if<Allow>(&action)) return add(*allow, guide);
  if (chosen_ || !means_something(action, record)) return;
  chosen_ = std::move(action);
  chooser_ = guide;
}

bool Guidance::means_something(const Action& action, const Record& record) const {
  if (!std::holds_alternative<Close>(action)) return true;
  require(!rules_->closing.empty(), ErrorCode::invalid_argument,
          "thinking markers, without which Close cannot be", "none", "Request::markers");
  return record.segments().now() == Segment::think && !is_closing_;
}

void Guidance::add(std::span<const Bias> biases, std::size_t guide) {
  if (!biases.empty() && wishes_.guide == nobody) wishes_.guide = guide;
  for (const Bias& bias : biases) {
    require(bias.token >= 0 && bias.token < rules_->vocab_size, ErrorCode::invalid_argument,
            fmt::format("a bias for an id below {}", rules_->vocab_size),
            std::to_string(bias.token), "biases");
    require(!std::isnan(bias.logit) && !std::isnan(bias.times_max_minus_mean),
            ErrorCode::invalid_argument, "numbers as biases", "NaN", "biases");
    const auto known = std::ranges::lower_bound(wishes_.biases, bias.token, {}, &Bias::token);
    if (known == wishes_.biases.end() || known->token != bias.token) {
      wishes_.biases.insert(known, bias);
      continue;
    }
    known->logit += bias.logit;
    known->times_max_minus_mean += bias.times_max_minus_mean;
  }
}

void Guidance::add(const Allow& allow, std::size_t guide) {
  if (wishes_.guide == nobody) wishes_.guide = guide;
  std::vector<std::uint32_t>& mask = wishes_.mask;
  if (mask.empty()) {
    mask.assign((static_cast<std::size_t>(rules_->vocab_size) + 31) / 32, ~0u);
    const int spare = rules_->vocab_size % 32;
    if (spare != 0) mask.back() = (1u << spare) - 1;
  }
  for (std::size_t i = 0; i < mask.size(); ++i)
    mask[i] &= i < allow.mask.size() ? allow.mask[i] : 0u;
  require(std::ranges::any_of(mask, [](std::uint32_t word) { return word != 0; }),
          ErrorCode::invalid_argument, "at least one token that all guides allow", "none", "Allow");
}

bool Guidance::is_spent(const Record& record) const {
  return record.rows() >= rules_->max_new_tokens ||
         (record.rows() > 0 && record.lane.size() >= rules_->max_tokens);
}

bool Guidance::is_at_end(const Record& record) const {
  return record.ends_sampled() &&
         std::ranges::find(rules_->stop_tokens, record.lane.tokens.back()) !=
             rules_->stop_tokens.end();
}

// After all guides have spoken about the last token.
void Guidance::settle(Record& record) {
  if (is_spent(record)) {
    queue_.clear();
    chosen_.reset();
    return record.seal(is_at_end(record)        ? StopReason::end_token
                       : record.has_stop_text() ? StopReason::stop_text
                                                : StopReason::length);
  }
  const bool is_forcing = chosen_ && std::holds_alternative<Force>(*chosen_);
  if (chosen_) carry_out(record);
  if (record.is_sealed() || probe_) return;
  if (record.has_stop_text()) {
    queue_.clear();
    return record.seal(StopReason::stop_text);
  }
  if (queue_.empty() && is_at_end(record)) return record.seal(StopReason::end_token);
  // What has just been forced is fed before a closing may cut it short.
  if (!is_forcing && closing_.is_asked() && closing_.is_due(record.moment({}))) close_now(record);
  record.emit();
}

void Guidance::drain(Record& record) {
  while (!queue_.empty() && !record.is_sealed() && !probe_ && record.rows() < most_rows_) {
    const TokenId id = queue_.front();
    queue_.pop_front();
    record.push(id, Origin::forced, {});
    consult(record, {});
    settle(record);
    if (queue_.empty()) is_closing_ = false;
  }
}

void Guidance::carry_out(Record& record) {
  const Action action = std::move(*chosen_);
  chosen_.reset();
  speaking_ = chooser_;
  std::visit(
      [&](const auto& wish) {
        using Wish = std::decay_t<decltype(wish)>;
        if constexpr (!std::is_same_v<Wish, Proceed> && !std::is_same_v<Wish, Allow>)
          act(record, wish);
      },
      action);
  tell(action);
}

void Guidance::act(Record& record, const Force& force) {
  require(!force.tokens.empty() || force.replaces_last > 0, ErrorCode::invalid_argument,
          "tokens to feed or to take back", "neither", "Force");
  require(force.tokens.empty() || force.biases.empty(), ErrorCode::invalid_argument,
          "biases or tokens to feed", "both", "Force");
  require_ids(force.tokens);
  require_back(record, force.replaces_last);
  write(record, "force", "", static_cast<int>(force.tokens.size()), force.replaces_last);
  record.take_back(force.replaces_last);
  queue_.assign(force.tokens.begin(), force.tokens.end());
  is_closing_ = false;
  if (!force.tokens.empty()) return;
  wish_again(record.new_tokens());
  add(force.biases, chooser_);
}

void Guidance::act(Record& record, const Close& close) {
  require_back(record, close.replaces_last);
  record.take_back(close.replaces_last);
  if (close.replaces_last > 0) {
    queue_.clear();
    wish_again(record.new_tokens());
  }
  const bool was_asked = closing_.is_asked();
  closing_.ask(close);
  if (!was_asked) closing_back_ = 0;
  closing_back_ += close.replaces_last;
  if (!was_asked || closing_.reason() == close.reason) closer_ = chooser_;
}

void Guidance::act(Record& record, const Probe& probe) {
  require(!was_refused_, ErrorCode::invalid_argument, "another action after a refused probe",
          "a probe", "Probe");
  require(probe.from_back >= 0 && probe.from_back < record.lane.size(), ErrorCode::invalid_argument,
          fmt::format("a probe from less than {} tokens back", record.lane.size()),
          std::to_string(probe.from_back), "Probe");
  require_ids(probe.tokens);
  require(probe.max_new_tokens > 0, ErrorCode::invalid_argument, "max_new_tokens of at least 1",
          std::to_string(probe.max_new_tokens), "Probe");
  require(std::isfinite(probe.temperature) && probe.temperature >= 0, ErrorCode::invalid_argument,
          "a temperature of at least 0", fmt::format("{}", probe.temperature), "Probe");
  // What probes decode counts towards no limit, so nothing else ends a guide that only asks.
  require(++probes_ <= most_probes, ErrorCode::invalid_argument,
          fmt::format("at most {} probes after one token", most_probes), "one more", "Probe");
  probe_ = probe;
  prober_ = chooser_;
}

void Guidance::act(Record& record, const Stop&) {
  write(record, "stop", "", 0, 0);
  queue_.clear();
  record.seal(StopReason::guide);
}

// Guides learn what was done, not what they asked.
void Guidance::tell(const Action& action) {
  for (speaking_ = 0; speaking_ < guides_.size(); ++speaking_)
    guides_[speaking_]->on_done({&action, speaking_ == chooser_});
  speaking_ = nobody;
}

// A closer that has begun already is taken back, so that none appears half or twice; so is half a
// character.
void Guidance::close_now(Record& record) {
  const int half = record.take_back_halves();
  closing_.withdraw();
  chooser_ = closer_;
  write(record, "close", to_string(closing_.reason()), static_cast<int>(rules_->closing.size()),
        closing_back_ + half);
  queue_.assign(rules_->closing.begin(), rules_->closing.end());
  is_closing_ = true;
}

void Guidance::require_back(const Record& record, int count) const {
  require(count >= 0 && count <= record.new_tokens(), ErrorCode::invalid_argument,
          fmt::format("0 to {} tokens to take back, for the prompt stays", record.new_tokens()),
          std::to_string(count), "replaces_last");
}

void Guidance::require_ids(std::span<const TokenId> ids) const {
  for (TokenId id : ids)
    require(id >= 0 && id < rules_->id_limit, ErrorCode::invalid_argument,
            fmt::format("ids from 0 to {}", rules_->id_limit - 1), std::to_string(id),
            "tokens of an action");
}

void Guidance::write(Record& record, std::string kind, std::string_view reason, int tokens,
                     int back) {
  TraceAction row;
  row.position = static_cast<int>(record.trace.tokens.size()) - 1;
  if (chooser_ < guides_.size()) row.guide = guides_[chooser_].name();
  row.kind = std::move(kind);
  row.reason = reason;
  row.tokens = tokens;
  row.taken_back = back;
  row.seconds = record.seconds();
  record.trace.actions.push_back(std::move(row));
}

}  // namespace pensive
