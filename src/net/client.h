// The HTTP/1.1 client for upstreams: keep-alive connections by host (each io thread its own), TLS verified
// against the system's roots, every wait bounded.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "net/http.h"

namespace turnpike::net {

struct ClientRequest {
  std::string method = "GET";
  std::string url;  // http://host[:port]/path, https://..., or unix:/path/to.sock:/path
  Headers headers;  // beside Host, Content-Length, User-Agent
  std::string body;
  Duration timeout = std::chrono::seconds(60);  // of the whole exchange
  Duration connect_timeout = std::chrono::seconds(5);
  bool public_only =
      false;  // an address that is not public (public_address.h) is an error: for strangers' URLs
  std::uint64_t response_bytes_max = 16ULL << 20;  // beyond: an error, and the connection is closed
  bool keep_alive = true;  // false: a connection of its own (`Connection: close`), closed after the answer
  // Of send() and stream(): called where we broke an exchange off (time, cancellation, an answer that is
  // none) while the upstream still had the connection: its socket, on which we have said that no more comes.
  // The callee owns it. Without one it is closed.
  std::function<void(int socket)> on_cut{};
};

struct ClientOptions {
  std::string ca_file;  // PEM; trusted instead of the system's roots where set
};

struct ClientResponse {
  int status = 0;
  Headers headers;
  std::string body;
};

// An answer whose body is read as it comes: what is not read waits in the kernel, and slows the upstream. On
// the executor that opened it. Destroyed before its end, it closes the connection.
class ClientStream {
 public:
  virtual ~ClientStream() = default;
  virtual int status() const = 0;
  virtual const Headers& headers() const = 0;
  // The body's next bytes, at most 64 KiB; none: the end has come, as the message says it must. Waits at most
  // `silence` for a byte, and never past the request's timeout. After an error there is no more to read.
  virtual boost::asio::awaitable<Result<std::string>> read(Duration silence) = 0;
};

// Why an exchange failed. kUpstreamTimeout: no answer in time; kUpstreamError: refused, reset, TLS not
// verified, garbage, too large (Error::cause says which). Redirects are not followed.
class Client {
 public:
  // Throws std::runtime_error if `ca_file` cannot be read (start-up).
  static std::shared_ptr<Client> create(ClientOptions options = {});
  virtual ~Client() = default;
  // On the caller's executor: one thread, or a strand. Idempotent requests on a stale kept connection are
  // tried once more on a new one; a POST is too, if not a byte of an answer had come and the connection had
  // been kept.
  virtual boost::asio::awaitable<Result<ClientResponse>> send(ClientRequest request) = 0;
  // For streams (SSE): calls `on_bytes` as body bytes come, whatever the status; ends when the server ends or
  // on_bytes returns false. The answer's body is empty.
  virtual boost::asio::awaitable<Result<ClientResponse>> stream(
      ClientRequest request, std::function<bool(std::string_view bytes)> on_bytes) = 0;
  // Likewise, for who reads at its own pace: returns once the head of the answer has come, within
  // `head_timeout` (zero: the request's own).
  virtual boost::asio::awaitable<Result<std::unique_ptr<ClientStream>>> open(ClientRequest request,
                                                                             Duration head_timeout = {}) = 0;
};

}  // namespace turnpike::net
