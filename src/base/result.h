// Result<T>: a value, or an Error that says what happened to a person and to a program.
// Expected failures travel as values; exceptions are for bugs and for start-up.
#pragma once

#include <chrono>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <utility>

namespace turnpike {

// What kind of refusal or failure this is. The names are the `code` words of the public interface (api.md);
// one file, api/error.cpp, turns them into HTTP statuses.
enum class ErrorCode : std::uint8_t {
  kInvalidRequest,
  kInvalidApiKey,
  kNotInPlan,
  kQuotaExceeded,
  kCostCapReached,
  kModelNotAllowed,
  kLimitExceeded,
  kForbidden,
  kNotFound,
  kMethodNotAllowed,
  kConflict,
  kTooLarge,
  kUnprocessable,
  kIdempotencyMismatch,
  kIdempotencyInFlight,
  kRateLimited,
  kQueueFull,
  kConcurrencyLimited,
  kUpstreamError,
  kUpstreamTimeout,
  kUnavailable,
  // Not answers to a client's mistake:
  kStale,  // between node and engine: what was read has changed since, read again; never leaves the node
  kConfiguration,  // the configuration is wrong; message lists every mistake
  kIo,             // disk or socket failed
  kInternal,       // a bug of ours, contained
};

// The word of `code` as api.md spells it, e.g. "queue_full".
const char* error_code_name(ErrorCode code);

// The limit that refused, in fields: of errors kQuotaExceeded, kCostCapReached, kRateLimited and
// kConcurrencyLimited.
struct LimitReached {
  std::string scope;  // "account", "team", "platform"
  std::string meter;  // "tokens", "cost_usd", "requests_per_minute", "concurrent_calls", a content type
  std::string limit;  // decimal numbers, in the meter's named units or USD
  std::string used;
  std::string held;
  std::string wanted;                     // what the request would have held
  std::optional<std::int64_t> resets_at;  // Unix seconds; nothing: it does not reset by itself
};

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;     // for a person: what happened and what to do
  std::string param;       // the field at fault, e.g. "input.text"; empty if none
  bool retryable = false;  // the same request may succeed later
  std::optional<std::chrono::seconds> retry_after = std::nullopt;  // when to come back; >= 1 s where present
  std::string cause = {};  // for the log only: an errno text, an upstream's words
  std::shared_ptr<const LimitReached> limit = nullptr;
};

template <typename T>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(ErrorCode code, std::string message, std::string param = {}) {
  return std::unexpected(Error{.code = code, .message = std::move(message), .param = std::move(param)});
}

// An I/O failure with the text of `error_number` (errno) as its cause.
std::unexpected<Error> fail_errno(std::string what, int error_number);

}  // namespace turnpike
