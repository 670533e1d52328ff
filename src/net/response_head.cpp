#include "net/response_head.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "net/text.h"

namespace turnpike::net {
namespace {

void append_number(std::string& out, std::uint64_t number) {
  std::array<char, 20> digits{};
  const auto end = std::to_chars(digits.begin(), digits.end(), number).ptr;
  out.append(digits.begin(), end);
}

bool is_framing(std::string_view name) {
  return equals_ignoring_case(name, "content-length") || equals_ignoring_case(name, "transfer-encoding") ||
         equals_ignoring_case(name, "connection") || equals_ignoring_case(name, "date");
}

}  // namespace

bool is_bodiless(int status) {
  return status < 200 || status == 204 || status == 304;
}

bool is_sendable(const Response& response) {
  const bool socket = response.status == 101 && std::holds_alternative<SocketBody>(response.body);
  return (socket || response.status >= 200) && response.status <= 999 &&
         is_field_value(response.content_type) &&
         std::all_of(response.headers.begin(), response.headers.end(), [](const auto& header) {
           return is_token(header.first) && is_field_value(header.second);
         });
}

void render_head(std::string& out, const Response& response, const Framing& framing, std::string_view date) {
  out.assign("HTTP/1.1 ");
  append_number(out, static_cast<std::uint64_t>(response.status));
  out.append(" ").append(reason_phrase(response.status)).append("\r\nDate: ").append(date);
  if (!response.content_type.empty() && !is_bodiless(response.status)) {
    out.append("\r\nContent-Type: ").append(response.content_type);
  }
  for (const auto& [name, value] : response.headers) {
    if (!is_framing(name)) out.append("\r\n").append(name).append(": ").append(value);
  }
  if (framing.content_length && !is_bodiless(response.status)) {
    out.append("\r\nContent-Length: ");
    append_number(out, *framing.content_length);
  }
  if (framing.chunked) out.append("\r\nTransfer-Encoding: chunked");
  if (framing.upgrade) {
    out.append("\r\nConnection: Upgrade");
  } else if (!framing.keep_alive) {
    out.append("\r\nConnection: close");
  } else if (framing.http10) {
    out.append("\r\nConnection: keep-alive");
  }
  out.append("\r\n\r\n");
}

}  // namespace turnpike::net
