// OpenAI's wire over a provider that knows tasks only: a call becomes its task's input, and the task's output
// a reply. What such a provider cannot do is refused with the field's name; a stream comes in one piece.
#pragma once

#include <memory>
#include <string>

#include "provider/provider.h"

namespace turnpike::provider {

// `inner` sees no wire call.
std::unique_ptr<Provider> with_wire(std::unique_ptr<Provider> inner);

// The two halves; pure but for files of `success`, which are read. `created`: Unix seconds.
std::expected<std::string, Failure> task_input(const WireCall& call);
Outcome wire_reply(const Request& request, Success success, std::int64_t created);

}  // namespace turnpike::provider
