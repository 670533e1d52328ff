// What callers ask of the engine.

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

const policy::Plan& Engine::State::plan_named(std::string_view name) const {
  if (const policy::Plan* plan = policy_->plan(name)) return *plan;
  if (const policy::Plan* plan = policy_->plan(policy_->accounts.default_plan)) return *plan;
  return policy_->plans.begin()->second;
}

void Engine::State::recover(Recovery recovery, Timestamp now, Changes& out) {
  CHECK(accounts_.empty() && jobs_.empty());
  try_ids_ = IdSource(recovery.last_id);
  recent_floor_ = 0;
  for (AccountRow& row : recovery.accounts) {
    auto account = std::make_unique<Account>();
    account->plan = &plan_named(row.plan);
    account->row = std::move(row);
    by_user_[account->row.user_id] = account.get();
    accounts_.emplace(account->row.id, std::move(account));
  }
  scheduled_.set_cold();
  expiring_.set_cold();
  for (const PutQueueCount& count : recovery.queues) {
    Account* account = find_account(count.account);
    CHECK(account != nullptr);
    Queue& queue = queue_of(*account, count.pool);
    queue.window.set_cold();
    count_queued(queue, static_cast<std::int64_t>(count.queued));
    count_scheduled(queue, static_cast<std::int64_t>(count.scheduled));
    queue.told_queued = count.queued;
    queue.told_scheduled = count.scheduled;
  }
  for (JobRow& row : recovery.processing) {
    const JobId id = row.id;
    Durations& duration = took(row.task, row.provider);
    Job& job =
        jobs_.emplace(id, Job{.row = std::move(row), .body = nullptr, .took = &duration}).first->second;
    lose(job, "the server stopped while it ran", now, out);
  }
  finish(now, out);
}

Result<Engine::EnsuredAccount> Engine::State::ensure_account(std::string_view user_id, AccountId fresh_id,
                                                             std::string_view plan, bool set_plan,
                                                             Timestamp now, Changes& out) {
  if (!plan.empty() && policy_->plan(plan) == nullptr) {
    std::string known;
    for (const auto& [name, each] : policy_->plans) known += (known.empty() ? "" : ", ") + name;
    return fail(ErrorCode::kInvalidRequest, fmt::format("there is no plan `{}`; plans are: {}", plan, known),
                "plan");
  }
  const auto it = by_user_.find(std::string(user_id));
  if (it == by_user_.end()) {
    auto account = std::make_unique<Account>();
    account->row = {
        .id = fresh_id,
        .user_id = std::string(user_id),
        .plan = std::string(plan.empty() ? std::string_view(policy_->accounts.default_plan) : plan),
        .created_at = now.wall};
    account->plan = &plan_named(account->row.plan);
    out.mutations.emplace_back(PutAccount{account->row});
    by_user_[account->row.user_id] = account.get();
    EnsuredAccount answer{.row = account->row, .created = true, .previous_plan = {}};
    accounts_.emplace(fresh_id, std::move(account));
    return answer;
  }
  Account& account = *it->second;
  EnsuredAccount answer{.row = account.row, .created = false, .previous_plan = {}};
  if (!set_plan || plan.empty() || plan == account.row.plan) return answer;
  answer.previous_plan = account.row.plan;
  account.row.plan = plan;
  answer.row = account.row;
  out.mutations.emplace_back(PutAccount{account.row});
  change_plan(account, plan_named(plan), now);
  finish(now, out);
  return answer;
}

// The account's queues move to the ring of their new class, whole, whatever their length.
void Engine::State::change_plan(Account& account, const policy::Plan& plan, Timestamp now) {
  const auto before = account.plan->priority_class;
  account.plan = &plan;
  for (const auto& queue : account.queues) {
    auto& queued = queue->pool->queued;
    queued[policy::class_index(before)] -= queue->queued;
    queued[policy::class_index(plan.priority_class)] += queue->queued;
    if (queued[policy::class_index(before)] == 0) queue->pool->order.clear_credit(before);
    sync_ring(*queue, now);
  }
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
  row.pool = job.candidate.pool;
  row.priority = job.priority;
  row.dedupe_key = job.dedupe_key;
  row.task = job.task;
  row.plan = plan.name;
  row.provider = job.candidate.provider;
  row.model = job.candidate.model;
  row.model_version = job.candidate.model_version;
  row.upstream_model = job.candidate.upstream_model;
  row.max_attempts = job.max_attempts.value_or(plan.retry.standard.attempts);
  row.options = job.options;
  row.created_at = now.wall;
  row.due_at = job.run_at > now.wall ? job.run_at : kNever;
  if (plan.expire_after) row.expires_at = std::max(job.run_at, now.wall) + *plan.expire_after;
  remember(
      row,
      {.kind = HistoryKind::kSubmitted, .at = now.wall, .text = row.due_at != kNever ? "schedule" : "turn"});
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

  JobRow row = make_row(job, *account, now);
  if (!row.dedupe_key.empty()) note_changed(dedupe_subject(row.account, row.dedupe_key), out.batch);
  Durations& duration = took(row.task, row.provider);
  Job& placed =
      jobs_.emplace(job.id, Job{.row = std::move(row), .body = job.body, .took = &duration}).first->second;
  const JobRow before = placed.row;
  if (before.due_at != kNever) {
    schedule(placed, job.body, now, out);
  } else {
    enqueue(placed, job.body, now, out);
  }
  finish(now, out);

  const auto it = jobs_.find(job.id);
  if (it == jobs_.end()) {  // cold: its row is what enqueue or schedule made of it
    JobRow cold = before;
    cold.state = before.due_at != kNever ? JobState::kScheduled : JobState::kQueued;
    cold.queued_at = before.due_at != kNever ? kNever : now.wall;
    return submitted(cold, now);
  }
  // Large inputs do not stay in memory while they wait.
  Job& stays = it->second;
  if (stays.row.state != JobState::kProcessing && stays.body && stays.body->input.size() > kBodyInMemoryMax) {
    stays.body.reset();
  }
  return submitted(stays.row, now);
}

