#include "api/anonymous.h"

#include <gtest/gtest.h>

#include "api/newcomers.h"
#include "api/router.h"

namespace turnpike::api {
namespace {

using std::chrono::seconds;

TEST(Anonymous, IsOneUserForEachIPv4Address) {
  EXPECT_EQ(anonymous_user("203.0.113.7:51234"), "public:203.0.113.7");
  EXPECT_EQ(anonymous_user("203.0.113.7:1"), anonymous_user("203.0.113.7:2"));
  EXPECT_EQ(anonymous_user("[::ffff:203.0.113.7]:80"), "public:203.0.113.7");
}

TEST(Anonymous, IsOneUserForEachIPv6Network) {
  EXPECT_EQ(anonymous_user("[2001:db8:0:7::1]:80"), "public:2001:db8:0:7::/64");
  EXPECT_EQ(anonymous_user("[2001:db8:0:7:ffff::9]:80"), anonymous_user("[2001:db8:0:7::1]:80"));
  EXPECT_NE(anonymous_user("[2001:db8:0:8::1]:80"), anonymous_user("[2001:db8:0:7::1]:80"));
}

TEST(Anonymous, IsNobodyWithoutAnAddress) {
  EXPECT_EQ(anonymous_user("unix"), std::nullopt);
  EXPECT_EQ(anonymous_user(""), std::nullopt);
  EXPECT_EQ(anonymous_user("localhost:80"), std::nullopt);
}

TEST(Anonymous, HasIdsThatAreValidAndToldApart) {
  for (const char* remote : {"203.0.113.7:51234", "[2001:db8:0:7::1]:80"}) {
    const auto user = anonymous_user(remote);
    ASSERT_TRUE(user);
    EXPECT_TRUE(valid_user_id(*user));
    EXPECT_TRUE(is_anonymous_user(*user));
  }
  EXPECT_FALSE(is_anonymous_user("publican"));
}

TEST(Anonymous, LooksAtNothingButWhatItMade) {
  for (const Route& route : routes()) {
    if (route.keyless) EXPECT_EQ(route.method, "GET") << route.pattern;
  }
  EXPECT_TRUE(match_route("GET", "/api/jobs/job_1").route->keyless);
  EXPECT_TRUE(match_route("GET", "/artifacts/a.png").route->keyless);
  for (const char* path : {"/api/jobs", "/api/events", "/api/ws", "/api/subscription/usage", "/v1/models"})
    EXPECT_FALSE(match_route("GET", path).route->keyless) << path;
  EXPECT_FALSE(match_route("DELETE", "/api/jobs/job_1").route->keyless);
}

TEST(Newcomers, ComeAtTheRateAndTenMinutesWorthAtOnce) {
  Newcomers newcomers;
  const Monotonic start{std::chrono::hours(5)};
  for (int i = 0; i < 600; ++i) ASSERT_EQ(newcomers.take(60, start), std::nullopt) << i;
  EXPECT_EQ(newcomers.take(60, start), seconds(1));
  EXPECT_EQ(newcomers.take(60, start), seconds(1)) << "a refusal takes nothing";
  EXPECT_EQ(newcomers.take(60, start + seconds(1)), std::nullopt);
  EXPECT_EQ(newcomers.take(60, start + seconds(1)), seconds(1));
  EXPECT_EQ(newcomers.take(60, start + std::chrono::hours(1)), std::nullopt);
}

TEST(Newcomers, WaitLongWhereTheRateIsSlow) {
  Newcomers newcomers;
  const Monotonic start{std::chrono::hours(5)};
  for (int i = 0; i < 10; ++i) ASSERT_EQ(newcomers.take(1, start), std::nullopt) << i;
  EXPECT_EQ(newcomers.take(1, start), seconds(60));
}

}  // namespace
}  // namespace turnpike::api
