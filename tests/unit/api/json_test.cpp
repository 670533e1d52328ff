#include "api/json.h"

#include <gtest/gtest.h>

#include <boost/json/monotonic_resource.hpp>
#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/string.hpp>

namespace turnpike::api {
namespace {

std::string refusal(std::string_view text) {
  const auto parsed = parse_json(text, {});
  if (parsed) return "accepted";
  EXPECT_EQ(parsed.error().code, ErrorCode::kInvalidRequest);
  return parsed.error().message;
}

TEST(Json, ReadsWhatIsWritten) {
  boost::json::monotonic_resource memory;
  const auto parsed =
      parse_json(R"( {"a":[1,2.5,"x\u00e9\n",null,true],"b":{"c":-9223372036854775808}} )", &memory);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(boost::json::serialize(*parsed),
            "{\"a\":[1,2.5E0,\"x\xc3\xa9\\n\",null,true],\"b\":{\"c\":-9223372036854775808}}");
}

TEST(Json, ReadsTextsLongerThanItsBuffers) {
  const std::string longer(100'000, 'x');
  const auto parsed = parse_json("{\"" + longer + "\":\"" + longer + "\"}", {});
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->at(longer).get_string(), longer);
}

TEST(Json, SaysWhereASyntaxErrorIs) {
  EXPECT_NE(refusal("{\"task\":").find("not valid JSON"), std::string::npos);
  EXPECT_NE(refusal("{} x").find("at byte 4"), std::string::npos) << refusal("{} x");
  EXPECT_NE(refusal(""), "accepted");
  EXPECT_NE(refusal("{'a':1}"), "accepted");
  EXPECT_NE(refusal("[1,]"), "accepted");
  EXPECT_NE(refusal("NaN"), "accepted");
  EXPECT_NE(refusal("/* */ {}"), "accepted");
}

TEST(Json, RefusesNamesGivenTwiceAtAnyDepth) {
  EXPECT_NE(refusal(R"({"a":1,"b":2,"a":3})").find("`a` is given twice"), std::string::npos);
  EXPECT_NE(refusal(R"({"x":[{"deep":{"n":1,"n":1}}]})").find("`n` is given twice"), std::string::npos);
  EXPECT_EQ(refusal(R"({"a":{"a":{"a":1}},"b":{"a":1}})"), "accepted");
}

TEST(Json, RefusesANameGivenTwiceInTwoSpellings) {
  EXPECT_NE(refusal(R"({"a":1,"\u0061":2})").find("given twice"), std::string::npos);
}

TEST(Json, RefusesNulInTextsAndNames) {
  EXPECT_NE(refusal(R"({"a":"b\u0000c"})").find("NUL"), std::string::npos);
  EXPECT_NE(refusal(R"({"a\u0000":1})").find("NUL"), std::string::npos);
}

TEST(Json, RefusesInvalidUtf8AndLoneSurrogates) {
  EXPECT_NE(refusal("{\"a\":\"\xff\"}"), "accepted");
  EXPECT_NE(refusal("{\"\xc3\":1}"), "accepted");
  EXPECT_NE(refusal("{\"a\":\"\xc0\xaf\"}"), "accepted");
  EXPECT_NE(refusal(R"({"a":"\ud800"})"), "accepted");
  EXPECT_NE(refusal(R"({"a":"\udc00\ud800"})"), "accepted");
}

TEST(Json, RefusesWhatNestsTooDeep) {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_EQ(refusal(nested(kJsonDepthMax)), "accepted");
  EXPECT_NE(refusal(nested(kJsonDepthMax + 1)).find("levels deep"), std::string::npos);
  EXPECT_NE(refusal(nested(10'000)).find("levels deep"), std::string::npos);
}

TEST(Json, QuotesSoThatAParserReadsTheSame) {
  std::string all;
  for (int c = 0; c < 0x80; ++c) all += static_cast<char>(c);
  all += "\xe2\x82\xac \xf0\x9f\x90\x87";
  EXPECT_EQ(boost::json::parse(quote(all)).get_string(), all);
}

}  // namespace
}  // namespace turnpike::api
