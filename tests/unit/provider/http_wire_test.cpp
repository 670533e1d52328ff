#include "provider/http_wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "provider/json_text.h"

namespace turnpike::provider {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;

HttpExpansion expansion(const std::string& input, const std::string& answer = "null") {
  Request request;
  request.input = input;
  request.model = "the-model";
  auto made = HttpExpansion::make(request);
  EXPECT_TRUE(made);
  made->set_answer(boost::json::parse(answer));
  return std::move(*made);
}

policy::HttpTask task_with(const std::string& json) {
  policy::HttpTask task;
  task.request.path = "/x";
  task.request.json = json;
  return task;
}

const HttpUpstream kUpstream{.base_url = "https://api.example.com/v2", .auth = {}, .key = "k"};

// The body that a template becomes, or the field at fault.
std::string body_of(const std::string& json, const std::string& input) {
  const auto task = parse_http_task(task_with(json));
  if (!task) return "mistake: " + task.error().message;
  const auto message = expansion(input).make_request(task->request, kUpstream);
  return message ? message->body : "refused " + message.error().param;
}

TEST(HttpWire, FieldsKeepTheirTypeWhereTheyStandAlone) {
  const std::string input =
      R"({"n":5,"f":1.5,"b":true,"l":[1,2],"o":{"a":1},"t":"7","none":null,"empty":""})";
  EXPECT_EQ(
      body_of(R"({"a":"${input.n}","b":"${input.b}","c":"${input.l}","d":"${input.o}","e":"${input.t}"})",
              input),
      R"({"a":5,"b":true,"c":[1,2],"d":{"a":1},"e":"7"})");
  EXPECT_EQ(body_of(R"({"a":"n=${input.n}","b":"${input.b}!","c":"${input.l} "})", input),
            R"({"a":"n=5","b":"true!","c":"[1,2] "})");
  // What a filter has made a number is one, whatever it was.
  EXPECT_EQ(body_of(R"({"a":"${input.t|int(1..9)}","b":"${input.f|number(0..2)}","c":"${input.x|int:-12}"})",
                    input),
            R"({"a":7,"b":1.5E0,"c":12})");
  EXPECT_EQ(body_of(R"({"a":"${input.n|one(5,6)}","b":"${model}","c":1,"d":[null,true]})", input),
            R"({"a":"5","b":"the-model","c":1,"d":[null,true]})");
}

TEST(HttpWire, WhatIsAbsentIsLeftOutWithItsField) {
  EXPECT_EQ(body_of(R"({"a":"${input.x?}","b":["${input.x?}",1],"c":{"d":"${input.x?}"},"e":{}})", "{}"),
            R"({"b":[1],"e":{}})");
  EXPECT_EQ(body_of(R"({"a":"${input.x?}"})", R"({"x":null})"), "{}");
  EXPECT_EQ(body_of(R"({"a":"${input.x}"})", "{}"), "refused input.x");
  EXPECT_EQ(body_of(R"({"a":"${input.x|int(1..2)}"})", R"({"x":3})"), "refused input.x");
}

TEST(HttpWire, NoValueOfAUserIsATemplateOrBreaksOutOfItsText) {
  EXPECT_EQ(body_of(R"({"a":"${input.x}"})", R"({"x":"${model}\",\"b\":\"1"})"),
            R"({"a":"${model}\",\"b\":\"1"})");
}

TEST(HttpWire, BodiesAreBounded) {
  const std::string large(kHttpBodyBytesMax / 5, 'x');
  EXPECT_EQ(
      body_of(
          R"({"a":"${input.x}","b":"${input.x}","c":"${input.x}","d":"${input.x}","e":"${input.x}","f":"${input.x}"})",
          R"({"x":")" + large + R"("})"),
      "refused input");
}

TEST(HttpWire, HeadersArePlainTextAndTheKeyHasItsOwn) {
  policy::HttpTask config = task_with("");
  config.request.headers = {{"X-Voice", "${input.v}"}, {"X-Maybe", "${input.m?}"}};
  const auto task = parse_http_task(config);
  ASSERT_TRUE(task);
  const auto message = expansion(R"({"v":"anna"})").make_request(task->request, kUpstream);
  ASSERT_TRUE(message);
  EXPECT_THAT(message->headers, ElementsAre(Pair("X-Voice", "anna"), Pair("Authorization", "Bearer k")));
  EXPECT_EQ(message->url, "https://api.example.com/v2/x");
  EXPECT_EQ(message->body, "");
  const auto split = expansion(R"({"v":"a\r\nX-Evil: 1"})").make_request(task->request, kUpstream);
  ASSERT_FALSE(split);
  EXPECT_EQ(split.error().code, ErrorCode::kInvalidRequest);
}

TEST(HttpWire, AddressesOfAnAnswerAreOnTheSameServer) {
  EXPECT_TRUE(is_same_server("https://a.com/x", "https://a.com"));
  EXPECT_TRUE(is_same_server("https://a.com:8443?x", "https://a.com:8443/v1"));
  EXPECT_TRUE(is_same_server("https://a.com", "https://a.com/v1"));
  for (const char* other : {"http://a.com/x", "https://a.com.evil/x", "https://a.com@evil/x",
                            "https://a.com:1/x", "https://evil/https://a.com/", "//a.com/x", ""})
    EXPECT_FALSE(is_same_server(other, "https://a.com/v1")) << other;
}

