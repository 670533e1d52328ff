// HTTP as handlers see it. Everything here is bounded by ServerOptions; nothing here knows a rule of
// Turnpike.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/time.h"

namespace turnpike::net {

using Headers = std::vector<std::pair<std::string, std::string>>;
// Case-insensitive; nullptr if absent; the first if repeated.
const std::string* find_header(const Headers& headers, std::string_view name);

struct Request {
  std::string method;  // "GET"
  std::string target;  // as sent
  std::string
      path;  // percent-decoded, always begins with '/'; no "..", no NUL (400 before a handler sees it)
  std::vector<std::pair<std::string, std::string>> query;  // percent-decoded, in order
  Headers headers;
  std::string body;
  std::filesystem::path body_file;  // instead of body where the route spools (empty if the request had none);
                                    // mode 0600; removed by net when the request ends, unless moved away
  std::uint64_t body_bytes = 0;
  std::string remote;    // "127.0.0.1:51234"; "unix" on the control socket
  bool control = false;  // came over the control socket: the operator on this machine

  std::optional<std::string_view> query_value(std::string_view name) const;
  const std::string* header(std::string_view name) const { return find_header(headers, name); }
};

// Writes a streamed body. Every call awaits room: a slow reader slows its own stream and nobody else. Returns
// an error when the client has left or the server stops; the handler then ends.
class BodyWriter {
 public:
  virtual ~BodyWriter() = default;
  virtual boost::asio::awaitable<Result<void>> write(std::string bytes) = 0;
  // True once the client has closed or the server stops. From any thread.
  virtual bool closed() const = 0;
  // `callback` is called once, on the connection's io thread, when closed() becomes true while the stream's
  // handler still runs; at once if it is true already. So a handler that sleeps between events can be woken.
  // Replaces the callback before it; an empty one removes it. Call it on the io thread.
  virtual void on_close(std::function<void()> callback) = 0;
};
using StreamBody = std::function<boost::asio::awaitable<void>(std::shared_ptr<BodyWriter> writer)>;
struct FileBody {
  std::filesystem::path path;  // sent whole, streamed from disk, with Content-Length
};
class WebSocket;
// An answer that makes the connection a socket, with status 101: see accept_websocket (net/websocket.h).
struct SocketBody {
  // The socket is closed when it ends.
  std::function<boost::asio::awaitable<void>(std::shared_ptr<WebSocket> socket)> run;
  std::size_t message_bytes_max = 64 * 1024;  // of a text that comes; beyond: closed with kTooBig
};

struct Response {
  int status = 200;
  Headers headers;  // beside Content-Type, Content-Length, Connection, Date, which net writes
  std::string content_type = "application/json";
  std::variant<std::string, FileBody, StreamBody, SocketBody> body;  // HEAD: net sends the headers alone
};

using Handler = std::function<boost::asio::awaitable<Response>(Request request)>;

// How a route takes its body; asked once the header is read, before the body is.
struct BodyRule {
  std::uint64_t bytes_max = 1 << 20;  // beyond: 413 and the connection closes
  bool spool = false;                 // to a file in ServerOptions::spool_dir, hashed by nobody
};
using BodyRules = std::function<BodyRule(std::string_view method, std::string_view path)>;

// An answer that net itself must give (bad syntax, header too large, body too large, too many connections):
// the api renders it, so that every error wears the same clothes.
using ErrorRenderer = std::function<Response(int status, std::string_view message)>;

}  // namespace turnpike::net
