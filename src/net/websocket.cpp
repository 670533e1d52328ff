// The opening handshake of a WebSocket (RFC 6455, 4.2).
#include "net/websocket.h"

#include <algorithm>
#include <cctype>
#include <utility>

#include "net/text.h"
#include "net/websocket_frames.h"

namespace turnpike::net {
namespace {

constexpr std::size_t kKeySize = 24;  // 16 bytes in base64

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

// True if a header of this name lists the token, in whichever of its lines.
bool lists(const Request& request, std::string_view name, std::string_view token) {
  for (const auto& [key, value] : request.headers) {
    if (!equals_ignoring_case(key, name)) continue;
    for (std::string_view rest = value; !rest.empty();) {
      const std::size_t comma = std::min(rest.find(','), rest.size());
      if (equals_ignoring_case(trimmed(rest.substr(0, comma)), token)) return true;
      rest.remove_prefix(std::min(comma + 1, rest.size()));
    }
  }
  return false;
}

bool is_key(std::string_view key) {
  return key.size() == kKeySize && key.ends_with("==") &&
         std::ranges::all_of(key.substr(0, kKeySize - 2), [](char c) {
           return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '+' || c == '/';
         });
}

std::unexpected<Error> refuse(std::string message, std::string header) {
  return fail(ErrorCode::kInvalidRequest, std::move(message), std::move(header));
}

}  // namespace

Headers upgrade_headers() {
  return {{"Upgrade", "websocket"}, {"Sec-WebSocket-Version", "13"}};
}

Result<Response> accept_websocket(const Request& request, SocketBody body) {
  if (request.method != "GET" || !lists(request, "Upgrade", "websocket"))
    return refuse("this is a WebSocket: ask for it with GET and `Upgrade: websocket`", "Upgrade");
  if (!lists(request, "Connection", "upgrade"))
    return refuse("a WebSocket is asked for with `Connection: Upgrade`", "Connection");
  const std::string* version = request.header("Sec-WebSocket-Version");
  if (version == nullptr || trimmed(*version) != "13")
    return refuse("only version 13 of WebSocket is understood", "Sec-WebSocket-Version");
  const std::string* key = request.header("Sec-WebSocket-Key");
  if (key == nullptr || !is_key(trimmed(*key)))
    return refuse("`Sec-WebSocket-Key` must be 16 bytes in base64", "Sec-WebSocket-Key");
  Response response;
  response.status = 101;
  response.content_type.clear();
  response.headers = {{"Upgrade", "websocket"}, {"Sec-WebSocket-Accept", accept_key(trimmed(*key))}};
  response.body = std::move(body);
  return response;
}

}  // namespace turnpike::net
