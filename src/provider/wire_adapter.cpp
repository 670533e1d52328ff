#include "provider/wire_adapter.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/value.hpp>
#include <chrono>
#include <fstream>
#include <string_view>
#include <utility>

#include "base/time.h"
#include "provider/json_text.h"
#include "provider/wire_body.h"

namespace turnpike::provider {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;
using policy::FailureClass;

constexpr std::int64_t kTokensMax = 1'000'000;
constexpr std::size_t kFileBytesMax = 32ULL << 20U;  // of sound or a picture that is read back

// Fields that pass as they are, and fields that mean nothing to a task's provider.
constexpr std::array<std::string_view, 8> kPassed = {
    "temperature",       "top_p",           "stop",    "seed", "presence_penalty",
    "frequency_penalty", "response_format", "messages"};
constexpr std::array<std::string_view, 9> kPassedOver = {
    "model",          "stream", "stream_options",    "store",
    "metadata",       "user",   "safety_identifier", "prompt_cache_key",
    "encoding_format"};

template <std::size_t N>
bool among(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

Failure refusal(std::string param, std::string message) {
  return Failure{.failure = FailureClass::kInvalidInput,
                 .message = std::move(message),
                 .retry_after = {},
                 .param = std::move(param)};
}

Failure wrong(std::string_view field, std::string_view right) {
  return refusal(std::string(field), fmt::format("`{}` {}", field, right));
}

Failure not_here(std::string_view field) {
  return wrong(field, "is not taken here: the model's provider cannot do it");
}

std::optional<Failure> check_content(const json::value& content, const std::string& path) {
  if (content.is_string()) return std::nullopt;
  const auto* parts = content.if_array();
  const bool good =
      parts != nullptr && !parts->empty() && std::ranges::all_of(*parts, [](const json::value& part) {
        const auto* object = part.if_object();
        const auto* type = object != nullptr ? object->if_contains("type") : nullptr;
        const auto* text = object != nullptr ? object->if_contains("text") : nullptr;
        return type != nullptr && type->is_string() && type->get_string() == "text" && text != nullptr &&
               text->is_string();
      });
  if (good) return std::nullopt;
  return wrong(path,
               "must be a text, or a list of parts of type `text`: the model's provider reads no others");
}

std::optional<Failure> check_messages(const json::value& value) {
  const auto* messages = value.if_array();
  if (messages == nullptr || messages->empty()) return wrong("messages", "must be a list of messages");
  for (std::size_t i = 0; i < messages->size(); ++i) {
    const std::string own = fmt::format("messages.{}", i);
    const auto* message = (*messages)[i].if_object();
    const auto* role = message != nullptr ? message->if_contains("role") : nullptr;
    if (role == nullptr || !role->is_string()) return wrong(own + ".role", "is missing");
    const std::string_view word = role->get_string();
    if (word != "system" && word != "developer" && word != "user" && word != "assistant")
      return wrong(own + ".role", "must be one of system, developer, user, assistant");
    const auto* content = message->if_contains("content");
    if (content == nullptr) return wrong(own + ".content", "is missing");
    if (auto bad = check_content(*content, own + ".content")) return bad;
  }
  return std::nullopt;
}

std::optional<Failure> check_number(const json::object& body, std::string_view name, double low,
                                    double high) {
  const auto* value = body.if_contains(name);
  if (value == nullptr || value->is_null()) return std::nullopt;
  const bool good =
      value->is_number() && value->to_number<double>() >= low && value->to_number<double>() <= high;
  if (good) return std::nullopt;
  return wrong(name, fmt::format("must be a number from {} to {}", low, high));
}

std::expected<std::string, Failure> text_input(const json::object& body) {
  json::object input;
  for (const auto& field : body) {
    const std::string_view name = field.key();
    if (field.value().is_null() || among(kPassedOver, name) || is_own_field(name)) continue;
    if (among(kPassed, name)) {
      input[name] = field.value();
    } else if (name == "max_tokens" || name == "max_completion_tokens") {
      const auto limit = count_of(body, name);
      if (limit < 1 || limit > kTokensMax)
        return std::unexpected(wrong(name, fmt::format("must be a whole number from 1 to {}", kTokensMax)));
      if (name == "max_completion_tokens" || !body.contains("max_completion_tokens"))
        input["max_tokens"] = limit;
    } else if (name == "n") {
      if (count_of(body, "n") != 1)
        return std::unexpected(wrong("n", "must be 1: the model's provider gives one"));
    } else {
      return std::unexpected(not_here(name));
    }
  }
  const auto* messages = input.if_contains("messages");
  if (messages == nullptr) return std::unexpected(wrong("messages", "is missing"));
  if (auto bad = check_messages(*messages)) return std::unexpected(std::move(*bad));
  for (const auto& [name, low, high] : {std::tuple{"temperature", 0.0, 2.0},
                                        {"top_p", 0.0, 1.0},
                                        {"presence_penalty", -2.0, 2.0},
                                        {"frequency_penalty", -2.0, 2.0}}) {
    if (auto bad = check_number(body, name, low, high)) return std::unexpected(std::move(*bad));
  }
  return json::serialize(input);
}

std::expected<std::string, Failure> embedding_input(const json::object& body) {
  json::object input;
  for (const auto& field : body) {
    const std::string_view name = field.key();
    if (field.value().is_null() || among(kPassedOver, name) || is_own_field(name)) continue;
    if (name != "input") return std::unexpected(not_here(name));
    const auto* list = field.value().if_array();
    const bool texts = list != nullptr && !list->empty() &&
                       std::ranges::all_of(*list, [](const json::value& each) { return each.is_string(); });
    if (texts) {
      input["texts"] = *list;
    } else if (field.value().is_string()) {
      input["texts"] = json::array{field.value()};
    } else {
      return std::unexpected(wrong("input", "must be a text or a list of texts"));
    }
  }
  if (!input.contains("texts")) return std::unexpected(wrong("input", "is missing"));
  if (const auto* format = body.if_contains("encoding_format");
      format != nullptr && format->is_string() && format->get_string() != "float")
    return std::unexpected(wrong("encoding_format", "must be `float`: the model's provider gives no other"));
  return json::serialize(input);
}

std::expected<std::string, Failure> speech_input(const json::object& body) {
  json::object input;
  for (const auto& field : body) {
    const std::string_view name = field.key();
    if (field.value().is_null() || among(kPassedOver, name) || is_own_field(name)) continue;
    if (name == "input") {
      input["text"] = field.value();
    } else if (name == "response_format") {
      input["format"] = field.value();
    } else if (name == "voice") {
      input["voice"] = field.value();
    } else {
      return std::unexpected(not_here(name));
    }
  }
  const auto* text = input.if_contains("text");
  if (text == nullptr || !text->is_string()) return std::unexpected(wrong("input", "must be a text"));
  return json::serialize(input);
}

// "1024x768", and the task's input has two numbers.
bool put_size(std::string_view size, json::object& input) {
  const std::size_t cross = size.find('x');
  if (cross == std::string_view::npos) return false;
  std::array<std::int64_t, 2> edges{};
  const std::array<std::string_view, 2> texts = {size.substr(0, cross), size.substr(cross + 1)};
  for (std::size_t i = 0; i < edges.size(); ++i) {
    const auto parsed = parse_json(texts.at(i));
    if (!parsed || !parsed->is_int64() || parsed->get_int64() < 1) return false;
    edges.at(i) = parsed->get_int64();
  }
  input["width"] = edges[0];
  input["height"] = edges[1];
  return true;
}

std::expected<std::string, Failure> image_input(const json::object& body) {
  json::object input;
  for (const auto& field : body) {
    const std::string_view name = field.key();
    if (field.value().is_null() || among(kPassedOver, name) || is_own_field(name)) continue;
    if (name == "prompt") {
      input["prompt"] = field.value();
    } else if (name == "output_format") {
      input["format"] = field.value();
    } else if (name == "size") {
      const auto* size = field.value().if_string();
      if (size == nullptr || (*size != "auto" && !put_size(std::string_view{*size}, input)))
        return std::unexpected(wrong("size", "must be a text such as 1024x1024"));
    } else if (name == "n") {
      if (count_of(body, "n") != 1)
        return std::unexpected(wrong("n", "must be 1: the model's provider gives one"));
    } else if (name == "response_format") {
      if (field.value() != "b64_json")
        return std::unexpected(
            wrong("response_format", "must be `b64_json`: the model's provider has no other"));
    } else {
      return std::unexpected(not_here(name));
    }
  }
  const auto* prompt = input.if_contains("prompt");
  if (prompt == nullptr || !prompt->is_string()) return std::unexpected(wrong("prompt", "must be a text"));
  return json::serialize(input);
}

Failure bad_answer(std::string message) {
  return Failure{.failure = FailureClass::kBadOutput, .message = std::move(message), .retry_after = {}};
}

std::string_view text_member(const json::object& object, std::string_view name) {
  const auto* value = object.if_contains(name);
  const auto* text = value != nullptr ? value->if_string() : nullptr;
  return text != nullptr ? std::string_view(text->data(), text->size()) : std::string_view();
}

std::int64_t told(const Success& success, std::string_view meter) {
  for (const auto& [name, amount] : success.usage) {
    if (name == meter) return amount;
  }
  return 0;
}

std::string usage_json(const Success& success) {
  const auto in = told(success, "tokens_in");
  const auto made = told(success, "tokens_out");
  return fmt::format(
      R"({{"prompt_tokens":{},"completion_tokens":{},"total_tokens":{},"prompt_tokens_details":{{"cached_tokens":{}}}}})",
      in, made, in + made, told(success, "tokens_cached"));
}

std::string chat_head(const Request& request, std::string_view object, std::int64_t created) {
  return fmt::format(R"({{"id":"chatcmpl-{}","object":"{}","created":{},"model":{})",
                     to_string(request.job).substr(std::string_view(JobTag::kPrefix).size()), object, created,
                     json_quoted(request.wire->model));
}

std::string chat_events(const Request& request, std::string_view text, std::string_view reason,
                        std::int64_t created) {
  const std::string head = chat_head(request, "chat.completion.chunk", created);
  return fmt::format(
      "data: "
      "{0},\"choices\":[{{\"index\":0,\"delta\":{{\"role\":\"assistant\",\"content\":{1}}},\"logprobs\":null,"
      "\"finish_reason\":null}}]}}\n\n"
      "data: {0},\"choices\":[{{\"index\":0,\"delta\":{{}},\"logprobs\":null,\"finish_reason\":{2}}}]}}\n\n",
      head, json_quoted(text), json_quoted(reason));
}

std::string chat_reply(const Request& request, const Success& success, std::string_view text,
                       std::string_view reason, bool sandbox, std::int64_t created) {
  return fmt::format(
      R"({},"choices":[{{"index":0,"message":{{"role":"assistant","content":{},"refusal":null,"annotations":[]}},)"
      R"("logprobs":null,"finish_reason":{}}}],"usage":{},"service_tier":null,"system_fingerprint":null,)"
      R"("turnpike":{{"sandbox":{}}}}})",
      chat_head(request, "chat.completion", created), json_quoted(text), json_quoted(reason),
      usage_json(success), sandbox);
}

Outcome embedding_reply(const Request& request, Success success, const json::object& output) {
  const auto* made = output.if_contains("embeddings");
  const auto* embeddings = made != nullptr ? made->if_array() : nullptr;
  if (embeddings == nullptr) return bad_answer("the provider's answer holds no embedding");
  std::string data;
  for (std::size_t i = 0; i < embeddings->size(); ++i) {
    data += fmt::format(R"({}{{"object":"embedding","index":{},"embedding":{}}})", i == 0 ? "" : ",", i,
                        json::serialize((*embeddings)[i]));
  }
  const auto in = told(success, "tokens_in");
  success.output = fmt::format(
      R"({{"object":"list","data":[{}],"model":{},"usage":{{"prompt_tokens":{},"total_tokens":{}}}}})", data,
      json_quoted(request.wire->model), in, in);
  return success;
}

std::optional<std::string> read_whole(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (!file || error || size > kFileBytesMax) return std::nullopt;
  std::string bytes(size, '\0');
  if (!file.read(bytes.data(), static_cast<std::streamsize>(size))) return std::nullopt;
  return bytes;
}

std::string base64(std::string_view bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int length =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(length));
  return text;
}

// What a task leaves in a file is the reply itself.
Outcome file_reply(const Request& request, Success success, std::int64_t created) {
  const auto bytes = success.files.empty() ? std::nullopt : read_whole(success.files.front().path);
  if (!bytes) return bad_answer("the provider made no file that can be sent");
  if (request.wire->kind == Wire::kSpeech) {
    success.content_type = success.files.front().mime;
    success.output = *bytes;
  } else {
    success.output = fmt::format(R"({{"created":{},"data":[{{"b64_json":"{}"}}]}})", created, base64(*bytes));
  }
  success.files.clear();
  return success;
}

class WireAdapter final : public Provider {
 public:
  explicit WireAdapter(std::unique_ptr<Provider> inner) : inner_(std::move(inner)) {}

