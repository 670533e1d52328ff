// Holds, books, rates, calls, grants and rules.
#include <gmock/gmock.h>

#include "engine/rates.h"
#include "fixture.h"

namespace turnpike::engine {
namespace {

using policy::Meter;
using std::chrono::hours;
using std::chrono::seconds;

// USD for a request.
policy::PricePtr a_request(std::int64_t nanos) {
  policy::Price price;
  price.request = Rate{.picos = nanos * 1000, .per = 1};
  return std::make_shared<const policy::Price>(price);
}

class MoneyTest : public EngineTest {
 protected:
  policy::Promise& promise(const std::string& plan_name) { return plan(plan_name).promise; }
  void quota(const std::string& plan_name, Meter meter, std::int64_t limit) {
    promise(plan_name).quotas.meters[policy::index_of(meter)] = limit;
  }
  void cap(std::int64_t nanos, bool hard = true) {
    promise("low").cost_cap = policy::CostCap{.monthly = {nanos}, .hard_stop = hard};
    apply();
  }
  PeriodRow books(AccountId id) {
    for (const PeriodRow& row : engine_->periods())
      if (row.scope == Scope::kAccount && row.account == id && row.current) return row;
    return {};
  }
  Result<Admitted> call(AccountId owner, Duration patience = seconds(10)) {
    NewCall call;
    call.id = JobId{++ids_};
    call.account = owner;
    call.task = "task";
    call.route = job(owner).route;
    call.patience = patience;
    call.timeout = seconds(30);
    call.body = std::make_shared<JobBody>();
    Changes out = changes();
    auto admitted = engine_->admit(std::move(call), now_, out);
    keep(out);
    return admitted;
  }
  TryId last_try() { return effects<StartTry>().at(0).try_id; }
  void settle(TryId id, TryOutcome outcome) {
    Changes out = changes();
    engine_->settle(id, std::move(outcome), now_, out);
    keep(out);
  }
};

TEST_F(MoneyTest, AJobHoldsItsWorstCaseAndSettlesWhatItUsed) {
  quota("low", Meter::kTokens, 1'000);
  apply();
  const AccountId owner = account("a", "low");
  NewJob asked = job(owner);
  asked.estimate[Meter::kTokens] = 600;
  ASSERT_TRUE(try_submit(asked));
  EXPECT_EQ(books(owner).held[Meter::kTokens], 600);
  NewJob more = job(owner);
  more.estimate[Meter::kTokens] = 401;
  EXPECT_EQ(try_submit(more).error().code, ErrorCode::kQuotaExceeded);
  EXPECT_TRUE(complete(asked.id));
  EXPECT_EQ(books(owner).held[Meter::kTokens], 0);
  EXPECT_EQ(books(owner).used[Meter::kJobs], 1);
  EXPECT_TRUE(try_submit(more)) << "what was held and not used is there again";
}

TEST_F(MoneyTest, WhatIsHeldIsNotThereForOthers) {
  price_ = a_request(10);
  cap(25);
  const AccountId owner = account("a", "low");
  ASSERT_TRUE(try_submit(job(owner)));
  ASSERT_TRUE(try_submit(job(owner)));
  const auto refused = try_submit(job(owner));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kCostCapReached);
  EXPECT_EQ(refused.error().limit->held, "0.00000002");
  EXPECT_EQ(books(owner).cost_held, Money{20});
  EXPECT_EQ(books(owner).holds, 2U);
}

TEST_F(MoneyTest, ARefusalChangesNothing) {
  quota("low", Meter::kJobs, 0);
  apply();
  const AccountId owner = account("a", "low");
  Changes out = changes();
  NewJob asked = job(owner);
  asked.dedupe_at = out.batch - 1;
  ASSERT_FALSE(engine_->submit(asked, now_, out));
  EXPECT_TRUE(out.mutations.empty());
  EXPECT_TRUE(out.events.empty());
}

TEST_F(MoneyTest, AFailedJobGivesItsCountBackAndPaysWhatWasBilled) {
  price_ = a_request(10);
  cap(100);
  const AccountId owner = account("a", "low");
  NewJob asked = job(owner);
  asked.max_attempts = 1;
  ASSERT_TRUE(try_submit(asked));
  settle(last_try(), TryFailed{.failure = policy::FailureClass::kTransient,
                               .message = "",
                               .retry_after = {},
                               .billed = Usage{{"tokens_in", 3}}});
  EXPECT_EQ(books(owner).used[Meter::kJobs], 0);
  EXPECT_EQ(books(owner).cost_used, Money{10});
  EXPECT_EQ(books(owner).cost_held, Money{});
  ASSERT_EQ(ledger_.size(), 1U);
  EXPECT_EQ(ledger_[0].kind, EntryKind::kFailed);
}

TEST_F(MoneyTest, WhatCannotBePricedIsRefusedUnderAHardCap) {
  cap(100);
  const AccountId owner = account("a", "low");
  EXPECT_EQ(try_submit(job(owner)).error().code, ErrorCode::kModelNotAllowed);
  price_ = a_request(1);
  NewJob asked = job(owner);
  asked.extras = {"web_search_options"};
  EXPECT_EQ(try_submit(asked).error().param, "web_search_options");
  cap(100, false);
  EXPECT_TRUE(try_submit(asked));
}

TEST_F(MoneyTest, MoreThanHeldIsDebtAndBlocksNewWork) {
  policy::Price price;
  price.tokens.output = Rate{.picos = 1'000, .per = 1};  // a nano a token
  price.tokens.input = Rate{.picos = 0, .per = 1};
  price_ = std::make_shared<const policy::Price>(price);
  cap(100);
  const AccountId owner = account("a", "low");
  NewJob asked = job(owner);
  asked.estimate[Meter::kOutputTokens] = asked.estimate[Meter::kTokens] = 50;
  ASSERT_TRUE(try_submit(asked));
  settle(last_try(), TryCompleted{.output = "{}", .artifacts = {}, .usage = {{"tokens_out", 130}}});
  EXPECT_EQ(books(owner).cost_used, Money{130});
  EXPECT_EQ(books(owner).cost_debt, Money{80});
  NewJob next = job(owner);
  EXPECT_EQ(try_submit(next).error().code, ErrorCode::kCostCapReached);
}

TEST_F(MoneyTest, ANewPeriodBeginsWithNothingUsed) {
  quota("low", Meter::kJobs, 1);
  promise("low").period.kind = policy::PeriodRule::Kind::kDay;
  apply();
  const AccountId owner = account("a", "low");
  const JobId id = submit(owner);
  EXPECT_TRUE(complete(id));
  EXPECT_FALSE(try_submit(job(owner)));
  const Wall end = books(owner).end;
  now_.wall = end;
  EXPECT_TRUE(try_submit(job(owner)));
  EXPECT_EQ(books(owner).start, end);
  now_.wall = end - hours(1);  // the clock is set back: the period that began goes on
  EXPECT_FALSE(try_submit(job(owner)));
}

TEST_F(MoneyTest, AScheduledJobWaitsForQuotaWhenItIsDue) {
  quota("low", Meter::kJobs, 1);
  promise("low").period.kind = policy::PeriodRule::Kind::kDay;
  apply();
  const AccountId owner = account("a", "low");
  NewJob later = job(owner);
  later.run_at = now_.wall + seconds(10);
  const JobId id = try_submit(later)->row.id;
  EXPECT_TRUE(complete(submit(owner)));
  pass(seconds(11));
  EXPECT_EQ(row(id).state, JobState::kScheduled);
  EXPECT_EQ(view(id).waiting_for, WaitingFor::kQuota);
  EXPECT_EQ(engine_->why(row(id), now_).limit->meter, "jobs");
  const Wall end = books(owner).end;
  now_.wall = end;
  now_.mono += hours(1);
  engine_->extend_leases({}, now_);
  advance();
  EXPECT_EQ(row(id).state, JobState::kProcessing);
}

TEST_F(MoneyTest, ALostTryIsChargedAtWhatWasHeldAndCorrectedOnce) {
  price_ = a_request(10);
  cap(100);
  const AccountId owner = account("a", "low");
  ASSERT_TRUE(try_submit(job(owner)));
  const TryId lost = last_try();
  pass(options_.lease + seconds(1));
  ASSERT_EQ(ledger_.size(), 1U);
  EXPECT_EQ(ledger_[0].kind, EntryKind::kLost);
  settle(
      lost,
      TryFailed{
          .failure = policy::FailureClass::kTransient, .message = "", .retry_after = {}, .billed = Usage{}});
  settle(
      lost,
      TryFailed{
          .failure = policy::FailureClass::kTransient, .message = "", .retry_after = {}, .billed = Usage{}});
  ASSERT_EQ(ledger_.size(), 3U);
  EXPECT_EQ(ledger_[1].cost, Money{-10});
  EXPECT_EQ(ledger_[2].cost, Money{});
  EXPECT_EQ(books(owner).cost_used, Money{});
}

TEST_F(MoneyTest, ACallIsHeldAnsweredAndCharged) {
  price_ = a_request(10);
  cap(15);
  const AccountId owner = account("a", "low");
  ASSERT_TRUE(call(owner));
  const TryId first = last_try();
  EXPECT_EQ(call(owner).error().code, ErrorCode::kCostCapReached);
  EXPECT_EQ(books(owner).cost_calls_held, Money{10});
  settle(first, TryCompleted{.output = "{}", .artifacts = {}, .usage = {}});
  const auto answers = effects<AnswerCall>();
  ASSERT_EQ(answers.size(), 1U);
  EXPECT_EQ(answers[0].row.cost, Money{10});
  EXPECT_EQ(books(owner).used[Meter::kCalls], 1);
  EXPECT_EQ(books(owner).cost_calls_held, Money{});
  EXPECT_TRUE(rows_.empty()) << "no row of a call is written";
}

// What a crash would take as used is what was held: who used no more is told without waiting for the charge.
TEST_F(MoneyTest, AnAnswerWaitsForItsChargeUnlessWhatWasHeldCoversIt) {
  price_ = a_request(10);
  cap(1'000);
  const AccountId owner = account("a", "low");
  const auto told_at_once = [&](TryOutcome outcome) {
    EXPECT_TRUE(call(owner));
    settle(last_try(), std::move(outcome));
    const AnswerCall answer = effects<AnswerCall>().back();
    EXPECT_TRUE(!answer.at_once || answer.held_in > 0);
    return answer.at_once;
  };
  EXPECT_TRUE(told_at_once(TryCompleted{.output = "{}", .artifacts = {}, .usage = {}}));
  EXPECT_FALSE(told_at_once(TryCompleted{
      .output = "{}", .artifacts = {}, .usage = {{"tokens_in", 1'000'000}, {"tokens_out", 1'000'000}}}))
      << "it used more than it held";
  EXPECT_FALSE(told_at_once(TryFailed{
      .failure = policy::FailureClass::kInvalidInput, .message = "", .retry_after = {}, .billed = Usage{}}))
      << "a crash would charge what it did not use";
  cap(books(owner).cost_used.nanos + 10);
  EXPECT_FALSE(told_at_once(TryCompleted{.output = "{}", .artifacts = {}, .usage = {}}))
      << "near a limit it waits for the disk";
}

TEST_F(MoneyTest, ACallThatGetsNoRoomInTimeIsRefusedAndChargedNothing) {
  const AccountId owner = account("a", "low");
  std::uint32_t running = 0;
  while (call(owner, seconds(5)).value_or(Admitted{}).started) ++running;
  ASSERT_GT(running, 0U);
  pass(seconds(6));
  const auto answers = effects<AnswerCall>();
  ASSERT_EQ(answers.size(), 1U);
  EXPECT_EQ(answers[0].error->code, ErrorCode::kConcurrencyLimited);
  EXPECT_EQ(books(owner).held[Meter::kCalls], running);
}

TEST_F(MoneyTest, CallsOfACrashAreTakenAsUsed) {
  price_ = a_request(10);
  cap(100);
  const AccountId owner = account("a", "low");
  ASSERT_TRUE(call(owner));
  restart();
  EXPECT_EQ(books(owner).cost_used, Money{10});
  EXPECT_EQ(books(owner).cost_held, Money{});
  EXPECT_EQ(books(owner).holds, 0U);
  EXPECT_EQ(ledger_.size(), 2U) << "one for the account, one for the platform";
}

TEST_F(MoneyTest, CallsAtOnceAreBounded) {
  plan("low").limits.concurrent_calls = 1;
  apply();
  const AccountId owner = account("a", "low");
  ASSERT_TRUE(call(owner));
  const auto refused = call(owner);
  EXPECT_EQ(refused.error().code, ErrorCode::kConcurrencyLimited);
  EXPECT_TRUE(refused.error().retry_after);
}

TEST_F(MoneyTest, JobsWaitForTheirRate) {
  promise("low").rates.rps = 1;
  apply();
  const AccountId owner = account("a", "low");
  const JobId first = submit(owner);
  const JobId second = submit(owner);
  EXPECT_TRUE(runs(first));
  EXPECT_TRUE(complete(first));
  EXPECT_FALSE(runs(second));
  EXPECT_EQ(view(second).waiting_for, WaitingFor::kRateLimit);
  pass(seconds(1));
  EXPECT_TRUE(runs(second));
}

TEST_F(MoneyTest, TokensThatAreGivenBackLetOthersBegin) {
  policy_.teams["acme"] = {.name = "acme", .promise = {}, .concurrent_jobs = {}, .concurrent_calls = {}};
  policy_.teams["acme"].promise.rates.tpm = 100;
  policy_.pools["pool"].slots = 4;
  apply();
  std::vector<JobId> jobs;
  for (const char* user : {"a", "b"}) {
    const AccountId owner = account(user, "low");
    Changes out = changes();
    ASSERT_TRUE(engine_->change_account(owner, {.team = "acme", .by = "test"}, now_, out));
    keep(out);
    NewJob large = job(owner);
    large.estimate[Meter::kTokens] = 100;
    jobs.push_back(submit(large));
  }
  EXPECT_TRUE(runs(jobs[0]));
  EXPECT_FALSE(runs(jobs[1]));
  settle(row(jobs[0]).current_try, TryCompleted{.output = "{}", .artifacts = {}, .usage = {}});
  EXPECT_TRUE(runs(jobs[1])) << "not only when its timer is due";
}

TEST_F(MoneyTest, TokensGoBackToTheTeamTheyWereTakenFrom) {
  for (const char* team : {"one", "two"}) {
    policy_.teams[team] = {.name = team, .promise = {}, .concurrent_jobs = {}, .concurrent_calls = {}};
    policy_.teams[team].promise.rates.tpm = 100;
  }
  policy_.pools["pool"].slots = 4;
  apply();
  const auto join = [&](AccountId id, const char* team) {
    Changes out = changes();
    ASSERT_TRUE(engine_->change_account(id, {.team = team, .by = "test"}, now_, out));
    keep(out);
  };
  const AccountId a = account("a", "low");
  const AccountId b = account("b", "low");
  join(a, "one");
  join(b, "two");
  NewJob large = job(a);
  large.estimate[Meter::kTokens] = 100;
  const JobId moved = submit(large);
  join(a, "two");
  large.id = JobId{++ids_};
  large.account = b;
  submit(large);
  settle(row(moved).current_try, TryCompleted{.output = "{}", .artifacts = {}, .usage = {}});
  EXPECT_EQ(engine_->rates(b, now_).tokens->remaining, 0U) << "team two has given all it has";
  join(b, "one");
  EXPECT_EQ(engine_->rates(b, now_).tokens->remaining, 100U);
}

TEST_F(MoneyTest, ATeamSharesItsLimits) {
  policy_.teams["acme"] = {.name = "acme", .promise = {}, .concurrent_jobs = 1, .concurrent_calls = {}};
  policy_.teams["acme"].promise.quotas.meters[policy::index_of(Meter::kJobs)] = 2;
  apply();
  const AccountId a = account("a", "critical");
  const AccountId b = account("b", "critical");
  for (const AccountId each : {a, b}) {
    Changes out = changes();
    ASSERT_TRUE(engine_->change_account(each, {.team = "acme", .by = "test"}, now_, out));
    keep(out);
  }
  const JobId first = submit(a);
  const JobId second = submit(b);
  EXPECT_FALSE(runs(second)) << "one of the team runs";
  const auto refused = try_submit(job(a));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().limit->scope, "team");
  EXPECT_TRUE(complete(first));
  EXPECT_TRUE(runs(second));
}

TEST_F(MoneyTest, AGrantStacksAndIsSpentOnce) {
  quota("low", Meter::kJobs, 1);
  promise("low").period.kind = policy::PeriodRule::Kind::kDay;
  apply();
  const AccountId owner = account("a", "low");
  Grant grant{.id = GrantId{99},
              .meter = Meter::kJobs,
              .content = {},
              .amount = 1,
              .granted_at = now_.wall,
              .reason = {}};
  Changes out = changes();
  ASSERT_TRUE(engine_->change_account(owner, {.grant = grant, .by = "test"}, now_, out));
  keep(out);
  EXPECT_TRUE(complete(submit(owner)));
  EXPECT_TRUE(complete(submit(owner)));
  EXPECT_FALSE(try_submit(job(owner)));
  now_.wall = books(owner).end;
  EXPECT_TRUE(complete(submit(owner)));
  EXPECT_FALSE(try_submit(job(owner))) << "the grant was spent in the period before";
}

TEST_F(MoneyTest, AGrantThatTheLastPeriodUsedIsNotThereForTheFirstOfTheNext) {
  quota("low", Meter::kTokens, 10);
  promise("low").period.kind = policy::PeriodRule::Kind::kDay;
  apply();
  const AccountId owner = account("a", "low");
  Grant grant{.id = GrantId{99},
              .meter = Meter::kTokens,
              .content = {},
              .amount = 5,
              .granted_at = now_.wall,
              .reason = {}};
  Changes out = changes();
  ASSERT_TRUE(engine_->change_account(owner, {.grant = grant, .by = "test"}, now_, out));
  keep(out);
  NewJob fifteen = job(owner);
  fifteen.estimate[Meter::kTokens] = 15;
  const JobId first = submit(fifteen);
  settle(row(first).current_try, TryCompleted{.output = "{}", .artifacts = {}, .usage = {{"tokens_in", 15}}});
  now_.wall = books(owner).end;
  // Nothing has happened in the new period, and the one before is not closed yet.
  fifteen.id = JobId{++ids_};
  EXPECT_FALSE(try_submit(fifteen));
  fifteen.id = JobId{++ids_};
  fifteen.estimate[Meter::kTokens] = 10;
  EXPECT_TRUE(try_submit(fifteen));
}

TEST_F(MoneyTest, APeriodThatIsOverIsClosedByThePlanItWasLivedBy) {
  quota("high", Meter::kJobs, 10);
  quota("low", Meter::kJobs, 0);
  promise("high").period.kind = policy::PeriodRule::Kind::kDay;
  apply();
  const AccountId owner = account("a", "high");
  Grant grant{.id = GrantId{99},
              .meter = Meter::kJobs,
              .content = {},
              .amount = 2,
              .granted_at = now_.wall,
              .reason = {}};
  Changes out = changes();
  ASSERT_TRUE(engine_->change_account(owner, {.grant = grant, .by = "test"}, now_, out));
  keep(out);
  EXPECT_TRUE(complete(submit(owner)));
  now_.wall = books(owner).end;
  account("a", "low", true);
  EXPECT_TRUE(try_submit(job(owner))) << "the grant was not needed under the old plan";
}

TEST_F(MoneyTest, WhoIsGrandfatheredStaysAsItWas) {
  plan("low").limits.concurrent_jobs = 1;
  apply();
  const AccountId old = account("old", "low");
  plan("low").limits.concurrent_jobs = 0;
  plan("low").grandfather = true;
  apply();
  EXPECT_EQ(engine_->plan_of(old).limits.concurrent_jobs, 1U);
  EXPECT_EQ(engine_->plan_of(account("new", "low")).limits.concurrent_jobs, 0U);
}

TEST_F(MoneyTest, ARuleMovesWhoUsesMuchAndItIsTold) {
  policy_.rules = {{.name = "grow",
                    .from = "low",
                    .to = "high",
                    .meter = Meter::kJobs,
                    .when = policy::Rule::When::kAbove,
                    .amount = 2}};
  apply();
  const AccountId owner = account("a", "low");
  EXPECT_TRUE(complete(submit(owner)));
  EXPECT_EQ(engine_->account(owner)->plan, "low");
  const JobId second = submit(owner);
  EXPECT_TRUE(complete(second));
  EXPECT_EQ(engine_->account(owner)->plan, "high");
  const auto moved = std::ranges::find(last_.events, EventType::kPlanChanged, &Event::type);
  ASSERT_NE(moved, last_.events.end());
  EXPECT_EQ(moved->text, R"({"from":"low","to":"high","by":"rule:grow"})");
}

TEST_F(MoneyTest, EachThresholdIsToldOnce) {
  quota("low", Meter::kJobs, 4);
  apply();
  const AccountId owner = account("a", "low");
  std::vector<int> told;
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(complete(submit(owner)));
    told.push_back(
        static_cast<int>(std::ranges::count(last_.events, EventType::kUsageThreshold, &Event::type)));
  }
  EXPECT_THAT(told, ::testing::ElementsAre(0, 1, 0, 2));
}

TEST(Rates, NeverMoreThanBurstAndRateBegin) {
  const policy::Rates rates{.rps = 3, .rpm = {}, .burst = 2, .tpm = {}};
  RateState state;
  Monotonic now{seconds(1)};
  int begun = 0;
  for (int tick = 0; tick < 10'000; ++tick, now += std::chrono::milliseconds(1)) {
    if (state.wait(rates, 0, now) > Duration{0}) continue;
    state.take(rates, 0, now);
    ++begun;
  }
  EXPECT_LE(begun, 2 + 3 * 10);
  EXPECT_GE(begun, 3 * 10);
}

TEST(Rates, AWaitThatIsOverLetsItBegin) {
  const policy::Rates rates{.rps = {}, .rpm = 7, .burst = 1, .tpm = 1'000};
  RateState state;
  Monotonic now{seconds(1)};
  for (int round = 0; round < 50; ++round) {
    const Duration wait = state.wait(rates, 400, now);
    if (wait > Duration{0}) EXPECT_GT(state.wait(rates, 400, now + wait - Duration{1}), Duration{0});
    now += wait;
    ASSERT_EQ(state.wait(rates, 400, now), Duration{0});
    state.take(rates, 400, now);
  }
}

TEST(Rates, WorkLargerThanAMinuteOfTokensBeginsWhenAllIsThere) {
  const policy::Rates rates{.rps = {}, .rpm = {}, .burst = {}, .tpm = 100};
  RateState state;
  const Monotonic now{seconds(1)};
  EXPECT_EQ(state.wait(rates, 5'000, now), Duration{0});
  const Duration taken = state.take(rates, 5'000, now);
  EXPECT_GT(state.wait(rates, 1, now), std::chrono::minutes(40));
  EXPECT_TRUE(state.correct(rates, 0, taken, now));
  EXPECT_EQ(state.wait(rates, 1, now), Duration{0});
}

TEST_F(MoneyTest, NamesTheWorkThatHoldsSomeOfALimit) {
  policy_.content_types = {"blog"};
  promise("low").quotas.content["blog"] = 2;
  quota("low", Meter::kTokens, 1'000);
  plan("low").limits.concurrent_jobs = 1;
  apply();
  const AccountId owner = account("a", "low");
  const AccountId other = account("b", "low");
  NewJob big = job(owner);
  big.estimate[Meter::kTokens] = 500;
  NewJob blog = job(owner);
  blog.content_type = "blog";
  blog.estimate[Meter::kTokens] = 100;
  ASSERT_TRUE(try_submit(big));
  ASSERT_TRUE(try_submit(blog));
  ASSERT_TRUE(try_submit(job(other)));
  ASSERT_TRUE(call(owner));
  const auto ids = [](const Holders& holders) {
    std::vector<JobId> found;
    for (const Holder& holder : holders.most) found.push_back(holder.job);
    return found;
  };
  EXPECT_EQ(ids(engine_->holders(owner, 10, "tokens")), (std::vector{big.id, blog.id}));
  EXPECT_EQ(ids(engine_->holders(owner, 10, "blog")), std::vector{blog.id});
  EXPECT_EQ(ids(engine_->holders(owner, 10, "jobs")), (std::vector{big.id, blog.id}));
  EXPECT_EQ(ids(engine_->holders(owner, 1, "tokens")), std::vector{big.id});
  const Holders calls = engine_->holders(owner, 10, "concurrent_calls");
  ASSERT_EQ(calls.most.size(), 1U);
  EXPECT_TRUE(calls.most[0].call);
  EXPECT_EQ(engine_->holders(owner, 10).most.size(), 3U) << "and none of another account's";
  EXPECT_TRUE(ids(engine_->holders(owner, 10, "requests_per_minute")).empty());
}

TEST_F(MoneyTest, AJobBetweenTwoAttemptsIsAmongTheHolders) {
  quota("low", Meter::kJobs, 5);
  plan("low").retry.standard = {.base = minutes(1), .cap = minutes(1), .attempts = 3};
  apply();
  const AccountId owner = account("a", "low");
  NewJob asked = job(owner);
  ASSERT_TRUE(try_submit(asked));
  EXPECT_TRUE(fail(asked.id));
  ASSERT_EQ(state(asked.id), JobState::kScheduled);
  const Holders holders = engine_->holders(owner, 10, "jobs");
  ASSERT_EQ(holders.most.size(), 1U);
  EXPECT_EQ(holders.most[0].state, JobState::kScheduled);
  EXPECT_GE(holders.looked_at, 1U);
}

TEST_F(MoneyTest, OverridesThatNoLongerReadAreTold) {
  policy_.content_types = {"blog"};
  apply();
  const AccountId owner = account("a", "low");
  const AccountId other = account("b", "low");
  Changes out = changes();
  Engine::AccountChange change;
  change.overrides = R"({"quotas":{"blog":3}})";
  ASSERT_TRUE(engine_->change_account(owner, change, now_, out));
  keep(out);
  EXPECT_EQ(engine_->overrides_mistake(owner), "");
  EXPECT_EQ(engine_->unread_overrides(10).accounts, 0U);
  policy_.content_types.clear();
  apply();
  EXPECT_THAT(std::string(engine_->overrides_mistake(owner)), testing::HasSubstr("overrides.quotas.blog"));
  EXPECT_TRUE(engine_->plan_of(owner).promise.quotas.content.empty()) << "they do not apply";
  EXPECT_EQ(engine_->overrides_mistake(other), "");
  const UnreadOverrides unread = engine_->unread_overrides(10);
  EXPECT_EQ(unread.accounts, 1U);
  ASSERT_EQ(unread.shown.size(), 1U);
  EXPECT_EQ(unread.shown[0].first, owner);
  EXPECT_TRUE(engine_->unread_overrides(0).shown.empty());
  policy_.content_types = {"blog"};
  apply();
  EXPECT_EQ(engine_->overrides_mistake(owner), "") << "they read again";
}

TEST(Rates, NoMoreIsGivenBackThanWasTaken) {
  policy::Rates rates{.rps = {}, .rpm = {}, .burst = {}, .tpm = 1'000};
  RateState state;
  const Monotonic now{seconds(1)};
  const Duration taken = state.take(rates, 900, now);
  rates.tpm = 10;
  state.take(rates, 10, now);
  state.correct(rates, 0, taken, now);
  EXPECT_GT(state.wait(rates, 10, now), std::chrono::seconds(50)) << "what others took stays taken";
}

}  // namespace
}  // namespace turnpike::engine
