// A refusal in words.
#pragma once

#include <string>

#include "node/refusals.h"

namespace turnpike::api {

// A few sentences for a person: which limit, how much of it was used and held, by what, and what to do. Names
// no work but the account's own.
std::string refusal_summary(const node::Refusal& refusal);

}  // namespace turnpike::api
