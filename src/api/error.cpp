#include "api/error.h"

#include <algorithm>
#include <utility>

#include "api/json.h"

namespace turnpike::api {
namespace {

constexpr int kRetryAfterDefault = 1;  // seconds, where nobody knows better

struct Answer {
  int status;
  std::string_view type;
};

// api.md, "Ids, lists, errors".
Answer answer_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidRequest:
      return {400, "invalid_request_error"};
    case ErrorCode::kInvalidApiKey:
      return {401, "authentication_error"};
    case ErrorCode::kNotInPlan:
    case ErrorCode::kQuotaExceeded:
    case ErrorCode::kCostCapReached:
    case ErrorCode::kModelNotAllowed:
    case ErrorCode::kLimitExceeded:
      return {403, "plan_error"};
    case ErrorCode::kForbidden:
      return {403, "permission_error"};
    case ErrorCode::kNotFound:
      return {404, "not_found_error"};
    case ErrorCode::kMethodNotAllowed:
      return {405, "invalid_request_error"};
    case ErrorCode::kConflict:
    case ErrorCode::kIdempotencyInFlight:
      return {409, "conflict_error"};
    case ErrorCode::kTooLarge:
      return {413, "invalid_request_error"};
    case ErrorCode::kUnprocessable:
    case ErrorCode::kIdempotencyMismatch:
    case ErrorCode::kConfiguration:
      return {422, "invalid_request_error"};
    case ErrorCode::kRateLimited:
    case ErrorCode::kQueueFull:
    case ErrorCode::kConcurrencyLimited:
      return {429, "rate_limit_error"};
    case ErrorCode::kUpstreamError:
      return {502, "upstream_error"};
    case ErrorCode::kUpstreamTimeout:
      return {504, "upstream_error"};
    case ErrorCode::kUnavailable:
    case ErrorCode::kStale:
      return {503, "server_error"};
    case ErrorCode::kIo:
    case ErrorCode::kInternal:
      return {500, "server_error"};
  }
  return {500, "server_error"};
}

// What leaves the server: inner codes are told as the ones that api.md knows.
std::string_view public_code(ErrorCode code) {
  if (code == ErrorCode::kConfiguration) return error_code_name(ErrorCode::kUnprocessable);
  if (code == ErrorCode::kStale) return error_code_name(ErrorCode::kUnavailable);
  if (code == ErrorCode::kIo) return error_code_name(ErrorCode::kInternal);
  return error_code_name(code);
}

// The period's share is used, or a limit that no waiting changes.
bool is_used_up(ErrorCode code) {
  return code == ErrorCode::kQuotaExceeded || code == ErrorCode::kCostCapReached ||
         code == ErrorCode::kLimitExceeded;
}

bool is_plan_refusal(ErrorCode code) {
  return code == ErrorCode::kNotInPlan || code == ErrorCode::kModelNotAllowed || is_used_up(code);
}

struct OpenAiWords {
  int status;
  std::string_view type;
  std::string_view code;  // empty: null
};

// How the OpenAI wire calls the same refusal (platform.openai.com, "Error codes", 2026).
OpenAiWords openai_words(ErrorCode code) {
  if (code == ErrorCode::kInvalidApiKey) return {401, "invalid_request_error", "invalid_api_key"};
  if (code == ErrorCode::kNotInPlan || code == ErrorCode::kModelNotAllowed) {
    return {404, "invalid_request_error", "model_not_found"};
  }
  if (is_used_up(code)) return {429, "insufficient_quota", "insufficient_quota"};
  const Answer own = answer_of(code);
  if (own.status == 429) return {429, "rate_limit_error", "rate_limit_exceeded"};
  return {own.status, own.status >= 500 ? "server_error" : "invalid_request_error", public_code(code)};
}

void append_param(Buffer& out, const Error& error) {
  append(out, ",\"param\":");
  append_quoted_or_null(out, error.param);
}

// A number as it is; USD as a text.
void append_figure(Buffer& out, std::string_view name, const std::string& figure, bool money) {
  fmt::format_to(fmt::appender(out), ",\"{}\":", name);
  if (money) {
    append_quoted(out, figure);
  } else {
    append(out, figure);
  }
}

// Which limit it was, and how much of it is used and held.
void append_limit(Buffer& out, const Error& error) {
  if (error.limit == nullptr) return;
  const LimitReached& limit = *error.limit;
  const bool money = limit.meter == "cost_usd";
  append(out, ",\"scope\":");
  append_quoted(out, limit.scope);
  append(out, ",\"meter\":");
  append_quoted(out, limit.meter);
  append_figure(out, "limit", limit.limit, money);
  append_figure(out, "used", limit.used, money);
  append_figure(out, "held", limit.held, money);
  append_figure(out, "wanted", limit.wanted, money);
  fmt::format_to(fmt::appender(out), ",\"resets_at\":{}",
                 limit.resets_at ? fmt::to_string(*limit.resets_at) : "null");
}

std::string own_body(const Error& error, std::string_view fields) {
  Buffer out;
  const std::string_view code = public_code(error.code);
  append(out, "{\"error\":{\"type\":");
  append_quoted(out, answer_of(error.code).type);
  append(out, ",\"code\":");
  append_quoted(out, code);
  append(out, ",\"message\":");
  append_quoted(out, error.message);
  append_param(out, error);
  fmt::format_to(fmt::appender(out), ",\"doc_url\":\"/docs#error-{}\"", code);
  append_limit(out, error);
  append(out, fields);
  append(out, "}}");
  return to_text(out);
}

std::string openai_body(const Error& error, const OpenAiWords& words, const ErrorExtras& extras) {
  Buffer out;
  append(out, "{\"error\":{\"message\":");
  append_quoted(out, error.message);
  append(out, ",\"type\":");
  append_quoted(out, words.type);
  append_param(out, error);
  append(out, ",\"code\":");
  append_quoted_or_null(out, words.code);
  append(out, ",\"turnpike\":{\"code\":");
  append_quoted(out, public_code(error.code));
  append_limit(out, error);
  append(out, extras.fields);
  append(out, "}}}");
  return to_text(out);
}

}  // namespace

int status_of(ErrorCode code) {
  return answer_of(code).status;
}

net::Response error_response(const Error& error, Wire wire, const ErrorExtras& extras) {
  net::Response response;
  if (wire == Wire::kOpenAi) {
    const OpenAiWords words = openai_words(error.code);
    response.status = words.status;
    response.body = openai_body(error, words, extras);
  } else {
    response.status = status_of(error.code);
    response.body = own_body(error, extras.fields);
  }
  response.headers = extras.headers;
  if (response.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer realm=\"turnpike\"");
  if (is_plan_refusal(error.code)) {
    response.headers.emplace_back("x-should-retry", "false");
  } else if (response.status == 429 || response.status == 503 || error.retry_after) {
    const auto seconds = error.retry_after ? error.retry_after->count() : kRetryAfterDefault;
    response.headers.emplace_back("Retry-After",
                                  fmt::to_string(std::max<std::int64_t>(kRetryAfterDefault, seconds)));
  }
  return response;
}

std::string error_text(const Error& error, std::string_view fields) {
  return own_body(error, fields);
}

net::Response transport_error(int status, std::string_view message) {
  Error error = fail(ErrorCode::kInvalidRequest, std::string(message)).error();
  if (status == 413) error.code = ErrorCode::kTooLarge;
  if (status == 503) error.code = ErrorCode::kUnavailable;
  if (status == 500) error.code = ErrorCode::kInternal;
  net::Response response = error_response(error, Wire::kOwn);
  response.status = status;
  return response;
}

}  // namespace turnpike::api
