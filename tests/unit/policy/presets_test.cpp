// The presets that are shipped load without a mistake and promise what the product says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "policy/load.h"
#include "policy/resolve.h"
#include "policy/workflow.h"

namespace turnpike::policy {
namespace {

using testing::ElementsAre;

SecretSource without_secrets() {
  return {.env = [](const std::string&) { return std::nullopt; },
          .file = [](const std::string&) { return std::nullopt; }};
}

std::filesystem::path presets_folder() {
  return std::filesystem::path(__FILE__).parent_path().parent_path().parent_path().parent_path() / "presets";
}

class Preset : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const Loaded loaded = load_file(presets_folder() / GetParam(), without_secrets());
    for (const Mistake& mistake : loaded.mistakes) ADD_FAILURE() << to_string(mistake);
    ASSERT_TRUE(loaded.policy);
    policy_ = loaded.policy;
  }
  PolicyPtr policy_;
};

TEST_P(Preset, HasTheFourTiers) {
  std::vector<std::tuple<std::string, std::uint32_t, std::uint32_t, std::uint32_t, PriorityClass>> tiers;
  for (const auto& [name, plan] : policy_->plans) {
    tiers.emplace_back(name, plan.limits.concurrent_jobs.value_or(0), plan.limits.dispatch_batch,
                       plan.limits.batch_operations.value_or(0), plan.priority_class);
  }
  EXPECT_THAT(tiers, ElementsAre(std::tuple("tier1", 2, 3, 3, PriorityClass::kLow),
                                 std::tuple("tier2", 5, 5, 5, PriorityClass::kStandard),
                                 std::tuple("tier3", 10, 10, 10, PriorityClass::kHigh),
                                 std::tuple("tier4", 20, 15, 15, PriorityClass::kCritical)));
  EXPECT_EQ(policy_->accounts.default_plan, "tier1");
  EXPECT_TRUE(policy_->accounts.tier_from_request);
  EXPECT_THAT(policy_->share_permille, ElementsAre(50, 100, 200, 0));
}

TEST_P(Preset, RefusesNothingForWaiting) {
  for (const auto& [name, plan] : policy_->plans) {
    EXPECT_EQ(plan.limits.queue_depth, std::nullopt) << name;
    EXPECT_EQ(plan.expire_after, std::nullopt) << name;
  }
}

TEST_P(Preset, ServesEveryTaskToEveryTierWithoutAnAccountAnywhere) {
  for (const auto& [name, plan] : policy_->plans) {
    for (const char* task : {"text", "speech", "image", "image_edit", "split", "clip", "video"}) {
      const auto route = resolve(*policy_, plan, no_overlay(), "u", task, "", {"ollama", "openai"});
      ASSERT_TRUE(route) << name << " " << task << ": " << route.error().message;
      EXPECT_EQ(route->candidates.size(), 1U);
    }
  }
}

TEST_P(Preset, PrefersALocalServerThenTheKeyThenTheSandboxForText) {
  const auto route = resolve(*policy_, *policy_->plan("tier1"), no_overlay(), "u", "text", "", {});
  ASSERT_TRUE(route);
  std::vector<std::string> providers;
  for (const Candidate& candidate : route->candidates) providers.push_back(candidate.provider);
  EXPECT_THAT(providers, ElementsAre("ollama", "openai", "sandbox"));
}

TEST_P(Preset, RunsLocalProgramsInTwoSharedSlots) {
  EXPECT_EQ(policy_->pools.at("local").slots, 2U);
  EXPECT_EQ(policy_->providers.at("espeak").pool, "local");
  EXPECT_EQ(policy_->providers.at("vips").pool, "local");
  EXPECT_EQ(policy_->providers.at("ffmpeg").pool, "local");
}

TEST_P(Preset, MakesStoriesOfScenesThatAreToldAndShown) {
  const auto& story = *policy_->workflows.at("story");
  std::vector<std::string> steps;
  for (const WorkflowStep& step : story.steps()) steps.push_back(step.name);
  EXPECT_THAT(steps, ElementsAre("write", "split", "pictures", "narrations", "clips", "video"));
  EXPECT_EQ(story.results(), std::vector<std::size_t>{5});
  const auto found = std::ranges::find(policy_->endpoints, "/create-story", &Endpoint::path);
  ASSERT_NE(found, policy_->endpoints.end());
  EXPECT_EQ(found->workflow, "story");
}

