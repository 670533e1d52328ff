// The section alerts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "unit/policy/bad_file.h"

namespace turnpike::policy {
namespace {

constexpr const char* kProviders = "\nproviders:";

std::string alerts_with(const std::string& lines) {
  return "\nalerts:\n  " + lines + "\nproviders:";
}

Loaded load_alerts(const std::string& lines) {
  return load_sample(sample_with(kProviders, alerts_with(lines)));
}

TEST(AlertRules, AreReadInTheUnitsOfTheirSignals) {
  const Loaded loaded = load_alerts(
      "api: {signal: api_time, over: 500ms, at_least: 5}\n  made: {signal: generation_time, over: 45s}\n"
      "  bad: {signal: error_rate, over: 1%, within: 10m}\n  queue: {signal: queue_length, over: 20}\n"
      "  open: {signal: connections, over: 5000}\n  disk: {signal: storage, over: 80%}\n"
      "  wire: {signal: bandwidth, over: 10MiB}\n  bill: {signal: cost, over: 12.50}\n  down: {signal: "
      "upstream_down}");
  ASSERT_NE(loaded.policy, nullptr) << to_string(loaded.mistakes.front());
  const auto& rules = loaded.policy->alerts;
  using std::chrono::minutes;
  EXPECT_THAT(
      rules,
      testing::ElementsAre(
          AlertRule{
              .name = "api", .signal = Signal::kApiTime, .over = 500, .within = minutes(5), .at_least = 5},
          AlertRule{.name = "made", .signal = Signal::kGenerationTime, .over = 45'000, .within = minutes(5)},
          AlertRule{.name = "bad", .signal = Signal::kErrorRate, .over = 10, .within = minutes(10)},
          AlertRule{.name = "queue", .signal = Signal::kQueueLength, .over = 20},
          AlertRule{.name = "open", .signal = Signal::kConnections, .over = 5'000},
          AlertRule{.name = "disk", .signal = Signal::kStorage, .over = 800},
          AlertRule{.name = "wire", .signal = Signal::kBandwidth, .over = 10 << 20},
          AlertRule{.name = "bill", .signal = Signal::kCost, .over = 12'500'000'000, .within = minutes(60)},
          AlertRule{.name = "down", .signal = Signal::kUpstreamDown}));
}

TEST(AlertRules, AmountsAreShownInTheUnitOfTheirSignal) {
  EXPECT_EQ(signal_amount(Signal::kErrorRate, 123), "12.3");
  EXPECT_EQ(signal_amount(Signal::kStorage, 800), "80");
  EXPECT_EQ(signal_amount(Signal::kCost, 12'500'000'000), "12.5");
  EXPECT_EQ(signal_amount(Signal::kApiTime, 500), "500");
}

class BadAlerts : public testing::TestWithParam<BadFile> {};

TEST_P(BadAlerts, AreRefusedWithWhatWouldBeRight) {
  EXPECT_THAT(mistakes_of(sample_with(GetParam().from, GetParam().to)),
              testing::ElementsAre(testing::HasSubstr(GetParam().expected)));
}

INSTANTIATE_TEST_SUITE_P(
    Alerts, BadAlerts,
    testing::Values(
        BadFile{"NoSignal", kProviders, alerts_with("slow: {over: 5s}"), "alerts.slow: `signal` is missing"},
        BadFile{"UnknownSignal", kProviders, alerts_with("slow: {signal: latency, over: 5s}"),
                "alerts.slow.signal: "},
        BadFile{"NothingToBeOver", kProviders, alerts_with("slow: {signal: api_time}"),
                "alerts.slow: `over` is missing"},
        BadFile{"ATimeWithoutAUnit", kProviders, alerts_with("slow: {signal: api_time, over: 500}"),
                "alerts.slow.over: "},
        BadFile{"ANegativeQueue", kProviders, alerts_with("long: {signal: queue_length, over: -1}"),
                "alerts.long.over: "},
        BadFile{"MoreThanEverything", kProviders, alerts_with("full: {signal: storage, over: 101%}"),
                "alerts.full.over: "},
        BadFile{"CostInWords", kProviders, alerts_with("bill: {signal: cost, over: much}"),
                "alerts.bill.over: "},
        BadFile{"AtLeastOfAGauge", kProviders,
                alerts_with("long: {signal: queue_length, over: 1, at_least: 3}"),
                "alerts.long.at_least: belongs to api_time, generation_time and error_rate"},
        BadFile{"WithinNoTime", kProviders,
                alerts_with("long: {signal: queue_length, over: 1, within: 10ms}"), "alerts.long.within: "},
        BadFile{"AKeyThatIsNone", kProviders, alerts_with("long: {signal: queue_length, above: 1, over: 1}"),
                "alerts.long: unknown key `above`"}),
    name_of);

}  // namespace
}  // namespace turnpike::policy
