#include "api/request_spans.h"

#include <algorithm>
#include <utility>

#include "node/call_trail.h"
#include "node/gateway_metrics.h"

namespace turnpike::api {
namespace {

using node::Span;

constexpr int kServerError = 500;  // from here on a server's span has failed

void add(Span& span, std::string_view name, std::string_view text) {
  if (!text.empty()) span.attributes.emplace_back(name, std::string(text));
}

void add_number(Span& span, std::string_view name, std::int64_t number) {
  span.attributes.emplace_back(name, number);
}

// The conventions' names of meters; null: they have none.
const char* usage_name(std::string_view meter) {
  if (meter == "tokens_in") return "gen_ai.usage.input_tokens";
  if (meter == "tokens_out") return "gen_ai.usage.output_tokens";
  if (meter == "tokens_cached") return "gen_ai.usage.cache_read.input_tokens";
  return nullptr;
}

Span own_span(const RequestRecord& record, Wall ended) {
  Span span{.trace_id = record.trace->trace_id,
            .span_id = record.trace->span_id,
            .parent = record.parent,
            .name = record.method + " " + record.route,
            .kind = Span::Kind::kServer,
            .began = record.began.wall,
            .ended = ended,
            .attributes = {},
            .failed = record.status >= kServerError || (record.stream && !record.error.empty()),
            .why = std::string(record.error)};
  add(span, "http.request.method", record.method);
  add(span, "http.route", record.route);
  add(span, "url.path", record.route);
  add_number(span, "http.response.status_code", record.status);
  add_number(span, "http.request.body.size", static_cast<std::int64_t>(record.bytes_in));
  add_number(span, "http.response.body.size", static_cast<std::int64_t>(record.bytes_out));
  add(span, "error.type", record.error);
  add(span, "gen_ai.operation.name", node::operation_name(record.wire));
  add(span, "gen_ai.provider.name", record.provider);
  add(span, "gen_ai.request.model", record.model_asked);
  add(span, "gen_ai.response.model", record.upstream_model);
  for (const auto& [meter, amount] : record.usage) {
    if (const char* name = usage_name(meter)) add_number(span, name, amount);
  }
  add(span, "turnpike.request", record.id);
  if (record.account) add(span, "turnpike.account", to_string(record.account));
  add(span, "turnpike.plan", record.plan);
  add(span, "turnpike.task", record.task);
  add(span, "turnpike.model", record.model);
  add(span, "turnpike.model_version", record.model_version);
  add(span, "turnpike.failure", record.failure);
  if (record.job) add(span, "turnpike.job", to_string(record.job));
  if (record.cache != node::CacheResult::kNone)
    add(span, "turnpike.cache", node::cache_result_name(record.cache));
  if (record.cost) add(span, "turnpike.cost_usd", to_string(*record.cost));
  if (record.first_byte) {
    span.attributes.emplace_back("turnpike.time_to_first_token",
                                 std::chrono::duration<double>(*record.first_byte).count());
  }
  return span;
}

Span queue_span(const RequestRecord& record, Wall began, Wall ended) {
  Span span{.trace_id = record.trace->trace_id,
            .span_id = fresh_span_id(),
            .parent = record.trace->span_id,
            .name = "queue",
            .kind = Span::Kind::kInternal,
            .began = began,
            .ended = ended,
            .attributes = {},
            .failed = false,
            .why = {}};
  add(span, "turnpike.plan", record.plan);
  return span;
}

Span try_span(const RequestRecord& record, const node::CallTrail::Try& tried, Wall began, Wall ended) {
  const std::string operation = node::operation_name(record.wire);
  Span span{.trace_id = record.trace->trace_id,
            .span_id = tried.span_id,
            .parent = record.trace->span_id,
            .name = operation + " " + tried.upstream_model,
            .kind = Span::Kind::kClient,
            .began = began,
            .ended = ended,
            .attributes = {},
            .failed = !tried.failure.empty(),
            .why = tried.failure};
  add(span, "gen_ai.operation.name", operation);
  add(span, "gen_ai.provider.name", tried.provider);
  add(span, "gen_ai.request.model", tried.upstream_model);
  add(span, "turnpike.model", tried.model);
  add(span, "turnpike.model_version", tried.model_version);
  add(span, "error.type", tried.failure);
  return span;
}

}  // namespace

std::vector<Span> spans_of(const RequestRecord& record, Duration whole) {
  const Monotonic end = record.began.mono + whole;
  const auto wall = [&record, end](Monotonic at) {
    return record.began.wall + (std::min(at, end) - record.began.mono);
  };
  std::vector<Span> spans;
  spans.push_back(own_span(record, wall(end)));
  if (!record.trail) return spans;
  const node::CallTrail::View way = record.trail->view();
  if (way.admitted == Monotonic{}) return spans;
  const Monotonic begun = way.tries.empty() ? end : way.tries.front().began;
  spans.push_back(queue_span(record, wall(way.admitted), wall(begun)));
  for (const node::CallTrail::Try& tried : way.tries) {
    const Monotonic ended = tried.ended == Monotonic{} ? end : tried.ended;
    spans.push_back(try_span(record, tried, wall(tried.began), wall(ended)));
  }
  return spans;
}

}  // namespace turnpike::api
