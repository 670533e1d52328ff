// The life of a try: it ends once, is lost with its lease, and is stopped in time; what follows a failure.
#include "unit/engine/fixture.h"

namespace turnpike::engine {
namespace {

using policy::FailureClass;

class Tries : public EngineTest {};
class Backoff : public EngineTest {};
class History : public EngineTest {};

TEST_F(Tries, CompletionEndsTheJobWithItsResult) {
  const JobId id = submit(account("u", "low"));
  pass(seconds(2));
  EXPECT_TRUE(complete(id));
  EXPECT_EQ(state(id), JobState::kCompleted);
  EXPECT_EQ(row(id).output, "{}");
  EXPECT_EQ(row(id).usage, (Usage{{"units", 3}}));
  EXPECT_EQ(row(id).finished_at - row(id).started_at, seconds(2));
}

TEST_F(Tries, ATryEndsOnce) {
  const JobId id = submit(account("u", "low"));
  const TryId attempt = row(id).current_try;
  EXPECT_TRUE(complete(id));
  EXPECT_FALSE(
      settle(attempt, TryFailed{.failure = FailureClass::kTransient, .message = "", .retry_after = {}}));
  EXPECT_TRUE(last_.mutations.empty());
  EXPECT_EQ(state(id), JobState::kCompleted);
}

TEST_F(Tries, LostWithItsLeaseIsNotAnAttempt) {
  const JobId id = submit(account("u", "low"));
  const TryId lost = row(id).current_try;
  pass(options_.lease);
  EXPECT_TRUE(runs(id)) << "it is started again at once";
  EXPECT_NE(row(id).current_try, lost);
  EXPECT_EQ(row(id).attempt, 1U);
  EXPECT_EQ(row(id).lost, 1U);
  EXPECT_FALSE(settle(lost, TryCompleted{.output = "{}", .artifacts = {}, .usage = {}}));
  EXPECT_TRUE(runs(id));
}

TEST_F(Tries, KeepTheirLeaseWhileItIsExtended) {
  const JobId id = submit(account("u", "low"));
  const TryId attempt = row(id).current_try;
  for (int i = 0; i < 10; ++i) {
    pass(options_.lease / 2);
    engine_->extend_leases(std::vector{attempt}, now_);
  }
  EXPECT_EQ(row(id).current_try, attempt);
}

TEST_F(Tries, AreNotLostWhenTheWallClockJumps) {
  const JobId id = submit(account("u", "low"));
  const TryId attempt = row(id).current_try;
  now_.wall += hours(1);
  advance();
  EXPECT_EQ(row(id).current_try, attempt);
}

TEST_F(Tries, AJobThatIsLostTooOftenFails) {
  const JobId id = submit(account("u", "low"));
  for (std::uint32_t i = 0; i <= kLostMax; ++i) pass(options_.lease);
  EXPECT_EQ(state(id), JobState::kFailed);
  EXPECT_EQ(row(id).error->code, "crashed");
}

TEST_F(Tries, AreStoppedAfterTheirTimeout) {
  plan("low").attempt_timeout = seconds(10);
  begin(policy_);
  const JobId id = submit(account("u", "low"));
  const TryId attempt = row(id).current_try;
  EXPECT_EQ(effects<StartTry>()[0].timeout, seconds(10));
  pass(seconds(10));
  EXPECT_TRUE(effects<StopTry>().empty()) << "grace";
  pass(options_.timeout_grace);
  ASSERT_EQ(effects<StopTry>().size(), 1U);
  EXPECT_EQ(effects<StopTry>()[0].reason, StopReason::kTimeout);
  settle(attempt, TryStopped{});
  EXPECT_EQ(row(id).error->code, "timeout");
  EXPECT_EQ(row(id).attempt, 1U) << "a timeout counts";
  EXPECT_EQ(state(id), JobState::kScheduled);
}

TEST_F(Tries, AJobMayShortenItsOwnTimeout) {
  NewJob quick = job(account("u", "low"));
  quick.options.timeout = seconds(3);
  submit(std::move(quick));
  EXPECT_EQ(effects<StartTry>()[0].timeout, seconds(3));
}

TEST_F(Tries, AttemptsShareTheTimeOfTheJob) {
  plan("low").job_timeout = seconds(60);
  plan("low").attempt_timeout = seconds(50);
  plan("low").retry.standard = {.base = seconds(1), .jitter_permille = 0};
  begin(policy_);
  const JobId id = submit(account("u", "low"));
  pass(seconds(20));
  fail(id);
  pass(seconds(1));
  ASSERT_TRUE(runs(id));
  EXPECT_EQ(effects<StartTry>()[0].timeout, seconds(39)) << "60 less the 21 that have passed";
}

TEST_F(Tries, FailsWhenNoTimeIsLeftForAnotherAttempt) {
  plan("low").job_timeout = seconds(20);
  plan("low").retry.standard = {.base = seconds(10), .jitter_permille = 0};
  begin(policy_);
  const JobId id = submit(account("u", "low"));
  pass(seconds(15));
  fail(id);
  EXPECT_EQ(state(id), JobState::kFailed);
}

TEST_F(Tries, HandedBackWaitsAgainAndIsNotAnAttempt) {
  const JobId id = submit(account("u", "low"));
  drain(true);
  EXPECT_TRUE(settle(row(id).current_try, TryHandedBack{}));
  EXPECT_EQ(state(id), JobState::kQueued);
  EXPECT_EQ(row(id).attempt, 0U);
  drain(false);
  EXPECT_TRUE(runs(id));
}

TEST_F(Tries, ProgressIsToldAndNotWritten) {
  const JobId id = submit(account("u", "low"));
  Changes out = changes();
  EXPECT_TRUE(engine_->progress(row(id).current_try, 40, "halfway", now_, out));
  EXPECT_TRUE(out.mutations.empty());
  ASSERT_EQ(out.events.size(), 1U);
  EXPECT_EQ(out.events[0].percent, 40);
  EXPECT_EQ(engine_->progress_of(id), (std::pair<std::uint8_t, std::string>{40, "halfway"}));
  EXPECT_FALSE(engine_->progress(TryId{12345}, 1, "", now_, out));
}

TEST_F(Backoff, GrowsByItsFactorUpToItsCapWithinTheJitter) {
  plan("low").retry.standard = {
      .base = seconds(2), .factor_permille = 3000, .cap = seconds(10), .jitter_permille = 200, .attempts = 9};
  begin(policy_);
  const JobId id = submit(account("u", "low"));
  for (const Duration expected : {seconds(2), seconds(6), seconds(10), seconds(10)}) {
    fail(id);
    ASSERT_EQ(state(id), JobState::kScheduled);
    const Duration delay = row(id).due_at - now_.wall;
    EXPECT_GE(delay, expected * 8 / 10);
    EXPECT_LE(delay, expected * 12 / 10);
    pass(delay);
    ASSERT_TRUE(runs(id));
  }
}

TEST_F(Backoff, IsSpreadDifferentlyForDifferentJobs) {
  begin(four_plans(20));
  const AccountId owner = account("u", "low");
  std::set<Duration> delays;
  for (int i = 0; i < 10; ++i) {
    const JobId id = submit(owner);
    fail(id);
    delays.insert(row(id).due_at - now_.wall);
  }
  EXPECT_GT(delays.size(), 5U);
}

TEST_F(Backoff, EndsWithTheLastAttempt) {
  plan("low").retry.standard.attempts = 2;
  begin(policy_);
  const JobId id = submit(account("u", "low"));
  fail(id);
  pass(minutes(1));
  fail(id);
  EXPECT_EQ(state(id), JobState::kFailed);
  EXPECT_EQ(row(id).attempt, 2U);
  EXPECT_EQ(row(id).error->code, "transient");
}

TEST_F(Backoff, AJobMayNameItsOwnAttempts) {
  NewJob once = job(account("u", "low"));
  once.max_attempts = 1;
  const JobId id = submit(std::move(once));
  fail(id);
  EXPECT_EQ(state(id), JobState::kFailed);
}

TEST_F(Backoff, IsThatOfTheFailureClassWhereThePlanHasOne) {
  plan("low").retry.by_class[static_cast<std::size_t>(FailureClass::kRateLimited)] =
      policy::Backoff{.base = seconds(40), .jitter_permille = 0};
  begin(policy_);
  const JobId id = submit(account("u", "low"));
  fail(id, FailureClass::kRateLimited);
  EXPECT_EQ(row(id).due_at - now_.wall, seconds(40));
}

TEST_F(Backoff, WaitsAtLeastAsLongAsTheUpstreamAsked) {
  const JobId id = submit(account("u", "low"));
  fail(id, FailureClass::kRateLimited, seconds(90));
  EXPECT_EQ(row(id).due_at - now_.wall, seconds(90));
}

TEST_F(Backoff, WhatCanNeverSucceedIsNotTriedAgain) {
  const AccountId owner = account("u", "low");
  for (const auto failure : {FailureClass::kInvalidInput, FailureClass::kMisconfigured}) {
    const JobId id = submit(owner);
    fail(id, failure);
    EXPECT_EQ(state(id), JobState::kFailed);
  }
}

TEST_F(History, TellsTheLifeOfAJob) {
  const JobId id = submit(account("u", "low"));
  fail(id);
  pass(minutes(1));
  complete(id);
  std::vector<HistoryKind> kinds;
  for (const auto& entry : row(id).history) kinds.push_back(entry.kind);
  EXPECT_THAT(kinds, ::testing::ElementsAre(HistoryKind::kSubmitted, HistoryKind::kStarted,
                                            HistoryKind::kAttemptFailed, HistoryKind::kRetryAt,
                                            HistoryKind::kStarted, HistoryKind::kCompleted));
}

TEST_F(History, IsBoundedAndKeepsItsBeginning) {
  plan("low").retry.standard = {.base = seconds(1), .factor_permille = 1000, .attempts = 100};
  begin(policy_);
  const JobId id = submit(account("u", "low"));
  for (int i = 0; i < 30; ++i) {
    fail(id);
    pass(seconds(2));
  }
  EXPECT_EQ(row(id).history.size(), kHistoryMax);
  EXPECT_EQ(row(id).history.front().kind, HistoryKind::kSubmitted);
  EXPECT_EQ(row(id).history.back().kind, HistoryKind::kStarted);
}

}  // namespace
}  // namespace turnpike::engine
