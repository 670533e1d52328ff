// The life of a try: started by the order, settled once, or lost with its lease.

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "engine/state.h"

namespace turnpike::engine {
namespace {

constexpr Duration kRetryAfterMax = std::chrono::hours(1);  // an upstream that asks for more is not believed

constexpr Duration kTryMin =
    std::chrono::milliseconds(1);  // a call that is picked at its deadline still starts

SlotTime cost(Duration took) {
  return std::max<SlotTime>(kCostMin, took.count());
}

// What the end of a try says of its upstream. One that was asked to stop for another reason than its time, or
// that is not heard of any more, or that never came to its upstream, says nothing: whatever it fails with may
// come of that.
Gate::Verdict verdict_of(const TryOutcome& outcome, const Try& attempt) {
  if (std::holds_alternative<TryCompleted>(outcome)) return Gate::Verdict::kServed;
  if (std::holds_alternative<TryHandedBack>(outcome)) return Gate::Verdict::kUnknown;
  if (std::holds_alternative<TryStopped>(outcome)) {
    return attempt.timed_out ? Gate::Verdict::kFailed : Gate::Verdict::kUnknown;
  }
  const auto& failed = std::get<TryFailed>(outcome);
  if (failed.unasked) return Gate::Verdict::kUnknown;
  const bool abandoned = (attempt.stop_sent && !attempt.timed_out) || failed.lost;
  switch (failed.failure) {
    case policy::FailureClass::kTransient:
    case policy::FailureClass::kTimeout:
    case policy::FailureClass::kBadOutput:
      return abandoned ? Gate::Verdict::kUnknown : Gate::Verdict::kFailed;
    case policy::FailureClass::kRateLimited:
      return Gate::Verdict::kLimited;
    case policy::FailureClass::kInvalidInput:
      return Gate::Verdict::kServed;
    case policy::FailureClass::kMisconfigured:
      return failed.key_refused ? Gate::Verdict::kRefused : Gate::Verdict::kServed;
  }
  return Gate::Verdict::kUnknown;
}

// Tokens; nothing: it is not known.
std::optional<std::int64_t> tokens_used(const TryOutcome& outcome) {
  const auto tokens = [](const Usage& usage) { return policy::amounts_of(usage)[policy::Meter::kTokens]; };
  if (const auto* completed = std::get_if<TryCompleted>(&outcome)) {
    const std::int64_t used = tokens(completed->usage);
    return used > 0 ? std::optional(used) : std::nullopt;
  }
  const auto* failed = std::get_if<TryFailed>(&outcome);
  return failed != nullptr && failed->billed ? std::optional(tokens(*failed->billed)) : std::nullopt;
}

}  // namespace

Order::Estimate Engine::State::estimate_in(const Pool& pool) const {
  return [this, &pool](AccountId account) { return cost(next_of(queue_in(account, pool)).took->mean()); };
}

void Engine::State::dispatch(Pool& pool, Timestamp now, Changes& out) {
  account_for(pool, now);
  if (pool.to_leave) leave(pool, now, out);
  if (pool.pull) return hand_out(pool, now, out);
  const Order::Estimate estimate = estimate_in(pool);
  std::size_t moves = 0;
  while (const auto pick = pool.order.next(estimate)) {
    if (begin_next(pool, *pick, moves, now, out) == Passage::kShut) return;
  }
}

Engine::State::Passage Engine::State::begin_next(Pool& pool, const Order::Pick& pick, std::size_t& moves,
                                                 Timestamp now, Changes& out) {
  Queue& queue = queue_in(pick.account, pool);
  const Passage passage = pass(pool, queue, moves, now, out);
  if (passage != Passage::kStart) return passage;
  if (const auto id = next_call(queue)) {
    Job& call = jobs_.at(*id);
    const Duration left = std::min(call.deadline - now.mono, provider_timeout(call));
    start(queue, pick, call, std::max(left, kTryMin), now, out);
    return Passage::kStart;
  }
  // A rate or a shared cap may have been used up by others since it entered the ring.
  if (blocked(queue, now)) {
    sync_ring(queue, now);
    return Passage::kAgain;
  }
  Job& job = jobs_.at(*next_job(queue));
  if (run_is_over(job.row)) {
    end_cancelled(&job, job.row, "run", now, out);
    return Passage::kAgain;
  }
  const Duration timeout = time_left(job, *queue.account->plan, now);
  if (timeout > Duration{0}) {
    start(queue, pick, job, timeout, now, out);
    return Passage::kStart;
  }
  unqueue(queue, job.row, out.batch);
  sync_ring(queue, now);
  fail_job(
      job,
      {.code = "timeout", .message = "the job's time was used up before it could run again", .provider = {}},
      now, out);
  return Passage::kAgain;
}

Duration Engine::State::provider_timeout(const Job& job) const {
  const auto provider = policy_->providers.find(job.row.provider);
  if (provider == policy_->providers.end()) return Duration::max();
  return provider->second.timeout.value_or(Duration::max());
}

Duration Engine::State::time_left(const Job& job, const policy::Plan& plan, Timestamp now) const {
  const Duration attempt =
      std::min(job.row.options.timeout.value_or(plan.attempt_timeout), provider_timeout(job));
  if (job.row.first_started_at == kNever) return std::min(attempt, plan.job_timeout);
  return std::min(attempt, job.row.first_started_at + plan.job_timeout - now.wall);
}

void Engine::State::start(Queue& queue, const Order::Pick& pick, Job& job, Duration timeout, Timestamp now,
                          Changes& out) {
  Account& account = *queue.account;
  Pool& pool = *queue.pool;
  JobRow& row = job.row;
  if (job.call) {
    queue.calls.erase(row.id);
    patience_.erase({job.patience_end, row.id});
  } else {
    unqueue(queue, row, out.batch);
    forget_expiry(row, out.batch);
    // A job of a journal from before there were holds.
    if (!row.hold) {
      const Want want{.amounts = {}, .content = {}, .price = nullptr, .cost = {}};
      row.hold = take(account, want, false, now, out);
    }
    for (Payer* payer : payers(account)) {
      if (payer != nullptr) ++payer->running;
    }
    // What goes on elsewhere has begun already.
    if (!row.falls_back) take_rates(account, job, row.hold->amounts[policy::Meter::kTokens], now);
  }

  Try attempt{.id = TryId{try_ids_.next(now.wall)},
              .job = row.id,
              .account = &account,
              .group = account.group,
              .call = job.call,
              .pool = &pool,
              .pick = pick,
              .took = job.took,
              .charged = cost(job.took->mean()),
              .started = now.mono,
              .stop_at = now.mono + timeout + options_.timeout_grace,
              .lease_until = now.mono + options_.lease,
              .timer = {}};
  if (pool.gate) {
    attempt.pass = pool.gate->begin(row.account, row.hold->amounts[policy::Meter::kTokens], now.mono);
  } else {
    pool.ungated = now.mono;
  }
  if (options_.fault == Fault::kCreditNeverSpent) attempt.pick.owed = false;
  pool.order.started(attempt.pick, attempt.charged);
  ++pool.running;

  row.state = JobState::kProcessing;
  row.current_try = attempt.id;
  row.plan = account.plan->name;
  if (!std::exchange(row.falls_back, false)) {
    ++row.attempt;
    job.tries_in_attempt = 0;
  }
  ++job.tries_in_attempt;
  row.started_at = now.wall;
  if (row.first_started_at == kNever) row.first_started_at = now.wall;
  if (row.run) run_started(row, now, out);
  job.percent = 0;
  job.progress.clear();
  const auto cap = job.call ? account.plan->limits.concurrent_calls : account.plan->limits.concurrent_jobs;
  if (!job.call) {
    remember(row, {.kind = HistoryKind::kStarted,
                   .at = now.wall,
                   .a = account.running,
                   .b = cap.value_or(0),
                   .text = row.provider});
    put_job(row, nullptr, out);
    tell(EventType::kJobStarted, row, now, out, row.provider);
  }
  auto& effect = std::get<StartTry>(out.effects.emplace_back(std::in_place_type<StartTry>));
  effect.try_id = attempt.id;
  effect.row = row;
  effect.body = job.body;
  effect.timeout = timeout;
  effect.priority_class = account.plan->priority_class;
  effect.active = job.call ? account.calls : account.running;
  effect.limit = cap;
  effect.call = job.call;
  effect.at_once = job.at_once;
  effect.output_limit = job.call   ? job.output_limit
                        : row.hold ? row.hold->amounts[policy::Meter::kOutputTokens]
                                   : 0;
  effect.upload_bytes_max = account.plan->limits.upload_bytes_max;
  if (attempt.pass) effect.key = pool.gate->key_name(attempt.pass->key);
  set_timer(tries_.emplace(attempt.id, attempt).first->second);
  sync_rings(account, now);
}

// A try has one timer: whichever of estimate outlived, timeout and lease comes first.
void Engine::State::set_timer(Try& attempt) {
  timers_.erase({attempt.timer, attempt.id});
  // An eighth of slack: a job that takes just what such jobs take is not charged twice in the instant it
  // ends.
  const Duration outlived{attempt.charged + attempt.charged / 8 + kCostMin};
  attempt.timer = std::min(attempt.lease_until, attempt.started + outlived);
  if (!attempt.stop_sent) attempt.timer = std::min(attempt.timer, attempt.stop_at);
  timers_.insert({attempt.timer, attempt.id});
}

// Gives back the slot and makes the charge what was really taken.
void Engine::State::release(Try& attempt, Gate::Verdict verdict, std::optional<std::int64_t> used,
                            std::optional<Duration> retry_after, Timestamp now) {
  if (attempt.pass && attempt.pool->memory) {
    attempt.pool->memory->end(*attempt.pass, used.value_or(attempt.pass->tokens), verdict, retry_after,
                              now.mono);
    if (!attempt.pool->kept_out.empty()) reopen(*attempt.pool, now);
  }
  account_for(*attempt.pool, now);
  const SlotTime took = cost(now.mono - attempt.started);
  attempt.pool->order.charge(attempt.pick, took - attempt.charged);
  attempt.pool->order.ended(attempt.pick, took);
  --attempt.pool->running;
  if (!attempt.call) {
    --attempt.account->running;
    --platform_.running;
    if (attempt.group != nullptr) --attempt.group->running;
  }
  timers_.erase({attempt.timer, attempt.id});
  stopping_.erase(attempt.job);
  touch(*attempt.pool);
  sync_rings(*attempt.account, now);
  let_in(platform_, now);
  if (attempt.group != nullptr) let_in(*attempt.group, now);
}

// A shared cap has room again: who it kept out is looked at anew.
void Engine::State::let_in(Group& group, Timestamp now) {
  if (group.kept_out.empty()) return;
  if (group.terms != nullptr && group.terms->concurrent_jobs &&
      group.running >= *group.terms->concurrent_jobs)
    return;
  for (const AccountId id : std::exchange(group.kept_out, {})) sync_rings(*find_account(id), now);
}

bool Engine::State::settle(TryId try_id, TryOutcome outcome, Timestamp now, Changes& out) {
  const auto it = tries_.find(try_id);
  if (it == tries_.end()) {
    correct_late(try_id, outcome, now, out);
    finish(now, out);
    return false;
  }
  Try attempt = it->second;
  tries_.erase(it);
  if (options_.fault == Fault::kCancelBreaks && attempt.stop_sent) attempt.timed_out = true;
  const Gate::Verdict verdict = verdict_of(outcome, attempt);
  if (!attempt.lost) {
    const auto* failed = std::get_if<TryFailed>(&outcome);
    release(attempt, verdict, tokens_used(outcome), failed != nullptr ? failed->retry_after : std::nullopt,
            now);
  }

  const auto found = jobs_.find(attempt.job);
  const bool believed = found != jobs_.end() && found->second.row.state == JobState::kProcessing &&
                        (found->second.row.current_try == try_id || attempt.lost);
  if (believed) {
    Job& job = found->second;
    if (auto* completed = std::get_if<TryCompleted>(&outcome)) {
      attempt.took->add(now.mono - attempt.started);
      complete(job, std::move(*completed), try_id, now, out);
    } else if (auto* failed = std::get_if<TryFailed>(&outcome)) {
      if (failed->lost && !job.call) {
        lose(job, try_id, failed->message, now, out);
      } else {
        fail_attempt(job, std::move(*failed), attempt, verdict, now, out);
      }
    } else if (auto* back = std::get_if<TryHandedBack>(&outcome); back != nullptr && !job.call) {
      const bool fits = charge_failed(job, try_id, EntryKind::kFailed, back->billed, now, out);
      --job.row.attempt;
      job.row.falls_back = false;
      remember(job.row, {.kind = HistoryKind::kHandedBack, .at = now.wall, .text = std::move(back->why)});
      fits ? requeue(job, now, out) : fail_unaffordable(job, now, out);
    } else {
      const auto* stopped = std::get_if<TryStopped>(&outcome);
      fail_attempt(job,
                   {.failure = policy::FailureClass::kTimeout,
                    .message = attempt.stop_sent ? "the attempt took longer than it may"
                                                 : "the attempt stopped without being asked to",
                    .retry_after = {},
                    .billed = stopped != nullptr ? stopped->billed : std::get<TryHandedBack>(outcome).billed},
                   attempt, verdict, now, out);
    }
  } else {
    correct_late(try_id, outcome, now, out);
  }
  finish(now, out);
  return true;
}

void Engine::State::complete(Job& job, TryCompleted outcome, TryId id, Timestamp now, Changes& out) {
  JobRow& row = job.row;
  const std::string team = row.hold ? row.hold->team : std::string();
  charge_completed(job, id, outcome.usage, now, out);
  note_canary(job, true, now, out);
  row.state = JobState::kCompleted;
  row.current_try = {};
  row.finished_at = now.wall;
  row.error.reset();
  row.output = std::move(outcome.output);
  row.artifacts = std::move(outcome.artifacts);
  row.usage = std::move(outcome.usage);
  if (job.call) {
    answer(job, team, std::nullopt, out);
    return;
  }
  remember(row, {.kind = HistoryKind::kCompleted, .at = now.wall, .text = {}});
  if (!row.dedupe_key.empty()) note_changed(dedupe_subject(row.account, row.dedupe_key), out.batch);
  put_job(row, nullptr, out);
  tell(EventType::kJobCompleted, row, now, out);
  if (row.run) job_of_run_ended(row, now, out);
  leave_memory(row.id, out.batch);
}

Duration Engine::State::retry_delay(const Job& job, const policy::Backoff& backoff,
                                    const TryFailed& outcome) const {
  std::int64_t micros = backoff.base.count();
  for (std::uint32_t i = 1; i < job.row.attempt && micros < backoff.cap.count(); ++i) {
    micros = static_cast<std::int64_t>(static_cast<__int128>(micros) * backoff.factor_permille / 1000);
  }
  micros = std::min(micros, backoff.cap.count());
  // Seeded by job and attempt: no state, and a replay gives the same.
  Random random(job.row.id.value * 31 + job.row.attempt);
  const std::int64_t spread =
      random.between(-static_cast<std::int64_t>(backoff.jitter_permille), backoff.jitter_permille);
  micros += static_cast<std::int64_t>(static_cast<__int128>(micros) * spread / 1000);
  const Duration asked = std::min(outcome.retry_after.value_or(Duration{0}), kRetryAfterMax);
  return std::max(Duration{micros}, asked);
}

void Engine::State::fail_attempt(Job& job, TryFailed outcome, const Try& attempt, Gate::Verdict verdict,
                                 Timestamp now, Changes& out) {
  JobRow& row = job.row;
  const bool fits = charge_failed(job, attempt.id, EntryKind::kFailed, outcome.billed, now, out);
  if (verdict == Gate::Verdict::kFailed) note_canary(job, false, now, out);
  if (fits && fall_back(job, outcome, attempt, now, out)) return;
  const policy::Plan& plan = *job.account->plan;
  const auto& own = plan.retry.by_class[static_cast<std::size_t>(outcome.failure)];
  const policy::Backoff backoff = row.options.backoff.value_or(plan.retry.for_class(outcome.failure));
  const std::uint32_t attempts = own ? std::min(row.max_attempts, own->attempts) : row.max_attempts;
  JobError error{.code = policy::failure_class_name(outcome.failure),
                 .message = outcome.message,
                 .provider = row.provider};
  remember(row, {.kind = HistoryKind::kAttemptFailed,
                 .at = now.wall,
                 .a = row.attempt,
                 .text = fmt::format("{}: {}", error.code, error.message)});
  if (!policy::failure_class_retryable(outcome.failure) || row.attempt >= attempts) {
    fail_job(job, std::move(error), now, out);
    return;
  }
  const Duration delay = retry_delay(job, backoff, outcome);
  if (now.wall + delay >= row.first_started_at + plan.job_timeout) {
    error.message += " (no time is left for another attempt)";
    fail_job(job, std::move(error), now, out);
    return;
  }
  if (!fits) {
    fail_unaffordable(job, now, out);
    return;
  }
  row.error = std::move(error);
  row.due_at = now.wall + delay;
  remember(row, {.kind = HistoryKind::kRetryAt, .at = now.wall, .a = unix_micros(row.due_at), .text = {}});
  schedule(job, nullptr, now, out);
}

// What its tries cost so far, or what is held for other work, leaves too little for another one.
void Engine::State::fail_unaffordable(Job& job, Timestamp now, Changes& out) {
  fail_job(job,
           {.code = error_code_name(ErrorCode::kCostCapReached),
            .message =
                fmt::format("its attempts have cost {} USD, and the cost cap leaves no room for another one",
                            to_string(job.row.cost)),
            .provider = job.row.provider},
           now, out);
}

void Engine::State::fail_job(Job& job, JobError error, Timestamp now, Changes& out) {
  JobRow& row = job.row;
  row.state = JobState::kFailed;
  row.current_try = {};
  row.due_at = kNever;
  row.finished_at = now.wall;
  if (job.call) {
    row.error = std::move(error);
    answer(job, row.hold ? row.hold->team : std::string(), std::nullopt, out);
    return;
  }
  if (options_.fault == Fault::kContentKept && row.hold) row.hold->content.clear();
  release_hold(*job.account, row, false);
  remember(row, {.kind = HistoryKind::kFailed,
                 .at = now.wall,
                 .text = fmt::format("{}: {}", error.code, error.message)});
  row.error = std::move(error);
  if (!row.dedupe_key.empty()) note_changed(dedupe_subject(row.account, row.dedupe_key), out.batch);
  put_job(row, nullptr, out);
  tell(EventType::kJobFailed, row, now, out, row.error->code);
  if (row.run) job_of_run_ended(row, now, out);
  leave_memory(row.id, out.batch);
}

void Engine::State::requeue(Job& job, Timestamp now, Changes& out) {
  job.row.current_try = {};
  enqueue(job, nullptr, now, out);
}

void Engine::State::lose(Job& job, TryId id, std::string_view why, Timestamp now, Changes& out) {
  JobRow& row = job.row;
  CHECK(row.attempt > 0);
  const bool fits = charge_failed(job, id, EntryKind::kLost, std::nullopt, now, out);
  if (job.call) {
    fail_job(job,
             {.code = policy::failure_class_name(policy::FailureClass::kTimeout),
              .message = fmt::format("the attempt was lost ({})", why),
              .provider = row.provider},
             now, out);
    return;
  }
  --row.attempt;
  row.falls_back = false;
  ++row.lost;
  remember(row, {.kind = HistoryKind::kTryLost, .at = now.wall, .a = row.lost, .text = std::string(why)});
  if (row.lost > kLostMax) {
    fail_job(job,
             {.code = "crashed",
              .message = fmt::format("the job was lost {} times while it ran ({}), and is not tried again",
                                     row.lost, why),
              .provider = row.provider},
             now, out);
    return;
  }
  fits ? requeue(job, now, out) : fail_unaffordable(job, now, out);
}

bool Engine::State::progress(TryId try_id, std::uint8_t percent, std::string_view message, Timestamp now,
                             Changes& out) {
  const auto it = tries_.find(try_id);
  if (it == tries_.end()) return false;
  const auto found = jobs_.find(it->second.job);
  if (found == jobs_.end() || found->second.row.current_try != try_id) return false;
  found->second.percent = std::min<std::uint8_t>(percent, 100);
  found->second.progress = message;
  tell(EventType::kJobProgress, found->second.row, now, out, std::string(message), found->second.percent);
  return true;
}

// In a silence of more than two thirds of a lease nobody could have extended one: the process stood still,
// and what ran meanwhile is not lost for that. Silences are extended over, never expired in.
void Engine::State::heard(Timestamp now) {
  const Duration silence = now.mono - heard_;
  heard_ = std::max(heard_, now.mono);
  if (silence <= options_.lease * 2 / 3 || options_.fault == Fault::kExpiredByPause) return;
  for (auto& [id, attempt] : tries_) {
    if (attempt.lost) continue;
    attempt.lease_until += silence;
    set_timer(attempt);
  }
}

void Engine::State::extend_leases(std::span<const TryId> tries, Timestamp now) {
  for (const TryId id : tries) {
    const auto it = tries_.find(id);
    if (it == tries_.end() || it->second.lost) continue;
    it->second.lease_until = std::max(it->second.lease_until, now.mono + options_.lease);
    set_timer(it->second);
  }
}

}  // namespace turnpike::engine
