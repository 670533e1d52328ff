#include "api/socket_message.h"

#include <gtest/gtest.h>

namespace turnpike::api {
namespace {

constexpr std::size_t kMax = 3;
const std::string kJob = to_string(JobId{7});
const std::string kOther = to_string(JobId{8});
const std::string kEvent = to_string(EventId{9});

Result<SocketMessage> read(std::string_view text) {
  return read_socket_message(text, kMax);
}

Error refused(std::string_view text) {
  const auto message = read(text);
  EXPECT_FALSE(message) << text;
  return message ? Error{} : message.error();
}

std::string param_of(std::string_view text) {
  const Error error = refused(text);
  EXPECT_EQ(error.code, ErrorCode::kInvalidRequest) << text;
  return error.param;
}

TEST(SocketMessage, SubscribesToJobsAndTheAccount) {
  const auto message = read(R"({"subscribe":["account",")" + kJob + R"("],"after":")" + kEvent + R"("})");
  ASSERT_TRUE(message) << message.error().message;
  EXPECT_EQ(message->what, SocketMessage::What::kSubscribe);
  EXPECT_EQ(message->subjects, (std::vector<EventFeed::Subject>{node::Subscription::Everything{}, JobId{7}}));
  EXPECT_EQ(message->after, EventId{9});
}

TEST(SocketMessage, SubscribesToRuns) {
  const auto message = read(R"({"subscribe":["run_)" + kJob.substr(4) + R"("]})");
  ASSERT_TRUE(message) << message.error().message;
  EXPECT_EQ(message->subjects, (std::vector<EventFeed::Subject>{RunId{7}}));
}

TEST(SocketMessage, Unsubscribes) {
  const auto message = read(R"({"unsubscribe":[")" + kJob + R"("]})");
  ASSERT_TRUE(message);
  EXPECT_EQ(message->what, SocketMessage::What::kUnsubscribe);
  EXPECT_EQ(message->subjects, (std::vector<EventFeed::Subject>{JobId{7}}));
}

TEST(SocketMessage, ASubjectThatIsNamedTwiceIsOne) {
  const auto message = read(R"({"subscribe":[")" + kJob + "\",\"" + kJob + "\",\"" + kOther + R"("]})");
  ASSERT_TRUE(message);
  EXPECT_EQ(message->subjects, (std::vector<EventFeed::Subject>{JobId{7}, JobId{8}}));
  EXPECT_EQ(message->places, (std::vector<std::size_t>{0, 2})) << "where it stood, for errors";
}

TEST(SocketMessage, AMistakeNamesItsField) {
  EXPECT_EQ(param_of("nonsense"), "message");
  EXPECT_EQ(param_of("[]"), "message");
  EXPECT_EQ(param_of(""), "message");
  EXPECT_EQ(param_of("{}"), "subscribe");
  EXPECT_EQ(param_of(R"({"subscribe":["account"],"unsubscribe":["account"]})"), "subscribe");
  EXPECT_EQ(param_of(R"({"subscribe":"account"})"), "subscribe");
  EXPECT_EQ(param_of(R"({"subscribe":null})"), "subscribe");
  EXPECT_EQ(param_of(R"({"subscribe":[]})"), "subscribe");
  EXPECT_EQ(param_of(R"({"subscribe":["account",5]})"), "subscribe[1]");
  EXPECT_EQ(param_of(R"({"unsubscribe":["everything"]})"), "unsubscribe[0]");
  EXPECT_EQ(param_of(R"({"subscribe":["account"],"after":"yesterday"})"), "after");
  EXPECT_EQ(param_of(R"({"subscribe":["account"],"after":5})"), "after");
  EXPECT_EQ(param_of(R"({"unsubscribe":["account"],"after":")" + kEvent + R"("})"), "after")
      << "belongs to subscribe";
  EXPECT_EQ(param_of(R"({"subscribe":["account"],"since":1})"), "since");
}

TEST(SocketMessage, WhatIsNotThereYetIsAnUnknownSubject) {
  for (const std::string prefix : {"batch_", "agent_", "acct_"}) {
    const Error error = refused(R"({"subscribe":[")" + prefix + kJob.substr(4) + R"("]})");
    EXPECT_EQ(error.param, "subscribe[0]");
    EXPECT_NE(error.message.find("\"account\" or the id of a job"), std::string::npos) << error.message;
  }
}

TEST(SocketMessage, ALongListIsRefusedForItsLength) {
  const Error error = refused(R"({"subscribe":["a","b","c","d"]})");
  EXPECT_EQ(error.code, ErrorCode::kLimitExceeded);
  EXPECT_EQ(error.param, "subscribe");
}

TEST(SocketMessage, NamesSubjectsAsTheyAreWritten) {
  EXPECT_EQ(subject_name(node::Subscription::Everything{}), "account");
  EXPECT_EQ(subject_name(RunId{7}), "run_" + kJob.substr(4));
  EXPECT_EQ(subject_name(JobId{7}), kJob);
}

}  // namespace
}  // namespace turnpike::api
