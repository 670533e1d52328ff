#include "api/refuse.h"

#include <utility>

#include "api/render.h"

namespace turnpike::api {
namespace {

// The plan to name in a refusal: the one that the account's plan says, else the lowest class that has the
// task (and, where a share is used up, is above the account's own).
std::string plan_to_upgrade_to(const Context& context, std::string_view task, bool above) {
  const policy::Policy& policy = *context.policy;
  const policy::Plan* own = nullptr;
  if (context.account) {
    const auto account = context.node().account(*context.account);
    own = account ? policy.plan(account->plan) : nullptr;
  }
  if (own != nullptr && !own->upgrade_to.empty()) return own->upgrade_to;
  const policy::Plan* best = nullptr;
  for (const auto& [name, plan] : policy.plans) {
    const bool higher = !above || (own != nullptr && plan.priority_class > own->priority_class);
    if (plan.has_task(task) && higher && (best == nullptr || plan.priority_class < best->priority_class))
      best = &plan;
  }
  return best != nullptr ? best->name : std::string();
}

// What an account may ask about afterwards: not its own mistakes, and not what failed.
bool is_refusal(ErrorCode code) {
  switch (code) {
    case ErrorCode::kNotInPlan:
    case ErrorCode::kQuotaExceeded:
    case ErrorCode::kCostCapReached:
    case ErrorCode::kModelNotAllowed:
    case ErrorCode::kLimitExceeded:
    case ErrorCode::kRateLimited:
    case ErrorCode::kQueueFull:
    case ErrorCode::kConcurrencyLimited:
    case ErrorCode::kUnavailable:
      return true;
    case ErrorCode::kInvalidRequest:
    case ErrorCode::kInvalidApiKey:
    case ErrorCode::kForbidden:
    case ErrorCode::kNotFound:
    case ErrorCode::kMethodNotAllowed:
    case ErrorCode::kConflict:
    case ErrorCode::kTooLarge:
    case ErrorCode::kUnprocessable:
    case ErrorCode::kIdempotencyMismatch:
    case ErrorCode::kIdempotencyInFlight:
    case ErrorCode::kUpstreamError:
    case ErrorCode::kUpstreamTimeout:
    case ErrorCode::kStale:
    case ErrorCode::kConfiguration:
    case ErrorCode::kIo:
    case ErrorCode::kInternal:
      return false;
  }
  return false;
}

}  // namespace

std::string note_refusal(const Context& context, const Error& error, Asked asked) {
  context.record->error = error_code_name(error.code);
  const bool used_up = error.code == ErrorCode::kQuotaExceeded || error.code == ErrorCode::kCostCapReached;
  const bool upgradable = error.code == ErrorCode::kNotInPlan || used_up;
  std::string better = upgradable ? plan_to_upgrade_to(context, asked.task, used_up) : std::string();
  std::string fields;
  if (upgradable) fields = ",\"upgrade_to\":" + (better.empty() ? "null" : quote(better));
  if (!context.account || !is_refusal(error.code)) return fields;
  fields += ",\"why_url\":" + quote(fmt::format("/api/requests/{}/why", context.request_id));
  context.node().note_refusal({.request_id = context.request_id,
                               .account = *context.account,
                               .at = context.now,
                               .method = context.request.method,
                               .path = context.request.path,
                               .task = std::string(asked.task),
                               .model = std::string(asked.model),
                               .plan = {},
                               .code = error.code,
                               .message = error.message,
                               .limit = error.limit,
                               .retry_after = error.retry_after,
                               .upgrade_to = std::move(better),
                               .held_by = {}});
  return fields;
}

net::Response refuse(const Context& context, const Error& error, Asked asked) {
  return error_response(error, context.wire, {.fields = note_refusal(context, error, asked), .headers = {}});
}

}  // namespace turnpike::api
