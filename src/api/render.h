// Things as JSON, as api.md shows them.
#pragma once

#include <string>

#include "api/json.h"
#include "engine/rows.h"
#include "journal/journal.h"
#include "node/node.h"

namespace turnpike::api {

void append_job(Buffer& out, const node::JobView& job);
std::string job_json(const node::JobView& job);

// The member `queue`, which begins with a comma: where a job stands, or null.
void append_queue(Buffer& out, const node::JobView& job);

std::string artifact_url(const engine::ArtifactRef& artifact);
void append_artifact(Buffer& out, const engine::ArtifactRef& artifact);  // as in a job's result

// `key` without its secret; `secret` empty: the member `key` is left out. `user_id`: of its account, or
// empty.
void append_key(Buffer& out, const journal::KeyRow& key, std::string_view user_id, std::string_view secret);

void append_account(Buffer& out, const engine::AccountRow& account);

// What a plan promises, as an object: limits, quotas, rates and the cost cap.
void append_limits(Buffer& out, const policy::Plan& plan);

// Unix seconds, or null for kNever.
void append_time(Buffer& out, Wall time);
// RFC 3339 in UTC with milliseconds, e.g. 2026-11-22T18:45:00.123Z.
std::string rfc3339(Wall time);

}  // namespace turnpike::api
