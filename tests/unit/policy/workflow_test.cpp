#include "policy/workflow.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <chrono>
#include <string>
#include <vector>

#include "policy/workflow_template.h"

namespace turnpike::policy {
namespace {

namespace json = boost::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;

WorkflowPtr parsed(std::string_view text) {
  auto out = Workflow::parse("story", json::parse(text));
  EXPECT_TRUE(out) << text << ": " << out.error().message;
  return out ? *out : nullptr;
}

// "where: message" of each.
std::vector<std::string> mistakes_in(const json::value& definition) {
  std::vector<std::string> found;
  const auto out = Workflow::read(
      "story", definition,
      [&](const std::string& where, const std::string& message) { found.push_back(where + ": " + message); });
  EXPECT_EQ(out == nullptr, !found.empty());
  return found;
}
std::vector<std::string> mistakes_of(std::string_view text) {
  return mistakes_in(json::parse(text));
}
// The one mistake of a workflow with steps `a`, as given, and `b`.
std::string mistake_in_step(const std::string& more) {
  const auto found = mistakes_of(R"({"steps": {"a": {"task": "t", )" + more + R"(}, "b": {"task": "t"}}})");
  EXPECT_THAT(found, testing::SizeIs(1)) << more << testing::PrintToString(found);
  return found.empty() ? "" : found.front();
}

constexpr std::string_view kStory = R"({"steps": {
  "scenes": {"task": "split", "input": {"text": "${input.text}"}},
  "images": {"task": "image", "model": "painter@2", "content_type": "picture", "foreach": "${steps.scenes.output.scenes}",
             "at_most": 20, "when": {"feature": "images", "content_type": "picture", "input": "options.images"},
             "timeout": "2m", "retry": {"attempts": 5, "base": "2s", "factor": 1.5, "cap": "1m", "jitter": "0%"},
             "input": {"prompt": "${item.text}", "n": "${index}"}},
  "video": {"task": "join", "needs": ["scenes"], "input": {"images": "${steps.images.artifacts.*.id:-[]}"}},
  "note": {"task": "split"}},
  "output": {"n": "${steps.scenes.output.n}"}, "artifacts": ["video"]})";

TEST(Workflow, IsWhatItsDefinitionSays) {
  const WorkflowPtr story = parsed(kStory);
  ASSERT_TRUE(story);
  ASSERT_EQ(story->steps().size(), 4U);
  const WorkflowStep& images = story->steps()[1];
  EXPECT_EQ(images.name, "images");
  EXPECT_EQ(images.task, "image");
  EXPECT_EQ(images.model, "painter@2");
  EXPECT_EQ(images.content_type, "picture");
  EXPECT_EQ(images.at_most, 20U);
  EXPECT_EQ(images.when.feature, "images");
  EXPECT_THAT(images.when.input, ElementsAre("options", "images"));
  EXPECT_EQ(images.timeout, Duration{std::chrono::minutes(2)});
  ASSERT_TRUE(images.retry);
  EXPECT_EQ(images.retry->attempts, 5U);
  EXPECT_EQ(images.retry->factor_permille, 1500U);
  EXPECT_EQ(images.retry->jitter_permille, 0U);
  EXPECT_THAT(images.needs, ElementsAre(0U));
  EXPECT_THAT(story->steps()[2].needs, ElementsAre(0U, 1U));
  EXPECT_THAT(story->last(), ElementsAre(2U, 3U));
  EXPECT_THAT(story->results(), ElementsAre(2U));
  EXPECT_EQ(story->steps()[3].timeout, std::nullopt);
  EXPECT_EQ(story->step("video"), &story->steps()[2]);
  EXPECT_EQ(story->step("vide"), nullptr);
}

TEST(Workflow, IsReadAgainFromItsText) {
  const WorkflowPtr story = parsed(kStory);
  const WorkflowPtr again = parsed(story->text());
  EXPECT_EQ(again->text(), story->text());
  EXPECT_EQ(again->steps()[1].retry, story->steps()[1].retry);
  EXPECT_EQ(again->steps()[2].needs, story->steps()[2].needs);
}

TEST(Workflow, HasDefaults) {
  const WorkflowPtr plain = parsed(R"({"steps": {"a": {"task": "t"}}})");
  EXPECT_EQ(plain->output(), nullptr);
  ASSERT_NE(plain->steps()[0].input, nullptr);
  EXPECT_EQ(plain->steps()[0].at_most, 100U);
  EXPECT_FALSE(plain->steps()[0].when.any());
  EXPECT_THAT(plain->results(), ElementsAre(0U));
}

