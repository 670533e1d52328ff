// The way back from Anthropic: its answer, whole or streamed, as OpenAI's.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/serialize.hpp>

#include "provider/anthropic_wire.h"
#include "provider/json_text.h"

namespace turnpike::provider {
namespace {

using boost::json::array;
using boost::json::object;
using boost::json::value;
using policy::FailureClass;

constexpr std::int64_t kBytesPerToken = 4;  // of text, about

// OpenAI's finish_reason for a stop_reason. A reason that is new to us ended the answer all the same.
std::string_view finish_reason_of(std::string_view stop_reason) {
  struct Reason {
    std::string_view stop;
    std::string_view finish;
  };
  static constexpr std::array<Reason, 6> kReasons = {{{"end_turn", "stop"},
                                                      {"stop_sequence", "stop"},
                                                      {"max_tokens", "length"},
                                                      {"model_context_window_exceeded", "length"},
                                                      {"tool_use", "tool_calls"},
                                                      {"refusal", "content_filter"}}};
  const auto found = std::ranges::find(kReasons, stop_reason, &Reason::stop);
  return found == kReasons.end() ? "stop" : found->finish;
}

// The class of an error that comes inside of an answer, where there is no status.
FailureClass class_of_type(std::string_view type) {
  if (type == "rate_limit_error") return FailureClass::kRateLimited;
  if (type == "timeout_error") return FailureClass::kTimeout;
  if (type == "invalid_request_error" || type == "request_too_large") return FailureClass::kInvalidInput;
  if (type == "authentication_error" || type == "permission_error" || type == "not_found_error" ||
      type == "billing_error")
    return FailureClass::kMisconfigured;
  return FailureClass::kTransient;  // api_error, overloaded_error
}

Failure failure_in(const object* error, const std::string& key) {
  if (error == nullptr) return failure(FailureClass::kTransient, "the upstream failed");
  const std::string_view type = text_in(*error, "type").value_or("");
  // Upstreams repeat parts of a refused key: their words are not passed on.
  const bool about_key = type == "authentication_error" || type == "permission_error";
  const std::string words =
      about_key ? std::string{} : for_user(std::string{text_in(*error, "message").value_or("")}, key);
  return failure(class_of_type(type), fmt::format("the upstream failed{}", words));
}

// Takes what an object `usage` says; what it does not say stays as it was: in a stream later ones are
// complete or name what has changed.
void take_usage(const object* usage, AnthropicUsage& out) {
  if (usage == nullptr) return;
  const auto says = [usage](std::string_view key) {
    const value* amount = usage->if_contains(key);
    return amount != nullptr && amount->is_number();
  };
  if (says("input_tokens")) {
    out.cached = count_of(*usage, "cache_read_input_tokens");
    out.input =
        count_of(*usage, "input_tokens") + out.cached + count_of(*usage, "cache_creation_input_tokens");
  }
  if (says("output_tokens")) out.output = count_of(*usage, "output_tokens");
}

object function_call(std::string_view id, std::string_view name, std::string_view arguments) {
  object function;
  function["name"] = name;
  function["arguments"] = arguments;
  object call;
  call["id"] = id;
  call["type"] = "function";
  call["function"] = std::move(function);
  return call;
}

// A whole message taken apart.
struct Message {
  std::string id;
  std::string model;
  std::string text;
  bool has_text = false;
  array tool_calls;
  std::string_view finish_reason;
  AnthropicUsage usage;
};

std::expected<Message, Failure> read_message(const net::ClientResponse& response, const std::string& key) {
  if (response.status != 200) return std::unexpected(classify_refusal(response, key));
  const auto bad = [](std::string_view what) {
    return std::unexpected(failure(FailureClass::kBadOutput, fmt::format("the upstream's answer {}", what)));
  };
  const auto parsed = parse_json(response.body);
  const object* answer = parsed ? parsed->if_object() : nullptr;
  if (answer == nullptr) return bad("is no JSON object");
  if (text_in(*answer, "type") == "error")
    return std::unexpected(failure_in(object_in(*answer, "error"), key));
  const array* content = array_in(*answer, "content");
  if (content == nullptr) return bad("holds no content");
  Message message;
  message.id = text_in(*answer, "id").value_or("");
  message.model = text_in(*answer, "model").value_or("");
  message.finish_reason = finish_reason_of(text_in(*answer, "stop_reason").value_or(""));
  take_usage(object_in(*answer, "usage"), message.usage);
  for (const value& each : *content) {
    const object* block = each.if_object();
    const auto type = block == nullptr ? std::nullopt : text_in(*block, "type");
    if (!type) return bad("holds a broken block");
    if (*type == "text") {
      message.text += text_in(*block, "text").value_or("");
      message.has_text = true;
    } else if (*type == "tool_use") {
      const value* input = block->if_contains("input");
      message.tool_calls.push_back(function_call(text_in(*block, "id").value_or(""),
                                                 text_in(*block, "name").value_or(""),
                                                 input == nullptr ? "{}" : boost::json::serialize(*input)));
    }
  }
  return message;
}

object usage_object(const AnthropicUsage& usage) {
  object details;
  details["cached_tokens"] = usage.cached;
  object out;
  out["prompt_tokens"] = usage.input;
  out["completion_tokens"] = usage.output;
  out["total_tokens"] = usage.input + usage.output;
  out["prompt_tokens_details"] = std::move(details);
  return out;
}

}  // namespace

std::vector<std::pair<std::string, std::int64_t>> AnthropicUsage::meters() const {
  std::vector<std::pair<std::string, std::int64_t>> amounts;
  const auto take = [&amounts](const char* meter, std::int64_t amount) {
    if (amount > 0) amounts.emplace_back(meter, amount);
  };
  take("tokens_in", input);
  take("tokens_cached", cached);
  take("tokens_out", output);
  return amounts;
}

std::expected<ChatCompletion, Failure> read_anthropic_chat(const net::ClientResponse& response,
                                                           std::int64_t created, const std::string& key) {
  auto message = read_message(response, key);
  if (!message) return std::unexpected(std::move(message.error()));
  object said;
  said["role"] = "assistant";
  said["content"] = message->has_text ? value(message->text) : value();
  said["refusal"] = nullptr;
  if (!message->tool_calls.empty()) said["tool_calls"] = std::move(message->tool_calls);
  object choice;
  choice["index"] = 0;
  choice["message"] = std::move(said);
  choice["logprobs"] = nullptr;
  choice["finish_reason"] = message->finish_reason;
  array choices;
  choices.push_back(std::move(choice));
  object body;
  body["id"] = message->id;
  body["object"] = "chat.completion";
  body["created"] = created;
  body["model"] = message->model;
  body["choices"] = std::move(choices);
  body["usage"] = usage_object(message->usage);
  return ChatCompletion{.body = boost::json::serialize(body), .usage = message->usage};
}

Failure with_reply(Failure failure, int status, const std::string& param) {
  if (failure.failure != FailureClass::kInvalidInput) return failure;
  object error;
  error["message"] = failure.message;
  error["type"] = "invalid_request_error";
  error["param"] = param.empty() ? value() : value(param);
  error["code"] = nullptr;
  object reply;
  reply["error"] = std::move(error);
  failure.param = param;
  failure.reply_status = status;
  failure.reply = boost::json::serialize(reply);
  return failure;
}

Outcome read_anthropic_answer(const Request& request, const net::ClientResponse& response,
                              const std::string& key) {
  const auto message = read_message(response, key);
  if (!message) return message.error();
  object output;
  output["text"] = message->text;
  output["finish_reason"] = message->finish_reason;
  Success success;
  success.usage = message->usage.meters();
  if (auto put = put_output(success, boost::json::serialize(output), request.work_dir); !put)
    return failure(FailureClass::kTransient, put.error().message);
  return success;
}

// --- The stream

std::int64_t AnthropicStream::output_tokens() const {
  if (counted_) return usage_.output;
  return std::max(usage_.output, (bytes_ + kBytesPerToken - 1) / kBytesPerToken);
}

std::string AnthropicStream::take(const SseEvent& event) {
  if (ended_ || failure_) return {};
  const auto parsed = parse_json(event.data);
  const object* fields = parsed ? parsed->if_object() : nullptr;
  if (fields == nullptr) {
    failure_ =
        provider::failure(FailureClass::kBadOutput, "the upstream's stream holds what is no JSON object");
    return {};
  }
  const std::string_view type = text_in(*fields, "type").value_or(event.name);
  if (type == "message_start") return start(*fields);
  if (type == "content_block_start") return start_block(*fields);
  if (type == "content_block_delta") return take_delta(*fields);
  if (type == "content_block_stop") return stop_block();
  if (type == "message_delta") return take_end(*fields);
  if (type == "message_stop") ended_ = true;
  if (type == "error") break_off(*fields);
  return {};  // ping, and what may be new: both to be passed over, says the documentation
}

object AnthropicStream::envelope(array choices) const {
  object body;
  body["id"] = id_;
  body["object"] = "chat.completion.chunk";
  body["created"] = created_;
  body["model"] = model_;
  body["choices"] = std::move(choices);
  return body;
}

std::string AnthropicStream::chunk(object delta, std::optional<std::string_view> finish_reason) const {
  object choice;
  choice["index"] = 0;
  choice["delta"] = std::move(delta);
  choice["logprobs"] = nullptr;
  choice["finish_reason"] = finish_reason ? value(*finish_reason) : value();
  array choices;
  choices.push_back(std::move(choice));
  return fmt::format("data: {}\n\n", boost::json::serialize(envelope(std::move(choices))));
}

std::string AnthropicStream::usage_chunk() const {
  object body = envelope({});
  body["usage"] = usage_object(usage_);
  return boost::json::serialize(body);
}

std::string AnthropicStream::start(const object& event) {
  if (const object* message = object_in(event, "message")) {
    id_ = text_in(*message, "id").value_or("");
    model_ = text_in(*message, "model").value_or("");
    take_usage(object_in(*message, "usage"), usage_);
  }
  object delta;
  delta["role"] = "assistant";
  delta["content"] = "";
  return chunk(std::move(delta));
}

std::string AnthropicStream::start_block(const object& event) {
  block_ = Block::kHidden;
  const object* block = object_in(event, "content_block");
  if (block == nullptr) return {};
  const std::string_view type = text_in(*block, "type").value_or("");
  if (type == "text") {
    block_ = Block::kText;
    const std::string_view text = text_in(*block, "text").value_or("");
    if (text.empty()) return {};
    object delta;
    delta["content"] = text;
    bytes_ += static_cast<std::int64_t>(text.size());
    return chunk(std::move(delta));
  }
  if (type != "tool_use") return {};
  block_ = Block::kTool;
  has_arguments_ = false;
  ++tool_;
  object call = function_call(text_in(*block, "id").value_or(""), text_in(*block, "name").value_or(""), "");
  call["index"] = tool_;
  array calls;
  calls.push_back(std::move(call));
  object delta;
  delta["tool_calls"] = std::move(calls);
  std::string out = chunk(std::move(delta));
  // Its input comes in pieces, as a rule.
  const object* input = object_in(*block, "input");
  if (input != nullptr && !input->empty()) out += tool_arguments(boost::json::serialize(*input));
  return out;
}

std::string AnthropicStream::tool_arguments(std::string_view json) {
  if (json.empty()) return {};
  has_arguments_ = true;
  bytes_ += static_cast<std::int64_t>(json.size());
  object function;
  function["arguments"] = json;
  object call;
  call["index"] = tool_;
  call["function"] = std::move(function);
  array calls;
  calls.push_back(std::move(call));
  object delta;
  delta["tool_calls"] = std::move(calls);
  return chunk(std::move(delta));
}

std::string AnthropicStream::take_delta(const object& event) {
  const object* change = object_in(event, "delta");
  if (change == nullptr) return {};
  const std::string_view type = text_in(*change, "type").value_or("");
  if (type == "text_delta") {
    const std::string_view text = text_in(*change, "text").value_or("");
    if (text.empty()) return {};
    bytes_ += static_cast<std::int64_t>(text.size());
    object delta;
    delta["content"] = text;
    return chunk(std::move(delta));
  }
  if (type == "input_json_delta" && block_ == Block::kTool)
    return tool_arguments(text_in(*change, "partial_json").value_or(""));
  if (type == "thinking_delta")
    bytes_ += static_cast<std::int64_t>(text_in(*change, "thinking").value_or("").size());
  return {};  // signatures and citations have no place in a chat
}

std::string AnthropicStream::stop_block() {
  const Block stopped = std::exchange(block_, Block::kHidden);
  // A call without arguments is one with none, and clients parse what they were given.
  return stopped == Block::kTool && !has_arguments_ ? tool_arguments("{}") : std::string{};
}

std::string AnthropicStream::take_end(const object& event) {
  const object* usage = object_in(event, "usage");
  take_usage(usage, usage_);
  counted_ = counted_ || (usage != nullptr && usage->contains("output_tokens"));
  const object* change = object_in(event, "delta");
  const auto reason = change == nullptr ? std::nullopt : text_in(*change, "stop_reason");
  if (!reason) return {};
  return chunk({}, finish_reason_of(*reason));
}

void AnthropicStream::break_off(const object& event) {
  failure_ = failure_in(object_in(event, "error"), key_);
}

}  // namespace turnpike::provider
