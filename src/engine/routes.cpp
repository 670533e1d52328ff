// Which of the upstreams of its route serves a job: chosen when it is accepted, again when an attempt begins,
// and when one has failed, has no room or is away.

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "engine/state.h"

namespace turnpike::engine {
namespace {

// Of queues that are looked at in one command because their pool is away; the rest follow by a timer.
constexpr std::size_t kMovesMax = 256;
constexpr std::size_t kLeaveMax = 4'096;  // that are looked over in one command because they cannot run there
constexpr Duration kMovesGoOn = std::chrono::milliseconds(1);
constexpr Duration kLookAgain = std::chrono::seconds(5);  // where nobody knows when a provider is back
constexpr std::uint32_t kTriesInAttemptMax = 16;          // however many keys and providers there are

std::int64_t tokens_of(const Job& job) {
  return job.row.hold ? job.row.hold->amounts[policy::Meter::kTokens] : 0;
}

}  // namespace

std::vector<RouteStep> steps_of(const policy::Route& route) {
  std::vector<RouteStep> steps;
  if (route.candidates.size() < 2) return steps;
  steps.reserve(route.candidates.size());
  for (const policy::Candidate& each : route.candidates) {
    steps.push_back({.provider = each.provider, .pool = each.pool, .upstream_model = each.upstream_model});
  }
  return steps;
}

std::size_t Engine::State::route_size(const Job& job) const {
  return job.route != nullptr ? job.route->candidates.size() : std::max<std::size_t>(1, job.row.route.size());
}

// Of a job that was read from the journal: as its provider is configured and priced today, but for the one it
// is aimed at, whose price it holds.
policy::Candidate Engine::State::candidate_at(const Job& job, std::size_t at) const {
  if (job.route != nullptr) return job.route->candidates.at(at);
  const JobRow& row = job.row;
  policy::Candidate candidate{.provider = row.provider,
                              .pool = row.pool,
                              .model = row.model,
                              .model_version = row.model_version,
                              .upstream_model = row.upstream_model,
                              .price = {}};
  if (!row.route.empty()) {
    const RouteStep& step = row.route.at(at);
    candidate.provider = step.provider;
    candidate.pool = step.pool;
    candidate.upstream_model = step.upstream_model;
  }
  const bool aimed = at == row.step && row.hold && row.hold->price;
  candidate.price = aimed ? row.hold->price : policy_->price(candidate.provider, candidate.upstream_model);
  const auto provider = policy_->providers.find(candidate.provider);
  if (provider != policy_->providers.end()) {
    candidate.remote = policy::is_remote(provider->second.kind);
    candidate.saturation = provider->second.saturation;
    candidate.pool = provider->second.pool;
  }
  return candidate;
}

policy::Route Engine::State::route_today(const JobRow& row) const {
  Job job{.account = find_account(row.account), .row = row, .body = nullptr};
  job.row.hold.reset();
  policy::Route route;
  for (std::size_t at = 0; at < route_size(job); ++at) route.candidates.push_back(candidate_at(job, at));
  return route;
}

// Whether it may be asked at all: what cannot be priced cannot be kept below a hard cap.
bool Engine::State::may_serve(const Account& account, const policy::Amounts& amounts,
                              const policy::Candidate& candidate) const {
  if (!hard_stop(account)) return true;
  return candidate.price != nullptr && policy::unpriced(*candidate.price, amounts).empty();
}

bool Engine::State::is_out(const Pool& pool, std::string_view provider) {
  return pool.slots == 0 || pool.paused || pool.paused_providers.contains(provider);
}

bool Engine::State::away(const Pool& pool, std::string_view provider, AccountId account, std::int64_t tokens,
                         Timestamp now) const {
  if (is_out(pool, provider)) return true;
  return pool.gate && pool.gate->room(account, tokens, now.mono).down;
}

bool Engine::State::has_room(const Pool& pool, AccountId account, std::int64_t tokens, Timestamp now) const {
  if (pool.running >= pool.slots || pool.order.size() > 0) return false;
  if (pool.pull && !claimed(pool, account)) return false;
  return !pool.gate || pool.gate->room(account, tokens, now.mono).open;
}

std::optional<Error> Engine::State::all_broken(const Account& account, const policy::Route& route,
                                               const policy::Amounts& amounts, Timestamp now) {
  std::optional<Duration> soonest;
  std::string names;
  for (const policy::Candidate& candidate : route.candidates) {
    if (!may_serve(account, amounts, candidate)) continue;
    const Pool& pool = pool_named(candidate.pool);
    Gate::Room room{.down = true, .broken = true, .wait = Gate::kNoTime};
    if (!is_out(pool, candidate.provider))
      room = pool.gate ? pool.gate->room(account.row.id, amounts[policy::Meter::kTokens], now.mono)
                       : Gate::Room{};
    if (!room.broken) return std::nullopt;
    if (room.wait != Gate::kNoTime) soonest = std::min(soonest.value_or(room.wait), room.wait);
    if (!names.empty()) names += ", ";
    names += candidate.provider;
  }
  const auto wait = std::max(std::chrono::seconds(1),
                             std::chrono::ceil<std::chrono::seconds>(soonest.value_or(kLookAgain)));
  Error error{.code = ErrorCode::kUnavailable,
              .message = fmt::format("no provider can be asked now ({}): what serves this model fails or is "
                                     "paused; come back in {} s, or submit a job, which waits",
                                     names, wait.count()),
              .param = {}};
  error.retryable = true;
  error.retry_after = wait;
  return error;
}

bool Engine::State::may_go(const Job& job, const policy::Candidate& candidate, Timestamp now) {
  const std::optional<Hold>& hold = job.row.hold;
  if (!may_serve(*job.account, hold ? hold->amounts : job.row.estimate, candidate)) return false;
  if (!hold || candidate.price == nullptr || candidate.price == hold->price) return true;
  const auto cost = policy::cost_at_most(*candidate.price, hold->amounts);
  if (!cost) return false;
  if (*cost <= hold->cost || options_.fault == Fault::kFallsBackUnheld) return true;
  const Want more{.amounts = {}, .content = {}, .price = nullptr, .cost = *cost - hold->cost};
  return !refusal(job, more, now);
}

std::optional<std::size_t> Engine::State::best_of(const Job& job, std::size_t from, std::size_t to,
                                                  bool only_with_room, Timestamp now) {
  const AccountId account = job.row.account;
  const std::int64_t tokens = tokens_of(job);
  std::optional<std::size_t> last;
  for (std::size_t at = from; at < to; ++at) {
    const policy::Candidate candidate = candidate_at(job, at);
    if (!may_go(job, candidate, now)) continue;
    const Pool& pool = pool_named(candidate.pool);
    if (away(pool, candidate.provider, account, tokens, now)) continue;
    if (has_room(pool, account, tokens, now)) return at;
    if (only_with_room) continue;
    if (candidate.saturation == policy::Saturation::kWait) return at;
    last = at;
  }
  return last;
}

std::optional<std::size_t> Engine::State::choose(const Job& job, Timestamp now) {
  const std::size_t size = route_size(job);
  if (size == 1) return 0;
  if (const auto best = best_of(job, 0, size, false, now)) return best;
  // Everything is away: it waits for the first where it may go.
  for (std::size_t at = 0; at < size; ++at) {
    if (may_go(job, candidate_at(job, at), now)) return at;
  }
  return std::nullopt;
}

void Engine::State::aim(Job& job, std::size_t at, Timestamp now) {
  const policy::Candidate candidate = candidate_at(job, at);
  JobRow& row = job.row;
  row.step = static_cast<std::uint32_t>(at);
  row.pool = candidate.pool;
  row.provider = candidate.provider;
  row.upstream_model = candidate.upstream_model;
  job.took = &took(row.task, row.provider);
  if (!row.hold) return;
  Hold& hold = *row.hold;
  hold.may_bill = candidate.remote || (candidate.price && !candidate.price->free());
  if (hold.price == candidate.price) return;
  // What it holds is the dearest so far; what it pays is this one's price.
  hold.price = candidate.price;
  if (job.route == nullptr) hold.price_version = price_version_;
  if (!hold.price || options_.fault == Fault::kFallsBackUnheld) return;
  const auto cost = policy::cost_at_most(*hold.price, hold.amounts);
  if (!cost || *cost <= hold.cost) return;
  const Want more{.amounts = {}, .content = {}, .price = nullptr, .remote = false, .cost = *cost - hold.cost};
  CHECK(!hold_more(job, more, now));  // where it does not fit nobody goes: see may_go()
  job.at_once = false;                // this more may not be durable yet
}

bool Engine::State::aim_anew(Job& job, Timestamp now) {
  if (route_size(job) > 1) {
    const auto at = choose(job, now);
    if (!at) return false;
    aim(job, *at, now);
  } else if (job.took == nullptr) {
    aim(job, 0, now);
  }
  return true;
}

// --- A try that failed

bool Engine::State::fall_back(Job& job, const TryFailed& outcome, const Try& attempt, Timestamp now,
                              Changes& out) {
  if (outcome.failure == policy::FailureClass::kInvalidInput || outcome.began || outcome.unasked)
    return false;
  if (job.tries_in_attempt >= kTriesInAttemptMax) return false;
  JobRow& row = job.row;
  std::optional<std::size_t> next;
  const bool for_its_key = outcome.key_refused || outcome.failure == policy::FailureClass::kRateLimited;
  if (for_its_key && attempt.pass && attempt.pool->gate &&
      attempt.pool->gate->has_other_key(attempt.pass->key, row.account, tokens_of(job), now.mono) &&
      may_go(job, candidate_at(job, row.step), now)) {
    next = row.step;
  } else if (row.step + 1 < route_size(job)) {
    next = best_of(job, row.step + 1, route_size(job), false, now);
  }
  if (!next) return false;
  if (job.call && now.mono >= job.deadline) return false;
  const std::string failed = row.provider;
  aim(job, *next, now);
  remember(row,
           {.kind = HistoryKind::kFellBack,
            .at = now.wall,
            .a = row.attempt,
            .text = failed + " " + policy::failure_class_name(outcome.failure) + ": " + outcome.message});
  row.falls_back = true;
  if (job.call) {
    stand_in_line(job, now);
  } else {
    requeue(job, now, out);
  }
  return true;
}

// A call waits in the ring of its pool.
void Engine::State::stand_in_line(Job& job, Timestamp now) {
  job.row.state = JobState::kQueued;
  job.row.current_try = {};
  Queue& queue = queue_of(*job.account, job.row.pool);
  queue.calls.insert(job.row.id);
  patience_.insert({job.patience_end, job.row.id});
  sync_ring(queue, now);
}

void Engine::State::note_canary(const Job& job, bool completed, Timestamp now, Changes& out) {
  if (job.route == nullptr || job.route->canary_id.empty()) return;
  const std::string& id = job.route->canary_id;
  if (completed) {
    canaries_.completed(id, job.route->canary, now.wall - job.row.started_at, job.row.cost);
  } else {
    canaries_.failed(id, job.route->canary);
  }
  if (auto why = canaries_.judge(id))
    out.effects.emplace_back(CanaryFailed{.canary = id, .why = std::move(*why)});
}

// --- A pool that has no room for anybody

// It goes to another upstream of its route: one that follows, else one before. False: it has none to go to.
bool Engine::State::move_on(Queue& queue, JobId id, bool only_with_room, Timestamp now, Changes& out) {
  Job& job = jobs_.at(id);
  auto next = best_of(job, job.row.step + 1, route_size(job), only_with_room, now);
  if (!next) next = best_of(job, 0, job.row.step, only_with_room, now);
  if (!next) return false;
  if (job.call) {
    queue.calls.erase(id);
    aim(job, *next, now);
    sync_ring(queue, now);
    Queue& other = queue_of(*job.account, job.row.pool);
    other.calls.insert(id);
    sync_ring(other, now);
    return true;
  }
  unqueue(queue, job.row, out.batch);
  sync_ring(queue, now);
  aim(job, *next, now);
  move_to_queue(job, now, out);
  return true;
}

// The pool is gone, or some of its providers are paused: what waits for them goes elsewhere, where it can.
void Engine::State::leave(Pool& pool, Timestamp now, Changes& out) {
  pool.to_leave = false;
  std::vector<std::pair<Queue*, JobId>> found;
  const auto look_at = [&](Queue& queue, JobId id) {
    const Job& job = jobs_.at(id);
    if (route_size(job) > 1 && is_out(pool, job.row.provider)) found.emplace_back(&queue, id);
  };
  for (const auto& [account, queue] : pool.queues) {
    for (const JobId id : queue->calls) look_at(*queue, id);
    for (const QueueKey& key : queue->window.keys()) look_at(*queue, key.second);
    if (found.size() >= kLeaveMax) break;
  }
  bool stay = false;
  std::size_t moves = 0;
  for (const auto& [queue, id] : found) {
    if (moves >= kMovesMax) return shut(pool, kMovesGoOn, now);
    if (move_on(*queue, id, false, now, out)) {
      ++moves;
    } else {
      stay = true;
    }
  }
  if (stay) shut(pool, kLookAgain, now);
}

// What keeps the next of a queue from starting in a pool that has a free slot. Nothing: it may start. Whoever
// can go elsewhere does.
Engine::State::Passage Engine::State::pass(Pool& pool, Queue& queue, std::size_t& moves, Timestamp now,
                                           Changes& out) {
  if (!pool.gate && !pool.paused) return Passage::kStart;
  const Job& next = next_of(queue);
  Gate::Room room{.open = false, .down = true, .wait = Gate::kNoTime};
  if (!pool.paused) room = pool.gate->room(next.row.account, tokens_of(next), now.mono);
  if (room.open) return Passage::kStart;
  const bool several = route_size(next) > 1;
  const bool spills = several && candidate_at(next, next.row.step).saturation == policy::Saturation::kSpill;
  if (moves < kMovesMax && several && (room.down || spills) &&
      move_on(queue, next.row.id, !room.down, now, out)) {
    ++moves;
    return Passage::kAgain;
  }
  shut(pool, moves < kMovesMax ? room.wait : kMovesGoOn, now);
  if (!room.down || moves >= kMovesMax) return Passage::kShut;
  // It stays; others may have somewhere else to go.
  ++moves;
  pool.order.leave(queue.account->row.id);
  pool.kept_out.insert(queue.account->row.id);
  return Passage::kAgain;
}

// Nothing starts in the pool until then, or until one of its tries ends.
void Engine::State::shut(Pool& pool, Duration wait, Timestamp now) {
  if (wait == Gate::kNoTime) return;
  const Monotonic at = now.mono + std::max(wait, Duration{1});
  if (pool.timer != Monotonic{} && pool.timer <= at && pool.timer > now.mono) return;
  if (pool.timer != Monotonic{}) pool_timers_.erase({pool.timer, pool.number});
  pool.timer = at;
  pool_timers_.insert({at, pool.number});
}

// It may have room again: who was kept out stands in line again.
void Engine::State::reopen(Pool& pool, Timestamp now) {
  for (const AccountId id : std::exchange(pool.kept_out, {})) sync_ring(queue_in(id, pool), now);
  pool.to_leave = pool.slots == 0 || !pool.paused_providers.empty();
  touch(pool);
}

// --- What the operator decides

void Engine::State::shape_gate(Pool& pool, Timestamp now) {
  const auto provider = policy_->providers.find(pool.name);
  // Programs that share the slots of this machine have no gate: nothing is known of them together.
  const bool own = provider != policy_->providers.end() && provider->second.pool == pool.name;
  const bool forgotten = options_.fault == Fault::kGateForgotten;
  if (pool.memory && pool.gate == nullptr && (forgotten || !pool.memory->remembers(now.mono)))
    pool.memory.reset();
  if (!own || !Gate::bounds(provider->second)) {
    pool.gate = nullptr;
  } else {
    const bool unseen = pool.gate == nullptr && pool.ungated != Monotonic{};
    if (!pool.memory) pool.memory = std::make_unique<Gate>(restarted_at_);
    pool.gate = pool.memory.get();
    pool.gate->reshape(provider->second, now.mono);
    if (unseen) pool.gate->began_unseen(pool.ungated);
    const auto paused = overlay_->paused_keys.find(pool.name);
    pool.gate->pause_keys(paused == overlay_->paused_keys.end()
                              ? std::set<std::string>{}
                              : std::set<std::string>(paused->second.begin(), paused->second.end()));
  }
  pool.paused = own && overlay_->provider_paused(pool.name);
  const auto paused_before = std::exchange(pool.paused_providers, {});
  for (const std::string& name : overlay_->paused_providers) {
    const auto sharing = policy_->providers.find(name);
    if (sharing != policy_->providers.end() && sharing->second.pool == pool.name && name != pool.name)
      pool.paused_providers.insert(name);
  }
  if (pool.paused_providers != paused_before) {
    for (const auto& [id, queue] : pool.queues) sync_ring(*queue, now);
  }
  shape_claims(pool);
}

void Engine::State::set_overlay(policy::OverlayPtr overlay, Timestamp now, Changes& out) {
  CHECK(overlay != nullptr);
  overlay_ = std::move(overlay);
  canaries_.follow(*overlay_);
  for (const auto& [name, pool] : pools_) {
    shape_gate(*pool, now);
    reopen(*pool, now);
  }
  finish(now, out);
}

}  // namespace turnpike::engine