TEST(WorkflowMistakes, NameACycleWhole) {
  EXPECT_THAT(
      mistakes_of(R"({"steps": {"x": {"task": "t", "needs": ["a"]}, "a": {"task": "t", "needs": ["b"]},
                              "b": {"task": "t", "needs": ["c"]}, "c": {"task": "t", "needs": ["a"]}}})"),
      ElementsAre("steps.c.needs[0]: steps wait for each other: a -> b -> c -> a (each needs the next)"));
  EXPECT_THAT(mistakes_of(R"({"steps": {"a": {"task": "t", "input": {"x": "${steps.b.output}"}},
                              "b": {"task": "t", "needs": ["a"]}}})"),
              ElementsAre("steps.b.needs[0]: steps wait for each other: a -> b -> a (each needs the next)"));
  EXPECT_EQ(mistake_in_step(R"("needs": ["a"])"), "steps.a.needs[0]: step `a` cannot wait for itself");
  EXPECT_EQ(mistake_in_step(R"("input": {"x": "${steps.a.output}"})"),
            "steps.a.input.x: step `a` cannot wait for itself");
}

TEST(WorkflowMistakes, NameTheNearestStep) {
  EXPECT_THAT(
      mistakes_of(R"({"steps": {"scenes": {"task": "t"}, "other": {"task": "t", "needs": ["scene"]}}})"),
      ElementsAre("steps.other.needs[0]: unknown step `scene`: did you mean `scenes`?"));
  EXPECT_THAT(mistakes_of(R"({"steps": {"scenes": {"task": "t"}}, "artifacts": ["scnes"],
                              "output": {"a": ["${steps.sceens.output}"]}})"),
              ElementsAre("output.a[0]: unknown step `sceens`: did you mean `scenes`?"));
}

TEST(WorkflowMistakes, OfStepsSayWhere) {
  EXPECT_EQ(mistake_in_step(R"("taks": 1)"), "steps.a.taks: unknown key `taks`: did you mean `task`?");
  EXPECT_EQ(mistake_in_step(R"("needs": "b")"), "steps.a.needs: must be a list of steps ([a, b])");
  EXPECT_EQ(mistake_in_step(R"("needs": [1])"), "steps.a.needs[0]: must be the name of a step");
  EXPECT_EQ(mistake_in_step(R"("model": "")"), "steps.a.model: must be a name of 1 to 128 bytes");
  EXPECT_THAT(mistake_in_step(R"("input": [1])"), StartsWith("steps.a.input: must be a section"));
  EXPECT_THAT(mistake_in_step(R"("input": {"p": {"q": "${x}"}})"),
              StartsWith("steps.a.input.p.q: `x` is not known"));
  EXPECT_THAT(mistake_in_step(R"("timeout": "2 min")"), StartsWith("steps.a.timeout: must be a duration"));
  EXPECT_THAT(mistake_in_step(R"("timeout": 5)"), StartsWith("steps.a.timeout: must be a duration"));
  EXPECT_EQ(mistake_in_step(R"("retry": {"attempts": 0})"),
            "steps.a.retry.attempts: must be a whole number from 1 to 100");
  EXPECT_THAT(mistake_in_step(R"("retry": {"by_class": {}})"),
              StartsWith("steps.a.retry.by_class: unknown key"));
  EXPECT_THAT(mistake_in_step(R"("retry": {"base": "10s", "cap": "1s"})"),
              HasSubstr("`cap` must be at least"));
  EXPECT_THAT(mistake_in_step(R"("when": {})"), StartsWith("steps.a.when: must be a section"));
  EXPECT_THAT(mistake_in_step(R"("when": {"input": "input.x"})"),
              StartsWith("steps.a.when.input: must be a path"));
  EXPECT_THAT(mistake_in_step(R"("when": {"input": "x.*"})"),
              StartsWith("steps.a.when.input: must be a path"));
  EXPECT_THAT(mistake_in_step(R"("when": {"plan": "x"})"),
              StartsWith("steps.a.when.plan: unknown key `plan`"));
  EXPECT_THAT(mistakes_of(R"({"steps": {"a": {"input": {}}, "b": 1}})"),
              ElementsAre("steps.a: `task` is missing", StartsWith("steps.b: must be a section")));
}

TEST(WorkflowMistakes, OfListsSayWhere) {
  EXPECT_THAT(mistake_in_step(R"("foreach": "all of ${input.x}")"),
              StartsWith("steps.a.foreach: must be one reference"));
  EXPECT_THAT(mistake_in_step(R"("foreach": ["x"])"), StartsWith("steps.a.foreach: must be one reference"));
  EXPECT_THAT(mistake_in_step(R"("foreach": {"p": "${input.x}", "q": 1})"),
              StartsWith("steps.a.foreach: must be one"));
  EXPECT_THAT(mistake_in_step(R"("foreach": "${input.x:-word}")"),
              StartsWith("steps.a.foreach: must have a list as its default"));
  EXPECT_THAT(mistake_in_step(R"("foreach": "${item.x}")"),
              HasSubstr("`item.x` is there only in the `input`"));
  EXPECT_EQ(mistake_in_step(R"("foreach": "${input.x}", "at_most": 1001)"),
            "steps.a.at_most: must be a whole number from 1 to 1000");
  EXPECT_EQ(mistake_in_step(R"("foreach": "${input.x}", "at_most": 1.5)"),
            "steps.a.at_most: must be a whole number from 1 to 1000");
  EXPECT_EQ(mistake_in_step(R"("at_most": 5)"), "steps.a.at_most: stands without `foreach`");
}

