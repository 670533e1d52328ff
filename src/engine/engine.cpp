#include "engine/engine.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/check.h"
#include "engine/state.h"

namespace turnpike::engine {

// --- The small steps that every command is made of
// ------------------------------------------------------------------------

Engine::State::State(policy::PolicyPtr policy, EngineOptions options)
    : options_(options), policy_(std::move(policy)) {
  CHECK(policy_ != nullptr && !policy_->plans.empty());
  platform_.scope = Scope::kPlatform;
  platform_.terms = &policy_->platform;
  CHECK(options_.window_min >= 4 && options_.window_max >= options_.window_min);
}

Account* Engine::State::find_account(AccountId id) const {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : it->second;
}

Pool& Engine::State::pool_named(std::string_view name) {
  auto it = pools_.find(name);
  if (it == pools_.end()) {
    auto pool = std::make_unique<Pool>();
    pool->name = name;
    const auto configured = policy_->pools.find(name);
    if (configured != policy_->pools.end()) pool->slots = configured->second.slots;
    const std::uint32_t headroom = configured != policy_->pools.end() ? configured->second.headroom : 0;
    pool->order.reshape({pool->slots, headroom, policy_->share_permille});
    pool->number = static_cast<std::uint32_t>(pools_by_number_.size());
    pools_by_number_.push_back(pool.get());
    shape_gate(*pool, {.mono = heard_, .wall = {}});
    it = pools_.emplace(std::string(name), std::move(pool)).first;
  }
  return *it->second;
}

Queue* Engine::State::find_queue(const Account& account, std::string_view pool) const {
  for (const auto& queue : account.queues) {
    if (queue->pool->name == pool) return queue.get();
  }
  return nullptr;
}

// By way of the account, which whoever asks has just looked at.
Queue& Engine::State::queue_in(AccountId account, const Pool& pool) const {
  const auto& queues = find_account(account)->queues;
  const auto found = std::ranges::find(queues, &pool, [](const auto& queue) { return queue->pool; });
  CHECK(found != queues.end());
  return **found;
}

Queue& Engine::State::queue_of(Account& account, std::string_view pool) {
  if (Queue* existing = find_queue(account, pool)) return *existing;
  auto queue = std::make_unique<Queue>();
  queue->account = &account;
  queue->pool = &pool_named(pool);
  queue->pool->queues[account.row.id] = queue.get();
  ++queue_count_;
  account.queues.push_back(std::move(queue));
  return *account.queues.back();
}

Durations& Engine::State::took(const std::string& task, const std::string& provider) {
  return durations_[{task, provider}];
}

std::optional<Engine::State::Blocked> Engine::State::blocked(const Queue& queue, Timestamp now) const {
  if (draining_ || queue.pool->slots == 0) return Blocked{.by = WaitingFor::kPaused};
  if (queue.window.empty()) return Blocked{.by = WaitingFor::kTurn};
  const auto next = next_job(queue);
  if (!next) return Blocked{.by = WaitingFor::kPaused};
  const Account& account = *queue.account;
  const auto& cap = account.plan->limits.concurrent_jobs;
  if (cap && account.running >= *cap && options_.fault != Fault::kCapUnchecked) {
    return Blocked{.by = WaitingFor::kConcurrencyLimit};
  }
  Duration wait{0};
  for (Payer* payer : payers(account)) {
    if (payer == nullptr) continue;
    if (payer->scope != Scope::kAccount) {
      auto& group = static_cast<Group&>(*payer);
      if (group.terms != nullptr && group.terms->concurrent_jobs &&
          group.running >= *group.terms->concurrent_jobs) {
        return Blocked{.by = WaitingFor::kConcurrencyLimit, .group = &group};
      }
    }
    const policy::Rates& rates = promise_of(*payer).rates;
    if (!rates.any()) continue;
    const JobRow& first = jobs_.at(*next).row;
    const std::int64_t tokens = first.hold ? first.hold->amounts[policy::Meter::kTokens] : 0;
    wait = std::max(wait, payer->rates.wait(rates, tokens, now.mono));
  }
  if (wait > Duration{0}) return Blocked{.by = WaitingFor::kRateLimit, .wait = wait};
  return std::nullopt;
}

std::optional<JobId> Engine::State::next_call(const Queue& queue) const {
  if (queue.calls.empty()) return std::nullopt;
  const auto& paused = queue.pool->paused_providers;
  if (paused.empty()) return *queue.calls.begin();
  const auto found = std::ranges::find_if(
      queue.calls, [&](JobId id) { return !paused.contains(jobs_.at(id).row.provider); });
  return found == queue.calls.end() ? std::nullopt : std::optional(*found);
}

std::optional<JobId> Engine::State::next_job(const Queue& queue) const {
  if (queue.window.empty()) return std::nullopt;
  const auto& paused = queue.pool->paused_providers;
  if (paused.empty()) return queue.window.front().second;
  const auto& keys = queue.window.keys();
  const auto found = std::ranges::find_if(
      keys, [&](const QueueKey& key) { return !paused.contains(jobs_.at(key.second).row.provider); });
  return found == keys.end() ? std::nullopt : std::optional(found->second);
}

const Job& Engine::State::next_of(const Queue& queue) const {
  const auto call = next_call(queue);
  return jobs_.at(call ? *call : *next_job(queue));
}

void Engine::State::sync_ring(Queue& queue, Timestamp now) {
  account_for(*queue.pool, now);
  Account& account = *queue.account;
  const bool call_runs = next_call(queue).has_value() && queue.pool->slots > 0 && !draining_;
  const auto kept = call_runs ? std::nullopt : blocked(queue, now);
  if (!kept) {
    queue.pool->order.enter(account.row.id, account.plan->priority_class,
                            account.plan->limits.dispatch_batch);
    touch(*queue.pool);
    return;
  }
  queue.pool->order.leave(account.row.id);
  if (kept->group != nullptr) kept->group->kept_out.insert(account.row.id);
  if (kept->by == WaitingFor::kRateLimit) {
    const Monotonic at = now.mono + kept->wait;
    if (account.rate_timer != Monotonic{} && account.rate_timer <= at && account.rate_timer > now.mono)
      return;
    if (account.rate_timer != Monotonic{}) rate_timers_.erase({account.rate_timer, account.row.id});
    account.rate_timer = at;
    rate_timers_.insert({at, account.row.id});
  }
}

void Engine::State::sync_rings(Account& account, Timestamp now) {
  for (const auto& queue : account.queues) sync_ring(*queue, now);
}

void Engine::State::count_queued(Queue& queue, std::int64_t delta) {
  auto& of_class = queue.pool->queued[policy::class_index(queue.account->plan->priority_class)];
  queue.queued += static_cast<std::uint64_t>(delta);
  queue.account->waiting += static_cast<std::uint64_t>(delta);
  of_class += static_cast<std::uint64_t>(delta);
  if (of_class == 0) queue.pool->order.clear_credit(queue.account->plan->priority_class);
  mark(queue);
}

void Engine::State::count_scheduled(Queue& queue, std::int64_t delta) {
  queue.scheduled += static_cast<std::uint64_t>(delta);
  queue.account->waiting += static_cast<std::uint64_t>(delta);
  scheduled_total_ += static_cast<std::uint64_t>(delta);
  mark(queue);
}

void Engine::State::mark(Queue& queue) {
  if (!std::exchange(queue.looked_at, true)) dirty_.push_back(&queue);
  if (!std::exchange(queue.told_dirty, true)) untold_.push_back(&queue);
}

void Engine::State::touch(Pool& pool) {
  if (pool.touched) return;
  pool.touched = true;
  touched_.push_back(&pool);
}

void Engine::State::account_for(Pool& pool, Timestamp now) {
  const Duration passed = now.mono - pool.accounted;
  pool.accounted = now.mono;
  if (passed > Duration{0} && pool.running > 0) pool.order.consume(passed.count() * pool.running);
}

void Engine::State::put_job(const JobRow& row, JobBodyPtr body, Changes& out) const {
  // A job that is submitted and started in one command is written once.
  if (!out.mutations.empty()) {
    if (auto* last = std::get_if<PutJob>(&out.mutations.back()); last != nullptr && last->row.id == row.id) {
      last->row = row;
      return;
    }
  }
  out.mutations.emplace_back(PutJob{row, std::move(body)});
}

void Engine::State::tell(EventType type, const JobRow& row, Timestamp now, Changes& out, std::string text,
                         std::uint8_t percent) const {
  out.events.push_back(Event{.type = type,
                             .at = now.wall,
                             .account = row.account,
                             .job = row.id,
                             .attempt = row.attempt,
                             .percent = percent,
                             .text = std::move(text),
                             .webhook = row.options.webhook,
                             .run = row.run});
}

void Engine::State::remember(JobRow& row, HistoryEntry entry) {
  // The first entry says how it began; of the rest the latest matter.
  if (row.history.size() >= kHistoryMax) row.history.erase(row.history.begin() + 1);
  row.history.push_back(std::move(entry));
}

void Engine::State::finish(Timestamp now, Changes& out) {
  // Starting a job changes rings of other pools (its account may reach its cap), but frees nothing: one pass
  // is enough, unless a run has ended in it.
  do {
    close_runs(now, out);
    for (std::size_t i = 0; i < touched_.size(); ++i) {
      dispatch(*touched_[i], now, out);
      touched_[i]->touched = false;
    }
    touched_.clear();
  } while (!closing_.empty());
  for (Queue* queue : dirty_) {
    queue->looked_at = false;
    ask_refills(*queue, out);
  }
  dirty_.clear();
  ask_timed_refills(out);
}

void Engine::State::close_batch(Changes& out) {
  for (Queue* queue : untold_) {
    queue->told_dirty = false;
    if (queue->queued == queue->told_queued && queue->scheduled == queue->told_scheduled) continue;
    queue->told_queued = queue->queued;
    queue->told_scheduled = queue->scheduled;
    out.mutations.emplace_back(
        PutQueueCount{queue->account->row.id, queue->pool->name, queue->queued, queue->scheduled});
  }
  untold_.clear();
  for (Payer* payer : dirty_payers_) {
    payer->dirty = false;
    for (Book& book : payer->books) {
      if (!book.dirty) continue;
      book.dirty = false;
      out.mutations.emplace_back(PutPeriod{book.row});
    }
    const auto over = std::ranges::remove_if(payer->books, [](const Book& book) {
      return !book.row.current && book.row.holds == 0 && book.late == 0;
    });
    payer->books.erase(over.begin(), over.end());
  }
  dirty_payers_.clear();
}

// --- The public face
// ---------------------------------------------------------------------------------------------------------

Engine::Engine(policy::PolicyPtr policy, EngineOptions options)
    : state_(std::make_unique<State>(std::move(policy), options)) {}
Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;

void Engine::recover(Recovery recovery, Timestamp now, Changes& out) {
  state_->recover(std::move(recovery), now, out);
}

Result<Engine::EnsuredAccount> Engine::ensure_account(std::string_view user_id, AccountId fresh_id,
                                                      std::string_view plan, bool set_plan, Timestamp now,
                                                      Changes& out, std::string_view by) {
  state_->heard(now);
  return state_->ensure_account(user_id, fresh_id, plan, set_plan, now, out, by);
}

Result<AccountRow> Engine::change_account(AccountId id, AccountChange change, Timestamp now, Changes& out) {
  state_->heard(now);
  return state_->change_account(id, std::move(change), now, out);
}
Result<Admitted> Engine::admit(NewCall call, Timestamp now, Changes& out) {
  state_->heard(now);
  return state_->admit(std::move(call), now, out);
}

const AccountRow* Engine::account(AccountId id) const {
  const Account* found = state_->find_account(id);
  return found != nullptr ? &found->row : nullptr;
}

const AccountRow* Engine::account_by_user(std::string_view user_id) const {
  const auto it = state_->by_user_.find(std::string(user_id));
  return it == state_->by_user_.end() ? nullptr : &it->second->row;
}

std::vector<AccountRow> Engine::accounts(AccountId starting_after, std::size_t limit) const {
  std::vector<AccountRow> rows;
  for (auto it = state_->accounts_.upper_bound(starting_after);
       it != state_->accounts_.end() && rows.size() < limit; ++it) {
    rows.push_back(it->second->row);
  }
  return rows;
}

const policy::Plan& Engine::plan_of(AccountId id) const {
  const Account* found = state_->find_account(id);
  return found != nullptr ? *found->plan : state_->plan_named("");
}

std::string_view Engine::overrides_mistake(AccountId id) const {
  const Account* found = state_->find_account(id);
  return found != nullptr ? std::string_view(found->overrides_mistake) : std::string_view();
}

UnreadOverrides Engine::unread_overrides(std::size_t shown_max) const {
  UnreadOverrides unread;
  for (const auto& [id, account] : state_->accounts_) {
    if (account->overrides_mistake.empty()) continue;
    ++unread.accounts;
    if (unread.shown.size() < shown_max) unread.shown.emplace_back(id, account->overrides_mistake);
  }
  return unread;
}

Result<Submitted> Engine::submit(NewJob job, Timestamp now, Changes& out) {
  state_->heard(now);
  return state_->submit(std::move(job), now, out);
}
Result<JobRow> Engine::cancel(JobId id, std::string_view by, const ColdJob* cold, Timestamp now,
                              Changes& out) {
  state_->heard(now);
  return state_->cancel(id, by, cold, now, out);
}
Result<Submitted> Engine::retry(ColdJob cold, Timestamp now, Changes& out) {
  state_->heard(now);
  return state_->retry(std::move(cold), now, out);
}
Result<RunRow> Engine::start_run(NewRun run, Timestamp now, Changes& out) {
  state_->heard(now);
  return state_->start_run(std::move(run), now, out);
}
Result<RunRow> Engine::advance_run(RunAdvance advance, Timestamp now, Changes& out) {
  state_->heard(now);
  return state_->advance_run(std::move(advance), now, out);
}
Result<RunRow> Engine::cancel_run(RunId id, std::string_view by, Timestamp now, Changes& out) {
  state_->heard(now);
  return state_->cancel_run(id, by, now, out);
}
Result<RunRow> Engine::retry_run(ColdRun cold, std::vector<ColdJob> jobs, Timestamp now, Changes& out) {
  state_->heard(now);
  return state_->retry_run(std::move(cold), std::move(jobs), now, out);
}
const RunRow* Engine::run(RunId id) const {
  const auto found = state_->runs_.find(id);
  return found != state_->runs_.end() ? &found->second : nullptr;
}
std::vector<RunRow> Engine::runs() const {
  std::vector<RunRow> rows;
  rows.reserve(state_->runs_.size());
  for (const auto& [id, row] : state_->runs_) rows.push_back(row);
  return rows;
}
Result<void> Engine::claim(NewClaim claim, Timestamp now, Changes& out) {
  state_->heard(now);
  return state_->claim(std::move(claim), now, out);
}
bool Engine::withdraw(ClaimId id) {
  return state_->withdraw(id);
}
bool Engine::settle(TryId try_id, TryOutcome outcome, Timestamp now, Changes& out) {
  state_->heard(now);
  return state_->settle(try_id, std::move(outcome), now, out);
}
Result<bool> Engine::raise(TryId try_id, const policy::Amounts& more, Timestamp now, Changes& out) {
  state_->heard(now);
  return state_->raise(try_id, more, now, out);
}
bool Engine::progress(TryId try_id, std::uint8_t percent, std::string_view message, Timestamp now,
                      Changes& out) {
  state_->heard(now);
  return state_->progress(try_id, percent, message, now, out);
}
void Engine::extend_leases(std::span<const TryId> tries, Timestamp now) {
  state_->heard(now);
  state_->extend_leases(tries, now);
}

Engine::Advanced Engine::advance(Timestamp now, std::size_t work_max, Changes& out) {
  state_->heard(now);
  return state_->advance(now, work_max, out);
}
std::optional<Duration> Engine::next_wakeup(Timestamp now) const {
  return state_->next_wakeup(now);
}

bool Engine::refill_queue(const RefillQueue& request, std::vector<ColdJob> heads, Timestamp now,
                          Changes& out) {
  state_->heard(now);
  return state_->refill_queue(request, std::move(heads), now, out);
}
bool Engine::refill_scheduled(const RefillScheduled& request, std::vector<ColdJob> heads, Timestamp now,
                              Changes& out) {
  state_->heard(now);
  return state_->refill_scheduled(request, std::move(heads), now, out);
}
bool Engine::refill_expiring(const RefillExpiring& request, std::vector<ColdJob> heads, Timestamp now,
                             Changes& out) {
  state_->heard(now);
  return state_->refill_expiring(request, std::move(heads), now, out);
}
Result<void> Engine::expire_cold(const ColdJob& cold, Timestamp now, Changes& out) {
  state_->heard(now);
  return state_->expire_cold(cold, now, out);
}

void Engine::close_batch(Changes& out) {
  state_->close_batch(out);
}
bool Engine::has_unwritten() const {
  return state_->has_unwritten();
}

void Engine::apply(policy::PolicyPtr policy, std::uint64_t version, std::uint64_t price_version,
                   Timestamp now, Changes& out) {
  state_->heard(now);
  state_->apply(std::move(policy), version, price_version, now, out);
}
const policy::PolicyPtr& Engine::policy() const {
  return state_->policy_;
}
void Engine::set_overlay(policy::OverlayPtr overlay, Timestamp now, Changes& out) {
  state_->heard(now);
  state_->set_overlay(std::move(overlay), now, out);
}
const policy::OverlayPtr& Engine::overlay() const {
  return state_->overlay_;
}
const Canaries& Engine::canaries() const {
  return state_->canaries_;
}
void Engine::set_draining(bool draining, Timestamp now, Changes& out) {
  state_->heard(now);
  state_->set_draining(draining, now, out);
}

std::vector<TryId> Engine::live_tries() const {
  std::vector<TryId> ids;
  ids.reserve(state_->tries_.size());
  for (const auto& [id, attempt] : state_->tries_) {
    if (!attempt.lost) ids.push_back(id);
  }
  std::sort(ids.begin(), ids.end());
  return ids;
}

std::optional<QueueView> Engine::queue_view(const JobRow& row, Timestamp now) const {
  return state_->queue_view(row, now, kAskWalkMax);
}
Why Engine::why(const JobRow& row, Timestamp now) const {
  return state_->why(row, now);
}
UsageView Engine::usage(AccountId id, Timestamp now) const {
  const Account* found = state_->find_account(id);
  return found != nullptr ? state_->usage(*found, now) : UsageView{};
}
std::optional<UsageView> Engine::team_usage(std::string_view team, Timestamp now) const {
  const auto found = state_->teams_.find(team);
  if (found != state_->teams_.end()) return state_->usage(*found->second, now);
  const auto configured = state_->policy_->teams.find(team);
  if (configured == state_->policy_->teams.end()) return std::nullopt;
  Group nobody;  // nobody of the team has come yet
  nobody.scope = Scope::kTeam;
  nobody.team = team;
  nobody.terms = &configured->second;
  return state_->usage(nobody, now);
}
UsageView Engine::platform_usage(Timestamp now) const {
  return state_->usage(state_->platform_, now);
}
RateView Engine::rates(AccountId id, Timestamp now) const {
  const Account* found = state_->find_account(id);
  return found != nullptr ? state_->rates(*found, now) : RateView{};
}
Holders Engine::holders(AccountId id, std::size_t limit, std::string_view meter) const {
  const Account* found = state_->find_account(id);
  return found != nullptr ? state_->holders(*found, limit, meter) : Holders{};
}
std::vector<PeriodRow> Engine::periods() const {
  return state_->periods();
}

std::pair<std::uint8_t, std::string> Engine::progress_of(JobId id) const {
  const auto it = state_->jobs_.find(id);
  if (it == state_->jobs_.end() || it->second.row.state != JobState::kProcessing) return {0, ""};
  return {it->second.percent, it->second.progress};
}

Engine::Stats Engine::stats() const {
  return state_->stats();
}
std::vector<PutQueueCount> Engine::queue_counts() const {
  return state_->queue_counts();
}

std::uint32_t Engine::running(AccountId id) const {
  const Account* found = state_->find_account(id);
  return found != nullptr ? found->running : 0;
}

std::optional<JobId> Engine::startable(Timestamp now) const {
  return state_->startable(now);
}

}  // namespace turnpike::engine
