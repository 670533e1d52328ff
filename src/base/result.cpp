#include "base/result.h"

#include <fmt/format.h>

#include <system_error>

namespace turnpike {

const char* error_code_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidRequest:
      return "invalid_request";
    case ErrorCode::kInvalidApiKey:
      return "invalid_api_key";
    case ErrorCode::kNotInPlan:
      return "not_in_plan";
    case ErrorCode::kQuotaExceeded:
      return "quota_exceeded";
    case ErrorCode::kCostCapReached:
      return "cost_cap_reached";
    case ErrorCode::kModelNotAllowed:
      return "model_not_allowed";
    case ErrorCode::kLimitExceeded:
      return "limit_exceeded";
    case ErrorCode::kForbidden:
      return "forbidden";
    case ErrorCode::kNotFound:
      return "not_found";
    case ErrorCode::kMethodNotAllowed:
      return "method_not_allowed";
    case ErrorCode::kConflict:
      return "conflict";
    case ErrorCode::kTooLarge:
      return "too_large";
    case ErrorCode::kUnprocessable:
      return "unprocessable";
    case ErrorCode::kIdempotencyMismatch:
      return "idempotency_mismatch";
    case ErrorCode::kIdempotencyInFlight:
      return "idempotency_in_flight";
    case ErrorCode::kRateLimited:
      return "rate_limited";
    case ErrorCode::kQueueFull:
      return "queue_full";
    case ErrorCode::kConcurrencyLimited:
      return "concurrency_limited";
    case ErrorCode::kUpstreamError:
      return "upstream_error";
    case ErrorCode::kUpstreamTimeout:
      return "upstream_timeout";
    case ErrorCode::kUnavailable:
      return "unavailable";
    case ErrorCode::kStale:
      return "stale";
    case ErrorCode::kConfiguration:
      return "configuration";
    case ErrorCode::kIo:
      return "io";
    case ErrorCode::kInternal:
      return "internal";
  }
  return "internal";
}

std::unexpected<Error> fail_errno(std::string what, int error_number) {
  const std::string reason = std::generic_category().message(error_number);
  return std::unexpected(Error{
      .code = ErrorCode::kIo, .message = fmt::format("{}: {}", what, reason), .param = {}, .cause = reason});
}

}  // namespace turnpike
