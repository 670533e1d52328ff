// The presets that are shipped load without a mistake and promise what the product says.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <tuple>

#include "policy/load.h"
#include "policy/resolve.h"

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
    for (const char* task : {"text", "speech", "image", "image_edit"}) {
      const auto candidates = resolve(*policy_, plan, task, "", {"ollama", "openai"});
      ASSERT_TRUE(candidates) << name << " " << task << ": " << candidates.error().message;
      EXPECT_EQ(candidates->size(), 1U);
    }
  }
}

TEST_P(Preset, PrefersALocalServerThenTheKeyThenTheSandboxForText) {
  const auto candidates = resolve(*policy_, *policy_->plan("tier1"), "text", "", {});
  ASSERT_TRUE(candidates);
  std::vector<std::string> providers;
  for (const Candidate& candidate : *candidates) providers.push_back(candidate.provider);
  EXPECT_THAT(providers, ElementsAre("ollama", "openai", "sandbox"));
}

TEST_P(Preset, RunsLocalProgramsInTwoSharedSlots) {
  EXPECT_EQ(policy_->pools.at("local").slots, 2U);
  EXPECT_EQ(policy_->providers.at("espeak").pool, "local");
  EXPECT_EQ(policy_->providers.at("vips").pool, "local");
}

INSTANTIATE_TEST_SUITE_P(Shipped, Preset, testing::Values("dev.yaml", "story.yaml"),
                         [](const auto& info) { return info.param.substr(0, info.param.find('.')); });

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
