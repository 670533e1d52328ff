// Runs of workflows: POST, GET, DELETE, and the operator's endpoints that name a workflow.
#include "api/runs.h"

#include <array>
#include <boost/json/serialize.hpp>
#include <utility>

#include "api/fields.h"
#include "api/handlers.h"
#include "api/idempotency.h"
#include "api/refuse.h"
#include "api/render_run.h"
#include "api/submit.h"
#include "api/webhooks.h"
#include "policy/body_schema.h"
#include "policy/nearest.h"
#include "policy/workflow.h"

namespace turnpike::api {
namespace {

namespace json = boost::json;

constexpr std::size_t kNameMax = 128;

// What a job of one task may be given, and a run not.
struct OfOneJob {
  const char* field;
  const char* why;
};
constexpr const char* kOfSteps = "is of a job of one task: each step of the workflow says its own";
constexpr std::array kOfOneJob{
    OfOneJob{"model", kOfSteps},
    OfOneJob{"content_type", kOfSteps},
    OfOneJob{"max_attempts", kOfSteps},
    OfOneJob{"backoff", kOfSteps},
    OfOneJob{"timeout_s", kOfSteps},
    OfOneJob{"run_at", "is of a job of one task: a run begins at once"},
    OfOneJob{"dedupe_key",
             "is of a job of one task: give an Idempotency-Key, which makes one run of two requests"}};

// A run to start: what of the request does not depend on who asks.
struct Start {
  node::RunRequest request;
  std::string plan;         // from tier_asked()
  std::string webhook_url;  // told how the run ends; empty: none is
  int status = 202;
  bool store_answer = true;
};

Result<Start> read_run(const Context& context) {
  Mistakes mistakes;
  Fields fields(context.fields(), "", mistakes);
  Start run;
  fields.require("workflow");
  fields.require("input");
  run.request.workflow = fields.text("workflow", 1, kNameMax).value_or("");
  if (const auto* task = fields.any("task"); task != nullptr && !task->is_null())
    fields.mistake("task", "`task` stands beside `workflow`: give one of them");
  if (const auto* input = fields.object("input")) run.request.input = json::serialize(*input);
  run.request.priority = static_cast<std::int32_t>(fields.integer("priority", -1000, 1000).value_or(0));
  run.request.metadata = read_metadata(fields, mistakes);
  for (const auto& [field, why] : kOfOneJob) {
    const auto* value = fields.any(field);
    if (value != nullptr && !value->is_null()) fields.mistake(field, fmt::format("`{}` {}", field, why));
  }
  run.webhook_url = read_webhook_url(*context.policy, fields, "webhook_url").value_or("");
  run.plan = tier_asked(fields, mistakes);
  fields.finish();
  const std::string& name = run.request.workflow;
  if (!name.empty() && !context.policy->workflows.contains(name)) {
    std::vector<std::string> known;
    for (const auto& [other, workflow] : context.policy->workflows) known.push_back(other);
    fields.mistake("workflow", fmt::format("there is no workflow {}: {}", quote(name),
                                           policy::suggestion(name, std::move(known))));
  }
  if (mistakes.any()) return std::unexpected(mistakes.error());
  return run;
}

// An endpoint's body is its workflow's input, beside who asks and which plan.
Result<Start> read_endpoint(const Context& context) {
  Mistakes mistakes;
  Start run;
  run.request.workflow = context.endpoint->workflow;
  run.status = context.endpoint->status;
  json::value body = context.fields();
  run.plan = take_tier(body.get_object(), mistakes);
  if (context.endpoint->schema != nullptr) {
    for (auto& misfit : context.endpoint->schema->misfits(body))
      mistakes.add(std::move(misfit.field), std::move(misfit.message));
  }
  if (mistakes.any()) return std::unexpected(mistakes.error());
  run.request.input = json::serialize(body);
  return run;
}

boost::asio::awaitable<Result<node::RunAnswer>> start(Context& context, Start run) {
  auto finding = acting_account(context, std::move(run.plan));
  const auto account = co_await std::move(finding);
  if (!account) co_return std::unexpected(account.error());
  auto finding_endpoint = endpoint_told(context, *account, std::move(run.webhook_url));
  const auto endpoint = co_await std::move(finding_endpoint);
  if (!endpoint) co_return std::unexpected(endpoint.error());
  node::RunRequest& request = run.request;
  request.account = *account;
  request.webhook = *endpoint;
  request.request_id = context.request_id;
  if (run.store_answer) {
    request.idempotency = take_idempotency(context, run.status, {});
    if (request.idempotency) request.render = run_json;
  }
  auto starting = context.node().start_run(std::move(request));
  co_return co_await std::move(starting);
}

// For who may upgrade: a task of the workflow that the account's plan does not have; empty: there is none.
std::string task_out_of_plan(const Context& context, const std::string& name) {
  const auto workflow = context.policy->workflows.find(name);
  if (!context.account || workflow == context.policy->workflows.end()) return {};
  const policy::Plan plan = context.node().plan_of(*context.account);
  for (const policy::WorkflowStep& step : workflow->second->steps()) {
    if (!plan.has_task(step.task)) return step.task;
  }
  return workflow->second->steps().front().task;
}

net::Response refuse_run(const Context& context, const Error& error, const std::string& workflow) {
  const std::string task = task_out_of_plan(context, workflow);
  return refuse(context, error, {.task = task, .model = {}});
}

Reply shown(int status, const Result<node::RunView>& run) {
  if (!run) return std::unexpected(run.error());
  return json_response(status, run_json(*run));
}

net::Response taken(int status, node::RunAnswer& answer) {
  net::Response response =
      json_response(status, answer.rendered.empty() ? run_json(answer.run) : std::move(answer.rendered));
  add_rate_headers(response, answer.rates);
  response.headers.emplace_back("Location", "/api/runs/" + to_string(answer.run.row.id));
  return response;
}

std::optional<engine::JobState> state_named(std::string_view name) {
  using enum engine::JobState;
  for (const auto state : {kQueued, kProcessing, kCompleted, kFailed, kCancelled}) {
    if (name == engine::job_state_name(state)) return state;
  }
  return std::nullopt;
}

Result<journal::RunQuery> run_query(const Context& context) {
  const auto page = page_of(context, RunTag::kPrefix, {"status", "workflow"});
  if (!page) return std::unexpected(page.error());
  journal::RunQuery query;
  query.account = context.scope();
  query.limit = page->limit;
  query.starting_after = RunId{page->starting_after};
  query.ending_before = RunId{page->ending_before};
  query.workflow = context.request.query_value("workflow").value_or("");
  if (const auto status = context.request.query_value("status")) {
    query.state = state_named(*status);
    if (!query.state) {
      return fail(ErrorCode::kInvalidRequest,
                  "`status` must be one of queued, processing, completed, failed, cancelled", "status");
    }
  }
  return query;
}

void note_run(RequestRecord& record, const node::RunView& run) {
  record.run = run.row.id;
  record.account = run.row.account;
  record.plan = run.plan;
  record.failure = run.row.error ? run.row.error->code : std::string();
  if (engine::ended(run.row.state)) record.cost = run.row.cost;
}

}  // namespace

Result<RunId> run_id(const Context& context) {
  const auto id = parse_id<RunTag>(context.id);
  if (!id) return fail(ErrorCode::kNotFound, "there is no such run", "id");
  return *id;
}

Handled create_run(Context& context) {
  auto run = read_run(context);
  if (!run) co_return std::unexpected(std::move(run.error()));
  const std::string workflow = run->request.workflow;
  auto starting = start(context, *std::move(run));
  auto answer = co_await std::move(starting);
  if (!answer) co_return refuse_run(context, answer.error(), workflow);
  co_return taken(202, *answer);
}

Handled run_workflow_endpoint(Context& context) {
  context.record->workflow = context.endpoint->workflow;
  auto run = read_endpoint(context);
  if (!run) co_return std::unexpected(std::move(run.error()));
  const Duration wait = context.endpoint->wait;
  run->store_answer = wait.count() == 0;  // an answer that waits is stored once it is known
  auto starting = start(context, *std::move(run));
  auto answer = co_await std::move(starting);
  if (!answer) co_return refuse_run(context, answer.error(), context.endpoint->workflow);
  note_run(*context.record, answer->run);
  if (wait.count() == 0) co_return taken(context.endpoint->status, *answer);
  auto waiting = context.node().wait_run(answer->run.row.id, answer->run.row.account, wait);
  const auto ended = co_await std::move(waiting);
  const bool has_ended = ended && engine::ended(ended->row.state);
  if (ended) note_run(*context.record, *ended);
  co_return shown(has_ended ? 200 : context.endpoint->status, ended);
}

Handled get_run(Context& context) {
  const auto id = run_id(context);
  if (!id) co_return std::unexpected(id.error());
  auto reading = context.node().run(*id, context.scope());
  const auto run = co_await std::move(reading);
  co_return shown(200, run);
}

Handled list_runs(Context& context) {
  auto query = run_query(context);
  if (!query) co_return std::unexpected(std::move(query.error()));
  bool has_more = false;
  auto reading = context.node().runs(*std::move(query), has_more);
  const auto runs = co_await std::move(reading);
  if (!runs) co_return std::unexpected(runs.error());
  Buffer out;
  append(out, "{\"object\":\"list\",\"data\":[");
  for (std::size_t i = 0; i < runs->size(); ++i) {
    if (i > 0) out.push_back(',');
    append_run(out, (*runs)[i], false);
  }
  fmt::format_to(fmt::appender(out), "],\"has_more\":{}}}", has_more);
  co_return json_response(200, out);
}

Handled cancel_run(Context& context) {
  const auto id = run_id(context);
  if (!id) co_return std::unexpected(id.error());
  auto cancelling = context.node().cancel_run(*id, context.scope(), context.caller.actor());
  const auto run = co_await std::move(cancelling);
  co_return shown(200, run);
}

Handled retry_run(Context& context) {
  const auto id = run_id(context);
  if (!id) co_return std::unexpected(id.error());
  auto retrying = context.node().retry_run(*id, context.scope());
  const auto run = co_await std::move(retrying);
  if (run) co_return shown(202, run);
  // Whose it is, where an operator named nobody.
  auto reading = context.node().run(*id, context.scope());
  const auto refused = co_await std::move(reading);
  if (!refused) co_return std::unexpected(run.error());
  context.account = refused->row.account;
  co_return refuse_run(context, run.error(), refused->row.workflow);
}

}  // namespace turnpike::api