INSTANTIATE_TEST_SUITE_P(Shipped, Preset, testing::Values("dev.yaml", "story.yaml"),
                         [](const auto& info) { return info.param.substr(0, info.param.find('.')); });

class Studio : public testing::Test {
 protected:
  void SetUp() override {
    const Loaded loaded = load_file(presets_folder() / "studio.yaml", without_secrets());
    for (const Mistake& mistake : loaded.mistakes) ADD_FAILURE() << to_string(mistake);
    ASSERT_TRUE(loaded.policy);
    policy_ = loaded.policy;
  }
  // "writer@2.1.0 via sandbox, standby", as it is without any key.
  std::string served(const char* plan, const char* task, std::string_view model = "",
                     const Overlay& overlay = no_overlay()) const {
    const auto route = resolve(*policy_, *policy_->plan(plan), overlay, "u", task, model, {"openai"});
    if (!route) return route.error().message;
    std::string text = route->candidates.front().model + "@" + route->candidates.front().model_version;
    for (const Candidate& candidate : route->candidates)
      text += (&candidate == &route->candidates.front() ? " via " : ", ") + candidate.provider;
    return text;
  }
  PolicyPtr policy_;
};

TEST_F(Studio, SD1_HasFourPlansWithAPolicyOfVersionsEach) {
  std::vector<std::tuple<std::string, PriorityClass, VersionPolicy, bool>> plans;
  for (const auto& [name, plan] : policy_->plans) {
    ASSERT_TRUE(plan.promise.cost_cap) << name;
    EXPECT_TRUE(plan.promise.rates.rps && plan.promise.rates.rpm && plan.promise.rates.burst) << name;
    plans.emplace_back(name, plan.priority_class, plan.models.policy_of("text"),
                       plan.promise.cost_cap->hard_stop);
  }
  EXPECT_THAT(plans,
              ElementsAre(std::tuple("BUSINESS", PriorityClass::kHigh, VersionPolicy::kAllowMinor, false),
                          std::tuple("ENTERPRISE", PriorityClass::kCritical, VersionPolicy::kPinned, false),
                          std::tuple("FREE", PriorityClass::kLow, VersionPolicy::kLatest, true),
                          std::tuple("PRO", PriorityClass::kStandard, VersionPolicy::kAllowMinor, true)));
}

TEST_F(Studio, ServesEachPlanItsVersionWithoutAnyKey) {
  EXPECT_EQ(served("FREE", "text"), "writer@3.0.0 via sandbox, standby");
  EXPECT_EQ(served("PRO", "text"), "writer@2.1.0 via sandbox, standby");
  EXPECT_EQ(served("BUSINESS", "text"), "writer@2.1.0 via sandbox, standby");
  EXPECT_EQ(served("ENTERPRISE", "text"), "writer@2.0.0 via sandbox, standby");
  EXPECT_EQ(served("FREE", "speech"), "narrator@2025-09-15 via flite, espeak");
  EXPECT_EQ(served("PRO", "speech"), "narrator@2024-12-01 via espeak, flite");
  EXPECT_EQ(served("ENTERPRISE", "speech"), "narrator@2024-12-01 via espeak, flite");
  EXPECT_EQ(served("FREE", "text", "quick"), "writer@2.1.0 via sandbox, standby");
  EXPECT_EQ(served("BUSINESS", "text", "drafter"), "drafter@1 via standby");
  EXPECT_EQ(served("FREE", "text", "drafter"), "plan FREE sees no version of model drafter");
}

TEST_F(Studio, SD8_GoesOnWithTheNextProvider) {
  Overlay overlay;
  overlay.paused_providers = {"sandbox", "flite"};
  EXPECT_EQ(served("FREE", "text", "", overlay), "writer@3.0.0 via standby");
  EXPECT_EQ(served("FREE", "speech", "", overlay), "narrator@2025-09-15 via espeak");
}

