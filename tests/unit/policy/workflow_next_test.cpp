#include "policy/workflow_next.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <random>
#include <string>
#include <vector>

namespace turnpike::policy {
namespace {

namespace json = boost::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A run that is driven by hand.
struct Driven {
  WorkflowPtr workflow;
  json::object input;
  Plan plan;
  std::vector<StepFacts> steps;

  explicit Driven(const json::object& definition, std::string_view input_text = "{}")
      : input(json::parse(input_text).as_object()) {
    auto parsed = Workflow::parse("w", definition);
    EXPECT_TRUE(parsed) << parsed.error().message;
    workflow = *parsed;
    steps.resize(workflow->steps().size());
  }
  explicit Driven(std::string_view definition, std::string_view input_text = "{}")
      : Driven(json::parse(definition).as_object(), input_text) {}

  Result<NextOf> next(std::size_t jobs_max = 1000) const {
    return next_of(*workflow, {.input = input, .plan = plan, .steps = steps}, jobs_max);
  }
  // "a:{...}|{...}" of each step that begins, "a:skipped", "a:" of one without jobs; they are noted as such.
  std::vector<std::string> go() {
    const auto next = this->next();
    if (!next) return {"!" + next.error().message};
    std::vector<std::string> begun;
    for (const NextStep& step : next->begin) {
      std::string text = workflow->steps()[step.step].name + ":";
      if (step.skipped) text += "skipped";
      for (std::size_t i = 0; i < step.inputs.size(); ++i)
        text += (i > 0 ? "|" : "") + json::serialize(step.inputs[i]);
      begun.push_back(text);
      EXPECT_EQ(steps[step.step].state, StepProgress::kWaiting);
      steps[step.step].state = step.skipped          ? StepProgress::kSkipped
                               : step.inputs.empty() ? StepProgress::kCompleted
                                                     : StepProgress::kRunning;
    }
    if (next->output) begun.push_back("=" + json::serialize(*next->output));
    return begun;
  }
  void end(std::string_view name, const std::vector<std::string>& outputs,
           const std::vector<std::string>& artifacts = {}) {
    StepFacts& step = steps[static_cast<std::size_t>(workflow->step(name) - workflow->steps().data())];
    EXPECT_EQ(step.state, StepProgress::kRunning);
    step.state = StepProgress::kCompleted;
    for (const auto& output : outputs) step.outputs.push_back(json::parse(output));
    for (const auto& list : artifacts) step.artifacts.push_back(json::parse(list).as_array());
  }
};

TEST(NextOf, BeginsWhatNeedsNothingAndThenWhatFollows) {
  Driven run(R"({"steps": {
    "c": {"task": "t", "input": {"from": "${steps.a.output.x}", "and": "${steps.b.output}"}},
    "a": {"task": "t", "input": {"text": "${input.text}"}}, "b": {"task": "t"}}})",
             R"({"text": "hello"})");
  EXPECT_THAT(run.go(), ElementsAre(R"(a:{"text":"hello"})", "b:{}"));
  EXPECT_THAT(run.go(), IsEmpty());
  run.end("a", {R"({"x": 1})"});
  EXPECT_THAT(run.go(), IsEmpty());
  run.end("b", {R"("done")"});
  EXPECT_THAT(run.go(), ElementsAre(R"(c:{"from":1,"and":"done"})"));
  run.end("c", {"[1]"});
  EXPECT_THAT(run.go(), ElementsAre(R"(={"c":[1]})"));
}

TEST(NextOf, HasAJobForEachItem) {
  Driven run(R"({"steps": {
    "s": {"task": "t"},
    "each": {"task": "t", "foreach": "${steps.s.output.list}", "input": {"i": "${index}", "v": "${item.v}"}},
    "all": {"task": "t", "input": {"outs": "${steps.each.output.*.o}", "files": "${steps.each.artifacts.*.id}"}}}})");
  EXPECT_THAT(run.go(), ElementsAre("s:{}"));
  run.end("s", {R"({"list": [{"v": "p"}, {"v": "q"}]})"});
  EXPECT_THAT(run.go(), ElementsAre(R"(each:{"i":0,"v":"p"}|{"i":1,"v":"q"})"));
  run.end("each", {R"({"o": 1})", R"({"o": 2})"}, {R"([{"id": "art_1"}])", R"([{"id": "art_2"}])"});
  EXPECT_THAT(run.go(), ElementsAre(R"(all:{"outs":[1,2],"files":["art_1","art_2"]})"));
}

