#include "policy/workflow_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <string>
#include <vector>

namespace turnpike::policy {
namespace {

namespace json = boost::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

std::shared_ptr<const WorkflowTemplate> parsed(std::string_view text) {
  auto out = WorkflowTemplate::parse(json::parse(text), [&](const WorkflowTemplate::Mistake& mistake) {
    ADD_FAILURE() << text << ": " << mistake.where << ": " << mistake.message;
  });
  return out;
}

// "where: message" of each.
std::vector<std::string> mistakes_of(const json::value& value) {
  std::vector<std::string> found;
  const auto out = WorkflowTemplate::parse(value, [&](const WorkflowTemplate::Mistake& mistake) {
    found.push_back(mistake.where + ": " + mistake.message);
  });
  EXPECT_EQ(out == nullptr, !found.empty());
  return found;
}
std::string mistake_of(std::string_view text) {
  const auto found = mistakes_of(json::value(json::string(text)));
  return found.size() == 1 ? found.front() : "not one mistake but " + std::to_string(found.size());
}

// What steps `one` (a single job), `many` (three jobs) and `none` (an empty list) made, and a run's input.
struct Made {
  json::value input = json::parse(R"({"a": 1, "t": "x", "none": null, "list": [1, 2], "empty": [],
    "deep": {"names": ["p", "q"]}, "chapters": [{"s": [{"n": 1}, {"n": 2}]}, {"s": []}, {"s": [{"n": 3}]}],
    "some": [{"v": 1}, {}, {"v": 3}]})");
  json::value one = json::parse(R"({"text": "hello", "n": 2.5, "yes": true})");
  std::vector<json::value> many{json::parse(R"({"id": "a"})"), json::parse(R"({"id": "b"})"),
                                json::parse(R"({"id": "c"})")};
  json::value artifact = json::parse(R"({"id": "art_1", "mime": "image/png", "bytes": 7})");
  json::value item = json::parse(R"({"text": "of item", "at": [5, 6]})");
  WorkflowScope::Step one_step{.list = false, .outputs = {&one}, .artifacts = {&artifact, &artifact}};
  WorkflowScope::Step many_step{.list = true, .outputs = {&many[0], &many[1], &many[2]}};
  WorkflowScope::Step none_step{.list = true};
  WorkflowScope scope;

