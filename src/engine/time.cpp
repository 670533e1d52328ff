// What comes due by itself: timers of tries on monotonic time, schedules and expiry on wall time.

#include <algorithm>

#include "base/check.h"
#include "engine/state.h"

namespace turnpike::engine {

Engine::Advanced Engine::State::advance(Timestamp now, std::size_t work_max, Changes& out) {
  std::size_t work = 0;
  while (work < work_max && !timers_.empty() && timers_.begin()->first <= now.mono) {
    ++work;
    try_timer(timers_.begin()->second, now, out);
  }
  while (work < work_max && !patience_.empty() && patience_.begin()->first <= now.mono) {
    ++work;
    const JobId call = patience_.begin()->second;
    Error no_room{
        .code = ErrorCode::kConcurrencyLimited,
        .message =
            "no room came free in the time that the call may wait; come back, or submit a job, which waits",
        .param = {}};
    no_room.retryable = true;
    no_room.retry_after = std::chrono::seconds(1);
    const Job& job = jobs_.at(call);
    auto broken = all_broken(*job.account, *job.route, job.row.hold->amounts, now);
    give_up(call, std::move(broken).value_or(std::move(no_room)), now, out);
  }
  while (work < work_max && !rate_timers_.empty() && rate_timers_.begin()->first <= now.mono) {
    ++work;
    Account& account = *find_account(rate_timers_.begin()->second);
    rate_timers_.erase(rate_timers_.begin());
    account.rate_timer = {};
    sync_rings(account, now);
  }
  while (work < work_max && !pool_timers_.empty() && pool_timers_.begin()->first <= now.mono) {
    ++work;
    Pool& pool = *pools_by_number_.at(pool_timers_.begin()->second);
    pool_timers_.erase(pool_timers_.begin());
    pool.timer = {};
    reopen(pool, now);
  }
  while (work < work_max && !scheduled_.empty() && scheduled_.front().first <= now.wall) {
    ++work;
    due(scheduled_.front().second, now, out);
  }
  while (work < work_max && !expiring_.empty() && expiring_.front().first <= now.wall) {
    ++work;
    expire(expiring_.front().second, now, out);
  }
  finish(now, out);
  return {.more = work >= work_max};
}

std::optional<Duration> Engine::State::next_wakeup(Timestamp now) const {
  std::optional<Duration> soonest;
  const auto consider = [&soonest](Duration in) {
    in = std::max(in, Duration{0});
    soonest = soonest ? std::min(*soonest, in) : in;
  };
  if (!timers_.empty()) consider(timers_.begin()->first - now.mono);
  if (!patience_.empty()) consider(patience_.begin()->first - now.mono);
  if (!pool_timers_.empty()) consider(pool_timers_.begin()->first - now.mono);
  if (!rate_timers_.empty()) consider(rate_timers_.begin()->first - now.mono);
  if (!scheduled_.empty()) consider(scheduled_.front().first - now.wall);
  if (!expiring_.empty()) consider(expiring_.front().first - now.wall);
  return soonest;
}

void Engine::State::try_timer(TryId id, Timestamp now, Changes& out) {
  Try& attempt = tries_.at(id);
  if (attempt.lease_until <= now.mono) {
    const Try lost = attempt;
    out.effects.emplace_back(StopTry{id, StopReason::kLeaseLost});
    tries_.erase(id);
    Try released = lost;
    release(released, Gate::Verdict::kUnknown, std::nullopt, std::nullopt, now);
    if (options_.fault == Fault::kTryNotFenced) {
      released.lost = true;
      tries_.emplace(id, released);
    }
    const auto found = jobs_.find(lost.job);
    if (found != jobs_.end() && found->second.row.current_try == id) {
      lose(found->second, id, "its lease ran out", now, out);
    }
    return;
  }
  if (!attempt.stop_sent && attempt.stop_at <= now.mono) {
    attempt.stop_sent = attempt.timed_out = true;
    out.effects.emplace_back(StopTry{id, StopReason::kTimeout});
  }
  // Outlived what it was charged: charged as much again, so that long jobs pay while they run, not after.
  if (attempt.started + Duration{attempt.charged} <= now.mono) {
    account_for(*attempt.pool, now);
    const SlotTime taken = (now.mono - attempt.started).count();
    const SlotTime more = std::max(attempt.charged, taken + kCostMin - attempt.charged);
    attempt.pool->order.charge(attempt.pick, more);
    attempt.charged += more;
  }
  set_timer(attempt);
}

// A scheduled job's time has come: it waits for its turn now.
void Engine::State::due(JobId id, Timestamp now, Changes& out) {
  Job& job = jobs_.at(id);
  Account& account = *job.account;
  unschedule(queue_of(account, job.row.pool), job.row, out.batch);
  job.row.due_at = kNever;
  if (!job.row.hold && !hold_when_due(job, account, now, out)) return;
  if (!aim_anew(job, now)) {
    fail_unaffordable(job, now, out);
    return;
  }
  enqueue(job, nullptr, now, out);
}

// Accepted without a hold, for its time was far off: it takes one now. Where nothing is left, it waits for
// more; what could never be held fails. False: it does not run now.
bool Engine::State::hold_when_due(Job& job, Account& account, Timestamp now, Changes& out) {
  JobRow& row = job.row;
  policy::Route route = route_today(row);
  auto want = want_of(row, route);
  std::optional<Error> refused;
  if (!want) {
    refused = std::move(want.error());
  } else {
    refused = refusal(account, *want, now);
  }
  if (!refused) {
    row.hold = take(account, std::move(*want), false, now, out);
    // It pays what it holds: as things are priced now, not when it was accepted.
    if (job.route != nullptr) {
      route.why = job.route->why;
      route.canary = job.route->canary;
      route.canary_id = job.route->canary_id;
    }
    job.route = std::make_shared<const policy::Route>(std::move(route));
    return true;
  }
  const bool may_come =
      refused->limit != nullptr && refused->limit->resets_at && could_ever(account, *want, now);
  if (!may_come) {
    fail_job(job, {.code = error_code_name(refused->code), .message = refused->message, .provider = {}}, now,
             out);
    return false;
  }
  const Wall again = std::clamp(wall_from_seconds(*refused->limit->resets_at),
                                now.wall + std::chrono::seconds(1), now.wall + kQuotaWait);
  if (row.expires_at != kNever && now.wall >= row.expires_at) {
    end_waiting(row, JobState::kExpired, {.kind = HistoryKind::kExpired, .at = now.wall, .text = {}}, now,
                out);
    return false;
  }
  row.due_at = row.expires_at == kNever ? again : std::min(again, row.expires_at);
  HistoryEntry entry{.kind = HistoryKind::kWaitsForQuota,
                     .at = now.wall,
                     .a = unix_micros(row.due_at),
                     .text = refused->limit->scope + " " + refused->limit->meter};
  if (!row.history.empty() && row.history.back().kind == HistoryKind::kWaitsForQuota) {
    row.history.back() = std::move(entry);
  } else {
    remember(row, std::move(entry));
  }
  schedule(job, nullptr, now, out);
  return false;
}

void Engine::State::expire(JobId id, Timestamp now, Changes& out) {
  const TimedKey key = expiring_.front();
  CHECK(key.second == id);
  expiring_.erase(key, out.batch);
  const auto it = jobs_.find(id);
  if (it == jobs_.end()) {
    out.effects.emplace_back(ExpireCold{id});
    return;
  }
  if (it->second.row.state != JobState::kQueued) return;
  Queue& queue = queue_of(*it->second.account, it->second.row.pool);
  unqueue(queue, it->second.row, out.batch);
  sync_ring(queue, now);
  end_waiting(it->second.row, JobState::kExpired, {.kind = HistoryKind::kExpired, .at = now.wall, .text = {}},
              now, out);
}

}  // namespace turnpike::engine