TEST(NextOf, WalksListsSideBySide) {
  const std::string_view kDefinition = R"({"steps": {"each": {"task": "t",
    "foreach": {"p": "${input.ps}", "q": "${input.qs?}"}, "input": {"p": "${item.p}", "q": "${item.q:-none}"}}}})";
  EXPECT_THAT(Driven(kDefinition, R"({"ps": [1, 2], "qs": ["a", "b"]})").go(),
              ElementsAre(R"(each:{"p":1,"q":"a"}|{"p":2,"q":"b"})"));
  EXPECT_THAT(Driven(kDefinition, R"({"ps": [1]})").go(), ElementsAre(R"(each:{"p":1,"q":"none"})"));
  EXPECT_THAT(Driven(kDefinition, R"({"ps": [1, 2], "qs": ["a"]})").go(),
              ElementsAre("!step `each` cannot begin: the lists of its foreach differ in length: `p` has 2 "
                          "items, `q` has 1"));
  EXPECT_THAT(Driven(kDefinition, R"({"ps": 1})").go(),
              ElementsAre(HasSubstr("`p` of its foreach is no list")));
}

TEST(NextOf, GoesOnBehindWhatIsSkippedOrEmpty) {
  Driven run(R"({"steps": {
    "last": {"task": "t", "needs": ["each"], "when": {"input": "never"}},
    "each": {"task": "t", "foreach": "${steps.maybe.output.list:-[]}", "input": {}},
    "maybe": {"task": "t", "when": {"input": "options.voice"}}}})",
             R"({"options": {"voice": ""}})");
  EXPECT_THAT(run.go(), ElementsAre("last:skipped", "each:", "maybe:skipped", R"(={"last":null})"));
}

TEST(NextOf, AsksPlanAndInputWhetherAStepIsWanted) {
  const std::string_view kDefinition = R"({"steps": {
    "f": {"task": "t", "when": {"feature": "hd"}}, "c": {"task": "t", "when": {"content_type": "audio"}},
    "i": {"task": "t", "when": {"input": "n"}}}})";
  Driven none(kDefinition);
  EXPECT_THAT(none.go(), ElementsAre("f:skipped", "c:{}", "i:skipped"));
  Driven all(kDefinition, R"({"n": 1, "content_types": ["video", "audio"]})");
  all.plan.features["hd"] = true;
  all.plan.content_types = {"audio"};
  EXPECT_THAT(all.go(), ElementsAre("f:{}", "c:{}", "i:{}"));
  Driven not_asked(kDefinition, R"({"n": 0, "content_types": ["video"]})");
  not_asked.plan.features["hd"] = false;
  EXPECT_THAT(not_asked.go(),
              ElementsAre("f:skipped", "c:skipped", "i:skipped", R"(={"f":null,"c":null,"i":null})"));
  Driven not_in_plan(kDefinition, R"({"n": [], "content_types": ["audio"]})");
  not_in_plan.plan.content_types = {"video"};
  EXPECT_THAT(not_in_plan.go(), ElementsAre("f:skipped", "c:skipped", "i:skipped", testing::_));
}

TEST(NextOf, MakesTheOutput) {
  Driven run(R"({"steps": {"a": {"task": "t"}, "b": {"task": "t", "when": {"input": "x"}}},
              "output": {"text": "${steps.a.output.text}", "b": "${steps.b.output?}", "n": 1}})");
  (void)run.go();
  run.end("a", {R"({"text": "x"})"});
  EXPECT_THAT(run.go(), ElementsAre(R"(={"text":"x","n":1})"));
  Driven missing(R"({"steps": {"a": {"task": "t"}}, "output": {"text": "${steps.a.output.text}"}})");
  (void)missing.go();
  missing.end("a", {"null"});
  const auto refused = missing.next();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().param, "output");
  EXPECT_THAT(refused.error().message, HasSubstr("`steps.a.output.text` is not there"));
}

TEST(NextOf, BoundsTheOutput) {
  Driven run(R"({"steps": {"a": {"task": "t"}, "b": {"task": "t"}}})");
  (void)run.go();
  run.end("a", {"\"" + std::string(40'000, 'x') + "\""});
  run.end("b", {"\"" + std::string(40'000, 'x') + "\""});
  const auto refused = run.next();
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("at most 65536 are kept"));
}

TEST(NextOf, NamesTheStepThatCannotBegin) {
  Driven run(
      R"({"steps": {"s": {"task": "t"}, "after": {"task": "t", "input": {"x": "${steps.s.output.x.y}"}}}})");
  (void)run.go();
  run.end("s", {R"({"x": [1]})"});
  const auto refused = run.next();
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnprocessable);
  EXPECT_EQ(refused.error().param, "after");
  EXPECT_EQ(refused.error().message, "step `after` cannot begin: `steps.s.output.x.y` is not there");
}

TEST(NextOf, BoundsItsJobs) {
  const std::string_view kDefinition = R"({"steps": {"each": {"task": "t", "foreach": "${input.list}",
    "at_most": 3, "input": {}}}})";
  EXPECT_THAT(Driven(kDefinition, R"({"list": [1, 2, 3]})").go(), ElementsAre("each:{}|{}|{}"));
  EXPECT_THAT(Driven(kDefinition, R"({"list": [1, 2, 3, 4]})").go(),
              ElementsAre(HasSubstr("its list has 4 items, and at_most allows 3")));
  EXPECT_THAT(Driven(kDefinition, R"({"list": {"a": 1}})").go(),
              ElementsAre(HasSubstr("`input.list`, which it is to "
                                    "have a job for each item of, is no list")));
  const auto refused = Driven(kDefinition, R"({"list": [1, 2, 3]})").next(2);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("too many jobs"));
  // Each input is small enough, all together are not.
  Driven large(
      R"({"steps": {"each": {"task": "t", "foreach": "${input.list}", "input": {"x": "${input.long}"}}}})");
  large.input["list"] = json::array(100, 1);
  large.input["long"] = std::string(500'000, 'x');
  EXPECT_THAT(large.go(), ElementsAre(HasSubstr("step `each` cannot begin")));
}

