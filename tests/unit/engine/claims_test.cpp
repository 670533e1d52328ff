#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "unit/engine/fixture.h"

namespace turnpike::engine {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class Claims : public EngineTest {
 protected:
  Claims() {
    for (const char* name : {"own", "second"}) {
      policy::Provider& provider = policy_.providers[name];
      provider.name = name;
      provider.pool = name;
      provider.kind = policy::ProviderKind::kPull;
      provider.claims_max = 3;
      policy_.pools[name] = {.name = name, .slots = 100, .headroom = 0};
    }
    for (auto& [name, each] : policy_.plans) each.limits.dispatch_batch = 3;
    begin(policy_);
    ann_ = account("ann", "low");
    bob_ = account("bob", "low");
  }
  Result<void> try_claim(NewClaim claim) {
    Changes out = changes();
    claim.id = ClaimId{++ids_};
    claim_ = claim.id;
    auto answer = engine_->claim(std::move(claim), now_, out);
    keep(out);
    return answer;
  }
  ClaimId claim(std::uint32_t most = 10, AccountId owner = {}, std::vector<std::string> pools = {"own"}) {
    const auto answer = try_claim({.id = {}, .pools = std::move(pools), .account = owner, .most = most});
    EXPECT_TRUE(answer.has_value()) << (answer ? "" : answer.error().message);
    return claim_;
  }
  JobId work(AccountId owner, const std::string& pool = "own") {
    NewJob made = job(owner);
    made.route = route({pool});
    return submit(std::move(made));
  }
  // Jobs that the last command gave to the claim, each saying how many there are.
  std::vector<JobId> given_to(ClaimId id) const {
    std::vector<JobId> jobs;
    for (const StartTry& start : effects<StartTry>()) {
      if (start.claim == id) jobs.push_back(start.row.id);
    }
    for (const StartTry& start : effects<StartTry>())
      EXPECT_TRUE(start.claim != id || start.claimed == jobs.size());
    return jobs;
  }

