// The section telemetry: off unless it is there, its secrets by reference, its mistakes with what would be
// right.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "unit/policy/bad_file.h"

namespace turnpike::policy {
namespace {

constexpr const char* kStore = "store: {kind: sqlite}";

std::string with(const std::string& otlp) {
  return std::string(kStore) + "\ntelemetry: {otlp: {" + otlp + "}}";
}

PolicyPtr loaded(const std::string& otlp) {
  return load_sample(sample_with(kStore, with(otlp))).policy;
}

TEST(Telemetry, IsOffUnlessItIsThere) {
  EXPECT_FALSE(load_sample(std::string(kSample)).policy->otlp);
  EXPECT_FALSE(load_sample(sample_with(kStore, std::string(kStore) + "\ntelemetry: {}")).policy->otlp);
}

TEST(Telemetry, OfACollectorOnlyItsAddressIsNeeded) {
  const PolicyPtr policy = loaded("endpoint: \"http://127.0.0.1:4318\"");
  ASSERT_TRUE(policy && policy->otlp);
  EXPECT_EQ(policy->otlp->endpoint, "http://127.0.0.1:4318");
  EXPECT_EQ(policy->otlp->sample_permille, 1000U);
  EXPECT_EQ(policy->otlp->service_name, "turnpike");
  EXPECT_TRUE(policy->otlp->headers.empty());
}

TEST(Telemetry, HeadersHaveTheirSecretsByReferenceAndWordsBeforeThem) {
  const PolicyPtr policy = loaded(
      "endpoint: \"https://collector.example/otlp\", sample: 2.5%, service_name: gateway, headers: "
      "{Authorization: \"Bearer ${env:CLOUD_KEY}\", x-team: \"${env:CLOUD_KEY}\"}");
  ASSERT_TRUE(policy && policy->otlp);
  EXPECT_EQ(policy->otlp->sample_permille, 25U);
  EXPECT_EQ(policy->otlp->service_name, "gateway");
  ASSERT_EQ(policy->otlp->headers.size(), 2U);
  EXPECT_EQ(policy->otlp->headers[0].first, "Authorization");
  EXPECT_EQ(policy->otlp->headers[0].second.reveal(), "Bearer " + std::string(kSecret));
  EXPECT_EQ(policy->otlp->headers[1].second.reveal(), kSecret);
}

class BadTelemetry : public testing::TestWithParam<BadFile> {};

TEST_P(BadTelemetry, IsRefusedWithWhatWouldBeRight) {
  EXPECT_THAT(mistakes_of(sample_with(GetParam().from, GetParam().to)),
              testing::ElementsAre(testing::HasSubstr(GetParam().expected)));
}

const std::string kEndpoint = "endpoint: \"http://127.0.0.1:4318\"";
const std::string kLiteral =
    "telemetry.otlp.headers.Authorization: write ${env:NAME} or ${file:PATH}, with words before it where "
    "they "
    "are wanted (Bearer ${env:NAME}): a secret never stands in the configuration itself";

INSTANTIATE_TEST_SUITE_P(
    Telemetry, BadTelemetry,
    testing::Values(
        BadFile{"NoEndpoint", kStore, with("sample: 10%"), "telemetry.otlp: `endpoint` is missing"},
        BadFile{"NoAddress", kStore, with("endpoint: \"127.0.0.1:4318\""),
                "telemetry.otlp.endpoint: must be http://HOST:PORT or https://HOST:PORT of the collector"},
        BadFile{"UserInTheAddress", kStore, with("endpoint: \"http://me:secret@127.0.0.1:4318\""),
                "telemetry.otlp.endpoint: must be http://HOST:PORT"},
        BadFile{"WholePath", kStore, with("endpoint: \"http://127.0.0.1:4318/v1/traces\""),
                "telemetry.otlp.endpoint: is without /v1/traces, which is added to it"},
        BadFile{"SampleWithoutPercent", kStore, with(kEndpoint + ", sample: 0.1"), "telemetry.otlp.sample: "},
        BadFile{"SampleOfMoreThanAll", kStore, with(kEndpoint + ", sample: 101%"), "telemetry.otlp.sample: "},
        BadFile{"LiteralSecret", kStore, with(kEndpoint + ", headers: {Authorization: sk-very-secret-value}"),
                kLiteral},
        BadFile{"LiteralSecretAfterWords", kStore,
                with(kEndpoint + ", headers: {Authorization: \"Bearer sk-very-secret-value\"}"), kLiteral},
        BadFile{"MoreBehindTheSecret", kStore,
                with(kEndpoint + ", headers: {Authorization: \"${env:CLOUD_KEY} and more\"}"), kLiteral},
        BadFile{"SecretThatIsNotThere", kStore,
                with(kEndpoint + ", headers: {Authorization: \"Bearer ${env:NO_SUCH_KEY}\"}"),
                "telemetry.otlp.headers.Authorization: environment variable NO_SUCH_KEY is not set"},
        BadFile{"OwnHeader", kStore, with(kEndpoint + ", headers: {Content-Type: \"${env:CLOUD_KEY}\"}"),
                "telemetry.otlp.headers.Content-Type: is written by Turnpike itself: leave it out"},
        BadFile{"NameOfAHeader", kStore, with(kEndpoint + ", headers: {\"x:y\": \"${env:CLOUD_KEY}\"}"),
                "telemetry.otlp.headers.x:y: the name of a header has letters, digits, - and _ only"},
        BadFile{"UnknownKey", kStore, with(kEndpoint + ", protocol: grpc"),
                "telemetry.otlp: unknown key `protocol`"},
        BadFile{"UnknownSection", kStore, std::string(kStore) + "\ntelemetry: {zipkin: {}}",
                "telemetry: unknown key `zipkin`"}),
    name_of);

}  // namespace
}  // namespace turnpike::policy
