// Runs of workflows: steps are jobs, and what has completed never runs again.
#include "unit/engine/fixture.h"

namespace turnpike::engine {
namespace {

using policy::Meter;

class Runs : public EngineTest {
 protected:
  Runs() {
    begin(four_plans(4));
    owner_ = account("u", "low");
  }

  BeginStep begin_step(std::size_t step, std::size_t jobs, const std::string& content = {}) {
    BeginStep made{.step = step};
    for (std::size_t i = 0; i < jobs; ++i) {
      made.jobs.push_back(job(owner_));
      made.jobs.back().content_type = content;
    }
    return made;
  }
  NewRun fresh(std::vector<std::string> steps, std::vector<BeginStep> begin) {
    ids_ += 2'000;
    return {.id = RunId{ids_ - 1'500},
            .account = owner_,
            .workflow = "w",
            .steps = std::move(steps),
            .body = std::make_shared<RunBody>(),
            .begin = std::move(begin)};
  }
  Result<RunRow> try_start(NewRun run) {
    Changes out = changes();
    auto answer = engine_->start_run(std::move(run), now_, out);
    keep(out);
    return answer;
  }
  RunId start(std::vector<std::string> steps, std::vector<BeginStep> begin) {
    const auto answer = try_start(fresh(std::move(steps), std::move(begin)));
    EXPECT_TRUE(answer) << (answer ? "" : answer.error().message);
    return answer ? answer->id : RunId{};
  }
  Result<RunRow> go_on(RunId id, std::vector<BeginStep> begin, bool over = false) {
    RunAdvance advance{
        .run = id, .revision = run(id).revision, .begin = std::move(begin), .result = {}, .error = {}};
    if (over) advance.result = RunResult{.output = R"({"a":1})", .artifacts = {}};
    Changes out = changes();
    auto answer = engine_->advance_run(std::move(advance), now_, out);
    keep(out);
    return answer;
  }
  Result<RunRow> cancel_run(RunId id) {
    Changes out = changes();
    auto answer = engine_->cancel_run(id, "user", now_, out);
    keep(out);
    return answer;
  }
  Result<RunRow> retry_run(RunId id) {
    std::vector<ColdJob> jobs;
    for (std::uint32_t i = 0; i < run(id).next_job; ++i) jobs.push_back(read(job_of(id, i)));
    Changes out = changes();
    auto answer = engine_->retry_run({.row = run(id), .at = batch_ - 1}, std::move(jobs), now_, out);
    keep(out);
    return answer;
  }
  const RunRow& run(RunId id) const { return run_rows_.at(id); }
  StepState step(RunId id, std::size_t at) const { return run(id).steps.at(at).state; }
  std::vector<EventType> told() const {
    std::vector<EventType> types;
    for (const Event& event : last_.events) types.push_back(event.type);
    return types;
  }
  bool told(EventType type) const { return std::ranges::count(told(), type) == 1; }
  std::int64_t held(Meter meter) const { return engine_->periods().front().held[meter]; }

  AccountId owner_;
};

TEST_F(Runs, BeginsWithItsFirstStepsAndHasTheirAge) {
  const JobId older = submit(owner_);
  const RunId id = start({"a", "b"}, {begin_step(0, 2)});
  EXPECT_EQ(run(id).state, JobState::kProcessing);
  EXPECT_EQ(step(id, 0), StepState::kRunning);
  EXPECT_EQ(step(id, 1), StepState::kWaiting);
  EXPECT_EQ(run(id).live_jobs, 2U);
  EXPECT_TRUE(runs(job_of(id, 0)) && runs(job_of(id, 1)));
  EXPECT_EQ(row(job_of(id, 0)).run, id);
  EXPECT_TRUE(told(EventType::kRunStarted) && told(EventType::kStepQueued));
  EXPECT_GT(job_of(id, 0), older);
}

TEST_F(Runs, GoesOnFromStepToStepToItsResult) {
  const RunId id = start({"a", "b"}, {begin_step(0, 1)});
  ASSERT_TRUE(complete(job_of(id, 0)));
  EXPECT_EQ(step(id, 0), StepState::kCompleted);
  ASSERT_EQ(effects<ContinueRun>().size(), 1U);
  ASSERT_TRUE(go_on(id, {begin_step(1, 2)}));
  ASSERT_TRUE(complete(job_of(id, 1)));
  EXPECT_TRUE(effects<ContinueRun>().empty());  // the step has not ended
  ASSERT_TRUE(complete(job_of(id, 2)));
  ASSERT_TRUE(go_on(id, {}, true));
  EXPECT_EQ(run(id).state, JobState::kCompleted);
  EXPECT_EQ(run(id).output, R"({"a":1})");
  EXPECT_TRUE(told(EventType::kRunCompleted));
  EXPECT_EQ(engine_->run(id), nullptr);
}

TEST_F(Runs, PassesOverStepsThatAreSkippedOrHaveNothingToDo) {
  const RunId id = start({"a", "b", "c", "d"}, {begin_step(0, 1), {.step = 1, .skipped = true}, {.step = 2}});
  EXPECT_EQ(step(id, 1), StepState::kSkipped);
  EXPECT_EQ(step(id, 2), StepState::kCompleted);
  EXPECT_TRUE(told(EventType::kStepSkipped) && told(EventType::kStepCompleted));
}

TEST_F(Runs, TakesNoAdviceFromAnOldLook) {
  const RunId id = start({"a", "b", "c"}, {begin_step(0, 1), begin_step(1, 1)});
  const std::uint64_t old = run(id).revision;
  complete(job_of(id, 0));
  Changes out = changes();
  const auto answer = engine_->advance_run(
      {.run = id, .revision = old, .begin = {begin_step(2, 1)}, .result = {}, .error = {}}, now_, out);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kStale);
  EXPECT_TRUE(out.mutations.empty());
}

TEST_F(Runs, FailsWithAStepAndStartsNothingOfItAnyMore) {
  begin(four_plans(2));
  owner_ = account("u", "low");
  const RunId id = start({"a", "b"}, {begin_step(0, 3), begin_step(1, 1)});
  ASSERT_TRUE(runs(job_of(id, 0)) && runs(job_of(id, 1)) && !runs(job_of(id, 2)));
  ASSERT_TRUE(fail(job_of(id, 0), policy::FailureClass::kInvalidInput));
  EXPECT_EQ(run(id).state, JobState::kFailed);
  EXPECT_EQ(run(id).error->code, "invalid_input");
  EXPECT_EQ(run(id).error->message, "step `a`: no luck");
  EXPECT_EQ(step(id, 0), StepState::kFailed);
  EXPECT_EQ(step(id, 1), StepState::kCancelled);
  EXPECT_EQ(run(id).live_jobs, 0U);
  for (const std::uint32_t place : {1U, 2U, 3U}) EXPECT_EQ(state(job_of(id, place)), JobState::kCancelled);
  EXPECT_TRUE(effects<StartTry>().empty());
  EXPECT_EQ(effects<StopTry>().size(), 1U);
  EXPECT_TRUE(told(EventType::kRunFailed));
}

TEST_F(Runs, IsCancelledWithItsJobs) {
  const RunId id = start({"a", "b"}, {begin_step(0, 2)});
  const auto answer = cancel_run(id);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->state, JobState::kCancelled);
  EXPECT_EQ(answer->cancelled_by, "user");
  EXPECT_EQ(answer->live_jobs, 0U);
  EXPECT_EQ(effects<StopTry>().size(), 2U);
  EXPECT_EQ(engine_->run(id), nullptr);
  EXPECT_EQ(cancel_run(id).error().code, ErrorCode::kNotFound);
}

TEST_F(Runs, IsRetriedWithoutWhatHasCompleted) {
  const RunId id = start({"a", "b"}, {begin_step(0, 3)});
  complete(job_of(id, 1));
  fail(job_of(id, 0), policy::FailureClass::kInvalidInput);
  ASSERT_EQ(run(id).state, JobState::kFailed);
  EXPECT_EQ(retry_run(id).error().code, ErrorCode::kConflict);  // one is stopping still
  settle(row(job_of(id, 2)).current_try, TryStopped{});
  for (const TryId left : engine_->live_tries()) settle(left, TryStopped{});
  const auto answer = retry_run(id);
  ASSERT_TRUE(answer) << answer.error().message;
  advance();
  EXPECT_EQ(run(id).state, JobState::kProcessing);
  EXPECT_EQ(state(job_of(id, 1)), JobState::kCompleted);
  EXPECT_TRUE(runs(job_of(id, 0)) && runs(job_of(id, 2)));
  complete(job_of(id, 0));
  complete(job_of(id, 2));
  EXPECT_EQ(step(id, 0), StepState::kCompleted);
}

TEST_F(Runs, ItsStepsAreNotRetriedByThemselves) {
  const RunId id = start({"a"}, {begin_step(0, 1)});
  fail(job_of(id, 0), policy::FailureClass::kInvalidInput);
  const auto answer = retry(job_of(id, 0));
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kConflict);
  EXPECT_THAT(answer.error().message, ::testing::HasSubstr("/retry"));
}

