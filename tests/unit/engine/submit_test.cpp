// Submit, cancel and retry: what users ask.
#include "unit/engine/fixture.h"

namespace turnpike::engine {
namespace {

class Submit : public EngineTest {};
class Cancel : public EngineTest {};
class Retry : public EngineTest {};
class Accounts : public EngineTest {};

TEST_F(Submit, StartsAtOnceWhereThereIsRoom) {
  const AccountId owner = account("u", "low");
  const auto answer = try_submit(job(owner));
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->row.state, JobState::kProcessing);
  const auto starts = effects<StartTry>();
  ASSERT_EQ(starts.size(), 1U);
  EXPECT_EQ(starts[0].row.id, answer->row.id);
  EXPECT_EQ(starts[0].active, 1U);
  EXPECT_EQ(starts[0].limit, std::nullopt);
}

TEST_F(Submit, WritesAStartedJobOnceAndWithItsBody) {
  const JobId id = submit(account("u", "low"));
  int written = 0;
  for (const auto& mutation : last_.mutations) {
    const auto* put = std::get_if<PutJob>(&mutation);
    if (!put || put->row.id != id) continue;
    ++written;
    EXPECT_NE(put->body, nullptr);
  }
  EXPECT_EQ(written, 1);
}

TEST_F(Submit, WaitsInTheQueueWhereThereIsNoRoom) {
  const AccountId owner = account("u", "low");
  submit(owner);
  const auto answer = try_submit(job(owner));
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->row.state, JobState::kQueued);
  ASSERT_TRUE(answer->queue.has_value());
  EXPECT_EQ(answer->queue->position, 1U);
  EXPECT_EQ(answer->queue->waiting_for, WaitingFor::kTurn);
}

TEST_F(Submit, RefusesWhenTheQueueIsFullAndSaysWhenToComeBack) {
  plan("low").limits.queue_depth = 2;
  begin(policy_);
  const AccountId owner = account("u", "low");
  for (int i = 0; i < 3; ++i) submit(owner);  // one runs
  const auto answer = try_submit(job(owner));
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().code, ErrorCode::kQueueFull);
  EXPECT_GE(answer.error().retry_after.value(), seconds(1));
  EXPECT_TRUE(last_.mutations.empty() && last_.events.empty() && last_.effects.empty());
}

TEST_F(Submit, RefusesAnAccountItDoesNotKnow) {
  const auto answer = try_submit(job(AccountId{77}));
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().code, ErrorCode::kNotFound);
}

TEST_F(Submit, GivesBackTheLiveJobThatHasTheDedupeKey) {
  const AccountId owner = account("u", "low");
  NewJob first = job(owner);
  first.dedupe_key = "k";
  const JobId id = submit(first);
  NewJob again = job(owner);
  again.dedupe_key = "k";
  again.dedupe_job = read(id);
  const auto answer = try_submit(std::move(again));
  ASSERT_TRUE(answer.has_value());
  EXPECT_TRUE(answer->deduplicated);
  EXPECT_EQ(answer->row.id, id);
  EXPECT_TRUE(last_.mutations.empty());
}

TEST_F(Submit, IsStaleIfTheDedupeKeyWasTakenSinceItWasRead) {
  const AccountId owner = account("u", "low");
  NewJob first = job(owner);
  first.dedupe_key = "k";
  submit(first);
  NewJob again = job(owner);
  again.dedupe_key = "k";
  again.dedupe_at = batch_ - 1;  // when there was none
  Changes out = changes();
  const auto answer = engine_->submit(std::move(again), now_, out);
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().code, ErrorCode::kStale);
}

TEST_F(Submit, TakesADedupeKeyWhoseJobHasEnded) {
  const AccountId owner = account("u", "low");
  NewJob first = job(owner);
  first.dedupe_key = "k";
  const JobId id = submit(first);
  complete(id);
  NewJob again = job(owner);
  again.dedupe_key = "k";
  EXPECT_NE(submit(std::move(again)), id);
}

TEST_F(Cancel, EndsAWaitingJobAtOnce) {
  const AccountId owner = account("u", "low");
  submit(owner);
  const JobId waiting = submit(owner);
  ASSERT_TRUE(cancel(waiting).has_value());
  EXPECT_EQ(state(waiting), JobState::kCancelled);
  EXPECT_TRUE(engine_->queue_counts().empty());
}

TEST_F(Cancel, EndsAScheduledJob) {
  NewJob later = job(account("u", "low"));
  later.run_at = now_.wall + hours(1);
  const JobId id = submit(std::move(later));
  ASSERT_TRUE(cancel(id).has_value());
  pass(hours(2));
  EXPECT_EQ(state(id), JobState::kCancelled);
}

TEST_F(Cancel, StopsARunningJobWhichKeepsItsSlotUntilItHasStopped) {
  const AccountId owner = account("u", "low");
  const JobId first = submit(owner);
  const JobId second = submit(owner);
  const TryId attempt = row(first).current_try;
  ASSERT_TRUE(cancel(first).has_value());
  EXPECT_EQ(state(first), JobState::kCancelled);
  ASSERT_EQ(effects<StopTry>().size(), 1U);
  EXPECT_EQ(effects<StopTry>()[0].reason, StopReason::kCancelled);
  EXPECT_EQ(engine_->running(owner), 1U);
  EXPECT_FALSE(runs(second));
  EXPECT_TRUE(settle(attempt, TryStopped{}));
  EXPECT_TRUE(runs(second));
}

