// Calls over OpenAI's wire: the client's bytes there, the upstream's bytes back, and what an upstream may do
// wrong.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <memory>

#include "contract/provider/harness.h"
#include "contract/provider/scripted_server.h"
#include "net/client.h"
#include "provider/provider_kinds.h"

namespace turnpike::provider::test {
namespace {

using policy::FailureClass;
using std::chrono::milliseconds;
using Meters = std::vector<std::pair<std::string, std::int64_t>>;

// What a client would have got.
class Client final : public ReplySink {
 public:
  explicit Client(int writes_until_it_leaves = 1'000) : left_after_(writes_until_it_leaves) {}
  void head(int status, std::string content_type) override {
    ++heads;
    EXPECT_EQ(status, 200);
    type = std::move(content_type);
  }
  boost::asio::awaitable<bool> write(std::string bytes) override {
    EXPECT_EQ(heads, 1);
    EXPECT_FALSE(bytes.empty());
    if (left_after_-- <= 0) co_return false;
    text += bytes;
    co_return true;
  }
  boost::asio::awaitable<bool> spend(std::int64_t tokens) override {
    EXPECT_GE(tokens, spent);
    spent = tokens;
    co_return spent <= spend_max;
  }

  int heads = 0;
  std::string type, text;
  std::int64_t spent = 0;
  std::int64_t spend_max = 1'000'000;

 private:
  int left_after_;
};

std::string chunk(const std::string& bytes) {
  return fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes);
}

// Events as an upstream sends them; `whole`: with the end of the message.
std::string events(const std::vector<std::string>& pieces, bool whole = true) {
  std::string text =
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: "
      "chunked\r\n\r\n";
  for (const std::string& piece : pieces) text += chunk(piece);
  return whole ? text + "0\r\n\r\n" : text;
}

std::string word(const std::string& text) {
  return R"(data: {"id":"c","choices":[{"index":0,"delta":{"content":")" + text +
         R"("},"finish_reason":null}],"usage":null})" + "\n\n";
}
const std::string kStop = R"(data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]})"
                          "\n\n";
const std::string kUsage =
    R"({"id":"c","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}})";
const std::string kUsageEvent = "data: " + kUsage + "\n\n";
const std::string kDone = "data: [DONE]\n\n";
const Meters kUsed = {{"tokens_in", 7}, {"tokens_out", 2}};

// An upstream that answers everything with the same, and a provider before it.
struct Upstream {
  explicit Upstream(std::string bytes, bool hangs = false, bool closes = false)
      : server([bytes = std::move(bytes), hangs, closes](const Asked&) {
          return Reply{bytes, hangs, closes};
        }) {}

  Outcome ask(std::shared_ptr<WireCall> call, const Try& options = {}) {
    policy::Provider config;
    config.name = "upstream";
    config.kind = policy::ProviderKind::kOpenAi;
    config.base_url = server.base_url();
    config.api_key = policy::Secret{"sk-very-secret"};
    const auto provider = make_openai_provider(config, net::Client::create());
    Request request = make_request("text", "", {});
    request.model = "their-name";
    request.max_output_tokens = held;
    request.timeout = timeout;
    if (call->stream) request.sink = client;
    request.wire = std::move(call);
    return run_try(*provider, std::move(request), options);
  }

  ScriptedServer server;
  std::shared_ptr<Client> client = std::make_shared<Client>();
  std::int64_t held = 100;
  Duration timeout = std::chrono::seconds(10);
};

std::shared_ptr<WireCall> chat(std::string body, bool stream) {
  return std::make_shared<WireCall>(WireCall{.kind = Wire::kChat,
                                             .stream = stream,
                                             .model = "ours",
                                             .content_type = "application/json",
                                             .body = std::move(body)});
}
std::shared_ptr<WireCall> streamed() {
  return chat(R"({"model":"ours","stream":true,"messages":[]})", true);
}

