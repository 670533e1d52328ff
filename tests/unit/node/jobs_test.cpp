#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support.h"

namespace turnpike::node::testing {
namespace {

using engine::JobState;
using ::testing::HasSubstr;
using ::testing::SizeIs;

struct NodeJobs : ::testing::Test {
  NodeJobs() {
    world.start();
    account = world.account("ada");
  }
  World world;
  AccountId account;
};

TEST_F(NodeJobs, ASubmittedJobRunsAndCompletesWithOutputAndUsage) {
  const JobView submitted = world.submit(account);
  EXPECT_EQ(submitted.row.state, JobState::kProcessing);  // there was room: decided in the same commit
  EXPECT_EQ(submitted.user_id, "ada");
  EXPECT_EQ(submitted.plan, "basic");
  EXPECT_EQ(submitted.priority_class, policy::PriorityClass::kLow);
  const JobView ended = world.ended(submitted.row.id);
  EXPECT_EQ(ended.row.state, JobState::kCompleted);
  EXPECT_EQ(ended.row.output, R"({"ok":true})");
  EXPECT_EQ(ended.row.usage, (engine::Usage{{"units", 3}}));
  EXPECT_EQ(ended.row.attempt, 1U);
  EXPECT_FALSE(ended.queue);
  ASSERT_TRUE(ended.body);
  EXPECT_EQ(ended.body->input, R"({"do":"ok"})");
}

TEST_F(NodeJobs, JobsOverTheCapWaitAndShowWhereTheyStand) {
  world.submit(account, R"({"do":"hold"})");
  world.submit(account, R"({"do":"hold"})");
  const JobView third = world.submit(account, R"({"do":"hold"})");
  EXPECT_EQ(third.row.state, JobState::kQueued);
  ASSERT_TRUE(third.queue);
  EXPECT_EQ(third.queue->position, 1U);
  EXPECT_EQ(third.queue->waiting_for, engine::WaitingFor::kConcurrencyLimit);
  ASSERT_TRUE(world.stage->wait_begun(2));
  EXPECT_THAT(world.stage->begun(), SizeIs(2));
  const auto why = world.run(world->why(third.row.id, account));
  ASSERT_TRUE(why);
  EXPECT_EQ(why->second.account_running, 2U);
  EXPECT_EQ(why->second.account_limit, 2U);
  world.stage->release();
  EXPECT_EQ(world.ended(third.row.id).row.state, JobState::kCompleted);
}

TEST_F(NodeJobs, AFailedAttemptIsRetriedUntilAttemptsAreSpent) {
  const JobView ended = world.ended(world.submit(account, R"({"do":"fail"})").row.id);
  EXPECT_EQ(ended.row.state, JobState::kFailed);
  EXPECT_EQ(ended.row.attempt, 2U);
  ASSERT_TRUE(ended.row.error);
  EXPECT_EQ(ended.row.error->message, "failed as asked");
  EXPECT_THAT(world.stage->begun(), SizeIs(2));
}

TEST_F(NodeJobs, AnInputThatCanNeverSucceedIsNotRetried) {
  const JobView ended = world.ended(world.submit(account, R"({"do":"reject"})").row.id);
  EXPECT_EQ(ended.row.state, JobState::kFailed);
  EXPECT_THAT(world.stage->begun(), SizeIs(1));
}

TEST_F(NodeJobs, AProviderThatThrowsFailsItsTryAndNoOther) {
  const JobView thrown = world.ended(world.submit(account, R"({"do":"throw"})").row.id);
  EXPECT_EQ(thrown.row.state, JobState::kFailed);
  ASSERT_TRUE(thrown.row.error);
  EXPECT_EQ(thrown.row.error->code, "transient");
  EXPECT_EQ(world.ended(world.submit(account).row.id).row.state, JobState::kCompleted);
}

TEST_F(NodeJobs, CancelEndsAQueuedJobAtOnce) {
  const AccountId idle = world.account("eve", "free");
  const JobView queued = world.submit(idle);
  ASSERT_EQ(queued.row.state, JobState::kQueued);
  const auto cancelled = world.run(world->cancel(queued.row.id, idle, "test"));
  ASSERT_TRUE(cancelled);
  EXPECT_EQ(cancelled->row.state, JobState::kCancelled);
  EXPECT_EQ(world.job(queued.row.id).row.state, JobState::kCancelled);
  const auto again = world.run(world->cancel(queued.row.id, idle, "test"));
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::kConflict);
}

TEST_F(NodeJobs, CancelInterruptsARunningTryAndFreesItsSlot) {
  const JobId first = world.submit(account, R"({"do":"hold"})").row.id;
  const JobId second = world.submit(account, R"({"do":"hold"})").row.id;
  const JobId third = world.submit(account).row.id;
  ASSERT_TRUE(world.stage->wait_begun(2));
  const auto cancelled = world.run(world->cancel(first, account, "test"));
  ASSERT_TRUE(cancelled);
  EXPECT_EQ(cancelled->row.state, JobState::kCancelled);
  EXPECT_EQ(world.ended(third).row.state, JobState::kCompleted);  // in the slot of the first
  EXPECT_EQ(world.job(second).row.state, JobState::kProcessing);
}

TEST_F(NodeJobs, RetryQueuesAFailedJobAgainWithFreshAttempts) {
  const JobId id = world.ended(world.submit(account, R"({"do":"fail"})").row.id).row.id;
  const auto retried = world.run(world->retry(id, account));
  ASSERT_TRUE(retried);
  EXPECT_FALSE(engine::ended(retried->row.state));
  world.ended(id);
  EXPECT_THAT(world.stage->begun(), SizeIs(4));
  const JobId done = world.ended(world.submit(account).row.id).row.id;
  const auto refused = world.run(world->retry(done, account));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kConflict);
}

