// Runs of workflows, as other paths than their own show them.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"

namespace turnpike::api {

struct Context;

// `id` is meant as the id of a run, where a job's may stand too.
inline bool names_a_run(std::string_view id) {
  return id.starts_with(RunTag::kPrefix);
}
// `context.id` as the id of a run. Error: kNotFound.
Result<RunId> run_id(const Context& context);

}  // namespace turnpike::api
