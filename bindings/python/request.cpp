// Requests from keyword arguments.
#include "bind.h"

namespace bind {

namespace {

using pensive::Request;
using pensive::TokenId;

pensive::Markers markers_of(const py::dict& given) {
  pensive::Markers markers;
  for (const auto& [key, value] : given) {
    const auto name = py::cast<std::string>(key);
    auto ids = as<std::vector<TokenId>>(value, name);
    if (name == "think_open")
      markers.think_open = std::move(ids);
    else if (name == "think_close")
      markers.think_close = std::move(ids);
    else if (name == "answer_open")
      markers.answer_open = std::move(ids);
    else if (name == "answer_close")
      markers.answer_close = std::move(ids);
    else
      refuse("think_open, think_close, answer_open or answer_close", name, "markers");
  }
  return markers;
}

std::vector<TokenId> prompt_ids(const py::object& prompt, const pensive::Tokenizer* tokenizer) {
  if (!py::isinstance<py::str>(prompt)) return as<std::vector<TokenId>>(prompt, "prompt");
  if (!tokenizer) refuse("a prompt of ids", "a text", "Request");
  return tokenizer->encode(py::cast<std::string>(prompt));
}

// Sets one of the numbers that draws follow; false where there is none of this name.
bool set_sampling(pensive::Sampling& sampling, const std::string& name, const py::object& value) {
  if (name == "temperature")
    sampling.temperature = as<float>(value, name);
  else if (name == "top_p")
    sampling.top_p = as<float>(value, name);
  else if (name == "top_k")
    sampling.top_k = as<int>(value, name);
  else if (name == "seed")
    sampling.seed = as<std::uint64_t>(value, name);
  else if (name == "min_p")
    sampling.min_p = as<float>(value, name);
  else if (name == "repetition_penalty")
    sampling.repetition_penalty = as<float>(value, name);
  else if (name == "presence_penalty")
    sampling.presence_penalty = as<float>(value, name);
  else if (name == "frequency_penalty")
    sampling.frequency_penalty = as<float>(value, name);
  else if (name == "logit_bias")
    for (const auto& [token, bias] : as<py::dict>(value, name))
      sampling.logit_bias.push_back({as<TokenId>(token, name), as<float>(bias, name)});
  else if (name == "allowed_tokens")
    sampling.allowed_tokens = as<std::vector<TokenId>>(value, name);
  else if (name == "banned_tokens")
    sampling.banned_tokens = as<std::vector<TokenId>>(value, name);
  else
    return false;
  return true;
}

// Sets one field; false where a request has none of this name.
bool set_field(Request& request, const std::string& name, const py::object& value) {
  const auto ids = [&] { return as<std::vector<TokenId>>(value, name); };
  if (set_sampling(request.sampling, name, value)) return true;
  if (name == "max_new_tokens")
    request.max_new_tokens = as<int>(value, name);
  else if (name == "guides")
    for (const py::handle& guide : as<py::iterable>(value, name))
      request.guides.push_back(guide_of(py::reinterpret_borrow<py::object>(guide)));
  else if (name == "markers")
    request.markers = markers_of(as<py::dict>(value, name));
  else if (name == "closing")
    request.closing = ids();
  else if (name == "begins_in")
    request.begins_in = segment_of(as<std::string>(value, name));
  else if (name == "extra_stop_tokens")
    request.extra_stop_tokens = ids();
  else if (name == "stop_texts")
    request.stop_texts = py::isinstance<py::str>(value) ? std::vector{as<std::string>(value, name)}
                                                        : as<std::vector<std::string>>(value, name);
  else if (name == "timeout_seconds")
    request.timeout_seconds = as<double>(value, name);
  else if (name == "top_logprobs")
    request.top_logprobs = as<int>(value, name);
  else if (name == "prompt_logprobs")
    request.prompt_logprobs = as<bool>(value, name);
  else if (name == "ignore_end_tokens")
    request.ignore_end_tokens = as<bool>(value, name);
  else if (name == "sample")
    request.sample = as<std::uint32_t>(value, name);
  else
    return false;
  return true;
}

}  // namespace

Request request_of(const py::dict& fields, const pensive::Tokenizer* tokenizer) {
  Request request;
  py::object chat = py::none(), variables = py::none(), tools = py::none();
  std::string chat_template;
  for (const auto& [key, item] : fields) {
    const auto name = py::cast<std::string>(key);
    const auto value = py::reinterpret_borrow<py::object>(item);
    if (value.is_none()) continue;
    if (name == "prompt")
      request.prompt = prompt_ids(value, tokenizer);
    else if (name == "chat")
      chat = value;
    else if (name == "chat_variables")
      variables = value;
    else if (name == "tools")
      tools = value;
    else if (name == "chat_template")
      chat_template = as<std::string>(value, name);
    else if (!set_field(request, name, value))
      refuse("a field of requests", name, "Request");
  }
  if (chat.is_none()) {
    if (!variables.is_none() || !tools.is_none() || !chat_template.empty())
      refuse("a chat beside chat_variables, tools or chat_template", "none", "Request");
    return request;
  }
  if (!request.prompt.empty()) refuse("a prompt or a chat", "both", "Request");
  if (!tokenizer) refuse("a prompt of ids", "a chat", "Request");
  request.prompt = tokenizer->encode_chat_json(
      chat_of(chat), {true, json_of(variables), json_of(tools), chat_template});
  return request;
}

Request request_of(const py::object& request, const py::dict& fields,
                   const pensive::Tokenizer& tokenizer) {
  if (!request.is_none() && py::len(fields) > 0) refuse("a request or fields", "both", "Request");
  return request.is_none() ? request_of(fields, &tokenizer) : request_of(request);
}

Request request_of(const py::object& request) {
  if (request.is_none()) return {};
  if (py::isinstance<Request>(request)) return py::cast<Request>(request);
  return request_of(py::cast<py::dict>(request), nullptr);
}

}  // namespace bind
