// A wire call's body on its way to an upstream: as it came, but for what must be another. Pure.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "provider/provider.h"

namespace turnpike::provider {

// The operation's path below a base URL that ends in "/v1", e.g. "/chat/completions".
std::string_view wire_path(Wire kind);

// Fields of the body that are Turnpike's own: no upstream sees them.
bool is_own_field(std::string_view name);

struct WireChange {
  std::string_view model;         // as the upstream names it
  std::int64_t output_limit = 0;  // tokens of one answer, at most; 0: nothing was held for any
  std::string_view limit_name;    // what the limit is called where the body names none; empty: not sent
};
// The body with the upstream's name of the model, an output limit no larger than `output_limit`, usage asked
// for in streams, and no field of our own. Every other byte is as it came. Errors: kInvalidRequest (the body
// is not what the api lets through).
Result<std::string> change_body(const WireCall& call, const WireChange& change);

// `text` as a JSON text, with its quotes.
std::string json_quoted(std::string_view text);

}  // namespace turnpike::provider
