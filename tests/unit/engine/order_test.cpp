// Who goes next: classes, accounts, priority, age; caps, turns and headroom.
#include "unit/engine/fixture.h"

namespace turnpike::engine {
namespace {

using ::testing::ElementsAre;

class Order : public EngineTest {};

TEST_F(Order, HigherClassGoesFirst) {
  const JobId first = submit(account("l", "low"));
  const JobId low = submit(account("l", "low"));
  const JobId standard = submit(account("s", "standard"));
  const JobId critical = submit(account("c", "critical"));
  const JobId high = submit(account("h", "high"));
  EXPECT_THAT(run_all(milliseconds(10)), ElementsAre(first, critical, high, standard, low));
}

TEST_F(Order, HigherPriorityThenOlderGoesFirstWithinAnAccount) {
  const AccountId owner = account("u", "low");
  const JobId first = submit(owner);
  const JobId old = submit(owner, 0);
  const JobId last = submit(owner, -5);
  const JobId urgent = submit(owner, 5);
  const JobId young = submit(owner, 0);
  EXPECT_THAT(run_all(), ElementsAre(first, urgent, old, young, last));
}

TEST_F(Order, AccountsOfAClassTakeTurns) {
  const AccountId a = account("a", "low");
  const AccountId b = account("b", "low");
  const JobId a1 = submit(a), a2 = submit(a), a3 = submit(a);
  const JobId b1 = submit(b), b2 = submit(b);
  EXPECT_THAT(run_all(), ElementsAre(a1, b1, a2, b2, a3));
}

TEST_F(Order, ATurnTakesAsManyJobsAsThePlanSays) {
  plan("low").limits.dispatch_batch = 2;
  begin(policy_);
  const AccountId a = account("a", "low");
  const AccountId b = account("b", "low");
  std::vector<JobId> of_a, of_b;
  for (int i = 0; i < 4; ++i) of_a.push_back(submit(a));
  for (int i = 0; i < 4; ++i) of_b.push_back(submit(b));
  EXPECT_THAT(run_all(), ElementsAre(of_a[0], of_a[1], of_b[0], of_b[1], of_a[2], of_a[3], of_b[2], of_b[3]));
}

TEST_F(Order, AnAccountOfLongJobsStartsFewer) {
  const AccountId slow = account("slow", "low");
  const AccountId quick = account("quick", "low");
  std::map<JobId, AccountId> owner;
  for (int i = 0; i < 60; ++i) {
    NewJob long_one = job(slow);
    long_one.task = "long";
    owner[submit(std::move(long_one))] = slow;
    owner[submit(quick)] = quick;
  }
  int started_slow = 0, started_quick = 0;
  for (int i = 0; i < 55; ++i) {
    const JobId id = running();
    ++(owner[id] == slow ? started_slow : started_quick);
    pass(owner[id] == slow ? seconds(4) : seconds(1));
    ASSERT_TRUE(complete(id));
  }
  EXPECT_NEAR(started_quick, 4 * started_slow, 8);
}

TEST_F(Order, ALowClassUnderFloodGetsItsShare) {
  const AccountId low = account("l", "low");
  const AccountId critical = account("c", "critical");
  const JobId first = submit(critical);
  std::map<JobId, AccountId> owner{{first, critical}};
  for (int i = 0; i < 30; ++i) owner[submit(low)] = low;
  for (int i = 0; i < 200; ++i) owner[submit(critical)] = critical;
  int started_low = 0;
  for (int i = 0; i < 200; ++i) {
    const JobId id = running();
    started_low += owner[id] == low ? 1 : 0;
    pass(seconds(1));
    ASSERT_TRUE(complete(id));
  }
  EXPECT_NEAR(started_low, 10, 2) << "five percent of 200";
}

TEST_F(Order, AClassWithoutAShareWaits) {
  policy_.share_permille = {};
  begin(policy_);
  const AccountId low = account("l", "low");
  const AccountId critical = account("c", "critical");
  std::vector<JobId> expected{submit(critical)};
  const JobId waits = submit(low);
  for (int i = 0; i < 50; ++i) expected.push_back(submit(critical));
  expected.push_back(waits);
  EXPECT_EQ(run_all(), expected);
}

TEST_F(Order, NoMoreThanTheCapRun) {
  begin(four_plans(10));
  plan("low").limits.concurrent_jobs = 2;
  apply();
  const AccountId owner = account("u", "low");
  const JobId a = submit(owner), b = submit(owner), c = submit(owner);
  EXPECT_TRUE(runs(a) && runs(b));
  EXPECT_FALSE(runs(c));
  EXPECT_EQ(engine_->running(owner), 2U);
  complete(a);
  EXPECT_TRUE(runs(c));
}

TEST_F(Order, ACapOfZeroStartsNothing) {
  plan("low").limits.concurrent_jobs = 0;
  begin(policy_);
  const JobId id = submit(account("u", "low"));
  EXPECT_EQ(state(id), JobState::kQueued);
  EXPECT_EQ(view(id).waiting_for, WaitingFor::kConcurrencyLimit);
}

TEST_F(Order, NobodyWaitsBehindAnAccountAtItsCap) {
  begin(four_plans(2));
  plan("critical").limits.concurrent_jobs = 1;
  apply();
  const AccountId capped = account("c", "critical");
  submit(capped);
  submit(capped);
  EXPECT_TRUE(runs(submit(account("l", "low"))));
}

TEST_F(Order, HeadroomIsKeptForHigherClasses) {
  begin(four_plans(3));
  policy_.pools["pool"].headroom = 1;
  apply();
  const AccountId low = account("l", "low");
  submit(low);
  submit(low);
  const JobId third = submit(low);
  EXPECT_FALSE(runs(third));
  EXPECT_FALSE(engine_->startable(now_));
  EXPECT_TRUE(runs(submit(account("h", "high"))));
}

TEST_F(Order, AFullPoolHoldsUpNoOther) {
  policy_.pools["other"] = {.name = "other", .slots = 1, .headroom = 0};
  begin(policy_);
  const AccountId owner = account("u", "low");
  submit(owner);
  submit(owner);
  NewJob elsewhere = job(owner);
  elsewhere.route = route({"other"});
  EXPECT_TRUE(runs(submit(std::move(elsewhere))));
}

TEST_F(Order, AnUpgradeMovesWaitingJobsAtOnce) {
  const JobId first = submit(account("x", "critical"));
  const JobId before = submit(account("h", "high"));
  const JobId upgraded = submit(account("u", "low"));
  account("u", "critical", true);
  EXPECT_THAT(run_all(milliseconds(10)), ElementsAre(first, upgraded, before));
}

}  // namespace
}  // namespace turnpike::engine
