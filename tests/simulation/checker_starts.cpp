// What the checker asks of every start: caps, rates, room and order (I2, I3, I7).
#include <algorithm>

#include "simulation/checker.h"
#include "simulation/violation.h"

namespace turnpike::simulation {

using engine::JobRow;
using policy::class_index;
using policy::PriorityClass;

bool Checker::may_run(const QueueName& name, const WaitingJobs& waiting, Timestamp now) const {
  if (waiting.queued.empty()) return false;
  if (const auto refills = refills_.find(name); refills != refills_.end() && !refills->second.empty())
    return false;
  const JobRow* first = ledger_.job(waiting.queued.begin()->second);
  const std::int64_t tokens = first->hold ? first->hold->amounts[policy::Meter::kTokens] : 0;
  for (const Who& who : promises_.payers(name.first)) {
    const auto cap = promises_.concurrent_jobs(who);
    if (cap && running_jobs(who) >= *cap) return false;
  }
  for (const Who& who : promises_.payers(name.first)) {
    const policy::Rates& rates = promises_.of(who).rates;
    if (!rates.any()) continue;
    if (behind_ || rates_.wait(who, rates, tokens, now.mono - Duration{1}) > Duration{0}) {
      tally_->add(Seen::kRateDelays);
      return false;
    }
  }
  return true;
}

std::uint32_t Checker::running_jobs(const Who& who) const {
  if (who.scope == engine::Scope::kAccount) return running(who.account);
  if (who.scope == engine::Scope::kPlatform) return live_jobs_;
  const auto it = live_by_team_.find(who.team);
  return it == live_by_team_.end() ? 0 : it->second;
}

bool Checker::higher_class_waits(const std::string& pool, PriorityClass own, Timestamp now) const {
  return std::ranges::any_of(ledger_.queues(),
                             [&](const auto& each) {
                               return each.first.second == pool &&
                                      plan_of(each.first.first).priority_class > own &&
                                      may_run(each.first, each.second, now);
                             }) ||
         std::ranges::any_of(calls_.waiting(), [&](const auto& each) {
           return each.first.second == pool && !each.second.empty() &&
                  plan_of(each.first.first).priority_class > own;
         });
}

void Checker::see_start(const JobRow& row, Timestamp now) {
  const std::string id = to_string(row.id);
  for (const Who& who : promises_.payers(row.account)) {
    const auto cap = promises_.concurrent_jobs(who);
    require(!cap || running_jobs(who) < *cap, "I2", "{} started: {} of {} running of {}", id,
            running_jobs(who), cap.value_or(0), to_string(who));
    const policy::Rates& rates = promises_.of(who).rates;
    if (!rates.any()) continue;
    const std::int64_t tokens = row.hold ? row.hold->amounts[policy::Meter::kTokens] : 0;
    require(rates_.wait(who, rates, tokens, now.mono) == Duration{0}, "rates",
            "{} started too early for the rates of {}", id, to_string(who));
    rates_.took(who, rates, row.id, tokens, now.mono);
  }
  if (const auto rest = ledger_.queues().find({row.account, row.pool});
      rest != ledger_.queues().end() && !rest->second.queued.empty()) {
    const engine::QueueKey& best = *rest->second.queued.begin();
    require(BestFirst{}({row.priority, row.id}, best), "I7", "{} started before {} of the same account", id,
            to_string(best.second));
  }
  const auto calls = calls_.waiting().find({row.account, row.pool});
  require(calls == calls_.waiting().end() || calls->second.empty(), "I7",
          "{} started before a call of its account", id);
  begin_try(row.current_try, {.job = row.id, .account = row.account, .pool = row.pool}, now);
}

void Checker::see_call_start(const engine::StartTry& start, Timestamp now) {
  const JobRow& row = start.row;
  calls_.start(start, plan_of(row.account).limits.concurrent_calls.value_or(0));
  begin_try(start.try_id, {.job = row.id, .account = row.account, .pool = row.pool, .call = true}, now);
}

void Checker::begin_try(TryId try_id, LiveTry attempt, Timestamp now) {
  const PriorityClass own = plan_of(attempt.account).priority_class;
  const policy::Pool* own_pool = pool(attempt.pool);
  const std::string id = to_string(attempt.job);
  tally_->add(Seen::kStarts);
  require(!draining_, "drain", "{} started while draining", id);
  require(try_id && decided_.insert(try_id).second, "I4", "the id of {} was used before", to_string(try_id));
  require(!live_by_job_.contains(attempt.job), "I3", "{} started with a live try", id);
  PoolBooks& books = pools_[attempt.pool];
  require(own_pool != nullptr && books.running < own_pool->slots, "I2", "{} started in the full pool {}", id,
          attempt.pool);
  require(!below_high(own) || books.running_low + own_pool->headroom < own_pool->slots, "I7",
          "{} started within the headroom of {}", id, attempt.pool);
  attempt.before_higher = higher_class_waits(attempt.pool, own, now);
  if (attempt.before_higher) {
    tally_->add(Seen::kOwedStarts);
    const std::size_t c = class_index(own);
    // What it may be owed: its share of what was consumed, and what could have piled up before these books
    // began.
    const std::int64_t slack =
        4 * std::int64_t{own_pool->slots} * std::max<std::int64_t>(longest_.count(), 1'000'000);
    require(books.share_max[c] > 0 && books.spent[c] <= books.earned_permille[c] / 1000 + slack, "I7",
            "{} of class {} started before a higher class, which it was not owed (share {}, took {} us, owed "
            "{} us)",
            id, policy::class_name(own), books.share_max[c], books.spent[c], books.earned_permille[c] / 1000);
  }
  ++books.running;
  if (below_high(own)) ++books.running_low;
  attempt.team = promises_.team_of(attempt.account);
  if (!attempt.call) {
    ++live_by_account_[attempt.account];
    ++live_by_team_[attempt.team];
    ++live_jobs_;
  }
  live_by_job_[attempt.job] = try_id;
  attempt.priority_class = own;
  attempt.started = now.mono;
  attempt.lease_until = now.mono + options_.lease;
  live_[try_id] = std::move(attempt);
}

void Checker::see_starts(const engine::Changes& out) const {
  for (const auto& effect : out.effects) {
    if (const auto* start = std::get_if<engine::StartTry>(&effect)) {
      require(start->timeout > Duration::zero(), "start", "{} has no time to run", to_string(start->row.id));
      if (start->call) continue;
      const auto cap = plan_of(start->row.account).limits.concurrent_jobs;
      require(start->limit == cap, "I2", "{} was started with limit {} instead of {}",
              to_string(start->row.id), start->limit.value_or(0), cap.value_or(0));
      require(start->active <= running(start->row.account), "I2", "{} was started as number {} of {}",
              to_string(start->row.id), start->active, running(start->row.account));
    }
  }
}

}  // namespace turnpike::simulation
