#include "provider/wire_body.h"

#include <gtest/gtest.h>

namespace turnpike::provider {
namespace {

std::string changed(std::string body, bool stream = false, std::int64_t limit = 0, Wire kind = Wire::kChat) {
  const WireCall call{.kind = kind,
                      .stream = stream,
                      .model = "m",
                      .content_type = "application/json",
                      .body = std::move(body)};
  const auto result =
      change_body(call, {.model = "up\"stream", .output_limit = limit, .limit_name = "max_tokens"});
  return result ? *result : "refused: " + result.error().message;
}

TEST(WireBody, OnlyTheModelChanges) {
  EXPECT_EQ(changed(R"( {"a":1.00,"model" :"m", "b":[{"model":"m"}]} )"),
            R"( {"a":1.00,"model" :"up\"stream", "b":[{"model":"m"}]} )");
}

TEST(WireBody, AnOutputLimitIsAddedOrLowered) {
  EXPECT_EQ(changed(R"({"model":"m"})", false, 9), R"({"max_tokens":9,"model":"up\"stream"})");
  EXPECT_EQ(changed(R"({"model":"m","max_tokens":8})", false, 9), R"({"model":"up\"stream","max_tokens":8})");
  EXPECT_EQ(changed(R"({"model":"m","max_tokens":10})", false, 9),
            R"({"model":"up\"stream","max_tokens":9})");
  EXPECT_EQ(changed(R"({"model":"m","max_tokens":null})", false, 9),
            R"({"model":"up\"stream","max_tokens":9})");
  EXPECT_EQ(changed(R"({"max_completion_tokens":10,"model":"m"})", false, 9),
            R"({"max_completion_tokens":9,"model":"up\"stream"})");
  EXPECT_EQ(changed(R"({"model":"m","max_tokens":10})", false, 9, Wire::kEmbeddings),
            R"({"model":"up\"stream","max_tokens":10})")
      << "an operation without such a limit has none";
}

TEST(WireBody, StreamsAreAskedForUsage) {
  const std::string tail = R"("model":"up\"stream"})";
  EXPECT_EQ(changed(R"({"model":"m"})", true), R"({"stream_options":{"include_usage":true},)" + tail);
  EXPECT_EQ(changed(R"({"stream_options":null,"model":"m"})", true),
            R"({"stream_options":{"include_usage":true},)" + tail);
  EXPECT_EQ(changed(R"({"stream_options":{},"model":"m"})", true),
            R"({"stream_options":{"include_usage":true},)" + tail);
  EXPECT_EQ(changed(R"({"stream_options":{ "include_usage":false},"model":"m"})", true),
            R"({"stream_options":{ "include_usage":true},)" + tail);
  EXPECT_EQ(changed(R"({"stream_options":{"x":1},"model":"m"})", true),
            R"({"stream_options":{"include_usage":true,"x":1},)" + tail);
  EXPECT_EQ(changed(R"({"model":"m","input":"x"})", true, 0, Wire::kResponses),
            R"({"model":"up\"stream","input":"x"})");
}

TEST(WireBody, OurOwnFieldsGoNoFurther) {
  const std::string model = R"("model":"up\"stream")";
  EXPECT_EQ(changed(R"({"userTier":"a","model":"m"})"), "{" + model + "}");
  EXPECT_EQ(changed(R"({"model":"m", "userTier":"a" , "userId":"b"})"), "{" + model + "}");
  EXPECT_EQ(changed(R"({"userId":"b","model":"m","userTier":"a","x":1})"), "{" + model + R"(,"x":1})");
  EXPECT_EQ(changed(R"({"userId":"b","model":"m","user":"a"})", false, 5),
            R"({"max_tokens":5,)" + model + R"(,"user":"a"})");
}

TEST(WireBody, AFormsModelChangesAndNothingElse) {
  const auto form = [](const std::string& model) {
    return "--x\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\nmodel\r\n--x\r\n"
           "Content-Disposition: form-data; name=\"model\"\r\n\r\n" +
           model + "\r\n--x--";
  };
  const WireCall call{.kind = Wire::kImageEdits,
                      .model = "m",
                      .content_type = "multipart/form-data; boundary=x",
                      .body = form("m")};
  EXPECT_EQ(change_body(call, {.model = "their model", .limit_name = {}}).value_or(""), form("their model"));
}

}  // namespace
}  // namespace turnpike::provider
