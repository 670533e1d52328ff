#include "net/channel.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

namespace turnpike::net {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

constexpr auto kAsTuple = asio::as_tuple(asio::use_awaitable);

Io from_error(error_code ec, std::size_t bytes) {
  if (!ec) return {IoKind::kDone, bytes, {}};
  if (ec == asio::error::would_block || ec == asio::error::try_again) return {IoKind::kWait, bytes, {}};
  if (ec == asio::error::eof) return {IoKind::kEnd, bytes, {}};
  return {IoKind::kFailed, bytes, ec};
}

}  // namespace

asio::const_buffer Gather::first() const {
  for (const auto& piece : pieces_) {
    if (piece.size() > 0) return piece;
  }
  return {};
}

void Gather::consume(std::size_t bytes) {
  for (auto& piece : pieces_) {
    const std::size_t here = std::min(bytes, piece.size());
    piece += here;
    bytes -= here;
  }
}

error_code Channel::prepare() {
  error_code ec;
  socket_.non_blocking(true, ec);
  const auto family = socket_.local_endpoint(ec).protocol().family();
  if (!ec && family != AF_UNIX) {
    const int on = 1;
    ::setsockopt(socket_.native_handle(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  return ec;
}

Io Channel::from_tls(TlsStep step, std::size_t bytes) {
  wants_write_ = step == TlsStep::kWrite;
  switch (step) {
    case TlsStep::kDone:
      return {IoKind::kDone, bytes, {}};
    case TlsStep::kRead:
    case TlsStep::kWrite:
      return {IoKind::kWait, bytes, {}};
    case TlsStep::kEnd:
      return {IoKind::kEnd, bytes, {}};
    case TlsStep::kFailed:
      break;
  }
  return {IoKind::kFailed, bytes, {}};
}

Io Channel::try_read(char* data, std::size_t size) {
  if (tls_) {
    std::size_t done = 0;
    return from_tls(tls_->read(data, size, done), done);
  }
  wants_write_ = false;
  error_code ec;
  const std::size_t bytes = socket_.read_some(asio::buffer(data, size), ec);
  return from_error(ec, bytes);
}

Io Channel::try_write(Gather& data) {
  std::size_t total = 0;
  while (!data.empty()) {
    std::size_t bytes = 0;
    Io io;
    if (tls_) {
      const auto piece = data.first();
      io = from_tls(tls_->write(static_cast<const char*>(piece.data()), piece.size(), bytes), bytes);
    } else {
      error_code ec;
      bytes = socket_.write_some(data.pieces(), ec);
      wants_write_ = true;
      io = from_error(ec, bytes);
    }
    data.consume(bytes);
    total += bytes;
    if (io.kind != IoKind::kDone) {
      io.bytes = total;
      return io;
    }
  }
  return {IoKind::kDone, total, {}};
}

asio::awaitable<Io> Channel::wait() {
  const auto direction = wants_write_ ? Socket::wait_write : Socket::wait_read;
  const auto [ec] = co_await socket_.async_wait(direction, kAsTuple);
  co_return from_error(ec, 0);
}

asio::awaitable<Io> Channel::read_some(char* data, std::size_t size) {
  if (!tls_) {
    // Better than to wait and then read: after a short read Asio knows that the socket is empty, and asks the
    // kernel nothing before the next event.
    const auto [ec, bytes] = co_await socket_.async_read_some(asio::buffer(data, size), kAsTuple);
    co_return from_error(ec, bytes);
  }
  for (;;) {
    const Io io = try_read(data, size);
    if (io.kind != IoKind::kWait) co_return io;
    const Io ready = co_await wait();
    if (ready.kind != IoKind::kDone) co_return ready;
  }
}

asio::awaitable<Io> Channel::handshake(bool as_server) {
  if (!tls_) co_return Io{};
  for (;;) {
    const Io io = from_tls(tls_->handshake(as_server), 0);
    if (io.kind != IoKind::kWait) co_return io;
    const Io ready = co_await wait();
    if (ready.kind != IoKind::kDone) co_return ready;
  }
}

void Channel::cancel() {
  error_code ignored;
  socket_.cancel(ignored);
}

void Channel::finish_sending() {
  if (tls_) tls_->say_goodbye();
  error_code ignored;
  socket_.shutdown(Socket::shutdown_send, ignored);
}

void Channel::reset_on_close() {
  // Not by set_option(): Asio undoes a linger that it knows of before it destroys a socket.
  const linger drop{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(socket_.native_handle(), SOL_SOCKET, SO_LINGER, &drop, sizeof drop);
}

int Channel::release() {
  error_code ec;
  const int socket = socket_.release(ec);
  return ec ? -1 : socket;
}

bool Channel::is_quiet() {
  char byte = 0;
  const ssize_t n = ::recv(socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return n < 0 && errno == EAGAIN;
}

std::string Channel::failure(const Io& io) const {
  if (io.kind == IoKind::kEnd) return "the connection was closed";
  if (io.error) return io.error.message();
  return tls_ ? tls_->failure() : "no reason given";
}

}  // namespace turnpike::net
