// What only Anthropic's API does, over real sockets: chats of OpenAI's wire, whole and streamed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "contract/provider/harness.h"
#include "contract/provider/scripted_server.h"
#include "net/client.h"
#include "provider/provider_kinds.h"

namespace turnpike::provider::test {
namespace {

namespace asio = boost::asio;
using policy::FailureClass;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

class RecordingSink final : public ReplySink {
 public:
  void head(int status, std::string content_type) override {
    EXPECT_TRUE(head_.empty());
    head_ = std::to_string(status) + " " + content_type;
  }
  asio::awaitable<bool> write(std::string bytes) override {
    EXPECT_FALSE(head_.empty());
    EXPECT_FALSE(bytes.empty());
    EXPECT_TRUE(bytes.ends_with("\n\n"));
    text_ += bytes;
    co_return --reads_ > 0;
  }
  asio::awaitable<bool> spend(std::int64_t output_tokens) override {
    EXPECT_GE(output_tokens, spent_);
    spent_ = output_tokens;
    co_return spent_ <= allowed_;
  }

  std::string head_;
  std::string text_;
  int reads_ = 1000;             // writes until nobody reads any more
  std::int64_t allowed_ = 1000;  // output tokens
  std::int64_t spent_ = 0;
};

constexpr std::string_view kStart =
    "event: message_start\ndata: "
    "{\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"claude\","
    "\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}}\n\n"
    "event: content_block_start\ndata: "
    "{\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":"
    "\"text\",\"text\":\"\"}}\n\n";
constexpr std::string_view kText =
    "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":"
    "\"text_delta\",\"text\":\"twelve bytes\"}}\n\n";
constexpr std::string_view kEnd =
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"
    "event: message_delta\ndata: "
    "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{"
    "\"output_tokens\":7}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
constexpr std::string_view kError =
    "event: error\ndata: "
    "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";

std::string stream_of(std::initializer_list<std::string_view> parts) {
  std::string body;
  for (const std::string_view part : parts) body += part;
  return "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: " +
         std::to_string(body.size()) + "\r\n\r\n" + body;
}

class AnthropicWire : public testing::Test {
 protected:
  Outcome call(const Reply& reply, bool streams, const std::string& chat = R"("max_tokens":50)",
               Wire kind = Wire::kChat) {
    server_ = std::make_unique<ScriptedServer>([reply](const Asked&) { return reply; });
    policy::Provider config;
    config.name = "anthropic";
    config.base_url = server_->base_url();
    config.api_key = policy::Secret{"sk-ant-very-secret"};
    const auto provider = make_anthropic_provider(config, net::Client::create());
    const TempFolder folder;
    Request request = make_request("text", "", folder.path());
    request.model = "claude";
    WireCall wire;
    wire.kind = kind;
    wire.stream = streams;
    wire.content_type = "application/json";
    wire.body = R"({"model":"ours","messages":[{"role":"user","content":"hi"}],"stream":)" +
                std::string{streams ? "true" : "false"} + "," + chat + "}";
    request.wire = std::make_shared<const WireCall>(std::move(wire));
    if (streams) request.sink = sink_;
    return run_try(*provider, std::move(request));
  }
  Asked asked() const { return server_->asked().at(0); }

