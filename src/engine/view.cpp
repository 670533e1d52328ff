// Questions: where a job stands, how long it may take, what holds it. Nothing here changes anything.

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "engine/state.h"

namespace turnpike::engine {
namespace {

std::int64_t seconds_up(std::int64_t micros) {
  return std::max<std::int64_t>(0, (micros + 999'999) / 1'000'000);
}

// What a job holds of a meter, as LimitReached names it.
std::int64_t held_of(const Job& job, std::string_view meter) {
  const Hold& hold = *job.row.hold;
  if (meter.empty() || meter == "cost_usd") return hold.cost.nanos;
  if (meter == "concurrent_calls") return job.call ? 1 : 0;
  if (const auto named = policy::meter_named(meter)) return hold.amounts[*named];
  return hold.content == meter ? 1 : 0;
}

// How many jobs of its own queue go before `key`: exact among the loaded heads, else by how far its id lies
// between the last loaded head and the youngest.
std::pair<std::uint64_t, bool> rank_in_queue(const Queue& queue, const QueueKey& key) {
  const auto& keys = queue.window.keys();
  if (queue.window.is_loaded(key) || keys.empty()) {
    const auto before = static_cast<std::uint64_t>(std::distance(keys.begin(), keys.lower_bound(key)));
    return {before, queue.window.is_loaded(key)};
  }
  const std::uint64_t cold = queue.queued - std::min<std::uint64_t>(queue.queued, keys.size());
  const std::uint64_t from = keys.rbegin()->second.value;
  const std::uint64_t to = std::max(queue.newest.value, from + 1);
  const std::uint64_t at = std::clamp(key.second.value, from, to);
  const auto share =
      static_cast<std::uint64_t>(static_cast<unsigned __int128>(cold) * (at - from) / (to - from));
  return {keys.size() + std::min(share, cold == 0 ? 0 : cold - 1), false};
}

// Plays the pool's order forward, start by start, until `account` has started `rank` + 1 jobs. Nothing new
// arrives, every job takes what such jobs took, and caps do not bind: what is counted is the order.
class Forward {
 public:
  Forward(const Pool& pool, const std::pmr::unordered_map<JobId, Job>& jobs)
      : pool_(pool), jobs_(jobs), order_(pool.order) {}

  // Position and whether it is exact; nullopt: not reached within walk_max starts.
  std::optional<std::pair<std::uint64_t, bool>> play(
      const Queue& queue, std::uint64_t rank, std::size_t walk_max,
      const std::array<std::uint32_t, policy::kClassCount>& shares) {
    order_.reshape({.slots = 0x7fffffff, .headroom = 0, .share_permille = shares});
    order_.enter(queue.account->row.id, queue.account->plan->priority_class,
                 queue.account->plan->limits.dispatch_batch);
    bool exact = true;
    for (std::uint64_t position = 1; position <= walk_max; ++position) {
      const auto pick = order_.next([this](AccountId account) { return cost_of_next(account); });
      if (!pick) return std::nullopt;
      Taken& taken = taken_of(pick->account);
      if (pick->account == queue.account->row.id && taken.count == rank) return std::pair{position, exact};
      const SlotTime cost = cost_of_next(pick->account);
      order_.started(*pick, cost);
      order_.consume(cost);
      if (++taken.count > taken.queue->window.size()) exact = false;  // beyond the loaded heads of that queue
      if (taken.next != taken.queue->window.keys().end()) ++taken.next;
      if (taken.count >= taken.queue->queued) order_.leave(pick->account);
    }
    return std::nullopt;
  }

 private:
  struct Taken {
    const Queue* queue = nullptr;
    std::set<QueueKey, QueueKeyLess>::const_iterator next;
    std::uint64_t count = 0;
    SlotTime last_cost = kCostMin;
  };

  Taken& taken_of(AccountId account) {
    const auto [it, fresh] = taken_.try_emplace(account);
    if (fresh) {
      it->second.queue = pool_.queues.at(account);
      it->second.next = it->second.queue->window.keys().begin();
    }
    return it->second;
  }

  SlotTime cost_of_next(AccountId account) {
    Taken& taken = taken_of(account);
    if (taken.next != taken.queue->window.keys().end()) {
      taken.last_cost = std::max<SlotTime>(kCostMin, jobs_.at(taken.next->second).took->mean().count());
    }
    return taken.last_cost;
  }

  const Pool& pool_;
  const std::pmr::unordered_map<JobId, Job>& jobs_;
  Order order_;
  std::unordered_map<AccountId, Taken> taken_;
};

// Too much to play: higher classes first, accounts of the class in turn, and never worse than the guaranteed
// share.
std::uint64_t estimate_position(const Queue& queue, std::uint64_t rank,
                                const std::array<std::uint32_t, policy::kClassCount>& shares) {
  const Pool& pool = *queue.pool;
  const std::size_t own = policy::class_index(queue.account->plan->priority_class);
  std::uint64_t higher = 0;
  for (std::size_t i = own + 1; i < policy::kClassCount; ++i) higher += pool.queued[i];
  const std::uint64_t others_waiting = pool.queued[own] - std::min(pool.queued[own], queue.queued);
  const std::uint64_t accounts = std::max<std::size_t>(1, pool.order.size());
  const std::uint64_t same = rank + std::min(others_waiting, (rank + 1) * (accounts - 1));
  const std::uint64_t by_rank = higher + same + 1;
  if (shares[own] == 0) return by_rank;
  return std::min(by_rank, (same + 1) * 1000 / shares[own]);
}

// How many jobs run at once where nothing holds them back: of a pool whose workers claim its work, as many as
// work there or wait for work.
std::uint32_t slots_of(const Pool& pool) {
  if (!pool.pull) return pool.slots;
  const std::size_t workers = pool.running + pool.claims.size() + pool.own_claims.size();
  return static_cast<std::uint32_t>(std::min<std::size_t>(pool.slots, workers));
}

}  // namespace

std::optional<QueueView> Engine::State::queue_view(const JobRow& row, Timestamp now,
                                                   std::size_t walk_max) const {
  if (ended(row.state)) return std::nullopt;
  const Account* account = find_account(row.account);
  if (account == nullptr) return std::nullopt;
  static const Durations kNothingSeen;
  const auto seen = durations_.find({row.task, row.provider});
  const Durations& took = seen != durations_.end() ? seen->second : kNothingSeen;
  const std::int64_t low = took.percentile(200).count();
  const std::int64_t high = std::max(low, took.percentile(900).count());

  QueueView view;
  if (row.state == JobState::kProcessing) {
    const std::int64_t since = (now.wall - row.started_at).count();
    view.position = 0;
    view.eta_seconds = {seconds_up(low - since), seconds_up(std::max(high - since, std::int64_t{1}))};
    return view;
  }
  const auto cap = account->plan->limits.concurrent_jobs;
  const Queue* queue = find_queue(*account, row.pool);
  std::uint64_t rank = 0;
  std::uint32_t slots = 1;
  if (queue != nullptr) {
    slots = std::max<std::uint32_t>(1, slots_of(*queue->pool));
    const auto [ahead, loaded] = rank_in_queue(*queue, {row.priority, row.id});
    rank = ahead;
    view.ahead_in_account = ahead;
    view.exact = loaded && row.state == JobState::kQueued;
    std::optional<std::pair<std::uint64_t, bool>> played;
    if (view.exact && rank < walk_max && queue->pool->order.size() <= kPositionAccountsMax) {
      played = Forward(*queue->pool, jobs_).play(*queue, rank, walk_max, policy_->share_permille);
    }
    view.position = played ? played->first : estimate_position(*queue, rank, policy_->share_permille);
    view.exact = played.has_value() && played->second;
  }
  view.position = std::max<std::uint64_t>(1, view.position);
  // Waits for the pool and for its own account's cap; the longer of the two is what it waits.
  const std::uint64_t own_slots = cap ? std::max<std::uint32_t>(1, *cap) : slots;
  const std::uint64_t rounds_low = std::max((view.position - 1) / slots, rank / own_slots);
  const std::uint64_t rounds_high = std::max((view.position + slots - 1) / slots, rank / own_slots + 1);
  constexpr std::int64_t kRoundsMax = 10'000'000;  // beyond, the figure says nothing and would overflow
  std::int64_t until_due = 0;
  const bool wants_quota =
      !row.hold && !row.history.empty() && row.history.back().kind == HistoryKind::kWaitsForQuota;
  if (row.state == JobState::kScheduled) {
    view.waiting_for = wants_quota ? WaitingFor::kQuota : WaitingFor::kSchedule;
    until_due = std::max<std::int64_t>(0, (row.due_at - now.wall).count());
  } else if (draining_ || (queue != nullptr && (is_out(*queue->pool, row.provider)))) {
    view.waiting_for = WaitingFor::kPaused;
  } else {
    const auto kept = queue != nullptr ? blocked(*queue, now) : std::nullopt;
    view.waiting_for = kept ? kept->by : WaitingFor::kTurn;
    if (kept && kept->by == WaitingFor::kRateLimit) until_due = kept->wait.count();
    if (!kept && queue != nullptr && queue->pool->pull && !claimed(*queue->pool, row.account))
      view.waiting_for = WaitingFor::kProviderLimit;  // for a worker
    if (!kept && queue != nullptr && queue->pool->gate) {
      const auto room = queue->pool->gate->room(
          row.account, row.hold ? row.hold->amounts[policy::Meter::kTokens] : 0, now.mono);
      if (!room.open) view.waiting_for = WaitingFor::kProviderLimit;
      if (!room.open && room.wait != Gate::kNoTime) until_due = room.wait.count();
    }
  }
  view.eta_seconds = {
      seconds_up(until_due +
                 low * (1 + std::min<std::int64_t>(kRoundsMax, static_cast<std::int64_t>(rounds_low)))),
      seconds_up(until_due +
                 high * (1 + std::min<std::int64_t>(kRoundsMax, static_cast<std::int64_t>(rounds_high))))};
  return view;
}

// The limit that keeps the row back or ended it, as it stands now.
std::shared_ptr<const LimitReached> Engine::State::limit_at_work(const JobRow& row, Timestamp now) const {
  const Account& account = *find_account(row.account);
  const bool refused_when_due = row.state == JobState::kScheduled && !row.hold;
  const bool ended_by_limit = row.error && (row.error->code == error_code_name(ErrorCode::kCostCapReached) ||
                                            row.error->code == error_code_name(ErrorCode::kQuotaExceeded));
  if (refused_when_due || ended_by_limit) {
    const auto want = want_of(row, route_today(row));
    const auto error = want ? refusal(account, *want, now) : std::nullopt;
    return error ? error->limit : nullptr;
  }
  if (row.state != JobState::kQueued) return nullptr;
  const std::int64_t tokens = row.hold ? row.hold->amounts[policy::Meter::kTokens] : 0;
  for (const Payer* payer : payers(account)) {
    if (payer == nullptr) continue;
    const policy::Rates& rates = promise_of(*payer).rates;
    if (!rates.any() || payer->rates.wait(rates, tokens, now.mono) <= Duration{0}) continue;
    const char* meter = payer->rates.tightest(rates, tokens, now.mono);
    const RateView view = payer->rates.view(rates, now.mono);
    const auto& window = std::string_view(meter) == "tokens_per_minute" ? view.tokens : view.requests;
    return std::make_shared<const LimitReached>(
        LimitReached{.scope = scope_name(payer->scope),
                     .meter = meter,
                     .limit = fmt::to_string(window ? window->limit : 0),
                     .used = fmt::to_string(window ? window->limit - window->remaining : 0),
                     .held = "0",
                     .wanted = "1",
                     .resets_at = {}});
  }
  return nullptr;
}

Why Engine::State::why(const JobRow& row, Timestamp now) const {
  Why why;
  why.pool = row.pool;
  why.draining = draining_;
  const Account* account = find_account(row.account);
  if (account == nullptr) return why;
  why.plan = account->plan->name;
  why.priority_class = account->plan->priority_class;
  why.account_running = account->running;
  why.account_limit = account->plan->limits.concurrent_jobs;
  why.account_waiting = account->waiting;
  why.limit = limit_at_work(row, now);
  if (why.limit) why.holders = holders(*account, kHoldersShown, why.limit->meter).most;
  const auto it = pools_.find(row.pool);
  if (it == pools_.end()) return why;
  const Pool& pool = *it->second;
  why.pool_running = pool.running;
  why.pool_slots = pool.slots;
  why.pool_paused = pool.paused || pool.paused_providers.contains(row.provider);
  if (pool.pull) {
    const auto own = pool.own_claims.find(row.account);
    why.pool_claims = pool.claims.size() + (own != pool.own_claims.end() ? own->second.size() : 0);
  }
  why.pool_down = pool.gate && pool.gate->room(row.account, 0, now.mono).down;
  const std::size_t own = policy::class_index(why.priority_class);
  for (std::size_t i = own + 1; i < policy::kClassCount; ++i) why.pool_waiting_higher += pool.queued[i];
  const Queue* queue = find_queue(*account, row.pool);
  why.pool_waiting_same = pool.queued[own] - std::min(pool.queued[own], queue != nullptr ? queue->queued : 0);
  return why;
}

UsageView Engine::State::usage(const Payer& payer, Timestamp now) const {
  static const PeriodRow kNothingYet;
  const Book* book = current_book(payer, now);
  const PeriodRow& row = book != nullptr ? book->row : kNothingYet;
  const policy::Promise& promise = promise_of(payer);
  UsageView view;
  view.period = period_of(payer, now);
  for (const policy::MeterName& name : policy::meter_names()) {
    const std::size_t i = policy::index_of(name.meter);
    const auto limit = limit_of(payer, name.meter, now.wall);
    if (!limit && row.used.of[i] == 0 && row.held.of[i] == 0) continue;
    view.meters.push_back({.meter = name.name,
                           .of = name.meter,
                           .used = row.used.of[i],
                           .held = row.held.of[i],
                           .limit = limit});
  }
  for (const std::string& type : policy_->content_types) {
    const auto content = std::ranges::find(row.content, type, &PeriodRow::Content::type);
    const bool known = content != row.content.end();
    const auto limit = limit_of(payer, type, now.wall);
    if (!limit && !known) continue;
    view.meters.push_back({.meter = type,
                           .of = {},
                           .used = known ? content->used : 0,
                           .held = known ? content->held : 0,
                           .limit = limit});
  }
  view.cost_used = row.cost_used;
  view.cost_held = row.cost_held;
  view.cost_cap = cap_of(payer, now.wall);
  view.hard_stop = promise.cost_cap && promise.cost_cap->hard_stop;
  return view;
}

// Of the account, or of its groups where those leave less.
RateView Engine::State::rates(const Account& account, Timestamp now) const {
  RateView least;
  const auto take_less = [](std::optional<RateView::Window>& into,
                            const std::optional<RateView::Window>& from) {
    if (from && (!into || from->remaining < into->remaining)) into = from;
  };
  for (const Payer* payer : payers(account)) {
    if (payer == nullptr) continue;
    const RateView view = payer->rates.view(promise_of(*payer).rates, now.mono);
    take_less(least.requests, view.requests);
    take_less(least.tokens, view.tokens);
  }
  return least;
}

// Whatever holds something stands in a queue, runs, or is scheduled to run again.
Holders Engine::State::holders(const Account& account, std::size_t limit, std::string_view meter) const {
  Holders found;
  std::vector<std::pair<std::int64_t, const Job*>> all;
  const auto look = [&](JobId id) {
    ++found.looked_at;
    const auto job = jobs_.find(id);
    if (job == jobs_.end() || job->second.row.account != account.row.id || !job->second.row.hold) return;
    const std::int64_t held = held_of(job->second, meter);
    if (held > 0 || meter.empty()) all.emplace_back(held, &job->second);
  };
  for (const auto& queue : account.queues) {
    for (const JobId call : queue->calls) look(call);
    for (const auto& [priority, job] : queue->window.keys()) look(job);
  }
  for (const auto& [id, attempt] : tries_) look(attempt.job);
  for (const auto& [due, job] : scheduled_.keys()) look(job);

  const auto more = [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second->row.id < b.second->row.id;
  };
  const std::size_t shown = std::min(limit, all.size());
  std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(shown), all.end(), more);
  found.most.reserve(shown);
  for (std::size_t i = 0; i < shown; ++i) {
    const JobRow& row = all[i].second->row;
    found.most.push_back({.job = row.id,
                          .call = all[i].second->call,
                          .state = row.state,
                          .cost = row.hold->cost,
                          .amounts = row.hold->amounts,
                          .content = row.hold->content});
  }
  return found;
}

std::vector<PeriodRow> Engine::State::periods() const {
  std::vector<PeriodRow> rows;
  const auto add = [&rows](const Payer& payer) {
    for (const Book& book : payer.books) rows.push_back(book.row);
  };
  for (const auto& [id, account] : accounts_) add(*account);
  for (const auto& [name, team] : teams_) add(*team);
  add(platform_);
  return rows;
}

Engine::Stats Engine::State::stats() const {
  Stats stats;
  for (const auto& [name, pool] : pools_) {
    stats.pools.push_back({.name = name,
                           .slots = pool->slots,
                           .running = pool->running,
                           .paused = pool->paused,
                           .breaker_open = pool->gate && pool->gate->breaker_open(heard_),
                           .keys = pool->gate ? pool->gate->keys(heard_) : std::vector<Gate::KeyState>{},
                           .queued = pool->queued});
    if (pool->pull) stats.pools.back().claims = claims_of(*pool);
    for (const std::uint64_t queued : pool->queued) stats.queued += queued;
    stats.processing += pool->running;
  }
  stats.scheduled = scheduled_total_;
  stats.accounts = accounts_.size();
  stats.jobs_in_memory = jobs_.size();
  return stats;
}

std::vector<PutQueueCount> Engine::State::queue_counts() const {
  std::vector<PutQueueCount> counts;
  for (const auto& [id, account] : accounts_) {
    for (const auto& queue : account->queues) {
      if (queue->queued + queue->scheduled > 0)
        counts.push_back({id, queue->pool->name, queue->queued, queue->scheduled});
    }
  }
  std::sort(counts.begin(), counts.end(), [](const PutQueueCount& a, const PutQueueCount& b) {
    return a.account != b.account ? a.account < b.account : a.pool < b.pool;
  });
  return counts;
}

bool Engine::State::may_start_job(const Queue& queue, Timestamp now) const {
  if (queue.window.empty()) return false;
  const Account& account = *queue.account;
  const auto& cap = account.plan->limits.concurrent_jobs;
  if (cap && account.running >= *cap) return false;
  const auto next = next_job(queue);
  if (!next) return false;
  const JobRow& first = jobs_.at(*next).row;
  const std::int64_t tokens = first.hold ? first.hold->amounts[policy::Meter::kTokens] : 0;
  return std::ranges::all_of(payers(account), [&](const Payer* payer) {
    if (payer == nullptr) return true;
    if (payer->rates.wait(promise_of(*payer).rates, tokens, now.mono) > Duration{0}) return false;
    const auto* terms = payer->scope == Scope::kAccount ? nullptr : static_cast<const Group*>(payer)->terms;
    return terms == nullptr || !terms->concurrent_jobs || payer->running < *terms->concurrent_jobs;
  });
}

// From first principles, not from the rings: the rings are what is being tested.
std::optional<JobId> Engine::State::startable(Timestamp now) const {
  if (draining_) return std::nullopt;
  std::map<const Pool*, std::uint32_t> low_running;
  for (const auto& [id, attempt] : tries_) {
    if (!attempt.lost && attempt.pick.priority_class < policy::PriorityClass::kHigh)
      ++low_running[attempt.pool];
  }
  for (const auto& [id, account] : accounts_) {
    for (const auto& queue : account->queues) {
      const Pool& pool = *queue->pool;
      if (pool.pull && !claimed(pool, id)) continue;
      if (pool.paused || pool.running >= pool.slots || (!next_call(*queue) && !may_start_job(*queue, now)))
        continue;
      const auto configured = policy_->pools.find(pool.name);
      const std::uint32_t headroom = configured != policy_->pools.end() ? configured->second.headroom : 0;
      const bool low = account->plan->priority_class < policy::PriorityClass::kHigh;
      if (low && low_running[&pool] + headroom >= pool.slots) continue;
      const Job& next = next_of(*queue);
      const std::int64_t tokens = next.row.hold ? next.row.hold->amounts[policy::Meter::kTokens] : 0;
      if (pool.gate && !pool.gate->room(id, tokens, now.mono).open) continue;
      return next_of(*queue).row.id;
    }
  }
  return std::nullopt;
}

}  // namespace turnpike::engine
