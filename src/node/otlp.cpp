#include "node/otlp.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <charconv>
#include <cmath>
#include <iterator>

#include "node/log.h"

namespace turnpike::node {
namespace {

using Buffer = fmt::memory_buffer;

constexpr std::string_view kScope = "turnpike";

void append(Buffer& out, std::string_view text) {
  out.append(text.data(), text.data() + text.size());
}

void append_id(Buffer& out, const char* name, std::string_view hex) {
  fmt::format_to(std::back_inserter(out), "\"{}\":\"{}\",", name, hex);
}

void append_value(Buffer& out, const Span::Value& value) {
  struct Visitor {
    Buffer& out;
    void operator()(const std::string& text) const {
      append(out, "{\"stringValue\":");
      append_json_text(out, text);
    }
    void operator()(std::int64_t number) const {
      fmt::format_to(std::back_inserter(out), "{{\"intValue\":\"{}\"", number);
    }
    void operator()(double number) const {
      fmt::format_to(std::back_inserter(out), "{{\"doubleValue\":{}", std::isfinite(number) ? number : 0.0);
    }
    void operator()(bool flag) const { append(out, flag ? "{\"boolValue\":true" : "{\"boolValue\":false"); }
  };
  std::visit(Visitor{out}, value);
  out.push_back('}');
}

void append_attribute(Buffer& out, std::string_view key, const Span::Value& value) {
  append(out, "{\"key\":");
  append_json_text(out, key);
  append(out, ",\"value\":");
  append_value(out, value);
  out.push_back('}');
}

void append_span(Buffer& out, const Span& span) {
  constexpr std::int64_t kNanosPerMicro = 1'000;
  constexpr int kError = 2;  // STATUS_CODE_ERROR
  out.push_back('{');
  append_id(out, "traceId", text_of(span.trace_id));
  append_id(out, "spanId", text_of(span.span_id));
  if (span.parent != SpanId{}) append_id(out, "parentSpanId", text_of(span.parent));
  append(out, "\"name\":");
  append_json_text(out, span.name);
  fmt::format_to(std::back_inserter(out),
                 ",\"kind\":{},\"startTimeUnixNano\":\"{}\",\"endTimeUnixNano\":\"{}\",\"attributes\":[",
                 static_cast<int>(span.kind), unix_micros(span.began) * kNanosPerMicro,
                 unix_micros(std::max(span.began, span.ended)) * kNanosPerMicro);
  bool first = true;
  for (const auto& [key, value] : span.attributes) {
    if (!std::exchange(first, false)) out.push_back(',');
    append_attribute(out, key, value);
  }
  append(out, "],\"status\":{");
  if (span.failed) {
    fmt::format_to(std::back_inserter(out), "\"code\":{},\"message\":", kError);
    append_json_text(out, span.why);
  }
  append(out, "}}");
}

}  // namespace

std::string otlp_json(std::span<const Span> spans, std::string_view service_name) {
  Buffer out;
  append(out, "{\"resourceSpans\":[{\"resource\":{\"attributes\":[");
  append_attribute(out, "service.name", std::string(service_name));
  out.push_back(',');
  append_attribute(out, "service.version", std::string(TURNPIKE_VERSION));
  append(out, "]},\"scopeSpans\":[{\"scope\":{\"name\":");
  append_json_text(out, kScope);
  append(out, ",\"version\":");
  append_json_text(out, TURNPIKE_VERSION);
  append(out, "},\"spans\":[");
  bool first = true;
  for (const Span& span : spans) {
    if (!std::exchange(first, false)) out.push_back(',');
    append_span(out, span);
  }
  append(out, "]}]}]}");
  return fmt::to_string(out);
}

std::uint64_t rejected_spans(std::string_view answer) {
  boost::system::error_code failed;
  const boost::json::value parsed =
      boost::json::parse(boost::json::string_view(answer.data(), answer.size()), failed);
  if (failed) return 0;
  const boost::json::value* count = parsed.find_pointer("/partialSuccess/rejectedSpans", failed);
  if (count == nullptr) return 0;
  if (const auto* number = count->if_int64()) return *number > 0 ? static_cast<std::uint64_t>(*number) : 0;
  const auto* text = count->if_string();  // as 64-bit numbers are written
  std::uint64_t rejected = 0;
  if (text != nullptr) std::from_chars(text->data(), text->data() + text->size(), rejected);
  return rejected;
}

}  // namespace turnpike::node