// Ends a job that waits (or waited, in a row just read): the row is final, and told.
JobRow Engine::State::end_waiting(JobRow row, JobState state, HistoryEntry entry, Timestamp now,
                                  Changes& out) {
  row.state = state;
  row.finished_at = now.wall;
  row.due_at = kNever;
  row.current_try = {};
  remember(row, std::move(entry));
  if (!row.dedupe_key.empty()) note_changed(dedupe_subject(row.account, row.dedupe_key), out.batch);
  put_job(row, nullptr, out);
  const EventType type = state == JobState::kCancelled ? EventType::kJobCancelled : EventType::kJobExpired;
  tell(type, row, now, out);
  leave_memory(row.id, out.batch);
  return row;
}

Result<JobRow> Engine::State::cancel(JobId id, std::string_view by, const ColdJob* cold, Timestamp now,
                                     Changes& out) {
  const auto it = jobs_.find(id);
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
  JobRow row = it != jobs_.end() ? it->second.row : cold->row;
  Account* account = find_account(row.account);
  CHECK(account != nullptr);
  Queue& queue = queue_of(*account, row.pool);
  switch (row.state) {
    case JobState::kQueued:
      if (it == jobs_.end() && queue.window.is_loaded({row.priority, row.id})) {
        return fail(ErrorCode::kStale, "the job changed since it was read", "id");
      }
      unqueue(queue, row, out.batch);
      if (options_.fault == Fault::kCountDrifts) count_queued(queue, 1);
      break;
    case JobState::kScheduled:
      unschedule(queue, row, out.batch);
      break;
    case JobState::kProcessing: {
      if (it == jobs_.end()) return fail(ErrorCode::kStale, "the job changed since it was read", "id");
      Try& attempt = tries_.at(row.current_try);
      attempt.stop_sent = true;
      stopping_[id] = attempt.id;
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
  row = end_waiting(std::move(row), JobState::kCancelled,
                    {.kind = HistoryKind::kCancelled, .at = now.wall, .text = std::string(by)}, now, out);
  finish(now, out);
  return row;
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
  if (stopping_.contains(cold.row.id)) {
    return fail(ErrorCode::kConflict, "the job's last attempt is still being stopped; try again in a moment",
                "id");
  }
  Account* account = find_account(cold.row.account);
  CHECK(account != nullptr);
  if (auto full = queue_full(*account)) return std::unexpected(std::move(*full));

  const JobId id = cold.row.id;
  JobRow row = std::move(cold.row);
  row.plan = account->plan->name;
  row.max_attempts = row.attempt + account->plan->retry.standard.attempts;
  row.lost = 0;
  row.first_started_at = kNever;
  row.finished_at = kNever;
  row.expires_at = account->plan->expire_after ? now.wall + *account->plan->expire_after : kNever;
  row.dedupe_key.clear();  // another live job may have it by now
  remember(row, {.kind = HistoryKind::kRetriedByUser, .at = now.wall, .text = {}});
  Durations& duration = took(row.task, row.provider);
  const JobRow before = row;
  Job& job = jobs_.emplace(id, Job{.row = std::move(row), .body = std::move(cold.body), .took = &duration})
                 .first->second;
  enqueue(job, nullptr, now, out);
  finish(now, out);
  const auto it = jobs_.find(id);
  if (it != jobs_.end()) return submitted(it->second.row, now);
  JobRow waiting = before;
  waiting.state = JobState::kQueued;
  waiting.queued_at = now.wall;
  return submitted(waiting, now);
}

void Engine::State::apply(policy::PolicyPtr policy, Timestamp now, Changes& out) {
  CHECK(policy != nullptr && !policy->plans.empty());
  const policy::PolicyPtr before =
      std::exchange(policy_, std::move(policy));  // plans of accounts still point into it
  for (const auto& [name, pool] : pools_) {
    account_for(*pool, now);
    const auto configured = policy_->pools.find(name);
    pool->slots = configured != policy_->pools.end() ? configured->second.slots : 0;
    const std::uint32_t headroom = configured != policy_->pools.end() ? configured->second.headroom : 0;
    pool->order.reshape({pool->slots, headroom, policy_->share_permille});
    touch(*pool);
  }
  for (const auto& [id, account] : accounts_) change_plan(*account, plan_named(account->row.plan), now);
  finish(now, out);
}

void Engine::State::set_draining(bool draining, Timestamp now, Changes& out) {
  draining_ = draining;
  for (const auto& [name, pool] : pools_) {
    for (const auto& [id, queue] : pool->queues) sync_ring(*queue, now);
  }
  finish(now, out);
}

}  // namespace turnpike::engine
