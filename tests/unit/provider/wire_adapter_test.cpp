#include "provider/wire_adapter.h"

#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

namespace turnpike::provider {
namespace {

namespace json = boost::json;

WireCall call(Wire kind, std::string body, bool stream = false) {
  return WireCall{.kind = kind,
                  .stream = stream,
                  .model = "ours",
                  .content_type = "application/json",
                  .body = std::move(body)};
}
std::string input_of(Wire kind, const std::string& body) {
  const auto input = task_input(call(kind, body));
  return input ? *input : "refused " + input.error().param;
}
std::string chat(const std::string& rest) {
  return R"({"model":"ours","messages":[{"role":"user","content":"hi"}])" + rest + "}";
}

TEST(WireAdapter, AChatBecomesItsTasksInput) {
  EXPECT_EQ(json::parse(
                input_of(Wire::kChat, chat(R"(,"max_tokens":9,"temperature":1,"user":"u","userTier":"a")"))),
            json::parse(R"({"messages":[{"role":"user","content":"hi"}],"max_tokens":9,"temperature":1})"));
}

TEST(WireAdapter, WhatATaskCannotDoIsRefusedByItsName) {
  EXPECT_EQ(input_of(Wire::kChat, chat(R"(,"tools":[])")), "refused tools");
  EXPECT_EQ(input_of(Wire::kChat, chat(R"(,"n":2)")), "refused n");
  EXPECT_EQ(input_of(Wire::kChat, chat(R"(,"temperature":3)")), "refused temperature");
  EXPECT_EQ(input_of(Wire::kChat, R"({"messages":[{"role":"king","content":"x"}]})"),
            "refused messages.0.role");
  EXPECT_EQ(input_of(Wire::kChat, R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}]})"),
            "refused messages.0.content");
  EXPECT_EQ(input_of(Wire::kResponses, R"({"input":"x"})"), "refused model");
  EXPECT_EQ(input_of(Wire::kEmbeddings, R"({"input":[1,2]})"), "refused input");
}

TEST(WireAdapter, OtherOperationsBecomeTheirTasksInput) {
  EXPECT_EQ(input_of(Wire::kEmbeddings, R"({"input":"a"})"), R"({"texts":["a"]})");
  EXPECT_EQ(json::parse(input_of(Wire::kSpeech, R"({"input":"a","voice":"en","response_format":"wav"})")),
            json::parse(R"({"text":"a","voice":"en","format":"wav"})"));
  EXPECT_EQ(json::parse(input_of(Wire::kImages, R"({"prompt":"a","size":"30x40","n":1})")),
            json::parse(R"({"prompt":"a","width":30,"height":40})"));
}

Outcome reply(Wire kind, std::string output, bool stream = false) {
  Request request;
  request.job = JobId{1};
  request.wire = std::make_shared<const WireCall>(call(kind, "{}", stream));
  Success success;
  success.output = std::move(output);
  success.usage = {{"tokens_in", 3}, {"tokens_out", 4}};
  return wire_reply(request, std::move(success), 1'790'000'000);
}

TEST(WireAdapter, AnOutputBecomesAReply) {
  const Outcome outcome =
      reply(Wire::kChat, R"({"text":"say \"hi\"\n","finish_reason":"length","sandbox":true})");
  const auto body = json::parse(std::get<Success>(outcome).output);
  EXPECT_EQ(body.at("object"), "chat.completion");
  EXPECT_EQ(body.at("model"), "ours");
  EXPECT_EQ(body.at("choices").at(0).at("message").at("content"), "say \"hi\"\n");
  EXPECT_EQ(body.at("choices").at(0).at("finish_reason"), "length");
  EXPECT_EQ(body.at("usage").at("total_tokens"), 7);
  EXPECT_EQ(body.at("turnpike").at("sandbox"), true);
  const Outcome vectors = reply(Wire::kEmbeddings, R"({"embeddings":[[0.5,1]]})");
  const auto list = json::parse(std::get<Success>(vectors).output);
  EXPECT_EQ(list.at("data").at(0).at("embedding").at(0), 0.5);
  EXPECT_EQ(list.at("usage").at("prompt_tokens"), 3);
}

TEST(WireAdapter, AStreamIsOnePieceAndItsUsageWaits) {
  const Outcome outcome = reply(Wire::kChat, R"({"text":"hi"})", true);
  const Success& success = std::get<Success>(outcome);
  EXPECT_EQ(success.content_type, "text/event-stream");
  const std::string& events = success.output;
  ASSERT_TRUE(events.starts_with("data: ") && events.ends_with("\n\n"));
  const auto first = json::parse(events.substr(6, events.find("\n\n") - 6));
  EXPECT_EQ(first.at("choices").at(0).at("delta").at("content"), "hi");
  EXPECT_EQ(events.find("usage"), std::string::npos);
  EXPECT_EQ(json::parse(success.stream_end).at("usage").at("completion_tokens"), 4);
}

TEST(WireAdapter, AnOutputThatIsNoneIsABadOne) {
  EXPECT_EQ(std::get<Failure>(reply(Wire::kChat, "[]")).failure, policy::FailureClass::kBadOutput);
  EXPECT_EQ(std::get<Failure>(reply(Wire::kSpeech, "{}")).failure, policy::FailureClass::kBadOutput);
}

}  // namespace
}  // namespace turnpike::provider
