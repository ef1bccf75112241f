// Requests and options, checked and understood.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <random>
#include <utility>

#include "base/inside.h"
#include "engine/parts.h"

namespace pensive {
namespace {

constexpr auto bad = ErrorCode::invalid_argument;
constexpr int most_tops = 20;

void require_at_least(std::int64_t least, std::int64_t number, std::string_view name) {
  require(number >= least, bad, fmt::format("{} of at least {}", name, least),
          std::to_string(number), "engine");
}

void require_ids(std::span<const TokenId> ids, TokenId limit, std::string_view where) {
  for (std::size_t i = 0; i < ids.size(); ++i)
    require(ids[i] >= 0 && ids[i] < limit, bad, fmt::format("ids from 0 to {}", limit - 1),
            fmt::format("{} at place {}", ids[i], i), where);
}

std::uint64_t fresh_seed() {
  std::random_device device;
  return (static_cast<std::uint64_t>(device()) << 32) ^ device();
}

kernels::DrawRow understand(const Sampling& sampling, const GenerationDefaults& defaults) {
  kernels::DrawRow row;
  row.temperature = sampling.temperature.value_or(defaults.temperature.value_or(1.0f));
  row.top_p = sampling.top_p.value_or(defaults.top_p.value_or(1.0f));
  row.top_k = sampling.top_k.value_or(defaults.top_k.value_or(0));
  row.min_p = sampling.min_p.value_or(defaults.min_p.value_or(0.0f));
  require(std::isfinite(row.temperature) && row.temperature >= 0, bad,
          "a temperature of at least 0", fmt::format("{}", row.temperature), "Sampling");
  require(row.top_p > 0 && row.top_p <= 1, bad, "a top_p above 0 and at most 1",
          fmt::format("{}", row.top_p), "Sampling");
  require(row.min_p >= 0 && row.min_p <= 1, bad, "a min_p from 0 to 1",
          fmt::format("{}", row.min_p), "Sampling");
  require(row.top_k >= 0, bad, "a top_k of at least 0", std::to_string(row.top_k), "Sampling");
  return row;
}

void check_prompt(const Engine::Parts& engine, const Request& request, TokenId id_limit) {
  const PagePool& pool = engine.scheduler.pool();
  const auto size = static_cast<std::int64_t>(request.prompt.size());
  require(size > 0, bad, "a prompt of at least one token", "none", "Request::prompt");
  require_ids(request.prompt, id_limit, "Request::prompt");
  require(
      size <= engine.model->max_positions(), bad,
      fmt::format("a prompt of at most the model's {} positions", engine.model->max_positions()),
      fmt::format("{} tokens", size), "Request::prompt");
  const auto room = static_cast<std::int64_t>(pool.size()) * pool.page_tokens();
  require(size <= room, bad, fmt::format("a prompt of at most the cache's {} positions", room),
          fmt::format("{} tokens", size), "Request::prompt; EngineOptions::cache_tokens");
}

// What a tokenizer with more ids than the embedding has rows calls a marker may not be one here.
std::optional<Markers> known_markers(const Model& model) {
  std::optional<Markers> found = find_markers(*model.tokenizer());
  if (!found) return found;
  const auto is_beyond = [&](const std::vector<TokenId>& marker) {
    return std::ranges::any_of(marker, [&](TokenId id) { return id >= model.vocab_size(); });
  };
  if (is_beyond(found->think_close)) return std::nullopt;
  if (is_beyond(found->think_open)) found->think_open.clear();
  if (is_beyond(found->answer_open) || is_beyond(found->answer_close)) {
    found->answer_open.clear();
    found->answer_close.clear();
  }
  return found;
}

// The markers of a request; those of the tokenizer where it names none.
std::optional<Markers> markers_of(const Engine::Parts& engine, const Request& request) {
  if (!request.markers) return known_markers(*engine.model);
  const Markers& own = *request.markers;
  for (const auto* marker :
       {&own.think_open, &own.think_close, &own.answer_open, &own.answer_close})
    require_ids(*marker, engine.model->vocab_size(), "Request::markers");
  return own;
}

void check_guides(const Request& request, bool has_closer) {
  for (const auto& guide : request.guides) {
    require(guide != nullptr, bad, "guides", "a null one", "Request::guides");
    require(has_closer || !guide->needs_markers(), bad,
            fmt::format("a model with thinking markers, or Request::markers, for guide {}",
                        guide->name()),
            "none", "Request::guides");
  }
}

std::shared_ptr<const Rules> rules_of(const Engine::Parts& engine, const Request& request,
                                      const std::optional<Markers>& markers, TokenId id_limit) {
  auto rules = std::make_shared<Rules>();
  const std::span<const TokenId> closer =
      markers ? std::span<const TokenId>(markers->think_close) : std::span<const TokenId>{};
  rules->closing = request.closing;
  if (request.closing.empty()) rules->closing.assign(closer.begin(), closer.end());
  require_ids(rules->closing, id_limit, "Request::closing");
  require(request.closing.empty() ||
              (!closer.empty() && !std::ranges::search(request.closing, closer).empty()),
          bad, "a closing that contains the markers' think_close", "none in it",
          "Request::closing");
  check_guides(request, !closer.empty());
  require_ids(request.extra_stop_tokens, engine.model->vocab_size(), "Request::extra_stop_tokens");
  rules->stop_tokens = request.extra_stop_tokens;
  const auto ends = engine.model->stop_tokens();
  if (!request.ignore_end_tokens)
    rules->stop_tokens.insert(rules->stop_tokens.end(), ends.begin(), ends.end());
  require_at_least(1, request.max_new_tokens, "max_new_tokens");
  rules->max_new_tokens = request.max_new_tokens;
  rules->max_tokens = engine.model->max_positions();
  rules->vocab_size = engine.model->vocab_size();
  rules->id_limit = id_limit;
  return rules;
}

std::shared_ptr<const std::vector<std::string>> stop_texts_of(const Request& request) {
  if (request.stop_texts.empty()) return nullptr;
  for (const std::string& text : request.stop_texts)
    require(!text.empty(), bad, "stop texts of at least a byte", "an empty one",
            "Request::stop_texts");
  return std::make_shared<const std::vector<std::string>>(request.stop_texts);
}

std::chrono::steady_clock::time_point deadline_of(const Request& request) {
  using Clock = std::chrono::steady_clock;
  const double seconds = request.timeout_seconds;
  require(std::isfinite(seconds) && seconds >= 0, bad, "a finite time of at least 0",
          fmt::format("{}", seconds), "Request::timeout_seconds");
  if (seconds == 0) return Clock::time_point::max();
  constexpr double longest = 1e9;  // a clock's ticks are whole numbers
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(
                            std::chrono::duration<double>(std::min(seconds, longest)));
}

}  // namespace

std::shared_ptr<Sequence::Parts> make_sequence(const std::shared_ptr<Engine::Parts>& engine,
                                               const Request& request) {
  std::shared_ptr<const SoftVocab::Rows> rows;
  if (engine->options.soft) rows = engine->options.soft->rows();
  const auto soft = rows ? static_cast<TokenId>(rows->master.size(0)) : 0;
  const TokenId id_limit = engine->model->vocab_size() + soft;
  check_prompt(*engine, request, id_limit);
  const std::optional<Markers> markers = markers_of(*engine, request);
  const auto rules = rules_of(*engine, request, markers, id_limit);
  require(request.top_logprobs >= 0 && request.top_logprobs <= most_tops, bad,
          fmt::format("0 to {} top_logprobs", most_tops), std::to_string(request.top_logprobs),
          "Request::top_logprobs");
  const kernels::DrawRow draw = understand(request.sampling, engine->model->defaults());
  Sampling sampling = request.sampling;
  if (!sampling.repetition_penalty)
    sampling.repetition_penalty = engine->model->defaults().repetition_penalty;
  auto steering = std::make_shared<const Steering>(sampling, engine->model->vocab_size());
  Segments segments(markers, engine->tokenizer());
  segments.begin(request.prompt, request.begins_in);

  Record record(request.prompt, std::move(segments), engine->tokenizer());
  record.stop_at(stop_texts_of(request));
  auto beginning = std::make_shared<Beginning>(Beginning{std::move(record), rules, request.guides});
  auto sequence =
      std::make_shared<Sequence::Parts>(engine, beginning->record, Guidance(rules, request.guides));
  sequence->beginning = std::move(beginning);
  sequence->deadline = deadline_of(request);
  sequence->draw = draw;
  sequence->steering = std::move(steering);
  sequence->draw.watched.assign(sequence->guidance.watched().begin(),
                                sequence->guidance.watched().end());
  sequence->draw.listed = request.top_logprobs;
  sequence->record.tell_tops(request.top_logprobs);
  if (request.prompt_logprobs && request.prompt.size() > 1) sequence->record.lane.unscored = 0;
  Trace& trace = sequence->record.trace;
  trace.seed = request.sampling.seed ? *request.sampling.seed : fresh_seed();
  trace.sample = request.sample;
  sequence->key = kernels::mix(trace.seed, request.sample);
  sequence->record.lane.soft_version = rows ? rows->version : 0;
  sequence->rows = std::move(rows);
  return sequence;
}

PromptOf chat_prompt(std::shared_ptr<const Tokenizer> tokenizer, std::string system) {
  require(tokenizer != nullptr, bad, "a tokenizer", "none", "chat_prompt");
  return [tokenizer = std::move(tokenizer), system = std::move(system)](const Problem& problem) {
    std::vector<Message> chat;
    if (!system.empty()) chat.push_back({"system", system});
    chat.push_back({"user", problem.question});
    return tokenizer->encode_chat(chat);
  };
}

}  // namespace pensive