TEST(WorkflowMistakes, OfReferencesThatCannotBe) {
  EXPECT_THAT(mistake_in_step(R"("input": {"x": "${item}"})"),
              StartsWith("steps.a.input.x: `item` is there only"));
  EXPECT_THAT(mistake_in_step(R"("input": {"x": "${index}"})"),
              StartsWith("steps.a.input.x: `index` is there only"));
  EXPECT_THAT(mistake_in_step(R"("foreach": {"p": "${input.x}"}, "input": {"x": "${item.q}"})"),
              StartsWith("steps.a.input.x: `item.q` cannot exist"));
  EXPECT_THAT(mistake_in_step(R"("input": {"x": "${steps.b.artifacts.id}"})"),
              HasSubstr("cannot exist: that is a list"));
  EXPECT_THAT(mistake_in_step(R"("input": {"x": "${steps.b.artifacts.*.url}"})"),
              HasSubstr("an artifact has id, mime"));
  EXPECT_THAT(mistake_in_step(R"("input": {"x": "${steps.b.result}"})"),
              HasSubstr("`steps.b.result` cannot exist"));
  EXPECT_THAT(mistakes_of(R"({"steps": {"a": {"task": "t", "foreach": "${input.x}"}},
                              "output": {"n": "${steps.a.output.n}"}})"),
              ElementsAre(HasSubstr("output.n: `steps.a.output.n` cannot exist: that is a list")));
  EXPECT_THAT(mistakes_of(R"({"steps": {"a": {"task": "t"}}, "output": "${item}"})"),
              ElementsAre(HasSubstr("output: `item` is there only")));
}

TEST(WorkflowMistakes, OfTheWholeSayWhatIsWanted) {
  EXPECT_THAT(mistakes_of("[]"), ElementsAre(": must be a section with `steps`"));
  EXPECT_THAT(mistakes_of("{}"), ElementsAre(": `steps` is missing"));
  EXPECT_THAT(mistakes_of(R"({"steps": {}})"),
              ElementsAre(StartsWith("steps: must be a section with at least one")));
  EXPECT_THAT(mistakes_of(R"({"steps": []})"),
              ElementsAre(StartsWith("steps: must be a section with at least one")));
  EXPECT_THAT(mistakes_of(R"({"steps": {"a b": {"task": "t"}}})"),
              ElementsAre(StartsWith("steps: `a b` must be")));
  EXPECT_THAT(mistakes_of(R"({"steps": {"a": {"task": "t"}}, "outputs": {}})"),
              ElementsAre("outputs: unknown key `outputs`: did you mean `output`?"));
  EXPECT_THAT(mistakes_of(R"({"steps": {"a": {"task": "t"}}, "output": null})"),
              ElementsAre(StartsWith("output: must")));
  EXPECT_THAT(mistakes_of(R"({"steps": {"a": {"task": "t"}}, "artifacts": ["a", "a"]})"),
              ElementsAre("artifacts[1]: is there twice: keep one"));
  const auto error = Workflow::parse("x", json::parse(R"({"steps": {"a": {"task": "t", "needs": ["b"]}}})"));
  ASSERT_FALSE(error);
  EXPECT_EQ(error.error().code, ErrorCode::kConfiguration);
  EXPECT_EQ(error.error().param, "steps.a.needs[0]");
}

TEST(WorkflowMistakes, OfSize) {
  json::object steps;
  for (int i = 0; i < 101; ++i) steps["s" + std::to_string(i)] = json::object{{"task", "t"}};
  EXPECT_THAT(mistakes_in(json::object{{"steps", steps}}),
              ElementsAre("steps: has 101 steps, at most 100 are allowed"));
  steps.erase("s100");
  EXPECT_THAT(mistakes_in(json::object{{"steps", steps}}), testing::IsEmpty());
  // A chain of all of them, each before the one it needs.
  for (int i = 0; i < 99; ++i)
    steps["s" + std::to_string(i)].as_object()["needs"] = json::array{"s" + std::to_string(i + 1)};
  EXPECT_THAT(mistakes_in(json::object{{"steps", steps}}), testing::IsEmpty());
  steps["s0"].as_object()["input"] = json::object{{"x", std::string(300'000, 'x')}};
  EXPECT_THAT(mistakes_in(json::object{{"steps", steps}}), ElementsAre(": is larger than 256 KiB"));
  json::value deep = "x";
  for (int i = 0; i < 5'000; ++i) deep = json::array{std::move(deep)};
  EXPECT_THAT(mistakes_in(json::object{{"steps", {{"a", {{"task", "t"}, {"input", {{"x", deep}}}}}}}}),
              ElementsAre(HasSubstr("is nested more than 16 deep")));
}

}  // namespace
}  // namespace turnpike::policy
