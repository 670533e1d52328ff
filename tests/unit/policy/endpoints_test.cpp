// The keys `public` and `schema` of an endpoint.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <string>

#include "policy/body_schema.h"
#include "unit/policy/bad_file.h"
#include "unit/policy/sample.h"

namespace turnpike::policy {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

PolicyPtr loaded(const std::string& endpoint) {
  const Loaded result = load_sample(sample_with("defaults:\n", "endpoints:\n" + endpoint + "\ndefaults:\n"));
  for (const Mistake& mistake : result.mistakes) ADD_FAILURE() << to_string(mistake);
  return result.policy;
}

// The one mistake of an endpoint of task speech with this in it.
std::string mistake_in(const std::string& more) {
  const auto found = mistakes_of(
      sample_with("defaults:\n", "endpoints:\n  - {path: /s, task: speech, " + more + "}\ndefaults:\n"));
  EXPECT_THAT(found, testing::SizeIs(1)) << testing::PrintToString(found);
  return found.empty() ? "" : found.front();
}

TEST(PublicEndpoint, NamesThePlanOfWhoeverHasNoKey) {
  const PolicyPtr policy = loaded(R"(  - {path: /a, task: speech}
  - {path: /b, task: speech, public: free}
  - {path: /c, task: text, public: free})");
  ASSERT_TRUE(policy);
  EXPECT_EQ(policy->endpoints[0].public_plan, "");
  EXPECT_EQ(policy->endpoints[1].public_plan, "free");
  EXPECT_EQ(policy->anonymous_plan(), "free");
  EXPECT_EQ(policy->accounts.anonymous_per_minute, 60U);
  EXPECT_EQ(loaded("  - {path: /a, task: speech}")->anonymous_plan(), "");
}

TEST(PublicEndpoint, TakesThePlanThatIsThere) {
  EXPECT_THAT(mistake_in("public: fre"),
              HasSubstr("endpoints[0].public: unknown plan `fre`: did you mean `free`?"));
}

TEST(PublicEndpoint, IsOnOnePlanWithAllOthers) {
  const auto found = mistakes_of(sample_with("defaults:\n", R"(endpoints:
  - {path: /a, task: speech, public: free}
  - {path: /b, task: speech, public: pro}
defaults:
)"));
  EXPECT_THAT(found,
              ElementsAre(HasSubstr("endpoints[1].public: whoever has no key is on plan `free` already")));
}

TEST(PublicEndpoint, NeedsAPlanThatBoundsItsQueue) {
  std::string text =
      sample_with("defaults:\n", "endpoints:\n  - {path: /s, task: speech, public: free}\ndefaults:\n");
  const std::string bound = "    limits: {queue_depth: 100}\n";
  text.replace(text.find(bound), bound.size(), "    limits: {queue_depth: unlimited}\n");
  EXPECT_THAT(mistakes_of(text),
              ElementsAre(HasSubstr("endpoints[0].public: plan `free` has no limits.queue_depth")));
}

TEST(PublicEndpoint, IsNoAlias) {
  const auto found = mistakes_of(
      sample_with("defaults:\n", "endpoints:\n  - {path: /s, alias: /api/jobs, public: free}\ndefaults:\n"));
  EXPECT_THAT(
      found, ElementsAre(HasSubstr("endpoints[0].public: belongs to an endpoint with a task or a workflow")));
}

TEST(PublicEndpoint, HasAPlanThatNoRuleMovesFrom) {
  const auto found = mistakes_of(sample_with("defaults:\n", R"(endpoints:
  - {path: /a, task: speech, public: free}
rules:
  - {name: grow, from: free, to: pro, when: {meter: jobs, at_least: 5}}
defaults:
)"));
  EXPECT_THAT(found, ElementsAre(HasSubstr("rules[0].from: is the plan of whoever has no key")));
}

// --- schema

std::shared_ptr<const BodySchema> schema_of(const std::string& schema) {
  const PolicyPtr policy = loaded("  - {path: /s, task: speech, schema: " + schema + "}");
  return policy ? policy->endpoints[0].schema : nullptr;
}

// "field: message" of each misfit.
std::vector<std::string> misfits(const std::string& schema, const std::string& body) {
  const auto compiled = schema_of(schema);
  EXPECT_TRUE(compiled);
  std::vector<std::string> texts;
  if (!compiled) return texts;
  for (const auto& misfit : compiled->misfits(boost::json::parse(body)))
    texts.push_back(misfit.field + ": " + misfit.message);
  return texts;
}

const std::string kEdit =
    "{type: object, required: [prompt], anyOf: [{required: [image]}, {required: [image_url]}], "
    "additionalProperties: false, properties: {prompt: {type: string, minLength: 1, maxLength: 5}, image: "
    "{type: "
    "string}, image_url: {type: string}, operations: {type: object, properties: {quality: {type: integer, "
    "minimum: "
    "1, maximum: 80}, format: {enum: [jpeg, webp]}, scale: {type: number, exclusiveMinimum: 0.5}}}, scenes: "
    "{type: "
    "array, maxItems: 2, items: {type: object, required: [text]}}}}";

TEST(EndpointSchema, LetsAFittingBodyPass) {
  EXPECT_THAT(
      misfits(kEdit, R"({"prompt":"light","image":"art_1","operations":{"quality":80,"format":"webp"}})"),
      ElementsAre());
  EXPECT_THAT(misfits(kEdit, R"({"prompt":"größe","image_url":"https://a/b","scenes":[{"text":"x"}]})"),
              ElementsAre());
}

TEST(EndpointSchema, NamesTheFieldThatDoesNotFit) {
  const auto body = [](const std::string& more) { return R"({"image":"a","prompt":"x")" + more + "}"; };
  EXPECT_THAT(misfits(kEdit, R"({"image":"a"})"), ElementsAre("prompt: `prompt` is missing"));
  EXPECT_THAT(misfits(kEdit, R"({"prompt":"x"})"),
              ElementsAre("image: `image` is missing, or `image_url` is missing"));
  EXPECT_THAT(misfits(kEdit, R"({"prompt":7,"image":"a"})"), ElementsAre("prompt: `prompt` must be a text"));
  EXPECT_THAT(misfits(kEdit, R"({"prompt":"","image":"a"})"),
              ElementsAre("prompt: `prompt` must have at least 1 characters"));
  EXPECT_THAT(misfits(kEdit, R"({"prompt":"longer","image":"a"})"),
              ElementsAre("prompt: `prompt` must have at most 5 characters"));
  EXPECT_THAT(misfits(kEdit, body(R"(,"sied":1)")),
              ElementsAre("sied: `sied` is not a field that is known here"));
  EXPECT_THAT(misfits(kEdit, body(R"(,"operations":{"quality":81})")),
              ElementsAre("operations.quality: `operations.quality` must be at most 80"));
  EXPECT_THAT(misfits(kEdit, body(R"(,"operations":{"quality":"high"})")),
              ElementsAre("operations.quality: `operations.quality` must be a whole number"));
  EXPECT_THAT(misfits(kEdit, body(R"(,"operations":{"scale":0.5})")),
              ElementsAre("operations.scale: `operations.scale` must be greater than 0.5"));
  EXPECT_THAT(misfits(kEdit, body(R"(,"operations":{"format":"png"})")),
              ElementsAre("operations.format: `operations.format` must be one of jpeg, webp"));
  EXPECT_THAT(misfits(kEdit, body(R"(,"scenes":[{"text":"a"},{}])")),
              ElementsAre("scenes.1.text: `scenes.1.text` is missing"));
  EXPECT_THAT(misfits(kEdit, body(R"(,"scenes":[{"text":"a"},{"text":"a"},{"text":"a"}])")),
              ElementsAre("scenes: `scenes` must have at most 2 elements"));
}

TEST(EndpointSchema, KnowsAlternativesConditionsAndConstants) {
  EXPECT_THAT(misfits("{properties: {a: {const: 7}}}", R"({"a":8})"),
              ElementsAre("a: `a` must be the one value that the schema allows"));
  EXPECT_THAT(misfits("{properties: {a: {not: {type: string}}}}", R"({"a":"x"})"),
              ElementsAre("a: `a` is what the schema excludes"));
  EXPECT_THAT(misfits("{oneOf: [{required: [a]}, {required: [b]}]}", R"({"a":1,"b":1})"),
              ElementsAre("body: `body` fits more than one of what the schema tells apart"));
  EXPECT_THAT(misfits("{if: {required: [a]}, then: {required: [b]}, else: {required: [c]}}", R"({"a":1})"),
              ElementsAre("b: `b` is missing"));
  EXPECT_THAT(misfits("{properties: {a: {type: [string, \"null\"]}}}", R"({"a":1})"),
              ElementsAre("a: `a` must be a text, or null"));
  EXPECT_THAT(misfits("{properties: {a: false}}", R"({"a":1})"),
              ElementsAre("body: the body does not fit the schema of this endpoint"));
}

TEST(EndpointSchema, BearsWhateverStrangersSend) {
  const std::string numbers = "{properties: {a: {type: number, maximum: 5}, b: {enum: [1]}}}";
  EXPECT_THAT(misfits(numbers, R"({"a":18446744073709551615})"), testing::SizeIs(testing::Ge(1)));
  EXPECT_THAT(misfits(numbers, R"({"a":1e308,"b":18446744073709551615})"), testing::SizeIs(testing::Ge(2)));
  std::string many = R"({"scenes":[0)";
  for (std::size_t i = 0; i < BodySchema::kBodyValuesMax; ++i) many += ",0";
  EXPECT_THAT(misfits("{type: object}", many + "]}"),
              ElementsAre("body: the body has more than 10000 values, which is what is taken here at most"));
  const std::string long_name(300, 'n');
  const auto told = misfits("{additionalProperties: {type: string}}", "{\"" + long_name + "\":1}");
  ASSERT_THAT(told, testing::SizeIs(1));
  EXPECT_LT(told.front().size(), 200U);
}

TEST(EndpointSchema, IsUnderstoodWholeOrRefused) {
  EXPECT_THAT(
      mistake_in("schema: {type: strnig}"),
      HasSubstr("endpoints[0].schema.type: must be string, number, integer, boolean, object, array or null"));
  EXPECT_THAT(
      mistake_in("schema: {properties: {a: {maxLenght: 5}}}"),
      HasSubstr("endpoints[0].schema.properties.a: unknown key `maxLenght`: did you mean `maxLength`?"));
  EXPECT_THAT(mistake_in("schema: {properties: {a: {maxLength: -1}}}"),
              HasSubstr("endpoints[0].schema.properties.a.maxLength: must be a whole number"));
  EXPECT_THAT(mistake_in("schema: {properties: {a: {minimum: low}}}"),
              HasSubstr("endpoints[0].schema.properties.a.minimum: must be a number"));
  EXPECT_THAT(mistake_in("schema: text"), HasSubstr("endpoints[0].schema: must be a JSON Schema"));
  EXPECT_THAT(mistake_in("schema: {required: prompt}"),
              HasSubstr("endpoints[0].schema.required: must be a list"));
  EXPECT_THAT(mistake_in("schema: {required: [a, a]}"),
              HasSubstr("endpoints[0].schema.required[1]: is there twice"));
  EXPECT_THAT(mistake_in("schema: {enum: []}"),
              HasSubstr("endpoints[0].schema.enum: must have 1 to 200 values"));
  EXPECT_THAT(mistake_in("schema: {then: {type: string}}"),
              HasSubstr("endpoints[0].schema.then: stands without `if`"));
  EXPECT_THAT(mistake_in("schema: {$schema: \"https://json-schema.org/draft/2020-12/schema\"}"),
              HasSubstr("endpoints[0].schema.$schema: must be http://json-schema.org/draft-07/schema#"));
  for (const char* key : {"pattern: a", "format: uri", "$ref: \"#\"", "uniqueItems: true", "multipleOf: 2"})
    EXPECT_THAT(mistake_in("schema: {" + std::string(key) + "}"), HasSubstr("is not understood here")) << key;
}

TEST(EndpointSchema, IsBoundedInSize) {
  std::string schema = "{properties: {";
  for (int i = 0; i < 600; ++i) schema += "a" + std::to_string(i) + ": {type: string}, ";
  EXPECT_THAT(mistake_in("schema: " + schema + "z: {}}}"), HasSubstr("has more than 500 parts"));
}

}  // namespace
}  // namespace turnpike::policy