TEST(HttpWire, FollowUpsGoWhereTheAnswerSays) {
  policy::HttpTask config = task_with("");
  policy::HttpPoll& poll = config.poll.emplace();
  poll.request = {.method = "GET", .path = "", .url_at = "urls.status", .headers = {}, .json = ""};
  poll.result = policy::HttpRequest{
      .method = "GET", .path = "/r/${answer.id}", .url_at = "", .headers = {}, .json = ""};
  const auto task = parse_http_task(config);
  ASSERT_TRUE(task);
  const auto good = expansion("{}", R"({"id":"a/b","urls":{"status":"https://api.example.com/s"}})");
  EXPECT_EQ(good.make_request(task->poll->request, kUpstream)->url, "https://api.example.com/s");
  EXPECT_EQ(good.make_request(*task->poll->result, kUpstream)->url, "https://api.example.com/v2/r/a%2Fb");
  for (const char* answer : {"{}", R"({"urls":{"status":5}})", R"({"urls":{"status":"https://evil/s"}})"}) {
    const auto bad = expansion("{}", answer).make_request(task->poll->request, kUpstream);
    ASSERT_FALSE(bad) << answer;
    EXPECT_EQ(bad.error().code, ErrorCode::kUpstreamError);
  }
}

TEST(HttpWire, TemplatesWithMistakesAreNoTask) {
  EXPECT_EQ(body_of(R"({"a":["${inptu.x}"]})", "{}").substr(0, 8), "mistake:");
  policy::HttpTask outside;
  outside.request.path = "no-slash";
  EXPECT_FALSE(parse_http_task(outside));
}

TEST(HttpWire, ConditionsLookAtTextsNumbersAndBooleans) {
  const auto is = [](const char* answer, std::vector<std::string> words) {
    return holds({.at = {"a", "0"}, .is = std::move(words)}, boost::json::parse(answer));
  };
  EXPECT_TRUE(is(R"({"a":["done"]})", {"x", "done"}));
  EXPECT_TRUE(is(R"({"a":[true]})", {"true"}));
  EXPECT_TRUE(is(R"({"a":[3]})", {"3"}));
  EXPECT_FALSE(is(R"({"a":[]})", {"done"}));
  EXPECT_FALSE(is(R"({"a":[null]})", {"null"}));
  EXPECT_FALSE(is(R"("a")", {"done"}));
}

TEST(HttpWire, UsageComesFromWhereTheConfigurationSays) {
  policy::HttpTask task;
  const auto usage = [](const char* meter) {
    policy::HttpUsage each;
    each.meter = meter;
    return each;
  };
  task.usage = {usage("audio_ms"),  usage("images"),   usage("characters"),
                usage("tokens_in"), usage("video_ms"), usage("tokens_out")};
  task.usage[0].at = "seconds";
  task.usage[0].times = 1000;
  task.usage[1].at = "pictures";
  task.usage[2].characters_of = "text";
  task.usage[3].header = "X-Tokens";
  task.usage[4].value = 5000;
  task.usage[5].at = "nowhere";
  Success success;
  success.usage = {{"images", 99}, {"pixels", 4}, {"tokens_out", 3}};
  apply_usage(task, expansion(R"({"text":"Grüße"})"),
              boost::json::parse(R"({"seconds":1.2345,"pictures":[1,2]})"), {{"x-tokens", "17"}}, success);
  EXPECT_THAT(success.usage,
              ElementsAre(Pair("pixels", 4), Pair("tokens_out", 3), Pair("audio_ms", 1235), Pair("images", 2),
                          Pair("characters", 5), Pair("tokens_in", 17), Pair("video_ms", 5000)));
  success.usage.clear();
  apply_usage(task, expansion("{}"), boost::json::parse(R"({"seconds":-1,"pictures":"many"})"),
              {{"x-tokens", "x"}}, success);
  EXPECT_THAT(success.usage, ElementsAre(Pair("characters", 0), Pair("video_ms", 5000)));
}

TEST(HttpWire, OutputHasTheFieldsThatTheAnswerHas) {
  policy::HttpTask task;
  task.output = {{"text", "choices.0.text"}, {"seed", "seed"}};
  EXPECT_EQ(boost::json::serialize(output_of(task, boost::json::parse(R"({"choices":[{"text":"a"}]})"))),
            R"({"text":"a"})");
}

TEST(HttpWire, DataUrlsAreFiles) {
  const auto data = read_data_url("data:image/png;base64,QUJD");
  ASSERT_TRUE(data);
  EXPECT_EQ(data->mime, "image/png");
  EXPECT_EQ(data->bytes, "ABC");
  EXPECT_FALSE(read_data_url("data:image/png;base64,QUJ"));
  EXPECT_FALSE(read_data_url("data:text/plain,abc"));
  EXPECT_FALSE(read_data_url("https://a/;base64,QUJD"));
}

TEST(JsonText, ReadsBase64WithItsPadding) {
  EXPECT_EQ(decode_base64("QQ=="), "A");
  EXPECT_EQ(decode_base64("QUI="), "AB");
  EXPECT_EQ(decode_base64("QUJD"), "ABC");
  for (const char* bad : {"", "QQ", "Q===", "QQ==QUJD", "Q Q=", "Q*JD"})
    EXPECT_EQ(decode_base64(bad), std::nullopt) << bad;
}

}  // namespace
}  // namespace turnpike::provider