TEST_F(Studio, SD9_IsFrozenAtTheBlessedVersions) {
  Overlay overlay;
  overlay.freeze = true;
  for (const auto& [name, plan] : policy_->plans) {
    EXPECT_EQ(served(name.c_str(), "text", "", overlay), "writer@2.0.0 via sandbox, standby");
    EXPECT_EQ(served(name.c_str(), "speech", "", overlay), "narrator@2024-12-01 via espeak, flite");
  }
}

TEST_F(Studio, SD10_TakesACanaryForBusiness) {
  Overlay overlay;
  overlay.canaries.push_back({.id = "spring",
                              .model = "writer",
                              .candidate = "2.1.0",
                              .baseline = "2.0.0",
                              .plans = {"BUSINESS"},
                              .share_permille = 1000});
  ASSERT_TRUE(check_overlay(*policy_, overlay));
  EXPECT_EQ(served("BUSINESS", "text", "", overlay), "writer@2.1.0 via sandbox, standby");
  overlay.canaries[0].share_permille = 0;
  EXPECT_EQ(served("BUSINESS", "text", "", overlay), "writer@2.0.0 via sandbox, standby");
  EXPECT_EQ(served("PRO", "text", "", overlay), "writer@2.1.0 via sandbox, standby");
}

class Jewelshot : public testing::Test {
 protected:
  void SetUp() override {
    const Loaded loaded = load_file(presets_folder() / "jewelshot.yaml", without_secrets());
    for (const Mistake& mistake : loaded.mistakes) ADD_FAILURE() << to_string(mistake);
    ASSERT_TRUE(loaded.policy);
    policy_ = loaded.policy;
  }
  PolicyPtr policy_;
};

TEST_F(Jewelshot, JS5_PublishesTheEditToVisitors) {
  ASSERT_EQ(policy_->endpoints.size(), 1U);
  const Endpoint& edit = policy_->endpoints.front();
  EXPECT_EQ(edit.path, "/api/ai/edit");
  EXPECT_EQ(edit.task, "image_edit");
  EXPECT_EQ(edit.status, 200);
  EXPECT_EQ(edit.wait, Duration{0});
  EXPECT_EQ(edit.public_plan, "free");
  EXPECT_TRUE(edit.schema);
}

TEST_F(Jewelshot, JS2_AsksItsUpstreamFifteenTimesAMinute) {
  const auto& limit = policy_->providers.at("vips").limit;
  ASSERT_TRUE(limit);
  EXPECT_EQ(limit->requests, 15U);
  EXPECT_EQ(limit->per, std::chrono::minutes(1));
}

TEST_F(Jewelshot, ServesEveryPlanWithoutAnAccountAnywhere) {
  EXPECT_EQ(policy_->plans.size(), 3U);
  for (const auto& [name, plan] : policy_->plans) {
    EXPECT_TRUE(resolve(*policy_, plan, no_overlay(), "u", "image_edit", "", {})) << name;
    EXPECT_GE(plan.limits.queue_depth.value_or(0), 5'400U) << name << ": JS9 comes from one address";
  }
}

TEST_F(Jewelshot, JS8_HasARuleForEverySignal) {
  std::set<Signal> signals;
  for (const AlertRule& rule : policy_->alerts) signals.insert(rule.signal);
  EXPECT_EQ(signals.size(), kSignals);
}

// What is shown as an example is one that works.
TEST(Examples, LoadWithoutAMistake) {
  const SecretSource secrets{.env = [](const std::string&) { return "key"; },
                             .file = [](const std::string&) { return std::nullopt; }};
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(presets_folder().parent_path() / "examples")) {
    if (entry.path().extension() != ".yaml") continue;
    ++files;
    const Loaded loaded = load_file(entry.path(), secrets);
    for (const Mistake& mistake : loaded.mistakes) ADD_FAILURE() << to_string(mistake);
    EXPECT_TRUE(loaded.policy);
  }
  EXPECT_GE(files, 2U);
}

}  // namespace
}  // namespace turnpike::policy
