// Refusals: the answer says which plan would do and where the whole story is, and the node keeps that story
// for GET /api/requests/{id}/why.
#pragma once

#include <string>
#include <string_view>

#include "api/context.h"

namespace turnpike::api {

// What was asked for, as far as it is known; empty: it is not, or nothing of the kind was asked for.
struct Asked {
  std::string_view task;
  std::string_view model;
};

// The error as an answer. One that is a refusal (by the plan, a limit, or a server that is too busy) of a
// request whose account is known is kept, and the answer bears `why_url`.
net::Response refuse(const Context& context, const Error& error, Asked asked = {});

// Keeps it where it is such a refusal; the members for the answer's error object: JSON, each begins with a
// comma; or empty. For who answers with another error than the one that refused.
std::string note_refusal(const Context& context, const Error& error, Asked asked);

}  // namespace turnpike::api