TEST_F(NodeJobs, AnotherAccountsJobDoesNotExist) {
  const AccountId other = world.account("ben");
  const JobId id = world.submit(account).row.id;
  EXPECT_EQ(world.run(world->job(id, other, true)).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(world.run(world->cancel(id, other, "test")).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(world.run(world->retry(id, other)).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(world.run(world->why(id, other)).error().code, ErrorCode::kNotFound);
  EXPECT_EQ(world.run(world->wait(id, other, std::chrono::seconds(1))).error().code, ErrorCode::kNotFound);
}

TEST_F(NodeJobs, ARepeatedDedupeKeyGivesBackTheLiveJob) {
  SubmitRequest request = world.request(account, R"({"do":"hold"})");
  request.dedupe_key = "one";
  const auto first = world.run(world->submit(request));
  const auto second = world.run(world->submit(request));
  ASSERT_TRUE(first && second);
  EXPECT_FALSE(first->deduplicated);
  EXPECT_TRUE(second->deduplicated);
  EXPECT_EQ(first->job.row.id, second->job.row.id);
  ASSERT_TRUE(second->job.body);
  EXPECT_EQ(second->job.body->input, first->job.body->input);
  world.stage->release();
  world.ended(first->job.row.id);
  const auto third = world.run(world->submit(request));
  ASSERT_TRUE(third);
  EXPECT_NE(third->job.row.id, first->job.row.id);
}

TEST_F(NodeJobs, SubmitsWithOneDedupeKeyAtTheSameTimeMakeOneJob) {
  SubmitRequest request = world.request(account, R"({"do":"hold"})");
  request.dedupe_key = "same";
  std::vector<std::future<Result<SubmitAnswer>>> answers;
  for (int i = 0; i < 16; ++i) answers.push_back(world.begin(world->submit(request)));
  std::set<JobId> ids;
  for (auto& answer : answers) {
    const auto submitted = answer.get();
    if (submitted) {
      ids.insert(submitted->job.row.id);
    } else {
      EXPECT_EQ(submitted.error().code, ErrorCode::kUnavailable);
    }
  }
  EXPECT_THAT(ids, SizeIs(1));
}

TEST_F(NodeJobs, TheIdempotencyRowIsDurableWithItsJob) {
  SubmitRequest request = world.request(account);
  request.idempotency = journal::IdempotencyRow{.scope = std::string(32, 's'),
                                                .body_hash = std::string(32, 'b'),
                                                .status = 202,
                                                .content_type = "application/json",
                                                .body = {},
                                                .expires_at = world->now().wall + std::chrono::hours(1)};
  request.render = [](const JobView& view) { return to_string(view.row.id); };
  const auto answer = world.run(world->submit(request));
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->rendered, to_string(answer->job.row.id));
  const auto stored = world->journal().idempotency(std::string(32, 's'), world->now().wall);
  ASSERT_TRUE(stored && *stored);
  EXPECT_EQ((*stored)->body, answer->rendered);
  EXPECT_EQ((*stored)->status, 202);
}

TEST_F(NodeJobs, ARefusedSubmitLeavesNothing) {
  const auto unknown = world.run(world->submit(world.request(account, "{}", "knitting")));
  ASSERT_FALSE(unknown);
  EXPECT_EQ(unknown.error().param, "task");
  SubmitRequest large = world.request(account, std::string((1U << 20U) + 1, 'x'));
  EXPECT_EQ(world.run(world->submit(large)).error().code, ErrorCode::kTooLarge);
  bool has_more = true;
  const auto listed = world.run(world->jobs(journal::JobQuery{}, has_more));
  ASSERT_TRUE(listed);
  EXPECT_THAT(*listed, SizeIs(0));
  EXPECT_FALSE(has_more);
}

TEST_F(NodeJobs, AListShowsTheNewestFirstAndWhetherThereIsMore) {
  std::vector<JobId> ids;
  for (int i = 0; i < 5; ++i) ids.push_back(world.submit(account).row.id);
  journal::JobQuery query;
  query.account = account;
  query.limit = 3;
  bool has_more = false;
  const auto page = world.run(world->jobs(query, has_more));
  ASSERT_TRUE(page);
  ASSERT_THAT(*page, SizeIs(3));
  EXPECT_TRUE(has_more);
  EXPECT_EQ((*page)[0].row.id, ids[4]);
  EXPECT_EQ((*page)[2].row.id, ids[2]);
  EXPECT_EQ((*page)[0].user_id, "ada");
}

TEST_F(NodeJobs, WaitGivesBackTheJobAsItStandsWhenTimeIsUp) {
  const JobId id = world.submit(account, R"({"do":"hold"})").row.id;
  const auto waited = world.run(world->wait(id, account, std::chrono::milliseconds(20)));
  ASSERT_TRUE(waited);
  EXPECT_EQ(waited->row.state, JobState::kProcessing);
}

TEST_F(NodeJobs, ProgressIsShownBesideTheCommittedRow) {
  const JobId id = world.submit(account, R"({"do":"progress"})").row.id;
  ASSERT_TRUE(world.stage->wait_begun(1));
  JobView view = world.job(id);
  for (int i = 0; i < 1000 && view.percent == 0; ++i) view = world.job(id);
  EXPECT_EQ(view.percent, 50);
  EXPECT_EQ(view.progress_message, "half");
}

TEST_F(NodeJobs, AProducedFileIsAnArtifactOfTheAccount) {
  const JobView ended = world.ended(world.submit(account, R"({"do":"file","text":"hello"})", "paint").row.id);
  ASSERT_EQ(ended.row.state, JobState::kCompleted);
  ASSERT_THAT(ended.row.artifacts, SizeIs(1));
  const engine::ArtifactRef& ref = ended.row.artifacts[0];
  // sha256 of "hello"
  EXPECT_EQ(ref.sha256, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
  EXPECT_EQ(ref.bytes, 5U);
  EXPECT_EQ(std::filesystem::file_size(world->artifact_path(ref.sha256, ref.extension)), 5U);
  const auto row = world->journal().artifact(ref.id);
  ASSERT_TRUE(row && *row);
  EXPECT_EQ((*row)->account, account);
  EXPECT_EQ((*row)->job, ended.row.id);
}

TEST_F(NodeJobs, AnOutputOverTheLimitBecomesAnArtifact) {
  const JobView ended = world.ended(world.submit(account, R"({"do":"large"})").row.id);
  ASSERT_EQ(ended.row.state, JobState::kCompleted);
  ASSERT_THAT(ended.row.artifacts, SizeIs(1));
  EXPECT_EQ(ended.row.artifacts[0].mime, "application/json");
  EXPECT_GT(ended.row.artifacts[0].bytes, provider::kOutputBytesMax);
  EXPECT_THAT(ended.row.output, HasSubstr("output_in_artifact"));
}

// Stores an artifact of `owner`.
Result<engine::ArtifactRef> upload(World& world, AccountId owner, const std::string& text) {
  const auto spool = world.folder.path() / "spool" / "upload";
  std::FILE* file = std::fopen(spool.c_str(), "w");
  std::fputs(text.c_str(), file);
  std::fclose(file);
  return world.run(world->store_artifact(spool, "image/png", "png", owner));
}

TEST_F(NodeJobs, AListOfTheAccountsArtifactsReachesTheProviderInItsOrder) {
  const auto one = upload(world, account, "one");
  const auto two = upload(world, account, "two");
  const auto theirs = upload(world, world.account("ben"), "theirs");
  ASSERT_TRUE(one && two && theirs);
  const std::string a = '"' + to_string(one->id) + '"';
  const std::string b = '"' + to_string(two->id) + '"';
  std::string many = a;
  for (std::size_t i = 0; i < provider::kInputFilesMax; ++i) many += "," + a;
  const std::string input = R"({"clips":[)" + b + "," + a + "," + b + R"(],"mixed":[)" + a +
                            R"(,7],"foreign":[)" + a + ",\"" + to_string(theirs->id) +
                            R"("],"none":[],"many":[)" + many + R"(],"last":)" + a + "}";
  world.ended(world.submit(account, input).row.id);
  const auto begun = world.stage->begun();
  ASSERT_THAT(begun, SizeIs(1));
  const auto& files = begun[0].files;
  ASSERT_THAT(files, SizeIs(4));
  for (std::uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(files[i].field, "clips");
    EXPECT_EQ(files[i].place, i);
    EXPECT_EQ(files[i].path, world->artifact_path((i == 1 ? one : two)->sha256, "png"));
  }
  EXPECT_EQ(files[3].field, "last");
  EXPECT_FALSE(files[3].place);
}

