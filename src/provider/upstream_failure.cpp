#include "provider/upstream_failure.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

#include "provider/json_text.h"

namespace turnpike::provider {
namespace {

using boost::json::object;
using boost::json::value;
using policy::FailureClass;

constexpr std::size_t kUpstreamWordsMax = 300;
constexpr std::chrono::hours kRetryAfterMax{24};

std::string text_or_empty(const object& parent, std::string_view key) {
  return std::string{text_in(parent, key).value_or("")};
}

// FastAPI's way, which ElevenLabs and fal have too.
UpstreamWords words_of_detail(const value& detail) {
  if (const auto* text = detail.if_string()) return {{}, std::string{*text}};
  if (const auto* fields = detail.if_object())
    return {text_or_empty(*fields, "status"), text_or_empty(*fields, "message")};
  const auto* list = detail.if_array();
  const auto* first = list == nullptr || list->empty() ? nullptr : list->front().if_object();
  if (first == nullptr) return {};
  return {text_or_empty(*first, "type"), text_or_empty(*first, "msg")};
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

// Money that is missing upstream comes back when the operator pays, not when we try again: OpenAI says 429
// insufficient_quota, Anthropic 400 "Your credit balance is too low".
bool is_unpaid(int status, const UpstreamWords& words) {
  if (status == 429) return words.code == "insufficient_quota";
  return status == 400 && words.message.contains("credit balance is too low");
}

FailureClass class_of(int status) {
  if (status == 429) return FailureClass::kRateLimited;
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

Failure failure(FailureClass kind, std::string message) {
  return Failure{.failure = kind, .message = std::move(message), .retry_after = {}};
}

UpstreamWords words_of(const net::ClientResponse& response) {
  const auto parsed = parse_json(response.body);
  const object* answer = parsed ? parsed->if_object() : nullptr;
  if (answer == nullptr) return {};
  if (const auto text = text_in(*answer, "error")) return {{}, std::string{*text}};
  if (const object* error = object_in(*answer, "error")) {
    std::string code = text_or_empty(*error, "code");
    if (code.empty()) code = text_or_empty(*error, "type");
    return {std::move(code), text_or_empty(*error, "message")};
  }
  if (const value* detail = answer->if_contains("detail")) return words_of_detail(*detail);
  return {{}, text_or_empty(*answer, "message")};
}

std::string for_user(std::string message, const std::string& key) {
  for (std::size_t at = 0; !key.empty() && (at = message.find(key, at)) != std::string::npos;)
    message.replace(at, key.size(), "***");
  message = clean_text(message, kUpstreamWordsMax, false);
  return message.empty() ? message : ": " + message;
}

Failure classify_refusal(const net::ClientResponse& response, const std::string& key,
                         const StatusClasses& statuses) {
  const UpstreamWords words = words_of(response);
  // Upstreams repeat parts of a refused key: their words are not passed on.
  const bool about_key = response.status == 401 || response.status == 403;
  const auto own = statuses.find(response.status);
  const FailureClass kind = own != statuses.end()               ? own->second
                            : is_unpaid(response.status, words) ? FailureClass::kMisconfigured
                                                                : class_of(response.status);
  Failure refusal = failure(
      kind, about_key
                ? fmt::format("the upstream refused our credentials ({})", response.status)
                : fmt::format("the upstream answered {}{}", response.status, for_user(words.message, key)));
  refusal.retry_after = retry_after(response);
  refusal.key_refused =
      kind == FailureClass::kMisconfigured && (about_key || is_unpaid(response.status, words));
  return refusal;
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

Failure refused(const Error& error) {
  const bool input = error.code == ErrorCode::kInvalidRequest;
  return failure(input ? FailureClass::kInvalidInput : FailureClass::kMisconfigured, error.message);
}

}  // namespace turnpike::provider
