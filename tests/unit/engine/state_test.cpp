// The whole: configurations applied while it runs, draining, restarts, cold heads.
#include "unit/engine/fixture.h"

namespace turnpike::engine {
namespace {

class Apply : public EngineTest {};
class Drain : public EngineTest {};
class Recover : public EngineTest {};
class Cold : public EngineTest {};

TEST_F(Apply, ARaisedCapStartsWaitingJobsAtOnce) {
  begin(four_plans(10));
  plan("low").limits.concurrent_jobs = 1;
  apply();
  const AccountId owner = account("u", "low");
  submit(owner);
  const JobId second = submit(owner);
  EXPECT_FALSE(runs(second));
  plan("low").limits.concurrent_jobs = 5;
  apply();
  EXPECT_TRUE(runs(second));
}

TEST_F(Apply, ALoweredCapLetsRunningJobsFinish) {
  begin(four_plans(10));
  const AccountId owner = account("u", "low");
  const JobId a = submit(owner), b = submit(owner);
  plan("low").limits.concurrent_jobs = 1;
  apply();
  EXPECT_TRUE(runs(a) && runs(b));
  const JobId c = submit(owner);
  complete(a);
  EXPECT_FALSE(runs(c)) << "one still runs";
  complete(b);
  EXPECT_TRUE(runs(c));
}

TEST_F(Apply, MoreSlotsStartMore) {
  const AccountId owner = account("u", "low");
  submit(owner);
  const JobId second = submit(owner);
  policy_.pools["pool"].slots = 2;
  apply();
  EXPECT_TRUE(runs(second));
}

TEST_F(Apply, ARemovedPoolPausesItsQueueAndLosesNothing) {
  const AccountId owner = account("u", "low");
  const JobId first = submit(owner), second = submit(owner);
  const auto pools = std::exchange(policy_.pools, {});
  apply();
  complete(first);
  EXPECT_EQ(state(second), JobState::kQueued);
  EXPECT_EQ(view(second).waiting_for, WaitingFor::kPaused);
  policy_.pools = pools;
  apply();
  EXPECT_TRUE(runs(second));
}

TEST_F(Apply, AnAccountOfARemovedPlanFallsBackToTheDefault) {
  const AccountId owner = account("u", "high");
  policy_.plans.erase("high");
  apply();
  EXPECT_EQ(engine_->plan_of(owner).name, "low");
  EXPECT_EQ(engine_->account(owner)->plan, "high") << "what was bought is remembered";
}

TEST_F(Drain, StartsNothingUntilItEnds) {
  drain(true);
  const JobId id = submit(account("u", "low"));
  EXPECT_EQ(state(id), JobState::kQueued);
  EXPECT_EQ(view(id).waiting_for, WaitingFor::kPaused);
  drain(false);
  EXPECT_TRUE(runs(id));
}

TEST_F(Recover, WhatRanRunsAgainAndItIsNotAnAttempt) {
  const JobId id = submit(account("u", "low"));
  const TryId before = row(id).current_try;
  restart();
  EXPECT_TRUE(runs(id));
  EXPECT_NE(row(id).current_try, before);
  EXPECT_EQ(row(id).attempt, 1U);
  EXPECT_EQ(row(id).lost, 1U);
  EXPECT_FALSE(settle(before, TryCompleted{.output = "{}", .artifacts = {}, .usage = {}}));
}

TEST_F(Recover, AJobThatKillsTheServerFailsInTheEnd) {
  const JobId id = submit(account("u", "low"));
  for (std::uint32_t i = 0; i <= kLostMax && !ended(state(id)); ++i) restart();
  EXPECT_EQ(state(id), JobState::kFailed);
  EXPECT_EQ(row(id).error->code, "crashed");
}

TEST_F(Recover, CountsAreAsTheyWere) {
  const AccountId owner = account("u", "low");
  for (int i = 0; i < 4; ++i) submit(owner);
  NewJob later = job(owner);
  later.run_at = now_.wall + hours(1);
  submit(std::move(later));
  drain(true);
  restart();
  const auto counts = engine_->queue_counts();
  ASSERT_EQ(counts.size(), 1U);
  EXPECT_EQ(counts[0].queued + engine_->running(owner), 4U);
  EXPECT_EQ(counts[0].scheduled, 1U);
}

TEST_F(Recover, AScheduledJobThatBecomesDueLaterStillExpires) {
  plan("low").expire_after = minutes(5);
  plan("low").limits.concurrent_jobs = 0;
  begin(policy_);
  NewJob later = job(account("u", "low"));
  later.run_at = now_.wall + hours(1);
  const JobId id = submit(std::move(later));
  restart();
  pass(hours(1));
  EXPECT_EQ(state(id), JobState::kQueued);
  pass(minutes(5));
  EXPECT_EQ(state(id), JobState::kExpired);
}

TEST_F(Recover, AsksForWhatWaitsAndStartsItWhenAnswered) {
  const AccountId owner = account("u", "low");
  const JobId first = submit(owner);
  const JobId waits = submit(owner);
  complete(first);
  rows_.at(waits).state = JobState::kQueued;  // the crash came before the start was durable
  rows_.at(waits).current_try = {};
  rows_.at(waits).attempt = 0;
  counts_.begin()->second = {.account = owner, .pool = "pool", .queued = 1, .scheduled = 0};
  restart();
  EXPECT_FALSE(runs(waits));
  const auto refills = effects<RefillQueue>();
  ASSERT_EQ(refills.size(), 1U);
  EXPECT_EQ(refills[0].after, std::nullopt);
  Changes out = changes();
  EXPECT_TRUE(engine_->refill_queue(refills[0], {{.row = row(waits), .body = nullptr, .at = out.batch - 1}},
                                    now_, out));
  keep(out);
  EXPECT_TRUE(runs(waits));
}

TEST_F(Cold, BeyondTheWindowJobsLeaveMemoryAndAreAskedForAtHalf) {
  begin(four_plans(), {.window_max = 8, .window_min = 4});
  const AccountId owner = account("u", "low");
  std::vector<JobId> jobs;
  for (int i = 0; i < 30; ++i) jobs.push_back(submit(owner));
  EXPECT_LE(engine_->stats().jobs_in_memory, 9U);
  EXPECT_EQ(engine_->queue_counts()[0].queued, 29U);
  std::optional<RefillQueue> asked;
  for (int i = 0; i < 8 && !asked; ++i) {
    complete(jobs[static_cast<std::size_t>(i)]);
    if (!effects<RefillQueue>().empty()) asked = effects<RefillQueue>()[0];
  }
  ASSERT_TRUE(asked.has_value());
  EXPECT_EQ(asked->after, (QueueKey{0, jobs[8]})) << "after the last head in memory";
}

TEST_F(Cold, ABetterJobGoesBeforeColdOnes) {
  begin(four_plans(), {.window_max = 8, .window_min = 4});
  const AccountId owner = account("u", "low");
  const JobId first = submit(owner);
  for (int i = 0; i < 30; ++i) submit(owner);
  const JobId urgent = submit(owner, 9);
  complete(first);
  EXPECT_TRUE(runs(urgent));
}

TEST_F(Cold, AColdJobIsCancelledByItsRow) {
  begin(four_plans(), {.window_max = 8, .window_min = 4});
  const AccountId owner = account("u", "low");
  JobId last;
  for (int i = 0; i < 30; ++i) last = submit(owner);
  ASSERT_TRUE(cancel(last).has_value());
  EXPECT_EQ(state(last), JobState::kCancelled);
  EXPECT_EQ(engine_->queue_counts()[0].queued, 28U);
}

TEST_F(Cold, ARefillReadBeforeAChangeIsStaleAndAskedForAgain) {
  begin(four_plans(), {.window_max = 4, .window_min = 4});
  const AccountId owner = account("u", "low");
  std::vector<JobId> jobs;
  for (int i = 0; i < 12; ++i) jobs.push_back(submit(owner));
  std::optional<RefillQueue> asked;
  for (std::size_t i = 0; i < 4 && !asked; ++i) {
    complete(jobs[i]);
    if (!effects<RefillQueue>().empty()) asked = effects<RefillQueue>()[0];
  }
  ASSERT_TRUE(asked.has_value());
  std::vector<ColdJob> heads;
  for (const JobId id : jobs)
    if (heads.size() < asked->limit && QueueKey{0, id}.second > asked->after->second)
      heads.push_back(read(id));
  ASSERT_FALSE(heads.empty());
  ASSERT_TRUE(cancel(heads.front().row.id).has_value());
  Changes out = changes();
  EXPECT_FALSE(engine_->refill_queue(*asked, heads, now_, out));
  keep(out);
  EXPECT_EQ(effects<RefillQueue>().size(), 1U);
}

}  // namespace
}  // namespace turnpike::engine
