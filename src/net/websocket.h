// WebSocket (RFC 6455) as handlers see it: whole texts in and out over a connection that an answer has turned
// into a socket. Frames, pings, pongs and the closing handshake are net's. Without extensions or
// subprotocols.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "net/http.h"

namespace turnpike::net {

// Why a socket is closed (RFC 6455, 7.4.1).
enum class CloseCode : std::uint16_t {
  kNormal = 1000,
  kGoingAway = 1001,
  kProtocolError = 1002,
  kUnsupported = 1003,
  kBadText = 1007,
  kPolicy = 1008,
  kTooBig = 1009,
  kInternal = 1011,
  kTryAgainLater = 1013,
};

// A socket. For one coroutine, on the connection's io thread.
class WebSocket {
 public:
  virtual ~WebSocket() = default;
  // The next text that has come, if any; does not wait. Until it is taken, only a few more are read.
  virtual std::optional<std::string> receive() = 0;
  // Sends each as a message of its own, awaiting room: a slow reader slows its own socket and nobody else.
  // Error: kUnavailable, the socket is closed or its peer does not read; the handler then ends.
  virtual boost::asio::awaitable<Result<void>> send(std::vector<std::string> texts) = 0;
  // True once either side has closed, the peer is silent, or the server stops. From any thread.
  virtual bool closed() const = 0;
  // The peer is told this when the handler ends; what closed the socket first is what counts. `reason`: at
  // most kReasonBytesMax of it are sent.
  virtual void close(CloseCode code, std::string reason) = 0;
  // `callback` is called on the io thread whenever receive() or closed() has something new to say while the
  // handler runs; at once where there is something already. It must not block. Replaces the one before it.
  virtual void on_change(std::function<void()> callback) = 0;

  static constexpr std::size_t kReasonBytesMax = 123;
};

// The answer to a request that asks for a socket, with `body` as what follows. Errors: kInvalidRequest, whose
// `param` names the header that is missing or wrong: answer 426 with upgrade_headers().
Result<Response> accept_websocket(const Request& request, SocketBody body);
Headers upgrade_headers();

}  // namespace turnpike::net