  AccountId ann_, bob_;
  ClaimId claim_;
};

TEST_F(Claims, WorkWaitsInItsQueueUntilItIsClaimed) {
  const JobId first = work(ann_);
  const JobId second = work(ann_);
  EXPECT_EQ(state(first), JobState::kQueued);
  EXPECT_EQ(view(second).position, 2);
  EXPECT_EQ(view(first).waiting_for, WaitingFor::kProviderLimit);
  EXPECT_EQ(engine_->why(row(first), now_).pool_claims, 0U);
  EXPECT_EQ(engine_->startable(now_), std::nullopt);
  const ClaimId id = claim();
  EXPECT_THAT(given_to(id), ElementsAre(first, second));
  EXPECT_TRUE(runs(first) && runs(second));
  EXPECT_FALSE(engine_->withdraw(id)) << "it has been filled";
}

TEST_F(Claims, AClaimWaitsForWork) {
  const ClaimId id = claim();
  EXPECT_THAT(given_to(id), IsEmpty());
  const JobId job = work(ann_);
  EXPECT_THAT(given_to(id), ElementsAre(job));
  EXPECT_FALSE(runs(work(ann_))) << "a claim is filled once";
}

TEST_F(Claims, WithdrawnTakesNothing) {
  const ClaimId id = claim();
  EXPECT_TRUE(engine_->withdraw(id));
  EXPECT_FALSE(engine_->withdraw(id));
  EXPECT_FALSE(runs(work(ann_)));
}

TEST_F(Claims, OldestClaimIsFilledFirst) {
  const ClaimId first = claim();
  const ClaimId second = claim();
  EXPECT_THAT(given_to(first), SizeIs(0));
  const JobId job = work(ann_);
  EXPECT_THAT(given_to(first), ElementsAre(job));
  const JobId next = work(ann_);
  EXPECT_THAT(given_to(second), ElementsAre(next));
}

TEST_F(Claims, AHandHoldsOneAccountsJobsUpToItsDispatchBatch) {
  std::vector<JobId> anns;
  for (int i = 0; i < 5; ++i) anns.push_back(work(ann_));
  for (int i = 0; i < 2; ++i) work(bob_);
  EXPECT_THAT(given_to(claim()), ElementsAre(anns[0], anns[1], anns[2]));
  EXPECT_THAT(given_to(claim()), SizeIs(2));  // bob's turn
  EXPECT_EQ(effects<StartTry>().front().row.account, bob_);
  EXPECT_THAT(given_to(claim()), ElementsAre(anns[3], anns[4]));
}

TEST_F(Claims, TheWorkerMayWantLess) {
  for (int i = 0; i < 3; ++i) work(ann_);
  EXPECT_THAT(given_to(claim(1)), SizeIs(1));
  EXPECT_THAT(given_to(claim(2)), SizeIs(2));
}

TEST_F(Claims, TheAccountsCapBoundsAHand) {
  plan("low").limits.concurrent_jobs = 2;
  apply();
  for (int i = 0; i < 3; ++i) work(ann_);
  EXPECT_THAT(given_to(claim()), SizeIs(2));
  const ClaimId waits = claim();
  EXPECT_THAT(given_to(waits), IsEmpty());
  for (const auto& [id, each] : rows_) {
    if (each.state != JobState::kProcessing) continue;
    ASSERT_TRUE(complete(id));
    break;
  }
  EXPECT_THAT(given_to(waits), SizeIs(1));
}

TEST_F(Claims, HigherClassesGoFirst) {
  const AccountId chief = account("chief", "high");
  work(ann_);
  const JobId urgent = work(chief);
  EXPECT_THAT(given_to(claim()), ElementsAre(urgent));
}

TEST_F(Claims, AClaimOfOneAccountTakesItsWorkAlone) {
  const JobId anns = work(ann_);
  const ClaimId bobs = claim(10, bob_);
  EXPECT_THAT(given_to(bobs), IsEmpty());
  EXPECT_EQ(view(anns).waiting_for, WaitingFor::kProviderLimit) << "nobody waits for ann's work";
  const JobId first = work(bob_);
  EXPECT_THAT(given_to(bobs), ElementsAre(first));
  EXPECT_FALSE(runs(anns));
}

TEST_F(Claims, AClaimOfItsOwnGoesBeforeOneForAnybody) {
  const ClaimId anybodys = claim();
  const ClaimId anns = claim(10, ann_);
  const JobId first = work(ann_);
  EXPECT_THAT(given_to(anns), ElementsAre(first));
  const JobId second = work(ann_);
  EXPECT_THAT(given_to(anybodys), ElementsAre(second));
}

TEST_F(Claims, AClaimOfSeveralProvidersIsFilledByOne) {
  const ClaimId id = claim(10, {}, {"own", "second"});
  const JobId job = work(ann_, "second");
  EXPECT_THAT(given_to(id), ElementsAre(job));
  EXPECT_FALSE(runs(work(ann_, "own")));
}

TEST_F(Claims, AsManyWaitAsMay) {
  for (int i = 0; i < 3; ++i) claim();
  const auto refused = try_claim({.id = {}, .pools = {"own"}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kRateLimited);
  EXPECT_TRUE(refused.error().retry_after.has_value());
  claim(1, {}, {"second"});
}

TEST_F(Claims, PoolsThatNobodyClaimsFromRefuse) {
  const auto refused = try_claim({.id = {}, .pools = {"pool"}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidRequest);
}

TEST_F(Claims, NothingIsClaimedWhileDraining) {
  work(ann_);
  drain(true);
  const auto refused = try_claim({.id = {}, .pools = {"own"}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
}

TEST_F(Claims, ALostTryGoesBackToItsQueueAndCountsAsNoAttempt) {
  const JobId job = work(ann_);
  claim();
  ASSERT_TRUE(settle(row(job).current_try, TryFailed{.failure = policy::FailureClass::kTransient,
                                                     .message = "silence",
                                                     .retry_after = {},
                                                     .billed = std::nullopt,
                                                     .lost = true}));
  EXPECT_EQ(state(job), JobState::kQueued);
  EXPECT_EQ(row(job).attempt, 0U);
  EXPECT_EQ(row(job).lost, 1U);
  EXPECT_EQ(row(job).history.back().kind, HistoryKind::kTryLost);
  EXPECT_THAT(given_to(claim()), ElementsAre(job));
}

TEST_F(Claims, APausedProviderHandsOutNothing) {
  work(ann_);
  auto overlay = std::make_shared<policy::Overlay>();
  overlay->paused_providers.insert("own");
  Changes out = changes();
  engine_->set_overlay(overlay, now_, out);
  keep(out);
  const ClaimId id = claim();
  EXPECT_THAT(given_to(id), IsEmpty());
  Changes again = changes();
  engine_->set_overlay(std::make_shared<policy::Overlay>(), now_, again);
  keep(again);
  EXPECT_THAT(given_to(id), SizeIs(1));
}

TEST_F(Claims, AProviderThatIsAnotherKindNowForgetsItsClaims) {
  const ClaimId id = claim();
  policy_.providers["own"].kind = policy::ProviderKind::kExec;
  apply();
  const JobId job = work(ann_);
  EXPECT_TRUE(runs(job));
  EXPECT_THAT(given_to(id), IsEmpty());
  EXPECT_TRUE(engine_->withdraw(id));
}

TEST_F(Claims, WhoMaySpillGoesOnWhereNobodyClaims) {
  policy_.providers["own"].saturation = policy::Saturation::kSpill;
  apply();
  NewJob made = job(ann_);
  policy::Route both = *route({"own", "pool"});
  both.candidates[0].saturation = policy::Saturation::kSpill;
  made.route = std::make_shared<const policy::Route>(both);
  const JobId spilled = submit(std::move(made));
  EXPECT_TRUE(runs(spilled));
  EXPECT_EQ(row(spilled).provider, "provider");
}

}  // namespace
}  // namespace turnpike::engine
