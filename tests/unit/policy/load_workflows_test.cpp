// The section workflows, and endpoints that name one.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "policy/workflow.h"
#include "unit/policy/bad_file.h"
#include "unit/policy/sample.h"

namespace turnpike::policy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Key;

std::string with(const std::string& workflows) {
  return sample_with("defaults:\n", workflows + "defaults:\n");
}

PolicyPtr loaded(const std::string& workflows) {
  const Loaded result = load_sample(with(workflows));
  for (const Mistake& mistake : result.mistakes) ADD_FAILURE() << to_string(mistake);
  return result.policy;
}

// Its first line is line 25 of the file.
constexpr const char* kStory = R"(workflows:
  story:
    steps:
      write:
        task: text
        model: writer
        input: {prompt: "${input.topic}", max: 100}
      say:
        task: speech
        foreach: "${steps.write.output.lines}"
        at_most: 20
        timeout: 2m
        input: {text: "${item}", speed: 1.5, loud: true}
    output:
      lines: ${steps.write.output.lines}
)";

TEST(Workflows, AreReadFromTheFile) {
  const PolicyPtr policy = loaded(kStory);
  ASSERT_TRUE(policy);
  EXPECT_THAT(policy->workflows, ElementsAre(Key("story")));
  const Workflow& story = *policy->workflows.at("story");
  EXPECT_EQ(story.name(), "story");
  ASSERT_EQ(story.steps().size(), 2U);
  EXPECT_EQ(story.steps()[1].at_most, 20U);
  EXPECT_THAT(story.steps()[1].needs, ElementsAre(0U));
  EXPECT_THAT(story.text(), HasSubstr(R"("input":{"text":"${item}","speed":1.5E0,"loud":true})"));
}

TEST(Workflows, MayBePublished) {
  const PolicyPtr policy = loaded(std::string(kStory) +
                                  "endpoints:\n  - {path: /story, workflow: story, wait: 20s, status: 201, "
                                  "public: free, schema: {type: object}}\n");
  ASSERT_TRUE(policy);
  EXPECT_EQ(policy->endpoints.at(0).workflow, "story");
  EXPECT_EQ(policy->endpoints.at(0).task, "");
  EXPECT_EQ(policy->endpoints.at(0).status, 201);
  EXPECT_EQ(policy->endpoints.at(0).public_plan, "free");
  EXPECT_NE(policy->endpoints.at(0).schema, nullptr);
}

struct BadWorkflow {
  const char* name;
  std::string from, to;  // one change to kStory
  std::string expected;
};
class WorkflowInAFile : public testing::TestWithParam<BadWorkflow> {};

TEST_P(WorkflowInAFile, HasItsMistakesAtTheirPlace) {
  std::string text = kStory;
  const std::size_t at = text.find(GetParam().from);
  ASSERT_NE(at, std::string::npos);
  text.replace(at, GetParam().from.size(), GetParam().to);
  EXPECT_THAT(mistakes_of(with(text)), ElementsAre(GetParam().expected));
}

INSTANTIATE_TEST_SUITE_P(
    All, WorkflowInAFile,
    testing::Values(
        BadWorkflow{
            "UnknownTask", "task: speech", "task: speach",
            "t.yaml:33:15: workflows.story.steps.say.task: unknown task `speach`: no model serves it; did "
            "you mean `speech`?"},
        BadWorkflow{
            "UnknownModel", "model: writer", "model: writr",
            "t.yaml:30:16: workflows.story.steps.write.model: unknown model `writr`: did you mean `writer`?"},
        BadWorkflow{
            "ModelOfAnotherTask", "model: writer", "model: narrator",
            "t.yaml:30:16: workflows.story.steps.write.model: model `narrator` is of task `speech`, not "
            "`text`"},
        BadWorkflow{
            "UnknownContentType", "model: writer", "content_type: book",
            "t.yaml:30:23: workflows.story.steps.write.content_type: unknown content type `book`: there are "
            "none"},
        BadWorkflow{
            "UnknownFeature", "model: writer", "when: {feature: hd}",
            "t.yaml:30:25: workflows.story.steps.write.when.feature: unknown feature `hd`: no plan names it; "
            "there are none"},
        BadWorkflow{
            "UnknownKey", "at_most: 20", "atmost: 20",
            "t.yaml:35:17: workflows.story.steps.say.atmost: unknown key `atmost`: did you mean `at_most`?"},
        BadWorkflow{
            "BadReference", "${item}", "${steps.writ.output}",
            "t.yaml:37:23: workflows.story.steps.say.input.text: unknown step `writ`: did you mean `write`?"},
        BadWorkflow{"MissingTask", "        task: text\n", "",
                    "t.yaml:28:7: workflows.story.steps.write: `task` is missing"},
        BadWorkflow{
            "Cycle", "topic}", "topic} ${steps.say.output}",
            "t.yaml:34:18: workflows.story.steps.say.foreach: steps wait for each other: write -> say -> "
            "write (each needs the next)"},
        BadWorkflow{
            "TooLong", "at_most: 20", "at_most: 2000",
            "t.yaml:35:18: workflows.story.steps.say.at_most: must be a whole number from 1 to 1000"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Workflows, TellAllTheirMistakesAtOnce) {
  EXPECT_THAT(
      mistakes_of(with("workflows:\n  a: {}\n  b: {steps: {x: {task: text, needs: [y], when: 1}}}\n")),
      ElementsAre("t.yaml:26:3: workflows.a: `steps` is missing",
                  "t.yaml:27:39: workflows.b.steps.x.needs[0]: unknown step `y`: there is only x",
                  HasSubstr("t.yaml:27:49: workflows.b.steps.x.when: must be a section")));
}

TEST(Workflows, AreKnownToEndpointsWhateverIsWrongWithThem) {
  EXPECT_THAT(mistakes_of(with("workflows:\n  a: {}\nendpoints:\n  - {path: /a, workflow: a}\n")),
              ElementsAre(HasSubstr("workflows.a: `steps` is missing")));
}

}  // namespace
}  // namespace turnpike::policy
