#include "simulation/transition.h"

#include <algorithm>

#include "simulation/violation.h"

namespace turnpike::simulation {

using engine::ended;
using engine::JobRow;
using engine::JobState;

namespace {

void check_identity(const JobRow& before, const JobRow& after, bool retried) {
  const std::string id = to_string(after.id);
  require(before.account == after.account, "I1", "{} went to another account", id);
  require(before.task == after.task, "I1", "{} became {} instead of {}", id, after.task, before.task);
  require(before.pool == after.pool, "I1", "{} moved from {} to {}", id, before.pool, after.pool);
  // A retried job gives its key up: another live job may have it by now.
  require(before.dedupe_key == after.dedupe_key || (retried && after.dedupe_key.empty()), "I1",
          "{} changed its key from {} to {}", id, before.dedupe_key, after.dedupe_key);
  require(before.created_at == after.created_at, "I1", "{} changed its age", id);
}

// A row that was built from a stale one forgets what happened in between.
void check_history(const JobRow& before, const JobRow& after) {
  require(after.history.size() <= engine::kHistoryMax, "bounds", "{} has a history of {}",
          to_string(after.id), after.history.size());
  if (before.history.empty()) return;
  // Looking again whether there is quota takes the place of the last look.
  if (before.history.back().kind == engine::HistoryKind::kWaitsForQuota) return;
  require(std::ranges::find(after.history, before.history.back()) != after.history.end(), "I4",
          "{} forgot the last entry of its history", to_string(after.id));
}

void check_end_of_try(const JobRow& before, const JobRow& after, const Circumstances& why) {
  if (before.state != JobState::kProcessing || after.state == JobState::kCancelled) return;
  const bool same = after.state == JobState::kProcessing && after.current_try == before.current_try;
  if (same) return;
  require(std::ranges::find(why.over, before.current_try) != why.over.end(), "I3",
          "{} became {} while its try is live", to_string(after.id), job_state_name(after.state));
  require(after.state != JobState::kCompleted || why.settled == before.current_try, "I4",
          "{} completed, but not by its live try", to_string(after.id));
}

}  // namespace

void check_transition(const JobRow* before, const JobRow& after, const Circumstances& why, Timestamp now) {
  const std::string id = to_string(after.id);
  require(after.attempt <= after.max_attempts, "attempts", "{} makes attempt {} of {}", id, after.attempt,
          after.max_attempts);
  require(after.lost <= engine::kLostMax + 1, "bounds", "{} lost {} tries", id, after.lost);
  require((after.state == JobState::kProcessing) == static_cast<bool>(after.current_try), "I3",
          "{} is {} and {} a try", id, job_state_name(after.state), after.current_try ? "has" : "lacks");
  require(after.state != JobState::kExpired || after.expires_at <= now.wall, "due", "{} expired early", id);
  if (!before) {
    require(!ended(after.state), "I1", "{} began as {}", id, job_state_name(after.state));
    return;
  }
  check_identity(*before, after, why.retried);
  check_history(*before, after);
  check_end_of_try(*before, after, why);
  if (!ended(before->state)) {
    require(after.state != JobState::kCompleted || before->state == JobState::kProcessing, "I1",
            "{} completed without running", id);
    return;
  }
  require(before->state != JobState::kCompleted, "I1", "{} had completed and changed", id);
  require(why.retried || after.state == before->state, "I4", "{} was {} and became {}", id,
          job_state_name(before->state), job_state_name(after.state));
}

void count_transition(const JobRow* before, const JobRow& after, Tally& tally) {
  if (before && before->state == after.state) return;
  switch (after.state) {
    case JobState::kScheduled:
      if (before && before->state == JobState::kProcessing) tally.add(Seen::kRetriesByBackoff);
      break;
    case JobState::kQueued:
    case JobState::kProcessing:
      break;
    case JobState::kCompleted:
      tally.add(Seen::kCompletions);
      break;
    case JobState::kFailed:
      tally.add(Seen::kFailures);
      break;
    case JobState::kCancelled:
      tally.add(before && before->state == JobState::kProcessing ? Seen::kCancelsRunning
                                                                 : Seen::kCancelsWaiting);
      break;
    case JobState::kExpired:
      tally.add(Seen::kExpired);
      break;
  }
}

}  // namespace turnpike::simulation
