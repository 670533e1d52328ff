#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "journal/sqlite/sqlite_journal.h"
#include "support.h"

namespace turnpike::node::testing {
namespace {

using engine::JobState;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr const char* kHold = R"({"do":"hold"})";

// --- The end, and the start after it

TEST(NodeLife, WhatRanAtACrashRunsAgainWithoutCountingAsAnAttempt) {
  World world;
  world.start();
  const AccountId account = world.account("ada");
  std::vector<JobId> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(world.submit(account, kHold).row.id);
  ASSERT_TRUE(world.stage->wait_begun(2));
  world.crash();
  world.start();
  world.stage->release();
  for (const JobId id : ids) {
    const JobView ended = world.ended(id);
    EXPECT_EQ(ended.row.state, JobState::kCompleted);
    EXPECT_EQ(ended.row.attempt, 1U);
  }
  EXPECT_EQ(world.job(ids[0]).row.lost, 1U);
  EXPECT_EQ(world.job(ids[2]).row.lost, 0U);
}

TEST(NodeLife, WhatHasCompletedDoesNotRunAgainAfterACrash) {
  World world;
  world.start();
  const AccountId account = world.account("ada");
  const JobId id = world.ended(world.submit(account).row.id).row.id;
  world.crash();
  world.start();
  EXPECT_EQ(world.job(id).row.state, JobState::kCompleted);
  EXPECT_EQ(world.account("ada"), account);
  EXPECT_THAT(world.stage->begun(), SizeIs(1));
}

TEST(NodeLife, DrainLetsWhatRunsFinish) {
  World world;
  world.start();
  const AccountId account = world.account("ada");
  const JobId id = world.submit(account, kHold).row.id;
  ASSERT_TRUE(world.stage->wait_begun(1));
  auto drained = std::async(std::launch::async, [&] { world->drain_and_stop(seconds(20)); });
  while (!world->draining()) std::this_thread::yield();
  const auto refused = world.run(world->submit(world.request(account)));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(refused.error().retry_after, seconds(5));
  world.stage->release();
  drained.get();
  EXPECT_EQ(world.job(id).row.state, JobState::kCompleted);
}

TEST(NodeLife, DrainHandsBackWhatDoesNotFinishInTime) {
  World world;
  world.start();
  const AccountId account = world.account("ada");
  const JobId id = world.submit(account, kHold).row.id;
  ASSERT_TRUE(world.stage->wait_begun(1));
  world->drain_and_stop(milliseconds(10));
  const JobView handed_back = world.job(id);
  EXPECT_EQ(handed_back.row.state, JobState::kQueued);
  EXPECT_EQ(handed_back.row.attempt, 0U);
  EXPECT_EQ(handed_back.row.lost, 0U);
  world.crash();
  world.stage->release();
  world.start();
  EXPECT_EQ(world.ended(id).row.attempt, 1U);
}

TEST(NodeLife, AStoppedNodeAnswersReadsAndRefusesChanges) {
  World world;
  world.start();
  const AccountId account = world.account("ada");
  const JobId id = world.ended(world.submit(account).row.id).row.id;
  auto subscription = world.run(world->subscribe(account, Subscription::Everything{}, std::nullopt));
  ASSERT_TRUE(subscription);
  world->drain_and_stop(seconds(1));
  EXPECT_TRUE(world.run((*subscription)->next(seconds(20))).closed);
  EXPECT_EQ(world.job(id).row.state, JobState::kCompleted);
  EXPECT_EQ(world.run(world->store({journal::AuditRow{}})).error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(world.run(world->ensure_account("new", "", false, "test")).error().code, ErrorCode::kUnavailable);
}

TEST(NodeLife, ASecondNodeOnTheFolderIsRefusedAndTouchesNothing) {
  World world;
  world.start();
  const auto kept = world.folder.path() / "work" / "of-a-living-try";
  std::ofstream(kept) << "x";
  auto second = Node::start(world.options(), world.threads);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kConfiguration);
  EXPECT_TRUE(std::filesystem::exists(kept));
}

TEST(NodeLife, WhatAnEndedProcessLeftInWorkAndSpoolIsRemoved) {
  World world;
  for (const char* name : {"work", "spool"}) {
    std::filesystem::create_directories(world.folder.path() / name / "left");
  }
  world.start();
  EXPECT_FALSE(std::filesystem::exists(world.folder.path() / "work" / "left"));
  EXPECT_FALSE(std::filesystem::exists(world.folder.path() / "spool" / "left"));
}

TEST(NodeLife, ACommitThatFailsIsFatalAndAnswersNobody) {
  World world;
  Options options = world.options();
  auto small = journal::open_sqlite(world.folder.path(), {.pages_max = 64});
  ASSERT_TRUE(small);
  options.journal = std::move(*small);
  world.start(std::move(options));
  const AccountId account = world.account("ada");
  auto fatal = world.fatal.get_future();
  auto answer = world.begin(world->submit(world.request(account, std::string(900'000, 'x'))));
  ASSERT_EQ(fatal.wait_for(seconds(20)), std::future_status::ready);
  EXPECT_FALSE(fatal.get().empty());
  // Nor anybody who comes later.
  auto later = world.begin(world->submit(world.request(account)));
  EXPECT_EQ(later.wait_for(milliseconds(50)), std::future_status::timeout);
  EXPECT_EQ(answer.wait_for(seconds(0)), std::future_status::timeout);
}

// --- Time and what is not in memory

TEST(NodeLife, AScheduledJobStartsWhenItsTimeHasCome) {
  World world;
  world.start();
  SubmitRequest request = world.request(world.account("ada"));
  request.run_at = world->now().wall + milliseconds(100);
  const auto answer = world.run(world->submit(request));
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->job.row.state, JobState::kScheduled);
  const JobView ended = world.ended(answer->job.row.id);
  EXPECT_EQ(ended.row.state, JobState::kCompleted);
  EXPECT_GE(ended.row.started_at, request.run_at);
}

TEST(NodeLife, JobsThatWaitTooLongExpire) {
  World world;
  world.policy = sample_policy("2", "1s");
  Options options = world.options();
  options.engine.window_max = 4;  // most of them are not in memory
  options.engine.window_min = 4;
  world.start(std::move(options));
  const AccountId account = world.account("ada", "free");
  std::vector<JobId> ids;
  for (int i = 0; i < 12; ++i) ids.push_back(world.submit(account).row.id);
  for (const JobId id : ids) EXPECT_EQ(world.ended(id).row.state, JobState::kExpired);
}

TEST(NodeLife, AQueueLongerThanItsWindowRunsInOrderAndWhole) {
  World world;
  world.policy = sample_policy("1");
  Options options = world.options();
  options.engine.window_max = 4;
  options.engine.window_min = 4;
  world.start(std::move(options));
  const AccountId account = world.account("ada");
  std::vector<std::future<Result<SubmitAnswer>>> answers;
  for (int i = 0; i < 300; ++i) answers.push_back(world.begin(world->submit(world.request(account))));
  for (auto& answer : answers) ASSERT_TRUE(answer.get());
  ASSERT_TRUE(world.wait_all_ended());
  const auto begun = world.stage->begun();
  ASSERT_THAT(begun, SizeIs(300));
  // One at a time, so the order is exact; each later than the one before, so none runs twice.
  for (std::size_t i = 1; i < begun.size(); ++i) EXPECT_LT(begun[i - 1].job, begun[i].job);
}

TEST(NodeLife, WaitingJobsBeyondTheWindowSurviveARestartAndCanBeCancelled) {
  World world;
  world.start();
  const AccountId account = world.account("ada", "free");
  std::vector<JobId> ids;
  for (int i = 0; i < 20; ++i) ids.push_back(world.submit(account).row.id);
  world.crash();
  Options options = world.options();
  options.engine.window_max = 4;
  options.engine.window_min = 4;
  world.start(std::move(options));
  const auto cancelled = world.run(world->cancel(ids.back(), account, "test"));
  ASSERT_TRUE(cancelled) << cancelled.error().message;
  EXPECT_EQ(world->stats().queued, 19U);
  world.account("ada", "team");
  for (std::size_t i = 0; i + 1 < ids.size(); ++i)
    EXPECT_EQ(world.ended(ids[i]).row.state, JobState::kCompleted);
}

// --- Policy

TEST(NodeLife, RaisedLimitsStartWaitingJobsAtOnceAndEachPolicyIsAVersion) {
  World world;
  world.start();
  EXPECT_EQ(world->policy_version(), 1U);
  const AccountId account = world.account("ada");
  for (int i = 0; i < 4; ++i) world.submit(account, kHold);
  ASSERT_TRUE(world.stage->wait_begun(2));
  const auto same = world.run(world->apply(sample_policy("2"), {.by = "test", .reason = {}}));
  ASSERT_TRUE(same);
  EXPECT_EQ(*same, 1U);
  const auto raised = world.run(world->apply(sample_policy("4"), {.by = "test", .reason = "more"}));
  ASSERT_TRUE(raised);
  EXPECT_EQ(*raised, 2U);
  EXPECT_TRUE(world.stage->wait_begun(4));
  const auto versions = world->journal().policy_versions();
  ASSERT_TRUE(versions);
  EXPECT_THAT(*versions, SizeIs(2));
}

TEST(NodeLife, AStartWithAnUnchangedPolicyKeepsItsVersion) {
  World world;
  world.start();
  world.crash();
  world.start();
  EXPECT_EQ(world->policy_version(), 1U);
  world.crash();
  world.policy = sample_policy("3");
  world.start();
  EXPECT_EQ(world->policy_version(), 2U);
}

TEST(NodeLife, AChangedPlanIsAudited) {
  World world;
  world.start();
  const AccountId account = world.account("ada", "basic");
  world.account("ada", "team");
  world.account("ada", "team");  // no change
  const auto rows = world->journal().audit(0, 10);
  ASSERT_TRUE(rows);
  ASSERT_THAT(*rows, SizeIs(1));
  EXPECT_EQ((*rows)[0].row.action, "account.plan_changed");
  EXPECT_EQ((*rows)[0].row.subject, to_string(account));
  EXPECT_EQ((*rows)[0].row.detail, R"({"from":"basic","to":"team","by":"test"})");
  EXPECT_EQ((*rows)[0].row.actor, "test");
}

TEST(NodeLife, MetricsCountWhatEndedAndWhatWaits) {
  World world;
  world.start();
  const AccountId account = world.account("ada");
  for (int i = 0; i < 3; ++i) world.ended(world.submit(account).row.id);
  world.submit(world.account("eve", "free"));
  const std::string text = world->metrics_text();
  EXPECT_THAT(text, HasSubstr("turnpike_jobs_total{plan=\"basic\",status=\"completed\",task=\"noop\"} 3"));
  EXPECT_THAT(text, HasSubstr("turnpike_jobs_completed_total 3"));
  EXPECT_THAT(text, HasSubstr("turnpike_queue_jobs{class=\"low\",pool=\"lab\"} 1"));
  EXPECT_THAT(text, HasSubstr("turnpike_pickup_seconds_count 3"));
  EXPECT_THAT(text, HasSubstr("turnpike_build_info{version="));
}

// --- Many at once

TEST(NodeLife, ManyAtOnceEndOnceEach) {
  World world;
  Options options = world.options();
  options.engine.window_max = 16;
  options.engine.window_min = 4;
  world.start(std::move(options));
  std::vector<AccountId> accounts;
  for (int i = 0; i < 8; ++i)
    accounts.push_back(world.account("user" + std::to_string(i), i % 2 ? "team" : "basic"));
  std::vector<std::future<Result<SubmitAnswer>>> answers;
  for (std::size_t i = 0; i < 800; ++i) {
    const char* input = i % 10 == 0 ? R"({"do":"fail"})" : R"({"do":"ok"})";
    answers.push_back(world.begin(world->submit(world.request(accounts[i % accounts.size()], input))));
  }
  std::vector<std::future<Result<JobView>>> cancels;
  std::vector<JobId> ids;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    auto answer = answers[i].get();
    ASSERT_TRUE(answer) << answer.error().message;
    ids.push_back(answer->job.row.id);
    if (i % 7 == 0) cancels.push_back(world.begin(world->cancel(ids.back(), std::nullopt, "test")));
  }
  std::size_t cancelled = 0;
  for (auto& cancel : cancels) cancelled += cancel.get() ? 1 : 0;
  ASSERT_TRUE(world.wait_all_ended());
  std::map<JobState, std::size_t> ends;
  for (const JobId id : ids) ++ends[world.job(id).row.state];
  EXPECT_EQ(ends[JobState::kCancelled], cancelled);
  EXPECT_EQ(ends[JobState::kCancelled] + ends[JobState::kCompleted] + ends[JobState::kFailed], ids.size());
}

}  // namespace
}  // namespace turnpike::node::testing
