#include "api/event_json.h"

#include <utility>

#include "api/render.h"
#include "api/render_run.h"

namespace turnpike::api {
namespace {

using engine::EventType;

constexpr std::size_t kPayloadBytesMax = 256U << 10;

// The member that Event::text is, by type.
std::string_view text_member(EventType type) {
  switch (type) {
    case EventType::kJobProgress:
      return "message";
    case EventType::kJobFailed:
    case EventType::kRunFailed:
      return "code";
    case EventType::kJobStarted:
      return "provider";
    case EventType::kStepQueued:
    case EventType::kStepCompleted:
    case EventType::kStepSkipped:
    case EventType::kStepFailed:
      return "step";
    case EventType::kJobQueued:
    case EventType::kJobCompleted:
    case EventType::kJobCancelled:
    case EventType::kJobExpired:
    case EventType::kUsageThreshold:
    case EventType::kPlanChanged:
    case EventType::kModelDiscovered:
    case EventType::kPolicyChanged:
    case EventType::kAlertRaised:
    case EventType::kAlertCleared:
    case EventType::kRunStarted:
    case EventType::kRunCompleted:
    case EventType::kRunCancelled:
      return "detail";
  }
  return "detail";
}

// Where more is to be read of an event that is no job's.
std::string_view source_of(EventType type) {
  if (type == EventType::kModelDiscovered) return "/api/admin/models";
  if (type == EventType::kPolicyChanged) return "/api/admin/policy";
  if (type == EventType::kAlertRaised || type == EventType::kAlertCleared) return "/api/admin/alerts";
  return "/api/subscription";
}

void begin(Buffer& out, std::string_view id, std::string_view source, EventType type,
           std::string_view subject, Wall at) {
  fmt::format_to(
      fmt::appender(out),
      "{{\"specversion\":\"1.0\",\"id\":\"{}\",\"source\":\"{}\",\"type\":\"{}\",\"subject\":\"{}\","
      "\"time\":\"{}\",\"datacontenttype\":\"application/json\",\"data\":",
      id, source, engine::event_type_name(type), subject, rfc3339(at));
}

void append_job_member(Buffer& out, const node::JobView& job) {
  append(out, ",\"job\":");
  append_job(out, job);
}

void append_run_member(Buffer& out, const node::RunView& run) {
  append(out, ",\"run\":");
  append_run(out, run, true);
}

void append_text_member(Buffer& out, const engine::Event& event) {
  if (event.text.empty()) return;
  out.push_back(',');
  append_quoted(out, text_member(event.type));
  out.push_back(':');
  append_quoted(out, event.text);
}

// Of a run itself, or of a step of it.
std::string run_event_json(const journal::StoredEvent& stored, const node::RunView* run) {
  const engine::Event& event = stored.event;
  Buffer out;
  begin(out, to_string(stored.id), "/api/runs", event.type, to_string(event.run), event.at);
  append(out, "{\"id\":");
  append_quoted(out, to_string(event.run));
  append(out, ",\"account\":");
  append_quoted(out, to_string(event.account));
  append_text_member(out, event);
  if (run != nullptr) append_run_member(out, *run);
  append(out, "}}");
  return to_text(out);
}

}  // namespace

std::string event_json(const journal::StoredEvent& stored, const node::JobView* job,
                       const node::RunView* run) {
  const engine::Event& event = stored.event;
  Buffer out;
  if (event.run && !event.job) return run_event_json(stored, run);
  if (!event.job) {  // of an account, or of all: the text is the data, as the engine wrote it
    begin(out, to_string(stored.id), source_of(event.type), event.type,
          event.account ? to_string(event.account) : std::string("platform"), event.at);
    append(out, event.text);
    out.push_back('}');
    return to_text(out);
  }
  begin(out, to_string(stored.id), "/api/jobs", event.type, to_string(event.job), event.at);
  append(out, "{\"id\":");
  append_quoted(out, to_string(event.job));
  append(out, ",\"account\":");
  append_quoted(out, to_string(event.account));
  if (event.run) {
    append(out, ",\"run_id\":");
    append_quoted(out, to_string(event.run));
  }
  fmt::format_to(fmt::appender(out), ",\"attempt\":{}", event.attempt);
  if (event.type == EventType::kJobProgress)
    fmt::format_to(fmt::appender(out), ",\"percent\":{}", event.percent);
  append_text_member(out, event);
  if (job != nullptr) append_job_member(out, *job);
  append(out, "}}");
  return to_text(out);
}

std::string state_json(const node::JobView& job, EventType type, Wall now) {
  Buffer out;
  const std::string id = to_string(job.row.id);
  begin(out, id, "/api/jobs", type, id, now);
  append(out, "{\"id\":");
  append_quoted(out, id);
  append(out, ",\"account\":");
  append_quoted(out, to_string(job.row.account));
  fmt::format_to(fmt::appender(out), ",\"attempt\":{}", job.row.attempt);
  append_job_member(out, job);
  append(out, "}}");
  return to_text(out);
}

std::string state_json(const node::RunView& run, EventType type, Wall now) {
  Buffer out;
  const std::string id = to_string(run.row.id);
  begin(out, id, "/api/runs", type, id, now);
  append(out, "{\"id\":");
  append_quoted(out, id);
  append(out, ",\"account\":");
  append_quoted(out, to_string(run.row.account));
  append_run_member(out, run);
  append(out, "}}");
  return to_text(out);
}

boost::asio::awaitable<std::string> webhook_payload(node::Node& node, const journal::StoredEvent& stored) {
  if (node::is_run_end(stored.event.type)) {
    auto reading = node.run(stored.event.run, std::nullopt);
    const auto run = co_await std::move(reading);
    if (run) {
      std::string with_run = event_json(stored, nullptr, &*run);
      if (with_run.size() <= kPayloadBytesMax) co_return with_run;
    }
    co_return event_json(stored, nullptr);
  }
  if (node::is_end(stored.event.type) && stored.event.job) {
    auto reading = node.job(stored.event.job, std::nullopt, true);
    const auto job = co_await std::move(reading);
    if (job) {
      std::string with_job = event_json(stored, &*job);
      if (with_job.size() <= kPayloadBytesMax) co_return with_job;
    }
  }
  co_return event_json(stored, nullptr);
}

}  // namespace turnpike::api
