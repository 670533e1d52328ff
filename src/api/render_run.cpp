#include "api/render_run.h"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <utility>
#include <vector>

#include "api/render.h"
#include "policy/workflow.h"

namespace turnpike::api {
namespace {

using engine::JobState;

void append_member(Buffer& out, std::string_view name, std::string_view text) {
  append(out, name);
  append_quoted(out, text);
}

// The graph that the run was started with; null where its body is not there, or a later version reads it no
// more.
policy::WorkflowPtr graph_of(const node::RunView& run) {
  if (run.body == nullptr) return nullptr;
  boost::json::error_code error;
  const boost::json::value definition = boost::json::parse(run.body->workflow, error);
  if (error) return nullptr;
  auto workflow = policy::Workflow::parse(run.row.workflow, definition);
  return workflow && (*workflow)->steps().size() == run.row.steps.size() ? *std::move(workflow) : nullptr;
}

void append_step_job(Buffer& out, const node::JobView& job) {
  append_member(out, "{\"id\":", to_string(job.row.id));
  append_member(out, ",\"status\":", engine::job_state_name(job.row.state));
  append(out, ",\"cost_usd\":");
  append_quoted_or_null(out, engine::ended(job.row.state) ? to_string(job.row.cost) : std::string());
  append_queue(out, job.queue);
  append_error(out, job.row.error);
  out.push_back('}');
}

void append_step_jobs(Buffer& out, const node::RunView& run, const engine::StepRow& step) {
  append(out, ",\"jobs\":[");
  const JobId first = engine::job_of(run.row.id, step.first_job);
  const JobId behind = engine::job_of(run.row.id, step.first_job + step.jobs);
  auto job = std::ranges::lower_bound(run.jobs, first, {}, [](const node::JobView& j) { return j.row.id; });
  for (bool begun = false; job != run.jobs.end() && job->row.id < behind; ++job) {
    if (std::exchange(begun, true)) out.push_back(',');
    append_step_job(out, *job);
  }
  out.push_back(']');
}

void append_steps(Buffer& out, const node::RunView& run, bool with_jobs) {
  const policy::WorkflowPtr graph = graph_of(run);
  append(out, ",\"steps\":[");
  for (std::size_t i = 0; i < run.row.steps.size(); ++i) {
    const engine::StepRow& step = run.row.steps[i];
    if (i > 0) out.push_back(',');
    append_member(out, "{\"name\":", step.name);
    append(out, ",\"task\":");
    append_quoted_or_null(out, graph != nullptr ? graph->steps()[i].task : std::string());
    std::vector<std::string_view> needs;
    if (graph != nullptr) {
      for (const std::size_t need : graph->steps()[i].needs) needs.push_back(graph->steps()[need].name);
    }
    append(out, ",\"needs\":");
    append_names(out, needs);
    append_member(out, ",\"status\":", engine::step_state_name(step.state));
    append(out, ",\"started_at\":");
    append_time(out, step.started_at);
    append(out, ",\"finished_at\":");
    append_time(out, step.finished_at);
    if (with_jobs) append_step_jobs(out, run, step);
    out.push_back('}');
  }
  out.push_back(']');
}

}  // namespace

void append_run(Buffer& out, const node::RunView& run, bool with_jobs) {
  const engine::RunRow& row = run.row;
  append_member(out, "{\"id\":", to_string(row.id));
  append_member(out, ",\"object\":\"run\",\"account\":", to_string(row.account));
  append_member(out, ",\"user_id\":", run.user_id);
  append_member(out, ",\"workflow\":", row.workflow);
  append_member(out, ",\"status\":", engine::job_state_name(row.state));
  append_member(out, ",\"plan\":", run.plan);
  append_member(out, ",\"priority_class\":", policy::class_name(run.priority_class));
  fmt::format_to(fmt::appender(out), ",\"priority\":{}", row.priority);
  append(out, ",\"created_at\":");
  append_time(out, row.created_at);
  append(out, ",\"started_at\":");
  append_time(out, row.started_at);
  append(out, ",\"finished_at\":");
  append_time(out, row.finished_at);
  append_queue(out, run.queue);
  fmt::format_to(fmt::appender(out), ",\"progress\":{{\"percent\":{},\"message\":null}}",
                 row.state == JobState::kCompleted ? 100 : run.percent);
  append_steps(out, run, with_jobs);
  append_member(out, ",\"cost_usd\":", to_string(row.cost));
  append_result(out, row.state, row.output, row.artifacts);
  append_error(out, row.error);
  append(out, ",\"metadata\":");
  const bool has_metadata = run.body != nullptr && !run.body->metadata.empty();
  append(out, has_metadata ? std::string_view(run.body->metadata) : std::string_view("{}"));
  out.push_back('}');
}

std::string run_json(const node::RunView& run) {
  Buffer out;
  append_run(out, run, true);
  return to_text(out);
}

}  // namespace turnpike::api
