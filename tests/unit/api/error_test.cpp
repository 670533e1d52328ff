#include "api/error.h"

#include <gtest/gtest.h>

#include <boost/json/object.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/string.hpp>

namespace turnpike::api {
namespace {

boost::json::object error_of(const net::Response& response) {
  return boost::json::parse(std::get<std::string>(response.body)).at("error").get_object();
}

std::string header(const net::Response& response, std::string_view name) {
  const auto* value = net::find_header(response.headers, name);
  return value != nullptr ? *value : std::string();
}

Error error(ErrorCode code) {
  return fail(code, "what to do", "field").error();
}

TEST(Error, HasTheStatusOfTheTable) {
  using enum ErrorCode;
  const std::pair<ErrorCode, int> table[] = {
      {kInvalidRequest, 400},     {kInvalidApiKey, 401},       {kNotInPlan, 403},
      {kModelNotAllowed, 403},    {kLimitExceeded, 403},       {kForbidden, 403},
      {kNotFound, 404},           {kMethodNotAllowed, 405},    {kConflict, 409},
      {kTooLarge, 413},           {kUnprocessable, 422},       {kIdempotencyMismatch, 422},
      {kRateLimited, 429},        {kIdempotencyInFlight, 409}, {kQueueFull, 429},
      {kConcurrencyLimited, 429}, {kUpstreamError, 502},       {kUpstreamTimeout, 504},
      {kUnavailable, 503},
  };
  for (const auto& [code, status] : table) {
    const auto response = error_response(error(code), Wire::kOwn);
    EXPECT_EQ(response.status, status) << error_code_name(code);
    EXPECT_EQ(error_of(response).at("code").get_string(), error_code_name(code));
    EXPECT_EQ(error_of(response).at("param").get_string(), "field");
    EXPECT_FALSE(error_of(response).at("type").get_string().empty());
  }
}

TEST(Error, NeverShowsItsCause) {
  Error secret = error(ErrorCode::kIo);
  secret.cause = "/srv/secret/path";
  const auto response = error_response(secret, Wire::kOwn);
  EXPECT_EQ(response.status, 500);
  EXPECT_EQ(std::get<std::string>(response.body).find("secret"), std::string::npos);
  EXPECT_EQ(error_of(response).at("code").get_string(), "internal");
}

TEST(Error, TooFastAndUnavailableSayWhenToComeBack) {
  Error later = error(ErrorCode::kQueueFull);
  EXPECT_EQ(header(error_response(later, Wire::kOwn), "Retry-After"), "1");
  later.retry_after = std::chrono::seconds(17);
  EXPECT_EQ(header(error_response(later, Wire::kOwn), "Retry-After"), "17");
  later.retry_after = std::chrono::seconds(0);
  EXPECT_EQ(header(error_response(later, Wire::kOwn), "Retry-After"), "1");
  EXPECT_EQ(header(error_response(error(ErrorCode::kUnavailable), Wire::kOwn), "Retry-After"), "1");
  EXPECT_EQ(header(error_response(error(ErrorCode::kNotFound), Wire::kOwn), "Retry-After"), "");
}

TEST(Error, RefusalsByThePlanSayThatRetryingDoesNotHelp) {
  EXPECT_EQ(header(error_response(error(ErrorCode::kNotInPlan), Wire::kOwn), "x-should-retry"), "false");
  EXPECT_EQ(header(error_response(error(ErrorCode::kForbidden), Wire::kOwn), "x-should-retry"), "");
}

TEST(Error, AMissingKeyIsAskedForInTheHeaderThatHttpHasForIt) {
  EXPECT_EQ(header(error_response(error(ErrorCode::kInvalidApiKey), Wire::kOwn), "WWW-Authenticate"),
            "Bearer realm=\"turnpike\"");
}

TEST(Error, WearsOpenAisClothesUnderV1) {
  const auto response = error_response(error(ErrorCode::kModelNotAllowed), Wire::kOpenAi);
  EXPECT_EQ(response.status, 404);
  EXPECT_EQ(error_of(response).at("code").get_string(), "model_not_found");
  EXPECT_EQ(error_of(response).at("type").get_string(), "invalid_request_error");
  EXPECT_EQ(error_of(response).at("turnpike").at("code").get_string(), "model_not_allowed");
  const auto busy = error_response(error(ErrorCode::kQueueFull), Wire::kOpenAi);
  EXPECT_EQ(busy.status, 429);
  EXPECT_EQ(error_of(busy).at("code").get_string(), "rate_limit_exceeded");
  const auto quota = error_response(error(ErrorCode::kLimitExceeded), Wire::kOpenAi);
  EXPECT_EQ(quota.status, 429);
  EXPECT_EQ(error_of(quota).at("type").get_string(), "insufficient_quota");
  EXPECT_EQ(header(quota, "x-should-retry"), "false");
}

TEST(Error, WhatNetRefusesKeepsItsStatusAndItsClothes) {
  for (const int status : {400, 408, 413, 431, 500, 503}) {
    const auto response = transport_error(status, "too much \"of\" it");
    EXPECT_EQ(response.status, status);
    EXPECT_EQ(error_of(response).at("message").get_string(), "too much \"of\" it");
  }
  EXPECT_EQ(error_of(transport_error(413, "x")).at("code").get_string(), "too_large");
}

}  // namespace
}  // namespace turnpike::api
