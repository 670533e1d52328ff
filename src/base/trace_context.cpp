#include "base/trace_context.h"

#include <algorithm>
#include <random>

#include "base/random.h"

namespace turnpike {
namespace {

constexpr std::string_view kDigits = "0123456789abcdef";
constexpr std::size_t kTraceAt = 3, kSpanAt = 36, kFlagsAt = 53;  // in 00-TRACE-SPAN-FLAGS
constexpr std::size_t kShareDigits = 14;                          // 56 bits, as samplers by ratio take them

bool is_hex(std::string_view text) {
  return text.find_first_not_of(kDigits) == std::string_view::npos;
}

std::uint64_t value_of(std::string_view hex) {
  std::uint64_t value = 0;
  for (const char c : hex) value = (value << 4U) | kDigits.find(c);
  return value;
}

template <std::size_t N>
bool take(std::string_view text, std::array<char, N>& out) {
  if (!is_hex(text) || text.find_first_not_of('0') == std::string_view::npos) return false;
  std::ranges::copy(text, out.begin());
  return true;
}

template <std::size_t N>
std::array<char, N> fresh() {
  thread_local Random random = [] {
    std::random_device device;
    return Random((std::uint64_t{device()} << 32U) | device());
  }();
  std::array<char, N> id{};
  for (std::size_t at = 0; at < N; at += 16) {
    std::uint64_t bits = 0;
    while (bits == 0) bits = random.next();
    for (std::size_t i = 0; i < 16; ++i) id[at + i] = kDigits[(bits >> (4 * i)) & 0xfU];
  }
  return id;
}

}  // namespace

std::optional<TraceContext> parse_traceparent(std::string_view header) {
  if (header.size() < kTraceparentBytes) return std::nullopt;
  const std::string_view version = header.substr(0, 2);
  if (!is_hex(version) || version == "ff") return std::nullopt;
  if (header.size() > kTraceparentBytes && (version == "00" || header[kTraceparentBytes] != '-'))
    return std::nullopt;
  for (const std::size_t dash : {kTraceAt - 1, kSpanAt - 1, kFlagsAt - 1}) {
    if (header[dash] != '-') return std::nullopt;
  }
  TraceContext context;
  const std::string_view flags = header.substr(kFlagsAt, 2);
  if (!take(header.substr(kTraceAt, context.trace_id.size()), context.trace_id) ||
      !take(header.substr(kSpanAt, context.span_id.size()), context.span_id) || !is_hex(flags))
    return std::nullopt;
  context.flags = static_cast<std::uint8_t>(value_of(flags));
  return context;
}

std::string traceparent(const TraceContext& context) {
  std::string text = "00-";
  text.reserve(kTraceparentBytes);
  ((text += text_of(context.trace_id)) += '-') += text_of(context.span_id);
  return ((text += '-') += kDigits[context.flags >> 4U]) += kDigits[context.flags & 0xfU];
}

TraceId fresh_trace_id() {
  return fresh<std::tuple_size_v<TraceId>>();
}

SpanId fresh_span_id() {
  return fresh<std::tuple_size_v<SpanId>>();
}

bool in_sample(const TraceId& id, std::uint32_t permille) {
  const std::string_view text = text_of(id);
  const std::uint64_t place = value_of(text.substr(text.size() - kShareDigits));  // below 2^56
  return static_cast<std::uint64_t>((static_cast<unsigned __int128>(place) * 1000) >> (4 * kShareDigits)) <
         permille;
}

}  // namespace turnpike
