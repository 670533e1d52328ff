// Windows of heads, refills, and jobs that are not in memory.

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "engine/state.h"

namespace turnpike::engine {

std::size_t Engine::State::window_max() const {
  return std::clamp(options_.window_budget / std::max<std::size_t>(1, queue_count_), options_.window_min,
                    options_.window_max);
}

void Engine::State::enqueue(Job& job, JobBodyPtr first_body, Timestamp now, Changes& out) {
  JobRow& row = job.row;
  Queue& queue = queue_of(*job.account, row.pool);
  row.state = JobState::kQueued;
  row.queued_at = now.wall;
  queue.newest = std::max(queue.newest, row.id);
  count_queued(queue, 1);
  if (row.expires_at != kNever) {
    expiring_.insert({row.expires_at, row.id}, out.batch, kTimedWindowMax);
    if (expiring_.size() > 2 * kTimedWindowMax) expiring_.trim(kTimedWindowMax);
  }
  put_job(row, std::move(first_body), out);
  tell(EventType::kJobQueued, row, now, out);
  put_in_window(job, queue, now, out);
}

void Engine::State::put_in_window(Job& job, Queue& queue, Timestamp now, Changes& out) {
  const JobRow& row = job.row;
  const QueueKey key{row.priority, row.id};
  const bool forget = options_.fault == Fault::kWindowForgetful && !queue.window.complete();
  if (forget || !queue.window.insert(key, out.batch, window_max())) {
    leave_memory(row.id, out.batch);
    return;
  }
  trim(queue, out.batch);
  sync_ring(queue, now);
}

void Engine::State::move_to_queue(Job& job, Timestamp now, Changes& out) {
  Queue& queue = queue_of(*job.account, job.row.pool);
  queue.newest = std::max(queue.newest, job.row.id);
  count_queued(queue, 1);
  put_job(job.row, nullptr, out);
  put_in_window(job, queue, now, out);
}

// Heads that pile up below the watermark (ever higher priorities, retries) push the farthest out.
void Engine::State::trim(Queue& queue, Batch batch) {
  const std::size_t size_max = window_max();
  if (queue.window.size() <= 2 * size_max) return;
  for (const QueueKey& key : queue.window.trim(size_max)) leave_memory(key.second, batch);
}

void Engine::State::schedule(Job& job, JobBodyPtr first_body, Timestamp /*now*/, Changes& out) {
  JobRow& row = job.row;
  row.state = JobState::kScheduled;
  row.current_try = {};
  count_scheduled(queue_of(*job.account, row.pool), 1);
  put_job(row, std::move(first_body), out);
  if (!scheduled_.insert({row.due_at, row.id}, out.batch, kTimedWindowMax)) {
    leave_memory(row.id, out.batch);
    return;
  }
  if (scheduled_.size() <= 2 * kTimedWindowMax) return;
  for (const TimedKey& key : scheduled_.trim(kTimedWindowMax)) leave_memory(key.second, out.batch);
}

void Engine::State::unqueue(Queue& queue, const JobRow& row, Batch batch) {
  queue.window.erase({row.priority, row.id}, batch);
  count_queued(queue, -1);
}

void Engine::State::unschedule(Queue& queue, const JobRow& row, Batch batch) {
  scheduled_.erase({row.due_at, row.id}, batch);
  count_scheduled(queue, -1);
}

void Engine::State::forget_expiry(JobRow& row, Batch batch) {
  if (row.expires_at == kNever) return;
  expiring_.erase({row.expires_at, row.id}, batch);
  row.expires_at = kNever;
}

void Engine::State::leave_memory(JobId id, Batch batch) {
  note_changed(id.value, batch);
  jobs_.erase(id);
}

void Engine::State::note_changed(std::uint64_t subject, Batch batch) {
  recent_[subject] = batch;
  recent_order_.emplace_back(batch, subject);
  while (recent_order_.size() > kRecentMax) {
    const auto [oldest, gone] = recent_order_.front();
    recent_order_.pop_front();
    const auto it = recent_.find(gone);
    if (it != recent_.end() && it->second == oldest) recent_.erase(it);
    recent_floor_ = std::max(recent_floor_, oldest);
  }
}

bool Engine::State::changed_since(std::uint64_t subject, Batch read_at) const {
  if (read_at < recent_floor_) return true;
  const auto it = recent_.find(subject);
  return it != recent_.end() && it->second > read_at;
}

bool Engine::State::is_current(const ColdJob& cold) const {
  return !changed_since(cold.row.id.value, cold.at);
}

// --- Refills
// -----------------------------------------------------------------------------------------------------------------

void Engine::State::ask_refills(Queue& queue, Changes& out) {
  if (!queue.window.complete() && queue.queued == queue.window.size()) queue.window.set_complete();
  const std::size_t size_max = window_max();
  if (!queue.window.wants_refill(size_max)) return;
  const std::uint64_t ticket = next_ticket_++;
  queue.window.begin_refill(ticket);
  out.effects.emplace_back(RefillQueue{.ticket = ticket,
                                       .account = queue.account->row.id,
                                       .pool = queue.pool->name,
                                       .after = queue.window.watermark(),
                                       .limit = size_max - queue.window.size()});
}

void Engine::State::ask_timed_refills(Changes& out) {
  if (!scheduled_.complete() && scheduled_total_ == scheduled_.size()) scheduled_.set_complete();
  if (scheduled_.wants_refill(kTimedWindowMax)) {
    const std::uint64_t ticket = next_ticket_++;
    scheduled_.begin_refill(ticket);
    out.effects.emplace_back(RefillScheduled{.ticket = ticket,
                                             .after = scheduled_.watermark().value_or(TimedKey{}),
                                             .limit = kTimedWindowMax - scheduled_.size()});
  }
  if (expiring_.wants_refill(kTimedWindowMax)) {
    const std::uint64_t ticket = next_ticket_++;
    expiring_.begin_refill(ticket);
    out.effects.emplace_back(RefillExpiring{.ticket = ticket,
                                            .after = expiring_.watermark().value_or(TimedKey{}),
                                            .limit = kTimedWindowMax - expiring_.size()});
  }
}

bool Engine::State::refill_queue(const RefillQueue& request, std::vector<ColdJob> heads, Timestamp now,
                                 Changes& out) {
  Account* account = find_account(request.account);
  Queue* queue = account != nullptr ? find_queue(*account, request.pool) : nullptr;
  if (queue == nullptr) return false;
  std::vector<QueueKey> keys;
  keys.reserve(heads.size());
  for (const ColdJob& head : heads) keys.emplace_back(head.row.priority, head.row.id);
  const auto verdict =
      queue->window.end_refill(request.ticket, keys, heads.empty() ? 0 : heads.front().at, request.limit);
  if (verdict == Window<QueueKey, QueueKeyLess>::Verdict::kTaken) {
    for (ColdJob& head : heads) {
      const JobId id = head.row.id;
      if (run_is_over(head.row)) closing_.insert(head.row.run);
      queue->newest = std::max(queue->newest, id);
      Durations& duration = took(head.row.task, head.row.provider);
      const bool fresh = jobs_
                             .emplace(id, Job{.account = find_account(head.row.account),
                                              .row = std::move(head.row),
                                              .body = std::move(head.body),
                                              .took = &duration})
                             .second;
      CHECK(fresh);
    }
    sync_ring(*queue, now);
    if (queue->pool->slots == 0 || !queue->pool->paused_providers.empty()) {
      queue->pool->to_leave = true;
      touch(*queue->pool);
    }
  }
  mark(*queue);
  finish(now, out);
  return verdict == Window<QueueKey, QueueKeyLess>::Verdict::kTaken;
}

bool Engine::State::refill_scheduled(const RefillScheduled& request, std::vector<ColdJob> heads,
                                     Timestamp now, Changes& out) {
  std::vector<TimedKey> keys;
  keys.reserve(heads.size());
  for (const ColdJob& head : heads) keys.emplace_back(head.row.due_at, head.row.id);
  const auto verdict =
      scheduled_.end_refill(request.ticket, keys, heads.empty() ? 0 : heads.front().at, request.limit);
  const bool taken = verdict == Window<TimedKey>::Verdict::kTaken;
  if (taken) {
    for (ColdJob& head : heads) {
      const JobId id = head.row.id;
      if (run_is_over(head.row)) closing_.insert(head.row.run);
      Durations& duration = took(head.row.task, head.row.provider);
      const bool fresh = jobs_
                             .emplace(id, Job{.account = find_account(head.row.account),
                                              .row = std::move(head.row),
                                              .body = std::move(head.body),
                                              .took = &duration})
                             .second;
      CHECK(fresh);
    }
  }
  finish(now, out);
  return taken;
}

bool Engine::State::refill_expiring(const RefillExpiring& request, std::vector<ColdJob> heads, Timestamp now,
                                    Changes& out) {
  std::vector<TimedKey> keys;
  keys.reserve(heads.size());
  for (const ColdJob& head : heads) keys.emplace_back(head.row.expires_at, head.row.id);
  const auto verdict =
      expiring_.end_refill(request.ticket, keys, heads.empty() ? 0 : heads.front().at, request.limit);
  finish(now, out);
  return verdict == Window<TimedKey>::Verdict::kTaken;
}

Result<void> Engine::State::expire_cold(const ColdJob& cold, Timestamp now, Changes& out) {
  const auto it = jobs_.find(cold.row.id);
  if (it == jobs_.end() && !is_current(cold))
    return fail(ErrorCode::kStale, "the job changed since it was read", "id");
  const JobRow& row = it != jobs_.end() ? it->second.row : cold.row;
  if (row.state != JobState::kQueued || row.expires_at == kNever) return {};
  if (row.expires_at > now.wall) {  // the wall clock went back meanwhile
    expiring_.insert({row.expires_at, row.id}, out.batch, kTimedWindowMax);
    return {};
  }
  Queue& queue = queue_of(*find_account(row.account), row.pool);
  unqueue(queue, row, out.batch);
  sync_ring(queue, now);
  end_waiting(row, JobState::kExpired, {.kind = HistoryKind::kExpired, .at = now.wall, .text = {}}, now, out);
  finish(now, out);
  return {};
}

}  // namespace turnpike::engine
