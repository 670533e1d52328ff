#include "provider/upstream_failure.h"

#include <gtest/gtest.h>

namespace turnpike::provider {
namespace {

using policy::FailureClass;
using std::chrono::seconds;

net::ClientResponse answer(int status, const std::string& body, net::Headers headers = {}) {
  return {.status = status, .headers = std::move(headers), .body = body};
}

FailureClass class_of(int status, const std::string& body = "{}") {
  return classify_refusal(answer(status, body), "").failure;
}

TEST(UpstreamFailure, StatusesOfAnthropicAreReadAsTheirDocumentationMeansThem) {
  const auto body = [](const std::string& type) {
    return R"({"type":"error","error":{"type":")" + type + R"(","message":"m"},"request_id":"req_1"})";
  };
  EXPECT_EQ(class_of(400, body("invalid_request_error")), FailureClass::kInvalidInput);
  EXPECT_EQ(class_of(401, body("authentication_error")), FailureClass::kMisconfigured);
  EXPECT_EQ(class_of(402, body("billing_error")), FailureClass::kMisconfigured);
  EXPECT_EQ(class_of(403, body("permission_error")), FailureClass::kMisconfigured);
  EXPECT_EQ(class_of(404, body("not_found_error")), FailureClass::kMisconfigured);
  EXPECT_EQ(class_of(413, body("request_too_large")), FailureClass::kInvalidInput);
  EXPECT_EQ(class_of(429, body("rate_limit_error")), FailureClass::kRateLimited);
  EXPECT_EQ(class_of(500, body("api_error")), FailureClass::kTransient);
  EXPECT_EQ(class_of(504, body("timeout_error")), FailureClass::kTimeout);
  EXPECT_EQ(class_of(529, body("overloaded_error")), FailureClass::kTransient);
}

TEST(UpstreamFailure, MoneyThatIsMissingUpstreamIsNotTriedAgain) {
  EXPECT_EQ(class_of(429, R"({"error":{"code":"insufficient_quota"}})"), FailureClass::kMisconfigured);
  EXPECT_EQ(class_of(429, R"({"error":{"code":null,"type":"insufficient_quota"}})"),
            FailureClass::kMisconfigured);
  EXPECT_EQ(class_of(400, R"({"error":{"message":"Your credit balance is too low to access the API."}})"),
            FailureClass::kMisconfigured);
}

TEST(UpstreamFailure, WaitsAreTakenFromTheAnswer) {
  const Failure busy = classify_refusal(answer(529, "{}", {{"Retry-After", "12"}}), "");
  EXPECT_EQ(busy.retry_after, Duration{seconds(12)});
  EXPECT_EQ(
      classify_refusal(answer(529, "{}", {{"retry-after", "Tue, 2 Jun 2026 10:00:00 GMT"}}), "").retry_after,
      std::nullopt);
}

TEST(UpstreamFailure, WordsAreFoundWhereverUpstreamsPutThem) {
  const auto words = [](const std::string& body) { return words_of(answer(422, body)).message; };
  EXPECT_EQ(words(R"({"error":"a"})"), "a");
  EXPECT_EQ(words(R"({"error":{"message":"b"}})"), "b");
  EXPECT_EQ(words(R"({"message":"c"})"), "c");
  EXPECT_EQ(words(R"({"detail":"d"})"), "d");
  EXPECT_EQ(words(R"({"detail":{"status":"voice_not_found","message":"e"}})"), "e");
  EXPECT_EQ(words(R"({"detail":[{"loc":["body","prompt"],"msg":"f","type":"missing"}]})"), "f");
  EXPECT_EQ(words("<html>"), "");
  EXPECT_EQ(words("[]"), "");
}

TEST(UpstreamFailure, AnOperatorsTableComesFirst) {
  const StatusClasses own{{422, FailureClass::kTransient}};
  EXPECT_EQ(classify_refusal(answer(422, "{}"), "", own).failure, FailureClass::kTransient);
  EXPECT_EQ(classify_refusal(answer(423, "{}"), "", own).failure, FailureClass::kInvalidInput);
}

TEST(UpstreamFailure, KeysAreInNoMessage) {
  const Failure echoed = classify_refusal(answer(400, R"({"error":{"message":"key sk-1 is\nbad"}})"), "sk-1");
  EXPECT_EQ(echoed.message, "the upstream answered 400: key *** is bad");
  const Failure refused_key = classify_refusal(answer(401, R"({"error":{"message":"sk-1…"}})"), "sk-1234");
  EXPECT_EQ(refused_key.message, "the upstream refused our credentials (401)");
}

}  // namespace
}  // namespace turnpike::provider
