// Webhooks and alerts: kept as they were put, listed both ways, removed when they are old.
#include <limits>

#include "contract/journal/suite.h"

namespace turnpike::testing {
namespace {

using journal::DeliveryState;
using journal::WebhookCursorRow;
using journal::WebhookDeliveryRow;
using journal::WebhookEndpointRow;
using ::testing::ElementsAre;

class Webhooks : public JournalContract {
 protected:
  static WebhookEndpointRow endpoint(std::uint64_t id) {
    return {.id = {id},
            .account = {id + 100},
            .url = "https://example.com/hook",
            .events = {"job.*", "usage.threshold"},
            .description = "the shop",
            .secret = "whsec_c2VjcmV0",
            .old_secret = "whsec_b2xk",
            .old_until = at_second(50),
            .disabled = {},
            .since = {7},
            .created_at = at_second(1),
            .change = WebhookEndpointRow::Change::kNew};
  }
  static WebhookDeliveryRow delivery(std::uint64_t webhook, std::uint64_t event) {
    return {.endpoint = {webhook},
            .event = {event},
            .type = "job.completed",
            .subject = "job_1",
            .payload = R"({"a":"\u00e4"})",
            .state = DeliveryState::kPending,
            .attempts = 0,
            .status = 0,
            .error = {},
            .created_at = at_second(2),
            .next_at = at_second(3),
            .ended_at = kNever};
  }
  static std::vector<std::uint64_t> events_of(const std::vector<WebhookDeliveryRow>& rows) {
    std::vector<std::uint64_t> events;
    for (const auto& row : rows) events.push_back(row.event.value);
    return events;
  }
};
TURNPIKE_EVERY_JOURNAL(Webhooks);

TEST_P(Webhooks, GivesBackAnEndpointAsItWasPut) {
  const WebhookEndpointRow put = endpoint(900);
  commit({}, {put, WebhookCursorRow{{12}}});
  commit({}, {WebhookCursorRow{{11}}});  // it never goes back
  const auto read = *journal_->webhooks();
  ASSERT_EQ(read.endpoints.size(), 1U);
  const WebhookEndpointRow& row = read.endpoints[0];
  EXPECT_EQ(row.id, put.id);
  EXPECT_EQ(row.account, put.account);
  EXPECT_EQ(row.url, put.url);
  EXPECT_EQ(row.events, put.events);
  EXPECT_EQ(row.description, put.description);
  EXPECT_EQ(row.secret, put.secret);
  EXPECT_EQ(row.old_secret, put.old_secret);
  EXPECT_EQ(row.old_until, put.old_until);
  EXPECT_EQ(row.disabled, put.disabled);
  EXPECT_EQ(row.since, put.since);
  EXPECT_EQ(row.created_at, put.created_at);
  EXPECT_EQ(read.cursor, EventId{12});
  EXPECT_TRUE(read.pending.empty());
  EXPECT_GE(journal_->recover()->last_id, 1000U) << "ids of endpoints are never made twice";
}

TEST_P(Webhooks, GivesBackADeliveryAsItWasPutLast) {
  commit({}, {endpoint(1), delivery(1, 10)});
  WebhookDeliveryRow changed = delivery(1, 10);
  changed.payload.clear();
  changed.state = DeliveryState::kFailed;
  changed.attempts = 3;
  changed.status = 500;
  changed.error = "answered 500";
  changed.next_at = kNever;
  changed.ended_at = at_second(9);
  commit({}, {changed});
  const auto row = **journal_->delivery({1}, {10});
  EXPECT_EQ(row.payload, delivery(1, 10).payload) << "an empty payload leaves the stored one";
  EXPECT_EQ(row.type, "job.completed");
  EXPECT_EQ(row.subject, "job_1");
  EXPECT_EQ(row.state, DeliveryState::kFailed);
  EXPECT_EQ(row.attempts, 3U);
  EXPECT_EQ(row.status, 500);
  EXPECT_EQ(row.error, "answered 500");
  EXPECT_EQ(row.created_at, at_second(2));
  EXPECT_EQ(row.next_at, kNever);
  EXPECT_EQ(row.ended_at, at_second(9));
  EXPECT_FALSE(*journal_->delivery({1}, {11}));
}

TEST_P(Webhooks, ListsDeliveriesBothWays) {
  std::vector<journal::Record> records{endpoint(1), endpoint(2), delivery(2, 10)};
  for (const std::uint64_t event : {10U, 11U, 12U, 13U}) {
    WebhookDeliveryRow row = delivery(1, event);
    if (event == 12) row.state = DeliveryState::kDelivered;
    records.emplace_back(row);
  }
  commit({}, records);
  const EventId newest{std::numeric_limits<std::uint64_t>::max()};
  EXPECT_THAT(events_of(*journal_->deliveries({.endpoint = {1}})), ElementsAre(10, 11, 12, 13));
  EXPECT_THAT(
      events_of(*journal_->deliveries({.endpoint = {1}, .state = DeliveryState::kPending, .after = {10}})),
      ElementsAre(11, 13));
  EXPECT_THAT(events_of(*journal_->deliveries({.endpoint = {1}, .before = newest, .limit = 2})),
              ElementsAre(13, 12));
  EXPECT_THAT(events_of(*journal_->deliveries({.endpoint = {1}, .before = {12}})), ElementsAre(11, 10));
  EXPECT_THAT(events_of(*journal_->deliveries(
                  {.endpoint = {1}, .state = DeliveryState::kDelivered, .before = newest})),
              ElementsAre(12));
  EXPECT_THAT(journal_->webhooks()->pending, ElementsAre(std::pair{WebhookId{1}, std::uint64_t{3}},
                                                         std::pair{WebhookId{2}, std::uint64_t{1}}));
}

TEST_P(Webhooks, ARemovedEndpointTakesItsDeliveriesAlong) {
  commit({}, {endpoint(1), endpoint(2), delivery(1, 10), delivery(2, 10)});
  WebhookEndpointRow gone = endpoint(1);
  gone.change = WebhookEndpointRow::Change::kRemoved;
  commit({}, {gone, delivery(1, 11)});  // one that was under way
  WebhookEndpointRow changed = endpoint(1);
  changed.change = WebhookEndpointRow::Change::kChanged;
  commit({}, {changed});  // nor does a change bring it back
  EXPECT_EQ(journal_->webhooks()->endpoints.size(), 1U);
  changed = endpoint(2);
  changed.change = WebhookEndpointRow::Change::kChanged;
  changed.disabled = "by its owner";
  commit({}, {changed});
  EXPECT_EQ(journal_->webhooks()->endpoints.front().disabled, "by its owner");
  EXPECT_TRUE(journal_->deliveries({.endpoint = {1}})->empty());
  EXPECT_EQ(journal_->deliveries({.endpoint = {2}})->size(), 1U);
}

TEST_P(Webhooks, RetentionRemovesWhatHasEnded) {
  WebhookDeliveryRow old = delivery(1, 10);
  old.state = DeliveryState::kDelivered;
  old.ended_at = at_second(5);
  WebhookDeliveryRow young = old;
  young.event = {11};
  young.ended_at = at_second(6);
  commit({}, {endpoint(1), old, young, delivery(1, 12)});
  ASSERT_TRUE(journal_->retain({.deliveries_before = at_second(6)}));
  EXPECT_THAT(events_of(*journal_->deliveries({.endpoint = {1}})), ElementsAre(11, 12));
}

TEST_P(Webhooks, AlertsOutliveTheLog) {
  engine::Event threshold{.type = engine::EventType::kUsageThreshold,
                          .at = at_second(4),
                          .account = {5},
                          .job = {},
                          .attempt = 0,
                          .percent = 0,
                          .text = R"({"meter":"jobs"})"};
  engine::Event other = threshold;
  other.type = engine::EventType::kPlanChanged;
  commit({}, {}, {other, threshold});
  threshold.at = at_second(8);
  threshold.account = {};
  commit({}, {}, {threshold});
  commit({}, {});
  ASSERT_TRUE(journal_->retain({.events_before = at_second(100)}));
  const auto alerts = *journal_->alerts({}, 10);
  ASSERT_EQ(alerts.size(), 2U);
  EXPECT_EQ(alerts[0].id, journal::event_id(2, 0));
  EXPECT_EQ(alerts[0].event.account, AccountId{});
  EXPECT_EQ(alerts[1].id, journal::event_id(1, 1));
  EXPECT_EQ(alerts[1].event.account, AccountId{5});
  EXPECT_EQ(alerts[1].event.text, R"({"meter":"jobs"})");
  EXPECT_EQ(alerts[1].event.at, at_second(4));
  EXPECT_EQ(alerts[1].event.type, engine::EventType::kUsageThreshold);
  EXPECT_EQ(journal_->alerts(alerts[0].id, 10)->size(), 1U);
  EXPECT_EQ(journal_->alerts({}, 1)->size(), 1U);
  ASSERT_TRUE(journal_->retain({.ledger_before = at_second(5)}));
  EXPECT_EQ(journal_->alerts({}, 10)->size(), 1U);
}

TEST_P(Webhooks, WhatWasDiscoveredIsAnAlertToo) {
  const engine::Event found{.type = engine::EventType::kModelDiscovered,
                            .at = at_second(4),
                            .account = {},
                            .job = {},
                            .text = R"({"id":"a-2"})"};
  engine::Event changed = found;
  changed.type = engine::EventType::kPolicyChanged;
  commit({}, {}, {found, changed});
  const auto alerts = *journal_->alerts({}, 10);
  ASSERT_EQ(alerts.size(), 1U);
  EXPECT_EQ(alerts[0].event.type, engine::EventType::kModelDiscovered);
  const auto page = journal_->events({}, std::nullopt, std::nullopt, std::nullopt, 10);
  ASSERT_TRUE(page);
  ASSERT_EQ(page->events.size(), 2U);
  EXPECT_EQ(page->events[1].event.type, engine::EventType::kPolicyChanged);
}

}  // namespace
}  // namespace turnpike::testing
