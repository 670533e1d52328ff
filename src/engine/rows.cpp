#include "engine/rows.h"

#include <tuple>

#include "engine/engine.h"

namespace turnpike::engine {

bool operator==(const JobOptions& a, const JobOptions& b) {
  const auto same = [](const policy::Backoff& x, const policy::Backoff& y) {
    return x.base == y.base && x.factor_permille == y.factor_permille && x.cap == y.cap &&
           x.jitter_permille == y.jitter_permille && x.attempts == y.attempts;
  };
  if (a.timeout != b.timeout || a.webhook != b.webhook || a.backoff.has_value() != b.backoff.has_value())
    return false;
  return !a.backoff || same(*a.backoff, *b.backoff);
}

const char* job_state_name(JobState s) {
  switch (s) {
    case JobState::kScheduled:
      return "scheduled";
    case JobState::kQueued:
      return "queued";
    case JobState::kProcessing:
      return "processing";
    case JobState::kCompleted:
      return "completed";
    case JobState::kFailed:
      return "failed";
    case JobState::kCancelled:
      return "cancelled";
    case JobState::kExpired:
      return "expired";
  }
  return "failed";
}

const char* step_state_name(StepState s) {
  switch (s) {
    case StepState::kWaiting:
      return "waiting";
    case StepState::kRunning:
      return "running";
    case StepState::kCompleted:
      return "completed";
    case StepState::kSkipped:
      return "skipped";
    case StepState::kFailed:
      return "failed";
    case StepState::kCancelled:
      return "cancelled";
  }
  return "failed";
}

const char* event_type_name(EventType t) {
  switch (t) {
    case EventType::kJobQueued:
      return "job.queued";
    case EventType::kJobStarted:
      return "job.started";
    case EventType::kJobProgress:
      return "job.progress";
    case EventType::kJobCompleted:
      return "job.completed";
    case EventType::kJobFailed:
      return "job.failed";
    case EventType::kJobCancelled:
      return "job.cancelled";
    case EventType::kJobExpired:
      return "job.expired";
    case EventType::kUsageThreshold:
      return "usage.threshold";
    case EventType::kPlanChanged:
      return "account.plan_changed";
    case EventType::kModelDiscovered:
      return "model.discovered";
    case EventType::kPolicyChanged:
      return "policy.changed";
    case EventType::kAlertRaised:
      return "alert.raised";
    case EventType::kAlertCleared:
      return "alert.cleared";
    case EventType::kRunStarted:
      return "run.started";
    case EventType::kRunCompleted:
      return "run.completed";
    case EventType::kRunFailed:
      return "run.failed";
    case EventType::kRunCancelled:
      return "run.cancelled";
    case EventType::kStepQueued:
      return "run.step.queued";
    case EventType::kStepCompleted:
      return "run.step.completed";
    case EventType::kStepSkipped:
      return "run.step.skipped";
    case EventType::kStepFailed:
      return "run.step.failed";
  }
  return "job.failed";
}

bool operator==(const Hold& a, const Hold& b) {
  const bool same_price = a.price == b.price || (a.price && b.price && *a.price == *b.price);
  const auto rest = [](const Hold& hold) {
    return std::tie(hold.amounts, hold.cost, hold.content, hold.team, hold.account_period, hold.team_period,
                    hold.platform_period, hold.price_version, hold.may_bill);
  };
  return same_price && rest(a) == rest(b);
}

const char* scope_name(Scope scope) {
  switch (scope) {
    case Scope::kAccount:
      return "account";
    case Scope::kTeam:
      return "team";
    case Scope::kPlatform:
      return "platform";
  }
  return "platform";
}

const char* entry_kind_name(EntryKind kind) {
  switch (kind) {
    case EntryKind::kCompleted:
      return "completed";
    case EntryKind::kFailed:
      return "failed";
    case EntryKind::kLost:
      return "lost";
    case EntryKind::kReversal:
      return "reversal";
    case EntryKind::kCorrection:
      return "correction";
    case EntryKind::kCallsLost:
      return "calls_lost";
  }
  return "failed";
}

const char* waiting_for_name(WaitingFor w) {
  switch (w) {
    case WaitingFor::kTurn:
      return "turn";
    case WaitingFor::kConcurrencyLimit:
      return "concurrency_limit";
    case WaitingFor::kRateLimit:
      return "rate_limit";
    case WaitingFor::kProviderLimit:
      return "provider_limit";
    case WaitingFor::kQuota:
      return "quota";
    case WaitingFor::kSchedule:
      return "schedule";
    case WaitingFor::kDependency:
      return "dependency";
    case WaitingFor::kPaused:
      return "paused";
  }
  return "turn";
}

}  // namespace turnpike::engine
