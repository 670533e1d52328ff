// Things as JSON, as api.md shows them.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/json.h"
#include "base/result.h"
#include "engine/engine.h"
#include "engine/rows.h"
#include "journal/journal.h"
#include "node/node.h"

namespace turnpike::api {

void append_job(Buffer& out, const node::JobView& job);
std::string job_json(const node::JobView& job);

// The member `queue`, which begins with a comma: where a job stands, or null.
void append_queue(Buffer& out, const std::optional<engine::QueueView>& queue);
// The members `result` and `error`, which begin with a comma, of a job or a run.
void append_result(Buffer& out, engine::JobState state, std::string_view output,
                   const std::vector<engine::ArtifactRef>& artifacts);
void append_error(Buffer& out, const std::optional<engine::JobError>& error);

std::string artifact_url(const engine::ArtifactRef& artifact);
void append_artifact(Buffer& out, const engine::ArtifactRef& artifact);  // as in a job's result

// `key` without its secret; `secret` empty: the member `key` is left out. `user_id`: of its account, or
// empty.
void append_key(Buffer& out, const journal::KeyRow& key, std::string_view user_id, std::string_view secret);

// `overrides_mistake`: why its overrides do not apply; empty: they do, or it has none.
void append_account(Buffer& out, const engine::AccountRow& account, std::string_view overrides_mistake);

// A limit that refused or holds back, as an object of texts and numbers, and the work that holds some of it;
// `held_by` null: nobody looked.
void append_limit_reached(Buffer& out, const LimitReached& limit, const std::vector<engine::Holder>* held_by);

// What a plan promises, as an object: limits, quotas, rates and the cost cap.
void append_limits(Buffer& out, const policy::Plan& plan);

// Unix seconds, or null for kNever.
void append_time(Buffer& out, Wall time);
// RFC 3339 in UTC with milliseconds, e.g. 2026-11-22T18:45:00.123Z.
std::string rfc3339(Wall time);

}  // namespace turnpike::api
