// What the handlers of work share: who works, and at which try.
#pragma once

#include "api/context.h"
#include "provider/work_desk.h"

namespace turnpike::api {

provider::Worker worker_of(const Caller& caller);
// Of the path. Error: kNotFound.
Result<TryId> try_of(const Context& context);
// Refuses what is asked beside `known`.
Result<void> check_query(const Context& context, std::string_view known);

}  // namespace turnpike::api
