#include "simulation/promises.h"

#include <algorithm>

namespace turnpike::simulation {

using engine::Grant;
using engine::PeriodRow;
using engine::Scope;
using policy::Meter;

namespace {

bool gives_cost(const Grant& grant) {
  return !grant.meter && grant.content.empty();
}

bool expired(const Grant& grant, Wall at) {
  return grant.expires_at != kNever && grant.expires_at <= at;
}

// Takes `beyond` out of those grants that are meant, in the order in which they expire.
template <typename Meant>
void pay(std::vector<Grant>& grants, std::int64_t beyond, const PeriodRow& period, const Meant& meant) {
  while (beyond > 0) {
    Grant* first = nullptr;
    for (Grant& grant : grants) {
      const bool was_there = grant.granted_at < period.end && !expired(grant, period.start);
      if (!meant(grant) || !was_there || grant.spent >= grant.amount) continue;
      const auto lasts = [](const Grant& g) { return g.expires_at == kNever ? Wall::max() : g.expires_at; };
      if (first == nullptr || lasts(grant) < lasts(*first) ||
          (lasts(grant) == lasts(*first) && grant.id < first->id))
        first = &grant;
    }
    if (first == nullptr) return;
    const std::int64_t part = std::min(beyond, first->amount - first->spent);
    first->spent += part;
    beyond -= part;
  }
}

template <typename Meant>
std::int64_t left(const std::vector<Grant>& grants, Wall now, const Meant& meant) {
  std::int64_t sum = 0;
  for (const Grant& grant : grants)
    if (meant(grant) && !expired(grant, now)) sum += std::max<std::int64_t>(0, grant.amount - grant.spent);
  return sum;
}

}  // namespace

std::string to_string(const Who& who) {
  if (who.scope == Scope::kAccount) return to_string(who.account);
  return who.scope == Scope::kTeam ? "team " + who.team : "the platform";
}

std::vector<Grant> after_period(std::vector<Grant> grants, const policy::Promise& promise,
                                const PeriodRow& period) {
  for (std::size_t i = 0; i < policy::kMeterCount; ++i) {
    if (const auto& quota = promise.quotas.meters[i]) {
      pay(grants, period.used.of[i] + period.held.of[i] - *quota, period,
          [i](const Grant& g) { return g.meter && policy::index_of(*g.meter) == i; });
    }
  }
  for (const auto& content : period.content) {
    const auto quota = promise.quotas.content.find(content.type);
    if (quota == promise.quotas.content.end() || !quota->second) continue;
    pay(grants, content.used + content.held - *quota->second, period,
        [&](const Grant& g) { return !g.meter && g.content == content.type; });
  }
  if (promise.cost_cap)
    pay(grants, (period.cost_used + period.cost_held - promise.cost_cap->monthly).nanos, period, gives_cost);
  return grants;
}

void Promises::set_policy(policy::PolicyPtr policy, std::uint64_t version) {
  const policy::PolicyPtr before = std::exchange(policy_, std::move(policy));
  version_ = version;
  policies_[version] = policy_;
  applied_.clear();
  grandfathered_.clear();
  if (!before) return;
  for (const auto& [id, row] : ledger_->accounts()) {
    const policy::Plan* was = before->plan(row.plan);
    const policy::Plan* is = policy_->plan(row.plan);
    if (row.plan_version == 0 && was && is && is->grandfather && !(*was == *is)) grandfathered_.push_back(id);
  }
}

const policy::Plan* Promises::base_plan(const engine::AccountRow& row) const {
  if (const auto kept = policies_.find(row.plan_version); row.plan_version != 0 && kept != policies_.end()) {
    if (const policy::Plan* plan = kept->second->plan(row.plan)) return plan;
  }
  if (const policy::Plan* plan = policy_->plan(row.plan)) return plan;
  return policy_->plan(policy_->accounts.default_plan);
}

const policy::Plan& Promises::plan_of(AccountId id) const {
  const engine::AccountRow* row = ledger_->account(id);
  if (row == nullptr) return *policy_->plan(policy_->accounts.default_plan);
  Applied& applied = applied_[id];
  if (applied.base == nullptr || applied.version != version_ || applied.plan != row->plan ||
      applied.plan_version != row->plan_version || applied.overrides != row->overrides) {
    applied = Applied{.plan = row->plan,
                      .overrides = row->overrides,
                      .plan_version = row->plan_version,
                      .version = version_,
                      .base = base_plan(*row),
                      .own = nullptr};
    if (!row->overrides.empty()) {
      if (auto own = policy::overridden(*policy_, *applied.base, row->overrides))
        applied.own = std::make_unique<const policy::Plan>(std::move(*own));
    }
  }
  return applied.own ? *applied.own : *applied.base;
}

std::string Promises::team_of(AccountId id) const {
  const engine::AccountRow* row = ledger_->account(id);
  return row != nullptr ? row->team : std::string();
}

std::vector<Who> Promises::payers(AccountId id) const {
  std::vector<Who> all{{.scope = Scope::kAccount, .account = id, .team = {}}};
  if (std::string team = team_of(id); !team.empty())
    all.push_back({.scope = Scope::kTeam, .account = {}, .team = std::move(team)});
  all.push_back({.scope = Scope::kPlatform, .account = {}, .team = {}});
  return all;
}

const policy::Group* Promises::terms(const Who& who) const {
  if (who.scope == Scope::kPlatform) return &policy_->platform;
  const auto team = policy_->teams.find(who.team);
  return team == policy_->teams.end() ? nullptr : &team->second;
}

const policy::Promise& Promises::of(const Who& who) const {
  static const policy::Promise kNothing;
  if (who.scope == Scope::kAccount) return plan_of(who.account).promise;
  const policy::Group* group = terms(who);
  return group != nullptr ? group->promise : kNothing;
}

std::optional<std::uint32_t> Promises::concurrent_jobs(const Who& who) const {
  if (who.scope == Scope::kAccount) return plan_of(who.account).limits.concurrent_jobs;
  const policy::Group* group = terms(who);
  return group != nullptr ? group->concurrent_jobs : std::nullopt;
}

std::optional<std::uint32_t> Promises::concurrent_calls(const Who& who) const {
  if (who.scope == Scope::kAccount) return plan_of(who.account).limits.concurrent_calls;
  const policy::Group* group = terms(who);
  return group != nullptr ? group->concurrent_calls : std::nullopt;
}

policy::Period Promises::period(const Who& who, Wall now) const {
  const policy::PeriodRule& rule = of(who).period;
  if (who.scope != Scope::kAccount) {
    const policy::Group* group = terms(who);
    return policy::period_at(rule, group != nullptr ? group->time_zone : "UTC", kNever, now);
  }
  const engine::AccountRow& row = *ledger_->account(who.account);
  const std::string& zone = row.time_zone.empty() ? policy_->accounts.time_zone : row.time_zone;
  return policy::period_at(rule, zone, row.anchor_at == kNever ? row.created_at : row.anchor_at, now);
}

std::vector<Grant> Promises::grants(const Who& who, const PeriodRow* book, Wall now) const {
  const engine::AccountRow* row = who.scope == Scope::kAccount ? ledger_->account(who.account) : nullptr;
  if (row == nullptr || row->grants.empty()) return {};
  const bool to_be_paid = book != nullptr && book->current && now >= book->end;
  return to_be_paid ? after_period(row->grants, of(who), *book) : row->grants;
}

std::optional<std::int64_t> Promises::limit(const Who& who, Meter meter, const PeriodRow* book,
                                            Wall now) const {
  const auto& quota = of(who).quotas.meters[policy::index_of(meter)];
  if (!quota) return std::nullopt;
  return *quota + left(grants(who, book, now), now, [&](const Grant& g) { return g.meter == meter; });
}

std::optional<std::int64_t> Promises::limit(const Who& who, std::string_view content, const PeriodRow* book,
                                            Wall now) const {
  const auto& quotas = of(who).quotas.content;
  const auto quota = quotas.find(content);
  if (quota == quotas.end() || !quota->second) return std::nullopt;
  return *quota->second +
         left(grants(who, book, now), now, [&](const Grant& g) { return !g.meter && g.content == content; });
}

std::optional<Money> Promises::cap(const Who& who, const PeriodRow* book, Wall now) const {
  const auto& cap = of(who).cost_cap;
  if (!cap) return std::nullopt;
  return cap->monthly + Money{left(grants(who, book, now), now, gives_cost)};
}

bool Promises::hard_stop(AccountId id) const {
  const auto all = payers(id);
  return std::ranges::any_of(all, [this](const Who& who) {
    const auto& cap = of(who).cost_cap;
    return cap && cap->hard_stop;
  });
}

}  // namespace turnpike::simulation