TEST_F(Runs, IsLookedAtAgainAfterARestart) {
  const RunId id = start({"a", "b"}, {begin_step(0, 1)});
  complete(job_of(id, 0));
  restart();
  ASSERT_EQ(effects<ContinueRun>().size(), 1U);
  EXPECT_EQ(effects<ContinueRun>().front().run, id);
  EXPECT_EQ(step(id, 0), StepState::kCompleted);
  ASSERT_TRUE(go_on(id, {begin_step(1, 1)}));
  EXPECT_TRUE(runs(job_of(id, 1)));
}

TEST_F(Runs, HoldsWhatItsLaterStepsCountFor) {
  policy_.content_types = {"blog"};
  plan("low").promise.quotas.content["blog"] = 2;
  plan("low").promise.quotas.meters[policy::index_of(Meter::kJobs)] = 4;
  begin(policy_);
  owner_ = account("u", "low");
  const auto two_blogs = [&] {
    NewRun two = fresh({"a", "b", "c"}, {begin_step(0, 1)});
    two.certain = {{.step = 1, .content_type = "blog"}, {.step = 2, .content_type = "blog"}};
    return two;
  };
  const auto first = try_start(two_blogs());
  ASSERT_TRUE(first) << first.error().message;
  EXPECT_EQ(held(Meter::kJobs), 3);
  const auto second = try_start(two_blogs());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, ErrorCode::kQuotaExceeded);
  EXPECT_EQ(second.error().limit->meter, "blog");
  EXPECT_TRUE(last_.mutations.empty());
  complete(job_of(first->id, 0));
  ASSERT_TRUE(go_on(first->id, {begin_step(1, 1, "blog"), begin_step(2, 1, "blog")}));
  EXPECT_FALSE(run(first->id).steps[1].hold);
  EXPECT_TRUE(runs(job_of(first->id, 1)) && runs(job_of(first->id, 2)));
  EXPECT_EQ(held(Meter::kJobs), 2);
}

