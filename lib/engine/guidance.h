// Asks the guides of one sequence about every token and carries out what they want. Plain values:
// what remains for the engine is to compute tokens and to answer probes.
#pragma once
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/journal.h"
#include "engine/record.h"
#include "pensive/think.h"

namespace pensive {

// What a request settles once for its sequence and all forks of it.
struct Rules {
  std::vector<TokenId> closing;  // what Close feeds; empty where there are no markers
  std::vector<TokenId> stop_tokens;
  int max_new_tokens = 0;
  int max_tokens = 0;      // positions of the model
  TokenId vocab_size = 0;  // ids that can be drawn
  TokenId id_limit = 0;    // ids that can be fed: the soft ones too
};

// A guide that is cloned where it is copied. It is asked for its name once: who is blamed for an
// error is not asked any more.
class OwnGuide {
 public:
  // Throws invalid_argument where the clone is null; so does a copy.
  explicit OwnGuide(const Guide& prototype) : OwnGuide(prototype, std::string(prototype.name())) {}
  OwnGuide(const OwnGuide& other) : OwnGuide(*other.guide_, other.name_) {}
  OwnGuide(OwnGuide&&) = default;
  OwnGuide& operator=(const OwnGuide&) = delete;
  OwnGuide& operator=(OwnGuide&&) = default;

  Guide* operator->() const noexcept { return guide_.get(); }
  const std::string& name() const noexcept { return name_; }

 private:
  OwnGuide(const Guide& prototype, std::string name);

  std::string name_;
  std::unique_ptr<Guide> guide_;
};

// Whatever goes wrong in here, a guide that throws or an action that cannot be, ends the sequence
// with StopReason::error and is told in its trace; nothing is thrown.
class Guidance {
 public:
  // Clones the prototypes. Throws invalid_argument for a clone that is null or watches ids out of
  // range.
  Guidance(std::shared_ptr<const Rules> rules,
           std::span<const std::shared_ptr<const Guide>> prototypes);
  Guidance(const Guidance&) = default;
  Guidance(Guidance&&) = default;
  Guidance& operator=(const Guidance&) = delete;
  Guidance& operator=(Guidance&&) = default;

  void start(Record& record);  // before the first token
  void sampled(Record& record, TokenId id, const Stats& stats);
  void feed(Record& record, std::span<const TokenId> tokens);
  // The answer to probe(); `spent` tokens were fed and decoded for it.
  void answer(Record& record, const ProbeReply& reply, int spent);

  // Tells these fresh guides, and a fresh record, what `other` was told, until the record has so
  // many rows. What would be fed after the last of them is not.
  void retell(Record& record, const Guidance& other, int rows);

  // What the sequence waits for, if it does.
  const Probe* probe() const noexcept { return probe_ ? &*probe_ : nullptr; }
  // Whether these guides watch what those of `other` do, so that it can be told to them again.
  bool watches_like(const Guidance& other) const {
    return watched_ == other.watched_ && watch_ends_ == other.watch_ends_;
  }
  // For the next draw.
  std::span<const TokenId> watched() const noexcept { return watched_; }
  std::span<const Bias> biases() const noexcept { return wishes_.biases; }
  std::span<const std::uint32_t> mask() const noexcept {
    return wishes_.mask;
  }  // empty: everything
  const Rules& rules() const noexcept { return *rules_; }
  // Whether the next draw will end it, whatever is drawn.
  bool is_at_last(const Record& record) const {
    return record.rows() + 1 >= rules_->max_new_tokens ||
           record.lane.size() + 1 >= rules_->max_tokens;
  }
  // Whether the draw after the next may be expected to be wished like it: the last one was.
  bool is_steady() const {
    if (past_.empty()) return wishes_.biases.empty() && wishes_.mask.empty();
    const Wishes& before = *past_.back().second;
    return wishes_.biases == before.biases && wishes_.mask == before.mask;
  }
  // The name of the first guide that wants a bias or a mask of the next draw; null where there is
  // none.
  const std::string* wisher() const noexcept { return name_of(wishes_.guide); }
  // That of the first guide whose bias or mask a token was drawn under; null where there was none.
  const std::string* steerer() const noexcept { return name_of(steerer_); }

 private:
  static constexpr std::size_t nobody = static_cast<std::size_t>(-1);
  // What all guides together want of one draw.
  struct Wishes {
    std::vector<Bias> biases;  // ascending
    std::vector<std::uint32_t> mask;
    std::size_t guide = nobody;  // who first asked for these
    bool operator==(const Wishes&) const = default;
  };

  const std::string* name_of(std::size_t guide) const noexcept {
    return guide < guides_.size() ? &guides_[guide].name() : nullptr;
  }
  template <class Work>
  void guarded(Record& record, Work work);
  void consult(Record& record, const Stats& stats);
  void take(Action action, std::size_t guide, const Record& record);
  bool means_something(const Action& action, const Record& record) const;
  void add(std::span<const Bias> biases, std::size_t guide);
  void add(const Allow& allow, std::size_t guide);
  void wish_anew(int kept);
  void wish_again(int kept);
  void settle(Record& record);
  void drain(Record& record);
  void tell_again(Record& record, const Journal& journal, const Journal::Entry& entry);
  bool is_spent(const Record& record) const;
  bool is_at_end(const Record& record) const;

  void carry_out(Record& record);
  void act(Record& record, const Force& force);
  void act(Record& record, const Close& close);
  void act(Record& record, const Probe& probe);
  void act(Record& record, const Stop& stop);
  void tell(const Action& action);
  void close_now(Record& record);
  void require_back(const Record& record, int count) const;
  void require_ids(std::span<const TokenId> ids) const;
  void write(Record& record, std::string kind, std::string_view reason, int tokens, int back);

  std::shared_ptr<const Rules> rules_;
  std::vector<OwnGuide> guides_;
  std::vector<TokenId> watched_;
  std::vector<std::size_t> watch_ends_;  // of each guide, in `watched_`

  Wishes wishes_;      // for the next draw
  int wished_at_ = 0;  // kept tokens then
  // The wishes before, each with the tokens kept then, ascending; shared with forks.
  std::vector<std::pair<int, std::shared_ptr<const Wishes>>> past_;
  std::size_t steerer_ = nobody;
  std::optional<Action> chosen_;   // about the last token
  std::size_t chooser_ = nobody;   // whose wish that was
  std::size_t speaking_ = nobody;  // for errors
  std::deque<TokenId> queue_;      // still to be fed
  std::optional<Probe> probe_;
  std::size_t prober_ = nobody;
  int probes_ = 0;  // since the last token
  bool was_refused_ = false;
  Closing closing_;
  std::size_t closer_ = nobody;  // who asked for it
  int closing_back_ = 0;         // tokens taken back on its behalf
  bool is_closing_ = false;      // the closing text is being fed
  Journal journal_;
  int most_rows_ = INT_MAX;  // nothing is fed beyond; for telling again
};

}  // namespace pensive
