// Where a request stands in a distributed trace: the header `traceparent` of W3C Trace Context
// (www.w3.org/TR/trace-context, Recommendation of 2021-11-23). Ids are kept as they are written, in hex.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace turnpike {

using SpanId = std::array<char, 16>;           // lower-case hex digits, not all zero; all NUL: none
using TraceId = std::array<char, 32>;          // likewise
constexpr std::size_t kTraceparentBytes = 55;  // of version 00

struct TraceContext {
  TraceId trace_id{};
  SpanId span_id{};        // of the span that asks: the parent of whatever follows
  std::uint8_t flags = 0;  // bit 0: sampled

  bool sampled() const { return (flags & 1U) != 0; }
  friend bool operator==(const TraceContext&, const TraceContext&) = default;
};

inline std::string_view text_of(const TraceId& id) {
  return {id.data(), id.size()};
}
inline std::string_view text_of(const SpanId& id) {
  return {id.data(), id.size()};
}

// Nothing where the header is not valid, which is as if it were not there. A later version than 00 is read as
// far as it begins like this one.
std::optional<TraceContext> parse_traceparent(std::string_view header);
// As version 00.
std::string traceparent(const TraceContext& context);

// Random, not secret. Thread-safe.
TraceId fresh_trace_id();
SpanId fresh_span_id();

// Whether a trace that nobody has decided about is among `permille` of all: the same answer for the same id
// on every machine.
bool in_sample(const TraceId& id, std::uint32_t permille);

}  // namespace turnpike