TEST(OpenAiRelay, WhatIsAskedAndAnsweredStaysAsItCame) {
  const std::string reply =
      R"({"id":"x", "choices":[{"message":{"content":"é"}}],"odd":1.10,"usage":{"prompt_tokens":3,"completion_tokens":0}})";
  Upstream upstream(http(200, reply));
  const Outcome outcome = upstream.ask(
      chat(R"({ "model" : "ours","messages":[{"role":"user","content":"a"}],"seed":1.50,"new":{"x":[1e3]}})",
           false));
  const Success* success = as_success(outcome);
  ASSERT_NE(success, nullptr) << describe(outcome);
  EXPECT_EQ(success->output, reply);
  EXPECT_EQ(success->content_type, "application/json");
  const Meters told = {{"tokens_in", 3}, {"tokens_out", 0}};
  EXPECT_EQ(success->usage, told) << "a zero that is told is a zero";
  const auto asked = upstream.server.asked();
  ASSERT_EQ(asked.size(), 1U);
  EXPECT_EQ(asked[0].path, "/v1/chat/completions");
  EXPECT_EQ(
      asked[0].body,
      R"({"max_tokens":100, "model" : "their-name","messages":[{"role":"user","content":"a"}],"seed":1.50,"new":{"x":[1e3]}})");
  EXPECT_NE(asked[0].head.find("Bearer sk-very-secret"), std::string::npos);
}

TEST(OpenAiRelay, AStreamPassesAsItComesButForUsageAndItsEnd) {
  // Pieces end where they like.
  const std::string all = ": hello\n\n" + word("a") + word("b") + kStop + kUsageEvent + kDone;
  for (const std::size_t size : {std::size_t{1}, std::size_t{7}, all.size()}) {
    std::vector<std::string> pieces;
    for (std::size_t at = 0; at < all.size(); at += size) pieces.push_back(all.substr(at, size));
    Upstream upstream(events(pieces));
    const Outcome outcome = upstream.ask(streamed());
    const Success* success = as_success(outcome);
    ASSERT_NE(success, nullptr) << describe(outcome);
    EXPECT_EQ(upstream.client->text.substr(upstream.client->text.find("data:")),
              word("a") + word("b") + kStop);
    EXPECT_EQ(upstream.client->type, "text/event-stream");
    EXPECT_EQ(success->usage, kUsed);
    EXPECT_EQ(success->stream_end, kUsage);
    EXPECT_TRUE(success->output.empty());
    EXPECT_NE(upstream.server.asked()[0].body.find(R"("stream_options":{"include_usage":true})"),
              std::string::npos);
  }
}

TEST(OpenAiRelay, UsageBesideAnAnswerIsTakenOutOfIt) {
  const std::string last =
      R"(data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":7,"completion_tokens":2}})";
  Upstream upstream(events({last + "\n\n" + kDone}));
  const Outcome outcome = upstream.ask(streamed());
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(as_success(outcome)->usage, kUsed);
  EXPECT_EQ(
      upstream.client->text,
      "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n");
}

TEST(OpenAiRelay, AnUpstreamThatTellsNoUsageTellsNone) {
  Upstream upstream(events({word("a") + kStop + kDone}));
  const Outcome outcome = upstream.ask(streamed());
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  EXPECT_TRUE(as_success(outcome)->usage.empty());
}

TEST(OpenAiRelay, AResponsesLastEventWaits) {
  const std::string delta =
      "event: response.output_text.delta\ndata: "
      "{\"type\":\"response.output_text.delta\",\"delta\":\"a\"}\n\n";
  const std::string last =
      "event: response.completed\ndata: "
      "{\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"usage\":"
      "{\"input_tokens\":7,\"input_tokens_details\":{\"cached_tokens\":4},\"output_tokens\":2}}}\n\n";
  Upstream upstream(events({delta, last}));
  auto call =
      std::make_shared<WireCall>(WireCall{.kind = Wire::kResponses,
                                          .stream = true,
                                          .model = "ours",
                                          .content_type = "application/json",
                                          .body = R"({"model":"ours","input":"x","max_output_tokens":500})"});
  const Outcome outcome = upstream.ask(call);
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(upstream.client->text, delta);
  EXPECT_EQ(as_success(outcome)->stream_end, last);
  const Meters told = {{"tokens_in", 7}, {"tokens_cached", 4}, {"tokens_out", 2}};
  EXPECT_EQ(as_success(outcome)->usage, told);
  EXPECT_EQ(upstream.server.asked()[0].body, R"({"model":"their-name","input":"x","max_output_tokens":100})")
      << "no more is sent than is held";
}

