#include "api/render.h"

#include <fmt/chrono.h>

#include <chrono>
#include <utility>

#include "api/keys.h"
#include "policy/meters.h"

namespace turnpike::api {
namespace {

using engine::JobState;

void append_member(Buffer& out, std::string_view name, std::string_view text) {
  append(out, name);
  append_quoted(out, text);
}

void append_progress(Buffer& out, const node::JobView& job) {
  const int percent = job.row.state == JobState::kCompleted ? 100 : job.percent;
  fmt::format_to(fmt::appender(out), ",\"progress\":{{\"percent\":{},\"message\":", percent);
  append_quoted_or_null(out, job.progress_message);
  out.push_back('}');
}

void append_model(Buffer& out, const engine::JobRow& row) {
  append(out, ",\"model\":");
  if (row.state != JobState::kCompleted) {
    append(out, "null");
    return;
  }
  append_member(out, "{\"id\":", row.model);
  append_member(out, ",\"version\":", row.model_version);
  append_member(out, ",\"provider\":", row.provider);
  out.push_back('}');
}

void append_usage(Buffer& out, const engine::JobRow& row) {
  append(out, ",\"usage\":");
  if (row.state != JobState::kCompleted) {
    append(out, "null");
    return;
  }
  out.push_back('{');
  for (std::size_t i = 0; i < row.usage.size(); ++i) {
    if (i > 0) out.push_back(',');
    append_quoted(out, row.usage[i].first);
    fmt::format_to(fmt::appender(out), ":{}", row.usage[i].second);
  }
  out.push_back('}');
}

void append_holder(Buffer& out, const engine::Holder& holder) {
  append_member(out, "{\"id\":", to_string(holder.job));
  append_member(out, ",\"kind\":", holder.call ? "call" : "job");
  append_member(out, ",\"status\":", engine::job_state_name(holder.state));
  append_member(out, ",\"cost_usd\":", to_string(holder.cost));
  append(out, ",\"content_type\":");
  append_quoted_or_null(out, holder.content);
  append(out, ",\"meters\":{");
  bool first = true;
  for (const policy::MeterName& name : policy::meter_names()) {
    const std::int64_t amount = holder.amounts[name.meter];
    if (amount == 0) continue;
    if (!std::exchange(first, false)) out.push_back(',');
    append_quoted(out, name.name);
    fmt::format_to(fmt::appender(out), ":{}", policy::show_amount(name.meter, amount));
  }
  append(out, "}}");
}

void append_times(Buffer& out, const engine::JobRow& row) {
  append(out, ",\"created_at\":");
  append_time(out, row.created_at);
  append(out, ",\"run_at\":");
  append_time(out, row.state == JobState::kScheduled ? row.due_at : kNever);
  append(out, ",\"started_at\":");
  append_time(out, row.started_at);
  append(out, ",\"finished_at\":");
  append_time(out, row.finished_at);
}

}  // namespace

void append_result(Buffer& out, JobState state, std::string_view output,
                   const std::vector<engine::ArtifactRef>& artifacts) {
  append(out, ",\"result\":");
  if (state != JobState::kCompleted) {
    append(out, "null");
    return;
  }
  append(out, "{\"output\":");
  append(out, output.empty() ? std::string_view("null") : output);
  append(out, ",\"artifacts\":[");
  for (std::size_t i = 0; i < artifacts.size(); ++i) {
    if (i > 0) out.push_back(',');
    append_artifact(out, artifacts[i]);
  }
  append(out, "]}");
}

void append_error(Buffer& out, const std::optional<engine::JobError>& error) {
  append(out, ",\"error\":");
  if (!error) {
    append(out, "null");
    return;
  }
  append_member(out, "{\"code\":", error->code);
  append_member(out, ",\"message\":", error->message);
  append(out, ",\"provider\":");
  append_quoted_or_null(out, error->provider);
  out.push_back('}');
}

void append_queue(Buffer& out, const std::optional<engine::QueueView>& view) {
  append(out, ",\"queue\":");
  if (!view) {
    append(out, "null");
    return;
  }
  const engine::QueueView& queue = *view;
  fmt::format_to(
      fmt::appender(out),
      "{{\"position\":{},\"ahead_in_account\":{},\"eta_seconds\":[{},{}],\"exact\":{},\"waiting_for\":",
      queue.position, queue.ahead_in_account, queue.eta_seconds.first, queue.eta_seconds.second, queue.exact);
  append_quoted_or_null(out, queue.waiting_for ? engine::waiting_for_name(*queue.waiting_for) : "");
  out.push_back('}');
}

void append_time(Buffer& out, Wall time) {
  if (time == kNever) {
    append(out, "null");
  } else {
    fmt::format_to(fmt::appender(out), "{}", unix_seconds(time));
  }
}

void append_job(Buffer& out, const node::JobView& job) {
  const engine::JobRow& row = job.row;
  append_member(out, "{\"id\":", to_string(row.id));
  append_member(out, ",\"object\":\"job\",\"account\":", to_string(row.account));
  append_member(out, ",\"user_id\":", job.user_id);
  append_member(out, ",\"task\":", row.task);
  append_member(out, ",\"status\":", engine::job_state_name(row.state));
  append_member(out, ",\"plan\":", job.plan);
  append_member(out, ",\"priority_class\":", policy::class_name(job.priority_class));
  fmt::format_to(fmt::appender(out), ",\"priority\":{}", row.priority);
  append_times(out, row);
  fmt::format_to(fmt::appender(out), ",\"attempt\":{},\"max_attempts\":{}", row.attempt, row.max_attempts);
  append_queue(out, job.queue);
  append_progress(out, job);
  append_model(out, row);
  append_usage(out, row);
  append(out, ",\"cost_usd\":");
  append_quoted_or_null(out, engine::ended(row.state) ? to_string(row.cost) : std::string());
  append_result(out, row.state, row.output, row.artifacts);
  append_error(out, row.error);
  append(out, ",\"dedupe_key\":");
  append_quoted_or_null(out, row.dedupe_key);
  append(out, ",\"batch\":null,\"run\":");
  append_quoted_or_null(out, row.run ? to_string(row.run) : std::string());
  append(out, ",\"metadata\":");
  const bool has_metadata = job.body != nullptr && !job.body->metadata.empty();
  append(out, has_metadata ? std::string_view(job.body->metadata) : std::string_view("{}"));
  out.push_back('}');
}

std::string job_json(const node::JobView& job) {
  Buffer out;
  append_job(out, job);
  return to_text(out);
}

std::string artifact_url(const engine::ArtifactRef& artifact) {
  return fmt::format("/artifacts/{}.{}", artifact.sha256, artifact.extension);
}

void append_artifact(Buffer& out, const engine::ArtifactRef& artifact) {
  append_member(out, "{\"id\":", to_string(artifact.id));
  append_member(out, ",\"url\":", artifact_url(artifact));
  append_member(out, ",\"mime\":", artifact.mime);
  fmt::format_to(fmt::appender(out), ",\"bytes\":{}", artifact.bytes);
  append_member(out, ",\"sha256\":", artifact.sha256);
  out.push_back('}');
}

void append_key(Buffer& out, const journal::KeyRow& key, std::string_view user_id, std::string_view secret) {
  append_member(out, "{\"id\":", to_string(key.id));
  append_member(out, ",\"object\":\"key\",\"role\":", role_name(key.role));
  append(out, ",\"account\":");
  append_quoted_or_null(out, key.account ? to_string(key.account) : std::string());
  append(out, ",\"user_id\":");
  append_quoted_or_null(out, user_id);
  append_member(out, ",\"name\":", key.name);
  append(out, ",\"created_at\":");
  append_time(out, key.created_at);
  append(out, ",\"expires_at\":");
  append_time(out, key.expires_at);
  append(out, ",\"revoked_at\":");
  append_time(out, key.revoked_at);
  if (!secret.empty()) append_member(out, ",\"key\":", secret);
  out.push_back('}');
}

void append_account(Buffer& out, const engine::AccountRow& account, std::string_view overrides_mistake) {
  append_member(out, "{\"id\":", to_string(account.id));
  append_member(out, ",\"object\":\"account\",\"user_id\":", account.user_id);
  append_member(out, ",\"plan\":", account.plan);
  append(out, ",\"team\":");
  append_quoted_or_null(out, account.team);
  append(out, ",\"overrides_mistake\":");
  append_quoted_or_null(out, overrides_mistake);
  append(out, ",\"created_at\":");
  append_time(out, account.created_at);
  out.push_back('}');
}

void append_limit_reached(Buffer& out, const LimitReached& limit,
                          const std::vector<engine::Holder>* held_by) {
  append_member(out, "{\"scope\":", limit.scope);
  append_member(out, ",\"meter\":", limit.meter);
  append_member(out, ",\"limit\":", limit.limit);
  append_member(out, ",\"used\":", limit.used);
  append_member(out, ",\"held\":", limit.held);
  append_member(out, ",\"wanted\":", limit.wanted);
  fmt::format_to(fmt::appender(out), ",\"resets_at\":{},\"held_by\":",
                 limit.resets_at ? fmt::to_string(*limit.resets_at) : "null");
  if (held_by == nullptr) {
    append(out, "null}");
    return;
  }
  out.push_back('[');
  for (std::size_t i = 0; i < held_by->size(); ++i) {
    if (i > 0) out.push_back(',');
    append_holder(out, (*held_by)[i]);
  }
  append(out, "]}");
}

std::string rfc3339(Wall time) {
  const auto micros = unix_micros(time);
  const auto seconds = unix_seconds(time);
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(static_cast<std::time_t>(seconds)),
                     (micros - seconds * 1'000'000) / 1000);
}

}  // namespace turnpike::api