  asio::awaitable<Outcome> run(Request request, Progress progress) override {
    if (!request.wire) co_return co_await inner_->run(std::move(request), std::move(progress));
    auto input = task_input(*request.wire);
    if (!input) co_return std::move(input.error());
    Request asked = request;
    asked.input = std::move(*input);
    asked.wire.reset();
    asked.sink.reset();
    Outcome outcome = co_await inner_->run(std::move(asked), std::move(progress));
    auto* success = std::get_if<Success>(&outcome);
    if (success == nullptr) co_return outcome;
    const std::int64_t created = unix_seconds(SystemClock().now().wall);
    Outcome replied = wire_reply(request, std::move(*success), created);
    auto* reply = std::get_if<Success>(&replied);
    if (reply == nullptr || !request.wire->stream) co_return replied;
    request.sink->head(200, reply->content_type);
    // Whether the client still reads changes nothing here: all is made.
    (void)co_await request.sink->write(std::exchange(reply->output, std::string()));
    co_return replied;
  }

  asio::awaitable<Result<void>> probe(Duration timeout) override { return inner_->probe(timeout); }

 private:
  const std::unique_ptr<Provider> inner_;
};

}  // namespace

std::expected<std::string, Failure> task_input(const WireCall& call) {
  const auto parsed = call.content_type.starts_with("multipart/") ? Result<json::value>(json::value())
                                                                  : parse_json(call.body);
  const json::object* body = parsed ? parsed->if_object() : nullptr;
  switch (call.kind) {
    case Wire::kChat:
      if (body != nullptr) return text_input(*body);
      break;
    case Wire::kEmbeddings:
      if (body != nullptr) return embedding_input(*body);
      break;
    case Wire::kSpeech:
      if (call.stream) return std::unexpected(not_here("stream_format"));
      if (body != nullptr) return speech_input(*body);
      break;
    case Wire::kImages:
      if (call.stream) return std::unexpected(not_here("stream"));
      if (body != nullptr) return image_input(*body);
      break;
    case Wire::kNone:
    case Wire::kCompletions:
    case Wire::kResponses:
    case Wire::kImageEdits:
    case Wire::kTranscriptions:
      return std::unexpected(
          refusal("model", fmt::format("the model's provider does not serve {}", wire_path(call.kind))));
  }
  return std::unexpected(refusal("body", "the body must be a JSON object"));
}

