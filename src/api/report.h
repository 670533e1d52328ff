// What the interface writes to the log. Never a key, a prompt or a body.
#pragma once

#include <string_view>

#include "api/context.h"

namespace turnpike::api {

void report_bug(const Context& context, std::string_view what);
void report_failure(const Context& context, const Error& error);  // of a 5xx answer, with its cause

}  // namespace turnpike::api
