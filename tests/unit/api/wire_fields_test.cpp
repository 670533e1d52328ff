#include "api/wire_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "api/router.h"

namespace turnpike::api {
namespace {

using provider::Wire;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAre;

WireFields read(Wire kind, const std::string& body) {
  auto fields = read_wire(operation_of(kind), "application/json", body);
  EXPECT_TRUE(fields) << fields.error().message;
  return fields ? *fields : WireFields{};
}

std::string chat(const std::string& rest) {
  return R"({"model":"m","messages":[{"role":"user","content":"hi"}])" + (rest.empty() ? "" : "," + rest) +
         "}";
}

TEST(WireFields, EveryOperationIsARoute) {
  std::set<std::string_view> served;
  for (const Route& route : routes()) {
    if (route.body == BodyKind::kWire) served.insert(route.pattern);
  }
  EXPECT_EQ(served.size(), operations().size());
  for (const Operation& operation : operations()) {
    EXPECT_TRUE(served.contains(operation.path)) << operation.path;
    EXPECT_EQ(&operation_of(operation.kind), operation_at(operation.path));
  }
}

TEST(WireFields, AChatIsMeasuredByWhatAModelReads) {
  const WireFields plain = read(Wire::kChat, chat(""));
  EXPECT_EQ(plain.model, "m");
  EXPECT_FALSE(plain.stream);
  EXPECT_EQ(plain.ask.messages, 1);
  EXPECT_EQ(plain.ask.choices, 1);
  EXPECT_FALSE(plain.ask.max_output_tokens);
  EXPECT_GE(plain.ask.text_bytes, 2);
  // Tools are read, too: names, descriptions and schemas.
  const std::string tool(500, 'x');
  const WireFields tools =
      read(Wire::kChat,
           chat(R"("tools":[{"type":"function","function":{"name":"f","description":")" + tool + R"("}}])"));
  EXPECT_GE(tools.ask.text_bytes, plain.ask.text_bytes + 500);
  EXPECT_TRUE(tools.ask.extras.empty());
  // What is escaped counts as what it stands for.
  const WireFields escaped =
      read(Wire::kChat, R"({"model":"m","messages":[{"role":"user","content":"\u00e9\n\u00e9"}]})");
  EXPECT_LE(escaped.ask.text_bytes, plain.ask.text_bytes + 5);
}

TEST(WireFields, TheLargestOfAllOutputLimitsIsHeld) {
  const WireFields fields = read(
      Wire::kChat,
      chat(
          R"("max_tokens":5,"max_completion_tokens":70,"n":3,"stream":true,"stream_options":{"include_usage":true})"));
  EXPECT_EQ(fields.ask.max_output_tokens, 70);
  EXPECT_EQ(fields.ask.choices, 3);
  EXPECT_TRUE(fields.stream);
  EXPECT_TRUE(fields.wants_usage);
  EXPECT_EQ(
      read(Wire::kResponses, R"({"model":"m","input":"x","max_output_tokens":9})").ask.max_output_tokens, 9);
  EXPECT_FALSE(read(Wire::kChat, chat(R"("max_tokens":null,"stream":null)")).ask.max_output_tokens);
}

TEST(WireFields, PicturesAreNotRead) {
  const std::string picture(100'000, 'A');
  const WireFields fields =
      read(Wire::kChat,
           R"({"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"what is it?"},)"
           R"({"type":"image_url","image_url":{"url":"data:image/png;base64,)" +
               picture + R"("}},{"type":"image_url","image_url":{"url":"https://a/b.png"}}]}]})");
  EXPECT_EQ(fields.ask.pictures, 2);
  EXPECT_LT(fields.ask.text_bytes, 1'000);
  // Outside of a conversation such a text is a text.
  const WireFields schema =
      read(Wire::kChat, chat(R"("tools":[{"type":"function","url":"data:)" + picture + R"("}])"));
  EXPECT_GT(schema.ask.text_bytes, 100'000);
}

TEST(WireFields, WhatCostsMoreThanTokensIsNamed) {
  const auto extras = [](const std::string& rest) { return read(Wire::kChat, chat(rest)).ask.extras; };
  EXPECT_THAT(extras(R"("web_search_options":{})"), ElementsAre("web_search_options"));
  EXPECT_THAT(extras(R"("modalities":["text","audio"],"audio":{"voice":"x"})"),
              UnorderedElementsAre("modalities", "audio"));
  EXPECT_THAT(extras(R"("service_tier":"priority")"), ElementsAre("service_tier"));
  EXPECT_THAT(extras(R"("service_tier":"auto","prediction":null)"), ElementsAre());
  EXPECT_THAT(read(Wire::kResponses,
                   R"({"model":"m","input":"x","tools":[{"type":"web_search"},{"type":"function"}]})")
                  .ask.extras,
              ElementsAre("tools.web_search"));
  EXPECT_THAT(
      read(Wire::kResponses,
           R"({"model":"m","input":[{"role":"user","content":[{"type":"input_file","file_id":"f"}]}]})")
          .ask.extras,
      ElementsAre("input_file"));
}

TEST(WireFields, OtherOperationsAreMeasuredByTheirOwn) {
  const WireFields speech =
      read(Wire::kSpeech, R"({"model":"m","input":"h\u00e9\u00e9","voice":"v","stream_format":"sse"})");
  EXPECT_EQ(speech.ask.characters, 3);
  EXPECT_TRUE(speech.stream);
  const WireFields image = read(Wire::kImages, R"({"model":"m","prompt":"fox","n":4,"size":"1024x1536"})");
  EXPECT_EQ(image.ask.choices, 4);
  EXPECT_EQ(image.ask.width, 1024);
  EXPECT_EQ(image.ask.height, 1536);
  EXPECT_FALSE(read(Wire::kImages, R"({"model":"m","prompt":"fox","size":"auto"})").ask.width);
  EXPECT_EQ(read(Wire::kCompletions, R"({"model":"m","prompt":["a","b"],"n":2,"best_of":3})").ask.choices, 6);
  EXPECT_LE(read(Wire::kEmbeddings, R"({"model":"m","input":[[1,2,3],[4,5,6]]})").ask.text_bytes, 6);
}

TEST(WireFields, AFormIsMeasuredByItsFiles) {
  const std::string head = "--b\r\nContent-Disposition: form-data; name=";
  const std::string form = head + "\"model\"\r\n\r\nm\r\n" + head +
                           "\"file\"; filename=\"a.mp3\"\r\nContent-Type: audio/mpeg\r\n\r\n" +
                           std::string(4'000, 'x') + "\r\n" + head + "\"stream\"\r\n\r\ntrue\r\n--b--\r\n";
  const auto fields =
      read_wire(operation_of(Wire::kTranscriptions), "Multipart/Form-Data; boundary=\"b\"", form);
  ASSERT_TRUE(fields) << fields.error().message;
  EXPECT_EQ(fields->model, "m");
  EXPECT_EQ(fields->ask.duration_ms, 4'000);
  EXPECT_TRUE(fields->stream);
  const auto cut = read_wire(operation_of(Wire::kTranscriptions), "multipart/form-data; boundary=b",
                             form.substr(0, form.size() - 6));
  ASSERT_FALSE(cut);
  const auto none = read_wire(operation_of(Wire::kImageEdits), "multipart/form-data; boundary=b",
                              head + "\"model\"\r\n\r\nm\r\n--b--\r\n");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().param, "image");
}

TEST(WireFields, WhoItIsForIsKept) {
  EXPECT_EQ(read(Wire::kChat, chat(R"("user":"u1","userTier" : "pro")")).identity,
            R"({"user":"u1","userTier":"pro"})");
}

struct Case {
  std::string_view name, body, param;
};
class BadWire : public testing::TestWithParam<Case> {};

TEST_P(BadWire, IsRefusedWithItsField) {
  const auto fields = read_wire(operation_of(Wire::kChat), "application/json", GetParam().body);
  ASSERT_FALSE(fields);
  EXPECT_EQ(fields.error().code, ErrorCode::kInvalidRequest);
  EXPECT_EQ(fields.error().param, GetParam().param) << fields.error().message;
}

INSTANTIATE_TEST_SUITE_P(
    Bodies, BadWire,
    testing::Values(
        Case{"Empty", "", "body"}, Case{"NoJson", "{", "body"}, Case{"AList", "[]", "body"},
        Case{"More", R"({"model":"m","messages":[{}]} x)", "body"},
        Case{"NoModel", R"({"messages":[{}]})", "model"},
        Case{"ANumber", R"({"model":1,"messages":[{}]})", "model"},
        Case{"NoMessages", R"({"model":"m"})", "messages"},
        Case{"EmptyMessages", R"({"model":"m","messages":[]})", "messages"},
        Case{"NoTokens", R"({"model":"m","messages":[{}],"max_tokens":0})", "max_tokens"},
        Case{"ManyTokens", R"({"model":"m","messages":[{}],"max_tokens":1e9})", "max_tokens"},
        Case{"Stream", R"({"model":"m","messages":[{}],"stream":1})", "stream"},
        Case{"Background", R"({"model":"m","messages":[{}],"background":true})", "background"},
        // What another parser might read otherwise.
        Case{"Twice", R"({"model":"m","messages":[{}],"model":"n"})", "model"},
        Case{"OtherCase", R"({"model":"m","messages":[{}],"Max_Tokens":7})", "Max_Tokens"},
        Case{"Escaped", R"({"model":"m","messages":[{}],"max_to\u006bens":7})", "body"},
        Case{"OptionTwice",
             R"({"model":"m","messages":[{}],"stream_options":{"include_usage":false,"include_usage":true}})",
             "stream_options.include_usage"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(WireFields, DepthIsBounded) {
  const std::string deep =
      R"({"model":"m","messages":[{}],"x":)" + std::string(100, '[') + std::string(100, ']') + "}";
  const auto fields = read_wire(operation_of(Wire::kChat), "application/json", deep);
  ASSERT_FALSE(fields);
  EXPECT_THAT(fields.error().message, HasSubstr("64 levels"));
}

}  // namespace
}  // namespace turnpike::api
