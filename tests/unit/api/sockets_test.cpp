#include "api/sockets.h"

#include <gtest/gtest.h>

#include "api/origin.h"

namespace turnpike::api {
namespace {

TEST(Sockets, AreBoundedForEachAccountAndInAll) {
  Sockets sockets;
  auto first = sockets.take(AccountId{1}, 2, 4);
  const auto second = sockets.take(AccountId{1}, 2, 4);
  const auto third = sockets.take(AccountId{1}, 2, 4);
  ASSERT_TRUE(first && second);
  ASSERT_FALSE(third);
  EXPECT_EQ(third.error().code, ErrorCode::kConcurrencyLimited);
  const auto operators = sockets.take(std::nullopt, 2, 4);
  const auto others = sockets.take(AccountId{2}, 2, 4);
  EXPECT_TRUE(operators && others);
  EXPECT_EQ(sockets.open(), 4U);
  const auto one_more = sockets.take(std::nullopt, 2, 4);
  ASSERT_FALSE(one_more);
  EXPECT_EQ(one_more.error().code, ErrorCode::kUnavailable);
  *first = nullptr;
  EXPECT_EQ(sockets.open(), 3U);
  EXPECT_TRUE(sockets.take(AccountId{1}, 2, 4)) << "a place that is given back is free";
  Buffer text;
  sockets.append_text(text);
  EXPECT_NE(to_text(text).find("turnpike_websockets_refused_total 2\n"), std::string::npos);
}

TEST(Sockets, APlaceMayOutliveThem) {
  std::shared_ptr<const void> place;
  {
    Sockets sockets;
    place = *sockets.take(AccountId{1}, 1, 1);
  }
  place.reset();
}

TEST(Origin, ThePageOfTheServersOwnHostMayOpenASocket) {
  EXPECT_TRUE(origin_allowed("http://localhost:8080", "localhost:8080", {}));
  EXPECT_TRUE(origin_allowed("https://app.example", "app.example", {}));
  EXPECT_TRUE(origin_allowed("https://app.example", "app.example:443", {}));
  EXPECT_TRUE(origin_allowed("HTTP://App.Example:80", "app.example", {}));
}

TEST(Origin, OthersMayWhereTheyAreNamed) {
  const std::vector<std::string> allowed{"https://app.example", "http://localhost:3000"};
  EXPECT_TRUE(origin_allowed("https://app.example", "api.example", allowed));
  EXPECT_TRUE(origin_allowed("https://app.example:443", "api.example", allowed));
  EXPECT_TRUE(origin_allowed("http://localhost:3000", "api.example", allowed));
  EXPECT_FALSE(origin_allowed("http://app.example", "api.example", allowed)) << "another scheme";
  EXPECT_FALSE(origin_allowed("https://app.example:8443", "api.example", allowed)) << "another port";
  EXPECT_FALSE(origin_allowed("https://evil.example", "api.example", allowed));
  EXPECT_FALSE(origin_allowed("https://app.example.evil.example", "api.example", allowed));
  EXPECT_TRUE(origin_allowed("https://evil.example", "api.example", {"*"}));
}

TEST(Origin, WhatIsNoOriginIsNobodys) {
  for (const char* origin : {"null", "", "app.example", "file://"})
    EXPECT_FALSE(origin_allowed(origin, "app.example", {"https://app.example"})) << origin;
}

}  // namespace
}  // namespace turnpike::api
