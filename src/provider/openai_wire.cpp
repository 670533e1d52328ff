#include "provider/openai_wire.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <charconv>

#include "base/json_walk.h"
#include "provider/json_text.h"
#include "provider/measure.h"
#include "provider/openai_stream.h"
#include "provider/spawn.h"

namespace turnpike::provider {
namespace {

using boost::json::array;
using boost::json::object;
using boost::json::value;
using policy::FailureClass;

constexpr std::size_t kUpstreamWordsMax = 300;
constexpr std::size_t kTextsMax = 2048;
constexpr std::int64_t kEdgePixelsMax = 16'384;
constexpr std::chrono::hours kRetryAfterMax{24};

// Fields of a chat that pass as they are: none of them makes a call cost more than its tokens.
constexpr std::array<std::string_view, 8> kChatFields = {
    "temperature",       "top_p",           "stop",    "seed", "presence_penalty",
    "frequency_penalty", "response_format", "messages"};

Failure failure(FailureClass kind, std::string message) {
  return Failure{.failure = kind, .message = std::move(message), .retry_after = {}};
}

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

const object* object_in(const object& parent, std::string_view key) {
  const value* child = parent.if_contains(key);
  return child == nullptr ? nullptr : child->if_object();
}
const array* array_in(const object& parent, std::string_view key) {
  const value* child = parent.if_contains(key);
  return child == nullptr ? nullptr : child->if_array();
}
std::optional<std::string_view> text_in(const object& parent, std::string_view key) {
  const value* child = parent.if_contains(key);
  const auto* text = child == nullptr ? nullptr : child->if_string();
  return text == nullptr ? std::nullopt : std::optional{std::string_view{*text}};
}

// The first element of the list under `key`, if it is an object.
const object* first_in(const object& parent, std::string_view key) {
  const array* list = array_in(parent, key);
  return list == nullptr || list->empty() ? nullptr : list->front().if_object();
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

std::optional<std::string> decode_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0 || text.size() > (1U << 30U)) return std::nullopt;
  std::string bytes(text.size() / 4 * 3, '\0');
  const int count =
      EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                      reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (count < 0) return std::nullopt;
  // OpenSSL counts what the padding stands for, too.
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  bytes.resize(static_cast<std::size_t>(count) - padding);
  return bytes;
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

struct UpstreamWords {
  std::string code;
  std::string message;
};

// {"error":{"message":…,"code":…}} or {"error":"…"}; anything else says nothing.
UpstreamWords words_of(const net::ClientResponse& response) {
  const auto parsed = parse_json(response.body);
  if (!parsed || !parsed->is_object()) return {};
  if (const auto text = text_in(parsed->get_object(), "error")) return {{}, std::string{*text}};
  const object* error = object_in(parsed->get_object(), "error");
  if (error == nullptr) return {};
  return {std::string{text_in(*error, "code").value_or("")},
          std::string{text_in(*error, "message").value_or("")}};
}

std::string for_user(std::string message, const std::string& key) {
  for (std::size_t at = 0; !key.empty() && (at = message.find(key, at)) != std::string::npos;)
    message.replace(at, key.size(), "***");
  message = clean_text(message, kUpstreamWordsMax, false);
  return message.empty() ? message : ": " + message;
}

std::optional<Duration> parse_number_of(std::string_view text, Duration unit) {
  double number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || !(number >= 0)) return std::nullopt;
  const double micros = number * static_cast<double>(unit.count());
  const auto most = static_cast<double>(Duration{kRetryAfterMax}.count());
  return Duration{static_cast<std::int64_t>(std::min(micros, most))};
}

// Seconds, or OpenAI's milliseconds. A date is passed over: it would be read against a clock that may be
// wrong.
std::optional<Duration> retry_after(const net::ClientResponse& response) {
  if (const std::string* header = net::find_header(response.headers, "retry-after-ms"))
    return parse_number_of(*header, std::chrono::milliseconds(1));
  if (const std::string* header = net::find_header(response.headers, "retry-after"))
    return parse_number_of(*header, std::chrono::seconds(1));
  return std::nullopt;
}

FailureClass class_of(int status, const std::string& code) {
  if (status == 429)
    return code == "insufficient_quota" ? FailureClass::kMisconfigured : FailureClass::kRateLimited;
  if (status == 401 || status == 402 || status == 403 || status == 404 || status == 405)
    return FailureClass::kMisconfigured;
  if (status == 408 || status == 409 || status == 425) return FailureClass::kTransient;
  if (status == 504) return FailureClass::kTimeout;
  if (status >= 400 && status < 500) return FailureClass::kInvalidInput;
  if (status >= 500 && status < 600) return FailureClass::kTransient;
  if (status >= 300 && status < 400) return FailureClass::kMisconfigured;
  return FailureClass::kBadOutput;
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

namespace {

constexpr std::size_t kRefusalBytesMax = 16 * 1024;  // of an upstream's words that are passed on

// Pictures in a reply to a picture's request, and what else it says of them.
struct ReplyLook : JsonVisitor {
  std::string_view usage, error, size, duration;
  std::int64_t pictures = 0;
  void member(const JsonMember& member) {
    if (member.name == "usage") usage = member.value;
    if (member.name == "error") error = member.value;
    if (member.name == "size") size = member.plain_text().value_or(std::string_view());
    if (member.name == "duration") duration = member.value;
  }
  void enter(int depth, std::string_view key, bool object) {
    if (depth == 3 && object && key == "data") ++pictures;
  }
};

// "1024x1536" -> pixels; 0: it is no size.
std::int64_t pixels_of(std::string_view size) {
  const std::size_t cross = size.find('x');
  if (cross == std::string_view::npos) return 0;
  std::int64_t width = 0;
  std::int64_t height = 0;
  const char* const end = size.data() + size.size();
  const auto first = std::from_chars(size.data(), size.data() + cross, width);
  const auto second = std::from_chars(size.data() + cross + 1, end, height);
  const bool good = first.ec == std::errc{} && first.ptr == size.data() + cross && second.ec == std::errc{} &&
                    second.ptr == end && width > 0 && height > 0 && width <= kEdgePixelsMax &&
                    height <= kEdgePixelsMax;
  return good ? width * height : 0;
}

bool is_json(const std::string& content_type) {
  return content_type.find("json") != std::string::npos;
}

}  // namespace

Outcome read_reply(const WireCall& call, net::ClientResponse response, const std::string& key) {
  const std::string* type = net::find_header(response.headers, "content-type");
  Success success;
  success.content_type = type != nullptr ? *type : "application/json";
  const bool opaque = call.kind == Wire::kSpeech || call.kind == Wire::kTranscriptions;
  if (opaque && !is_json(success.content_type)) {
    if (response.body.empty()) return bad_answer("is empty");
    success.output = std::move(response.body);
    return success;
  }
  ReplyLook look;
  if (!response.body.starts_with('{') || walk_json(response.body, look))
    return bad_answer("is no JSON object");
  // Some compatible servers say 200 and then that it failed.
  if (look.error.starts_with('{') || look.error.starts_with('"')) {
    const auto members = json_members(look.error);
    const JsonMember* message = members ? find_member(*members, "message") : nullptr;
    return failure(
        FailureClass::kTransient,
        "the upstream failed" + for_user(std::string(message != nullptr ? message->value : look.error), key));
  }
  if (!look.usage.empty()) success.usage = read_usage(look.usage);
  if (call.kind == Wire::kImages || call.kind == Wire::kImageEdits) {
    if (look.pictures == 0) return bad_answer("holds no picture");
    success.usage.emplace_back("images", look.pictures);
    const std::int64_t pixels = look.size.empty() ? call.pixels : pixels_of(look.size);
    if (pixels > 0) success.usage.emplace_back("pixels", pixels * look.pictures);
  }
  const bool timed =
      std::ranges::any_of(success.usage, [](const auto& told) { return told.first == "audio_ms"; });
  if (call.kind == Wire::kTranscriptions && !timed && !look.duration.empty()) {
    // {"duration":"8.47"} and {"duration":8.47} have both been seen.
    std::string_view seconds = look.duration;
    if (seconds.starts_with('"')) seconds = seconds.substr(1, seconds.size() - 2);
    for (const auto& told : read_usage(fmt::format("{{\"seconds\":{}}}", seconds)))
      success.usage.push_back(told);
  }
  success.output = std::move(response.body);
  return success;
}

void keep_words(const net::ClientResponse& response, const std::string& key, Failure& failure) {
  if (failure.failure != FailureClass::kInvalidInput || response.body.size() > kRefusalBytesMax) return;
  const auto members = json_members(response.body);
  const JsonMember* error = members ? find_member(*members, "error") : nullptr;
  if (error == nullptr || !error->is_object()) return;
  if (!key.empty() && response.body.find(key) != std::string::npos) return;
  failure.reply_status = response.status;
  failure.reply = response.body;
}

Failure classify_refusal(const net::ClientResponse& response, const std::string& key) {
  const UpstreamWords words = words_of(response);
  // Upstreams repeat parts of a refused key: their words are not passed on.
  const bool about_key = response.status == 401 || response.status == 403;
  Failure refused = failure(
      class_of(response.status, words.code),
      about_key ? fmt::format("the upstream refused our credentials ({})", response.status)
                : fmt::format("the upstream answered {}{}", response.status, for_user(words.message, key)));
  refused.retry_after = retry_after(response);
  return refused;
}

Failure classify_no_answer(const Error& error) {
  if (error.code == ErrorCode::kUpstreamTimeout)
    return failure(FailureClass::kTimeout, "the upstream did not answer in time");
  if (error.code == ErrorCode::kUpstreamError && !error.retryable)
    return failure(FailureClass::kBadOutput, "the upstream's answer is too large");
  if (error.code == ErrorCode::kConfiguration || error.code == ErrorCode::kInvalidRequest)
    return failure(FailureClass::kMisconfigured, "the upstream's address cannot be used");
  return failure(FailureClass::kTransient, "the upstream could not be reached, or broke off");
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
