// What was refused is kept for a while, within its bounds, and names what it lacked.
#include "node/refusals.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support.h"

namespace turnpike::node::testing {
namespace {

using std::chrono::hours;
using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr AccountId kAda{1}, kBob{2};
const Wall kNow = wall_from_seconds(1'790'000'000);

Refusal refused(std::string request_id, AccountId account = kAda, Wall at = kNow) {
  Refusal refusal;
  refusal.request_id = std::move(request_id);
  refusal.account = account;
  refusal.at = at;
  refusal.code = ErrorCode::kQuotaExceeded;
  refusal.message = "no more";
  return refusal;
}

TEST(Refusals, AreFoundByRequestAndAccount) {
  Refusals refusals;
  refusals.keep(refused("req_1"));
  ASSERT_NE(refusals.find("req_1", kAda, kNow), nullptr);
  EXPECT_EQ(refusals.find("req_1", kAda, kNow)->message, "no more");
  EXPECT_NE(refusals.find("req_1", std::nullopt, kNow), nullptr);
  EXPECT_EQ(refusals.find("req_1", kBob, kNow), nullptr) << "another account's does not exist";
  EXPECT_EQ(refusals.find("req_2", std::nullopt, kNow), nullptr);
}

TEST(Refusals, TwoAccountsMayNameTheirRequestsAlike) {
  Refusals refusals;
  refusals.keep(refused("mine", kAda));
  refusals.keep(refused("mine", kBob));
  EXPECT_EQ(refusals.find("mine", kAda, kNow)->account, kAda);
  EXPECT_EQ(refusals.find("mine", kBob, kNow)->account, kBob);
  EXPECT_EQ(refusals.find("mine", std::nullopt, kNow)->account, kBob) << "an operator sees the last";
}

TEST(Refusals, TheOldestGoFirst) {
  Refusals refusals;
  for (std::size_t i = 0; i < Refusals::kKept + 5; ++i) refusals.keep(refused("req_" + std::to_string(i)));
  EXPECT_EQ(refusals.size(), Refusals::kKept);
  EXPECT_EQ(refusals.find("req_4", kAda, kNow), nullptr);
  EXPECT_EQ(refusals.find("req_4", std::nullopt, kNow), nullptr);
  EXPECT_NE(refusals.find("req_5", kAda, kNow), nullptr);
}

TEST(Refusals, OneThatWasReplacedDoesNotTakeItsSuccessorAlong) {
  Refusals refusals;
  refusals.keep(refused("again"));
  refusals.keep(refused("again"));
  for (std::size_t i = 0; i < Refusals::kKept - 1; ++i) refusals.keep(refused("req_" + std::to_string(i)));
  EXPECT_NE(refusals.find("again", kAda, kNow), nullptr) << "the second is kept still";
  refusals.keep(refused("req_last"));
  EXPECT_EQ(refusals.find("again", kAda, kNow), nullptr);
}

TEST(Refusals, AreKeptForADay) {
  Refusals refusals;
  refusals.keep(refused("req_1"));
  EXPECT_NE(refusals.find("req_1", kAda, kNow + hours(24)), nullptr);
  EXPECT_EQ(refusals.find("req_1", kAda, kNow + hours(24) + seconds(1)), nullptr);
  refusals.keep(refused("req_2", kAda, kNow + hours(25)));
  EXPECT_EQ(refusals.size(), 1U);
}

TEST(Refusals, KeepWithinTheirBytes) {
  Refusals refusals;
  for (std::size_t i = 0; i < Refusals::kKept; ++i) {
    Refusal refusal = refused("req_" + std::to_string(i));
    refusal.message = std::string(100'000, 'x');
    refusal.path = "/" + std::string(5'000, 'y');
    refusal.held_by.emplace(Refusals::kHoldersMax);
    refusals.keep(std::move(refusal));
  }
  EXPECT_LT(refusals.size(), Refusals::kKept);
  EXPECT_GT(refusals.size(), 3'000U);
  const auto last = refusals.find("req_" + std::to_string(Refusals::kKept - 1), kAda, kNow);
  ASSERT_NE(last, nullptr);
  EXPECT_EQ(last->message.size(), Refusals::kTextMax);
  EXPECT_EQ(last->path.size(), Refusals::kTextMax);
  EXPECT_EQ(refusals.find("req_0", kAda, kNow), nullptr);
}

TEST(Refusals, ATextIsNotCutWithinACharacter) {
  Refusals refusals;
  Refusal refusal = refused("req_1");
  refusal.message = "x";
  while (refusal.message.size() < 2 * Refusals::kTextMax) refusal.message += "\xe2\x82\xac";
  refusals.keep(std::move(refusal));
  EXPECT_EQ(refusals.find("req_1", kAda, kNow)->message.size() % 3, 1U);
}

TEST(LookBudget, IsSpentByLooksAndComesBackWithTime) {
  LookBudget budget;
  Monotonic now{seconds(5)};
  EXPECT_TRUE(budget.may_look(now));
  budget.looked(LookBudget::kJobsPerSecond / 2);
  EXPECT_TRUE(budget.may_look(now));
  budget.looked(LookBudget::kJobsPerSecond);
  EXPECT_FALSE(budget.may_look(now));
  now += std::chrono::milliseconds(400);
  EXPECT_FALSE(budget.may_look(now));
  now += std::chrono::milliseconds(400);
  EXPECT_TRUE(budget.may_look(now));
}

TEST(LookBudget, AskingOftenDoesNotStopItFromFilling) {
  LookBudget budget;
  Monotonic now{seconds(5)};
  EXPECT_TRUE(budget.may_look(now));
  budget.looked(LookBudget::kJobsPerSecond);
  for (int i = 0; i < 1000; ++i) {
    now += std::chrono::microseconds(1);
    (void)budget.may_look(now);
  }
  EXPECT_TRUE(budget.may_look(now));
}

TEST(Refusals, ANotedOneHasItsPlanAndIsCounted) {
  World world;
  world.start();
  Refusal refusal = refused("req_1", world.account("ada"), world->now().wall);
  const AccountId account = refusal.account;
  world->note_refusal(std::move(refusal));
  const auto kept = world->refusal("req_1", account);
  ASSERT_NE(kept, nullptr);
  EXPECT_EQ(kept->plan, "basic");
  EXPECT_FALSE(kept->held_by) << "no limit with figures, and so nobody holds it";
  EXPECT_THAT(world->metrics_text(),
              HasSubstr("turnpike_refusals_total{code=\"quota_exceeded\",plan=\"basic\",scope=\"none\"} 1"));
}

TEST(Refusals, ANotedOneNamesTheWorkThatHoldsItsLimit) {
  World world;
  world.start();
  const AccountId account = world.account("ada");
  const JobView job = world.submit(account, R"({"do":"hold"})");
  ASSERT_TRUE(world.stage->wait_begun(1));
  Refusal refusal = refused("req_1", account, world->now().wall);
  LimitReached limit;
  limit.scope = "account";
  limit.meter = "jobs";
  limit.held = "1";
  refusal.limit = std::make_shared<const LimitReached>(limit);
  world->note_refusal(refusal);
  limit.meter = "requests_per_minute";
  limit.held = "0";
  refusal.limit = std::make_shared<const LimitReached>(limit);
  refusal.request_id = "req_2";
  world->note_refusal(std::move(refusal));
  const auto kept = world->refusal("req_1", account);
  ASSERT_TRUE(kept && kept->held_by);
  ASSERT_EQ(kept->held_by->size(), 1U);
  EXPECT_EQ(kept->held_by->at(0).job, job.row.id);
  EXPECT_EQ(kept->held_by->at(0).state, engine::JobState::kProcessing);
  EXPECT_FALSE(world->refusal("req_2", account)->held_by);
  world.stage->release();
  world.ended(job.row.id);
}

}  // namespace
}  // namespace turnpike::node::testing
