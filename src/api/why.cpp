// GET /api/jobs/{id}/why: what decided so far, in words and in fields.
#include <algorithm>
#include <utility>

#include "api/handlers.h"
#include "api/render.h"

namespace turnpike::api {
namespace {

using engine::HistoryKind;
using engine::JobState;
using engine::WaitingFor;

std::string limit_text(std::optional<std::uint32_t> limit) {
  return limit ? fmt::to_string(*limit) : std::string("unlimited");
}

std::string_view or_else(std::string_view text, std::string_view otherwise) {
  return text.empty() ? otherwise : text;
}

std::string waiting_words(const node::JobView& job, const engine::Why& why) {
  const WaitingFor waiting =
      job.queue && job.queue->waiting_for ? *job.queue->waiting_for : WaitingFor::kTurn;
  switch (waiting) {
    case WaitingFor::kTurn:
      return fmt::format(
          "It waits for its turn in pool {}: {} of {} slots are in use, {} jobs of higher classes and {} "
          "of its own class wait there too.",
          why.pool, why.pool_running, why.pool_slots, why.pool_waiting_higher, why.pool_waiting_same);
    case WaitingFor::kConcurrencyLimit:
      return fmt::format(
          "Its account runs {} of the {} jobs that plan {} lets run at once; it starts when one of "
          "them ends.",
          why.account_running, limit_text(why.account_limit), why.plan);
    case WaitingFor::kRateLimit:
      return "Its account sends faster than its plan allows; it starts when the rate permits.";
    case WaitingFor::kProviderLimit:
      if (why.pool_claims == 0U)
        return fmt::format("No worker waits for work of provider {}; it starts when one claims it.",
                           why.pool);
      if (why.pool_down) {
        return fmt::format("Upstream {} fails, or has asked to be left alone; it starts when that is over.",
                           why.pool);
      }
      return fmt::format(
          "All {} slots of pool {} are in use; it starts when one is free and its turn has come.",
          why.pool_slots, why.pool);
    case WaitingFor::kQuota:
      return "Its account's share of this period is used; it starts when the period renews.";
    case WaitingFor::kSchedule:
      return job.row.attempt > 0 ? fmt::format("Attempt {} failed; it tries again at {}.", job.row.attempt,
                                               rfc3339(job.row.due_at))
                                 : fmt::format("It is scheduled for {}.", rfc3339(job.row.due_at));
    case WaitingFor::kDependency:
      return "It waits for what it depends on.";
    case WaitingFor::kPaused:
      if (why.pool_paused)
        return fmt::format("The operator has paused {}; it starts when that is lifted.", why.pool);
      return "Nothing is started at the moment: the server is draining or its queue is paused.";
  }
  return {};
}

std::string summary(const node::JobView& job, const engine::Why& why) {
  const engine::JobRow& row = job.row;
  const std::string failure =
      row.error ? fmt::format(" ({}: {})", row.error->code, row.error->message) : std::string();
  switch (row.state) {
    case JobState::kScheduled:
    case JobState::kQueued: {
      const std::string position = job.queue && row.state == JobState::kQueued
                                       ? fmt::format("Number {} in the queue. ", job.queue->position)
                                       : std::string();
      return position + waiting_words(job, why);
    }
    case JobState::kProcessing:
      return fmt::format(
          "It runs: attempt {} of {} at provider {}, one of the {} jobs its account runs (limit {}).",
          row.attempt, row.max_attempts, row.provider, why.account_running, limit_text(why.account_limit));
    case JobState::kCompleted:
      return fmt::format("It was completed by provider {} with model {} at attempt {}.", row.provider,
                         or_else(row.model, "of the provider's choice"), row.attempt);
    case JobState::kFailed:
      return fmt::format("It failed after {} of {} attempts{}.", row.attempt, row.max_attempts, failure);
    case JobState::kCancelled:
      return "It was cancelled.";
    case JobState::kExpired:
      return "It waited longer than its plan allows and expired.";
  }
  return {};
}

std::string_view history_word(HistoryKind kind) {
  switch (kind) {
    case HistoryKind::kSubmitted:
      return "submitted";
    case HistoryKind::kStarted:
      return "started";
    case HistoryKind::kAttemptFailed:
      return "attempt_failed";
    case HistoryKind::kRetryAt:
      return "retry_scheduled";
    case HistoryKind::kTryLost:
      return "try_lost";
    case HistoryKind::kHandedBack:
      return "handed_back";
    case HistoryKind::kCompleted:
      return "completed";
    case HistoryKind::kFailed:
      return "failed";
    case HistoryKind::kCancelled:
      return "cancelled";
    case HistoryKind::kExpired:
      return "expired";
    case HistoryKind::kRetriedByUser:
      return "retried";
    case HistoryKind::kWaitsForQuota:
      return "waits_for_quota";
    case HistoryKind::kRouted:
      return "routed";
    case HistoryKind::kFellBack:
      return "fell_back";
  }
  return {};
}

std::string history_words(const engine::HistoryEntry& entry) {
  switch (entry.kind) {
    case HistoryKind::kSubmitted:
      return entry.text.empty() ? "submitted" : fmt::format("submitted; waits for {}", entry.text);
    case HistoryKind::kStarted:
      return fmt::format("started at {}: {} of {} jobs of its account run",
                         or_else(entry.text, "its provider"), entry.a,
                         entry.b == 0 ? "unlimited" : fmt::to_string(entry.b));
    case HistoryKind::kAttemptFailed:
      return fmt::format("attempt {} failed: {}", entry.a, entry.text);
    case HistoryKind::kRetryAt:
      return fmt::format("tries again at {}", rfc3339(wall_from_micros(entry.a)));
    case HistoryKind::kTryLost:
      return fmt::format("its try was lost ({}); this does not count as an attempt",
                         or_else(entry.text, "the server stopped"));
    case HistoryKind::kHandedBack:
      return fmt::format("handed back to the queue: {}", or_else(entry.text, "the server stopped"));
    case HistoryKind::kCompleted:
      return "completed";
    case HistoryKind::kFailed:
      return fmt::format("failed for good: {}", entry.text);
    case HistoryKind::kCancelled:
      return fmt::format("cancelled by {}", or_else(entry.text, "its account"));
    case HistoryKind::kExpired:
      return "expired: it waited longer than its plan allows";
    case HistoryKind::kRetriedByUser:
      return "queued again on request";
    case HistoryKind::kWaitsForQuota:
      return fmt::format("nothing was left of {}; it is looked at again at {}", entry.text,
                         rfc3339(wall_from_micros(entry.a)));
    case HistoryKind::kRouted:
      return fmt::format("its version is the {}", entry.text);
    case HistoryKind::kFellBack:
      return fmt::format("goes on elsewhere: {}", entry.text);
  }
  return {};
}

void append_history(Buffer& out, const std::vector<engine::HistoryEntry>& history) {
  append(out, ",\"history\":[");
  for (std::size_t i = 0; i < history.size(); ++i) {
    const auto& entry = history[i];
    if (i > 0) out.push_back(',');
    append(out, "{\"at\":");
    append_time(out, entry.at);
    append(out, ",\"what\":");
    append_quoted(out, history_word(entry.kind));
    append(out, ",\"text\":");
    append_quoted(out, history_words(entry));
    switch (entry.kind) {
      case HistoryKind::kStarted:
        fmt::format_to(fmt::appender(out), ",\"active\":{},\"limit\":{}", entry.a,
                       entry.b == 0 ? "null" : fmt::to_string(entry.b));
        break;
      case HistoryKind::kAttemptFailed:
        fmt::format_to(fmt::appender(out), ",\"attempt\":{}", entry.a);
        break;
      case HistoryKind::kRetryAt:
        fmt::format_to(fmt::appender(out), ",\"retry_at\":{}", entry.a / 1'000'000);
        break;
      case HistoryKind::kTryLost:
        fmt::format_to(fmt::appender(out), ",\"lost\":{}", entry.a);
        break;
      case HistoryKind::kSubmitted:
      case HistoryKind::kHandedBack:
      case HistoryKind::kCompleted:
      case HistoryKind::kFailed:
      case HistoryKind::kCancelled:
      case HistoryKind::kExpired:
      case HistoryKind::kRetriedByUser:
      case HistoryKind::kWaitsForQuota:
      case HistoryKind::kRouted:
      case HistoryKind::kFellBack:
        break;
    }
    out.push_back('}');
  }
  out.push_back(']');
}

// How its model's version was chosen, and where its provider stands in its route.
std::string chosen_words(const engine::JobRow& row) {
  const auto routed = std::ranges::find(row.history, HistoryKind::kRouted, &engine::HistoryEntry::kind);
  if (routed == row.history.end()) return {};
  if (row.route.empty()) return fmt::format("{}; provider {} is the only one.", routed->text, row.provider);
  return fmt::format("{}; provider {} is number {} of {} in the order to try them.", routed->text,
                     row.provider, row.step + 1, row.route.size());
}

void append_chosen(Buffer& out, const engine::JobRow& row) {
  const auto member = [&out](std::string_view name, std::string_view text) {
    append(out, name);
    append_quoted_or_null(out, text);
  };
  member(",\"chosen\":{\"model\":", row.model);
  member(",\"version\":", row.model_version);
  member(",\"provider\":", row.provider);
  member(",\"upstream_model\":", row.upstream_model);
  append(out, ",\"route\":[");
  for (std::size_t i = 0; i < row.route.size(); ++i) {
    if (i > 0) out.push_back(',');
    append_quoted(out, row.route[i].provider);
  }
  member("],\"text\":", chosen_words(row));
  out.push_back('}');
}

// The limit that holds it back or ended it, and what holds most of it.
void append_limit(Buffer& out, const engine::Why& why) {
  append(out, ",\"limit\":");
  if (why.limit == nullptr) {
    append(out, "null");
  } else {
    append_limit_reached(out, *why.limit, &why.holders);
  }
}

void append_now(Buffer& out, const node::JobView& job, const engine::Why& why) {
  append(out, ",\"now\":{\"status\":");
  append_quoted(out, engine::job_state_name(job.row.state));
  append(out, ",\"plan\":");
  append_quoted(out, why.plan);
  append(out, ",\"priority_class\":");
  append_quoted(out, policy::class_name(why.priority_class));
  fmt::format_to(fmt::appender(out), ",\"account\":{{\"running\":{},\"limit\":{},\"waiting\":{}}}",
                 why.account_running, why.account_limit ? fmt::to_string(*why.account_limit) : "null",
                 why.account_waiting);
  append(out, ",\"pool\":{\"name\":");
  append_quoted(out, why.pool);
  fmt::format_to(fmt::appender(out), ",\"running\":{},\"slots\":{},\"waiting_higher\":{},\"waiting_same\":{}",
                 why.pool_running, why.pool_slots, why.pool_waiting_higher, why.pool_waiting_same);
  if (why.pool_claims) fmt::format_to(fmt::appender(out), ",\"claims\":{}", *why.pool_claims);
  fmt::format_to(fmt::appender(out), "}},\"draining\":{}", why.draining);
  append_limit(out, why);
  append_queue(out, job.queue);
  out.push_back('}');
}

}  // namespace

Handled explain_job(Context& context) {
  const auto id = parse_id<JobTag>(context.id);
  if (!id) co_return fail(ErrorCode::kNotFound, "there is no such job", "id");
  auto asking = context.node().why(*id, context.scope());
  const auto found = co_await std::move(asking);
  if (!found) co_return std::unexpected(found.error());
  const auto& [job, why] = *found;
  Buffer out;
  append(out, "{\"object\":\"why\",\"job\":");
  append_quoted(out, to_string(job.row.id));
  append(out, ",\"summary\":");
  append_quoted(out, summary(job, why));
  append_chosen(out, job.row);
  append_now(out, job, why);
  append_history(out, job.row.history);
  out.push_back('}');
  co_return json_response(200, out);
}

}  // namespace turnpike::api
