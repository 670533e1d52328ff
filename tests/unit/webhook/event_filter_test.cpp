#include "webhook/event_filter.h"

#include <gmock/gmock.h>

namespace turnpike::webhook {
namespace {

using engine::EventType;

TEST(EventFilter, KnowsEveryTypeAndFamily) {
  EXPECT_THAT(known_filters(), testing::UnorderedElementsAre(
                                   "*", "job.*", "job.queued", "job.started", "job.progress", "job.completed",
                                   "job.failed", "job.cancelled", "job.expired", "usage.*", "usage.threshold",
                                   "account.*", "account.plan_changed", "model.*", "model.discovered",
                                   "policy.*", "policy.changed", "alert.*", "alert.raised", "alert.cleared"));
}

TEST(EventFilter, MatchesTypesFamiliesAndAll) {
  EXPECT_TRUE(wants({"job.completed"}, EventType::kJobCompleted));
  EXPECT_FALSE(wants({"job.completed"}, EventType::kJobFailed));
  EXPECT_TRUE(wants({"usage.threshold", "job.*"}, EventType::kJobFailed));
  EXPECT_FALSE(wants({"job.*"}, EventType::kUsageThreshold));
  EXPECT_TRUE(wants({"*"}, EventType::kPlanChanged));
  EXPECT_FALSE(wants({}, EventType::kJobCompleted));
}

TEST(EventFilter, ProgressComesOnlyToWhoNamesIt) {
  EXPECT_FALSE(wants({"*", "job.*"}, EventType::kJobProgress));
  EXPECT_TRUE(wants({"job.progress"}, EventType::kJobProgress));
}

}  // namespace
}  // namespace turnpike::webhook
