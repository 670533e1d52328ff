// The numbers of money: charges, refusals, calls.
#include "node/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace turnpike::node {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::Not;

engine::LedgerEntry charge(engine::EntryKind kind, std::int64_t nanos, std::int64_t tokens = 0) {
  engine::LedgerEntry entry;
  entry.kind = kind;
  entry.plan = "pro";
  entry.provider = "cloud";
  entry.model = "writer";
  entry.cost = Money{nanos};
  entry.meters[policy::Meter::kTokens] = tokens;
  entry.meters[policy::Meter::kAudioMs] = tokens;
  entry.account_period = wall_from_seconds(1'790'000'000);
  return entry;
}

class MetricsTest : public ::testing::Test {
 protected:
  void commit(std::vector<engine::LedgerEntry> entries) {
    OpenBatch batch;
    batch.begin(1);
    engine::Changes changes;
    for (engine::LedgerEntry& entry : entries)
      changes.mutations.emplace_back(engine::AddEntry{std::move(entry)});
    batch.absorb(changes);
    metrics_.committed(batch, milliseconds(1));
  }
  std::string text() { return metrics_.text({}, platform_, 0); }

  Alerts alerts_{std::make_shared<SystemClock>()};
  Metrics metrics_{alerts_};
  engine::UsageView platform_;
};

TEST_F(MetricsTest, CountChargesByPlanProviderAndModel) {
  commit({charge(engine::EntryKind::kCompleted, 250'000'000, 1'500),
          charge(engine::EntryKind::kFailed, 500'000'000)});
  EXPECT_THAT(text(),
              HasSubstr("turnpike_cost_usd_total{model=\"writer\",plan=\"pro\",provider=\"cloud\"} 0.75\n"));
  EXPECT_THAT(text(), HasSubstr("turnpike_usage_total{meter=\"tokens\",plan=\"pro\"} 1500\n"));
  EXPECT_THAT(text(), HasSubstr("turnpike_usage_total{meter=\"audio_seconds\",plan=\"pro\"} 1.5\n"));
  EXPECT_THAT(text(), Not(HasSubstr("reversed_usd_total{")));
}

TEST_F(MetricsTest, WhatIsTakenBackIsCountedApart) {
  commit({charge(engine::EntryKind::kLost, 500'000'000, 100)});
  commit({charge(engine::EntryKind::kReversal, -500'000'000, -100),
          charge(engine::EntryKind::kCorrection, 125'000'000, 40)});
  const std::string labels = "{model=\"writer\",plan=\"pro\",provider=\"cloud\"}";
  EXPECT_THAT(text(), HasSubstr("turnpike_cost_usd_total" + labels + " 0.625\n"));
  EXPECT_THAT(text(), HasSubstr("turnpike_cost_reversed_usd_total" + labels + " 0.5\n"));
  EXPECT_THAT(text(), HasSubstr("turnpike_usage_total{meter=\"tokens\",plan=\"pro\"} 140\n"));
  EXPECT_THAT(text(), HasSubstr("turnpike_usage_reversed_total{meter=\"tokens\",plan=\"pro\"} 100\n"));
}

TEST_F(MetricsTest, ACallThatWasLostIsCountedInTheAccountsBooksAlone) {
  engine::LedgerEntry account = charge(engine::EntryKind::kCallsLost, 1'000'000'000);
  engine::LedgerEntry platform = account;
  platform.account_period = kNever;
  platform.platform_period = account.account_period;
  commit({account, platform});
  EXPECT_THAT(text(),
              HasSubstr("turnpike_cost_usd_total{model=\"writer\",plan=\"pro\",provider=\"cloud\"} 1\n"));
}

TEST_F(MetricsTest, CallsAreCountedByHowTheyEnded) {
  engine::AnswerCall answer;
  answer.row.plan = "pro";
  answer.row.model = "writer";
  answer.row.state = engine::JobState::kCompleted;
  answer.row.created_at = wall_from_seconds(1'790'000'000);
  answer.row.finished_at = answer.row.created_at + milliseconds(40);
  metrics_.answered(answer);
  answer.row.state = engine::JobState::kFailed;
  metrics_.answered(answer);
  answer.error = Error{};
  metrics_.answered(answer);
  for (const char* outcome : {"completed", "failed", "refused"}) {
    EXPECT_THAT(text(), HasSubstr("turnpike_calls_total{model=\"writer\",outcome=\"" + std::string(outcome) +
                                  "\",plan=\"pro\"} 1\n"));
  }
  EXPECT_THAT(text(), HasSubstr("turnpike_call_duration_seconds_count 1\n"));
  EXPECT_THAT(text(), HasSubstr("turnpike_call_duration_seconds_bucket{le=\"0.025\"} 0\n"));
  EXPECT_THAT(text(), HasSubstr("turnpike_call_duration_seconds_bucket{le=\"0.05\"} 1\n"));
}

TEST_F(MetricsTest, RefusalsAreCountedByWhoseLimitItWas) {
  Refusal refusal;
  refusal.plan = "free";
  refusal.code = ErrorCode::kCostCapReached;
  LimitReached limit;
  limit.scope = "team";
  refusal.limit = std::make_shared<const LimitReached>(limit);
  metrics_.refused(refusal);
  metrics_.refused(refusal);
  EXPECT_THAT(
      text(),
      HasSubstr("turnpike_refusals_total{code=\"cost_cap_reached\",plan=\"free\",scope=\"team\"} 2\n"));
}

TEST_F(MetricsTest, ShowWhatIsHeldNow) {
  platform_.cost_held = Money{1'500'000'000};
  platform_.meters.push_back(
      {.meter = "audio_seconds", .of = policy::Meter::kAudioMs, .used = 0, .held = 2'500, .limit = {}});
  EXPECT_THAT(text(), HasSubstr("turnpike_held_cost_usd 1.5\n"));
  EXPECT_THAT(text(), HasSubstr("turnpike_held{meter=\"audio_seconds\"} 2.5\n"));
  platform_ = {};
  EXPECT_THAT(text(), HasSubstr("turnpike_held{meter=\"audio_seconds\"} 0\n"))
      << "what is no longer held goes";
}

TEST(CounterSet, BeyondItsBoundWhatIsNewIsCountedTogether) {
  prometheus::Registry registry;
  CounterSet set(registry, "x_total", "x", {"a", "b"});
  for (std::size_t i = 0; i < CounterSet::kSeriesMax + 7; ++i) set.add({std::to_string(i), "b"});
  set.add({"0", "b"});
  const auto families = registry.Collect();
  ASSERT_EQ(families.size(), 1U);
  EXPECT_EQ(families[0].metric.size(), CounterSet::kSeriesMax + 1);
  double known = 0;
  double other = 0;
  for (const auto& metric : families[0].metric) {
    if (metric.label[0].value == "0") known = metric.counter.value;
    if (metric.label[0].value == "(other)") other = metric.counter.value;
  }
  EXPECT_EQ(known, 2);
  EXPECT_EQ(other, 7);
}

}  // namespace
}  // namespace turnpike::node
