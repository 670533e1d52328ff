#include "api/router.h"

#include <array>
#include <unordered_map>
#include <vector>

#include "api/handlers.h"

namespace turnpike::api {
namespace {

using enum Access;
using enum BodyKind;

constexpr bool kKeyless = true;

// clang-format off
constexpr std::array kRoutes{
    // Jobs
    Route{"POST",   "/api/jobs",                   kAccount, kJson,   create_job},
    Route{"GET",    "/api/jobs",                   kAccount, kNone,   list_jobs},
    Route{"GET",    "/api/jobs/{id}",              kAccount, kNone,   get_job, kKeyless},
    Route{"DELETE", "/api/jobs/{id}",              kAccount, kMaybe,  cancel_job},
    Route{"POST",   "/api/jobs/{id}/retry",        kAccount, kMaybe,  retry_job},
    Route{"GET",    "/api/jobs/{id}/why",          kAccount, kNone,   explain_job, kKeyless},
    Route{"GET",    "/api/jobs/{id}/events",       kTicket,  kNone,   stream_job_events, kKeyless},
    // Runs of workflows
    Route{"POST",   "/api/runs",                   kAccount, kJson,   create_run},
    Route{"GET",    "/api/runs",                   kAccount, kNone,   list_runs},
    Route{"GET",    "/api/runs/{id}",              kAccount, kNone,   get_run, kKeyless},
    Route{"DELETE", "/api/runs/{id}",              kAccount, kMaybe,  cancel_run},
    Route{"POST",   "/api/runs/{id}/retry",        kAccount, kMaybe,  retry_run},
    Route{"GET",    "/api/runs/{id}/events",       kTicket,  kNone,   stream_run_events, kKeyless},
    // Events
    Route{"GET",    "/api/events",                 kTicket,  kNone,   stream_events},
    Route{"GET",    "/api/ws",                     kTicket,  kNone,   open_socket},
    Route{"GET",    "/api/requests/{id}/why",      kAccount, kNone,   explain_refusal, kKeyless},
    // Artifacts
    Route{"POST",   "/api/artifacts",              kAccount, kUpload, upload_artifact},
    Route{"GET",    "/artifacts/{name}",           kTicket,  kNone,   serve_artifact, kKeyless},
    Route{"POST",   "/api/tickets",                kAccount, kMaybe,  create_ticket},
    // Workers
    Route{"POST",   "/api/work/claim",             kWorker,  kMaybe,  claim_work},
    Route{"POST",   "/api/work/{id}/heartbeat",    kWorker,  kMaybe,  beat_work},
    Route{"POST",   "/api/work/{id}/progress",     kWorker,  kJson,   progress_work},
    Route{"POST",   "/api/work/{id}/files",        kWorker,  kUpload, upload_work_file},
    Route{"GET",    "/api/work/{id}/input",        kWorker,  kNone,   serve_work_input},
    Route{"POST",   "/api/work/{id}/complete",     kWorker,  kJson,   complete_work},
    Route{"POST",   "/api/work/{id}/fail",         kWorker,  kJson,   fail_work},
    // Subscriptions
    Route{"GET",    "/api/subscription/current",   kAccount, kNone,   current_subscription},
    Route{"GET",    "/api/subscription/usage",     kAccount, kNone,   subscription_usage},
    Route{"GET",    "/api/flags",                  kAccount, kNone,   get_flags},
    Route{"GET",    "/api/subscription/{userId}",  kOperator, kNone,  get_subscription},
    Route{"PUT",    "/api/subscription/{userId}",  kOperator, kJson,  put_subscription},
    // Webhooks
    Route{"POST",   "/api/webhooks/endpoints",      kAccount, kJson,  create_webhook},
    Route{"GET",    "/api/webhooks/endpoints",      kAccount, kNone,  list_webhooks},
    Route{"GET",    "/api/webhooks/endpoints/{id}", kAccount, kNone,  get_webhook},
    Route{"PATCH",  "/api/webhooks/endpoints/{id}", kAccount, kJson,  change_webhook},
    Route{"DELETE", "/api/webhooks/endpoints/{id}", kAccount, kMaybe, delete_webhook},
    Route{"POST",   "/api/webhooks/endpoints/{id}/rotate", kAccount, kMaybe, rotate_webhook},
    Route{"GET",    "/api/webhooks/endpoints/{id}/deliveries", kAccount, kNone, list_deliveries},
    Route{"POST",   "/api/webhooks/endpoints/{id}/redeliver", kAccount, kJson, redeliver},
    // The OpenAI wire
    Route{"POST",   "/v1/chat/completions",        kAccount, kWire,   call_wire},
    Route{"POST",   "/v1/completions",             kAccount, kWire,   call_wire},
    Route{"POST",   "/v1/responses",               kAccount, kWire,   call_wire},
    Route{"POST",   "/v1/embeddings",              kAccount, kWire,   call_wire},
    Route{"POST",   "/v1/images/generations",      kAccount, kWire,   call_wire},
    Route{"POST",   "/v1/images/edits",            kAccount, kWire,   call_wire},
    Route{"POST",   "/v1/audio/speech",            kAccount, kWire,   call_wire},
    Route{"POST",   "/v1/audio/transcriptions",    kAccount, kWire,   call_wire},
    Route{"GET",    "/v1/models",                  kAccount, kNone,   list_models},
    Route{"GET",    "/v1/models/{id}",             kAccount, kNone,   get_model},
    // Operator
    Route{"GET",    "/api/admin/accounts",         kAdmin,   kNone,   list_accounts},
    Route{"GET",    "/api/admin/accounts/{id}",    kAdmin,   kNone,   get_account},
    Route{"PUT",    "/api/admin/accounts/{id}",    kAdmin,   kJson,   put_account},
    Route{"POST",   "/api/admin/accounts/{id}/grants", kAdmin, kJson, create_grant},
    Route{"DELETE", "/api/admin/grants/{id}",      kAdmin,   kMaybe,  revoke_grant},
    Route{"GET",    "/api/admin/usage",            kAdmin,   kNone,   admin_usage},
    Route{"GET",    "/api/admin/costs",            kAdmin,   kNone,   admin_costs},
    Route{"POST",   "/api/admin/keys",             kAdmin,   kJson,   create_key},
    Route{"GET",    "/api/admin/keys",             kAdmin,   kNone,   list_keys},
    Route{"DELETE", "/api/admin/keys/{id}",        kAdmin,   kMaybe,  revoke_key},
    Route{"POST",   "/api/admin/keys/{id}/rotate", kAdmin,   kMaybe,  rotate_key},
    Route{"GET",    "/api/admin/plans",            kAdmin,   kNone,   list_plans},
    Route{"GET",    "/api/admin/policy",           kAdmin,   kNone,   get_policy},
    Route{"POST",   "/api/admin/policy/apply",     kAdmin,   kYaml,   apply_policy},
    Route{"GET",    "/api/admin/policy/versions",  kAdmin,   kNone,   list_policy_versions},
    Route{"GET",    "/api/admin/policy/versions/{id}", kAdmin, kNone, get_policy_version},
    Route{"GET",    "/api/admin/policy/versions/{id}/diff", kAdmin, kNone, diff_policy_versions},
    Route{"POST",   "/api/admin/policy/rollback",  kAdmin,   kJson,   roll_back_policy},
    Route{"GET",    "/api/admin/audit",            kAdmin,   kNone,   list_audit},
    Route{"GET",    "/api/admin/alerts",           kAdmin,   kNone,   list_alerts},
    Route{"GET",    "/api/admin/alerts/rules",     kAdmin,   kNone,   list_alert_rules},
    Route{"GET",    "/api/admin/queue",            kAdmin,   kNone,   get_queue},
    Route{"GET",    "/api/admin/models",           kAdmin,   kNone,   admin_models},
    Route{"GET",    "/api/admin/models/discoveries", kAdmin, kNone,   list_discoveries},
    Route{"GET",    "/api/admin/models/watch",     kAdmin,   kNone,   list_watches},
    Route{"POST",   "/api/admin/models/watch",     kAdmin,   kMaybe,  look_at_lists},
    Route{"POST",   "/api/admin/models/{id}/status", kAdmin, kJson,   set_version_status},
    Route{"POST",   "/api/admin/models/{id}/pin",  kAdmin,   kJson,   pin_model},
    Route{"POST",   "/api/admin/models/{id}/pause", kAdmin,  kJson,   pause_model},
    Route{"POST",   "/api/admin/models/{id}/canary", kAdmin, kJson,   start_canary},
    Route{"POST",   "/api/admin/models/{id}/canary/approve", kAdmin, kJson, approve_canary},
    Route{"POST",   "/api/admin/models/{id}/canary/rollback", kAdmin, kJson, roll_back_canary},
    Route{"GET",    "/api/admin/freeze",           kAdmin,   kNone,   get_freeze},
    Route{"PUT",    "/api/admin/freeze",           kAdmin,   kJson,   set_freeze},
    Route{"GET",    "/api/admin/providers",        kAdmin,   kNone,   admin_providers},
    Route{"POST",   "/api/admin/providers/{id}/pause", kAdmin, kJson, pause_provider},
    // The server itself
    Route{"GET",    "/healthz",                    kPublic,  kNone,   get_health},
    Route{"GET",    "/readyz",                     kPublic,  kNone,   get_ready},
    Route{"GET",    "/metrics",                    kMetrics, kNone,   get_metrics},
    Route{"GET",    "/openapi.yaml",               kPublic,  kNone,   get_openapi},
    Route{"GET",    "/docs",                       kPublic,  kNone,   get_docs},
};
// clang-format on
constexpr Route kEndpoint{"POST", "(endpoint)", kAccount, kJson, run_endpoint};
static_assert(kRoutes.size() < RequestCounts::kRoutesMax);

struct Table {
  std::unordered_map<std::string_view, std::vector<const Route*>> literal;  // by whole path
  std::vector<const Route*> patterned;
};

const Table& table() {
  static const Table made = [] {
    Table t;
    for (const auto& route : kRoutes) {
      if (route.pattern.find('{') == std::string_view::npos) {
        t.literal[route.pattern].push_back(&route);
      } else {
        t.patterned.push_back(&route);
      }
    }
    return t;
  }();
  return made;
}

// What the {…} of `pattern` stands for in `path`; nothing if they do not match.
std::optional<std::string_view> match_pattern(std::string_view pattern, std::string_view path) {
  const auto open = pattern.find('{');
  const auto close = pattern.find('}');
  const auto before = pattern.substr(0, open);
  const auto after = pattern.substr(close + 1);
  if (path.size() <= before.size() + after.size() || !path.starts_with(before) || !path.ends_with(after)) {
    return std::nullopt;
  }
  const auto found = path.substr(before.size(), path.size() - before.size() - after.size());
  // A model's name may hold a slash (as some servers name theirs); nothing else may.
  if (found.find('/') != std::string_view::npos && pattern != "/v1/models/{id}") return std::nullopt;
  return found;
}

// True if the route serves the method; else its own is added to `allow`.
bool takes(const Route& route, std::string_view method, std::string& allow) {
  if (route.method == method || (method == "HEAD" && route.method == "GET")) return true;
  if (!allow.empty()) allow += ", ";
  allow += route.method;
  if (route.method == "GET") allow += ", HEAD";
  return false;
}

}  // namespace

std::span<const Route> routes() {
  return kRoutes;
}

std::size_t route_index(const Route& route) {
  return &route == &kEndpoint ? kRoutes.size() : static_cast<std::size_t>(&route - kRoutes.data());
}

const Route& endpoint_route() {
  return kEndpoint;
}

Match match_route(std::string_view method, std::string_view path) {
  Match match;
  const auto literal = table().literal.find(path);
  if (literal != table().literal.end()) {
    for (const auto* route : literal->second) {
      if (takes(*route, method, match.allow)) {
        match.route = route;
        return match;
      }
    }
    return match;
  }
  for (const auto* route : table().patterned) {
    const auto id = match_pattern(route->pattern, path);
    if (!id || !takes(*route, method, match.allow)) continue;
    match.route = route;
    match.id = *id;
    return match;
  }
  return match;
}

}  // namespace turnpike::api
