// Positions, estimates and reasons.
#include "engine/durations.h"
#include "unit/engine/fixture.h"

namespace turnpike::engine {
namespace {

class View : public EngineTest {};

TEST_F(View, PositionIsTheOrderOfStarts) {
  const AccountId a = account("a", "low"), b = account("b", "low"), c = account("c", "critical");
  submit(a);
  std::vector<JobId> waiting;
  for (int i = 0; i < 5; ++i) {
    waiting.push_back(submit(a, i % 2));
    waiting.push_back(submit(b));
  }
  waiting.push_back(submit(c));
  std::map<std::uint64_t, JobId> told;
  for (const JobId id : waiting) {
    const QueueView place = view(id);
    EXPECT_TRUE(place.exact);
    EXPECT_TRUE(told.emplace(place.position, id).second) << "two jobs at position " << place.position;
  }
  std::vector<JobId> order = run_all();
  order.erase(order.begin());
  std::uint64_t position = 0;
  for (const JobId id : order) EXPECT_EQ(told[++position], id);
}

TEST_F(View, AheadInAccountCountsOwnJobsOnly) {
  const AccountId a = account("a", "low");
  submit(account("b", "critical"));
  submit(account("b", "critical"));
  submit(a);
  submit(a);
  EXPECT_EQ(view(submit(a)).ahead_in_account, 2U);
}

TEST_F(View, BeyondTheLoadedHeadsThePositionIsAnEstimate) {
  begin(four_plans(), {.window_max = 8, .window_min = 4});
  const AccountId owner = account("u", "low");
  std::vector<JobId> jobs;
  for (int i = 0; i < 101; ++i) jobs.push_back(submit(owner));
  const QueueView place = view(jobs[60]);
  EXPECT_FALSE(place.exact);
  EXPECT_NEAR(static_cast<double>(place.position), 60, 15);
}

TEST_F(View, ARunningJobHasNoPositionAndAnExpectedEnd) {
  const JobId id = submit(account("u", "low"));
  const QueueView place = view(id);
  EXPECT_EQ(place.position, 0U);
  EXPECT_EQ(place.ahead_in_account, 0U);
  EXPECT_FALSE(place.waiting_for.has_value());
  EXPECT_LE(place.eta_seconds.first, place.eta_seconds.second);
}

TEST_F(View, AnEndedJobHasNoPlace) {
  const JobId id = submit(account("u", "low"));
  complete(id);
  EXPECT_FALSE(engine_->queue_view(row(id), now_).has_value());
}

TEST_F(View, TheEstimateFollowsWhatSuchJobsTook) {
  const AccountId owner = account("u", "low");
  for (int i = 0; i < 20; ++i) {
    const JobId id = submit(owner);
    pass(seconds(10));
    complete(id);
  }
  submit(owner);
  const auto [low, high] = view(submit(owner)).eta_seconds;
  EXPECT_GE(low, 8);
  EXPECT_LE(low, 25);
  EXPECT_GE(high, 20) << "one runs, then this one";
  EXPECT_LE(high, 60);
}

TEST_F(View, SaysWhatAJobWaitsFor) {
  begin(four_plans(2));
  plan("low").limits.concurrent_jobs = 1;
  apply();
  const AccountId capped = account("u", "low");
  submit(capped);
  EXPECT_EQ(view(submit(capped)).waiting_for, WaitingFor::kConcurrencyLimit);
  submit(account("x", "high"));
  EXPECT_EQ(view(submit(account("y", "high"))).waiting_for, WaitingFor::kTurn);
}

TEST_F(View, WhyTellsWhatHoldsAJob) {
  plan("low").limits.concurrent_jobs = 3;
  begin(policy_);
  const AccountId owner = account("u", "low");
  submit(owner);
  const JobId id = submit(owner);
  submit(account("other", "low"));
  submit(account("c", "critical"));
  submit(account("c", "critical"));
  const Why why = engine_->why(row(id), now_);
  EXPECT_EQ(why.plan, "low");
  EXPECT_EQ(why.priority_class, PriorityClass::kLow);
  EXPECT_EQ(why.account_running, 1U);
  EXPECT_EQ(why.account_limit, 3U);
  EXPECT_EQ(why.account_waiting, 1U);
  EXPECT_EQ(why.pool, "pool");
  EXPECT_EQ(why.pool_running, 1U);
  EXPECT_EQ(why.pool_slots, 1U);
  EXPECT_EQ(why.pool_waiting_higher, 2U);
  EXPECT_EQ(why.pool_waiting_same, 1U);
  EXPECT_FALSE(why.draining);
}

TEST_F(View, StatsCountByPoolAndClass) {
  submit(account("a", "low"));
  submit(account("a", "low"));
  submit(account("h", "high"));
  const auto stats = engine_->stats();
  ASSERT_EQ(stats.pools.size(), 1U);
  EXPECT_EQ(stats.pools[0].running, 1U);
  EXPECT_EQ(stats.pools[0].queued[policy::class_index(PriorityClass::kLow)], 1U);
  EXPECT_EQ(stats.pools[0].queued[policy::class_index(PriorityClass::kHigh)], 1U);
  EXPECT_EQ(stats.queued, 2U);
  EXPECT_EQ(stats.processing, 1U);
  EXPECT_EQ(stats.accounts, 2U);
}

TEST(Durations, UnknownUntilSomethingWasSeen) {
  const Durations none;
  EXPECT_TRUE(none.empty());
  EXPECT_EQ(none.mean(), Durations::kUnknown);
  EXPECT_EQ(none.percentile(900), Durations::kUnknown);
}

TEST(Durations, PercentilesAreWithinABucketOfWhatWasSeen) {
  Durations seen;
  for (int i = 1; i <= 1000; ++i) seen.add(milliseconds(i));
  EXPECT_GE(seen.percentile(500), milliseconds(450));
  EXPECT_LE(seen.percentile(500), milliseconds(800));
  EXPECT_GE(seen.percentile(990), milliseconds(950));
  EXPECT_LE(seen.percentile(990), milliseconds(1600));
}

TEST(Durations, ForgetSlowlyWhatIsNoLongerSo) {
  Durations seen;
  for (int i = 0; i < 1000; ++i) seen.add(seconds(10));
  for (int i = 0; i < 5000; ++i) seen.add(milliseconds(100));
  EXPECT_LE(seen.mean(), milliseconds(110));
  EXPECT_LE(seen.percentile(900), milliseconds(200));
}

}  // namespace
}  // namespace turnpike::engine
