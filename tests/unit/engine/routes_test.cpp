#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/engine/fixture.h"

namespace turnpike::engine {
namespace {

using policy::FailureClass;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

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
  Result<Admitted> call(const std::vector<std::string>& pools, NewCall made = {}) {
    made.id = JobId{++ids_};
    made.account = owner_;
    made.task = "task";
    if (made.route == nullptr) made.route = route(pools);
    made.patience = seconds(10);
    if (made.timeout == Duration{0}) made.timeout = seconds(30);
    made.body = std::make_shared<JobBody>();
    Changes out = changes();
    auto admitted = engine_->admit(std::move(made), now_, out);
    keep(out);
    return admitted;
  }
  static NewCall asking(std::int64_t input, std::int64_t output) {
    NewCall made;
    made.estimate[policy::Meter::kInputTokens] = input;
    made.estimate[policy::Meter::kOutputTokens] = output;
    made.estimate[policy::Meter::kTokens] = input + output;
    return made;
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
  bool breaker_open(const std::string& pool) const {
    const auto pools = engine_->stats().pools;
    return std::ranges::find(pools, pool, &Engine::PoolStats::name)->breaker_open;
  }
  std::vector<std::string> started() const {
    std::vector<std::string> providers;
    for (const auto& start : effects<StartTry>()) providers.push_back(start.row.provider);
    return providers;
  }

  AccountId owner_;
};

TEST_F(Routes, ACancelSaysNothingOfTheUpstream) {
  for (int i = 0; i < 3; ++i) {
    const JobId id = submit(routed({"a"}));
    const TryId live = row(id).current_try;
    ASSERT_TRUE(cancel(id));
    settle(live, i == 0 ? TryOutcome(TryFailed{.failure = FailureClass::kTransient,
                                               .message = "the connection was closed",
                                               .retry_after = {}})
                        : TryOutcome(TryStopped{.billed = Usage{}}));
  }
  EXPECT_FALSE(breaker_open("a"));
  const JobId fresh = submit(routed({"a"}));
  EXPECT_EQ(state(fresh), JobState::kProcessing);
}

TEST_F(Routes, ATimeoutIsAFailureOfTheUpstreamAlthoughItIsCancelledThen) {
  for (int i = 0; i < 2; ++i) {
    NewJob made = routed({"a"});
    made.options.timeout = seconds(5);
    const JobId id = submit(made);
    const TryId live = row(id).current_try;
    pass(seconds(11));
    ASSERT_THAT(effects<StopTry>(), SizeIs(1));
    if (i == 1) ASSERT_TRUE(cancel(id));
    settle(live, TryStopped{.billed = Usage{}});
  }
  EXPECT_TRUE(breaker_open("a"));
}

TEST_F(Routes, AProbeThatIsCancelledIsGivenBack) {
  for (int i = 0; i < 2; ++i) fails(row(submit(routed({"a"}))).current_try, FailureClass::kTransient);
  pass(seconds(30));
  EXPECT_TRUE(breaker_open("a")) << "one of the two looks, the other waits";
  const JobId probe = running();
  const TryId live = row(probe).current_try;
  ASSERT_TRUE(cancel(probe));
  settle(live, TryStopped{.billed = Usage{}});
  ASSERT_TRUE(running()) << "the other looks now";
  complete(running());
  EXPECT_FALSE(breaker_open("a"));
}

TEST_F(Routes, ATryThatIsLostSaysNothingOfTheUpstream) {
  for (int i = 0; i < 2; ++i) {
    const JobId id = submit(routed({"a"}));
    settle(
        row(id).current_try,
        TryFailed{
            .failure = FailureClass::kTransient, .message = "not heard of", .retry_after = {}, .lost = true});
    EXPECT_EQ(state(id), JobState::kProcessing);
    pass(options_.lease + seconds(1));
    EXPECT_EQ(row(id).lost, 2U);
    complete(id);
  }
  EXPECT_FALSE(breaker_open("a"));
}

TEST_F(Routes, WhatFailsBeforeItsUpstreamIsAskedIsTriedAgainAndBlamesNobody) {
  for (int i = 0; i < 3; ++i) {
    const JobId id = submit(routed({"a", "b"}));
    settle(row(id).current_try, TryFailed{.failure = FailureClass::kTransient,
                                          .message = "the picture could not be fetched",
                                          .retry_after = {},
                                          .unasked = true});
    EXPECT_EQ(state(id), JobState::kScheduled) << "another upstream would fail alike";
    EXPECT_EQ(row(id).attempt, 1U);
    EXPECT_EQ(row(id).provider, "a");
    ASSERT_TRUE(cancel(id));
  }
  EXPECT_FALSE(breaker_open("a"));
}

TEST_F(Routes, AGateOutlivesThePolicyThatLeavesItOut) {
  policy_.providers["c"].limit = policy::UpstreamLimit{.requests = 1, .per = minutes(10)};
  const policy::Policy whole = policy_;
  begin(policy_);
  owner_ = account("u", "low");
  complete(submit(routed({"c"})));
  policy_.providers.erase("c");
  policy_.pools.erase("c");
  apply();
  pass(minutes(2));
  policy_ = whole;
  apply();
  const JobId waits = submit(routed({"c"}));
  EXPECT_EQ(view(waits).waiting_for, WaitingFor::kProviderLimit);
  pass(minutes(8) - seconds(1));
  EXPECT_EQ(state(waits), JobState::kQueued);
  pass(seconds(1));
  EXPECT_EQ(state(waits), JobState::kProcessing);
}

TEST_F(Routes, WhatBeganWithoutBoundsCountsWhenTheyCome) {
  policy::Provider& provider = policy_.providers["c"];
  provider.kind = policy::ProviderKind::kExec;
  provider.breaker.reset();
  begin(policy_);
  owner_ = account("u", "low");
  complete(submit(routed({"c"})));
  pass(seconds(20));
  policy_.providers["c"].limit = policy::UpstreamLimit{.requests = 3, .per = minutes(1)};
  apply();
  const JobId waits = submit(routed({"c"}));
  EXPECT_EQ(state(waits), JobState::kQueued) << "it may have been any number";
  pass(seconds(40));
  EXPECT_EQ(state(waits), JobState::kProcessing);
}

TEST_F(Routes, AfterARestartAPoolIsFullFromTheRestartOn) {
  policy_.providers["c"].limit = policy::UpstreamLimit{.requests = 3, .per = minutes(1)};
  begin(policy_);
  owner_ = account("u", "low");
  restart();
  pass(seconds(45));
  const JobId soon = submit(routed({"c"}));
  EXPECT_EQ(state(soon), JobState::kQueued);
  pass(seconds(15));
  EXPECT_EQ(state(soon), JobState::kProcessing);
  complete(soon);
  policy_.providers["d"] = policy_.providers["c"];
  policy_.providers["d"].name = policy_.providers["d"].pool = "d";
  policy_.providers["d"].limit->per = minutes(2);
  policy_.pools["d"] = {.name = "d", .slots = 2, .headroom = 0};
  apply();
  const JobId added = submit(routed({"d"}));
  EXPECT_EQ(state(added), JobState::kQueued) << "a minute after the restart";
  pass(minutes(1));
  EXPECT_EQ(state(added), JobState::kProcessing);
}

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
    const auto raised = engine_->raise(id, more, now_, out);
    keep(out);
    return std::string(raised ? "held" : error_code_name(raised.error().code));
  };
  EXPECT_EQ(raise(), "held");
  EXPECT_EQ(raise(), "quota_exceeded");
  const auto meters = engine_->usage(owner_, now_).meters;
  EXPECT_EQ(meters.at(0).held, 60);
  settle(id, TryCompleted{.output = {}, .artifacts = {}, .usage = {{"tokens_in", 10}, {"tokens_out", 20}}});
  EXPECT_EQ(engine_->usage(owner_, now_).meters.at(0).held, 0);
  EXPECT_EQ(engine_->usage(owner_, now_).meters.at(0).used, 30);
  EXPECT_EQ(raise(), "conflict") << "it has ended";
}

