#include "base/json_walk.h"

#include <gtest/gtest.h>

#include "base/multipart.h"

namespace turnpike {
namespace {

bool is_json(std::string_view text) {
  JsonVisitor nobody;
  return !walk_json(text, nobody);
}

TEST(JsonWalk, TakesWhatIsJsonAndNothingElse) {
  for (const std::string_view good :
       {"{}", " [ ] ", R"({"a":[1,-0,2.5,1e9,1.5E-3],"b":"\u00e9\\\"\n","c":{"d":null},"e":true})", "\"x\"",
        "0", "[[[]],{}]"}) {
    EXPECT_TRUE(is_json(good)) << good;
  }
  for (const std::string_view bad :
       {"",     "{",     "{}}",         "{\"a\"}", "{\"a\":}",    "{\"a\":1,}", "{a:1}",
        "[1,]", "[1 2]", "01",          "1.",      ".5",          "+1",         "1e",
        "nul",  "tru",   "\"a",         "\"\\x\"", "\"\\u12g4\"", "\"a\nb\"",   "{\"a\":1 \"b\":2}",
        "NaN",  "'a'",   "{\"a\":1}//", "-",       "\"\\"}) {
    EXPECT_FALSE(is_json(bad)) << bad;
  }
  // Every place of a character that ends a plain text, with every distance to a word's edge.
  for (std::size_t before = 0; before < 20; ++before) {
    const std::string quote =
        '"' + std::string(before, 'a') + "\\\"" + std::string(20 - before, '\x7f') + '"';
    EXPECT_TRUE(is_json(quote));
    EXPECT_FALSE(is_json('"' + std::string(before, 'a') + '\x1f' + std::string(20, 'b') + '"'));
    EXPECT_TRUE(is_json('"' + std::string(before, '\xc3') + " !#[]" + '"'));
  }
}

TEST(JsonWalk, DepthIsBounded) {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(is_json(nested(kJsonWalkDepthMax)));
  EXPECT_FALSE(is_json(nested(kJsonWalkDepthMax + 1)));
}

TEST(JsonWalk, MembersAreWhereTheyStand) {
  const std::string text = R"( { "a" : "x" , "b":[1, 2],"c":{"a":2},"d":-7,"e":null} )";
  const auto members = json_members(text);
  ASSERT_TRUE(members);
  ASSERT_EQ(members->size(), 5U);
  for (const JsonMember& member : *members) {
    EXPECT_EQ(text.substr(member.value_begin, member.end() - member.value_begin), member.value);
    EXPECT_EQ(text.substr(member.begin + 1, member.name.size()), member.name);
  }
  EXPECT_EQ(find_member(*members, "a")->plain_text(), "x");
  EXPECT_EQ(find_member(*members, "b")->value, "[1, 2]");
  EXPECT_EQ(find_member(*members, "d")->whole(), -7);
  EXPECT_TRUE(find_member(*members, "e")->is_null());
  EXPECT_EQ(find_member(*members, "f"), nullptr);
  EXPECT_FALSE(json_members("[]"));
  EXPECT_FALSE(json_members(""));
}

TEST(FormParts, AreTakenApartInPlace) {
  const std::string body =
      "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b\r\n"
      "X: y\r\ncontent-disposition: form-data; filename=\"f;g\"; name=\"b\"\r\n\r\n\r\n--c\r\n\r\n--b--";
  const auto parts = form_parts("multipart/form-data; charset=x; boundary=b", body);
  ASSERT_TRUE(parts);
  ASSERT_EQ(parts->size(), 2U);
  EXPECT_EQ(find_part(*parts, "a")->content, "1");
  EXPECT_FALSE(find_part(*parts, "a")->is_file);
  EXPECT_TRUE(find_part(*parts, "b")->is_file);
}

TEST(FormParts, BrokenOnesAreNone) {
  EXPECT_FALSE(form_parts("application/json", "{}"));
  EXPECT_FALSE(form_parts("multipart/form-data", "--b--"));
  EXPECT_FALSE(form_parts("multipart/form-data; boundary=b",
                          "--b\r\nContent-Disposition: form-data\r\n\r\n\r\n--b--"));
  EXPECT_FALSE(form_parts("multipart/form-data; boundary=b",
                          "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b"));
  EXPECT_TRUE(form_parts("multipart/form-data; boundary=b", "--b--"));
}

}  // namespace
}  // namespace turnpike
