// Schedules, expiry and the clocks.
#include "unit/engine/fixture.h"

namespace turnpike::engine {
namespace {

class Schedule : public EngineTest {};
class Expiry : public EngineTest {};

TEST_F(Schedule, AJobStartsWhenItIsDueAndNotBefore) {
  NewJob later = job(account("u", "low"));
  later.run_at = now_.wall + minutes(10);
  const JobId id = submit(std::move(later));
  EXPECT_EQ(state(id), JobState::kScheduled);
  EXPECT_EQ(view(id).waiting_for, WaitingFor::kSchedule);
  EXPECT_EQ(engine_->next_wakeup(now_), minutes(10));
  pass(minutes(10) - seconds(1));
  EXPECT_EQ(state(id), JobState::kScheduled);
  pass(seconds(1));
  EXPECT_TRUE(runs(id));
}

TEST_F(Schedule, APastTimeMeansNow) {
  NewJob past = job(account("u", "low"));
  past.run_at = now_.wall - minutes(10);
  EXPECT_TRUE(runs(submit(std::move(past))));
}

TEST_F(Schedule, MovesWithTheWallClock) {
  NewJob later = job(account("u", "low"));
  later.run_at = now_.wall + minutes(30);
  const JobId id = submit(std::move(later));
  now_.wall += hours(1);
  EXPECT_EQ(engine_->next_wakeup(now_), Duration{0});
  advance();
  EXPECT_TRUE(runs(id));
}

TEST_F(Schedule, WorkIsBoundedAndSaysThatThereIsMore) {
  begin(four_plans(100));
  const AccountId owner = account("u", "low");
  for (int i = 0; i < 5; ++i) {
    NewJob later = job(owner);
    later.run_at = now_.wall + seconds(1);
    submit(std::move(later));
  }
  now_.wall += seconds(1);
  Changes out = changes();
  EXPECT_TRUE(engine_->advance(now_, 2, out).more);
  EXPECT_EQ(engine_->running(owner), 2U);
  while (engine_->advance(now_, 2, out).more) {
  }
  EXPECT_EQ(engine_->running(owner), 5U);
}

TEST_F(Schedule, NothingToWaitForMeansNoWakeup) {
  EXPECT_EQ(engine_->next_wakeup(now_), std::nullopt);
}

TEST_F(Expiry, EndsAJobThatWaitedTooLong) {
  plan("low").expire_after = minutes(5);
  begin(policy_);
  const JobId first = submit(account("u", "low"));
  const JobId waits = submit(account("u", "low"));
  engine_->extend_leases(std::vector{row(first).current_try}, now_);
  for (int i = 0; i < 30; ++i) {
    engine_->extend_leases(std::vector{row(first).current_try}, now_);
    pass(seconds(10));
  }
  EXPECT_EQ(state(waits), JobState::kExpired);
  EXPECT_TRUE(runs(first)) << "what runs does not expire";
}

TEST_F(Expiry, CountsFromWhenAScheduledJobIsDue) {
  plan("low").expire_after = minutes(5);
  plan("low").limits.concurrent_jobs = 0;
  begin(policy_);
  NewJob later = job(account("u", "low"));
  later.run_at = now_.wall + hours(1);
  const JobId id = submit(std::move(later));
  pass(hours(1) + minutes(4));
  EXPECT_EQ(state(id), JobState::kQueued);
  pass(minutes(1));
  EXPECT_EQ(state(id), JobState::kExpired);
}

TEST_F(Expiry, DoesNotConcernAJobThatHasStartedOnce) {
  plan("low").expire_after = seconds(5);
  plan("low").retry.standard = {.base = minutes(2), .jitter_permille = 0};
  begin(policy_);
  const JobId id = submit(account("u", "low"));
  fail(id);
  pass(minutes(2));
  EXPECT_TRUE(runs(id));
}

}  // namespace
}  // namespace turnpike::engine
