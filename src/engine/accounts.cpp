// Accounts, the plans that apply to them, and the policy as a whole.

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "engine/state.h"
#include "policy/contains.h"

namespace turnpike::engine {

const policy::Plan& Engine::State::plan_named(std::string_view name) const {
  if (const policy::Plan* plan = policy_->plan(name)) return *plan;
  if (const policy::Plan* plan = policy_->plan(policy_->accounts.default_plan)) return *plan;
  return policy_->plans.begin()->second;
}

Group* Engine::State::team_named(std::string_view name) {
  if (name.empty()) return nullptr;
  auto found = teams_.find(name);
  if (found == teams_.end()) {
    auto group = std::make_unique<Group>();
    group->scope = Scope::kTeam;
    group->team = name;
    const auto configured = policy_->teams.find(name);
    if (configured != policy_->teams.end()) group->terms = &configured->second;
    found = teams_.emplace(std::string(name), std::move(group)).first;
  }
  return found->second.get();
}

Account& Engine::State::add_account(AccountRow row) {
  auto made = std::make_unique<Account>();
  Account& account = *made;
  account.scope = Scope::kAccount;
  account.Payer::account = row.id;
  account.row = std::move(row);
  account.group = team_named(account.row.team);
  by_user_[account.row.user_id] = &account;
  by_id_[account.row.id] = &account;
  accounts_.emplace(account.row.id, std::move(made));
  account.plan = &plan_named(account.row.plan);
  return account;
}

void Engine::State::refresh_plan(Account& account, Timestamp now) {
  const policy::Plan* plan = &plan_named(account.row.plan);
  const auto lived_by = policies_.find(account.row.plan_version);
  if (account.row.plan_version != 0 && lived_by != policies_.end()) {
    if (const policy::Plan* kept = lived_by->second->plan(account.row.plan)) plan = kept;
  }
  // The plan that is replaced is still looked at while queues move.
  const std::unique_ptr<const policy::Plan> before = std::move(account.own);
  account.overrides_mistake.clear();
  if (!account.row.overrides.empty()) {
    // They were checked when they were set. What no longer reads with a new policy does not apply.
    if (auto own = policy::overridden(*policy_, *plan, account.row.overrides)) {
      account.own = std::make_unique<const policy::Plan>(std::move(*own));
      plan = account.own.get();
    } else {
      account.overrides_mistake = std::move(own.error().message);
    }
  }
  change_plan(account, *plan, now);
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

void Engine::State::move_to_plan(Account& account, std::string_view plan, std::string_view by, Timestamp now,
                                 Changes& out) {
  out.events.push_back(
      Event{.type = EventType::kPlanChanged,
            .at = now.wall,
            .account = account.row.id,
            .job = {},
            // Names of plans and rules, and ids of keys: nothing in them needs escaping.
            .text = fmt::format(R"({{"from":"{}","to":"{}","by":"{}"}})", account.row.plan, plan, by)});
  account.row.plan = plan;
  account.row.plan_version = 0;
  out.mutations.emplace_back(PutAccount{account.row});
  refresh_plan(account, now);
}

Result<Engine::EnsuredAccount> Engine::State::ensure_account(std::string_view user_id, AccountId fresh_id,
                                                             std::string_view plan, bool set_plan,
                                                             Timestamp now, Changes& out,
                                                             std::string_view by) {
  if (!plan.empty() && policy_->plan(plan) == nullptr) {
    std::string known;
    for (const auto& [name, each] : policy_->plans) known += (known.empty() ? "" : ", ") + name;
    return fail(ErrorCode::kInvalidRequest, fmt::format("there is no plan `{}`; plans are: {}", plan, known),
                "plan");
  }
  const auto it = by_user_.find(std::string(user_id));
  if (it == by_user_.end()) {
    const Account& account = add_account(
        {.id = fresh_id,
         .user_id = std::string(user_id),
         .plan = std::string(plan.empty() ? std::string_view(policy_->accounts.default_plan) : plan),
         .created_at = now.wall,
         .overrides = {},
         .team = {},
         .time_zone = {},
         .grants = {}});
    out.mutations.emplace_back(PutAccount{account.row});
    return EnsuredAccount{.row = account.row, .created = true, .previous_plan = {}};
  }
  Account& account = *it->second;
  EnsuredAccount answer{.row = account.row, .created = false, .previous_plan = {}};
  if (!set_plan || plan.empty() || plan == account.row.plan) return answer;
  answer.previous_plan = account.row.plan;
  // A period that is over is closed by the plan that it was lived by.
  if (!account.books.empty()) open_book(account, now, out);
  move_to_plan(account, plan, by, now, out);
  answer.row = account.row;
  finish(now, out);
  return answer;
}

// --- Changes by an operator

Result<void> Engine::State::check_change(const Account& account, const AccountChange& change,
                                         Timestamp now) const {
  const auto wrong = [](std::string message, std::string param) {
    return fail(ErrorCode::kInvalidRequest, std::move(message), std::move(param));
  };
  if (change.plan && policy_->plan(*change.plan) == nullptr) {
    return wrong(fmt::format("there is no plan `{}`", *change.plan), "plan");
  }
  if (change.team && !change.team->empty() && !policy_->teams.contains(*change.team)) {
    return wrong(fmt::format("there is no team `{}`: teams are named in the configuration", *change.team),
                 "team");
  }
  if (change.time_zone && !change.time_zone->empty()) {
    if (auto zone = policy::check_zone(*change.time_zone, "time_zone"); !zone) return zone;
  }
  if (change.overrides && !change.overrides->empty()) {
    const policy::Plan& base = plan_named(change.plan.value_or(account.row.plan));
    if (auto own = policy::overridden(*policy_, base, *change.overrides); !own)
      return std::unexpected(own.error());
  }
  if (const auto& grant = change.grant) {
    if (grant->amount <= 0 || grant->amount > policy::kAmountMax)
      return wrong("a grant gives more than 0, and at most 10^18 of the meter's smallest units", "amount");
    if (!grant->content.empty() && !policy::contains(policy_->content_types, grant->content))
      return wrong(fmt::format("there is no content type `{}`", grant->content), "content_type");
    if (grant->expires_at != kNever && grant->expires_at <= now.wall)
      return wrong("the grant would have expired already", "expires_at");
    const auto kept = std::ranges::count_if(account.row.grants, [&](const Grant& each) {
      return each.expires_at == kNever || each.expires_at > now.wall;
    });
    if (static_cast<std::size_t>(kept) >= kGrantsMax)
      return wrong(fmt::format("the account has {} grants already: revoke one", kGrantsMax), "grant");
  }
  if (change.revoke && !policy::contains(account.row.grants, *change.revoke, &Grant::id)) {
    return fail(ErrorCode::kNotFound, fmt::format("the account has no grant {}", to_string(*change.revoke)),
                "grant");
  }
  return {};
}

Result<AccountRow> Engine::State::change_account(AccountId id, AccountChange change, Timestamp now,
                                                 Changes& out) {
  Account* account = find_account(id);
  if (account == nullptr) return fail(ErrorCode::kNotFound, "there is no such account", "account");
  if (auto checked = check_change(*account, change, now); !checked) return std::unexpected(checked.error());
  AccountRow& row = account->row;
  // What was used so far was used by the old terms: a period that is over is closed by them.
  if (!account->books.empty()) open_book(*account, now, out);
  if (change.overrides) row.overrides = std::move(*change.overrides);
  if (change.time_zone) row.time_zone = std::move(*change.time_zone);
  if (change.anchor_at) row.anchor_at = *change.anchor_at;
  if (change.revoke)
    std::erase_if(row.grants, [&](const Grant& grant) { return grant.id == *change.revoke; });
  if (change.grant) {
    // Those that have expired pay for this period still, and go with it.
    row.grants.push_back(std::move(*change.grant));
  }
  if (change.team) {
    row.team = std::move(*change.team);
    if (account->group != nullptr) account->group->kept_out.erase(id);
    account->group = team_named(row.team);
  }
  if (change.plan && *change.plan != row.plan) {
    move_to_plan(*account, *change.plan, change.by, now, out);
  } else {
    refresh_plan(*account, now);
  }
  out.mutations.emplace_back(PutAccount{row});
  finish(now, out);
  return row;
}

// --- The whole

void Engine::State::recover(Recovery recovery, Timestamp now, Changes& out) {
  CHECK(accounts_.empty() && jobs_.empty());
  heard_ = now.mono;
  try_ids_ = IdSource(recovery.last_id);
  recent_floor_ = 0;
  policies_ = std::move(recovery.policies);
  if (recovery.last_id > 0 && options_.fault != Fault::kUpstreamForgotten) restarted_at_ = now.mono;
  policy_version_ = recovery.policy_version;
  price_version_ = recovery.price_version;
  for (AccountRow& row : recovery.accounts) refresh_plan(add_account(std::move(row)), now);
  recover_books(std::move(recovery.periods), now, out);
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
  recover_runs(std::move(recovery.runs), out);
  for (JobRow& row : recovery.processing) {
    const JobId id = row.id;
    const TryId lost = row.current_try;
    Durations& duration = took(row.task, row.provider);
    Job& job = jobs_
                   .emplace(id, Job{.account = find_account(row.account),
                                    .row = std::move(row),
                                    .body = nullptr,
                                    .took = &duration})
                   .first->second;
    lose(job, lost, "the server stopped while it ran", now, out);
  }
  finish(now, out);
}

// Calls die with the process that answered them. What they held is taken as used, for their upstreams may
// have billed it.
void Engine::State::recover_books(std::vector<PeriodRow> rows, Timestamp now, Changes& out) {
  std::ranges::sort(rows, {}, &PeriodRow::start);  // of one payer no two begin together
  for (PeriodRow& row : rows) {
    Payer* payer = &platform_;
    if (row.scope == Scope::kAccount) payer = find_account(row.account);
    if (row.scope == Scope::kTeam) payer = team_named(row.team);
    CHECK(payer != nullptr);
    payer->books.push_back(Book{.row = std::move(row)});
  }
  const auto take_calls = [&](Payer& payer) {
    for (Book& book : payer.books) {
      PeriodRow& held = book.row;
      const std::int64_t calls = held.calls_held[policy::Meter::kCalls];
      if (calls == 0) continue;
      LedgerEntry entry{
          .kind = EntryKind::kCallsLost,
          .at = now.wall,
          .account = payer.account,
          .team = payer.team,
          .plan = payer.scope == Scope::kAccount ? static_cast<Account&>(payer).row.plan : std::string(),
          .job = {},
          .try_id = TryId{try_ids_.next(now.wall)},
          .call = true,
          .task = {},
          .provider = {},
          .model = {},
          .model_version = {},
          .meters = held.calls_held,
          .content = {},
          .cost = held.cost_calls_held,
          .debt = {},
          .account_period = kNever,
          .platform_period = kNever};
      if (payer.scope == Scope::kAccount) entry.account_period = held.start;
      if (payer.scope == Scope::kTeam) entry.team_period = held.start;
      if (payer.scope == Scope::kPlatform) entry.platform_period = held.start;
      if (options_.fault != Fault::kCallsForgotten) held.used += held.calls_held;
      held.held -= held.calls_held;
      held.cost_used += held.cost_calls_held;
      held.cost_held -= held.cost_calls_held;
      held.holds -= static_cast<std::uint64_t>(calls);
      held.calls_held = {};
      held.cost_calls_held = {};
      for (PeriodRow::Content& content : held.content) {
        content.held -= content.calls_held;  // nobody got it: it is given back
        content.calls_held = 0;
      }
      mark(payer, book);
      tell_thresholds(payer, book, now, out);
      if (options_.fault != Fault::kCallsForgotten) out.mutations.emplace_back(AddEntry{std::move(entry)});
    }
  };
  for (const auto& [id, account] : accounts_) take_calls(*account);
  for (const auto& [name, team] : teams_) take_calls(*team);
  take_calls(platform_);
}

void Engine::State::apply(policy::PolicyPtr policy, std::uint64_t version, std::uint64_t price_version,
                          Timestamp now, Changes& out) {
  CHECK(policy != nullptr && !policy->plans.empty());
  // Plans of accounts point into it until each has its new one.
  const policy::PolicyPtr before = std::exchange(policy_, std::move(policy));
  const std::uint64_t version_before = std::exchange(policy_version_, version);
  price_version_ = price_version;
  for (const auto& [name, pool] : pools_) {
    account_for(*pool, now);
    const auto configured = policy_->pools.find(name);
    pool->slots = configured != policy_->pools.end() ? configured->second.slots : 0;
    const std::uint32_t headroom = configured != policy_->pools.end() ? configured->second.headroom : 0;
    pool->order.reshape({pool->slots, headroom, policy_->share_permille});
    shape_gate(*pool, now);
    reopen(*pool, now);
  }
  platform_.terms = &policy_->platform;
  for (const auto& [name, team] : teams_) {
    const auto configured = policy_->teams.find(name);
    team->terms = configured != policy_->teams.end() ? &configured->second : nullptr;
  }
  // First all plans, then the queues: whether work may run depends on the caps of everybody's groups.
  for (const auto& [id, account] : accounts_) {
    AccountRow& row = account->row;
    const policy::Plan* old_plan = before->plan(row.plan);
    const policy::Plan* new_plan = policy_->plan(row.plan);
    if (row.plan_version == 0 && old_plan != nullptr && new_plan != nullptr && new_plan->grandfather &&
        *old_plan != *new_plan) {
      row.plan_version = version_before;
      policies_[version_before] = before;
      out.mutations.emplace_back(PutAccount{row});
    }
    refresh_plan(*account, now);
  }
  finish(now, out);
}

}  // namespace turnpike::engine
