#include "policy/resolve.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "policy/load.h"
#include "unit/policy/sample.h"

namespace turnpike::policy {
namespace {

using testing::ElementsAre;

std::vector<std::string> providers_of(const std::vector<Candidate>& candidates) {
  std::vector<std::string> names;
  names.reserve(candidates.size());
  for (const Candidate& candidate : candidates) names.push_back(candidate.provider);
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
  Result<std::vector<Candidate>> ask(std::string_view task, std::string_view model = "",
                                     const std::set<std::string>& unavailable = {}) const {
    return resolve(*policy_, *policy_->plan("pro"), task, model, unavailable);
  }
  PolicyPtr policy_;
};

TEST_F(Resolve, TakesTheFirstModelOfTheTaskAndItsOrder) {
  load("priority_class: high");
  const auto candidates = ask("text");
  ASSERT_TRUE(candidates);
  EXPECT_THAT(providers_of(*candidates), ElementsAre("cloud", "fake"));
  EXPECT_EQ(candidates->front().model, "writer");
  EXPECT_EQ(candidates->front().pool, "cloud");
  EXPECT_EQ(candidates->front().upstream_model, "auto");
}

TEST_F(Resolve, TakesTheModelThatIsNamed) {
  load("priority_class: high");
  const auto candidates = ask("text", "second");
  ASSERT_TRUE(candidates);
  EXPECT_EQ(candidates->front().model_version, "9");
  EXPECT_EQ(candidates->front().upstream_model, "tiny");
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

TEST_F(Resolve, TellsHowItChose) {
  load("priority_class: high");
  const auto by_default = ask("text");
  EXPECT_EQ(by_default->at(0).choice, (Choice{.model_named = false, .plan_order = false, .place = 1}));
  EXPECT_EQ(by_default->at(1).choice.place, 2U);
  EXPECT_TRUE(ask("text", "second")->at(0).choice.model_named);
  EXPECT_EQ(ask("text", "", {"cloud"})->at(0).choice.place, 2U) << "the first was not there";
  load("providers: {text: [fake, cloud]}");
  EXPECT_EQ(ask("text")->at(0).choice, (Choice{.model_named = false, .plan_order = true, .place = 1}));
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