TEST(OpenAiRelay, AClientThatLeavesIsReadOnForItsUsage) {
  Upstream upstream(events({word("a"), word("b"), word("c"), kStop + kUsageEvent + kDone}));
  upstream.client = std::make_shared<Client>(0);
  const Outcome outcome = upstream.ask(streamed());
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(as_success(outcome)->usage, kUsed);
}

TEST(OpenAiRelay, AStreamIsCutWhereNothingMoreIsToBeHad) {
  Upstream upstream(events({word(std::string(400, 'x'))}, false), true);
  upstream.client->spend_max = 50;
  const Outcome outcome = upstream.ask(streamed());
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  EXPECT_TRUE(as_success(outcome)->usage.empty()) << "what was held is what is known";
  EXPECT_EQ(upstream.client->text, "") << "what could not be held is not passed on";
}

struct Fault {
  const char* name;
  std::string bytes;
  FailureClass failure;
  int heads;  // 1: the client had begun to get an answer
};

class OpenAiFault : public testing::TestWithParam<Fault> {};

TEST_P(OpenAiFault, IsClassifiedOnce) {
  Upstream upstream(GetParam().bytes, false, true);
  const Outcome outcome = upstream.ask(streamed());
  const Failure* failure = as_failure(outcome);
  ASSERT_NE(failure, nullptr) << describe(outcome);
  EXPECT_EQ(failure->failure, GetParam().failure) << failure->message;
  EXPECT_EQ(upstream.client->heads, GetParam().heads);
  EXPECT_EQ(failure->message.find("sk-very"), std::string::npos);
  EXPECT_EQ(upstream.client->text.find("<html>"), std::string::npos) << "garbage is nobody's answer";
}

const std::string kErrorEvent =
    "data: {\"error\":{\"message\":\"out of memory, sk-very-secret\",\"code\":500}}\n\n";