TEST_F(Routes, AStreamHoldsMoreOfThePeriodThatAdmittedIt) {
  plan("low").promise.quotas.meters[policy::index_of(policy::Meter::kTokens)] = 100;
  apply();
  NewCall long_one = asking(10, 50);
  long_one.timeout = std::chrono::days(40);
  ASSERT_TRUE(call({"a"}, long_one)->started);
  const TryId id = effects<StartTry>().at(0).try_id;
  now_.wall += std::chrono::days(32);
  ASSERT_TRUE(call({"b"}, asking(10, 80))->started);
  policy::Amounts more;
  more[policy::Meter::kTokens] = 40;
  Changes out = changes();
  EXPECT_TRUE(engine_->raise(id, more, now_, out)) << "60 of 100 were held in the period before";
  more[policy::Meter::kTokens] = 1;
  EXPECT_FALSE(engine_->raise(id, more, now_, out)) << "although there are 10 left in this one";
  keep(out);
}

TEST_F(Routes, OutputIsClampedToWhatIsLeftButNotBelowWhatItMakesDoWith) {
  plan("low").promise.quotas.meters[policy::index_of(policy::Meter::kTokens)] = 500;
  apply();
  NewCall ask = asking(40, 4096);
  ASSERT_FALSE(call({"a"}, ask)) << "all or nothing";
  ask.output_least = 460;
  ASSERT_TRUE(call({"a"}, ask)->started);
  const StartTry start = effects<StartTry>().at(0);
  EXPECT_EQ(start.output_limit, 460);
  EXPECT_EQ(start.row.hold->amounts[policy::Meter::kTokens], 500);
  settle(start.try_id,
         TryCompleted{.output = {}, .artifacts = {}, .usage = {{"tokens_in", 1}, {"tokens_out", 0}}});
  const auto refused = call({"a"}, ask);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kQuotaExceeded);
}

