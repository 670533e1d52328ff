// An engine at a time that the test sets, and what it changed. Every command's changes are kept as rows, as a
// journal would keep them, each command being a batch of its own.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/engine.h"

namespace turnpike::engine {

using policy::PriorityClass;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

// Plans `low`, `standard`, `high` and `critical` of those classes, no limits; pool `pool` with one slot.
inline policy::Policy four_plans(std::uint32_t slots = 1) {
  policy::Policy policy;
  policy.pools["pool"] = {.name = "pool", .slots = slots, .headroom = 0};
  policy.providers["provider"].pool = "pool";
  policy.accounts.default_plan = "low";
  policy.share_permille = {50, 100, 200, 0};
  for (const auto each :
       {PriorityClass::kLow, PriorityClass::kStandard, PriorityClass::kHigh, PriorityClass::kCritical}) {
    policy::Plan& plan = policy.plans[policy::class_name(each)];
    plan.name = policy::class_name(each);
    plan.priority_class = each;
  }
  return policy;
}

class EngineTest : public ::testing::Test {
 protected:
  EngineTest() { begin(four_plans()); }

  // A new engine under `policy`, nothing in it.
  void begin(policy::Policy policy, EngineOptions options = {}) {
    rows_.clear();
    counts_.clear();
    options_ = options;
    policy_ = std::move(policy);
    engine_ = std::make_unique<Engine>(shared(), options);
    Changes out = changes();
    engine_->recover({}, now_, out);
    keep(out);
    answer_timed_refills();
  }
  policy::PolicyPtr shared() const { return std::make_shared<const policy::Policy>(policy_); }
  policy::Plan& plan(const std::string& name) { return policy_.plans.at(name); }
  // What was changed in policy_ takes effect.
  void apply() {
    Changes out = changes();
    engine_->apply(shared(), ++version_, 1, now_, out);
    keep(out);
  }
  // The process dies and starts again with the rows as they are.
  void restart() {
    Recovery recovery;
    recovery.last_id = ids_;
    for (const auto& [key, row] : periods_) {
      if (row.current || row.holds > 0) recovery.periods.push_back(row);
    }
    for (const auto& [id, row] : accounts_) recovery.accounts.push_back(row);
    for (const auto& [name, count] : counts_) recovery.queues.push_back(count);
    for (const auto& [id, row] : run_rows_) {
      if (!ended(row.state) || row.live_jobs > 0) recovery.runs.push_back(row);
    }
    for (const auto& [id, row] : rows_) {
      recovery.last_id = std::max(recovery.last_id, row.current_try.value);
      if (row.state == JobState::kProcessing) recovery.processing.push_back(row);
    }
    engine_ = std::make_unique<Engine>(shared(), options_);
    Changes out = changes();
    engine_->recover(std::move(recovery), now_, out);
    keep(out);
    const Changes recovered = last_;
    answer_timed_refills();
    last_ = recovered;
  }
  // What is scheduled and what expires, read from the rows: as many as there are.
  void answer_timed_refills() {
    const Changes asked = last_;
    for (const auto& effect : asked.effects) {
      const auto* scheduled = std::get_if<RefillScheduled>(&effect);
      const auto* expiring = std::get_if<RefillExpiring>(&effect);
      if (scheduled == nullptr && expiring == nullptr) continue;
      std::vector<ColdJob> heads;
      for (const auto& [id, row] : rows_) {
        const bool wanted = scheduled != nullptr ? row.state == JobState::kScheduled
                                                 : row.state == JobState::kQueued && row.expires_at != kNever;
        if (wanted) heads.push_back(read(id));
      }
      std::ranges::sort(heads, {}, [&](const ColdJob& head) {
        return std::pair(scheduled != nullptr ? head.row.due_at : head.row.expires_at, head.row.id);
      });
      Changes out = changes();
      if (scheduled != nullptr) EXPECT_TRUE(engine_->refill_scheduled(*scheduled, heads, now_, out));
      if (expiring != nullptr) EXPECT_TRUE(engine_->refill_expiring(*expiring, heads, now_, out));
      keep(out);
    }
  }

