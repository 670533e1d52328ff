#include "api/origin.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace turnpike::api {
namespace {

using ::testing::IsSupersetOf;
using ::testing::Pair;

const std::vector<std::string> kAllowed{"https://app.example", "http://localhost:3000"};

net::Request asking(std::string method, net::Headers headers) {
  net::Request request;
  request.method = std::move(method);
  request.headers = std::move(headers);
  return request;
}

std::string read_by(const std::string& origin, const std::vector<std::string>& allowed) {
  net::Response response;
  let_page_read(asking("GET", {{"Origin", origin}}), allowed, response);
  const auto* page = net::find_header(response.headers, "Access-Control-Allow-Origin");
  return page != nullptr ? *page : "";
}

TEST(Origin, OnlyPagesThatAreNamedReadAnAnswer) {
  EXPECT_EQ(read_by("https://app.example", kAllowed), "https://app.example");
  EXPECT_EQ(read_by("HTTPS://APP.example:443", kAllowed), "HTTPS://APP.example:443");
  for (const char* other : {"http://app.example", "https://app.example:8443", "https://app.example.evil",
                            "https://evil.example", "null", ""})
    EXPECT_EQ(read_by(other, kAllowed), "") << other;
  EXPECT_EQ(read_by("https://evil.example", {"*"}), "https://evil.example");
}

TEST(Origin, WithoutPagesAnAnswerSaysNothingOfThem) {
  net::Response response;
  let_page_read(asking("GET", {{"Origin", "https://app.example"}}), {}, response);
  EXPECT_TRUE(response.headers.empty());
  // With some, a cache in front keeps answers to pages apart, also those to none.
  let_page_read(asking("GET", {}), kAllowed, response);
  EXPECT_THAT(response.headers, ::testing::ElementsAre(Pair("Vary", "Origin")));
}

TEST(Origin, ABrowserThatAsksFirstIsToldWhatItMaySend) {
  const auto told = preflight(
      asking("OPTIONS", {{"Origin", "https://app.example"},
                         {"Access-Control-Request-Method", "POST"},
                         {"Access-Control-Request-Headers", "authorization,content-type, x-stainless-lang"}}),
      kAllowed);
  ASSERT_TRUE(told);
  EXPECT_EQ(told->status, 204);
  EXPECT_THAT(
      told->headers,
      IsSupersetOf({Pair("Access-Control-Allow-Methods", "GET, POST, PUT, PATCH, DELETE"),
                    Pair("Access-Control-Allow-Headers", "authorization,content-type, x-stainless-lang")}));
}

TEST(Origin, WhatIsNoSuchQuestionIsNotAnsweredAsOne) {
  const net::Headers page{{"Origin", "https://app.example"}, {"Access-Control-Request-Method", "POST"}};
  EXPECT_TRUE(preflight(asking("OPTIONS", page), kAllowed));
  EXPECT_FALSE(preflight(asking("POST", page), kAllowed));
  EXPECT_FALSE(preflight(asking("OPTIONS", page), {}));
  EXPECT_FALSE(preflight(asking("OPTIONS", {page.front()}), kAllowed));
  EXPECT_FALSE(preflight(asking("OPTIONS", {{"Origin", "https://evil.example"}, page.back()}), kAllowed));
}

TEST(Origin, NamesOfHeadersComeBackOnlyWhereTheyAreNames) {
  for (const std::string& names :
       {std::string("a\r\nX: b"), std::string("a,,b"), std::string("a b"), std::string(5'000, 'a')}) {
    const auto told = preflight(asking("OPTIONS", {{"Origin", "https://app.example"},
                                                   {"Access-Control-Request-Method", "GET"},
                                                   {"Access-Control-Request-Headers", names}}),
                                kAllowed);
    ASSERT_TRUE(told);
    EXPECT_EQ(net::find_header(told->headers, "Access-Control-Allow-Headers"), nullptr) << names;
  }
}

}  // namespace
}  // namespace turnpike::api
