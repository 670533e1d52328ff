#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/engine/fixture.h"

namespace turnpike::engine {
namespace {

using policy::FailureClass;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class Routes : public EngineTest {
 protected:
  Routes() {
    for (const char* name : {"a", "b", "c"}) {
      policy::Provider& provider = policy_.providers[name];
      provider.name = name;
      provider.pool = name;
      provider.kind = policy::ProviderKind::kOpenAi;
      provider.breaker = policy::Breaker{.failures = 2, .cool_down = seconds(30)};
      policy_.pools[name] = {.name = name, .slots = 2, .headroom = 0};
    }
    begin(policy_);
    owner_ = account("u", "low");
  }
  NewJob routed(const std::vector<std::string>& pools) {
    NewJob made = job(owner_);
    made.route = route(pools);
    return made;
  }
  Result<Admitted> call(const std::vector<std::string>& pools) {
    NewCall made;
    made.id = JobId{++ids_};
    made.account = owner_;
    made.task = "task";
    made.route = route(pools);
    made.patience = seconds(10);
    made.timeout = seconds(30);
    made.body = std::make_shared<JobBody>();
    Changes out = changes();
    auto admitted = engine_->admit(std::move(made), now_, out);
    keep(out);
    return admitted;
  }
  bool fails(TryId id, FailureClass failure, bool began = false, std::optional<Duration> retry_after = {}) {
    return settle(id, TryFailed{.failure = failure,
                                .message = "no luck",
                                .retry_after = retry_after,
                                .billed = Usage{},
                                .began = began});
  }
  void overlay(policy::Overlay value) {
    Changes out = changes();
    engine_->set_overlay(std::make_shared<const policy::Overlay>(std::move(value)), now_, out);
    keep(out);
  }
  std::vector<std::string> started() const {
    std::vector<std::string> providers;
    for (const auto& start : effects<StartTry>()) providers.push_back(start.row.provider);
    return providers;
  }

  AccountId owner_;
};

TEST_F(Routes, AFailedTryGoesOnAtTheNextUpstreamWithinItsAttempt) {
  const JobId id = submit(routed({"a", "b"}));
  EXPECT_EQ(row(id).provider, "a");
  fails(row(id).current_try, FailureClass::kTransient);
  EXPECT_THAT(started(), ElementsAre("b"));
  EXPECT_EQ(row(id).provider, "b");
  EXPECT_EQ(row(id).attempt, 1U);
  EXPECT_EQ(row(id).state, JobState::kProcessing);
  complete(id);
  EXPECT_EQ(row(id).state, JobState::kCompleted);
}

TEST_F(Routes, AnAttemptHasFailedWhenItsWholeRouteHas) {
  const JobId id = submit(routed({"a", "b"}));
  fails(row(id).current_try, FailureClass::kTimeout);
  fails(row(id).current_try, FailureClass::kTransient);
  EXPECT_EQ(row(id).state, JobState::kScheduled);
  pass(seconds(5));
  EXPECT_EQ(row(id).provider, "a");
  EXPECT_EQ(row(id).attempt, 2U);
}

TEST_F(Routes, AnInputAtFaultIsAtFaultEverywhere) {
  const JobId id = submit(routed({"a", "b"}));
  fails(row(id).current_try, FailureClass::kInvalidInput);
  EXPECT_EQ(row(id).state, JobState::kFailed);
  EXPECT_EQ(row(id).provider, "a");
}

TEST_F(Routes, ACallFallsBackUntilItsAnswerHasBegun) {
  ASSERT_TRUE(call({"a", "b", "c"})->started);
  fails(effects<StartTry>().at(0).try_id, FailureClass::kTransient);
  ASSERT_THAT(started(), ElementsAre("b"));
  fails(effects<StartTry>().at(0).try_id, FailureClass::kTransient, true);
  ASSERT_THAT(effects<AnswerCall>(), SizeIs(1));
  EXPECT_EQ(effects<AnswerCall>().at(0).row.state, JobState::kFailed);
  EXPECT_EQ(engine_->usage(owner_, now_).cost_held, Money{});
}

TEST_F(Routes, AnUpstreamThatOnlyFailsIsPassedOver) {
  for (int i = 0; i < 2; ++i) {
    submit(routed({"a"}));
    fails(effects<StartTry>().at(0).try_id, FailureClass::kTransient);
  }
  submit(routed({"a", "b"}));
  EXPECT_THAT(started(), ElementsAre("b"));
  const JobId only = submit(routed({"a"}));
  EXPECT_EQ(row(only).state, JobState::kQueued);
  EXPECT_EQ(view(only).waiting_for, WaitingFor::kProviderLimit);
}

TEST_F(Routes, WhoWaitsForAnUpstreamThatBreaksGoesElsewhere) {
  std::vector<JobId> ids;
  for (int i = 0; i < 4; ++i) ids.push_back(submit(routed({"a", "b"})));
  EXPECT_EQ(row(ids[2]).state, JobState::kQueued);
  EXPECT_EQ(row(ids[2]).pool, "a");
  fails(row(ids[0]).current_try, FailureClass::kTransient);
  EXPECT_EQ(row(ids[2]).state, JobState::kProcessing) << "one failure says little: the next starts there";
  fails(row(ids[1]).current_try, FailureClass::kTransient);
  EXPECT_EQ(row(ids[0]).pool, "b");
  EXPECT_EQ(row(ids[1]).pool, "b");
  EXPECT_EQ(row(ids[2]).pool, "a");
  EXPECT_EQ(row(ids[3]).pool, "b");
  EXPECT_EQ(row(ids[3]).state, JobState::kQueued);
}

TEST_F(Routes, SaturationSpillsWhereItIsSaidTo) {
  policy::Route made = *route({"a", "b"});
  made.candidates[0].saturation = policy::Saturation::kSpill;
  const auto spilling = std::make_shared<const policy::Route>(made);
  std::vector<std::string> providers;
  for (int i = 0; i < 4; ++i) {
    NewJob fresh = job(owner_);
    fresh.route = spilling;
    providers.push_back(row(submit(std::move(fresh))).provider);
  }
  EXPECT_THAT(providers, ElementsAre("a", "a", "b", "b"));
  EXPECT_EQ(row(submit(routed({"a", "b"}))).pool, "a") << "without a word it waits";
}

TEST_F(Routes, ALimitOfTheUpstreamMakesJobsWaitForItsTime) {
  policy_.providers["c"].limit = policy::UpstreamLimit{.requests = 1, .per = minutes(1)};
  policy_.providers["c"].breaker.reset();
  begin(policy_);
  owner_ = account("u", "low");
  const JobId first = submit(routed({"c"}));
  complete(first);
  const JobId second = submit(routed({"c"}));
  EXPECT_EQ(row(second).state, JobState::kQueued);
  EXPECT_EQ(view(second).waiting_for, WaitingFor::kProviderLimit);
  pass(seconds(59));
  EXPECT_EQ(row(second).state, JobState::kQueued);
  pass(seconds(1));
  EXPECT_EQ(row(second).state, JobState::kProcessing);
}

TEST_F(Routes, APausedProviderIsLeftAndComesBack) {
  const JobId alone = submit(routed({"a"}));
  complete(alone);
  policy::Overlay paused;
  paused.paused_providers.insert("a");
  overlay(paused);
  const JobId waits = submit(routed({"a"}));
  EXPECT_EQ(view(waits).waiting_for, WaitingFor::kPaused);
  EXPECT_EQ(row(submit(routed({"a", "b"}))).provider, "b");
  overlay({});
  EXPECT_EQ(row(waits).state, JobState::kProcessing);
}

TEST_F(Routes, AnotherKeyOfTheSameUpstreamIsTriedFirst) {
  policy_.providers["a"].keys = {{.name = "one"}, {.name = "two"}};
  begin(policy_);
  owner_ = account("u", "low");
  ASSERT_TRUE(call({"a", "b"})->started);
  const StartTry first = effects<StartTry>().at(0);
  fails(first.try_id, FailureClass::kRateLimited, false, seconds(20));
  const StartTry second = effects<StartTry>().at(0);
  EXPECT_EQ(second.row.provider, "a");
  EXPECT_NE(second.key, first.key);
  fails(second.try_id, FailureClass::kRateLimited, false, seconds(20));
  EXPECT_THAT(started(), ElementsAre("b"));
}

TEST_F(Routes, ARouteSurvivesARestart) {
  const JobId id = submit(routed({"a", "b"}));
  restart();
  EXPECT_EQ(row(id).state, JobState::kProcessing);
  fails(row(id).current_try, FailureClass::kTransient);
  EXPECT_EQ(row(id).provider, "b");
  EXPECT_EQ(row(id).state, JobState::kProcessing);
}

TEST_F(Routes, AStreamHoldsMoreAsItComesUntilNothingIsLeft) {
  plan("low").promise.quotas.meters[policy::index_of(policy::Meter::kTokens)] = 100;
  apply();
  ASSERT_TRUE(call({"a"})->started);
  const TryId id = effects<StartTry>().at(0).try_id;
  policy::Amounts more;
  more[policy::Meter::kTokens] = 60;
  const auto raise = [&] {
    Changes out = changes();
    const bool raised = engine_->raise(id, more, now_, out);
    keep(out);
    return raised;
  };
  EXPECT_TRUE(raise());
  EXPECT_FALSE(raise());
  const auto meters = engine_->usage(owner_, now_).meters;
  EXPECT_EQ(meters.at(0).held, 60);
  settle(id, TryCompleted{.output = {}, .artifacts = {}, .usage = {{"tokens_in", 10}, {"tokens_out", 20}}});
  EXPECT_EQ(engine_->usage(owner_, now_).meters.at(0).held, 0);
  EXPECT_EQ(engine_->usage(owner_, now_).meters.at(0).used, 30);
  EXPECT_FALSE(raise()) << "it has ended";
}

}  // namespace
}  // namespace turnpike::engine
