#include "base/trace_context.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace turnpike {
namespace {

constexpr const char* kTrace = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr const char* kSpan = "00f067aa0ba902b7";

struct Header {
  const char* name;
  std::string text;
  std::string as;  // what goes on; empty: it is not valid
};

void PrintTo(const Header& header, std::ostream* out) {
  *out << header.text;
}

std::string header(const std::string& version, const std::string& trace, const std::string& span,
                   const std::string& flags, const std::string& more = "") {
  return version + "-" + trace + "-" + span + "-" + flags + more;
}

class Traceparent : public testing::TestWithParam<Header> {};

// The cases of the specification's own test suite (github.com/w3c/trace-context, test/test.py).
TEST_P(Traceparent, IsReadAsTheSpecificationSays) {
  const auto read = parse_traceparent(GetParam().text);
  EXPECT_EQ(read ? traceparent(*read) : std::string(), GetParam().as);
}

const std::string kGood = header("00", kTrace, kSpan, "01");

INSTANTIATE_TEST_SUITE_P(
    W3c, Traceparent,
    testing::Values(
        Header{"Sampled", kGood, kGood},
        Header{"NotSampled", header("00", kTrace, kSpan, "00"), header("00", kTrace, kSpan, "00")},
        Header{"OtherFlags", header("00", kTrace, kSpan, "ff"), header("00", kTrace, kSpan, "ff")},
        Header{"Empty", "", ""}, Header{"VersionAlone", "00", ""},
        Header{"VersionFf", header("ff", kTrace, kSpan, "01"), ""},
        Header{"VersionUpperCase", header("CC", kTrace, kSpan, "01"), ""},
        Header{"VersionNotHex", header(".0", kTrace, kSpan, "01"), ""},
        Header{"VersionTooLong", header("000", kTrace, kSpan, "01"), ""},
        Header{"VersionTooShort", header("0", kTrace, kSpan, "01"), ""},
        Header{"LaterVersion", header("cc", kTrace, kSpan, "01"), kGood},
        Header{"LaterVersionWithMore", header("cc", kTrace, kSpan, "01", "-what-the-future-is-like"), kGood},
        Header{"LaterVersionWithoutADash", header("cc", kTrace, kSpan, "01", ".what-the-future"), ""},
        Header{"LaterVersionWithLongFlags", header("cc", kTrace, kSpan, "010"), ""},
        Header{"MoreThanThisVersionHas", header("00", kTrace, kSpan, "01", "-more"), ""},
        Header{"ADashTooMany", header("00", kTrace, kSpan, "01", "-"), ""},
        Header{"TraceAllZero", header("00", std::string(32, '0'), kSpan, "01"), ""},
        Header{"TraceUpperCase", header("00", "4BF92F3577B34DA6A3CE929D0E0E4736", kSpan, "01"), ""},
        Header{"TraceNotHex", header("00", ".bf92f3577b34da6a3ce929d0e0e4736", kSpan, "01"), ""},
        Header{"TraceTooLong", header("00", std::string(kTrace) + "1", kSpan, "01"), ""},
        Header{"TraceTooShort", header("00", "4bf92f3577b34da6a3ce929d0e0e473", kSpan, "01"), ""},
        Header{"SpanAllZero", header("00", kTrace, std::string(16, '0'), "01"), ""},
        Header{"SpanNotHex", header("00", kTrace, "00f067aa0ba902bx", "01"), ""},
        Header{"SpanTooLong", header("00", kTrace, std::string(kSpan) + "1", "01"), ""},
        Header{"SpanTooShort", header("00", kTrace, "00f067aa0ba902b", "01"), ""},
        Header{"FlagsNotHex", header("00", kTrace, kSpan, ".0"), ""},
        Header{"FlagsUpperCase", header("00", kTrace, kSpan, "AA"), ""},
        Header{"FlagsTooLong", header("00", kTrace, kSpan, "001"), ""},
        Header{"FlagsTooShort", header("00", kTrace, kSpan, "1"), ""},
        Header{"TwoInOne", kGood + "," + kGood, ""}, Header{"SpaceBefore", " " + kGood, ""},
        Header{"OtherDashes", "00_" + std::string(kTrace) + "_" + kSpan + "_01", ""}),
    [](const auto& info) { return info.param.name; });

TEST(TraceContext, TheFirstFlagSaysWhetherItIsSampled) {
  EXPECT_TRUE(parse_traceparent(header("00", kTrace, kSpan, "03"))->sampled());
  EXPECT_FALSE(parse_traceparent(header("00", kTrace, kSpan, "02"))->sampled());
}

TEST(TraceContext, FreshIdsAreValidAndDiffer) {
  constexpr std::size_t kMany = 1'000;
  std::set<std::string> seen;
  for (std::size_t i = 0; i < kMany; ++i) {
    const TraceContext made{.trace_id = fresh_trace_id(), .span_id = fresh_span_id(), .flags = 1};
    EXPECT_EQ(parse_traceparent(traceparent(made)), made);
    seen.emplace(text_of(made.trace_id));
    seen.emplace(text_of(made.span_id));
  }
  EXPECT_EQ(seen.size(), 2 * kMany);
}

TEST(TraceContext, AShareOfTracesIsInTheSampleTheSameEveryTime) {
  constexpr int kMany = 20'000;
  int tenth = 0;
  for (int i = 0; i < kMany; ++i) {
    const TraceId id = fresh_trace_id();
    EXPECT_TRUE(in_sample(id, 1000));
    EXPECT_FALSE(in_sample(id, 0));
    EXPECT_EQ(in_sample(id, 100), in_sample(id, 100));
    if (in_sample(id, 100)) ++tenth;
    EXPECT_LE(in_sample(id, 100), in_sample(id, 500));  // a larger share has all of a smaller one
  }
  EXPECT_NEAR(tenth, kMany / 10.0, kMany / 50.0);
}

}  // namespace
}  // namespace turnpike