Outcome wire_reply(const Request& request, Success success, std::int64_t created) {
  if (request.wire->kind == Wire::kSpeech || request.wire->kind == Wire::kImages)
    return file_reply(request, std::move(success), created);
  const auto parsed = parse_json(success.output);
  const json::object* output = parsed ? parsed->if_object() : nullptr;
  if (output == nullptr) return bad_answer("the provider's answer is no JSON object");
  if (output->contains("artifact") && !success.files.empty())
    return bad_answer("the provider's answer is too long to be sent in one reply");
  success.content_type = "application/json";
  if (request.wire->kind == Wire::kEmbeddings) return embedding_reply(request, std::move(success), *output);
  const std::string text(text_member(*output, "text"));
  std::string reason(text_member(*output, "finish_reason"));
  if (reason.empty()) reason = "stop";
  if (request.wire->stream) {
    success.content_type = "text/event-stream";
    success.output = chat_events(request, text, reason, created);
    success.stream_end =
        fmt::format(R"({},"choices":[],"usage":{}}})", chat_head(request, "chat.completion.chunk", created),
                    usage_json(success));
  } else {
    const bool sandbox = output->contains("sandbox");
    success.output = chat_reply(request, success, text, reason, sandbox, created);
  }
  return success;
}

std::unique_ptr<Provider> with_wire(std::unique_ptr<Provider> inner) {
  return std::make_unique<WireAdapter>(std::move(inner));
}

}  // namespace turnpike::provider