// Any graph that is driven to its end begins each step once, and none before what it needs has ended.
TEST(NextOf, BeginsEachStepOfAnyGraphOnceAndInOrder) {
  for (unsigned seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937 random(seed);
    const auto below = [&random](unsigned n) { return static_cast<unsigned>(random() % n); };
    const unsigned count = 1 + below(30);
    // In the file's order, which is not that of the graph.
    std::vector<unsigned> order(count);
    for (unsigned i = 0; i < count; ++i) order[i] = i;
    std::ranges::shuffle(order, random);
    json::object steps;
    for (const unsigned step : order) {
      json::object definition{{"task", "t"}};
      json::array needs;
      for (unsigned before = 0; before < step; ++before) {
        if (below(count) < 3) needs.push_back(json::value("s" + std::to_string(before)));
      }
      const unsigned kind = below(6);
      if (kind == 0) definition["when"] = json::object{{"input", below(2) == 0 ? "yes" : "no"}};
      if (kind == 1) definition["foreach"] = "${input." + std::string(below(2) == 0 ? "list" : "empty") + "}";
      if (!needs.empty() && below(2) == 0) {
        // By what its templates name, instead.
        definition["input"] =
            json::object{{"x", "${steps." + std::string(needs.back().as_string()) + ".output:-0}"}};
        needs.pop_back();
      }
      definition["needs"] = needs;
      steps["s" + std::to_string(step)] = definition;
    }
    Driven run(json::object{{"steps", steps}},
               R"({"yes": true, "no": false, "list": [1, 2, 3], "empty": []})");
    std::vector<int> begun(count);
    std::optional<json::value> output;
    std::vector<std::size_t> running;
    for (int round = 0; !output && round < 1000; ++round) {
      auto next = run.next();
      ASSERT_TRUE(next) << next.error().message;
      output = std::move(next->output);
      // What the call itself ended counts as ended for what follows from it.
      for (const NextStep& step : next->begin) {
        ++begun[step.step];
        run.steps[step.step].state = step.skipped          ? StepProgress::kSkipped
                                     : step.inputs.empty() ? StepProgress::kCompleted
                                                           : StepProgress::kRunning;
        if (!step.inputs.empty()) running.push_back(step.step);
      }
      for (const NextStep& step : next->begin) {
        for (const std::size_t need : run.workflow->steps()[step.step].needs) {
          EXPECT_NE(run.steps[need].state, StepProgress::kWaiting);
          EXPECT_NE(run.steps[need].state, StepProgress::kRunning);
        }
      }
      if (output) break;
      ASSERT_FALSE(running.empty()) << "stuck";
      const std::size_t which = below(static_cast<unsigned>(running.size()));
      StepFacts& ended = run.steps[running[which]];
      ended.state = StepProgress::kCompleted;
      ended.outputs.assign(run.workflow->steps()[running[which]].foreach != nullptr ? 3 : 1, json::value(1));
      running.erase(running.begin() + static_cast<std::ptrdiff_t>(which));
    }
    EXPECT_TRUE(output);
    EXPECT_THAT(begun, testing::Each(1));
    EXPECT_THAT(running, IsEmpty());
  }
}

TEST(WorkflowNext, KnowsTheStepsThatAreCertain) {
  const auto certain = [](const Driven& run) { return certain_steps(*run.workflow, run.input, run.plan); };
  const std::string_view graph = R"({"steps": {
      "research": {"task": "text"},
      "blog": {"task": "text", "needs": ["research"], "when": {"content_type": "blog"}},
      "video": {"task": "text", "needs": ["research"], "when": {"content_type": "video", "feature": "video"}},
      "extra": {"task": "text", "when": {"input": "extra"}},
      "each": {"task": "text", "foreach": "${steps.research.output.items}"}}})";
  Driven all(graph, R"({"extra": true})");
  EXPECT_THAT(certain(all), ElementsAre(0U, 1U, 3U));
  all.plan.features["video"] = true;
  EXPECT_THAT(certain(all), ElementsAre(0U, 1U, 2U, 3U));
  Driven some(graph, R"({"content_types": ["video"]})");
  EXPECT_THAT(certain(some), ElementsAre(0U));
  some.plan.features["video"] = true;
  some.plan.content_types = {"blog"};
  EXPECT_THAT(certain(some), ElementsAre(0U));
}

}  // namespace
}  // namespace turnpike::policy
