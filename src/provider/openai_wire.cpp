#include "provider/openai_wire.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include "provider/json_text.h"
#include "provider/measure.h"
#include "provider/spawn.h"

namespace turnpike::provider {
namespace {

using boost::json::array;
using boost::json::object;
using boost::json::value;
using policy::FailureClass;

constexpr std::size_t kTextsMax = 2048;
constexpr std::int64_t kEdgePixelsMax = 16'384;

// Fields of a chat that pass as they are: none of them makes a call cost more than its tokens.
constexpr std::array<std::string_view, 8> kChatFields = {
    "temperature",       "top_p",           "stop",    "seed", "presence_penalty",
    "frequency_penalty", "response_format", "messages"};

std::unexpected<Error> refuse(std::string_view field, std::string_view what) {
  return fail(ErrorCode::kInvalidRequest, fmt::format("input.{} {}", field, what),
              fmt::format("input.{}", field));
}

const char* limit_name(TokenLimitField field) {
  return field == TokenLimitField::kMaxTokens ? "max_tokens" : "max_completion_tokens";
}

bool is_chat_field(std::string_view name) {
  return std::ranges::find(kChatFields, name) != kChatFields.end();
}

Result<WireRequest> make_chat(const Request& request, const object& input, const std::string& model,
                              TokenLimitField limit_field) {
  object body;
  body["model"] = model;
  // What was held for it is the most it may use.
  if (request.max_output_tokens > 0) body[limit_name(limit_field)] = request.max_output_tokens;
  for (const auto& field : input) {
    const std::string_view name = field.key();
    if (is_chat_field(name)) {
      body[name] = field.value();
    } else if (name == "prompt") {
      if (!field.value().is_string()) return refuse(name, "must be a text");
    } else if (name == "max_tokens") {
      if (count_of(input, name) < 1) return refuse(name, "must be an integer of at least 1");
      body[limit_name(limit_field)] = field.value();
    } else {
      return refuse(name, "is not known to this provider");
    }
  }
  const value* prompt = input.if_contains("prompt");
  const bool has_messages = input.contains("messages");
  if ((prompt != nullptr) == has_messages)
    return refuse("prompt", "or input.messages must be given, and not both");
  if (prompt != nullptr) {
    object message;
    message["role"] = "user";
    message["content"] = *prompt;
    body["messages"] = array{std::move(message)};
  } else if (!body["messages"].is_array() || body["messages"].get_array().empty()) {
    return refuse("messages", "must be a list of messages");
  }
  return WireRequest{"/chat/completions", boost::json::serialize(body)};
}

Result<WireRequest> make_image(const object& input, const std::string& model) {
  const bool newer =
      model.starts_with("gpt-image");  // always answers with the picture, and refuses to be asked for it
  object body;
  body["model"] = model;
  body["n"] = 1;
  if (!newer) body["response_format"] = "b64_json";
  for (const auto& field : input) {
    const std::string_view name = field.key();
    if (name == "prompt") {
      if (!field.value().is_string()) return refuse(name, "must be a text");
      body["prompt"] = field.value();
    } else if (name == "format") {
      if (newer) body["output_format"] = field.value();
    } else if (name == "width" || name == "height") {
      const std::int64_t edge = count_of(input, name);
      if (edge < 1 || edge > kEdgePixelsMax)
        return refuse(name, fmt::format("must be an integer from 1 to {}", kEdgePixelsMax));
    } else {
      return refuse(name, "is not known to this provider");
    }
  }
  if (!body.contains("prompt")) return refuse("prompt", "is required");
  const bool sized = input.contains("width");
  if (sized != input.contains("height"))
    return refuse(sized ? "height" : "width", "is required with the other edge");
  if (sized) body["size"] = fmt::format("{}x{}", count_of(input, "width"), count_of(input, "height"));
  return WireRequest{"/images/generations", boost::json::serialize(body)};
}

Result<WireRequest> make_embedding(const object& input, const std::string& model) {
  for (const auto& field : input) {
    if (field.key() != "texts") return refuse(field.key(), "is not known to this provider");
  }
  const value* texts = input.if_contains("texts");
  const array* list = texts == nullptr ? nullptr : texts->if_array();
  const bool good = list != nullptr && !list->empty() && list->size() <= kTextsMax &&
                    std::ranges::all_of(*list, [](const value& text) { return text.is_string(); });
  if (!good) return refuse("texts", fmt::format("must be a list of 1 to {} texts", kTextsMax));
  object body;
  body["model"] = model;
  body["input"] = *list;
  return WireRequest{"/embeddings", boost::json::serialize(body)};
}

void add_token_usage(const object& answer, Success& success) {
  const object* usage = object_in(answer, "usage");
  if (usage == nullptr) return;
  const auto take = [&success](const char* meter, std::int64_t amount) {
    if (amount > 0) success.usage.emplace_back(meter, amount);
  };
  take("tokens_in", std::max(count_of(*usage, "prompt_tokens"), count_of(*usage, "input_tokens")));
  take("tokens_out", std::max(count_of(*usage, "completion_tokens"), count_of(*usage, "output_tokens")));
  if (const object* details = object_in(*usage, "prompt_tokens_details"))
    take("tokens_cached", count_of(*details, "cached_tokens"));
}

Outcome bad_answer(std::string_view what) {
  return failure(FailureClass::kBadOutput, fmt::format("the upstream's answer {}", what));
}

Outcome finish(Success success, const object& output, const Request& request) {
  if (auto put = put_output(success, boost::json::serialize(output), request.work_dir); !put)
    return failure(FailureClass::kTransient, put.error().message);
  return success;
}

Outcome read_chat(const Request& request, const object& answer) {
  const object* choice = first_in(answer, "choices");
  const object* message = choice == nullptr ? nullptr : object_in(*choice, "message");
  if (message == nullptr) return bad_answer("holds no choice");
  object output;
  output["text"] = text_in(*message, "content").value_or("");
  output["finish_reason"] = text_in(*choice, "finish_reason").value_or("stop");
  if (const auto refusal = text_in(*message, "refusal")) output["refusal"] = *refusal;
  Success success;
  add_token_usage(answer, success);
  return finish(std::move(success), output, request);
}

Outcome read_image(const Request& request, const object& answer) {
  const object* picture = first_in(answer, "data");
  const auto encoded = picture == nullptr ? std::nullopt : text_in(*picture, "b64_json");
  const auto bytes = encoded ? decode_base64(*encoded) : std::nullopt;
  if (!bytes) return bad_answer("holds no picture");
  const std::filesystem::path path = request.work_dir / "picture";
  if (auto written = write_new_file(path, *bytes); !written)
    return failure(FailureClass::kTransient, written.error().message);
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  const auto measured = file ? measure(file.get(), bytes->size()) : std::nullopt;
  const auto* size = measured ? std::get_if<Picture>(&measured->facts) : nullptr;
  if (size == nullptr) return bad_answer("is no picture");
  Success success;
  const std::string extension =
      measured->mime == "image/jpeg" ? "jpg" : measured->mime.substr(sizeof "image/" - 1);
  success.files.push_back({"image", path, measured->mime, extension});
  success.usage = {{"images", 1}, {"pixels", size->width * size->height}};
  add_token_usage(answer, success);
  object output;
  output["width"] = size->width;
  output["height"] = size->height;
  if (const auto revised = text_in(*picture, "revised_prompt")) output["revised_prompt"] = *revised;
  return finish(std::move(success), output, request);
}

Outcome read_embedding(const Request& request, const object& answer) {
  const array* data = array_in(answer, "data");
  if (data == nullptr || data->empty()) return bad_answer("holds no embedding");
  array embeddings;
  embeddings.reserve(data->size());
  for (const value& each : *data) {
    const array* numbers = each.is_object() ? array_in(each.get_object(), "embedding") : nullptr;
    if (numbers == nullptr || numbers->empty()) return bad_answer("holds a broken embedding");
    embeddings.push_back(*numbers);
  }
  Success success;
  add_token_usage(answer, success);
  object output;
  output["embeddings"] = std::move(embeddings);
  return finish(std::move(success), output, request);
}

}  // namespace

Result<WireRequest> make_wire_request(const Request& request, const std::string& model,
                                      TokenLimitField limit_field) {
  const auto input = parse_json(request.input);
  if (!input || !input->is_object())
    return fail(ErrorCode::kInvalidRequest, "the input must be a JSON object", "input");
  if (request.task == "text") return make_chat(request, input->get_object(), model, limit_field);
  if (request.task == "image") return make_image(input->get_object(), model);
  if (request.task == "embedding") return make_embedding(input->get_object(), model);
  return fail(ErrorCode::kConfiguration, fmt::format("an OpenAI server has no task {}", request.task));
}

Outcome read_wire_answer(const Request& request, const net::ClientResponse& response,
                         const std::string& key) {
  if (response.status != 200) return classify_refusal(response, key);
  const auto parsed = parse_json(response.body);
  if (!parsed || !parsed->is_object()) return bad_answer("is no JSON object");
  const object& answer = parsed->get_object();
  // Some compatible servers say 200 and then that it failed.
  if (const object* error = object_in(answer, "error"))
    return failure(FailureClass::kTransient,
                   fmt::format("the upstream failed{}",
                               for_user(std::string{text_in(*error, "message").value_or("")}, key)));
  if (request.task == "text") return read_chat(request, answer);
  if (request.task == "image") return read_image(request, answer);
  return read_embedding(request, answer);
}

bool wants_completion_limit(const net::ClientResponse& response) {
  return response.status == 400 && words_of(response).message.contains("max_completion_tokens");
}

Result<std::string> first_model(const net::ClientResponse& response) {
  const auto parsed = parse_json(response.body);
  const object* answer = parsed ? parsed->if_object() : nullptr;
  const object* first = answer == nullptr ? nullptr : first_in(*answer, "data");
  const auto id = first == nullptr ? std::nullopt : text_in(*first, "id");
  if (!id || id->empty()) return fail(ErrorCode::kUpstreamError, "the upstream lists no model");
  return std::string{*id};
}

}  // namespace turnpike::provider
