#include "policy/resolve.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "policy/load.h"
#include "unit/policy/sample.h"

namespace turnpike::policy {
namespace {

using testing::ElementsAre;

std::vector<std::string> providers_of(const Route& route) {
  std::vector<std::string> names;
  names.reserve(route.candidates.size());
  for (const Candidate& candidate : route.candidates) names.push_back(candidate.provider);
  return names;
}

class Resolve : public testing::Test {
 protected:
  void load(std::string_view pro) {
    std::string text = sample_with("priority_class: high", pro);
    const std::string more =
        "  second: {task: text, version: \"9\", providers: [{provider: fake, model: tiny}]}\n";
    text.insert(text.find("  narrator:"), more);
    const Loaded loaded = load_sample(std::move(text));
    ASSERT_TRUE(loaded.policy) << to_string(loaded.mistakes.at(0));
    policy_ = loaded.policy;
  }
  Result<Route> ask(std::string_view task, std::string_view model = "",
                    const std::set<std::string>& unavailable = {}) const {
    return resolve(*policy_, *policy_->plan("pro"), no_overlay(), "u", task, model, unavailable);
  }
  PolicyPtr policy_;
};

TEST_F(Resolve, TakesTheFirstModelOfTheTaskAndItsOrder) {
  load("priority_class: high");
  const auto route = ask("text");
  ASSERT_TRUE(route);
  EXPECT_THAT(providers_of(*route), ElementsAre("cloud", "fake"));
  EXPECT_EQ(route->candidates.front().model, "writer");
  EXPECT_EQ(route->candidates.front().pool, "cloud");
  EXPECT_EQ(route->candidates.front().upstream_model, "auto");
}

TEST_F(Resolve, TakesTheModelThatIsNamed) {
  load("priority_class: high");
  const auto route = ask("text", "second");
  ASSERT_TRUE(route);
  EXPECT_EQ(route->candidates.front().model_version, "9");
  EXPECT_EQ(route->candidates.front().upstream_model, "tiny");
}

TEST_F(Resolve, FollowsThePlansOrderAndNoOtherProvider) {
  load("providers: {text: [fake, cloud]}");
  EXPECT_THAT(providers_of(*ask("text")), ElementsAre("fake", "cloud"));
  load("providers: {text: [fake]}");
  EXPECT_THAT(providers_of(*ask("text")), ElementsAre("fake"));
}

TEST_F(Resolve, PassesOverAModelThatThePlansProvidersDoNotServe) {
  load("providers: {text: [cloud]}");
  EXPECT_THAT(providers_of(*ask("text")), ElementsAre("cloud"));
  const auto refused = ask("text", "second");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kModelNotAllowed);
  EXPECT_EQ(refused.error().message, "plan pro has no provider that serves model second");
}

TEST_F(Resolve, PassesOverProvidersThatWereNotThereAtStart) {
  load("priority_class: high");
  EXPECT_THAT(providers_of(*ask("text", "", {"cloud"})), ElementsAre("fake"));
  const auto refused = ask("text", "", {"cloud", "fake"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(refused.error().message, "no provider of model writer is there (cloud, fake not found at start)");
}

TEST_F(Resolve, NamesTheTasksThereAreWhenItDoesNotKnowOne) {
  load("priority_class: high");
  const auto near = ask("speach");
  ASSERT_FALSE(near);
  EXPECT_EQ(near.error().code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(near.error().param, "task");
  EXPECT_EQ(near.error().message, "there is no such task: did you mean `speech`?");
  EXPECT_EQ(ask("bake a cake").error().message, "there is no such task: there are speech, text");
}

TEST_F(Resolve, NamesThePlansThatHaveATaskWhichThisOneHasNot) {
  load("tasks: [text]");
  const auto refused = ask("speech");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kNotInPlan);
  EXPECT_EQ(refused.error().message, "plan pro does not have task speech; plans that have it: free");
}

TEST_F(Resolve, NamesTheModelsOfTheTaskWhenItDoesNotKnowOne) {
  load("priority_class: high");
  const auto refused = ask("text", "narrator");  // a model, but of another task
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(refused.error().param, "model");
  EXPECT_EQ(refused.error().message, "task text has no model of that name: there are second, writer");
}

TEST_F(Resolve, ListsTheTasks) {
  load("priority_class: high");
  EXPECT_THAT(known_tasks(*policy_), ElementsAre("speech", "text"));
}

}  // namespace
}  // namespace turnpike::policy
