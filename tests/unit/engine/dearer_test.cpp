// What work holds while it goes from one upstream to a dearer one, or asks for more as it runs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/engine/fixture.h"

namespace turnpike::engine {
namespace {

using policy::FailureClass;
using policy::Meter;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// USD in nanos for a token of output.
policy::PricePtr a_token(std::int64_t nanos) {
  policy::Price price;
  price.tokens.input = Rate{.picos = 0, .per = 1};
  price.tokens.output = Rate{.picos = nanos * 1000, .per = 1};
  return std::make_shared<const policy::Price>(price);
}

// Providers a, b and c: a token costs 1, 3 and 9 nano-USD; the cap of plan `low` is hard.
class Dearer : public EngineTest {
 protected:
  Dearer() {
    for (const auto& [name, nanos] : {std::pair{"a", 1}, std::pair{"b", 3}, std::pair{"c", 9}}) {
      policy::Provider& provider = policy_.providers[name];
      provider.name = name;
      provider.pool = name;
      provider.kind = policy::ProviderKind::kOpenAi;
      policy_.prices[name]["u"] = a_token(nanos);
      policy_.pools[name] = {.name = name, .slots = 2, .headroom = 0};
    }
    cap(1'000);
    begin(policy_);
    owner_ = account("u", "low");
  }
  void cap(std::int64_t nanos) {
    plan("low").promise.cost_cap = policy::CostCap{.monthly = {nanos}, .hard_stop = true};
  }
  policy::RoutePtr priced(const std::vector<std::string>& pools) const {
    policy::Route made = *route(pools);
    for (policy::Candidate& each : made.candidates) {
      each.remote = true;
      each.price = policy_.price(each.provider, each.upstream_model);
    }
    return std::make_shared<const policy::Route>(std::move(made));
  }
  static policy::Amounts asking(std::int64_t output) {
    policy::Amounts amounts;
    amounts[Meter::kOutputTokens] = amounts[Meter::kTokens] = output;
    return amounts;
  }
  NewJob routed(const std::vector<std::string>& pools, std::int64_t output = 100) {
    NewJob made = job(owner_);
    made.route = priced(pools);
    made.estimate = asking(output);
    return made;
  }
  TryId call(const std::vector<std::string>& pools, std::int64_t output) {
    NewCall made;
    made.id = JobId{++ids_};
    made.account = owner_;
    made.task = "task";
    made.route = priced(pools);
    made.estimate = asking(output);
    made.patience = seconds(10);
    made.timeout = minutes(10);
    made.body = std::make_shared<JobBody>();
    Changes out = changes();
    const auto admitted = engine_->admit(std::move(made), now_, out);
    EXPECT_TRUE(admitted && admitted->started) << (admitted ? "it waits" : admitted.error().message);
    keep(out);
    return effects<StartTry>().at(0).try_id;
  }
  std::string raise(TryId id, const policy::Amounts& more) {
    Changes out = changes();
    const auto raised = engine_->raise(id, more, now_, out);
    keep(out);
    return raised ? "held" : error_code_name(raised.error().code);
  }
  bool fails(TryId id, FailureClass failure = FailureClass::kTransient, Usage billed = {}) {
    return settle(
        id,
        TryFailed{.failure = failure, .message = "no luck", .retry_after = {}, .billed = std::move(billed)});
  }
  // Prices of today, for what was read back from the journal.
  void price(const std::string& provider, std::int64_t nanos, std::uint64_t version) {
    policy_.prices[provider]["u"] = a_token(nanos);
    Changes out = changes();
    engine_->apply(shared(), ++version_, version, now_, out);
    keep(out);
  }
  // Answers the queue's refill with all that waits in the pool.
  void read_back(const std::string& pool) {
    const auto asked = effects<RefillQueue>();
    const auto of = std::ranges::find(asked, pool, &RefillQueue::pool);
    ASSERT_NE(of, asked.end());
    std::vector<ColdJob> heads;
    for (const auto& [id, row] : rows_)
      if (row.state == JobState::kQueued && row.pool == pool) heads.push_back(read(id));
    Changes out = changes();
    ASSERT_TRUE(engine_->refill_queue(*of, heads, now_, out));
    keep(out);
  }
  std::int64_t held() const { return engine_->usage(owner_, now_).cost_held.nanos; }
  std::int64_t used() const { return engine_->usage(owner_, now_).cost_used.nanos; }
  std::vector<std::string> started() const {
    std::vector<std::string> providers;
    for (const auto& start : effects<StartTry>()) providers.push_back(start.row.provider);
    return providers;
  }

  AccountId owner_;
};

TEST_F(Dearer, AStreamThatHoldsMoreFallsBackToADearerUpstreamWithWhatThatCosts) {
  const TryId first = call({"a", "b"}, 10);
  EXPECT_EQ(held(), 30) << "the dearest of its route";
  ASSERT_EQ(raise(first, asking(90)), "held");
  EXPECT_EQ(held(), 100) << "a hundred tokens of a";
  fails(first);
  EXPECT_THAT(started(), ElementsAre("b"));
  EXPECT_EQ(held(), 300);
  settle(effects<StartTry>().at(0).try_id,
         TryCompleted{.output = {}, .artifacts = {}, .usage = {{"tokens_in", 0}, {"tokens_out", 100}}});
  EXPECT_EQ(held(), 0);
  EXPECT_EQ(used(), 300);
  EXPECT_EQ(ledger_.back().debt, Money{});
}

TEST_F(Dearer, WhatCannotBePaidIsPassedOver) {
  const TryId first = call({"a", "c", "b"}, 10);
  ASSERT_EQ(raise(first, asking(190)), "held");
  fails(first);
  EXPECT_THAT(started(), ElementsAre("b")) << "200 tokens of c are beyond the cap of 1000";
  EXPECT_EQ(held(), 600);
}

TEST_F(Dearer, ACallThatCanPayForNoOtherUpstreamFailsAsItsTryDid) {
  const TryId first = call({"a", "c"}, 10);
  ASSERT_EQ(raise(first, asking(190)), "held");
  fails(first);
  ASSERT_THAT(effects<AnswerCall>(), SizeIs(1));
  EXPECT_EQ(effects<AnswerCall>().at(0).row.error->code, "transient");
  EXPECT_EQ(held(), 0);
}

TEST_F(Dearer, ItIsHeldInThePeriodThatAdmittedIt) {
  const TryId first = call({"a", "b"}, 10);
  ASSERT_EQ(raise(first, asking(90)), "held");
  now_.wall += std::chrono::days(32);
  ASSERT_TRUE(call({"c"}, 100));
  EXPECT_EQ(held(), 900) << "of 1000 in this period";
  fails(first);
  EXPECT_THAT(started(), ElementsAre("b"));
  EXPECT_EQ(held(), 900);
  std::vector<std::int64_t> in_period;
  for (const PeriodRow& row : engine_->periods())
    if (row.scope == Scope::kAccount) in_period.push_back(row.cost_held.nanos);
  EXPECT_THAT(in_period, ElementsAre(300, 900));
}

TEST_F(Dearer, AJobThatWasReadBackPaysWhatItsNextUpstreamCostsToday) {
  const JobId id = submit(routed({"a", "b"}));
  EXPECT_EQ(held(), 300);
  restart();
  price("b", 5, 7);
  ASSERT_EQ(state(id), JobState::kProcessing);
  EXPECT_EQ(row(id).provider, "a");
  fails(row(id).current_try, FailureClass::kTransient, {{"tokens_out", 10}});
  EXPECT_EQ(ledger_.back().price_version, 0U) << "a, at the price that admitted it";
  EXPECT_EQ(row(id).provider, "b");
  EXPECT_EQ(held(), 500);
  settle(row(id).current_try,
         TryCompleted{.output = "{}", .artifacts = {}, .usage = {{"tokens_in", 0}, {"tokens_out", 100}}});
  EXPECT_EQ(ledger_.back().price_version, 7U);
  EXPECT_EQ(ledger_.back().cost.nanos, 500);
}

TEST_F(Dearer, AJobThatWasReadBackGoesOnAtThePriceThatAdmittedIt) {
  const JobId id = submit(routed({"a", "b"}));
  restart();
  price("a", 8, 7);
  pass(options_.lease + seconds(1));
  EXPECT_EQ(row(id).lost, 2U);
  EXPECT_EQ(row(id).provider, "a");
  settle(row(id).current_try,
         TryCompleted{.output = "{}", .artifacts = {}, .usage = {{"tokens_in", 0}, {"tokens_out", 100}}});
  EXPECT_EQ(ledger_.back().cost.nanos, 100);
  EXPECT_EQ(ledger_.back().price_version, 0U);
}

TEST_F(Dearer, ANewAttemptThatCanPayForNothingFailsAsUnaffordable) {
  plan("low").promise.cost_cap->hard_stop = false;
  policy_.prices.clear();
  apply();
  const JobId id = submit(routed({"a", "b"}));
  fails(row(id).current_try);
  fails(row(id).current_try);
  ASSERT_EQ(state(id), JobState::kScheduled);
  restart();
  cap(1'000);
  price("a", 20, 7);
  price("b", 11, 8);
  pass(minutes(1));
  EXPECT_EQ(state(id), JobState::kFailed);
  EXPECT_EQ(row(id).error->code, "cost_cap_reached");
  EXPECT_EQ(held(), 0);
}

TEST_F(Dearer, AnotherKeyIsTriedWhereThatCanBePaid) {
  policy_.providers["a"].keys = {{.name = "k"}, {.name = "l"}};
  plan("low").promise.cost_cap->hard_stop = false;
  policy_.prices.clear();
  begin(policy_);
  owner_ = account("u", "low");
  const JobId id = submit(routed({"a", "b"}));
  restart();
  cap(1'000);
  price("a", 20, 7);
  price("b", 5, 8);
  ASSERT_EQ(row(id).provider, "a") << "it runs on, as it was admitted";
  fails(row(id).current_try, FailureClass::kRateLimited);
  EXPECT_EQ(row(id).provider, "b") << "a has got a price meanwhile, beyond the cap";
  EXPECT_EQ(held(), 500);
}

TEST_F(Dearer, AMoveIsMadeWhereItCanBePaid) {
  const JobId runs = submit(routed({"a"}, 1));
  const JobId runs_too = submit(routed({"a"}, 1));
  const JobId waits = submit(routed({"a", "c", "b"}, 10));
  ASSERT_EQ(state(waits), JobState::kQueued);
  EXPECT_EQ(held(), 92);
  restart();
  read_back("a");
  ASSERT_EQ(state(waits), JobState::kQueued);
  price("c", 200, 6);
  price("b", 30, 7);
  policy::Overlay paused;
  paused.paused_providers.insert("a");
  Changes out = changes();
  engine_->set_overlay(std::make_shared<const policy::Overlay>(paused), now_, out);
  keep(out);
  complete(runs);
  complete(runs_too);
  EXPECT_EQ(row(waits).provider, "b");
  EXPECT_EQ(state(waits), JobState::kProcessing);
  EXPECT_EQ(held(), 300);
}

TEST_F(Dearer, AScheduledJobPaysWhatItHoldsWhenItIsDue) {
  NewJob made = routed({"a", "b"});
  made.run_at = now_.wall + hours(1);
  const JobId id = submit(made);
  price("a", 2, 7);
  price("b", 4, 7);
  pass(hours(1) + seconds(1));
  ASSERT_EQ(row(id).provider, "a");
  EXPECT_EQ(held(), 400);
  settle(row(id).current_try,
         TryCompleted{.output = "{}", .artifacts = {}, .usage = {{"tokens_in", 0}, {"tokens_out", 100}}});
  EXPECT_EQ(ledger_.back().cost.nanos, 200);
  EXPECT_EQ(ledger_.back().price_version, 7U);
}

TEST_F(Dearer, MoreOfWhatHasNoPriceIsRefusedUnderAHardCap) {
  const TryId id = call({"a"}, 10);
  policy::Amounts more;
  more[Meter::kAudioMs] = 1'000;
  EXPECT_EQ(raise(id, more), "model_not_allowed");
  EXPECT_EQ(held(), 10);
  EXPECT_EQ(raise(id, asking(1)), "held");
  plan("low").promise.cost_cap->hard_stop = false;
  apply();
  EXPECT_EQ(raise(id, more), "held");
}

TEST_F(Dearer, ARaiseOfAJobIsInItsRow) {
  const JobId id = submit(routed({"a"}));
  EXPECT_EQ(raise(row(id).current_try, asking(50)), "held");
  EXPECT_EQ(row(id).hold->amounts[Meter::kOutputTokens], 150);
  EXPECT_EQ(row(id).hold->cost.nanos, 150);
  restart();
  complete(id);
  EXPECT_EQ(held(), 0);
}

TEST_F(Dearer, ARaiseCountsInTheTokensOfItsKey) {
  policy_.providers["a"].keys = {{.name = "k", .tokens_per_minute = 100}};
  begin(policy_);
  owner_ = account("u", "low");
  const TryId id = call({"a"}, 40);
  ASSERT_EQ(raise(id, asking(50)), "held");
  const JobId waits = submit(routed({"a"}, 20));
  EXPECT_EQ(state(waits), JobState::kQueued) << "90 of 100 tokens are gone";
  settle(id, TryCompleted{.output = {}, .artifacts = {}, .usage = {{"tokens_in", 0}, {"tokens_out", 60}}});
  EXPECT_EQ(state(waits), JobState::kProcessing) << "it used 60";
}

}  // namespace
}  // namespace turnpike::engine
