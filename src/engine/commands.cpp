// What callers ask of jobs.

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "engine/state.h"

namespace turnpike::engine {

std::uint64_t dedupe_subject(AccountId account, std::string_view key) {
  std::uint64_t hash = 0xcbf29ce484222325ULL ^ account.value;  // FNV-1a: the same on every machine
  for (const char c : key) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash | 1;  // ids of jobs may be even or odd; a clash only costs a second read
}

std::optional<Error> Engine::State::queue_full(const Account& account) const {
  const auto& depth = account.plan->limits.queue_depth;
  if (!depth || account.waiting < *depth) return std::nullopt;
  Error error{.code = ErrorCode::kQueueFull,
              .message = fmt::format(
                  "{} jobs of this account wait already, and plan {} allows {}: come back when some "
                  "have run, or cancel some",
                  account.waiting, account.plan->name, *depth),
              .param = {}};
  error.retryable = true;
  // One job's time is when the next place is likely to be free.
  Duration soonest = std::chrono::minutes(1);
  for (const auto& queue : account.queues) {
    if (queue->window.empty()) continue;
    soonest = std::min(soonest, jobs_.at(queue->window.front().second).took->mean());
  }
  error.retry_after = std::max(std::chrono::seconds(1), std::chrono::ceil<std::chrono::seconds>(soonest));
  return error;
}

Result<std::optional<Submitted>> Engine::State::deduplicate(const NewJob& job, Timestamp now) const {
  if (job.dedupe_key.empty()) return std::nullopt;
  if (changed_since(dedupe_subject(job.account, job.dedupe_key), job.dedupe_at)) {
    return fail(ErrorCode::kStale, "the dedupe key's job changed since it was read", "dedupe_key");
  }
  if (!job.dedupe_job) return std::nullopt;
  const auto it = jobs_.find(job.dedupe_job->row.id);
  Submitted answer = submitted(it != jobs_.end() ? it->second.row : job.dedupe_job->row, now);
  answer.deduplicated = true;
  return answer;
}

JobRow Engine::State::make_row(const NewJob& job, const Account& account, Timestamp now) const {
  const policy::Plan& plan = *account.plan;
  JobRow row;
  row.id = job.id;
  row.account = job.account;
  const policy::Candidate& first = job.route->candidates.front();
  row.pool = first.pool;
  row.priority = job.priority;
  row.dedupe_key = job.dedupe_key;
  row.task = job.task;
  row.plan = plan.name;
  row.provider = first.provider;
  row.model = first.model;
  row.model_version = first.model_version;
  row.upstream_model = first.upstream_model;
  row.route = steps_of(*job.route);
  row.max_attempts = job.max_attempts.value_or(plan.retry.standard.attempts);
  row.options = job.options;
  row.content_type = job.content_type;
  row.estimate = job.estimate;
  row.created_at = now.wall;
  row.due_at = job.run_at > now.wall ? job.run_at : kNever;
  if (plan.expire_after) row.expires_at = std::max(job.run_at, now.wall) + *plan.expire_after;
  remember(
      row,
      {.kind = HistoryKind::kSubmitted, .at = now.wall, .text = row.due_at != kNever ? "schedule" : "turn"});
  if (!job.route->why.empty()) {
    remember(row, {.kind = HistoryKind::kRouted, .at = now.wall, .text = job.route->why});
  }
  return row;
}

Submitted Engine::State::submitted(const JobRow& row, Timestamp now) const {
  return {.row = row, .queue = queue_view(row, now, kSubmitWalkMax), .deduplicated = false};
}

Result<Submitted> Engine::State::submit(NewJob job, Timestamp now, Changes& out) {
  Account* account = find_account(job.account);
  if (account == nullptr) return fail(ErrorCode::kNotFound, "no such account", "account");
  auto duplicate = deduplicate(job, now);
  if (!duplicate) return std::unexpected(std::move(duplicate.error()));
  if (*duplicate) return std::move(**duplicate);
  if (auto full = queue_full(*account)) return std::unexpected(std::move(*full));
  auto want = want_of(*account, job.estimate, policy::Meter::kJobs, job.content_type, *job.route, job.extras);
  if (!want) return std::unexpected(std::move(want.error()));
  const bool due_now = job.run_at <= now.wall;
  if (due_now) {
    if (auto refused = refusal(*account, *want, now)) return std::unexpected(std::move(*refused));
  }

  const JobRow before =
      place(job, RunId{}, due_now ? std::optional(std::move(*want)) : std::nullopt, now, out);
  finish(now, out);

  const auto it = jobs_.find(job.id);
  if (it == jobs_.end()) {  // cold: its row is what enqueue or schedule made of it
    JobRow cold = before;
    cold.state = before.due_at != kNever ? JobState::kScheduled : JobState::kQueued;
    cold.queued_at = before.due_at != kNever ? kNever : now.wall;
    return submitted(cold, now);
  }
  forget_large_body(job.id);
  return submitted(it->second.row, now);
}

JobRow Engine::State::place(const NewJob& job, RunId run, std::optional<Want> held, Timestamp now,
                            Changes& out) {
  Account& account = *find_account(job.account);
  JobRow row = make_row(job, account, now);
  row.run = run;
  if (held) {
    row.hold = take(account, std::move(*held), false, now, out);
  } else if (row.due_at == kNever) {
    row.due_at = now.wall;
  }
  if (!row.dedupe_key.empty()) note_changed(dedupe_subject(row.account, row.dedupe_key), out.batch);
  Durations& duration = took(row.task, row.provider);
  CHECK(job.route->candidates.size() <= kRouteMax);
  const auto [it, fresh] = jobs_.emplace(
      job.id, Job{.account = &account, .row = std::move(row), .body = job.body, .took = &duration});
  CHECK(fresh);
  Job& placed = it->second;
  placed.route = job.route;
  CHECK(aim_anew(placed, now));  // the dearest that may serve it is held, if it is due
  const JobRow before = placed.row;
  if (before.due_at != kNever) {
    schedule(placed, job.body, now, out);
  } else {
    enqueue(placed, job.body, now, out);
  }
  return before;
}

void Engine::State::forget_large_body(JobId id) {
  const auto it = jobs_.find(id);
  if (it == jobs_.end()) return;
  Job& stays = it->second;
  if (stays.row.state != JobState::kProcessing && stays.body && stays.body->input.size() > kBodyInMemoryMax)
    stays.body.reset();
}

// Ends a job that waits (or waited, in a row just read): the row is final, and told.
JobRow Engine::State::end_waiting(JobRow row, JobState state, HistoryEntry entry, Timestamp now,
                                  Changes& out) {
  row.state = state;
  row.finished_at = now.wall;
  row.due_at = kNever;
  row.current_try = {};
  release_hold(*find_account(row.account), row, false);
  remember(row, std::move(entry));
  if (!row.dedupe_key.empty()) note_changed(dedupe_subject(row.account, row.dedupe_key), out.batch);
  put_job(row, nullptr, out);
  const EventType type = state == JobState::kCancelled ? EventType::kJobCancelled : EventType::kJobExpired;
  tell(type, row, now, out);
  if (row.run) job_of_run_ended(row, now, out);
  leave_memory(row.id, out.batch);
  return row;
}

Result<JobRow> Engine::State::cancel(JobId id, std::string_view by, const ColdJob* cold, Timestamp now,
                                     Changes& out) {
  const auto it = jobs_.find(id);
  if (it != jobs_.end() && it->second.call) return fail(ErrorCode::kNotFound, "no such job", "id");
  if (it == jobs_.end()) {
    if (cold == nullptr) return fail(ErrorCode::kNotFound, "no such job", "id");
    if (!is_current(*cold)) return fail(ErrorCode::kStale, "the job changed since it was read", "id");
    if (ended(cold->row.state)) {
      return fail(
          ErrorCode::kConflict,
          fmt::format("the job has ended already ({}); only a job that has not ended can be cancelled",
                      job_state_name(cold->row.state)),
          "id");
    }
  }
  const auto stale = [] { return fail(ErrorCode::kStale, "the job changed since it was read", "id"); };
  Job* job = it != jobs_.end() ? &it->second : nullptr;
  JobRow row = job != nullptr ? job->row : cold->row;
  Account* account = find_account(row.account);
  CHECK(account != nullptr);
  if (job == nullptr && row.state == JobState::kProcessing) return stale();
  if (job == nullptr && row.state == JobState::kQueued &&
      queue_of(*account, row.pool).window.is_loaded({row.priority, row.id}))
    return stale();
  row = end_cancelled(job, std::move(row), by, now, out);
  finish(now, out);
  return row;
}

JobRow Engine::State::end_cancelled(Job* job, JobRow row, std::string_view by, Timestamp now, Changes& out) {
  Queue& queue = queue_of(*find_account(row.account), row.pool);
  switch (row.state) {
    case JobState::kQueued:
      unqueue(queue, row, out.batch);
      if (options_.fault == Fault::kCountDrifts) count_queued(queue, 1);
      break;
    case JobState::kScheduled:
      unschedule(queue, row, out.batch);
      break;
    case JobState::kProcessing: {
      Try& attempt = tries_.at(row.current_try);
      attempt.stop_sent = true;
      stopping_[row.id] = attempt.id;
      // What it used is known when it has stopped; until then it is what was held.
      charge_failed(*job, attempt.id, EntryKind::kLost, std::nullopt, now, out);
      row = job->row;
      out.effects.emplace_back(StopTry{attempt.id, StopReason::kCancelled});
      break;
    }
    case JobState::kCompleted:
    case JobState::kFailed:
    case JobState::kCancelled:
    case JobState::kExpired:
      CHECK(false);
  }
  forget_expiry(row, out.batch);
  sync_ring(queue, now);
  return end_waiting(std::move(row), JobState::kCancelled,
                     {.kind = HistoryKind::kCancelled, .at = now.wall, .text = std::string(by)}, now, out);
}

Result<Submitted> Engine::State::retry(ColdJob cold, Timestamp now, Changes& out) {
  const auto not_ended = [] {
    return fail(ErrorCode::kConflict, "the job has not ended; it needs no retry, or cancel it first", "id");
  };
  if (jobs_.contains(cold.row.id)) return not_ended();
  if (!is_current(cold)) return fail(ErrorCode::kStale, "the job changed since it was read", "id");
  if (!ended(cold.row.state)) return not_ended();
  if (cold.row.state == JobState::kCompleted) {
    return fail(ErrorCode::kConflict, "the job has completed; submit a new one to run it again", "id");
  }
  if (cold.row.run) {
    return fail(ErrorCode::kConflict,
                fmt::format("the job is a step of {0}: POST /api/runs/{0}/retry goes on with that, and runs "
                            "nothing again that has completed",
                            to_string(cold.row.run)),
                "id");
  }
  if (stopping_.contains(cold.row.id)) {
    return fail(ErrorCode::kConflict, "the job's last attempt is still being stopped; try again in a moment",
                "id");
  }
  Account* account = find_account(cold.row.account);
  CHECK(account != nullptr);
  if (auto full = queue_full(*account)) return std::unexpected(std::move(*full));
  auto route = std::make_shared<const policy::Route>(route_today(cold.row));
  auto want = want_of(cold.row, *route);
  if (!want) return std::unexpected(std::move(want.error()));
  if (auto refused = refusal(*account, *want, now)) return std::unexpected(std::move(*refused));

  const JobId id = cold.row.id;
  JobRow row = std::move(cold.row);
  row.hold = take(*account, std::move(*want), false, now, out);
  make_fresh(row, *account, now);
  Durations& duration = took(row.task, row.provider);
  Job& job =
      jobs_
          .emplace(
              id,
              Job{.account = account, .row = std::move(row), .body = std::move(cold.body), .took = &duration})
          .first->second;
  job.route = std::move(route);
  CHECK(aim_anew(job, now));  // as in submit()
  const JobRow before = job.row;
  enqueue(job, nullptr, now, out);
  finish(now, out);
  const auto it = jobs_.find(id);
  if (it != jobs_.end()) return submitted(it->second.row, now);
  JobRow waiting = before;
  waiting.state = JobState::kQueued;
  waiting.queued_at = now.wall;
  return submitted(waiting, now);
}

void Engine::State::make_fresh(JobRow& row, const Account& account, Timestamp now) {
  row.plan = account.plan->name;
  row.max_attempts = row.attempt + account.plan->retry.standard.attempts;
  row.lost = 0;
  row.first_started_at = kNever;
  row.finished_at = kNever;
  row.expires_at = account.plan->expire_after ? now.wall + *account.plan->expire_after : kNever;
  row.dedupe_key.clear();  // another live job may have it by now
  remember(row, {.kind = HistoryKind::kRetriedByUser, .at = now.wall, .text = {}});
}

void Engine::State::set_draining(bool draining, Timestamp now, Changes& out) {
  draining_ = draining;
  // Who waits for a call is told to go elsewhere.
  while (draining && !patience_.empty()) {
    Error error{.code = ErrorCode::kUnavailable,
                .message = "the server is stopping; try again in a moment",
                .param = {}};
    error.retryable = true;
    error.retry_after = std::chrono::seconds(5);
    give_up(patience_.begin()->second, std::move(error), now, out);
  }
  for (const auto& [name, pool] : pools_) {
    for (const auto& [id, queue] : pool->queues) sync_ring(*queue, now);
  }
  finish(now, out);
}

}  // namespace turnpike::engine
