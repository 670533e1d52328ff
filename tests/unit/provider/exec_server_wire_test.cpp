#include "provider/exec_server_wire.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "policy/policy.h"

namespace turnpike::provider {
namespace {

using policy::FailureClass;

TEST(ExecServerWire, ARequestSaysWhatATryIs) {
  Request request;
  request.try_id = TryId{7};
  request.task = "speech";
  request.model = "small";
  request.input = R"({"text":"hi"})";
  const std::string body = server_request(request, {.work_dir = "/tries/t",
                                                    .files = {{"image", "/input/t/0.png", "image/png"}},
                                                    .outputs = {{"audio", "/tries/t/a.wav", "audio/wav"}},
                                                    .timeout = std::chrono::seconds(3)});
  EXPECT_EQ(body, R"({"try":")" + to_string(request.try_id) +
                      R"(","task":"speech","model":"small","input":{"text":"hi"},)"
                      R"("files":{"image":{"path":"/input/t/0.png","mime":"image/png"}},)"
                      R"("outputs":{"audio":{"path":"/tries/t/a.wav","mime":"audio/wav"}},)"
                      R"("work_dir":"/tries/t","max_output_tokens":null,"timeout_ms":3000})");
}

TEST(ExecServerWire, FilesOfAListAreAList) {
  Request request;
  request.input = "{}";
  const std::string body = server_request(request, {.work_dir = "/w",
                                                    .files = {{"clips", "/input/t/0.ts", "video/mp2t", true},
                                                              {"clips", "/input/t/1.ts", "video/mp2t", true}},
                                                    .outputs = {},
                                                    .timeout = {}});
  EXPECT_THAT(body, testing::HasSubstr(R"("files":{"clips":[{"path":"/input/t/0.ts","mime":"video/mp2t"},)"
                                       R"({"path":"/input/t/1.ts","mime":"video/mp2t"}]},)"));
}

TEST(ExecServerWire, AnAnswerMayLeaveEverythingAway) {
  const auto answer = read_answer("{}");
  ASSERT_TRUE(answer);
  EXPECT_TRUE(answer->output.empty());
  EXPECT_TRUE(answer->usage.empty());
}

TEST(ExecServerWire, UsageIsOfKnownMetersInWholeNumbers) {
  const auto answer = read_answer(R"({"usage":{"tokens_in":0,"tokens_out":1000000000000000000}})");
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->usage.size(), 2U);
  for (const char* bad :
       {R"({"usage":{"tokens_out":1000000000000000001}})", R"({"usage":{"tokens_out":"1"}})",
        R"({"usage":{"tokens_out":null}})", R"({"usage":{"jobs":1}})", R"({"usage":[]})",
        R"({"output":null})", R"({"error":{}})", "", "{", "[]", "1"}) {
    const auto refused = read_answer(bad);
    ASSERT_FALSE(refused) << bad;
    EXPECT_TRUE(refused.error().message.starts_with("the program's answer ")) << refused.error().message;
  }
}

TEST(ExecServerWire, ARefusalIsOfTheClassThatTheProgramSays) {
  struct Case {
    int status;
    const char* body;
    FailureClass kind;
    const char* message;
  };
  for (const Case& each : std::array{
           Case{500, R"({"error":{"class":"invalid_input","message":"too long"}})",
                FailureClass::kInvalidInput, "model failed: too long"},
           Case{400, R"({"error":{"message":"see /opt/x/log"}})", FailureClass::kInvalidInput,
                "model failed: see log"},
           Case{500, R"({"error":{"class":"no such"}})", FailureClass::kTransient, "model answered 500"},
           Case{429, "busy", FailureClass::kRateLimited, "model answered 429"},
           Case{401, "", FailureClass::kMisconfigured, "model answered 401"}}) {
    const Failure refusal = read_refusal("model", {.status = each.status, .headers = {}, .body = each.body});
    EXPECT_EQ(refusal.failure, each.kind) << each.body;
    EXPECT_EQ(refusal.message, each.message);
    EXPECT_FALSE(refusal.key_refused);
  }
}

}  // namespace
}  // namespace turnpike::provider
