// Spans on the wire, and the way of a call as its trace tells it.
#include "node/otlp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "node/call_trail.h"

namespace turnpike::node::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::SizeIs;

constexpr const char* kTraceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

Span sample_span() {
  const TraceContext context = *parse_traceparent(kTraceparent);
  return {.trace_id = context.trace_id,
          .span_id = context.span_id,
          .parent = {},
          .name = "POST /v1/chat/completions",
          .kind = Span::Kind::kServer,
          .began = wall_from_micros(1'790'000'000'123'456),
          .ended = wall_from_micros(1'790'000'001'000'000),
          .attributes = {{"text", std::string("a\"b\xff")},
                         {"number", std::int64_t{9'007'199'254'740'993}},
                         {"share", 0.25},
                         {"flag", true}},
          .failed = false,
          .why = {}};
}

TEST(Otlp, ASpanIsWrittenAsTheJsonMappingSays) {
  const std::vector<Span> spans = {sample_span()};
  EXPECT_EQ(
      otlp_json(spans, "gate\"way"),
      R"({"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"gate\"way"}},)"
      R"({"key":"service.version","value":{"stringValue":")" TURNPIKE_VERSION
      R"("}}]},"scopeSpans":[{"scope":)"
      R"({"name":"turnpike","version":")" TURNPIKE_VERSION R"("},"spans":[)"
      R"({"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b7",)"
      R"("name":"POST /v1/chat/completions","kind":2,"startTimeUnixNano":"1790000000123456000",)"
      R"("endTimeUnixNano":"1790000001000000000","attributes":[)"
      R"({"key":"text","value":{"stringValue":"a\"b\ufffd"}},)"
      R"({"key":"number","value":{"intValue":"9007199254740993"}},)"
      R"({"key":"share","value":{"doubleValue":0.25}},{"key":"flag","value":{"boolValue":true}}],)"
      R"("status":{}}]}]}]})");
}

TEST(Otlp, AChildNamesItsParentAndAFailureSaysWhy) {
  Span child = sample_span();
  child.parent = child.span_id;
  child.failed = true;
  child.why = "rate_limited";
  child.ended = child.began - std::chrono::seconds(1);  // a clock that was set back
  const std::vector<Span> spans = {child, sample_span()};
  const std::string text = otlp_json(spans, "turnpike");
  EXPECT_THAT(text, HasSubstr(R"("parentSpanId":"00f067aa0ba902b7")"));
  EXPECT_THAT(text, HasSubstr(R"("status":{"code":2,"message":"rate_limited"}},{"traceId")"));
  EXPECT_THAT(text, HasSubstr(R"("endTimeUnixNano":"1790000000123456000")"));
}

TEST(Otlp, WhatACollectorHasNotTakenIsReadFromItsAnswer) {
  EXPECT_EQ(rejected_spans(R"({"partialSuccess":{"rejectedSpans":"3","errorMessage":"no"}})"), 3U);
  EXPECT_EQ(rejected_spans(R"({"partialSuccess":{"rejectedSpans":4}})"), 4U);
  for (const char* answer : {"", "{}", "no json", R"({"partialSuccess":{}})", R"({"partialSuccess":3})",
                             R"({"partialSuccess":{"rejectedSpans":-3}})"})
    EXPECT_EQ(rejected_spans(answer), 0U) << answer;
}

// --- CallTrail

engine::JobRow row_of(const std::string& provider) {
  engine::JobRow row;
  row.id = JobId{7};
  row.provider = provider;
  row.model = "parrot";
  row.upstream_model = "parrot-large";
  return row;
}

Monotonic at(std::int64_t micros) {
  return Monotonic{Duration{micros}};
}

TEST(CallTrail, EachTryIsASpanOfItsOwnUnderTheSameTrace) {
  const TraceContext context = *parse_traceparent(kTraceparent);
  CallTrail trail(context, true);
  trail.admitted(at(1));
  const auto first = parse_traceparent(trail.try_begins(row_of("one"), at(2)));
  trail.try_ends("rate_limited", at(3));
  const auto second = parse_traceparent(trail.try_begins(row_of("two"), at(4)));
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->trace_id, context.trace_id);
  EXPECT_EQ(second->trace_id, context.trace_id);
  EXPECT_TRUE(second->sampled());
  EXPECT_NE(first->span_id, context.span_id);
  EXPECT_NE(first->span_id, second->span_id);
  const CallTrail::View seen = trail.view();
  EXPECT_EQ(seen.admitted, at(1));
  EXPECT_EQ(seen.call, JobId{7});
  ASSERT_THAT(seen.tries, SizeIs(2));
  EXPECT_EQ(seen.tries[0].span_id, first->span_id);
  EXPECT_EQ(seen.tries[0].failure, "rate_limited");
  EXPECT_EQ(seen.tries[0].ended, at(3));
  EXPECT_EQ(seen.tries[1].provider, "two");
  EXPECT_EQ(seen.tries[1].ended, Monotonic{});
}

TEST(CallTrail, WithoutSpansUpstreamsAreToldWhatTheClientSaid) {
  CallTrail trail(*parse_traceparent(kTraceparent), false);
  EXPECT_EQ(trail.try_begins(row_of("one"), at(2)), kTraceparent);
  trail.try_ends("", at(3));
  EXPECT_THAT(trail.view().tries, SizeIs(0));
}

TEST(CallTrail, ItsTriesAreBounded) {
  CallTrail trail(*parse_traceparent(kTraceparent), true);
  for (std::size_t i = 0; i < 2 * CallTrail::kTriesMax; ++i) {
    EXPECT_TRUE(parse_traceparent(trail.try_begins(row_of("one"), at(2))));
    trail.try_ends(i < CallTrail::kTriesMax ? "timeout" : "transient", at(3));
  }
  const CallTrail::View seen = trail.view();
  ASSERT_THAT(seen.tries, SizeIs(CallTrail::kTriesMax));
  EXPECT_EQ(seen.tries.back().failure, "timeout");
}

}  // namespace
}  // namespace turnpike::node::testing
