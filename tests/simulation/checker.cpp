#include "simulation/checker.h"

#include <algorithm>
#include <utility>

#include "simulation/transition.h"
#include "simulation/violation.h"

namespace turnpike::simulation {

using engine::JobRow;
using engine::JobState;
using policy::class_index;
using policy::PriorityClass;

namespace {

constexpr bool below_high(PriorityClass c) {
  return c < PriorityClass::kHigh;
}

}  // namespace

void Checker::set_policy(policy::PolicyPtr policy) {
  policy_ = std::move(policy);
  for (auto& [name, books] : pools_) {
    books.earned_permille = {};
    books.spent = {};
  }
}

const policy::Plan& Checker::plan_of(AccountId id) const {
  const engine::AccountRow* row = ledger_.account(id);
  const policy::Plan* plan = row ? policy_->plan(row->plan) : nullptr;
  return plan ? *plan : *policy_->plan(policy_->accounts.default_plan);
}

const policy::Pool* Checker::pool(const std::string& name) const {
  const auto it = policy_->pools.find(name);
  return it == policy_->pools.end() ? nullptr : &it->second;
}

std::uint32_t Checker::running(AccountId id) const {
  const auto it = live_by_account_.find(id);
  return it == live_by_account_.end() ? 0 : it->second;
}

void Checker::pass_time(Timestamp now) {
  const std::int64_t passed = (now.mono - accounted_).count();
  accounted_ = now.mono;
  // In so long a silence nobody could extend a lease: what runs may not be lost by it.
  if (Duration{passed} > options_.lease * 2 / 3) {
    for (auto& [id, attempt] : live_) attempt.lease_until += Duration{passed};
  }
  if (passed <= 0) return;
  for (auto& [name, books] : pools_) {
    std::array<bool, policy::kClassCount> waits{};
    for (const auto& [queue, waiting] : ledger_.queues())
      if (queue.second == name && !waiting.queued.empty())
        waits[class_index(plan_of(queue.first).priority_class)] = true;
    for (std::size_t c = 0; c < policy::kClassCount; ++c) {
      books.share_max[c] = std::max(books.share_max[c], policy_->share_permille[c]);
      if (waits[c]) {
        books.earned_permille[c] += passed * books.running * books.share_max[c];
      } else {
        books.earned_permille[c] = books.spent[c] = 0;
      }
    }
  }
  for (const auto& [id, attempt] : live_)
    if (attempt.before_higher) pools_[attempt.pool].spent[class_index(attempt.priority_class)] += passed;
}

void Checker::observe(const Command& command, const engine::Changes& out, const engine::Engine& engine,
                      Timestamp now) {
  tally_->add(Seen::kCommands);
  const std::vector<TryId> over = end_tries(command, engine, now);
  see_refills(out);
  std::size_t starts = 0;
  for (const auto& mutation : out.mutations) {
    if (const auto* account = std::get_if<engine::PutAccount>(&mutation)) ledger_.put(account->row);
    if (const auto* count = std::get_if<engine::PutQueueCount>(&mutation)) ledger_.put(*count);
    if (const auto* job = std::get_if<engine::PutJob>(&mutation)) {
      const std::size_t before = live_.size();
      see_job(command, job->row, out.batch, over, now);
      starts += live_.size() - before;
    }
  }
  const auto told = std::ranges::count_if(
      out.effects, [](const engine::Effect& e) { return std::holds_alternative<engine::StartTry>(e); });
  require(static_cast<std::size_t>(told) == starts, "I1", "{}: {} jobs became processing, {} were started",
          command.name, starts, told);
  see_starts(out);
  books_.observe(
      out, engine, *policy_, [this](AccountId id) -> const policy::Plan& { return plan_of(id); },
      command.name == "recover");
  check_tries(engine);
  check_counts(engine);
  check_no_idle_slot(engine, now);
  if (command.advanced_all) check_due(now);
}

std::vector<TryId> Checker::end_tries(const Command& command, const engine::Engine& engine, Timestamp now) {
  std::vector<TryId> still = engine.live_tries();
  std::ranges::sort(still);
  std::vector<TryId> over = std::exchange(lost_with_process_, {});
  for (auto it = live_.begin(); it != live_.end();) {
    if (std::ranges::binary_search(still, it->first)) {
      require(it->first != command.settled, "I3", "{} was settled and is still live", to_string(it->first));
      ++it;
      continue;
    }
    const LiveTry& attempt = it->second;
    require(it->first == command.settled || attempt.lease_until <= now.mono, "I3",
            "{} of {} ended: neither settled nor out of its lease", to_string(it->first),
            to_string(attempt.job));
    if (it->first != command.settled) tally_->add(Seen::kLostTries);
    longest_ = std::max(longest_, now.mono - attempt.started);
    PoolBooks& books = pools_[attempt.pool];
    --books.running;
    if (below_high(attempt.priority_class)) --books.running_low;
    --live_by_account_[attempt.account];
    live_by_job_.erase(attempt.job);
    over.push_back(it->first);
    it = live_.erase(it);
  }
  require(!command.settled || std::ranges::find(over, command.settled) != over.end(), "I4",
          "a settle of {}, which was not live, was accepted", to_string(command.settled));
  return over;
}

void Checker::see_job(const Command& command, const JobRow& row, engine::Batch batch,
                      const std::vector<TryId>& over, Timestamp now) {
  const JobRow* before = ledger_.job(row.id);
  const bool starts =
      row.state == JobState::kProcessing &&
      (!before || before->state != JobState::kProcessing || before->current_try != row.current_try);
  check_transition(before, row,
                   {.retried = command.retried == row.id, .settled = command.settled, .over = over}, now);
  count_transition(before, row, *tally_);
  ledger_.put(row, batch);
  if (starts) see_start(row, now);
}

bool Checker::may_run(const QueueName& name, const WaitingJobs& waiting) const {
  if (waiting.queued.empty()) return false;
  const auto cap = plan_of(name.first).limits.concurrent_jobs;
  if (cap && running(name.first) >= *cap) return false;
  const auto refills = refills_.find(name);
  return refills == refills_.end() || refills->second.empty();
}

bool Checker::higher_class_waits(const JobRow& row, PriorityClass own) const {
  return std::ranges::any_of(ledger_.queues(), [&](const auto& each) {
    return each.first.second == row.pool && plan_of(each.first.first).priority_class > own &&
           may_run(each.first, each.second);
  });
}

void Checker::see_start(const JobRow& row, Timestamp now) {
  const policy::Plan& plan = plan_of(row.account);
  const policy::Pool* own_pool = pool(row.pool);
  const PriorityClass own = plan.priority_class;
  const std::string id = to_string(row.id);
  tally_->add(Seen::kStarts);
  require(!draining_, "drain", "{} started while draining", id);
  require(row.current_try && decided_.insert(row.current_try).second, "I4", "the id of {} was used before",
          to_string(row.current_try));
  require(!live_by_job_.contains(row.id), "I3", "{} started with a live try", id);
  const auto cap = plan.limits.concurrent_jobs;
  require(!cap || running(row.account) < *cap, "I2", "{} started: {} of {} running", id, running(row.account),
          cap.value_or(0));
  PoolBooks& books = pools_[row.pool];
  require(own_pool != nullptr && books.running < own_pool->slots, "I2", "{} started in the full pool {}", id,
          row.pool);
  require(!below_high(own) || books.running_low + own_pool->headroom < own_pool->slots, "I7",
          "{} started within the headroom of {}", id, row.pool);
  if (const auto rest = ledger_.queues().find({row.account, row.pool});
      rest != ledger_.queues().end() && !rest->second.queued.empty()) {
    const engine::QueueKey& best = *rest->second.queued.begin();
    require(BestFirst{}({row.priority, row.id}, best), "I7", "{} started before {} of the same account", id,
            to_string(best.second));
  }

  const bool before_higher = higher_class_waits(row, own);
  if (before_higher) {
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
  ++live_by_account_[row.account];
  live_by_job_[row.id] = row.current_try;
  live_[row.current_try] = {.job = row.id,
                            .account = row.account,
                            .pool = row.pool,
                            .priority_class = own,
                            .started = now.mono,
                            .lease_until = now.mono + options_.lease,
                            .before_higher = before_higher};
}

void Checker::see_starts(const engine::Changes& out) const {
  for (const auto& effect : out.effects) {
    if (const auto* start = std::get_if<engine::StartTry>(&effect)) {
      const auto cap = plan_of(start->row.account).limits.concurrent_jobs;
      require(start->limit == cap, "I2", "{} was started with limit {} instead of {}",
              to_string(start->row.id), start->limit.value_or(0), cap.value_or(0));
      require(start->active <= running(start->row.account), "I2", "{} was started as number {} of {}",
              to_string(start->row.id), start->active, running(start->row.account));
      require(start->timeout > Duration::zero(), "start", "{} has no time to run", to_string(start->row.id));
    }
  }
}

void Checker::see_refills(const engine::Changes& out) {
  for (const auto& effect : out.effects) {
    if (const auto* queue = std::get_if<engine::RefillQueue>(&effect)) {
      refills_[{queue->account, queue->pool}].insert(queue->ticket);
      require(queue->limit > 0, "refill", "a refill asks for nothing");
    }
    if (const auto* timed = std::get_if<engine::RefillScheduled>(&effect))
      scheduled_refills_.insert(timed->ticket);
    if (const auto* timed = std::get_if<engine::RefillExpiring>(&effect))
      expiring_refills_.insert(timed->ticket);
    if (const auto* cold = std::get_if<engine::ExpireCold>(&effect)) cold_expiries_.insert(cold->job);
  }
}

void Checker::lease_extended(TryId id, Timestamp now) {
  const auto it = live_.find(id);
  if (it != live_.end()) it->second.lease_until = std::max(it->second.lease_until, now.mono + options_.lease);
}

void Checker::refill_answered(const engine::RefillQueue& request) {
  refills_[{request.account, request.pool}].erase(request.ticket);
}

void Checker::check_tries(const engine::Engine& engine) const {
  const std::vector<TryId> tries = engine.live_tries();
  require(tries.size() == live_.size(), "I3", "{} tries are live, {} by recount", tries.size(), live_.size());
  for (const TryId id : tries)
    require(live_.contains(id), "I3", "{} is live, though it never started", to_string(id));
  for (const auto& [account, count] : live_by_account_)
    require(engine.running(account) == count, "I6", "{} runs {}, {} by recount", to_string(account),
            engine.running(account), count);
}

void Checker::check_counts(const engine::Engine& engine) const {
  std::size_t found = 0;
  for (const auto& count : engine.queue_counts()) {
    if (count.queued + count.scheduled == 0) continue;
    const auto it = ledger_.queues().find({count.account, count.pool});
    require(it != ledger_.queues().end() && it->second.queued.size() == count.queued &&
                it->second.scheduled == count.scheduled,
            "I6", "{} in {}: counted {}+{}, {}+{} by recount", to_string(count.account), count.pool,
            count.queued, count.scheduled, it == ledger_.queues().end() ? 0 : it->second.queued.size(),
            it == ledger_.queues().end() ? 0 : it->second.scheduled);
    ++found;
  }
  for (const auto& [name, waiting] : ledger_.queues()) {
    const auto told = ledger_.told().find(name);
    const std::uint64_t queued = told == ledger_.told().end() ? 0 : told->second.queued;
    const std::uint64_t scheduled = told == ledger_.told().end() ? 0 : told->second.scheduled;
    require(queued == waiting.queued.size() && scheduled == waiting.scheduled, "I6",
            "{} in {}: the journal was told {}+{}, {}+{} by recount", to_string(name.first), name.second,
            queued, scheduled, waiting.queued.size(), waiting.scheduled);
    if (waiting.queued.size() + waiting.scheduled > 0) --found;
  }
  require(found == 0, "I6", "a queue with waiting jobs is not counted");
}

void Checker::check_no_idle_slot(const engine::Engine& engine, Timestamp now) const {
  if (draining_) return;
  const auto idle = engine.startable(now);
  require(!idle, "I10", "{} could start", to_string(idle.value_or(JobId{})));
  for (const auto& [name, waiting] : ledger_.queues()) {
    const policy::Pool* own = pool(name.second);
    if (!own || !may_run(name, waiting)) continue;
    const auto books = pools_.find(name.second);
    const std::uint32_t used = books == pools_.end() ? 0 : books->second.running;
    const std::uint32_t low = books == pools_.end() ? 0 : books->second.running_low;
    if (used >= own->slots) continue;
    const bool kept_free =
        below_high(plan_of(name.first).priority_class) && low + own->headroom >= own->slots;
    require(kept_free, "I10", "{} of {} waits though {} uses {} of {} slots",
            to_string(waiting.queued.begin()->second), to_string(name.first), name.second, used, own->slots);
  }
}

void Checker::check_due(Timestamp now) const {
  if (scheduled_refills_.empty() && !ledger_.due().empty())
    require(ledger_.due().begin()->first > now.wall, "due", "{} is due and still scheduled",
            to_string(ledger_.due().begin()->second));
  if (expiring_refills_.empty() && cold_expiries_.empty() && !ledger_.expiring().empty())
    require(ledger_.expiring().begin()->first > now.wall, "due", "{} has expired and still waits",
            to_string(ledger_.expiring().begin()->second));
  for (const auto& [id, attempt] : live_)
    require(attempt.lease_until > now.mono, "I3", "{} is live beyond its lease", to_string(id));
}

void Checker::committed(const journal::Commit& commit) {
  for (const auto& mutation : commit.mutations) {
    const auto* job = std::get_if<engine::PutJob>(&mutation);
    if (!job) continue;
    require(!completed_.contains(job->row.id), "I1", "{} had completed and was written again",
            to_string(job->row.id));
    if (job->row.state == JobState::kCompleted) completed_.insert(job->row.id);
  }
}

void Checker::released(const engine::StartTry& start, const std::optional<journal::StoredJob>& stored) {
  require(stored.has_value(), "N1", "{} was started before it was committed", to_string(start.row.id));
  const JobRow& row = stored->row;
  // Cancelled, or cancelled and retried, within the batch that started it: then its stop follows.
  const bool overtaken = row.state != JobState::kProcessing;
  require(overtaken || row.current_try == start.try_id, "N1", "{} was started before it was committed",
          to_string(start.try_id));
  released_.insert(start.try_id);
}

void Checker::restarted(const journal::Recovered& recovered, const std::vector<JobRow>& rows) {
  ledger_ = Ledger{};
  live_.clear();
  live_by_account_.clear();
  live_by_job_.clear();
  pools_.clear();
  refills_.clear();
  scheduled_refills_.clear();
  expiring_refills_.clear();
  cold_expiries_.clear();
  decided_ = released_;
  draining_ = false;
  recount(recovered, rows);
  for (const auto& account : recovered.accounts) ledger_.put(account);
  for (const auto& count : recovered.queues) ledger_.put(count);
  for (const auto& row : rows) {
    ledger_.put(row, recovered.last_batch);
    if (row.state == JobState::kProcessing) lost_with_process_.push_back(row.current_try);
  }
  for (const JobId id : acknowledged_)
    require(ledger_.job(id) != nullptr, "I1", "{} was acknowledged and is missing", to_string(id));
  for (const JobId id : completed_)
    require(ledger_.job(id) != nullptr && ledger_.job(id)->state == JobState::kCompleted, "I1",
            "{} had completed and has not", to_string(id));
}

void Checker::recount(const journal::Recovered& recovered, const std::vector<JobRow>& rows) const {
  std::map<QueueName, std::pair<std::uint64_t, std::uint64_t>> counted;
  for (const auto& row : rows) {
    if (row.state == JobState::kQueued) ++counted[{row.account, row.pool}].first;
    if (row.state == JobState::kScheduled) ++counted[{row.account, row.pool}].second;
  }
  for (const auto& count : recovered.queues) {
    if (count.queued + count.scheduled == 0) continue;
    const auto it = counted.find({count.account, count.pool});
    require(it != counted.end() && it->second == std::pair(count.queued, count.scheduled), "I6",
            "{} in {}: the journal counts {}+{}, which its rows do not", to_string(count.account), count.pool,
            count.queued, count.scheduled);
    counted.erase(it);
  }
  require(counted.empty(), "I6", "the journal does not count a queue that has rows");
}

void Checker::all_ended() const {
  for (const JobId id : acknowledged_) {
    const JobRow* row = ledger_.job(id);
    require(row != nullptr, "I1", "{} was acknowledged and is missing", to_string(id));
    require(ended(row->state), "I1", "{} is still {} after everything has come to rest", to_string(id),
            job_state_name(row->state));
  }
  books_.all_ended();
}

}  // namespace turnpike::simulation
