// One byte stream: TCP or a Unix socket, with or without TLS. Tries first and waits only when it must: a
// small answer leaves in one system call, without a turn of the event loop. Not thread-safe: one io thread.
// Inside net only.
#pragma once

#include <array>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <cstddef>
#include <memory>
#include <string>

#include "net/tls.h"

namespace turnpike::net {

// Up to three pieces that leave in one system call.
class Gather {
 public:
  explicit Gather(std::string_view a, std::string_view b = {}, std::string_view c = {})
      : pieces_{boost::asio::const_buffer(a.data(), a.size()), boost::asio::const_buffer(b.data(), b.size()),
                boost::asio::const_buffer(c.data(), c.size())} {}
  const std::array<boost::asio::const_buffer, 3>& pieces() const { return pieces_; }
  bool empty() const { return boost::asio::buffer_size(pieces_) == 0; }
  boost::asio::const_buffer first() const;  // the first that is not empty
  void consume(std::size_t bytes);

 private:
  std::array<boost::asio::const_buffer, 3> pieces_;
};

// What a step on a channel came to. kWait: nothing could be done now; see wait(). kEnd: the peer has closed.
enum class IoKind : std::uint8_t { kDone, kWait, kEnd, kFailed };
struct Io {
  IoKind kind = IoKind::kDone;
  std::size_t bytes = 0;
  boost::system::error_code error;  // of kFailed; empty where TLS failed: see tls_failure()
};

class Channel {
 public:
  using Socket = boost::asio::generic::stream_protocol::socket;

  explicit Channel(Socket socket) : socket_(std::move(socket)) {}

  Socket& socket() { return socket_; }
  void use_tls(std::unique_ptr<TlsSession> tls) { tls_ = std::move(tls); }
  TlsSession* tls() { return tls_.get(); }
  // Makes the open socket non-blocking (and TCP_NODELAY where it is TCP), as every step below needs.
  boost::system::error_code prepare();

  Io try_read(char* data, std::size_t size);
  // Writes what can be written now and consumes it from `data`. kDone: all of it.
  Io try_write(Gather& data);
  boost::asio::awaitable<Io> read_some(char* data, std::size_t size);
  // Waits until the last step that came to kWait may go on.
  boost::asio::awaitable<Io> wait();
  boost::asio::awaitable<Io> handshake(bool as_server);

  // Ends a wait at once with kFailed, operation_aborted.
  void cancel();
  // Says that no more is coming, and keeps reading possible.
  void finish_sending();
  // Closing will drop what was not sent.
  void reset_on_close();
  // The socket, which the caller owns from here on; -1 where it cannot be had. Nothing may be waited for.
  int release();
  // True if a kept connection is still as it was left: open and silent.
  bool is_quiet();
  std::string failure(const Io& io) const;

 private:
  Io from_tls(TlsStep step, std::size_t bytes);

  Socket socket_;
  std::unique_ptr<TlsSession> tls_;
  bool wants_write_ = false;
};

}  // namespace turnpike::net
