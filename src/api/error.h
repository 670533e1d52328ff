// The one place where an Error becomes an HTTP answer: status, headers and JSON, in our own clothes or (under
// /v1) in OpenAI's.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "net/http.h"

namespace turnpike::api {

enum class Wire : std::uint8_t { kOwn, kOpenAi };

struct ErrorExtras {
  std::string fields;  // further members of the error object: JSON, each begins with a comma; or empty
  net::Headers headers;
};

int status_of(ErrorCode code);  // as api.md's table has it

// Never shows Error::cause. Where the code demands it, bears Retry-After (at least 1), WWW-Authenticate or
// x-should-retry.
net::Response error_response(const Error& error, Wire wire, const ErrorExtras& extras = {});

// The same error object where there is no HTTP answer to put it in: a message over a socket. `fields` as
// ErrorExtras has them.
std::string error_text(const Error& error, std::string_view fields = {});

// For what net refuses by itself, before there is a request to speak of.
net::Response transport_error(int status, std::string_view message);

}  // namespace turnpike::api