  AccountId account(const std::string& user, const std::string& plan_name, bool set_plan = false) {
    Changes out = changes();
    const auto made = engine_->ensure_account(user, AccountId{++ids_}, plan_name, set_plan, now_, out);
    EXPECT_TRUE(made.has_value());
    keep(out);
    return made->row.id;
  }
  // One candidate a pool, of the provider of that name; "pool" belongs to "provider".
  policy::RoutePtr route(const std::vector<std::string>& pools) const {
    policy::Route made;
    for (const std::string& pool : pools) {
      made.candidates.push_back({.provider = pool == "pool" ? "provider" : pool,
                                 .pool = pool,
                                 .model = "m",
                                 .model_version = "1",
                                 .upstream_model = "u",
                                 .price = price_});
    }
    return std::make_shared<const policy::Route>(std::move(made));
  }
  NewJob job(AccountId owner) {
    NewJob job;
    job.id = JobId{++ids_};
    job.account = owner;
    job.task = "task";
    job.route = route({"pool"});
    job.body = std::make_shared<JobBody>();
    return job;
  }
  Result<Submitted> try_submit(NewJob job) {
    Changes out = changes();
    job.dedupe_at = out.batch - 1;
    auto answer = engine_->submit(std::move(job), now_, out);
    keep(out);
    return answer;
  }
  JobId submit(NewJob job) {
    const auto answer = try_submit(std::move(job));
    EXPECT_TRUE(answer.has_value()) << (answer ? "" : answer.error().message);
    return answer ? answer->row.id : JobId{};
  }
  JobId submit(AccountId owner, std::int32_t priority = 0) {
    NewJob fresh = job(owner);
    fresh.priority = priority;
    return submit(std::move(fresh));
  }
  Result<JobRow> cancel(JobId id) {
    Changes out = changes();
    const ColdJob cold = read(id);
    auto answer = engine_->cancel(id, "user", &cold, now_, out);
    keep(out);
    return answer;
  }
  Result<Submitted> retry(JobId id) {
    Changes out = changes();
    auto answer = engine_->retry(read(id), now_, out);
    keep(out);
    return answer;
  }
  bool settle(TryId id, TryOutcome outcome) {
    Changes out = changes();
    const bool taken = engine_->settle(id, std::move(outcome), now_, out);
    keep(out);
    return taken;
  }
  bool complete(JobId id) {
    return settle(row(id).current_try,
                  TryCompleted{.output = "{}", .artifacts = {}, .usage = {{"units", 3}}});
  }
  bool fail(JobId id, policy::FailureClass failure = policy::FailureClass::kTransient,
            std::optional<Duration> retry_after = {}) {
    return settle(row(id).current_try,
                  TryFailed{.failure = failure, .message = "no luck", .retry_after = retry_after});
  }
  void drain(bool draining) {
    Changes out = changes();
    engine_->set_draining(draining, now_, out);
    keep(out);
  }
  // Time goes on, and the node's heartbeat with it; what runs is not heard of.
  void pass(Duration time) {
    while (time > Duration{0}) {
      const Duration step = std::min(time, options_.lease / 3);
      now_.mono += step;
      now_.wall += step;
      time -= step;
      engine_->extend_leases({}, now_);
    }
    advance();
  }
  void advance() {
    Changes out = changes();
    while (engine_->advance(now_, 100, out).more) {
    }
    keep(out);
  }

  const JobRow& row(JobId id) const { return rows_.at(id); }
  JobState state(JobId id) const { return rows_.at(id).state; }
  ColdJob read(JobId id) const { return {.row = rows_.at(id), .body = nullptr, .at = batch_}; }
  bool runs(JobId id) const { return state(id) == JobState::kProcessing; }
  // The one job that runs in the pool; none or several: JobId{}.
  JobId running() const {
    JobId found;
    int count = 0;
    for (const auto& [id, each] : rows_) {
      if (each.state != JobState::kProcessing) continue;
      found = id;
      ++count;
    }
    return count == 1 ? found : JobId{};
  }
  // Completes whatever runs, one after another, until nothing does; jobs in the order of their starts.
  std::vector<JobId> run_all(Duration each = seconds(1)) {
    std::vector<JobId> order;
    while (running()) {
      order.push_back(running());
      pass(each);
      EXPECT_TRUE(complete(order.back()));
    }
    return order;
  }
  template <typename T>
  std::vector<T> effects() const {
    std::vector<T> found;
    for (const auto& effect : last_.effects)
      if (const auto* one = std::get_if<T>(&effect)) found.push_back(*one);
    return found;
  }
  QueueView view(JobId id) const { return engine_->queue_view(row(id), now_).value(); }

  Changes changes() {
    Changes out;
    out.batch = ++batch_;
    return out;
  }
  void keep(Changes& out) {
    engine_->close_batch(out);
    for (const auto& mutation : out.mutations) {
      if (const auto* put = std::get_if<PutJob>(&mutation)) rows_[put->row.id] = put->row;
      if (const auto* put = std::get_if<PutRun>(&mutation)) run_rows_[put->row.id] = put->row;
      if (const auto* put = std::get_if<PutAccount>(&mutation)) accounts_[put->row.id] = put->row;
      if (const auto* put = std::get_if<PutQueueCount>(&mutation)) counts_[{put->account, put->pool}] = *put;
      if (const auto* put = std::get_if<PutPeriod>(&mutation)) {
        const PeriodRow& row = put->row;
        periods_[{row.scope, row.account, row.team, row.start}] = row;
      }
      if (const auto* add = std::get_if<AddEntry>(&mutation)) ledger_.push_back(add->entry);
    }
    last_ = out;
  }

  policy::Policy policy_;
  EngineOptions options_;
  std::unique_ptr<Engine> engine_;
  Timestamp now_{.mono = Monotonic{seconds(100)}, .wall = wall_from_seconds(1'790'000'000)};
  Batch batch_ = 0;
  std::uint64_t ids_ = 0;
  Changes last_;  // of the last command
  std::map<JobId, JobRow> rows_;
  std::map<RunId, RunRow> run_rows_;
  std::map<AccountId, AccountRow> accounts_;
  std::map<std::pair<AccountId, std::string>, PutQueueCount> counts_;
  std::map<std::tuple<Scope, AccountId, std::string, Wall>, PeriodRow> periods_;
  std::vector<LedgerEntry> ledger_;
  policy::PricePtr price_;  // of the jobs that are made
  std::uint64_t version_ = 1;
};

}  // namespace turnpike::engine
