#include "node/alerts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace turnpike::node::testing {
namespace {

using policy::Signal;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class HandClock final : public Clock {
 public:
  Timestamp now() const override {
    return {.mono = Monotonic{elapsed_}, .wall = wall_from_seconds(1'790'000'000) + elapsed_};
  }
  void pass(Duration time) { elapsed_ += time; }

 private:
  Duration elapsed_ = minutes(10);
};

class AlertsTest : public ::testing::Test {
 protected:
  void rule(Signal signal, std::int64_t over, Duration within, std::uint32_t at_least = 20) {
    rules_.push_back({.name = "a" + std::to_string(rules_.size()),
                      .signal = signal,
                      .over = over,
                      .within = within,
                      .at_least = at_least});
    alerts_.set_rules(rules_);
  }
  // What a look says, as "+a0" and "-a0".
  std::vector<std::string> look() {
    std::vector<std::string> said;
    for (const AlertChange& change : alerts_.look(gauges_, clock_->now())) {
      said.push_back((change.raised ? "+" : "-") + alert_named_in(alert_json(change)) +
                     (change.reason.empty() ? "" : ": " + change.reason));
      last_ = alert_json(change);
    }
    return said;
  }
  std::vector<std::string> look_after(Duration time) {
    clock_->pass(time);
    return look();
  }

  const std::shared_ptr<HandClock> clock_ = std::make_shared<HandClock>();
  Alerts alerts_{clock_};
  Alerts::Gauges gauges_;
  std::vector<policy::AlertRule> rules_;
  std::string last_;
};

TEST_F(AlertsTest, AGaugeIsRaisedOnceAfterItsTimeAndClearedOnce) {
  rule(Signal::kQueueLength, 20, seconds(30));
  gauges_.queued = 21;
  EXPECT_THAT(look(), IsEmpty());
  EXPECT_THAT(look_after(seconds(29)), IsEmpty());
  EXPECT_THAT(look_after(seconds(1)), ElementsAre("+a0"));
  EXPECT_EQ(
      last_,
      R"({"alert":"a0","signal":"queue_length","value":21,"value_unit":"count","over":20,"over_unit":"count",)"
      R"("within_seconds":30})");
  EXPECT_THAT(look_after(minutes(5)), IsEmpty());
  gauges_.queued = 20;
  EXPECT_THAT(look(), IsEmpty());
  EXPECT_THAT(look_after(seconds(29)), IsEmpty());
  EXPECT_THAT(look_after(seconds(1)), ElementsAre("-a0"));
  EXPECT_THAT(last_, ::testing::EndsWith(R"("raised_at":1790000630,"reason":null})"));
  EXPECT_THAT(look_after(minutes(5)), IsEmpty());
}

TEST_F(AlertsTest, WhatIsOverForAMomentOnlyNeitherRaisesNorClears) {
  rule(Signal::kConnections, 5, seconds(10));
  std::size_t connections = 9;
  alerts_.count_connections([&connections] { return connections; });
  EXPECT_THAT(look(), IsEmpty());
  connections = 2;
  EXPECT_THAT(look_after(seconds(9)), IsEmpty());
  connections = 9;
  EXPECT_THAT(look_after(seconds(1)), IsEmpty());
  EXPECT_THAT(look_after(seconds(10)), ElementsAre("+a0"));
  connections = 2;
  EXPECT_THAT(look_after(seconds(1)), IsEmpty());
  connections = 9;
  EXPECT_THAT(look_after(seconds(20)), IsEmpty());
  alerts_.count_connections({});
  EXPECT_THAT(look_after(seconds(1)), IsEmpty());
  EXPECT_THAT(look_after(seconds(10)), ElementsAre("-a0"));
}

// One of twenty is the five percent that may be slower; of twenty-one ends two are more.
TEST_F(AlertsTest, ATimeIsOverWhereMoreThanOneOfTwentyTookLonger) {
  rule(Signal::kApiTime, 500, minutes(5));
  for (int i = 0; i < 19; ++i) alerts_.requested(milliseconds(500), 10);
  alerts_.requested(milliseconds(501), 10);
  EXPECT_THAT(look(), IsEmpty());
  alerts_.requested(milliseconds(501), 10);
  EXPECT_THAT(look(), ElementsAre("+a0"));
  EXPECT_THAT(last_, ::testing::HasSubstr(
                         R"("value":9.5,"value_unit":"percent_slower","over":500,"over_unit":"ms")"));
  // They go out of sight, and a minute later the alert does.
  EXPECT_THAT(look_after(minutes(5)), IsEmpty());
  EXPECT_THAT(look_after(minutes(1)), ElementsAre("-a0"));
}

TEST_F(AlertsTest, TooFewEndsSayNothing) {
  rule(Signal::kErrorRate, 10, minutes(5));
  rule(Signal::kGenerationTime, 45'000, minutes(5), 1);
  for (int i = 0; i < 10; ++i) alerts_.ended(std::nullopt);
  EXPECT_THAT(look(), IsEmpty());
  for (int i = 0; i < 10; ++i) alerts_.ended(seconds(45));
  EXPECT_THAT(look(), ElementsAre("+a0"));
  alerts_.ended(seconds(46));
  EXPECT_THAT(look(), ElementsAre("+a1"));
}

TEST_F(AlertsTest, WhatIsUploadedOrWaitedForIsNotOursToAnswerFor) {
  rule(Signal::kApiTime, 1, minutes(5), 1);
  alerts_.requested(std::nullopt, 10);
  EXPECT_THAT(look(), IsEmpty());
}

TEST_F(AlertsTest, CostAndBandwidthAreSumsOverTheirTime) {
  rule(Signal::kCost, 5'000'000'000, minutes(60));
  rule(Signal::kBandwidth, 1'000, seconds(10));
  alerts_.charged(Money{5'000'000'000});
  for (int i = 0; i < 10; ++i) alerts_.requested(std::nullopt, 1'000);
  EXPECT_THAT(look(), IsEmpty());
  alerts_.charged(Money{10'000'000});
  alerts_.requested(std::nullopt, 1'000);
  EXPECT_THAT(look(), ElementsAre("+a0", "+a1"));
  EXPECT_THAT(last_, ::testing::HasSubstr(R"("value":1100,"value_unit":"bytes_per_second","over":1000)"));
  EXPECT_EQ(alert_value(alerts_.states()[0]), "5.01");
}

TEST_F(AlertsTest, UpstreamsThatAreDownAreNamed) {
  rule(Signal::kUpstreamDown, 0, seconds(1));
  gauges_.upstreams_down = {"cloud", "local"};
  EXPECT_THAT(look(), IsEmpty());
  EXPECT_THAT(look_after(seconds(1)), ElementsAre("+a0"));
  EXPECT_THAT(last_, ::testing::EndsWith(R"("upstreams":["cloud","local"]})"));
  gauges_.upstreams_down.clear();
  look();
  EXPECT_THAT(look_after(seconds(1)), ElementsAre("-a0"));
  EXPECT_THAT(last_, ::testing::HasSubstr(R"("upstreams":["cloud","local"])")) << "which it was";
}

TEST_F(AlertsTest, ARuleThatIsTheSameGoesOnAndOneThatIsNotIsClearedWithItsReason) {
  rule(Signal::kStorage, 800, seconds(1));
  rule(Signal::kQueueLength, 1, seconds(1));
  rule(Signal::kQueueLength, 2, seconds(1));
  gauges_.storage_permille = 801;
  gauges_.queued = 9;
  look();
  EXPECT_THAT(look_after(seconds(1)), ElementsAre("+a0", "+a1", "+a2"));
  rules_[1].over = 3;
  rules_.pop_back();
  alerts_.set_rules(rules_);
  EXPECT_THAT(look(), ElementsAre("-a1: changed", "-a2: removed"));
  EXPECT_THAT(look_after(seconds(1)), ElementsAre("+a1"));
  alerts_.set_rules({});
  EXPECT_TRUE(alerts_.any());
  EXPECT_THAT(look(), ElementsAre("-a0: removed", "-a1: removed"));
  EXPECT_FALSE(alerts_.any());
}

TEST_F(AlertsTest, WhatWasRaisedBeforeAStartIsClearedAndNotRaisedAgain) {
  rule(Signal::kQueueLength, 1, seconds(1));
  const Wall before = wall_from_seconds(1'789'000'000);
  alerts_.recall(R"({"alert":"a0","signal":"queue_length"})", before);
  alerts_.recall(R"({"alert":"old","signal":"cost","value":7})", before);
  gauges_.queued = 2;
  EXPECT_THAT(look(), ElementsAre("-old: removed"));
  EXPECT_EQ(last_, R"({"alert":"old","signal":"cost","value":7,"raised_at":1789000000,"reason":"removed"})");
  EXPECT_THAT(look_after(seconds(5)), IsEmpty()) << "it is raised already";
  gauges_.queued = 0;
  look();
  EXPECT_THAT(look_after(seconds(1)), ElementsAre("-a0"));
}

TEST(AlertWindow, ForgetsWhatIsOlderThanItsTimeToASixtieth) {
  AlertWindow window(minutes(1));
  Monotonic now{minutes(7)};
  for (int second = 0; second < 120; ++second, now += seconds(1))
    window.add({.all = 1, .bad = second % 2}, now);
  EXPECT_EQ(window.sums(now - seconds(1)).all, 60);
  EXPECT_EQ(window.sums(now - seconds(1)).bad, 30);
  EXPECT_EQ(window.sums(now + seconds(29)).all, 30);
  EXPECT_EQ(window.sums(now + minutes(1)).all, 0);
}

}  // namespace
}  // namespace turnpike::node::testing
