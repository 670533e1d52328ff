#include "webhook/event_filter.h"

#include <gmock/gmock.h>

namespace turnpike::webhook {
namespace {

using engine::EventType;

TEST(EventFilter, KnowsEveryTypeAndFamily) {
  EXPECT_THAT(
      known_filters(),
      testing::UnorderedElementsAre(
          "*", "job.*", "job.queued", "job.started", "job.progress", "job.completed", "job.failed",
          "job.cancelled", "job.expired", "usage.*", "usage.threshold", "account.*", "account.plan_changed",
          "model.*", "model.discovered", "policy.*", "policy.changed", "alert.*", "alert.raised",
          "alert.cleared", "run.*", "run.started", "run.completed", "run.failed", "run.cancelled",
          "run.step.*", "run.step.queued", "run.step.completed", "run.step.skipped", "run.step.failed"));
}

TEST(EventFilter, MatchesTypesFamiliesAndAll) {
  EXPECT_TRUE(wants({"job.completed"}, EventType::kJobCompleted));
  EXPECT_FALSE(wants({"job.completed"}, EventType::kJobFailed));
  EXPECT_TRUE(wants({"usage.threshold", "job.*"}, EventType::kJobFailed));
  EXPECT_FALSE(wants({"job.*"}, EventType::kUsageThreshold));
  EXPECT_TRUE(wants({"*"}, EventType::kPlanChanged));
  EXPECT_FALSE(wants({}, EventType::kJobCompleted));
}

TEST(EventFilter, StepsOfARunAreAFamilyWithinItsOwn) {
  EXPECT_TRUE(wants({"run.*"}, EventType::kRunFailed));
  EXPECT_TRUE(wants({"run.*"}, EventType::kStepFailed));
  EXPECT_TRUE(wants({"run.step.*"}, EventType::kStepFailed));
  EXPECT_FALSE(wants({"run.step.*"}, EventType::kRunFailed));
  EXPECT_FALSE(wants({"job.*"}, EventType::kStepFailed));
}

TEST(EventFilter, AJobEndsInFourWaysAndARunInThree) {
  for (const EventType type :
       {EventType::kJobCompleted, EventType::kJobFailed, EventType::kJobCancelled, EventType::kJobExpired,
        EventType::kRunCompleted, EventType::kRunFailed, EventType::kRunCancelled})
    EXPECT_TRUE(ends_work(type));
  for (const EventType type :
       {EventType::kJobQueued, EventType::kJobStarted, EventType::kJobProgress, EventType::kUsageThreshold,
        EventType::kAlertRaised, EventType::kRunStarted, EventType::kStepCompleted, EventType::kStepFailed})
    EXPECT_FALSE(ends_work(type));
}

TEST(EventFilter, ProgressComesOnlyToWhoNamesIt) {
  EXPECT_FALSE(wants({"*", "job.*"}, EventType::kJobProgress));
  EXPECT_TRUE(wants({"job.progress"}, EventType::kJobProgress));
}

}  // namespace
}  // namespace turnpike::webhook
