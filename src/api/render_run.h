// A run of a workflow as JSON.
#pragma once

#include <string>

#include "api/json.h"
#include "node/node.h"

namespace turnpike::api {

// `with_jobs`: its steps tell of their jobs, which `run` then has. Without its body (RunView::body) steps
// tell of no task and no needs.
void append_run(Buffer& out, const node::RunView& run, bool with_jobs);
std::string run_json(const node::RunView& run);  // with its jobs

}  // namespace turnpike::api