INSTANTIATE_TEST_SUITE_P(
    Upstreams, OpenAiFault,
    testing::Values(
        Fault{"ErrorFirst", events({kErrorEvent}), FailureClass::kTransient, 0},
        Fault{"ErrorMidway", events({word("a"), kErrorEvent}), FailureClass::kTransient, 1},
        Fault{"BreaksOff", events({word("a")}, false), FailureClass::kTransient, 1},
        Fault{"EndsEarly", events({word("a")}), FailureClass::kTransient, 1},
        Fault{"Empty", events({}), FailureClass::kTransient, 0},
        Fault{"Garbage", events({"data: <html>\n\n"}), FailureClass::kBadOutput, 0},
        Fault{"NoEvents", events({"<html>\n\n"}), FailureClass::kBadOutput, 0},
        Fault{"NoEventsMidway", events({word("a"), "<html>\n\n"}), FailureClass::kBadOutput, 1},
        Fault{"HalfAJson", events({word("a"), "data: {\"choices\":[\n\n"}), FailureClass::kBadOutput, 1},
        Fault{"EndlessEvent", events({word("a"), "data: " + std::string(2U << 20U, 'x')}),
              FailureClass::kBadOutput, 1},
        Fault{"NoStream", http(200, R"({"choices":[]})"), FailureClass::kBadOutput, 0},
        Fault{"Redirect", "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
              FailureClass::kMisconfigured, 0},
        Fault{
            "ShorterThanItSays",
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 5000\r\n\r\n" + word("a"),
            FailureClass::kTransient, 1},
        Fault{"LongerThanWeRead",
              "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 200000000\r\n\r\n" +
                  word("a"),
              FailureClass::kBadOutput, 0},
        Fault{"Overloaded", http(429, R"({"error":{"message":"slow down"}})"), FailureClass::kRateLimited, 0},
        Fault{"Refused", http(401, R"({"error":{"message":"sk-very-secret"}})"), FailureClass::kMisconfigured,
              0},
        Fault{"Down", http(503, "<html>"), FailureClass::kTransient, 0}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(OpenAiRelay, ASilentStreamEndsWithinItsTime) {
  Upstream upstream(events({word("a")}, false), true);
  upstream.timeout = milliseconds(300);
  const Outcome outcome = upstream.ask(streamed());
  ASSERT_NE(as_failure(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(as_failure(outcome)->failure, FailureClass::kTimeout);
  EXPECT_FALSE(as_failure(outcome)->billed.has_value());
}

TEST(OpenAiRelay, ARunningStreamCanBeStopped) {
  Upstream upstream(events({word("a")}, false), true);
  Try options{.cancel = CancelAt::kWhenReady, .ready = [&] { return upstream.server.hanging() == 1; }};
  const Outcome outcome = upstream.ask(streamed(), options);
  EXPECT_TRUE(std::holds_alternative<Cancelled>(outcome)) << describe(outcome);
}

TEST(OpenAiRelay, WhatIsWrongWithAnInputIsSaidInTheUpstreamsWords) {
  const std::string words =
      R"({"error":{"message":"no such tool","type":"invalid_request_error","param":"tools"}})";
  Upstream upstream(http(400, words));
  for (const bool stream : {false, true}) {
    const Outcome outcome = upstream.ask(stream ? streamed() : chat(R"({"model":"ours"})", false));
    ASSERT_NE(as_failure(outcome), nullptr) << describe(outcome);
    EXPECT_EQ(as_failure(outcome)->failure, FailureClass::kInvalidInput);
    EXPECT_EQ(as_failure(outcome)->reply, words);
    EXPECT_EQ(as_failure(outcome)->reply_status, 400);
  }
}

TEST(OpenAiRelay, AFormsFilesStayAsTheyAre) {
  const std::string sound("RIFF\0\r\n--x\xff", 12);
  const auto form = [&sound](const std::string& model) {
    return "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n" + sound +
           "\r\n--b\r\ncontent-disposition: form-data; name=model\r\n\r\n" + model + "\r\n--b--\r\n";
  };
  Upstream upstream(http(200, R"({"text":"hello","usage":{"type":"duration","seconds":8.5}})"));
  const Outcome outcome =
      upstream.ask(std::make_shared<WireCall>(WireCall{.kind = Wire::kTranscriptions,
                                                       .model = "ours",
                                                       .content_type = "multipart/form-data; boundary=b",
                                                       .body = form("ours")}));
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  const Meters told = {{"audio_ms", 8500}};
  EXPECT_EQ(as_success(outcome)->usage, told);
  EXPECT_EQ(upstream.server.asked()[0].body, form("their-name"));
  EXPECT_NE(upstream.server.asked()[0].head.find("boundary=b\r\n"), std::string::npos);
}

TEST(OpenAiRelay, SoundIsAReplyAsItIs) {
  const std::string sound("ID3\0\xff", 5);
  Upstream upstream("HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: 5\r\n\r\n" + sound);
  const Outcome outcome = upstream.ask(
      std::make_shared<WireCall>(WireCall{.kind = Wire::kSpeech,
                                          .model = "ours",
                                          .content_type = "application/json",
                                          .body = R"({"model":"ours","input":"hi","voice":"alloy"})"}));
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  EXPECT_EQ(as_success(outcome)->output, sound);
  EXPECT_EQ(as_success(outcome)->content_type, "audio/mpeg");
}

TEST(OpenAiRelay, PicturesAreCounted) {
  Upstream upstream(
      http(200, R"({"created":1,"data":[{"b64_json":"aa"},{"b64_json":"bb"}],"size":"10x20"})"));
  const Outcome outcome = upstream.ask(
      std::make_shared<WireCall>(WireCall{.kind = Wire::kImages,
                                          .model = "ours",
                                          .content_type = "application/json",
                                          .body = R"({"model":"ours","prompt":"a fox","n":2})"}));
  ASSERT_NE(as_success(outcome), nullptr) << describe(outcome);
  const Meters told = {{"images", 2}, {"pixels", 400}};
  EXPECT_EQ(as_success(outcome)->usage, told);
}

}  // namespace
}  // namespace turnpike::provider::test
