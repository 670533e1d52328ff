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

void Checker::set_policy(policy::PolicyPtr policy, std::uint64_t version) {
  policy_ = policy;
  promises_.set_policy(std::move(policy), version);
  for (auto& [name, books] : pools_) {
    books.earned_permille = {};
    books.spent = {};
  }
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
    for (const auto& [queue, waiting] : calls_.waiting())
      if (queue.second == name && !waiting.empty())
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

void Checker::admitted(CallBook::Call call) {
  for (const Who& who : promises_.payers(call.account))
    rates_.took(who, promises_.of(who).rates, call.id, call.hold.amounts[policy::Meter::kTokens], accounted_);
  books_.hold(call.id, call.account, call.hold);
  calls_.admit(std::move(call));
}

void Checker::observe(const Command& command, const engine::Changes& out, const engine::Engine& engine,
                      Timestamp now) {
  tally_->add(Seen::kCommands);
  if (command.name == "advance") behind_ = command.advanced_part;
  books_.before(out, ledger_);
  const std::vector<TryId> over = end_tries(command, engine, now);
  end_rates(command, now);
  see_refills(out);
  std::size_t starts = 0, next_effect = 0;
  for (const auto& mutation : out.mutations) {
    if (const auto* run = std::get_if<engine::PutRun>(&mutation)) runs_.put(run->row, out.batch);
    if (const auto* account = std::get_if<engine::PutAccount>(&mutation)) ledger_.put(account->row);
    if (const auto* count = std::get_if<engine::PutQueueCount>(&mutation)) ledger_.put(*count);
    if (const auto* job = std::get_if<engine::PutJob>(&mutation)) {
      if (job->row.current_try && !live_.contains(job->row.current_try))
        see_calls(out, next_effect, job->row.current_try, now);
      const std::size_t before = live_.size();
      see_job(command, job->row, out.batch, over, now);
      starts += live_.size() - before;
    }
  }
  see_calls(out, next_effect, {}, now);
  const auto told = std::ranges::count_if(out.effects, [](const engine::Effect& e) {
    const auto* start = std::get_if<engine::StartTry>(&e);
    return start != nullptr && !start->call;
  });
  require(static_cast<std::size_t>(told) == starts, "I1", "{}: {} jobs became processing, {} were started",
          command.name, starts, told);
  see_starts(out);
  const bool whole = ++commands_ % whole_every_ == 0 || command.name == "recover";
  books_.observe(out, engine, ledger_, command.name, now, whole);
  if (command.name == "apply") check_grandfathered();
  if (command.advanced_all) check_due(now);
  if (!whole) return;
  check_tries(engine);
  runs_.check(engine, ledger_);
  check_counts(engine);
  check_no_idle_slot(engine, now);
}

// Who was subscribed when a plan with `grandfather` changed is written to live by it as it was.
void Checker::check_grandfathered() const {
  for (const AccountId id : promises_.grandfathered()) {
    require(ledger_.account(id)->plan_version == promises_.version() - 1, "plans",
            "{} was to stay on its plan as it was", to_string(id));
    tally_->add(Seen::kGrandfathered);
  }
}

void Checker::see_calls(const engine::Changes& out, std::size_t& next, TryId until, Timestamp now) {
  for (; next < out.effects.size(); ++next) {
    if (const auto* start = std::get_if<engine::StartTry>(&out.effects[next])) {
      if (until && start->try_id == until) return;
      if (start->call) see_call_start(*start, now);
    }
    if (const auto* answer = std::get_if<engine::AnswerCall>(&out.effects[next])) {
      calls_.answer(*answer, out.batch, now, draining_);
      rates_.ended(answer->row.id);
    }
  }
}

// What has completed has used what was reported, and rates are corrected by it.
void Checker::end_rates(const Command& command, Timestamp now) {
  for (const auto& [id, work] : over_jobs_) {
    const JobRow* row = ledger_.job(work);
    const CallBook::Call* call = calls_.find(work);
    const bool believed = call != nullptr || (row != nullptr && row->current_try == id);
    if (id != command.settled || !command.completed || !believed) {
      rates_.ended(work);
      continue;
    }
    const engine::Hold& hold = call != nullptr ? call->hold : *row->hold;
    std::int64_t tokens = policy::amounts_of(*command.completed)[policy::Meter::kTokens];
    if (hold.may_bill && !policy::tells_tokens(*command.completed))
      tokens = hold.amounts[policy::Meter::kTokens];
    rates_.corrected(work, tokens, promises_, now.mono);
  }
}

std::vector<TryId> Checker::end_tries(const Command& command, const engine::Engine& engine, Timestamp now) {
  std::vector<TryId> still = engine.live_tries();
  std::ranges::sort(still);
  std::vector<TryId> over = std::exchange(lost_with_process_, {});
  over_jobs_.clear();
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
    if (!attempt.call) {
      --live_by_account_[attempt.account];
      --live_by_team_[attempt.team];
      --live_jobs_;
    }
    live_by_job_.erase(attempt.job);
    over.push_back(it->first);
    over_jobs_.emplace_back(it->first, attempt.job);
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
                   {.retried = command.retried == row.id || (row.run && command.retried_run == row.run),
                    .settled = command.settled,
                    .over = over},
                   now);
  count_transition(before, row, *tally_);
  ledger_.put(row, batch);
  runs_.see_job(row);
  if (starts) runs_.see_start(row);
  if (starts) see_start(row, now);
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
  if (!behind_) {
    // What a rate lets through in this very instant waits for its timer, which is due in it.
    const auto idle = engine.startable({.mono = now.mono - Duration{1}, .wall = now.wall});
    require(!idle, "I10", "{} could start", to_string(idle.value_or(JobId{})));
  }
  for (const auto& [name, waiting] : ledger_.queues()) {
    if (pool(name.second) != nullptr && may_run(name, waiting, now))
      check_idle_slot_of(name, to_string(waiting.queued.begin()->second));
  }
  for (const auto& [name, waiting] : calls_.waiting()) {
    if (pool(name.second) != nullptr && !waiting.empty())
      check_idle_slot_of(name, to_string(*waiting.begin()));
  }
}

