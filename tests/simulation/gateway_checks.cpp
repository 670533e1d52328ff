// What must hold after each command.
#include <algorithm>

#include "simulation/gateway.h"
#include "simulation/violation.h"

namespace turnpike::simulation {

using engine::JobState;
using engine::PeriodRow;
using policy::Meter;

void Gateway::check() {
  check_books();
  check_holders();
  check_shared_slots();
  // Who has too many tokens for the keys now keeps his turn, and others behind it.
  const auto idle = count_tokens_ ? std::nullopt : engine_->startable(now_);
  require(!idle, "I10", "{} could start", to_string(idle.value_or(JobId{})));
  for (const auto& pool : engine_->stats().pools) {
    const auto provider = policy_.providers.find(pool.name);
    if (provider == policy_.providers.end() || !provider->second.breaker) continue;
    const bool open = model_.breaker_open(pool.name, now_.mono);
    require(pool.breaker_open == open, "upstreams", "the breaker of {} is {}, and should be {}", pool.name,
            pool.breaker_open ? "open" : "shut", open ? "open" : "shut");
  }
  const auto tries = engine_->live_tries();
  require(tries.size() == live_.size(), "I3", "{} tries are live, {} by recount", tries.size(), live_.size());
}

// What jobs hold is in their rows, and what more is held fits the limits (I5, I6).
void Gateway::check_books() {
  std::map<AccountId, Money> by_rows, by_books;
  for (const auto& [id, row] : rows_)
    if (row.hold) by_rows[row.account] += row.hold->cost;
  std::map<PeriodKey, PeriodRow> now;
  for (const PeriodRow& row : engine_->periods()) {
    const PeriodKey key{row.scope, row.account, row.start};
    const auto before = seen_.find(key);
    const Money held_before = before == seen_.end() ? Money{} : before->second.cost_held;
    now.emplace(key, row);
    require(row.cost_held >= Money{} && row.cost_used >= Money{}, "I5", "less than nothing is held or used");
    if (row.scope != engine::Scope::kAccount) continue;
    by_books[row.account] += row.cost_held - row.cost_calls_held;
    const auto& promise = engine_->plan_of(row.account).promise;
    if (promise.cost_cap && promise.cost_cap->hard_stop && row.cost_held > held_before)
      require(row.cost_used + row.cost_held <= promise.cost_cap->monthly + row.cost_debt, "I5",
              "{} + {} USD are used and held, and {} may be", to_string(row.cost_used),
              to_string(row.cost_held), to_string(promise.cost_cap->monthly));
    const auto& tokens = promise.quotas.meters[policy::index_of(Meter::kTokens)];
    const std::int64_t tokens_before = before == seen_.end() ? 0 : before->second.held[Meter::kTokens];
    if (tokens && row.held[Meter::kTokens] > tokens_before)
      require(row.used[Meter::kTokens] + row.held[Meter::kTokens] <= *tokens + row.debt[Meter::kTokens], "I5",
              "{} + {} tokens are used and held, and {} may be", row.used[Meter::kTokens],
              row.held[Meter::kTokens], *tokens);
  }
  for (const AccountId id : accounts_)
    require(by_rows[id] == by_books[id], "I6", "{} holds {} USD for jobs, and their rows {}", to_string(id),
            to_string(by_books[id]), to_string(by_rows[id]));
  seen_ = std::move(now);
}

// What runs holds what it may cost where it runs.
void Gateway::check_holders() {
  std::map<JobId, engine::Holder> holders;
  for (const AccountId id : accounts_) {
    Money sum;
    for (const engine::Holder& holder : engine_->holders(id, SIZE_MAX).most) {
      require(!holder.call || calls_.contains(holder.job), "I5", "{} has been answered and holds something",
              to_string(holder.job));
      sum += holder.cost;
      holders.emplace(holder.job, holder);
    }
    Money held;
    for (const auto& [key, row] : seen_)
      if (row.scope == engine::Scope::kAccount && row.account == id) held += row.cost_held;
    require(sum == held, "I6", "{} holds {} USD, and its work {}", to_string(id), to_string(held),
            to_string(sum));
  }
  for (const auto& [id, live] : live_) {
    const auto holder = holders.find(live.job);
    if (live.cancelled || holder == holders.end() || !live.price) continue;
    const auto most = policy::cost_at_most(*live.price, holder->second.amounts);
    require(most && *most <= holder->second.cost, "I5", "{} may cost {} USD at {}, and holds {}",
            to_string(live.job), to_string(most.value_or(Money{})), live.provider,
            to_string(holder->second.cost));
  }
}

// In slots that are shared a provider that is paused holds back its own work, and nobody else's.
void Gateway::check_shared_slots() const {
  const auto pool = policy_.pools.find(kSharedPool);
  const auto running = std::ranges::count_if(live_, [](const auto& each) { return each.second.shared; });
  if (pool == policy_.pools.end() || static_cast<std::uint32_t>(running) >= pool->second.slots) return;
  for (const auto& [id, row] : rows_) {
    const bool waits = row.state == JobState::kQueued && row.pool == kSharedPool;
    require(!waits || overlay_.provider_paused(row.provider), "I10",
            "{} waits for {} though shared slots are free", to_string(id), row.provider);
  }
}

}  // namespace turnpike::simulation
