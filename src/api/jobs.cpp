// POST, GET, DELETE of jobs, and the operator's endpoints that name a task. What is asked of a run by the
// path of jobs is answered as by its own.
#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>
#include <chrono>
#include <utility>

#include "api/fields.h"
#include "api/handlers.h"
#include "api/refuse.h"
#include "api/render.h"
#include "api/runs.h"
#include "api/submit.h"
#include "api/webhooks.h"
#include "policy/body_schema.h"

namespace turnpike::api {
namespace {

namespace json = boost::json;

constexpr std::size_t kNameMax = 128;
constexpr std::size_t kDedupeKeyMax = 255;
constexpr std::chrono::hours kRunAtMax{24 * 366};
constexpr std::int64_t kRunAtSlackSeconds = 1;  // what a clock may be off, and a request may take

std::string serialized(const json::value& value) {
  return json::serialize(value);
}

// Fractions are allowed: {"base_s": 0.5}.
Duration seconds_of(double seconds) {
  return Duration{static_cast<std::int64_t>(seconds * 1e6)};
}

std::optional<policy::Backoff> read_backoff(const json::object& object, Mistakes& mistakes) {
  Fields fields(object, "backoff.", mistakes);
  constexpr double kDelayMax = 86'400;
  policy::Backoff backoff;
  if (const auto base = fields.number("base_s", 0, kDelayMax)) backoff.base = seconds_of(*base);
  if (const auto factor = fields.number("factor", 1, 100)) {
    backoff.factor_permille = static_cast<std::uint32_t>(*factor * 1000);
  }
  if (const auto cap = fields.number("cap_s", 0, kDelayMax)) backoff.cap = seconds_of(*cap);
  if (const auto jitter = fields.number("jitter", 0, 1)) {
    backoff.jitter_permille = static_cast<std::uint32_t>(*jitter * 1000);
  }
  if (backoff.cap < backoff.base) {
    fields.mistake("cap_s", "`backoff.cap_s` must not be less than `backoff.base_s`");
  }
  fields.finish();
  return backoff;
}

Wall read_run_at(Fields& fields, Wall now) {
  const auto seconds = fields.integer("run_at", INT64_MIN, INT64_MAX);
  if (!seconds) return kNever;
  if (*seconds < unix_seconds(now) - kRunAtSlackSeconds) {
    fields.mistake("run_at", "`run_at` lies in the past: give Unix seconds in the future, or leave it out");
    return kNever;
  }
  if (*seconds > unix_seconds(now + kRunAtMax)) {
    fields.mistake("run_at", "`run_at` lies beyond a year: give Unix seconds within the next year");
    return kNever;
  }
  return wall_from_seconds(*seconds);
}

// Everything of a job but its task and input.
void read_options(Fields& fields, Wall now, Submission& job, Mistakes& mistakes) {
  node::SubmitRequest& request = job.request;
  request.model = fields.text("model", 1, kNameMax).value_or("");
  request.priority = static_cast<std::int32_t>(fields.integer("priority", -1000, 1000).value_or(0));
  request.run_at = read_run_at(fields, now);
  if (const auto attempts = fields.integer("max_attempts", 1, 100)) {
    request.max_attempts = static_cast<std::uint32_t>(*attempts);
  }
  if (const auto* backoff = fields.object("backoff")) {
    request.options.backoff = read_backoff(*backoff, mistakes);
  }
  if (const auto timeout = fields.integer("timeout_s", 1, 86'400)) {
    request.options.timeout = std::chrono::seconds(*timeout);
  }
  request.dedupe_key = fields.text("dedupe_key", 1, kDedupeKeyMax).value_or("");
  request.content_type = fields.text("content_type", 1, kNameMax).value_or("");
  job.metadata = read_metadata(fields, mistakes);
}

Result<Submission> read_job(const Context& context) {
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  Submission job;
  job.store_answer = true;
  job.input_path = "input.";
  fields.not_yet("batch");
  fields.require("task");
  fields.require("input");
  job.request.task = fields.text("task", 1, kNameMax).value_or("");
  if (const auto* input = fields.object("input")) {
    job.facts = check_input(job.request.task, *input, job.input_path, mistakes);
    job.input = serialized(*input);
  }
  read_options(fields, context.now, job, mistakes);
  job.webhook_url = read_webhook_url(*context.policy, fields, "webhook_url").value_or("");
  job.plan = tier_asked(fields, mistakes);
  fields.finish();
  if (mistakes.any()) return std::unexpected(mistakes.error());
  return job;
}

// An endpoint's body is its task's input, beside who asks and which plan.
Result<Submission> read_endpoint(const Context& context) {
  Mistakes mistakes;
  Submission job;
  job.request.task = context.endpoint->task;
  job.status = context.endpoint->status;
  json::value body = context.fields();
  json::object& input = body.get_object();
  job.plan = take_tier(input, mistakes);
  if (context.endpoint->schema != nullptr) {
    for (auto& misfit : context.endpoint->schema->misfits(body))
      mistakes.add(std::move(misfit.field), std::move(misfit.message));
  }
  if (!mistakes.any()) job.facts = check_input(job.request.task, input, job.input_path, mistakes);
  if (mistakes.any()) return std::unexpected(mistakes.error());
  job.input = serialized(body);
  return job;
}

Result<JobId> job_id(const Context& context) {
  const auto id = parse_id<JobTag>(context.id);
  if (!id) return fail(ErrorCode::kNotFound, "there is no such job", "id");
  return *id;
}

Reply shown(int status, const Result<node::JobView>& job) {
  if (!job) return std::unexpected(job.error());
  return json_response(status, job_json(*job));
}

// A job that was taken: metered, so it says what is left.
net::Response taken(int status, node::SubmitAnswer& answer) {
  net::Response response =
      json_response(status, answer.rendered.empty() ? job_json(answer.job) : std::move(answer.rendered));
  add_rate_headers(response, answer.rates);
  add_serving_headers(response, answer.job.row);
  return response;
}

std::optional<engine::JobState> state_named(std::string_view name) {
  using enum engine::JobState;
  for (const auto state : {kScheduled, kQueued, kProcessing, kCompleted, kFailed, kCancelled, kExpired}) {
    if (name == engine::job_state_name(state)) return state;
  }
  return std::nullopt;
}

Result<journal::JobQuery> job_query(const Context& context) {
  if (context.request.query_value("batch")) {
    return fail(ErrorCode::kInvalidRequest, "`batch` is not available yet: leave it out", "batch");
  }
  const auto page = page_of(context, JobTag::kPrefix, {"status", "task", "run"});
  if (!page) return std::unexpected(page.error());
  journal::JobQuery query;
  query.account = context.scope();
  query.limit = page->limit;
  query.starting_after = JobId{page->starting_after};
  query.ending_before = JobId{page->ending_before};
  query.task = context.request.query_value("task").value_or("");
  if (const auto run = context.request.query_value("run")) {
    const auto id = parse_id<RunTag>(*run);
    if (!id) return fail(ErrorCode::kInvalidRequest, "`run` must be the id of a run (run_…)", "run");
    query.run = *id;
  }
  if (const auto status = context.request.query_value("status")) {
    query.state = state_named(*status);
    if (!query.state) {
      return fail(
          ErrorCode::kInvalidRequest,
          "`status` must be one of scheduled, queued, processing, completed, failed, cancelled, expired",
          "status");
    }
  }
  return query;
}

}  // namespace

Handled create_job(Context& context) {
  if (context.fields().contains("workflow")) {
    auto starting = create_run(context);
    co_return co_await std::move(starting);
  }
  auto job = read_job(context);
  if (!job) co_return std::unexpected(std::move(job.error()));
  const std::string task = job->request.task;
  const std::string model = job->request.model;
  auto submitting = submit(context, *std::move(job));
  auto answer = co_await std::move(submitting);
  if (!answer) co_return refuse(context, answer.error(), {.task = task, .model = model});
  co_return taken(202, *answer);
}

Handled run_endpoint(Context& context) {
  if (!context.endpoint->workflow.empty()) {
    auto starting = run_workflow_endpoint(context);
    co_return co_await std::move(starting);
  }
  context.record->task = context.endpoint->task;
  auto job = read_endpoint(context);
  if (!job) co_return std::unexpected(std::move(job.error()));
  const Duration wait = context.endpoint->wait;
  job->store_answer = wait.count() == 0;  // an answer that waits is stored once it is known
  auto submitting = submit(context, *std::move(job));
  auto answer = co_await std::move(submitting);
  if (!answer) co_return refuse(context, answer.error(), {.task = context.endpoint->task, .model = {}});
  note_job(*context.record, answer->job);
  if (wait.count() == 0) co_return taken(context.endpoint->status, *answer);
  auto waiting = context.node().wait(answer->job.row.id, answer->job.row.account, wait);
  const auto ended = co_await std::move(waiting);
  const bool has_ended = ended && engine::ended(ended->row.state);
  if (ended) note_job(*context.record, *ended);
  co_return shown(has_ended ? 200 : context.endpoint->status, ended);
}

Handled get_job(Context& context) {
  if (names_a_run(context.id)) {
    auto handling = get_run(context);
    co_return co_await std::move(handling);
  }
  const auto id = job_id(context);
  if (!id) co_return std::unexpected(id.error());
  auto reading = context.node().job(*id, context.scope(), true);
  const auto job = co_await std::move(reading);
  co_return shown(200, job);
}

Handled list_jobs(Context& context) {
  auto query = job_query(context);
  if (!query) co_return std::unexpected(std::move(query.error()));
  bool has_more = false;
  auto reading = context.node().jobs(*std::move(query), has_more);
  const auto jobs = co_await std::move(reading);
  if (!jobs) co_return std::unexpected(jobs.error());
  Buffer out;
  append(out, "{\"object\":\"list\",\"data\":[");
  for (std::size_t i = 0; i < jobs->size(); ++i) {
    if (i > 0) out.push_back(',');
    append_job(out, (*jobs)[i]);
  }
  fmt::format_to(fmt::appender(out), "],\"has_more\":{}}}", has_more);
  co_return json_response(200, out);
}

Handled cancel_job(Context& context) {
  if (names_a_run(context.id)) {
    auto handling = cancel_run(context);
    co_return co_await std::move(handling);
  }
  const auto id = job_id(context);
  if (!id) co_return std::unexpected(id.error());
  auto cancelling = context.node().cancel(*id, context.scope(), context.caller.actor());
  const auto job = co_await std::move(cancelling);
  co_return shown(200, job);
}

Handled retry_job(Context& context) {
  if (names_a_run(context.id)) {
    auto handling = retry_run(context);
    co_return co_await std::move(handling);
  }
  const auto id = job_id(context);
  if (!id) co_return std::unexpected(id.error());
  auto retrying = context.node().retry(*id, context.scope());
  const auto job = co_await std::move(retrying);
  if (job) co_return shown(202, job);
  // Whose it is, where an operator named nobody.
  auto reading = context.node().job(*id, context.scope(), false);
  const auto refused = co_await std::move(reading);
  if (!refused) co_return std::unexpected(job.error());
  context.account = refused->row.account;
  co_return refuse(context, job.error(), {.task = refused->row.task, .model = refused->row.model});
}

}  // namespace turnpike::api