TEST_F(NodeJobs, AnInputArtifactOfTheAccountReachesTheProviderAsAFile) {
  const auto mine = upload(world, account, "mine");
  const auto theirs = upload(world, world.account("ben"), "theirs");
  ASSERT_TRUE(mine && theirs);
  const std::string input =
      R"({"image":")" + to_string(mine->id) + R"(","other":")" + to_string(theirs->id) + "\"}";
  world.ended(world.submit(account, input).row.id);
  const auto begun = world.stage->begun();
  ASSERT_THAT(begun, SizeIs(1));
  ASSERT_THAT(begun[0].files, SizeIs(1));
  EXPECT_EQ(begun[0].files[0].field, "image");
  EXPECT_EQ(begun[0].files[0].path, world->artifact_path(mine->sha256, "png"));
}

TEST_F(NodeJobs, AWorkFolderIsGivenWhereFilesAreMadeAndRemovedAfterwards) {
  world.ended(world.submit(account, R"({"do":"file","text":"x"})", "paint").row.id);
  world.ended(world.submit(account, R"({"do":"ok"})", "noop").row.id);
  const auto begun = world.stage->begun();
  ASSERT_THAT(begun, SizeIs(2));
  EXPECT_FALSE(begun[0].work_dir.empty());
  EXPECT_TRUE(begun[1].work_dir.empty());
  // The node's own file work goes before reads: a few of these, and it has come.
  const auto exists = [&] { return std::filesystem::exists(begun[0].work_dir); };
  for (int i = 0; i < 1000 && exists(); ++i) (void)world.run(world->read([](journal::Journal&) {}));
  EXPECT_FALSE(exists());
}

}  // namespace
}  // namespace turnpike::node::testing
