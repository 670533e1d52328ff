// The section endpoints: paths of the operator's own.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "policy/body_schema.h"
#include "policy/contains.h"
#include "policy/load_parts.h"
#include "policy/nearest.h"
#include "policy/resolve.h"

namespace turnpike::policy {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;
using Names = std::vector<std::string>;

// Paths of Turnpike's own that an endpoint may not stand in for; those with a trailing slash with all below
// them.
constexpr std::array kOwnPaths = {
    "/v1/",           "/metrics",           "/healthz",      "/readyz",     "/docs",
    "/openapi.yaml",  "/artifacts/",        "/api/jobs/",    "/api/runs/",  "/api/artifacts/",
    "/api/admin/",    "/api/keys/",         "/api/tickets",  "/api/events", "/api/ws",
    "/api/accounts/", "/api/subscription/", "/api/webhooks/"};

// What an endpoint has that names a task or a workflow.
constexpr std::array kWorkKeys = {"respond", "wait", "status", "schema", "public"};

// "/a/b": what a request's path can be without escapes.
bool is_path(std::string_view path) {
  return path.size() > 1 && path.size() <= 200 && path.front() == '/' && !path.ends_with('/') &&
         !path.contains("//") && !path.contains("/.") && std::ranges::all_of(path, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '/' ||
                  c == '-' || c == '_' || c == '.' || c == '~';
         });
}

bool is_own_path(std::string_view path) {
  return std::ranges::any_of(kOwnPaths, [path](std::string_view own) {
    if (!own.ends_with('/')) return path == own;
    return path.starts_with(own) || path == own.substr(0, own.size() - 1);
  });
}

void read_endpoint_path(const Value& value, const Policy& policy, Endpoint& out) {
  if (!value.text(out.path)) return;
  if (!is_path(out.path)) {
    value.mistake("must be a path such as /speak: letters, digits and - _ . ~ between slashes");
  } else if (is_own_path(out.path)) {
    value.mistake("is a path of Turnpike's own: choose another");
  } else if (contains(policy.endpoints, out.path, &Endpoint::path)) {
    value.mistake(fmt::format("`{}` is published twice: keep one", out.path));
  }
}

void read_endpoint_alias(const Value& alias, Map& map, Endpoint& out) {
  if (alias.text(out.alias) &&
      (!is_path(out.alias) || (!out.alias.starts_with("/api/") && !out.alias.starts_with("/v1/"))))
    alias.mistake("must be a path of Turnpike's own, such as /api/jobs");
  for (const char* key : kWorkKeys)
    map.refuse(
        key,
        "belongs to an endpoint with a task or a workflow: an alias answers as the path that it stands for");
}

// Whoever has no key is one account for each address, and that has one plan.
void read_public(const Value& value, const Policy& policy, Endpoint& out) {
  if (!value.name(out.public_plan)) return;
  const Plan* plan = policy.plan(out.public_plan);
  const std::string& other = policy.anonymous_plan();
  if (plan == nullptr) {
    value.mistake(fmt::format("unknown plan `{}`: {}", out.public_plan,
                              suggestion(out.public_plan, keys_of(policy.plans))));
  } else if (!other.empty() && other != out.public_plan) {
    value.mistake(
        fmt::format("whoever has no key is on plan `{}` already, by another endpoint: write that "
                    "one in each",
                    other));
  } else if (!plan->limits.queue_depth) {
    value.mistake(
        fmt::format("plan `{}` has no limits.queue_depth: whoever has no key could queue without "
                    "an end",
                    out.public_plan));
  }
}

void read_endpoint_task(const Value& task, const Policy& policy, Endpoint& out) {
  if (!task.name(out.task)) return;
  const Names known = known_tasks(policy);
  if (!contains(known, out.task))
    task.mistake(
        fmt::format("unknown task `{}`: no model serves it; {}", out.task, suggestion(out.task, known)));
}

void read_endpoint_workflow(const Value& workflow, const Names& known, Endpoint& out) {
  if (!workflow.name(out.workflow) || contains(known, out.workflow)) return;
  workflow.mistake(fmt::format("unknown workflow `{}`: {}", out.workflow, suggestion(out.workflow, known)));
}

void read_endpoint_work(Map& map, const Policy& policy, Endpoint& out) {
  const Value respond = map.at("respond");
  const Value wait = map.at("wait");
  if (respond.present() && wait.present()) {
    wait.mistake("stands beside `respond`: write `respond: job` (answer at once) or `wait: 20s`, not both");
  } else {
    bool job = true;
    respond.word(job, {{"job", true}});
    wait.duration(out.wait, seconds(1), minutes(5));
  }
  std::uint32_t status = out.status;
  map.at("status").whole(status, 200, 299);
  out.status = static_cast<std::uint16_t>(status);
  out.schema = read_schema(map.at("schema"));
  read_public(map.at("public"), policy, out);
}

void read_endpoint(const Value& value, const Names& workflows, Policy& policy) {
  Endpoint endpoint;
  value.section([&](Map& map) {
    read_endpoint_path(map.require("path"), policy, endpoint);
    const Value alias = map.at("alias");
    const Value task = map.at("task");
    const Value workflow = map.at("workflow");
    if (int{alias.present()} + int{task.present()} + int{workflow.present()} != 1) {
      map.mistake("needs one of `task`, `workflow` and `alias`");
      for (const char* key : kWorkKeys) map.at(key);
    } else if (alias.present()) {
      read_endpoint_alias(alias, map, endpoint);
    } else {
      read_endpoint_task(task, policy, endpoint);
      read_endpoint_workflow(workflow, workflows, endpoint);
      read_endpoint_work(map, policy, endpoint);
    }
  });
  policy.endpoints.push_back(std::move(endpoint));
}

}  // namespace

void read_endpoints(const Value& value, const Names& workflows, Policy& policy) {
  value.list([&](const Value& item) { read_endpoint(item, workflows, policy); });
}

}  // namespace turnpike::policy