TEST_F(Routes, AStreamHoldsItsFirstStepAloneAndMayAskForAllThatIsLeft) {
  plan("low").promise.quotas.meters[policy::index_of(policy::Meter::kTokens)] = 500;
  apply();
  NewCall ask = asking(40, 4096);
  ask.output_least = ask.output_first = 100;
  ASSERT_TRUE(call({"a"}, ask)->started);
  const StartTry start = effects<StartTry>().at(0);
  EXPECT_EQ(start.output_limit, 460);
  EXPECT_EQ(start.row.hold->amounts[policy::Meter::kTokens], 140);
}

TEST_F(Routes, ACallIsRefusedAtOnceWhereEveryUpstreamFails) {
  ASSERT_TRUE(call({"a"})->started);
  fails(effects<StartTry>().at(0).try_id, FailureClass::kTransient);
  ASSERT_TRUE(call({"a"})->started);
  fails(effects<StartTry>().at(0).try_id, FailureClass::kTransient);
  const auto refused = call({"a"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(refused.error().retry_after, seconds(30));
  EXPECT_THAT(engine_->usage(owner_, now_).meters, IsEmpty()) << "nothing is held";
  EXPECT_TRUE(call({"a", "b"})->started) << "another one can be asked";
  policy::Overlay paused;
  paused.paused_providers.insert("b");
  overlay(paused);
  EXPECT_EQ(call({"a", "b"}).error().code, ErrorCode::kUnavailable);
  pass(seconds(31));
  EXPECT_TRUE(call({"a", "b"})->started) << "it looks whether it is back";
}

TEST_F(Routes, ZeroTokensAreAnAnswerAndSilenceIsNone) {
  plan("low").promise.quotas.meters[policy::index_of(policy::Meter::kTokens)] = 1000;
  apply();
  const auto used_after = [&](Usage usage) {
    NewCall ask = asking(10, 50);
    auto remote = *route({"a"});
    remote.candidates.front().remote = true;
    ask.route = std::make_shared<const policy::Route>(std::move(remote));
    EXPECT_TRUE(call({}, std::move(ask))->started);
    settle(effects<StartTry>().at(0).try_id,
           TryCompleted{.output = {}, .artifacts = {}, .usage = std::move(usage)});
    return engine_->usage(owner_, now_).meters.at(0).used;
  };
  EXPECT_EQ(used_after({{"tokens_in", 0}, {"tokens_out", 0}}), 0);
  EXPECT_EQ(used_after({{"tokens_out", -1}}), 60) << "an absurd amount says nothing";
  EXPECT_EQ(used_after({}), 120);
}

TEST_F(Routes, WhoWaitsAtTheLastStepGoesBackWhereThatIsAway) {
  policy::Overlay paused;
  paused.paused_providers.insert("a");
  overlay(paused);
  std::vector<JobId> ids;
  for (int i = 0; i < 3; ++i) ids.push_back(submit(routed({"a", "b"})));
  ASSERT_EQ(row(ids[2]).state, JobState::kQueued);
  ASSERT_EQ(row(ids[2]).pool, "b");
  paused.paused_providers = {"b"};
  overlay(paused);
  complete(ids[0]);
  EXPECT_EQ(row(ids[2]).provider, "a");
  EXPECT_EQ(row(ids[2]).state, JobState::kProcessing);
  EXPECT_EQ(engine_->startable(now_), std::nullopt);
}

TEST_F(Routes, WhoWaitsForAPoolThatIsRemovedGoesElsewhere) {
  for (int i = 0; i < 2; ++i) submit(routed({"a"}));
  const JobId alone = submit(routed({"a"}));
  const JobId either = submit(routed({"a", "b"}));
  NewCall waits;
  ASSERT_FALSE(call({"a", "b"}, waits)->started);
  ASSERT_EQ(row(either).pool, "a");
  policy_.providers.erase("a");
  policy_.pools.erase("a");
  apply();
  EXPECT_THAT(started(), UnorderedElementsAre("b", "b"));
  EXPECT_EQ(row(either).state, JobState::kProcessing);
  EXPECT_EQ(view(alone).waiting_for, WaitingFor::kPaused);
}

TEST_F(Routes, WhoWaitsForAPoolThatIsRemovedGoesWhenTheOtherIsBack) {
  for (int i = 0; i < 2; ++i) submit(routed({"a"}));
  const JobId either = submit(routed({"a", "b"}));
  policy::Overlay paused;
  paused.paused_providers.insert("b");
  overlay(paused);
  policy_.providers.erase("a");
  policy_.pools.erase("a");
  apply();
  EXPECT_EQ(row(either).pool, "a");
  overlay({});
  pass(seconds(6));
  EXPECT_EQ(row(either).state, JobState::kProcessing);
  EXPECT_EQ(row(either).provider, "b");
}

TEST_F(Routes, APausedProviderInSharedSlotsHoldsItsOwnWorkBack) {
  policy_.providers["other"] = policy_.providers["provider"];
  policy_.providers["other"].pool = "pool";
  begin(policy_);
  owner_ = account("u", "low");
  const auto of = [this](const std::string& provider, const std::vector<std::string>& then = {}) {
    policy::Route made = *route({"pool"});
    made.candidates[0].provider = provider;
    for (const auto& each : route(then)->candidates) made.candidates.push_back(each);
    NewJob fresh = job(owner_);
    fresh.route = std::make_shared<const policy::Route>(std::move(made));
    return submit(std::move(fresh));
  };
  const JobId runs = of("other");
  const JobId held_back = of("provider");
  const JobId either = of("provider", {"b"});
  const JobId behind = of("other");
  policy::Overlay paused;
  paused.paused_providers.insert("provider");
  overlay(paused);
  EXPECT_EQ(row(either).provider, "b");
  EXPECT_EQ(state(either), JobState::kProcessing);
  complete(runs);
  EXPECT_EQ(state(held_back), JobState::kQueued);
  EXPECT_EQ(view(held_back).waiting_for, WaitingFor::kPaused);
  EXPECT_TRUE(engine_->why(row(held_back), now_).pool_paused);
  EXPECT_EQ(state(behind), JobState::kProcessing) << "the slots are another's, too";
  EXPECT_EQ(row(of("provider", {"b"})).provider, "b");
  complete(behind);
  EXPECT_EQ(state(held_back), JobState::kQueued);
  EXPECT_EQ(engine_->startable(now_), std::nullopt);
  overlay({});
  EXPECT_EQ(state(held_back), JobState::kProcessing);
}

}  // namespace
}  // namespace turnpike::engine