void Checker::check_idle_slot_of(const QueueName& name, const std::string& who) const {
  const policy::Pool& own = *pool(name.second);
  const auto books = pools_.find(name.second);
  const std::uint32_t used = books == pools_.end() ? 0 : books->second.running;
  const std::uint32_t low = books == pools_.end() ? 0 : books->second.running_low;
  if (used >= own.slots) return;
  const bool kept_free = below_high(plan_of(name.first).priority_class) && low + own.headroom >= own.slots;
  require(kept_free, "I10", "{} of {} waits though {} uses {} of {} slots", who, to_string(name.first),
          name.second, used, own.slots);
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
  calls_.check_patience(now);
}

void Checker::committed(const journal::Commit& commit) {
  calls_.committed(commit.batch);
  for (const auto& mutation : commit.mutations) {
    if (const auto* run = std::get_if<engine::PutRun>(&mutation)) runs_.committed(run->row);
    const auto* job = std::get_if<engine::PutJob>(&mutation);
    if (!job) continue;
    require(!completed_.contains(job->row.id), "I1", "{} had completed and was written again",
            to_string(job->row.id));
    if (job->row.state == JobState::kCompleted) completed_.insert(job->row.id);
  }
}

void Checker::call_released(const engine::StartTry& start, engine::Batch durable) {
  // Its id is written nowhere before the call has ended. After a crash it may be given again where the clock
  // is set back, which does no harm: no report of a call outlives the process.
  const auto call = calls_.all().find(start.row.id);
  if (call == calls_.all().end()) return;  // answered already, as lost
  require(start.at_once || call->second.admitted <= durable, "N1",
          "{} was started before its hold was committed", to_string(start.row.id));
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

void Checker::restarted(const journal::Recovered& recovered, const std::vector<JobRow>& rows,
                        const std::map<RunId, engine::RunRow>& runs,
                        const std::vector<engine::PeriodRow>& periods,
                        const std::vector<engine::LedgerEntry>& entries) {
  ledger_ = Ledger{};
  live_.clear();
  live_by_account_.clear();
  live_by_job_.clear();
  live_by_team_.clear();
  live_jobs_ = 0;
  behind_ = false;
  rates_.clear();
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
  runs_.restarted(runs, rows);
  books_.restarted(periods, entries, rows, runs, calls_.crashed(recovered.last_batch));
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
  require(calls_.open() == 0, "calls", "{} calls were never answered", calls_.open());
  books_.all_ended();
  runs_.all_ended();
}

}  // namespace turnpike::simulation