TEST_F(Runs, GivesBackWhatItHeldForStepsThatNeverCame) {
  const auto held_run = [&] {
    NewRun one = fresh({"a", "b"}, {begin_step(0, 1)});
    one.certain = {{.step = 1, .content_type = ""}};
    return one;
  };
  const auto id = try_start(held_run())->id;
  EXPECT_EQ(held(Meter::kJobs), 2);
  fail(job_of(id, 0), policy::FailureClass::kInvalidInput);
  EXPECT_EQ(held(Meter::kJobs), 0);
}

TEST_F(Runs, AStepWithoutQuotaWaitsAndIsNotRefused) {
  plan("low").promise.quotas.meters[policy::index_of(Meter::kJobs)] = 1;
  begin(policy_);
  owner_ = account("u", "low");
  const RunId id = start({"a", "b"}, {begin_step(0, 1)});
  complete(job_of(id, 0));
  ASSERT_TRUE(go_on(id, {begin_step(1, 1)}));
  advance();
  EXPECT_EQ(state(job_of(id, 1)), JobState::kScheduled);
  EXPECT_EQ(run(id).state, JobState::kProcessing);
  plan("low").promise.quotas.meters[policy::index_of(Meter::kJobs)] = 2;
  apply();
  pass(minutes(11));
  EXPECT_TRUE(runs(job_of(id, 1)));
}

TEST_F(Runs, IsRefusedWhole) {
  plan("low").promise.quotas.meters[policy::index_of(Meter::kJobs)] = 1;
  begin(policy_);
  owner_ = account("u", "low");
  const auto answer = try_start(fresh({"a"}, {begin_step(0, 2)}));
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kQuotaExceeded);
  EXPECT_TRUE(last_.mutations.empty() && last_.events.empty() && last_.effects.empty());
}

}  // namespace
}  // namespace turnpike::engine
