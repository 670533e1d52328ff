#include "engine/gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/random.h"

namespace turnpike::engine {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using Verdict = Gate::Verdict;

class GateTest : public ::testing::Test {
 protected:
  policy::Provider provider(std::vector<policy::ProviderKey> keys = {}) {
    policy::Provider made;
    made.name = "upstream";
    made.kind = policy::ProviderKind::kOpenAi;
    made.keys = std::move(keys);
    return made;
  }
  void shape(const policy::Provider& made) { gate_.reshape(made, now_); }
  bool open(std::int64_t tokens = 0) const { return gate_.room(AccountId{1}, tokens, now_).open; }
  Duration wait(std::int64_t tokens = 0) const { return gate_.room(AccountId{1}, tokens, now_).wait; }
  Gate::Pass begin(std::int64_t tokens = 0, std::uint64_t account = 1) {
    return gate_.begin(AccountId{account}, tokens, now_);
  }
  void end(const Gate::Pass& pass, Verdict verdict = Verdict::kServed, std::optional<Duration> after = {}) {
    gate_.end(pass, pass.tokens, verdict, after, now_);
  }

  Gate gate_;
  Monotonic now_{seconds(1000)};
};

TEST_F(GateTest, AnUpstreamsLimitHoldsInEveryStretchOfTime) {
  policy::Provider made = provider();
  made.limit = policy::UpstreamLimit{.requests = 15, .per = minutes(1)};
  shape(made);
  Random random(7);
  std::deque<Monotonic> began;
  for (int i = 0; i < 2'000; ++i) {
    now_ += milliseconds(random.between(0, 3'000));
    while (open()) {
      end(begin());
      began.push_back(now_);
      if (began.size() > 15) ASSERT_GE(began.back() - began[began.size() - 16], minutes(1));
    }
    ASSERT_EQ(wait(), began[began.size() - 15] + minutes(1) - now_);
  }
  EXPECT_GT(began.size(), 700U);
}

TEST_F(GateTest, LimitsOfKeysAddUpAndAnAccountStaysWithItsKey) {
  shape(provider({{.name = "a", .requests_per_minute = 2}, {.name = "b", .requests_per_minute = 3}}));
  std::map<std::string, int> used;
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(open());
    const auto pass = begin();
    ++used[gate_.key_name(pass.key)];
    end(pass);
  }
  EXPECT_FALSE(open());
  EXPECT_EQ(used["a"], 2);
  EXPECT_EQ(used["b"], 3);
  now_ += minutes(1);
  EXPECT_EQ(gate_.key_name(begin(0, 1).key), gate_.key_name(begin(0, 1).key));
}

TEST_F(GateTest, TokensCountAsHeldAndThenAsUsed) {
  shape(provider({{.name = "a", .tokens_per_minute = 1'000}}));
  const auto first = begin(900);
  EXPECT_FALSE(open(200));
  gate_.end(first, 100, Verdict::kServed, {}, now_);
  EXPECT_TRUE(open(900));
  EXPECT_FALSE(open(901));
  const auto second = begin(900);
  EXPECT_GE(wait(1), minutes(1));
  now_ += minutes(1) + milliseconds(250);
  EXPECT_TRUE(open(5'000)) << "what is larger than the whole limit begins when nothing else counts";
  end(second);
}

TEST_F(GateTest, AKeyThatIsAskedToSlowDownIsLeftAlone) {
  shape(provider({{.name = "a"}, {.name = "b"}}));
  const auto pass = begin();
  const std::string limited = gate_.key_name(pass.key);
  EXPECT_TRUE(gate_.has_other_key(pass.key, AccountId{1}, 0, now_));
  end(pass, Verdict::kLimited, seconds(7));
  const auto other = begin();
  EXPECT_NE(gate_.key_name(other.key), limited);
  EXPECT_FALSE(gate_.has_other_key(other.key, AccountId{1}, 0, now_));
  end(other, Verdict::kLimited, seconds(3));
  const Gate::Room room = gate_.room(AccountId{1}, 0, now_);
  EXPECT_TRUE(room.down);
  EXPECT_EQ(room.wait, seconds(3));
  now_ += seconds(3);
  EXPECT_NE(gate_.key_name(begin().key), limited);
}

TEST_F(GateTest, ABreakerOpensAfterFailuresInARowAndLetsOneTryLook) {
  policy::Provider made = provider();
  made.breaker = policy::Breaker{.failures = 3, .cool_down = seconds(30)};
  shape(made);
  end(begin(), Verdict::kFailed);
  end(begin(), Verdict::kFailed);
  end(begin(), Verdict::kServed);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(open());
    end(begin(), Verdict::kFailed);
  }
  EXPECT_TRUE(gate_.room(AccountId{1}, 0, now_).down);
  EXPECT_EQ(wait(), seconds(30));
  now_ += seconds(30);
  ASSERT_TRUE(open());
  const auto probe = begin();
  EXPECT_FALSE(open()) << "one looks, the others wait for what it finds";
  end(probe, Verdict::kFailed);
  EXPECT_EQ(wait(), seconds(30));
  now_ += seconds(30);
  end(begin(), Verdict::kUnknown);
  EXPECT_TRUE(open()) << "a try that was cancelled says nothing: another looks";
  end(begin(), Verdict::kServed);
  EXPECT_TRUE(open());
  EXPECT_FALSE(gate_.breaker_open(now_));
}

TEST_F(GateTest, ConcurrencyOfAKeyIsGivenBackWhenItsTryEnds) {
  shape(provider({{.name = "a", .concurrency = 1}}));
  const auto pass = begin();
  EXPECT_FALSE(open());
  EXPECT_EQ(wait(), Gate::kNoTime);
  end(pass);
  EXPECT_TRUE(open());
}

TEST_F(GateTest, AfterARestartItsLogsAreFull) {
  policy::Provider made = provider({{.name = "a", .requests_per_minute = 5, .tokens_per_minute = 100}});
  made.limit = policy::UpstreamLimit{.requests = 15, .per = seconds(30)};
  gate_ = Gate(now_);
  shape(made);
  EXPECT_EQ(wait(1), minutes(1));
  now_ += seconds(30);
  EXPECT_EQ(wait(1), seconds(30)) << "the upstream's time has passed, the key's has not";
  now_ += seconds(30);
  EXPECT_TRUE(open(1));
}

TEST_F(GateTest, ANewConfigurationKeepsWhatIsKnownOfKeys) {
  shape(provider({{.name = "a", .requests_per_minute = 1}, {.name = "b", .requests_per_minute = 1}}));
  end(begin());
  end(begin());
  shape(provider({{.name = "b", .requests_per_minute = 1}, {.name = "c", .requests_per_minute = 1}}));
  EXPECT_EQ(gate_.key_name(begin().key), "c");
  EXPECT_FALSE(open());
  gate_.pause_keys({"b", "c"});
  now_ += minutes(2);
  EXPECT_TRUE(gate_.room(AccountId{1}, 0, now_).down);
  gate_.pause_keys({"b"});
  EXPECT_TRUE(open());
}

TEST_F(GateTest, ALimitThatIsNewCountsWhatBeganBeforeIt) {
  shape(provider());
  end(begin());
  policy::Provider made = provider();
  made.limit = policy::UpstreamLimit{.requests = 2, .per = minutes(1)};
  shape(made);
  EXPECT_EQ(wait(), minutes(1));
}

TEST_F(GateTest, AfterARestartWhatIsNotKnownCountsFromThenOnAndNoLonger) {
  gate_ = Gate(now_);
  now_ += seconds(20);
  policy::Provider made = provider({{.name = "a", .requests_per_minute = 5}});
  made.limit = policy::UpstreamLimit{.requests = 15, .per = minutes(2)};
  shape(made);
  EXPECT_EQ(wait(), seconds(100)) << "first used some time after the restart";
  now_ += seconds(100);
  EXPECT_TRUE(open());
  made.keys.push_back({.name = "b", .requests_per_minute = 5});
  made.limit->per = minutes(5);
  shape(made);
  EXPECT_EQ(wait(), minutes(3)) << "a longer time counts from the restart, too";
}

TEST_F(GateTest, AKeyThatIsAddedSoonAfterARestartIsFull) {
  gate_ = Gate(now_);
  policy::Provider made = provider({{.name = "a", .concurrency = 1}});
  shape(made);
  begin();
  now_ += seconds(10);
  made.keys.push_back({.name = "b", .requests_per_minute = 100, .tokens_per_minute = 1'000'000});
  shape(made);
  EXPECT_EQ(wait(), seconds(50));
  now_ += seconds(50);
  EXPECT_TRUE(open(5));
}

TEST_F(GateTest, ALimitThatIsLoweredAndRaisedAgainForgetsNothing) {
  policy::Provider made = provider();
  made.limit = policy::UpstreamLimit{.requests = 10, .per = minutes(1)};
  shape(made);
  for (int i = 0; i < 10; ++i) {
    end(begin());
    now_ += seconds(1);
  }
  EXPECT_EQ(wait(), seconds(50));
  made.limit->requests = 2;
  shape(made);
  EXPECT_EQ(wait(), seconds(58));
  made.limit->requests = 10;
  shape(made);
  EXPECT_EQ(wait(), seconds(50));
  now_ += seconds(55);
  EXPECT_TRUE(open());
  made.limit->per = minutes(2);
  shape(made);
  EXPECT_EQ(wait(), seconds(55)) << "what was over for a minute is not for two";
}

TEST_F(GateTest, MoreStartsThanAreRememberedCountAsUnknown) {
  policy::Provider made = provider();
  made.limit = policy::UpstreamLimit{.requests = 100'000, .per = seconds(1)};
  shape(made);
  for (int i = 0; i < 150'000; ++i) {
    now_ += std::chrono::microseconds(20);
    end(begin());
  }
  made.limit->per = minutes(1);
  shape(made);
  EXPECT_EQ(wait(), minutes(1) - std::chrono::microseconds(20) * 99'999);
}

TEST_F(GateTest, WhatLeavesThePolicyAndComesBackIsStillKnown) {
  policy::Provider made = provider({{.name = "a", .requests_per_minute = 1, .tokens_per_minute = 100}});
  made.limit = policy::UpstreamLimit{.requests = 2, .per = minutes(3)};
  made.breaker = policy::Breaker{.failures = 1, .cool_down = seconds(100)};
  shape(made);
  end(begin(50), Verdict::kFailed);
  policy::Provider bare = provider({{.name = "b"}});
  shape(bare);
  EXPECT_TRUE(open()) << "its breaker is gone, and another key is there";
  end(begin(), Verdict::kLimited, seconds(90));
  now_ += seconds(10);
  made.breaker.reset();
  shape(made);
  EXPECT_EQ(wait(60), seconds(170)) << "what began without the limit was not counted";
  made.limit.reset();
  shape(made);
  EXPECT_EQ(wait(10), seconds(50)) << "the key has had its one request";
  shape(bare);
  EXPECT_EQ(wait(), seconds(80)) << "and the other one cools down";
  made.keys[0].requests_per_minute = 10;
  shape(made);
  EXPECT_EQ(wait(60), seconds(50) + milliseconds(250)) << "of 100 tokens 50 are gone";
  EXPECT_TRUE(open(50));
}

TEST_F(GateTest, AnOpenBreakerIsOpenWhenItComesBack) {
  policy::Provider made = provider();
  made.breaker = policy::Breaker{.failures = 2, .cool_down = seconds(100)};
  shape(made);
  end(begin(), Verdict::kFailed);
  end(begin(), Verdict::kFailed);
  const auto without = provider();
  shape(without);
  EXPECT_TRUE(open());
  now_ += seconds(10);
  shape(made);
  EXPECT_EQ(wait(), seconds(90));
}

TEST_F(GateTest, AProbeOfBeforeDoesNotEndTheOneThatLooksNow) {
  policy::Provider made = provider();
  made.breaker = policy::Breaker{.failures = 1, .cool_down = seconds(10)};
  shape(made);
  end(begin(), Verdict::kFailed);
  now_ += seconds(10);
  const auto before = begin();
  shape(provider());
  end(begin(), Verdict::kServed);
  shape(made);
  end(begin(), Verdict::kFailed);
  now_ += seconds(10);
  const auto probe = begin();
  EXPECT_FALSE(open());
  end(before, Verdict::kUnknown);
  EXPECT_FALSE(open()) << "one still looks";
  end(probe, Verdict::kServed);
  EXPECT_TRUE(open());
}

TEST_F(GateTest, MoreTokensOfATryThatRunsCountFromWhenTheyAreTaken) {
  shape(provider({{.name = "a", .tokens_per_minute = 1'000}}));
  auto pass = begin(100);
  now_ += seconds(59);
  gate_.raise(pass, 800, now_);
  EXPECT_FALSE(open(200));
  now_ += seconds(2);
  EXPECT_TRUE(open(200)) << "the first hundred are a minute old";
  EXPECT_FALSE(open(201));
  const auto other = begin(200);
  gate_.end(pass, 500, Verdict::kServed, {}, now_);
  EXPECT_TRUE(open(400)) << "it did not use 400 of them";
  EXPECT_FALSE(open(401));
  end(other);
}

}  // namespace
}  // namespace turnpike::engine
