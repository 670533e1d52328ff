#include "api/fields.h"

#include <gtest/gtest.h>

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>

namespace turnpike::api {
namespace {

boost::json::object object(std::string_view text) {
  return boost::json::parse(text).get_object();
}

TEST(Fields, GivesWhatIsThere) {
  const auto body = object(R"({"t":"x","i":5,"n":1.5,"b":false,"o":{},"a":[1],"w":"red"})");
  Mistakes mistakes;
  Fields fields(body, "", mistakes);
  EXPECT_EQ(fields.text("t", 1, 5), "x");
  EXPECT_EQ(fields.integer("i", 0, 9), 5);
  EXPECT_EQ(fields.number("n", 0, 9), 1.5);
  EXPECT_EQ(fields.boolean("b"), false);
  EXPECT_NE(fields.object("o"), nullptr);
  EXPECT_NE(fields.array("a", 1, 1), nullptr);
  EXPECT_EQ(fields.word("w", {"red", "blue"}), "red");
  fields.finish();
  EXPECT_FALSE(mistakes.any());
}

TEST(Fields, TakesNullAsAbsent) {
  const auto body = object(R"({"t":null})");
  Mistakes mistakes;
  Fields fields(body, "", mistakes);
  EXPECT_FALSE(fields.text("t", 1, 5));
  EXPECT_FALSE(mistakes.any());
  fields.require("t");
  EXPECT_TRUE(mistakes.any());
}

TEST(Fields, NamesTheFieldAndWhatWouldBeRight) {
  const auto body = object(R"({"t":5,"i":"x","f":1.5,"w":"green"})");
  Mistakes mistakes;
  Fields fields(body, "input.", mistakes);
  (void)fields.text("t", 1, 5);
  (void)fields.integer("i", 1, 3);
  (void)fields.integer("f", 1, 3);
  (void)fields.word("w", {"red", "blue"});
  const Error error = mistakes.error();
  EXPECT_EQ(error.param, "input.t");
  EXPECT_EQ(
      error.message,
      "`input.t` must be a text, not a number; `input.i` must be a whole number from 1 to 3, not a text; "
      "`input.f` must be a whole number from 1 to 3, not a fraction; `input.w` must be one of red, blue");
}

TEST(Fields, KeepsToItsBounds) {
  const auto body = object(R"({"t":"abc","e":"","i":4,"n":-0.1,"a":[1,2,3],"u":18446744073709551615})");
  Mistakes mistakes;
  Fields fields(body, "", mistakes);
  EXPECT_FALSE(fields.text("t", 1, 2));
  EXPECT_FALSE(fields.text("e", 1, 2));
  EXPECT_FALSE(fields.integer("i", 1, 3));
  EXPECT_FALSE(fields.number("n", 0, 1));
  EXPECT_EQ(fields.array("a", 1, 2), nullptr);
  EXPECT_FALSE(fields.integer("u", 0, 10));
  EXPECT_NE(mistakes.error().message.find("and 1 more"), std::string::npos);
}

TEST(Fields, AsksWhetherATypoWasMeantToBeAKnownField) {
  const auto body = object(R"({"priorty":1})");
  Mistakes mistakes;
  Fields fields(body, "", mistakes);
  (void)fields.integer("priority", 0, 5);
  (void)fields.text("task", 1, 5);
  fields.finish();
  EXPECT_EQ(mistakes.error().param, "priorty");
  EXPECT_EQ(mistakes.error().message, "unknown field `priorty`: did you mean `priority`?");
}

TEST(Fields, ShowsALongUnknownNameCutBetweenCharacters) {
  std::string name;
  for (int i = 0; i < 100; ++i) name += "\xe2\x82\xac";
  boost::json::object body;
  body[name] = 1;
  Mistakes mistakes;
  Fields fields(body, "", mistakes);
  fields.finish();
  const std::string param = mistakes.error().param;
  EXPECT_EQ(param.size(), 63 + std::string_view("…").size());
}

TEST(Fields, SaysThatADocumentedFieldIsNotThereYet) {
  const auto body = object(R"({"webhook_url":"https://example.com"})");
  Mistakes mistakes;
  Fields fields(body, "", mistakes);
  fields.not_yet("webhook_url");
  fields.finish();
  EXPECT_EQ(mistakes.error().message, "`webhook_url` is not available yet: leave it out");
}

}  // namespace
}  // namespace turnpike::api
