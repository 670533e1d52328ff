#include "simulation/judge.h"

#include <algorithm>

#include "simulation/violation.h"

namespace turnpike::simulation {

using engine::PeriodRow;
using policy::Meter;

namespace {

policy::Amounts wanted(const Asked& asked) {
  policy::Amounts amounts = asked.estimate;
  amounts[asked.count] = 1;
  return amounts;
}

Money wanted_cost(const Asked& asked) {
  return asked.price ? policy::cost_at_most(*asked.price, asked.estimate).value_or(Money{}) : Money{};
}

}  // namespace

std::set<ErrorCode> Judge::not_allowed(const Asked& asked) const {
  std::set<ErrorCode> reasons;
  const policy::Plan& plan = promises_->plan_of(asked.account);
  if (!asked.content.empty() && plan.content_types &&
      std::ranges::find(*plan.content_types, asked.content) == plan.content_types->end())
    reasons.insert(ErrorCode::kNotInPlan);
  if (!promises_->hard_stop(asked.account)) return reasons;
  if (!asked.price || !policy::unpriced(*asked.price, asked.estimate).empty())
    reasons.insert(ErrorCode::kModelNotAllowed);
  if (!asked.extras.empty()) reasons.insert(ErrorCode::kInvalidRequest);
  return reasons;
}

Judge::Sought Judge::sought(const Asked& asked) {
  Sought found{.amounts = wanted(asked), .cost = wanted_cost(asked), .content = {}};
  if (!asked.content.empty()) found.content[asked.content] = 1;
  return found;
}

std::set<ErrorCode> Judge::spent(const Asked& asked, Timestamp now) const {
  return spent(asked.account, sought(asked), now);
}

std::set<ErrorCode> Judge::spent(const std::vector<Asked>& all, Timestamp now) const {
  Sought sum;
  for (const Asked& each : all) {
    const Sought one = sought(each);
    sum.amounts += one.amounts;
    sum.cost += one.cost;
    for (const auto& [type, count] : one.content) sum.content[type] += count;
  }
  return all.empty() ? std::set<ErrorCode>{} : spent(all.front().account, sum, now);
}

std::set<ErrorCode> Judge::spent(AccountId account, const Sought& sought, Timestamp now) const {
  std::set<ErrorCode> reasons;
  static const PeriodRow kNothingYet;
  for (const Who& who : promises_->payers(account)) {
    const PeriodRow* last = books_->last(who);
    const PeriodRow* open = books_->current(who, now.wall);
    const PeriodRow& row = open != nullptr ? *open : kNothingYet;
    for (std::size_t i = 0; i < policy::kMeterCount; ++i) {
      if (sought.amounts.of[i] == 0) continue;
      const auto limit = promises_->limit(who, static_cast<Meter>(i), last, now.wall);
      if (limit && row.used.of[i] + row.held.of[i] + sought.amounts.of[i] > *limit)
        reasons.insert(ErrorCode::kQuotaExceeded);
    }
    for (const auto& [type, count] : sought.content) {
      const auto limit = promises_->limit(who, type, last, now.wall);
      const auto told = std::ranges::find(row.content, type, &PeriodRow::Content::type);
      const std::int64_t taken = told == row.content.end() ? 0 : told->used + told->held;
      if (limit && taken + count > *limit) reasons.insert(ErrorCode::kQuotaExceeded);
    }
    const auto& cap = promises_->of(who).cost_cap;
    if (cap && cap->hard_stop &&
        row.cost_used + row.cost_held + sought.cost > *promises_->cap(who, last, now.wall))
      reasons.insert(ErrorCode::kCostCapReached);
  }
  return reasons;
}

std::set<ErrorCode> Judge::too_fast(const Asked& asked, Timestamp now) const {
  std::set<ErrorCode> reasons;
  for (const Who& who : promises_->payers(asked.account)) {
    const policy::Rates& rates = promises_->of(who).rates;
    if (rates_->wait(who, rates, asked.estimate[Meter::kTokens], now.mono) > Duration{0})
      reasons.insert(ErrorCode::kRateLimited);
    const auto cap = promises_->concurrent_calls(who);
    if (cap && calls_->at_once(who) >= *cap) reasons.insert(ErrorCode::kConcurrencyLimited);
  }
  return reasons;
}

bool Judge::near_the_end(const Asked& asked, Timestamp now) const {
  const auto near = [](std::int64_t taken, std::int64_t limit) { return taken > limit - limit / 10; };
  const policy::Amounts amounts = wanted(asked);
  for (const Who& who : promises_->payers(asked.account)) {
    const PeriodRow* row = books_->current(who, now.wall);
    if (row == nullptr) continue;
    for (std::size_t i = 0; i < policy::kMeterCount; ++i) {
      const auto limit = promises_->limit(who, static_cast<Meter>(i), row, now.wall);
      if (limit && amounts.of[i] > 0 && near(row->used.of[i] + row->held.of[i] + amounts.of[i], *limit))
        return true;
    }
    const auto& cap = promises_->of(who).cost_cap;
    if (cap && cap->hard_stop &&
        near((row->cost_used + row->cost_held + wanted_cost(asked)).nanos,
             promises_->cap(who, row, now.wall)->nanos))
      return true;
  }
  return false;
}

engine::Hold Judge::hold_of(const Asked& asked, std::uint64_t price_version, Timestamp now) const {
  engine::Hold hold;
  hold.amounts = wanted(asked);
  hold.cost = wanted_cost(asked);
  hold.content = asked.content;
  hold.team = promises_->team_of(asked.account);
  hold.price = asked.price;
  hold.price_version = price_version;
  hold.may_bill = asked.remote || (asked.price && !asked.price->free());
  for (const Who& who : promises_->payers(asked.account)) {
    const PeriodRow* row = books_->current(who, now.wall);
    const PeriodRow* last = books_->last(who);
    Wall start = row != nullptr ? row->start : promises_->period(who, now.wall).start;
    if (row == nullptr && last != nullptr) start = std::max(start, last->end);
    if (who.scope == engine::Scope::kAccount) hold.account_period = start;
    if (who.scope == engine::Scope::kTeam) hold.team_period = start;
    if (who.scope == engine::Scope::kPlatform) hold.platform_period = start;
  }
  return hold;
}

void Judge::check_retry_after(const Asked& asked, const Error& error, Timestamp now) const {
  require(error.retry_after && error.limit, "rates", "a refusal for a rate does not say when to come back");
  for (const Who& who : promises_->payers(asked.account)) {
    if (error.limit->scope != engine::scope_name(who.scope)) continue;
    const policy::Rates& rates = promises_->of(who).rates;
    const std::int64_t tokens = asked.estimate[Meter::kTokens];
    const Duration wait = rates_->wait(who, rates, tokens, now.mono);
    require(wait > Duration{0}, "rates", "{} is named as too fast, and is not", to_string(who));
    require(rates_->wait(who, rates, tokens, now.mono + *error.retry_after) == Duration{0}, "rates",
            "{}: who comes back after {} s is refused again", to_string(who), error.retry_after->count());
    require(
        *error.retry_after < wait + std::chrono::seconds(1) || *error.retry_after == std::chrono::seconds(1),
        "rates", "{}: {} s are asked for, and {} us would do", to_string(who), error.retry_after->count(),
        wait.count());
  }
}

}  // namespace turnpike::simulation