  std::shared_ptr<RecordingSink> sink_ = std::make_shared<RecordingSink>();
  std::unique_ptr<ScriptedServer> server_;
};

TEST_F(AnthropicWire, AChatIsAnsweredInOpenAisShape) {
  const Outcome outcome = call(
      {http(
          200,
          R"({"id":"msg_1","type":"message","model":"claude-x","content":[{"type":"text","text":"hello"}],"stop_reason":"end_turn","usage":{"input_tokens":9,"output_tokens":2}})")},
      false);
  const Success* success = as_success(outcome);
  ASSERT_NE(success, nullptr) << describe(outcome);
  EXPECT_THAT(success->output, HasSubstr(R"("object":"chat.completion")"));
  EXPECT_THAT(success->output,
              HasSubstr(R"("message":{"role":"assistant","content":"hello","refusal":null})"));
  EXPECT_EQ(success->content_type, "application/json");
  EXPECT_THAT(success->usage, ElementsAre(Pair("tokens_in", 9), Pair("tokens_out", 2)));
  EXPECT_EQ(asked().path, "/v1/messages");
  EXPECT_EQ(
      asked().body,
      R"({"model":"claude","max_tokens":50,"messages":[{"role":"user","content":[{"type":"text","text":"hi"}]}]})");
  EXPECT_THAT(asked().head, HasSubstr("x-api-key: sk-ant-very-secret\r\n"));
  EXPECT_THAT(asked().head, HasSubstr("anthropic-version: 2023-06-01\r\n"));
}

TEST_F(AnthropicWire, WhatCannotBeKeptIsToldToTheClientAndNotSent) {
  const Outcome outcome = call({http(200, "{}")}, false, R"("seed":1)");
  ASSERT_NE(as_failure(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(as_failure(outcome)->failure, FailureClass::kInvalidInput);
  EXPECT_EQ(as_failure(outcome)->reply_status, 400);
  EXPECT_THAT(as_failure(outcome)->reply, HasSubstr(R"("param":"seed")"));
  EXPECT_TRUE(server_->asked().empty());
}

TEST_F(AnthropicWire, OtherOperationsAreNotServed) {
  const Outcome outcome = call({http(200, "{}")}, false, R"("n":1)", Wire::kEmbeddings);
  ASSERT_NE(as_failure(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(as_failure(outcome)->failure, FailureClass::kMisconfigured);
}

TEST_F(AnthropicWire, AStreamGoesToTheSink) {
  const Outcome outcome = call({stream_of({kStart, kText, kText, kEnd})}, true);
  const Success* success = as_success(outcome);
  ASSERT_NE(success, nullptr) << describe(outcome);
  EXPECT_EQ(sink_->head_, "200 text/event-stream");
  EXPECT_THAT(sink_->text_, HasSubstr(R"("delta":{"content":"twelve bytes"})"));
  EXPECT_THAT(sink_->text_, HasSubstr(R"("finish_reason":"stop")"));
  EXPECT_THAT(sink_->text_, testing::Not(HasSubstr("[DONE]")));
  EXPECT_THAT(sink_->text_, testing::Not(HasSubstr("usage")));
  EXPECT_THAT(success->usage, ElementsAre(Pair("tokens_in", 10), Pair("tokens_out", 7)));
  EXPECT_THAT(success->stream_end,
              HasSubstr(R"("choices":[],"usage":{"prompt_tokens":10,"completion_tokens":7)"));
  EXPECT_THAT(asked().body, HasSubstr(R"("stream":true)"));
  EXPECT_THAT(asked().head, HasSubstr("Accept: text/event-stream\r\n"));
}

TEST_F(AnthropicWire, AStreamIsReadToItsUsageWhenNobodyReads) {
  sink_->reads_ = 1;
  const Outcome outcome = call({stream_of({kStart, kText, kText, kEnd})}, true);
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  EXPECT_THAT(as_success(outcome)->usage, ElementsAre(Pair("tokens_in", 10), Pair("tokens_out", 7)));
}

TEST_F(AnthropicWire, AStreamIsCutWhereNothingMoreIsToBeHad) {
  sink_->allowed_ = 2;
  const Outcome outcome = call({stream_of({kStart, kText, kText})}, true);
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  EXPECT_TRUE(as_success(outcome)->usage.empty()) << "what was held is what is known";
}

TEST_F(AnthropicWire, AnErrorBeforeTheFirstByteMayBeTriedElsewhere) {
  const Outcome outcome = call({stream_of({kError})}, true);
  ASSERT_NE(as_failure(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(as_failure(outcome)->failure, FailureClass::kTransient);
  EXPECT_EQ(sink_->head_, "");
  EXPECT_TRUE(as_failure(outcome)->billed.has_value());
}

TEST_F(AnthropicWire, AnErrorMidwayEndsItAndItsBillIsNotKnown) {
  for (const std::string& reply : {stream_of({kStart, kText, kError}), stream_of({kStart, kText}),
                                   stream_of({kStart, "data: nonsense\n\n"})}) {
    sink_ = std::make_shared<RecordingSink>();
    const Outcome outcome = call({reply}, true);
    ASSERT_NE(as_failure(outcome), nullptr) << describe(outcome);
    EXPECT_EQ(sink_->head_, "200 text/event-stream");
    EXPECT_FALSE(as_failure(outcome)->billed.has_value());
  }
}

TEST_F(AnthropicWire, ARefusedStreamIsClassifiedByItsStatus) {
  const Outcome outcome =
      call({http(429, R"({"type":"error","error":{"type":"rate_limit_error","message":"m"}})",
                 "retry-after: 7\r\n")},
           true);
  ASSERT_NE(as_failure(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(as_failure(outcome)->failure, FailureClass::kRateLimited);
  EXPECT_EQ(as_failure(outcome)->retry_after, Duration{seconds(7)});
  EXPECT_EQ(sink_->head_, "");
}

}  // namespace
}  // namespace turnpike::provider::test