TEST_F(Cancel, IsNotUndoneByACompletionThatComesTooLate) {
  const JobId id = submit(account("u", "low"));
  const TryId attempt = row(id).current_try;
  cancel(id);
  EXPECT_TRUE(settle(attempt, TryCompleted{.output = "{}", .artifacts = {}, .usage = {}}));
  EXPECT_EQ(state(id), JobState::kCancelled);
}

TEST_F(Cancel, ConflictsWithAnEndedJobAndSaysHowItEnded) {
  const JobId id = submit(account("u", "low"));
  complete(id);
  const auto answer = cancel(id);
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().code, ErrorCode::kConflict);
  EXPECT_THAT(answer.error().message, ::testing::HasSubstr("completed"));
}

TEST_F(Cancel, IsStaleIfTheRowChangedSinceItWasRead) {
  const JobId id = submit(account("u", "low"));
  const ColdJob old = read(id);
  complete(id);
  Changes out = changes();
  const auto answer = engine_->cancel(id, "user", &old, now_, out);
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().code, ErrorCode::kStale);
}

TEST_F(Cancel, OfAnUnknownJobWithoutARowIsNotFound) {
  Changes out = changes();
  EXPECT_EQ(engine_->cancel(JobId{999}, "user", nullptr, now_, out).error().code, ErrorCode::kNotFound);
}

TEST_F(Retry, RunsACancelledJobAgain) {
  const JobId id = submit(account("u", "low"));
  settle(row(id).current_try,
         TryFailed{.failure = policy::FailureClass::kInvalidInput, .message = "bad", .retry_after = {}});
  ASSERT_EQ(state(id), JobState::kFailed);
  const std::uint32_t attempt = row(id).attempt;
  ASSERT_TRUE(retry(id).has_value());
  EXPECT_TRUE(runs(id));
  EXPECT_EQ(row(id).max_attempts - attempt, plan("low").retry.standard.attempts) << "a fresh set of attempts";
}

TEST_F(Retry, ConflictsWithWhatCompletedOrHasNotEnded) {
  const JobId id = submit(account("u", "low"));
  EXPECT_EQ(retry(id).error().code, ErrorCode::kConflict);
  complete(id);
  EXPECT_EQ(retry(id).error().code, ErrorCode::kConflict);
}

TEST_F(Retry, ConflictsWhileTheLastTryStops) {
  const JobId id = submit(account("u", "low"));
  const TryId attempt = row(id).current_try;
  cancel(id);
  EXPECT_EQ(retry(id).error().code, ErrorCode::kConflict);
  settle(attempt, TryStopped{});
  EXPECT_TRUE(retry(id).has_value());
}

TEST_F(Retry, RespectsTheQueueDepth) {
  plan("low").limits.queue_depth = 1;
  begin(policy_);
  const AccountId owner = account("u", "low");
  submit(owner);
  const JobId cancelled = submit(owner);
  cancel(cancelled);
  submit(owner);
  EXPECT_EQ(retry(cancelled).error().code, ErrorCode::kQueueFull);
}

TEST_F(Accounts, AreMadeOnTheDefaultPlan) {
  const AccountId id = account("new", "");
  EXPECT_EQ(engine_->account(id)->plan, "low");
  EXPECT_EQ(engine_->account_by_user("new")->id, id);
}

TEST_F(Accounts, KeepTheirPlanUnlessToldToChange) {
  const AccountId id = account("u", "low");
  EXPECT_EQ(account("u", "high"), id);
  EXPECT_EQ(engine_->account(id)->plan, "low");
  account("u", "high", true);
  EXPECT_EQ(engine_->account(id)->plan, "high");
}

TEST_F(Accounts, AreRefusedAPlanThatDoesNotExist) {
  Changes out = changes();
  const auto answer = engine_->ensure_account("u", AccountId{5}, "gold", false, now_, out);
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(answer.error().param, "plan");
  EXPECT_TRUE(out.mutations.empty());
}

TEST_F(Accounts, AreListedByIdInPages) {
  const AccountId a = account("a", "low"), b = account("b", "low"), c = account("c", "low");
  const auto page = engine_->accounts(a, 5);
  ASSERT_EQ(page.size(), 2U);
  EXPECT_EQ(page[0].id, b);
  EXPECT_EQ(page[1].id, c);
}

TEST_F(Submit, RemembersHowItsModelWasChosen) {
  const AccountId owner = account("u", "low");
  NewJob asked = job(owner);
  policy::Route named = *asked.route;
  named.why = "version that the request names";
  asked.route = std::make_shared<const policy::Route>(named);
  const JobId id = submit(asked);
  EXPECT_EQ(row(id).history.at(1).kind, HistoryKind::kRouted);
  EXPECT_EQ(row(id).history.at(1).text, named.why);
}

}  // namespace
}  // namespace turnpike::engine