  Made() {
    scope.input = &input.get_object();
    scope.item = &item;
    scope.index = 4;
    scope.step = [this](std::string_view name) -> const WorkflowScope::Step* {
      if (name == "one") return &one_step;
      if (name == "many") return &many_step;
      if (name == "none") return &none_step;
      return nullptr;
    };
  }
  Made(const Made&) = delete;
};

// As JSON; "!" and the message; "-" where it is left out.
std::string expanded(std::string_view text, std::size_t bytes = WorkflowTemplate::kExpandedBytesMax) {
  const Made made;
  const auto out = parsed(text)->expand(made.scope, bytes);
  if (!out) {
    EXPECT_EQ(out.error().code, ErrorCode::kUnprocessable);
    return "!" + out.error().message;
  }
  return *out ? json::serialize(**out) : "-";
}

TEST(WorkflowTemplate, KeepsTheTypeOfASoleReference) {
  EXPECT_EQ(expanded(R"("${input.a}")"), "1");
  EXPECT_EQ(expanded(R"("${input.list}")"), "[1,2]");
  EXPECT_EQ(expanded(R"("${steps.one.output.n}")"), "2.5E0");
  EXPECT_EQ(expanded(R"("${steps.one.output.yes}")"), "true");
  EXPECT_EQ(expanded(R"("${input.deep}")"), R"({"names":["p","q"]})");
  EXPECT_EQ(expanded(R"("${index}")"), "4");
  EXPECT_EQ(expanded(R"("${item.at.1}")"), "6");
  EXPECT_THAT(expanded(R"("${input}")"), HasSubstr(R"("a":1)"));
}

TEST(WorkflowTemplate, WritesValuesWithinText) {
  EXPECT_EQ(expanded(R"("${input.t}-${input.a}: ${input.list}")"), R"("x-1: [1,2]")");
  EXPECT_EQ(expanded(R"("job ${index}")"), R"("job 4")");
  EXPECT_EQ(expanded(R"("$${input.t} costs $5")"), R"("${input.t} costs $5")");
  EXPECT_EQ(expanded(R"("größer: ${input.t} ✓")"), R"("größer: x ✓")");
}

TEST(WorkflowTemplate, LeavesWhatIsNoTextAsItStands) {
  EXPECT_EQ(expanded(R"({"a": 1, "b": null, "c": [true, 2.5], "d": {}})"),
            R"({"a":1,"b":null,"c":[true,2.5E0],"d":{}})");
}

TEST(WorkflowTemplate, WalksLists) {
  EXPECT_EQ(expanded(R"("${steps.many.output}")"), R"([{"id":"a"},{"id":"b"},{"id":"c"}])");
  EXPECT_EQ(expanded(R"("${steps.many.output.*.id}")"), R"(["a","b","c"])");
  EXPECT_EQ(expanded(R"("${steps.many.output.1.id}")"), R"("b")");
  EXPECT_EQ(expanded(R"("${steps.one.artifacts.*.id}")"), R"(["art_1","art_1"])");
  EXPECT_EQ(expanded(R"("${steps.one.artifacts.0.bytes}")"), "7");
  EXPECT_EQ(expanded(R"("${input.chapters.*.s.*.n}")"), "[1,2,3]");
  EXPECT_EQ(expanded(R"("${input.deep.names.*}")"), R"(["p","q"])");
  EXPECT_EQ(expanded(R"("${steps.none.output}")"), "[]");
  EXPECT_EQ(expanded(R"("${steps.none.output.*.id}")"), "[]");
}

TEST(WorkflowTemplate, NamesWhatIsNotThere) {
  EXPECT_EQ(expanded(R"("${input.b}")"), "!`input.b` is not there");
  EXPECT_EQ(expanded(R"("${input.none}")"), "!`input.none` is not there");
  EXPECT_EQ(expanded(R"("${input.a.b.c}")"), "!`input.a.b.c` is not there");
  EXPECT_EQ(expanded(R"("${input.list.2}")"), "!`input.list.2` is not there");
  EXPECT_EQ(expanded(R"("${input.list.x}")"), "!`input.list.x` is not there");
  EXPECT_EQ(expanded(R"("${input.t.*}")"), "!`input.t.*` is not there");
  EXPECT_EQ(expanded(R"("${input.deep.*.x}")"), "!`input.deep.*.x` is not there");
  EXPECT_EQ(expanded(R"("${steps.skipped.output}")"), "!`steps.skipped.output` is not there");
  EXPECT_EQ(expanded(R"("${steps.many.artifacts.0}")"), "!`steps.many.artifacts.0` is not there");
  EXPECT_EQ(expanded(R"("${input.some.*.v}")"), "!`input.some.1.v` is not there");
}

TEST(WorkflowTemplate, TakesTheDefaultWhereSomethingIsNotThere) {
  EXPECT_EQ(expanded(R"("${input.b:-3}")"), "3");
  EXPECT_EQ(expanded(R"("${input.b:-\"3\"}")"), R"("3")");
  EXPECT_EQ(expanded(R"("${input.b:-a word}")"), R"("a word")");
  EXPECT_EQ(expanded(R"("${input.b:-}")"), R"("")");
  EXPECT_EQ(expanded(R"("${steps.skipped.output.*.id:-[]}")"), "[]");
  EXPECT_EQ(expanded(R"("${input.some.*.v:-0}")"), "[1,0,3]");
  EXPECT_EQ(expanded(R"("in ${input.b:-\"3\"} ${input.t:-y}")"), R"("in 3 x")");
}

TEST(WorkflowTemplate, LeavesOutWhatIsOptional) {
  EXPECT_EQ(expanded(R"("${input.b?}")"), "-");
  EXPECT_EQ(expanded(R"({"a": "${input.b?}", "c": "${input.a?}"})"), R"({"c":1})");
  EXPECT_EQ(expanded(R"(["${input.b?}", "${steps.skipped.artifacts?}", "x"])"), R"(["x"])");
  EXPECT_EQ(expanded(R"("${input.some.*.v?}")"), "[1,3]");
}

TEST(WorkflowTemplate, BoundsWhatIsMade) {
  EXPECT_THAT(expanded(R"({"a": "${input.chapters}"})", 40),
              HasSubstr("!what is made of the templates is more"));
  Made made;
  made.input.get_object()["long"] = std::string(600'000, 'x');
  made.scope.input = &made.input.get_object();
  std::size_t left = 100U << 20;
  EXPECT_TRUE(parsed(R"({"a": "${input.long}"})")->expand(made.scope, left));
  EXPECT_FALSE(parsed(R"({"a": "${input.long}", "b": "- ${input.long}"})")->expand(made.scope, left));
}

TEST(WorkflowTemplate, BoundsHowDeepWhatIsMadeIs) {
  json::value deep = 1;
  for (int i = 0; i < 60; ++i) deep = json::array{deep};
  Made made;
  made.input.get_object()["deep"] = deep;
  std::size_t left = WorkflowTemplate::kExpandedBytesMax;
  EXPECT_TRUE(parsed(R"([["${input.deep}"]])")->expand(made.scope, left));
  const auto refused = parsed(R"([[[[["${input.deep}"]]]]])")->expand(made.scope, left);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr("nested more than 64 deep"));
}

TEST(WorkflowTemplate, SaysWhatIsWrongAndAtWhichCharacter) {
  EXPECT_EQ(mistake_of("ab ${input.x"), ": `${` at character 4 has no `}`");
  EXPECT_THAT(mistake_of("a ${inptu.x}"), HasSubstr("`inptu.x` is not known: a reference is item, index"));
  EXPECT_THAT(mistake_of("a ${inptu.x}"), HasSubstr("(at character 3)"));
  EXPECT_THAT(mistake_of("${env:KEY}"), HasSubstr("`env:KEY` is no path"));
  EXPECT_THAT(mistake_of("${}"), HasSubstr("`` is no path"));
  EXPECT_THAT(mistake_of("${input..x}"), HasSubstr("is no path"));
  EXPECT_THAT(mistake_of("${input.ü}"), HasSubstr("is no path"));
  EXPECT_THAT(mistake_of("${input.a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q.r}"), HasSubstr("is no path"));
  EXPECT_THAT(mistake_of("${steps.a.result}"), HasSubstr("`steps.a.result` cannot exist"));
  EXPECT_THAT(mistake_of("${steps.a}"), HasSubstr("`steps.a` cannot exist"));
  EXPECT_THAT(mistake_of("${index.x}"), HasSubstr("index is a number"));
  EXPECT_THAT(mistake_of("a ${input.x?}"), HasSubstr("`?` at character 3 leaves the whole field out"));
}

TEST(WorkflowTemplate, TellsWhereEachMistakeIs) {
  EXPECT_THAT(mistakes_of(json::parse(R"({"a": {"b": ["x", "${y}"]}, "c": "${"})")),
              ElementsAre(HasSubstr("a.b[1]: `y` is not known"), HasSubstr("c: `${` at character 1")));
}

TEST(WorkflowTemplate, IsBounded) {
  std::string text;
  for (int i = 0; i < 257; ++i) text += "${input.a}";
  EXPECT_THAT(mistake_of(text), HasSubstr("has more than 256 references"));
  EXPECT_THAT(mistake_of(std::string(70'000, 'a')), HasSubstr("may be at most 65536 bytes"));
  json::value deep = "x";
  for (int i = 0; i < 10'000; ++i) deep = json::array{std::move(deep)};
  EXPECT_THAT(mistakes_of(deep), ElementsAre(HasSubstr("is nested more than 16 deep")));
}

TEST(WorkflowTemplate, ListsItsReferencesInOrder) {
  const auto out = parsed(R"({"a": "${input.x} ${steps.s.output}", "b": [1, "${item}"]})");
  std::vector<std::string> uses;
  for (const auto& [where, reference] : out->uses()) uses.push_back(where + "=" + reference->name());
  EXPECT_THAT(uses, ElementsAre("a=input.x", "a=steps.s.output", "b[1]=item"));
  EXPECT_EQ(out->sole_reference(), nullptr);
  ASSERT_NE(parsed(R"("${item.*.x}")")->sole_reference(), nullptr);
  EXPECT_EQ(parsed(R"("${item.*.x}")")->sole_reference()->name(), "item.*.x");
  EXPECT_THAT(*parsed(R"({"p": "${input.x}", "q": "${item?}"})")->names_of_references(),
              ElementsAre("p", "q"));
  EXPECT_FALSE(parsed(R"({"p": "${input.x}", "q": "text"})")->names_of_references());
}

}  // namespace
}  // namespace turnpike::policy
