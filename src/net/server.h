// The HTTP/1.1 server: one listener for each io thread (SO_REUSEPORT), TLS where configured, and the same
// over a Unix socket for the control socket. Bounds on everything.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "net/http.h"
#include "net/io_threads.h"

namespace turnpike::net {

struct ServerOptions {
  std::string listen = "127.0.0.1:8080";  // host:port; port 0 picks one; empty: no TCP listener
  std::filesystem::path control_socket;   // Unix socket, mode 0600; empty: none. A stale file is replaced.
  std::string tls_certificate_file, tls_key_file;  // both or neither; TCP only
  std::uint32_t connections_max = 10'000;          // beyond: 503 and close
  std::uint32_t header_bytes_max = 16 * 1024;      // beyond: 431 and close
  // Between requests. A WebSocket is asked for a sign of life after half of it, and closed after the whole
  // without one.
  Duration idle_timeout = std::chrono::seconds(60);
  Duration read_timeout = std::chrono::seconds(20);
  Duration write_timeout = std::chrono::seconds(30);  // no progress on a write for so long: cut
  std::filesystem::path spool_dir;                    // exists; on the disk that artifacts live on
  // Told of what a handler threw and of what the disk refused: bugs and failures, one sentence each, never a
  // client's mistake. From any io thread.
  std::function<void(std::string_view)> on_error;
};

class Server {
 public:
  // Errors: kConfiguration (address in use, certificate unreadable: says what and what to do).
  static Result<std::unique_ptr<Server>> start(IoThreads& threads, ServerOptions options, Handler handler,
                                               BodyRules body_rules, ErrorRenderer render_error);
  virtual ~Server() = default;
  virtual std::uint16_t port() const = 0;       // the bound TCP port
  virtual std::size_t connections() const = 0;  // open now
  // Call before the IoThreads end. Stops listening and reading new requests; lets answers under way finish,
  // at most `grace`; then cuts. Streams and sockets are told to end at once. Blocks; call it from no io
  // thread.
  virtual void stop(Duration grace) = 0;
};

}  // namespace turnpike::net
