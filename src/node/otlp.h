// Spans, and how a collector is told of them: OTLP 1.x, JSON encoding (opentelemetry.io/docs/specs/otlp,
// "JSON Protobuf Encoding": ids in hex, 64-bit numbers as text, names in lowerCamelCase). Pure.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/time.h"
#include "base/trace_context.h"

namespace turnpike::node {

struct Span {
  enum class Kind : std::uint8_t { kInternal = 1, kServer = 2, kClient = 3 };  // as OTLP numbers them
  using Value = std::variant<std::string, std::int64_t, double, bool>;

  TraceId trace_id{};
  SpanId span_id{};
  SpanId parent{};  // none: it is the first of its trace
  std::string name;
  Kind kind = Kind::kInternal;
  Wall began{}, ended{};
  std::vector<std::pair<std::string_view, Value>> attributes;  // names are literals
  bool failed = false;
  std::string why;  // of a failed one: a class, not a message
};

// The body of POST /v1/traces: one resource, one scope, these spans. Bytes that are not UTF-8 are replaced.
std::string otlp_json(std::span<const Span> spans, std::string_view service_name);

// How many spans the answer of a collector says that it has not taken; 0 where it says nothing of that.
std::uint64_t rejected_spans(std::string_view answer);

}  // namespace turnpike::node
