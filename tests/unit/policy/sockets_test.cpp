// What the configuration says of WebSockets: server.limits and server.origins.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "unit/policy/bad_file.h"

namespace turnpike::policy {
namespace {

constexpr const char* kListen = "listen: 127.0.0.1:8080";

std::string server_with(const std::string& lines) {
  return std::string(kListen) + "\n  " + lines;
}

TEST(Sockets, HaveBoundsWithoutAWord) {
  const Loaded loaded = load_sample(std::string(kSample));
  ASSERT_NE(loaded.policy, nullptr);
  const Server& server = loaded.policy->server;
  EXPECT_EQ(server.sockets_max, 5'000U);
  EXPECT_EQ(server.sockets_per_account, 100U);
  EXPECT_EQ(server.socket_subscriptions_max, 100U);
  EXPECT_EQ(server.socket_message_bytes_max, 16U << 10);
  EXPECT_TRUE(server.origins.empty());
}

TEST(Sockets, AreBoundedAsTheFileSays) {
  const Loaded loaded = load_sample(sample_with(
      kListen, server_with("limits: {sockets: 1, sockets_per_account: 2, socket_subscriptions: 3, "
                           "socket_message_bytes: 4KiB}\n  origins: [\"https://app.example\", "
                           "\"http://localhost:3000\", \"http://[::1]:3000\", \"*\"]")));
  ASSERT_NE(loaded.policy, nullptr) << to_string(loaded.mistakes.front());
  const Server& server = loaded.policy->server;
  EXPECT_EQ(server.sockets_max, 1U);
  EXPECT_EQ(server.sockets_per_account, 2U);
  EXPECT_EQ(server.socket_subscriptions_max, 3U);
  EXPECT_EQ(server.socket_message_bytes_max, 4U << 10);
  EXPECT_THAT(server.origins,
              testing::ElementsAre("https://app.example", "http://localhost:3000", "http://[::1]:3000", "*"));
}

TEST(Sockets, AnOriginThatIsNoneIsRefused) {
  for (const std::string origin : {"app.example", "https://App.example", "https://app.example/", "https://",
                                   "ftp://app.example", "https://*.example"}) {
    EXPECT_THAT(
        mistakes_of(sample_with(kListen, server_with("origins: [\"" + origin + "\"]"))),
        testing::ElementsAre("t.yaml:3:13: server.origins[0]: must be an origin in lower case, such as "
                             "https://app.example or http://localhost:3000, or \"*\""))
        << origin;
  }
}

class BadSockets : public testing::TestWithParam<BadFile> {};

TEST_P(BadSockets, AreRefusedWithWhatWouldBeRight) {
  EXPECT_THAT(mistakes_of(sample_with(GetParam().from, GetParam().to)),
              testing::ElementsAre(GetParam().expected));
}

INSTANTIATE_TEST_SUITE_P(
    Server, BadSockets,
    testing::Values(
        BadFile{"NoSubscriptions", kListen, "listen: 127.0.0.1:8080\n  limits: {socket_subscriptions: 0}",
                "t.yaml:3:34: server.limits.socket_subscriptions: must be a whole number from 1 to 10000"},
        BadFile{"MessagesTooSmall", kListen, "listen: 127.0.0.1:8080\n  limits: {socket_message_bytes: 10}",
                "t.yaml:3:34: server.limits.socket_message_bytes: must be a size such as 512KiB, 25MB or "
                "64MiB, from 1KiB to 1MiB"},
        BadFile{"EndpointAtItsPath", "defaults:\n",
                "endpoints:\n  - {path: /api/ws, task: speech}\ndefaults:\n",
                "t.yaml:26:12: endpoints[0].path: is a path of Turnpike's own: choose another"}),
    name_of);

}  // namespace
}  // namespace turnpike::policy
